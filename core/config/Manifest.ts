/**
 * The manifests of a user: Meridio's custom resources as YAML documents, judged as Meridio's operator would judge them.
 *
 *     documents ──read──▶ objects ──admit──▶ deployments, one per trench
 *                    └────── problems, all of them ──────┘
 *
 * 1. Either everything is accepted or nothing: one problem refuses the whole set.
 * 2. All problems are reported, each with object, field, value and remedy.
 * 3. The order of the documents changes neither the deployments nor whether there are any.
 */
import { Result } from "effect"
import * as Admission from "./Admission.ts"
import * as Assembly from "./Assembly.ts"
import * as Conflicts from "./Conflicts.ts"
import type { Deployment } from "./Deployment.ts"
import type { Problem } from "./Problem.ts"
import * as Reading from "./Reading.ts"
import type { Resource } from "./Resource.ts"
import * as Updates from "./Updates.ts"

/** A set of manifests without mistakes. */
export interface Manifest {
  /** One per trench, ordered by namespace and name. */
  readonly deployments: ReadonlyArray<Deployment>
  /** The objects they were made of. */
  readonly resources: ReadonlyArray<Resource>
  /** Objects of kinds that do not configure a trench, for example `apps/v1 Deployment default/web`. */
  readonly ignored: ReadonlyArray<string>
  /** References to objects that do not exist (yet): worth a warning. What refers is served without them. */
  readonly dangling: ReadonlyArray<Problem>
}

/**
 * Judges parsed YAML documents. With the objects of the manifest in force, changes of immutable fields are refused too.
 */
export const read = (
  documents: ReadonlyArray<unknown>,
  inForce: ReadonlyArray<Resource> = []
): Result.Result<Manifest, ReadonlyArray<Problem>> => judge(Reading.read(documents), inForce)

/** Judges objects from wherever they come. */
export const judge = (
  { ignored, problems, resources }: Reading.Reading,
  inForce: ReadonlyArray<Resource> = []
): Result.Result<Manifest, ReadonlyArray<Problem>> => {
  // Objects that could not be read would look absent to the rules between objects: first things first.
  const all = problems.length > 0 ? [...problems, ...resources.flatMap(Admission.check)] : [
    ...resources.flatMap(Admission.check),
    ...Conflicts.check(resources),
    ...Updates.check(inForce, resources)
  ]
  return all.length > 0 ? Result.fail(all) : Result.succeed({
    deployments: Assembly.assemble(resources),
    resources,
    ignored,
    dangling: Conflicts.dangling(resources)
  })
}
