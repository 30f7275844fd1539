import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue, Result, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Inside from "./Inside.ts"
import * as Namespace from "./Namespace.ts"
import * as Netlink from "./Netlink.ts"
import { rule, sh, world } from "./Specimen.ts"
import * as Sysctl from "./Sysctl.ts"

const cidr = Cidr.unsafe
const ip = Ip.unsafe

const bridge = (name: string, ...cidrs: ReadonlyArray<string>): ReadonlyArray<Kernel.Operation> => [
  { _tag: "AddBridge", name, mac: "02:00:00:00:00:01" },
  { _tag: "SetLinkUp", link: name, up: true },
  ...cidrs.map((text): Kernel.Operation => ({ _tag: "AddAddress", link: name, cidr: cidr(text) }))
]

const route = (
  destination: string,
  hops: ReadonlyArray<Kernel.NextHop>,
  more: Partial<Kernel.Route> = {}
): Kernel.Route => {
  const family = Cidr.family(cidr(destination))
  return {
    family,
    table: 1,
    destination: cidr(destination),
    type: "unicast",
    metric: family === "v4" ? 0 : 1024,
    hops,
    protocol: 3,
    onlink: false,
    ...more
  }
}

const link = (snapshot: Kernel.Snapshot, name: string) => snapshot.links.find((link) => link.name === name)

