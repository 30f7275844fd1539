/**
 * The rules between the fields of one object. The shape of single fields has been checked before (`Resource.ts`).
 *
 * Source: Meridio `api/v1/*_webhook.go`. Two points differ: hold-time may be left out, as its description says (the
 * webhook refuses that), and a gateway must have a name that BIRD can carry.
 */
import * as Cidr from "../net/Cidr.ts"
import type { PortRange } from "./Model.ts"
import * as Ports from "./Ports.ts"
import * as Problem from "./Problem.ts"
import type * as Resource from "./Resource.ts"

/** Everything wrong with one object. */
export const check = (resource: Resource.Resource): ReadonlyArray<Problem.Problem> => {
  const problems: Array<Problem.Problem> = []
  const report: Report = (path, value, remedy) =>
    void problems.push(Problem.make({ ...resource, kind: resource._tag }, path, value, remedy))
  switch (resource._tag) {
    case "Trench":
    case "Stream":
    case "Vip":
    case "NetworkAttachmentDefinition":
      break
    case "Conduit":
      conduit(resource.spec, report)
      break
    case "Flow":
      flow(resource.spec, report)
      break
    case "Attractor":
      attractor(resource.spec, report)
      break
    case "Gateway":
      gateway(resource, report)
      break
  }
  return problems
}

type Report = (path: string, value: unknown, remedy: string) => void

const conduit = (spec: Resource.Of<"Conduit">["spec"], report: Report): void => {
  if (spec.type === undefined) report("spec.type", undefined, "expected stateless-lb")
  const nats = spec["destination-port-nats"] ?? []
  const seen = new Map<string, number>()
  const taken = new Map<string, number>()
  for (const [index, nat] of nats.entries()) {
    const path = `spec.destination-port-nats[${index}]`
    const same = `${nat.port} ${nat["target-port"]} ${nat.protocol}`
    const twin = seen.get(same)
    if (twin !== undefined) {
      report(path, nat, `same ports and protocol as [${twin}]; merge their vips`)
      continue
    }
    seen.set(same, index)
    // A port and a target port may not meet either: replies are translated back by the same numbers.
    for (const vip of nat.vips) {
      const mine = new Set([nat.port, nat["target-port"]].map((port) => `${port} ${nat.protocol} ${vip}`))
      for (const one of mine) {
        const other = taken.get(one)
        if (other !== undefined) {
          report(
            path,
            nat,
            `collides with [${other}]: a port or target port occurs twice for ${nat.protocol} of ${vip}`
          )
        }
        taken.set(one, other ?? index)
      }
    }
  }
}

const flow = (spec: Resource.Of<"Flow">["spec"], report: Report): void => {
  const repeated = spec.protocols.find((protocol, index) => spec.protocols.indexOf(protocol) !== index)
  if (repeated !== undefined) report("spec.protocols", spec.protocols, `${repeated} is listed twice; list it once`)
  const subnets = spec["source-subnets"] ?? []
  pairs(
    subnets,
    Cidr.overlaps,
    (index, other) => report(`spec.source-subnets[${index}]`, subnets[index], `overlaps with [${other}]; remove one`)
  )
  const ports = (field: string, ranges: ReadonlyArray<PortRange>) =>
    pairs(ranges, Ports.overlaps, (index, other) =>
      report(
        `spec.${field}[${index}]`,
        ranges.slice(index, index + 1).map(Ports.format)[0],
        `overlaps with [${other}]; join or separate them`
      ))
  ports("source-ports", spec["source-ports"] ?? [])
  ports("destination-ports", spec["destination-ports"] ?? [])
}

/** Calls back for each element that clashes with an earlier one, once. */
const pairs = <A>(
  list: ReadonlyArray<A>,
  clash: (a: A, b: A) => boolean,
  found: (index: number, earlier: number) => void
): void => {
  for (const [index, element] of list.entries()) {
    const earlier = list.slice(0, index).findIndex((other) => clash(other, element))
    if (earlier >= 0) found(index, earlier)
  }
}

const attractor = (spec: Resource.Of<"Attractor">["spec"], report: Report): void => {
  if (spec.composites.length > 1) report("spec.composites", spec.composites, "name one conduit; more are not supported")
  if (spec.interface === undefined) return
  const { "ipv4-prefix": v4, "ipv6-prefix": v6, "network-attachments": attachments, "nsm-vlan": vlan, type } =
    spec.interface
  const path = "spec.interface"
  prefix(`${path}.ipv4-prefix`, v4, "v4", type, report)
  prefix(`${path}.ipv6-prefix`, v6, "v6", type, report)
  if (type === "network-attachment") {
    if (attachments?.length !== 1) {
      report(`${path}.network-attachments`, attachments, "expected exactly one network attachment")
    }
    return
  }
  if (vlan?.["base-interface"] === undefined) {
    report(`${path}.nsm-vlan.base-interface`, undefined, "an interface of type nsm-vlan needs it")
  }
  if (vlan?.["vlan-id"] === undefined) {
    report(`${path}.nsm-vlan.vlan-id`, undefined, "an interface of type nsm-vlan needs it")
  }
}

const prefix = (
  path: string,
  value: Cidr.Cidr | undefined,
  family: "v4" | "v6",
  type: "nsm-vlan" | "network-attachment" | undefined,
  report: Report
): void => {
  if (type === "network-attachment") {
    if (value !== undefined) report(path, value, "remove it: a network attachment has its own addresses")
  } else if (value === undefined) report(path, value, "an interface of type nsm-vlan needs it")
  else if (Cidr.family(value) !== family) report(path, value, `expected an IP${family} prefix`)
}

const longestGatewayName = 60

const gateway = ({ name, spec }: Resource.Of<"Gateway">, report: Report): void => {
  if (name.length > longestGatewayName) {
    report(
      "metadata.name",
      name,
      `expected at most ${longestGatewayName} characters (it becomes the name of a session)`
    )
  }
  const { bgp, protocol = "bgp", static: fixed } = spec
  if (protocol === "static") {
    if (bgp !== undefined && Object.keys(bgp).length > 0) {
      report("spec.bgp", bgp, "remove it, or set spec.protocol to bgp")
    }
    bfd("spec.static.bfd", fixed?.bfd, report)
    return
  }
  if (fixed !== undefined && Object.keys(fixed).length > 0) {
    report("spec.static", fixed, "remove it, or set spec.protocol to static")
  }
  for (const field of ["remote-asn", "local-asn"] as const) {
    if (bgp?.[field] === undefined) report(`spec.bgp.${field}`, undefined, "a BGP gateway needs this AS number")
  }
  bfd("spec.bgp.bfd", bgp?.bfd, report)
}

type Bfd = NonNullable<NonNullable<Resource.Of<"Gateway">["spec"]["static"]>["bfd"]>

const bfd = (path: string, spec: Bfd | undefined, report: Report): void => {
  if (spec === undefined || Object.keys(spec).length === 0) return
  if (spec.switch === undefined) return report(`${path}.switch`, undefined, "expected true or false")
  if (!spec.switch) return
  for (const field of ["min-rx", "min-tx", "multiplier"] as const) {
    if (spec[field] === undefined) report(`${path}.${field}`, undefined, "needed when BFD is switched on")
  }
}
