/** Reads the manifests that a lab is given: a YAML file or a folder of them. */
import { Effect, Result, Schema } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { stringify } from "yaml"
import * as Manifest from "../../core/config/Manifest.ts"
import * as Problem from "../../core/config/Problem.ts"
import * as Yaml from "../nsp/Yaml.ts"

/** The manifests cannot be used; one line for each reason. */
export class ManifestError extends Schema.TaggedError<ManifestError>()("ManifestError", {
  lines: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return this.lines.join("\n")
  }
}

export interface Manifests extends Manifest.Manifest {
  readonly documents: ReadonlyArray<unknown>
  /** All documents in one text. */
  readonly text: string
}

/** Reads and judges a file, or all `.yaml` and `.yml` files of a folder. */
export const load = (file: string): Effect.Effect<Manifests, ManifestError> =>
  Effect.gen(function*() {
    const files = yield* Effect.try({
      try: () => filesOf(file),
      catch: (cause) => refuse(`--config ${file}: ${said(cause)}`)
    })
    if (files.length === 0) return yield* refuse(`--config ${file}: the folder has no .yaml or .yml file`)
    const documents = (yield* Effect.forEach(files, parse)).flat()
    const read = Manifest.read(documents)
    if (Result.isFailure(read)) return yield* new ManifestError({ lines: read.failure.map(Problem.format) })
    if (read.success.deployments.length === 0) {
      return yield* refuse(`--config ${file}: it has no object of kind Trench; at least one is needed`)
    }
    return { ...read.success, documents, text: render(documents) }
  })

/** The text of documents. */
export const render = (documents: ReadonlyArray<unknown>): string =>
  documents.map((one) => stringify(one)).join("---\n")

const filesOf = (file: string): ReadonlyArray<string> =>
  fs.statSync(file).isDirectory()
    ? fs.readdirSync(file).filter((name) => /\.ya?ml$/.test(name)).toSorted().map((name) => path.join(file, name))
    : [file]

const parse = (file: string): Effect.Effect<ReadonlyArray<unknown>, ManifestError> =>
  Effect.gen(function*() {
    const text = yield* Effect.try({
      try: () => fs.readFileSync(file, "utf8"),
      catch: (cause) => refuse(`${file}: ${said(cause)}`)
    })
    const documents = Yaml.parse(file, text)
    const problems = documents.flatMap((document) => "problem" in document ? [document.problem] : [])
    if (problems.length > 0) return yield* new ManifestError({ lines: problems })
    return documents.flatMap((document) => "value" in document && document.value !== null ? [document.value] : [])
  })

const refuse = (line: string): ManifestError => new ManifestError({ lines: [line] })

const said = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
