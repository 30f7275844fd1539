/**
 * Builds and removes the pods of the lab: each is a network namespace on a common cluster network, with the sysctls that
 * a real pod gets from its init container. Everything of one lab carries its prefix, so that it can be removed by name.
 */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as Host from "./Host.ts"

/** A network namespace with a name on the cluster network. */
export interface Pod {
  /** The host name, for example `trench-a-attractor-a-0`. */
  readonly name: string
  /** The network namespace, for example `sl4711-trench-a-attractor-a-0`. */
  readonly namespace: string
  /** The addresses on the cluster network. */
  readonly v4: string
  readonly v6: string
}

/** A network that pods share besides the cluster network, such as the external network of an attractor. */
export interface Segment {
  /** The pod whose bridge joins the others. */
  readonly hub: Pod
  /** The bridge in the hub. */
  readonly bridge: string
}

const clusterBridge = "cluster0"
const cluster = { v4: "10.244.0", v6: "fd10:244:" }

/** The pods of one lab, to which more can be added while it runs. */
export interface Pods {
  /** The pod that joins the cluster network; its address is the default route of all others. */
  readonly hub: Pod
  readonly all: () => ReadonlyArray<Pod>
  readonly add: (name: string) => Effect.Effect<Pod, Host.HostError>
  /** A pod that stands for something outside of the cluster: without the cluster network. */
  readonly addOutside: (name: string) => Effect.Effect<Pod, Host.HostError>
  /** Puts a bridge with addresses into a pod. */
  readonly addBridge: (
    hub: Pod,
    bridge: string,
    addresses: ReadonlyArray<string>
  ) => Effect.Effect<Segment, Host.HostError>
  /** Gives a pod a link into a segment; the end at the bridge is named `port`. */
  readonly attach: (
    pod: Pod,
    link: string,
    addresses: ReadonlyArray<string>,
    segment: Segment,
    port: string
  ) => Effect.Effect<void, Host.HostError>
}

/** Makes the cluster network; all pods go with the scope. */
export const make = (prefix: string): Effect.Effect<Pods, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    const pods: Array<Pod> = []
    yield* Effect.addFinalizer(() => Effect.forEach(pods.toReversed(), remove, { discard: true }))

    const create = (name: string): Effect.Effect<Pod, Host.HostError> =>
      Effect.suspend(() => {
        const number = pods.length + 1
        const pod: Pod = {
          name,
          namespace: `${prefix}-${name}`,
          v4: `${cluster.v4}.${number}`,
          v6: `${cluster.v6}:${number.toString(16)}`
        }
        pods.push(pod)
        return Effect.andThen(Host.ip([["netns", "add", pod.namespace]]), settle(pod)).pipe(Effect.as(pod))
      })

    const bridge = (pod: Pod, name: string, addresses: ReadonlyArray<string>) =>
      Host.ip([
        ["link", "add", name, "type", "bridge"],
        ["link", "set", name, "up"],
        ["link", "set", "lo", "up"],
        ...addresses.map((address) => addAddress(address, name))
      ], pod.namespace)

    const hub = yield* create("cluster")
    yield* bridge(hub, clusterBridge, [`${hub.v4}/16`, `${hub.v6}/64`])

    return {
      hub,
      all: () => pods,
      add: (name) =>
        Effect.gen(function*() {
          const pod = yield* create(name)
          yield* attach(
            pod,
            "eth0",
            [`${pod.v4}/16`, `${pod.v6}/64`],
            { hub, bridge: clusterBridge },
            `p${pods.length}`
          )
          yield* Host.ip([
            ["link", "set", "lo", "up"],
            ["route", "add", "default", "via", hub.v4],
            ["route", "add", "::/0", "via", hub.v6]
          ], pod.namespace)
          return pod
        }),
      addOutside: (name) => Effect.tap(create(name), (pod) => Host.ip([["link", "set", "lo", "up"]], pod.namespace)),
      addBridge: (pod, name, addresses) => Effect.as(bridge(pod, name, addresses), { hub: pod, bridge: name }),
      attach
    }
  })

const attach: Pods["attach"] = (pod, link, addresses, segment, port) =>
  Effect.andThen(
    Host.ip([
      ["link", "add", link, "type", "veth", "peer", "name", port, "netns", segment.hub.namespace],
      ["link", "set", link, "up"],
      ...addresses.map((address) => addAddress(address, link))
    ], pod.namespace),
    Host.ip([
      ["link", "set", port, "master", segment.bridge],
      ["link", "set", port, "up"]
    ], segment.hub.namespace)
  )

const addAddress = (address: string, link: string): ReadonlyArray<string> =>
  address.includes(":") ? ["addr", "add", address, "dev", link, "nodad"] : ["addr", "add", address, "dev", link]

const remove = (pod: Pod): Effect.Effect<void> => Effect.ignore(Host.ip([["netns", "del", pod.namespace]]))

// What the init containers of Meridio's pods set; harmless in the pods that do not need it.
const sysctls: Record<string, string> = {
  "ipv4/conf/all/forwarding": "1",
  "ipv6/conf/all/forwarding": "1",
  "ipv4/conf/all/rp_filter": "0",
  "ipv4/conf/default/rp_filter": "0",
  "ipv6/conf/all/accept_dad": "0",
  "ipv6/conf/default/accept_dad": "0",
  "ipv4/fib_multipath_hash_policy": "1",
  "ipv6/fib_multipath_hash_policy": "1",
  "ipv4/fwmark_reflect": "1",
  "ipv6/fwmark_reflect": "1",
  "ipv4/ip_local_port_range": "49152 65535",
  "ipv4/ping_group_range": "0 2147483647"
}

const settle = (pod: Pod): Effect.Effect<void, Host.HostError> => {
  const script = Object.entries(sysctls).map(([name, value]) => `echo '${value}' > /proc/sys/net/${name}`).join("\n")
  return Effect.asVoid(Host.run(["nsenter", `--net=${path(pod)}`, "sh", "-ec", script]))
}

/** The path of a pod's network namespace. */
export const path = (pod: Pod): string => `/run/netns/${pod.namespace}`

/** Removes the namespaces of labs whose process is gone: `kill -9` leaves them behind. */
export const sweep: Effect.Effect<void> = Effect.suspend(() => {
  const names = fs.existsSync("/run/netns") ? fs.readdirSync("/run/netns") : []
  return Effect.forEach(
    names.filter((name) => /^sl\d+-/.test(name) && !fs.existsSync(`/proc/${/\d+/.exec(name)?.[0]}`)),
    (name) => Effect.andThen(killAll(name), Effect.ignore(Host.ip([["netns", "del", name]]))),
    { discard: true }
  )
})

const killAll = (namespace: string): Effect.Effect<void> =>
  Host.run(["ip", "netns", "pids", namespace]).pipe(
    Effect.map((pids) => {
      for (const pid of pids.split("\n").filter((line) => line !== "")) Host.kill(Number(pid), "SIGKILL")
    }),
    Effect.ignore
  )