describe("Netlink", () => {
  it.live("makes, changes and deletes links", () =>
    Effect.gen(function*() {
      const { apply, createVeth, path, snapshot } = yield* world
      yield* apply(bridge("br"))
      yield* createVeth({ namespace: path, name: "a" }, { namespace: path, name: "b" })
      yield* apply([
        { _tag: "SetLinkMtu", link: "a", mtu: 1400 },
        { _tag: "SetLinkMac", link: "a", mac: "02:00:00:00:00:aa" },
        { _tag: "SetLinkAlias", link: "a", alias: "sluice:1" },
        { _tag: "SetLinkMaster", link: "a", master: "br" },
        { _tag: "SetLinkUp", link: "a", up: true },
        { _tag: "SetLinkUp", link: "b", up: true },
        { _tag: "RenameLink", link: "a", name: "port" }
      ])
      const before = yield* snapshot
      assert.deepStrictEqual(link(before, "port"), {
        name: "port",
        kind: "veth",
        mac: "02:00:00:00:00:aa",
        up: true,
        carrier: true,
        mtu: 1400,
        master: "br",
        alias: "sluice:1"
      })
      assert.deepInclude(link(before, "br"), { kind: "bridge", mac: "02:00:00:00:00:01", up: true, mtu: 1400 })
      yield* apply([
        { _tag: "SetLinkMaster", link: "port" },
        { _tag: "SetLinkUp", link: "port", up: false },
        { _tag: "DeleteLink", link: "br" }
      ])
      const after = yield* snapshot
      assert.notProperty(link(after, "port"), "master")
      assert.deepInclude(link(after, "port"), { up: false, carrier: false })
      assert.isUndefined(link(after, "br"))
    }))

  it.live("adds addresses without duplicate address detection, and deletes them", () =>
    Effect.gen(function*() {
      const { apply, path, snapshot } = yield* world
      yield* apply(bridge("br", "20.0.0.1/32", "172.16.0.1/24", "2000::1/128", "fd00::1/64"))
      assert.sameDeepMembers([...(yield* snapshot).addresses], [
        { link: "br", cidr: cidr("20.0.0.1/32"), dadFailed: false },
        { link: "br", cidr: cidr("172.16.0.1/24"), dadFailed: false },
        { link: "br", cidr: cidr("2000::1/128"), dadFailed: false },
        { link: "br", cidr: cidr("fd00::1/64"), dadFailed: false }
      ])
      assert.notInclude(sh(path, "ip -6 addr show dev br"), "tentative")
      yield* apply(
        ["20.0.0.1/32", "172.16.0.1/24", "2000::1/128", "fd00::1/64"].map((text): Kernel.Operation => ({
          _tag: "DeleteAddress",
          link: "br",
          cidr: cidr(text)
        }))
      )
      assert.deepStrictEqual((yield* snapshot).addresses, [])
    }))

  it.live("replaces one hop by several and back, on-link, blackhole and unreachable, in any table", () =>
    Effect.gen(function*() {
      const { apply, snapshot } = yield* world
      yield* apply(bridge("br", "172.16.0.1/24", "fd00::1/64"))
      const one = { via: ip("172.16.0.2"), link: "br" }
      const two = { via: ip("172.16.0.3"), link: "br" }
      const six = { via: ip("fd00::2"), link: "br" }
      const seven = { via: ip("fd00::3"), link: "br" }
      const stages: ReadonlyArray<ReadonlyArray<Kernel.Route>> = [
        [route("0.0.0.0/0", [one]), route("::/0", [six])],
        [route("0.0.0.0/0", [one, two]), route("::/0", [six, seven])],
        [route("0.0.0.0/0", [two]), route("::/0", [seven])],
        [
          route("0.0.0.0/0", [{ via: ip("10.9.9.9"), link: "br" }], { onlink: true }),
          route("::/0", [{ via: ip("2001:db8::9"), link: "br" }], { onlink: true })
        ],
        [
          route("0.0.0.0/0", [one, { via: ip("10.9.9.9"), link: "br" }], { onlink: true }),
          route("::/0", [{ link: "br" }])
        ],
        [route("0.0.0.0/0", [{ link: "br" }]), route("::/0", [six], { protocol: 4 })],
        [route("0.0.0.0/0", [], { type: "unreachable" }), route("::/0", [], { type: "unreachable" })],
        [route("0.0.0.0/0", [], { type: "blackhole" }), route("::/0", [], { type: "blackhole" })],
        [
          route("20.0.0.1/32", [one], { table: 4096, metric: 7 }),
          route("2000::/64", [six], { table: 70000, metric: 7 })
        ]
      ]
      for (const routes of stages) {
        yield* apply(routes.map((route) => ({ _tag: "ReplaceRoute", route })))
        const table = (yield* snapshot).routes
        assert.deepStrictEqual(
          routes.map((route) =>
            table.filter((other) => other.table === route.table && other.destination === route.destination)
          ),
          routes.map((route) => [route])
        )
      }
      const own = (yield* snapshot).routes.filter((route) => route.table !== 254)
      yield* apply(own.map((route) => ({ _tag: "DeleteRoute", route })))
      assert.deepStrictEqual((yield* snapshot).routes.filter((route) => route.table !== 254), [])
    }))

  it.live("deletes the route of exactly this metric and leaves the fallback", () =>
    Effect.gen(function*() {
      const { apply, snapshot } = yield* world
      yield* apply(bridge("br", "172.16.0.1/24", "fd00::1/64"))
      const fallbacks = ["0.0.0.0/0", "::/0"].map((to) => route(to, [], { type: "unreachable", metric: 4294967295 }))
      const defaults = [
        route("0.0.0.0/0", [{ via: ip("172.16.0.2"), link: "br" }]),
        route("::/0", [{ via: ip("fd00::2"), link: "br" }])
      ]
      yield* apply([...fallbacks, ...defaults].map((route) => ({ _tag: "ReplaceRoute", route })))
      for (let times = 0; times < 2; times++) {
        yield* apply(defaults.map((route) => ({ _tag: "DeleteRoute", route })))
        assert.deepStrictEqual((yield* snapshot).routes.filter((route) => route.table === 1), fallbacks)
      }
    }))

  it.live("keeps one copy of a rule and deletes exactly the meant one", () =>
    Effect.gen(function*() {
      const { apply, path, snapshot } = yield* world
      const rules = [
        rule("20.0.0.1/32"),
        rule("20.0.0.1/32", { mark: 5 }),
        rule("2000::1/128"),
        rule(undefined, { priority: 100 }),
        rule(undefined, { mark: 5, priority: 101 }),
        rule(undefined, { iif: "br", priority: 102 }),
        rule(undefined, { iif: "br", mark: 5, priority: 102 })
      ]
      const own = Effect.map(snapshot, (snapshot) => snapshot.rules.filter((rule) => rule.table === 1))
      const add: ReadonlyArray<Kernel.Operation> = rules.map((rule) => ({ _tag: "AddRule", rule }))
      yield* apply([...add, ...add])
      assert.sameDeepMembers([...yield* own], rules)
      const others = [rule("20.0.0.9/32"), rule(undefined, { priority: 101 })]
      const removed = [rule("20.0.0.1/32", { mark: 5 }), ...others, ...rules.filter(({ iif }) => iif !== undefined)]
      yield* apply(removed.map((rule) => ({ _tag: "DeleteRule", rule })))
      const kept = rules.filter(({ iif, mark, priority }) => !iif && (mark === undefined || priority === 101))
      assert.sameDeepMembers([...yield* own], kept)
      // The kernel would delete the rule with `from` in its place.
      const shadowed = yield* Effect.flip(apply([{ _tag: "DeleteRule", rule: rule(undefined) }]))
      assert.include(shadowed.message, "stands before it")
      yield* apply([rules[0], rules[3]].flatMap((rule) => rule ? [{ _tag: "DeleteRule", rule }] : []))
      assert.sameDeepMembers([...yield* own], [rule("2000::1/128"), rule(undefined, { mark: 5, priority: 101 })])
      sh(path, "ip rule add oif lo lookup 1 prio 7; ip rule add to 20.0.0.1 lookup 1 prio 8")
      assert.deepStrictEqual(
        (yield* own).filter((rule) => rule.foreign),
        [rule(undefined, { priority: 7, foreign: true }), rule(undefined, { priority: 8, foreign: true })]
      )
    }))

  it.live("writes and forgets neighbours", () =>
    Effect.gen(function*() {
      const { apply, snapshot } = yield* world
      yield* apply(bridge("br", "172.16.0.1/24", "fd00::1/64"))
      const neighbours = [
        { link: "br", ip: ip("172.16.0.2"), mac: "02:00:00:00:00:02", permanent: true },
        { link: "br", ip: ip("fd00::2"), mac: "02:00:00:00:00:03", permanent: false }
      ]
      yield* apply(neighbours.map((neighbour) => ({ _tag: "ReplaceNeighbour", neighbour })))
      assert.deepStrictEqual((yield* snapshot).neighbours, neighbours)
      yield* apply(neighbours.map(({ ip, link }) => ({ _tag: "DeleteNeighbour", link, ip })))
      assert.deepStrictEqual((yield* snapshot).neighbours, [])
    }))

  it.live("I19: takes adding what is there and deleting what is absent for success", () =>
    Effect.gen(function*() {
      const { apply, snapshot } = yield* world
      const build: ReadonlyArray<Kernel.Operation> = [
        ...bridge("br", "172.16.0.1/24", "fd00::1/64"),
        { _tag: "AddRule", rule: rule("20.0.0.1/32") },
        { _tag: "ReplaceRoute", route: route("0.0.0.0/0", [{ via: ip("172.16.0.2"), link: "br" }]) }
      ]
      yield* apply(build)
      const once = yield* snapshot
      yield* apply(build)
      assert.deepStrictEqual(yield* snapshot, once)
      const destroy: ReadonlyArray<Kernel.Operation> = [
        { _tag: "DeleteRoute", route: route("0.0.0.0/0", []) },
        { _tag: "DeleteRoute", route: route("::/0", []) },
        { _tag: "DeleteRule", rule: rule("20.0.0.1/32") },
        { _tag: "DeleteAddress", link: "br", cidr: cidr("172.16.0.1/24") },
        { _tag: "DeleteNeighbour", link: "br", ip: ip("172.16.0.2") },
        { _tag: "DeleteLink", link: "br" }
      ]
      yield* apply([...destroy, ...destroy, { _tag: "SetLinkMaster", link: "br" }])
      assert.deepStrictEqual((yield* snapshot).links.map((link) => link.name), ["lo"])
    }))

  it.live("stops at the first failure and names the operation and the reason", () =>
    Effect.gen(function*() {
      const { apply, createVeth, path, snapshot } = yield* world
      yield* apply(bridge("br", "fd00::1/64"))
      const missing = yield* Effect.flip(apply([
        { _tag: "SetLinkUp", link: "gone", up: true },
        { _tag: "DeleteLink", link: "br" }
      ]))
      assert.strictEqual(missing.code, "ENODEV")
      assert.strictEqual(missing.message, `SetLinkUp {"link":"gone","up":true}: no such device (ENODEV)`)
      assert.isDefined(link(yield* snapshot, "br"))

      const unreachable = yield* Effect.flip(
        apply([{ _tag: "ReplaceRoute", route: route("0.0.0.0/0", [{ via: ip("172.16.0.2"), link: "br" }]) }])
      )
      assert.strictEqual(unreachable.code, "ENETUNREACH")
      const length = yield* Effect.flip(apply([{ _tag: "AddAddress", link: "br", cidr: cidr("fd00::1/128") }]))
      assert.include(length.message, "another prefix length")
      yield* createVeth({ namespace: path, name: "a" }, { namespace: path, name: "b" })
      const noBridge = yield* Effect.flip(apply([{ _tag: "AddBridge", name: "a" }]))
      assert.include(noBridge.message, "no bridge")
    }))

  it.live("makes a veth pair across two namespaces that dies with either end", () =>
    Effect.gen(function*() {
      const [own, left, right] = [yield* world, yield* world, yield* world]
      const one = { namespace: left.path, name: "nsm-1", alias: "nsm:1", mac: "02:00:00:00:00:01", mtu: 1300 }
      const other = { namespace: right.path, name: "nsm-1", alias: "nsm:1", mac: "02:00:00:00:00:02", mtu: 1300 }
      yield* own.createVeth(one, other)
      for (const [side, { alias, mac, mtu, name }] of [[left, one], [right, other]] as const) {
        assert.deepInclude(link(yield* side.snapshot, "nsm-1"), { alias, kind: "veth", mac, mtu, name, up: false })
      }
      const taken = yield* Effect.flip(own.createVeth({ ...one, name: "free" }, other))
      assert.strictEqual(taken.code, "EEXIST")
      assert.isUndefined(link(yield* left.snapshot, "free"))
      assert.deepStrictEqual((yield* own.snapshot).links.map((link) => link.name), ["lo"])
      yield* right.apply([{ _tag: "DeleteLink", link: "nsm-1" }])
      assert.isUndefined(link(yield* left.snapshot, "nsm-1"))
    }))

  it.live("hears what others change, and that a peer link died", () =>
    Effect.gen(function*() {
      const [left, right] = [yield* world, yield* world]
      const heard = yield* listen(left.changes)
      yield* heard
      sh(left.path, "ip rule add from 20.0.0.1 lookup 1 prio 100")
      yield* heard
      assert.deepInclude((yield* left.snapshot).rules, rule("20.0.0.1/32"))
      yield* left.createVeth({ namespace: left.path, name: "a" }, { namespace: right.path, name: "b" })
      yield* until(heard, Effect.map(left.snapshot, (snapshot) => link(snapshot, "a") !== undefined))
      yield* right.apply([{ _tag: "DeleteLink", link: "b" }])
      yield* until(heard, Effect.map(left.snapshot, (snapshot) => link(snapshot, "a") === undefined))
    }))

  it.live("reports a change after a burst that overran the receive buffer", () =>
    Effect.gen(function*() {
      const { apply, changes, path, snapshot } = yield* world
      const heard = yield* listen(changes)
      yield* heard
      // Made synchronously: this process cannot read its socket before all of it has happened.
      const lines = Array.from({ length: 40_000 }, (_, i) => `route add blackhole 10.0.${i >> 8}.${i & 255} table 1`)
      execFileSync("nsenter", [`--net=${path}`, "ip", "-batch", "-"], { input: lines.join("\n") })
      const drops = sh(path, "cat /proc/net/netlink").trim().split("\n").slice(1).map((row) => row.split(/\s+/)[8])
      assert.isTrue(drops.some((drops) => Number(drops) > 0), "the burst was too small")
      yield* heard
      assert.strictEqual((yield* snapshot).routes.length, 40_000)
      yield* apply([{ _tag: "AddRule", rule: rule("20.0.0.1/32") }])
      yield* until(
        heard,
        Effect.map(snapshot, (snapshot) => snapshot.rules.some((rule) => rule.from === "20.0.0.1/32"))
      )
    }))

  it.live("is a layer for a namespace, or for the own one", () =>
    Effect.gen(function*() {
      const path = yield* Namespace.scoped(`sl-nlp-${process.pid}`)
      const names = Effect.flatMap(Netlink.Netlink, (netlink) => netlink.snapshot).pipe(
        Effect.map((snapshot) => snapshot.links.map((link) => link.name))
      )
      assert.deepStrictEqual(yield* Effect.provide(names, Netlink.Netlink.layerIn(path)), ["lo"])
      const own = sh("/proc/self/ns/net", "ls /sys/class/net").trim().split(/\s+/)
      assert.includeMembers([...yield* Effect.provide(names, Netlink.Netlink.layer)], own)
    }))

  it.live("fails to open a namespace that is none", () =>
    Effect.gen(function*() {
      const absent = yield* Effect.flip(Netlink.make("/run/netns/sl-absent"))
      assert.include(absent.message, "/run/netns/sl-absent")
      const file = yield* Effect.flip(Netlink.make("/etc/passwd"))
      assert.include(file.message, "cannot be entered")
    }))
})

