import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Result, Schema } from "effect"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import { planLaws } from "../../property-tests/laws/PlanLaws.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Kernel from "../net/Kernel.ts"
import * as Cross from "./Cross.ts"
import * as Forward from "./Forward.ts"
import * as Model from "./Model.ts"

type World = Forward.Observed

const cidrs = (...texts: ReadonlyArray<string>) => texts.map(Cidr.unsafe)
const vips = cidrs("20.0.0.1/32", "20.0.0.2/32", "2000::1/128")
const pool = [...vips, ...cidrs("172.16.0.2/24", "172.16.0.3/24", "fd00::2/64")]
const gateways = ["172.16.0.1", "172.16.0.9"].map(Ip.unsafe)

// A wish as a few choices; an absent one is the end of the connection.
const Choices = Schema.Struct({
  gone: Schema.Literals([true, false, false, false]),
  name: Schema.Literals(["nsm-0", "nsm-1"]),
  netns: Schema.Literals(["c", "d"]),
  mtu: Schema.Literals([0, 1400]),
  payload: Schema.Literals(["IP", "ETHERNET"]),
  addresses: Schema.Array(Schema.Literals([0, 1, 2, 3, 4, 5])).check(Schema.isMaxLength(6)),
  policies: Schema.Array(Schema.Literals([0, 1, 2])).check(Schema.isMaxLength(3)),
  hops: Schema.Literals([0, 1, 2])
})
type Choices = typeof Choices.Type

const crossOf = ({ addresses, hops, mtu, name, netns, payload, policies }: Choices): Cross.Cross => {
  const connection: Model.Connection = {
    ...Model.connection("id", "service"),
    payload,
    mechanism: Model.kernelMechanism(netns, name),
    context: {
      ...Model.emptyContext,
      mtu,
      ip: {
        ...Model.emptyIp,
        srcAddrs: pool.filter((_, i) => addresses.some((address) => address === i)),
        dstAddrs: cidrs("10.0.0.1/24"),
        policies: vips.filter((_, i) => policies.some((policy) => policy === i)).map((from) => ({
          from,
          routes: gateways.slice(0, Cidr.family(from) === "v4" ? hops : 0).map((nextHop) => ({
            prefix: Cidr.defaultRoute("v4"),
            nextHop
          }))
        }))
      }
    }
  }
  const made = Result.getOrThrow(Cross.make({
    manager: "mgr",
    connection,
    endpoint: Model.kernelMechanism("e", "service-x"),
    taken: () => new Set()
  }))
  // As the manager does, a source keeps its table.
  const [first] = Cross.tables("mgr")
  const tables = made.client.policies.map((policy) => ({
    ...policy,
    table: first + vips.findIndex((vip) => vip === policy.from)
  }))
  return { ...made, client: { ...made.client, policies: tables } }
}

const link = (name: string, change: Partial<Kernel.Link> = {}): Kernel.Link => ({
  name,
  kind: "veth",
  mac: "02:00:00:00:00:01",
  up: true,
  carrier: true,
  mtu: 1500,
  ...change
})
const foreignRule: Kernel.Rule = {
  family: "v4",
  priority: 100,
  table: 1,
  from: Cidr.unsafe("20.0.0.1/32"),
  foreign: false
}
const foreign: Kernel.Snapshot = {
  ...Kernel.empty,
  links: [link("eth0"), link("other", { alias: "nsm:mgr/other" })],
  addresses: [{ link: "other", cidr: Cidr.unsafe("20.0.0.1/32"), dadFailed: false }],
  rules: [foreignRule]
}
const base: World = { c: foreign, d: foreign, e: foreign }

const isOurs = ({ alias }: Kernel.Link) => alias === "nsm:mgr/id"
const apply = (world: World, operation: Forward.Operation): World => {
  if (operation._tag === "CreatePair") {
    const { alias, client, endpoint } = operation
    const make = (snapshot: Kernel.Snapshot | undefined, { link: name, mac }: Cross.End): Kernel.Snapshot => ({
      ...(snapshot ?? Kernel.empty),
      links: [...(snapshot?.links ?? []), link(name, { alias, mac, up: false })]
    })
    const first = { ...world, [client.netns]: make(world[client.netns], client) }
    return { ...first, [endpoint.netns]: make(first[endpoint.netns], endpoint) }
  }
  const { netns, operation: inside } = operation
  const alias = inside._tag === "DeleteLink"
    ? world[netns]?.links.find(({ name }) => name === inside.link)?.alias
    : undefined
  if (alias === undefined) return { ...world, [netns]: KernelModel.apply(world[netns] ?? Kernel.empty, inside) }
  // The ends of a pair go together.
  return Object.fromEntries(
    Object.entries(world).map(([url, snapshot]) => [
      url,
      snapshot.links.filter((link) => link.alias === alias).reduce(
        (before, { name }) => KernelModel.apply(before, { _tag: "DeleteLink", link: name }),
        snapshot
      )
    ])
  )
}

const canonical = (snapshot: Kernel.Snapshot) =>
  Object.values(snapshot).map((objects) => objects.map((object) => JSON.stringify(object)).toSorted())

const literals = (numbers: ReadonlyArray<number>): Choices["addresses"] =>
  ([0, 1, 2, 3, 4, 5] as const).filter((literal) => numbers.includes(literal))

const before = crossOf({
  gone: false,
  name: "nsm-0",
  netns: "c",
  mtu: 1400,
  payload: "IP",
  addresses: [0, 2, 3, 4, 5],
  policies: [0, 2],
  hops: 1
})
const building = Forward.plan.plan({ cross: before }, base)

