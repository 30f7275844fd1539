/**
 * What may not change while an object exists: running components take these values once. To change one, remove the
 * object (or give it another name) and create it again. Source: Meridio `api/v1/*_webhook.go`, `ValidateUpdate`.
 */
import * as Same from "../Same.ts"
import { referenceOf } from "./Conflicts.ts"
import { defaultMaxTargets } from "./Model.ts"
import * as Problem from "./Problem.ts"
import type { Resource } from "./Resource.ts"

/** Changes of immutable fields between the objects in force and their successors. */
export const check = (
  before: ReadonlyArray<Resource>,
  after: ReadonlyArray<Resource>
): ReadonlyArray<Problem.Problem> => {
  const old = new Map(before.map((resource) => [key(resource), fields(resource)]))
  return after.flatMap((resource) => {
    const previous = old.get(key(resource))
    if (previous === undefined) return []
    return fields(resource).flatMap(({ path, value }, index) => {
      const was = previous[index]?.value
      const remedy = `was ${JSON.stringify(was) ?? "missing"} and cannot change; remove the object first`
      return Same.equals(was, value) ? [] : [Problem.make(referenceOf(resource), path, value, remedy)]
    })
  })
}

const key = ({ _tag, name, namespace }: Resource): string => JSON.stringify([_tag, namespace, name])

interface Field {
  readonly path: string
  readonly value: unknown
}

/** The immutable fields of an object, with defaults, in a fixed order for each kind. */
const fields = (resource: Resource): ReadonlyArray<Field> => {
  const trench = { path: "metadata.labels.trench", value: resource.trench }
  switch (resource._tag) {
    case "Trench":
      return [{ path: "spec.ip-family", value: resource.spec["ip-family"] ?? "dualstack" }]
    case "NetworkAttachmentDefinition":
      return []
    case "Conduit":
    case "Flow":
    case "Vip":
    case "Gateway":
      return [trench]
    case "Stream":
      return [trench, { path: "spec.max-targets", value: resource.spec["max-targets"] ?? defaultMaxTargets }]
    case "Attractor": {
      if (resource.spec.interface === undefined) return [trench]
      const { name: _, type = "nsm-vlan", ...external } = resource.spec.interface
      return [
        trench,
        { path: "spec.interface.type", value: type },
        { path: "spec.interface.ipv4-prefix", value: external["ipv4-prefix"] },
        { path: "spec.interface.ipv6-prefix", value: external["ipv6-prefix"] },
        { path: "spec.interface.nsm-vlan", value: external["nsm-vlan"] },
        { path: "spec.interface.network-attachments", value: external["network-attachments"] }
      ]
    }
  }
}
