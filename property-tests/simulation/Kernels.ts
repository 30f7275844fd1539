/**
 * The network namespaces of a simulated machine: each by the model of the kernel, the pairs of links between them, and
 * the segments to which the outside is connected.
 */
import type { Model } from "../../core/loadbalancer/index.ts"
import { Kernel } from "../../core/net/index.ts"
import * as Cross from "../../core/nsm/Cross.ts"
import * as KernelModel from "../kernel/KernelModel.ts"

/** One end of a pair of links. */
export interface Port {
  readonly netns: string
  readonly link: string
}

export type Kernels = ReturnType<typeof make>

export const make = () => {
  const snapshots = new Map<string, Kernel.Snapshot>()
  const peers = new Map<string, Map<string, Port>>()
  const listeners = new Map<string, Set<() => void>>()
  const guards = new Map<string, Model.Guard | undefined>()
  const peerOf = ({ link, netns }: Port): Port | undefined => peers.get(netns)?.get(link)
  const setPeer = ({ link, netns }: Port, peer: Port): void => {
    peers.set(netns, (peers.get(netns) ?? new Map<string, Port>()).set(link, peer))
  }

  let version = 0
  const changed = (netns: string): void => {
    version++
    for (const listener of listeners.get(netns) ?? []) listener()
  }
  const get = (netns: string): Kernel.Snapshot => snapshots.get(netns) ?? Kernel.empty
  const set = (netns: string, snapshot: Kernel.Snapshot): void => {
    if (snapshot === snapshots.get(netns)) return
    snapshots.set(netns, snapshot)
    changed(netns)
  }

  const dropPeer = (port: Port): void => {
    const peer = peerOf(port)
    if (peer === undefined) return
    for (const { link, netns } of [port, peer]) peers.get(netns)?.delete(link)
    set(peer.netns, KernelModel.apply(get(peer.netns), { _tag: "DeleteLink", link: peer.link }))
  }

  const apply = (netns: string, operation: Kernel.Operation): void => {
    if (!snapshots.has(netns)) return
    const before = get(netns)
    const after = KernelModel.apply(before, operation)
    if (operation._tag === "DeleteLink" && before.links.some(({ name }) => name === operation.link)) {
      dropPeer({ netns, link: operation.link })
    }
    if (operation._tag === "RenameLink" && after !== before && operation.link !== operation.name) {
      const peer = peerOf({ netns, link: operation.link })
      peers.get(netns)?.delete(operation.link)
      if (peer !== undefined) {
        setPeer({ netns, link: operation.name }, peer)
        setPeer(peer, { netns, link: operation.name })
      }
    }
    set(netns, after)
  }

  const addLink = (netns: string, link: Kernel.Link): void =>
    set(netns, { ...get(netns), links: [...get(netns).links, link] })

  return {
    /** What nftables in a namespace keeps from leaving. */
    guard: (netns: string, guard: Model.Guard | undefined): void => {
      guards.set(netns, guard)
      changed(netns)
    },
    isGuarded: (netns: string, from: string | undefined, to: string): boolean => {
      const guard = guards.get(netns)
      return guard !== undefined && from?.startsWith(guard.linkPrefix) === true && guard.inside.includes(to)
    },
    /** Grows with every change. */
    version: (): number => version,
    get,
    exists: (netns: string): boolean => snapshots.has(netns),
    names: (): ReadonlyArray<string> => [...snapshots.keys()],
    create: (netns: string): void => {
      if (!snapshots.has(netns)) snapshots.set(netns, Kernel.empty)
    },
    /** Ends the namespace, and with it both ends of its pairs. */
    remove: (netns: string): void => {
      for (const { name } of get(netns).links) dropPeer({ netns, link: name })
      snapshots.delete(netns)
      guards.delete(netns)
      changed(netns)
    },
    apply,
    applyAll: (netns: string, operations: ReadonlyArray<Kernel.Operation>): void => {
      for (const operation of operations) apply(netns, operation)
    },
    addLink,
    /** Both ends of a connection, down and empty. */
    createPair: (alias: string, client: Cross.End, endpoint: Cross.End): void => {
      const [a, b] = [{ netns: client.netns, link: client.link }, { netns: endpoint.netns, link: endpoint.link }]
      setPeer(a, b)
      setPeer(b, a)
      for (const { link, mac, netns } of [client, endpoint]) {
        addLink(netns, { name: link, kind: "veth", mac, up: false, carrier: false, mtu: 1500, alias })
      }
    },
    peer: peerOf,
    /** Hears of every change in the namespace; the result ends it. */
    follow: (netns: string, listener: () => void): () => void => {
      const own = listeners.get(netns) ?? new Set()
      listeners.set(netns, own.add(listener))
      return () => void own.delete(listener)
    }
  }
}