for (const previous of [undefined, before]) {
  planLaws({
    name: previous === undefined ? "nsm-forward of something new" : "nsm-forward of a change",
    plan: Forward.plan.plan
  }, {
    desired: Arbitrary.map(
      Arbitrary.schema(Choices),
      (choices): Forward.Desired => ({
        ...(choices.gone ? {} : { cross: crossOf(choices) }),
        ...(previous === undefined ? {} : { previous })
      })
    ),
    // A world in which the earlier connection was built in part or as a whole.
    observed: Arbitrary.map(
      Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: building.length }))),
      (steps) => building.slice(0, previous === undefined ? 0 : steps).reduce(apply, base)
    ),
    apply,
    outcome: (world) => Object.entries(world).map(([netns, snapshot]) => [netns, canonical(snapshot)]),
    foreign: (world) =>
      Object.values(world).map((snapshot) => [
        snapshot.links.filter((link) => !isOurs(link)),
        snapshot.addresses.filter(({ link }) => link === "other"),
        snapshot.rules.filter(({ priority }) => !Cross.isPriority(priority))
      ]),
    permute: ({ cross, ...rest }) =>
      cross === undefined ? rest : {
        ...rest,
        cross: {
          ...cross,
          client: {
            ...cross.client,
            addresses: cross.client.addresses.toReversed(),
            policies: cross.client.policies.toReversed().map((policy) => ({
              ...policy,
              routes: policy.routes.toReversed()
            }))
          }
        }
      }
  })
}

describe("nsm-forward", () => {
  const built = building.reduce(apply, base)

  it("brings each link up before it gives it an address", () => {
    const steps = building.flatMap((operation) => operation._tag === "Change" ? [operation.operation] : [])
    for (const end of [before.client, before.endpoint]) {
      const own = steps.filter((step) => "link" in step && step.link === end.link).map(({ _tag }) => _tag)
      assert.isBelow(own.indexOf("SetLinkUp"), own.indexOf("AddAddress"), own.join())
    }
  })

  it("changes nothing on a refresh", () => {
    assert.deepStrictEqual(Forward.plan.plan({ cross: before, previous: before }, built), [])
  })

  it("adopts what stands without a record of it", () => {
    assert.deepStrictEqual(Forward.plan.plan({ cross: before }, built), [])
  })

  it("renames in place", () => {
    const renamed = { ...before, client: { ...before.client, link: "nsm-9" } }
    const operations = Forward.plan.plan({ cross: renamed, previous: before }, built)
    assert.isTrue(operations.every(({ _tag }) => _tag === "Change"))
    const after = operations.reduce(apply, built)["c"]
    assert.isTrue(after?.links.some(({ name }) => name === "nsm-9"))
    assert.isFalse(after?.links.some(({ name }) => name === "nsm-0"))
  })

  it.each([
    ["a network that becomes the interface's own", [], [3]],
    ["a network that was the interface's own", [3], []],
    ["the last IPv4 address", [3, 5], [5]],
    ["another IPv4 address in place of the last", [0], [1]]
  ])("takes the routes that the kernel gives and takes with addresses into account: %s", (_, first, second) => {
    const choices = { gone: false, name: "nsm-0", netns: "c", mtu: 0, payload: "IP", policies: [], hops: 0 } as const
    const previous = crossOf({ ...choices, addresses: literals(first) })
    const cross = crossOf({ ...choices, addresses: literals(second) })
    const old = Forward.plan.plan({ cross: previous }, base).reduce(apply, base)
    const changed = Forward.plan.plan({ cross, previous }, old).reduce(apply, old)
    const fresh = Forward.plan.plan({ cross }, base).reduce(apply, base)
    for (const netns of ["c", "e"]) {
      assert.deepStrictEqual(canonical(changed[netns] ?? Kernel.empty), canonical(fresh[netns] ?? Kernel.empty))
    }
  })

  it("removes the rules even when the link is gone", () => {
    const lost = apply(built, { _tag: "Change", netns: "e", operation: { _tag: "DeleteLink", link: "service-x" } })
    const after = Forward.plan.plan({ previous: before }, lost).reduce(apply, lost)
    assert.deepStrictEqual(after, base)
  })

  it("names the owner of a name that is taken", () => {
    const taken = { ...before, client: { ...before.client, link: "eth0" } }
    assert.include(Forward.conflict(taken, built) ?? "", "eth0")
    assert.isUndefined(Forward.conflict(before, built))
  })

  it("gives the endpoint no route to the source of a policy", () => {
    assert.notIncludeMembers(before.endpoint.routes.map(({ prefix }) => prefix), cidrs("20.0.0.1/32"))
  })

  it("sweeps its own without a connection, nothing else", () => {
    const operations = Forward.sweep("mgr", [], "c", built["c"] ?? Kernel.empty)
    const gone = operations.flatMap((operation) => operation._tag === "DeleteLink" ? [operation.link] : [])
    assert.sameMembers(gone, ["nsm-0", "other"])
    assert.strictEqual(operations.filter(({ _tag }) => _tag === "DeleteRule").length, 2)
    assert.deepStrictEqual(Forward.sweep("another", [], "c", built["c"] ?? Kernel.empty), [])
    const kept = Forward.sweep("mgr", [before], "c", built["c"] ?? Kernel.empty)
    assert.deepStrictEqual(kept, [{ _tag: "DeleteLink", link: "other" }])
  })
})
