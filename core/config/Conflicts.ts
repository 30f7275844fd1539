/**
 * The rules between objects: membership in a trench, unique names, and what two attractors or conduits may not share.
 * References that lead nowhere are no mistakes (objects may come in any order); they are reported apart.
 *
 * Source: Meridio `api/v1/*_webhook.go`, `pkg/configuration/reader/converter.go`.
 */
import * as Problem from "./Problem.ts"
import type * as Resource from "./Resource.ts"

/** Everything wrong between the objects; each conflict is reported once, at the later of the two objects. */
export const check = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Problem.Problem> => [
  ...duplicates(resources),
  ...strangers(resources),
  ...shared(resources)
]

/** References to objects that do not exist; what refers is served without them. */
export const dangling = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Problem.Problem> => {
  const known = new Set(resources.map(({ _tag, name, namespace, trench }) => id(_tag, namespace, trench, name)))
  return resources.flatMap((resource) =>
    references(resource)
      .filter(({ kind, name }) => !known.has(id(kind, resource.namespace, resource.trench, name)))
      .map(({ kind, name, path }) =>
        Problem.make(
          referenceOf(resource),
          path,
          name,
          `there is no ${kind} of that name in trench ${resource.trench}; create it or correct the name`
        )
      )
  )
}

/** The object as problems name it. */
export const referenceOf = ({ _tag, name, namespace }: Resource.Resource): Problem.Reference => ({
  kind: _tag,
  namespace,
  name
})

const id = (...parts: ReadonlyArray<string | undefined>): string => JSON.stringify(parts)

interface Link {
  readonly kind: Resource.Resource["_tag"]
  readonly path: string
  readonly name: string
}

const references = (resource: Resource.Resource): ReadonlyArray<Link> => {
  const links = (kind: Link["kind"], path: string, names: ReadonlyArray<string> = []): ReadonlyArray<Link> =>
    names.map((name, index) => ({ kind, path: `${path}[${index}]`, name }))
  switch (resource._tag) {
    case "Trench":
    case "Vip":
    case "Gateway":
    case "NetworkAttachmentDefinition":
      return []
    case "Conduit":
      return (resource.spec["destination-port-nats"] ?? []).flatMap(({ vips }, index) =>
        links("Vip", `spec.destination-port-nats[${index}].vips`, vips)
      )
    case "Stream":
      return parent("Conduit", "spec.conduit", resource.spec.conduit)
    case "Flow":
      return [
        ...parent("Stream", "spec.stream", resource.spec.stream),
        ...links("Vip", "spec.vips", resource.spec.vips)
      ]
    case "Attractor":
      return [
        ...links("Conduit", "spec.composites", resource.spec.composites),
        ...links("Gateway", "spec.gateways", resource.spec.gateways),
        ...links("Vip", "spec.vips", resource.spec.vips)
      ]
  }
}

const parent = (kind: Link["kind"], path: string, name: string | undefined): ReadonlyArray<Link> =>
  name === undefined || name === "" ? [] : [{ kind, path, name }]

const duplicates = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Problem.Problem> => {
  const seen = new Set<string>()
  const problems: Array<Problem.Problem> = []
  for (const resource of resources) {
    const key = id(resource._tag, resource.namespace, resource.name)
    if (seen.has(key)) {
      problems.push(
        Problem.make(referenceOf(resource), "metadata.name", resource.name, "defined twice; rename or remove one")
      )
    }
    seen.add(key)
  }
  return problems
}

/** Objects without a trench, or of a trench that does not exist. */
const strangers = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Problem.Problem> => {
  const trenches = new Set(
    resources.flatMap(({ _tag, name, namespace }) => (_tag === "Trench" ? [id(namespace, name)] : []))
  )
  return resources.flatMap((resource) => {
    const { _tag, namespace, trench } = resource
    if (_tag === "Trench" || _tag === "NetworkAttachmentDefinition" || trenches.has(id(namespace, trench))) return []
    const remedy = trench === undefined
      ? "add the label with the name of the trench"
      : `there is no Trench of that name in namespace ${namespace}; create it or correct the label`
    return [Problem.make(referenceOf(resource), "metadata.labels.trench", trench, remedy)]
  })
}

/** An object lays claim to a name, in whose trench only one owner may have it. */
interface Claim {
  readonly by: Resource.Resource
  readonly path: string
  readonly name: string
  readonly owner: string
}

const shared = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Problem.Problem> => {
  const first = new Map<string, Claim>()
  const problems: Array<Problem.Problem> = []
  for (const claim of claims(resources)) {
    const { by, name, owner, path } = claim
    const key = id(by._tag, path, by.namespace, by.trench, name)
    const other = first.get(key)
    if (other === undefined) first.set(key, claim)
    else if (other.owner !== owner) {
      const remedy = `${by._tag} ${other.by.name} of ${other.owner} has it too; remove it from one of them`
      problems.push(Problem.make(referenceOf(by), path, name, remedy))
    }
  }
  return problems
}

/** An attractor owns its VIPs and conduits; a conduit that exists owns the VIPs of its flows. */
const claims = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Claim> => {
  const parents = new Map(
    resources.map((one) => [
      id(one._tag, one.namespace, one.trench, one.name),
      one._tag === "Stream" ? one.spec.conduit : undefined
    ])
  )
  const all = (by: Resource.Resource, owner: string, path: string, names: ReadonlyArray<string> = []) =>
    [...new Set(names)].map((name): Claim => ({ by, path, name, owner }))
  return resources.flatMap((by) => {
    if (by._tag === "Attractor") {
      const owner = `attractor ${by.name}`
      return [...all(by, owner, "spec.vips", by.spec.vips), ...all(by, owner, "spec.composites", by.spec.composites)]
    }
    if (by._tag !== "Flow") return []
    const conduit = parents.get(id("Stream", by.namespace, by.trench, by.spec.stream))
    return !parents.has(id("Conduit", by.namespace, by.trench, conduit))
      ? []
      : all(by, `conduit ${conduit}`, "spec.vips", by.spec.vips)
  })
}