/** Waits for one element of the changes, which are collected from now on. */
const listen = (changes: Stream.Stream<void, unknown>) =>
  Effect.gen(function*() {
    const inbox = yield* Queue.unbounded<void>()
    yield* Effect.forkScoped(Stream.runForEach(changes, () => Queue.offer(inbox, undefined)))
    return Queue.take(inbox)
  })

const until = <E>(heard: Effect.Effect<void>, reached: Effect.Effect<boolean, E>): Effect.Effect<void, E> =>
  Effect.flatMap(reached, (done) => done ? Effect.void : Effect.andThen(heard, until(heard, reached)))

describe("Namespace", () => {
  it.live("is found by its inode URL and held open after its name is gone", () =>
    Effect.gen(function*() {
      const name = `sl-ns-${process.pid}`
      const path = yield* Namespace.scoped(name)
      const url = yield* Namespace.url(path)
      const found = yield* Namespace.resolve(url)
      yield* Namespace.remove(name)
      assert.strictEqual(yield* Namespace.url(found.path), url)
      assert.match(sh(found.path, "ip -br link"), /^lo /)
      assert.notStrictEqual(url, yield* Namespace.currentUrl)
      const own = yield* Namespace.resolve(yield* Namespace.currentUrl)
      assert.strictEqual(own.url, yield* Namespace.currentUrl)
      for (const wrong of ["inode://4/1", "file:///proc/self/ns/net", "inode://4/"]) {
        assert.isTrue(Result.isFailure(yield* Effect.result(Namespace.resolve(wrong))), wrong)
      }
    }))

  it.live("is left again even when the work inside throws", () =>
    Effect.gen(function*() {
      const path = yield* Namespace.scoped(`sl-ns-${process.pid}-throw`)
      const before = yield* Namespace.currentUrl
      assert.throws(() =>
        Inside.run(path, () => {
          throw new Error("inside")
        }), "inside")
      assert.strictEqual(yield* Namespace.currentUrl, before)
    }))
})

describe("Sysctl", () => {
  it.live("reads and writes the parameters of another namespace only", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      const name = "net/ipv4/conf/all/rp_filter"
      const host = yield* Sysctl.read(name)
      const other = host === "2" ? "0" : "2"
      yield* Sysctl.write(name, other, path)
      assert.strictEqual(yield* Sysctl.read(name, path), other)
      assert.strictEqual(yield* Sysctl.read(name), host)
      const unknown = yield* Effect.flip(Sysctl.write("net/ipv4/no_such", "1", path))
      assert.include(unknown.message, "net/ipv4/no_such")
      const refused = yield* Effect.flip(Sysctl.write("net/ipv4/ip_forward", "many", path))
      assert.include(refused.message, "EINVAL")
    }))
})
