/**
 * The leases of one family: which prefix each conduit and node, and which address each child holds.
 *
 * 1. Blocks of one parent never overlap and lie inside it; the lowest free one is given first.
 * 2. A child never holds the first or the last address of its node.
 * 3. The same path gets the same block for as long as its lease lives.
 * 4. Nothing is created by releasing; removing a lease removes everything below it.
 * 5. A release by a process that began before the last one that asked for the address changes nothing.
 * 6. The cost of a change depends on the number of bits of an address, not on the number of leases.
 *
 * Addresses are those of the original, but for a defect of its successor function (it skips from `.254` to `.1.255`).
 */
import { HashMap, Option, Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Free from "./Free.ts"
import { bridge, type Change, type Entry, Pool, type Refusal } from "./Model.ts"

export const Held = Schema.Struct({
  network: Cidr.Cidr,
  touchedAt: Schema.Finite,
  /** When the youngest process began that asked for it, if it told. Not stored: it guards moments, not restarts. */
  startedAt: Schema.optionalKey(Schema.Finite)
})
export type Held = typeof Held.Type

export const Node = Schema.Struct({
  network: Cidr.Cidr,
  touchedAt: Schema.Finite,
  free: Free.Free,
  children: Schema.HashMap(Schema.String, Held)
})
export type Node = typeof Node.Type

export const Conduit = Schema.Struct({
  network: Cidr.Cidr,
  touchedAt: Schema.Finite,
  free: Free.Free,
  nodes: Schema.HashMap(Schema.String, Node)
})
export type Conduit = typeof Conduit.Type

/** The leases of one family of the trench. */
export const Leases = Schema.Struct({
  pool: Pool,
  free: Free.Free,
  conduits: Schema.HashMap(Schema.String, Conduit)
})
export type Leases = typeof Leases.Type

/** New leases and what has to be stored. */
export type Changed = readonly [leases: Leases, changes: ReadonlyArray<Change>]

/** A lease that was renewed less than this ago is not written again (Meridio: pkg/ipam/node). */
export const renewMs = 60_000

/** The leases of stored entries, and the entries that cannot be honoured: without a parent, misplaced or overlapping. */
export interface Loaded {
  readonly leases: Leases
  readonly rejected: ReadonlyArray<Entry>
}

/**
 * The leases of stored entries, in any order. While something is leased, the stored pool counts and not the configured
 * one, as in the original. No lease is younger than `now`: the clock may have been wrong when it was stored.
 */
export const load = (configured: Pool, entries: ReadonlyArray<Entry>, now: number): Loaded => {
  const own = entries.filter((entry) => entry.family === configured.family)
  const prefix = storedPrefix(configured.family, own) ?? configured.prefix
  const rejected: Array<Entry> = []
  let leases: Leases = { pool: { ...configured, prefix }, free: "all", conduits: HashMap.empty() }
  for (const entry of own.toSorted((a, b) => a.path.length - b.path.length)) {
    if (entry.path.length === 0) continue
    const next = insert(leases, { ...entry, touchedAt: Math.min(entry.touchedAt, now) })
    if (next === undefined) rejected.push(entry)
    else leases = next
  }
  return { leases, rejected }
}

/** The pool of stored leases; undefined if nothing is leased in it. */
export const storedPrefix = (family: Ip.Family, entries: ReadonlyArray<Entry>): Cidr.Cidr | undefined => {
  const own = entries.filter((entry) => entry.family === family)
  const root = own.find(({ path }) => path.length === 0)
  return own.some(({ path }) => path.length > 0) && root !== undefined && Cidr.family(root.network) === family
    ? root.network
    : undefined
}

/** Every lease as it is stored, parents first. */
export const entries = ({ conduits, pool }: Leases): ReadonlyArray<Entry> => {
  const { family } = pool
  const all: Array<Entry> = [{ family, path: [], network: pool.prefix, touchedAt: 0 }]
  for (const [conduitName, conduit] of HashMap.entries(conduits)) {
    all.push({ family, path: [conduitName], network: conduit.network, touchedAt: conduit.touchedAt })
    for (const [nodeName, node] of HashMap.entries(conduit.nodes)) {
      all.push({ family, path: [conduitName, nodeName], network: node.network, touchedAt: node.touchedAt })
      for (const [name, { network, touchedAt }] of HashMap.entries(node.children)) {
        all.push({ family, path: [conduitName, nodeName, name], network, touchedAt })
      }
    }
  }
  return all
}

/**
 * Frees the conduits that are not listed, then gives a prefix to each listed one that has none, in the order of the
 * list. Conduits that do not fit stay without; they are tried again with each list.
 */
export const setConduits = (leases: Leases, names: ReadonlyArray<string>, now: number): Changed => {
  const changes: Array<Change> = []
  const listed = new Set(names)
  let next = leases
  for (const [name, conduit] of HashMap.entries(leases.conduits)) {
    if (listed.has(name)) continue
    next = {
      ...next,
      free: returned(next.free, next.pool.prefix, conduit.network),
      conduits: HashMap.remove(next.conduits, name)
    }
    changes.push(deletion(leases, [name]))
  }
  for (const name of names) {
    if (HashMap.has(next.conduits, name)) continue
    const block = carve(next.free, next.pool.prefix, next.pool.conduitLength)
    if (block === undefined) continue
    const conduit: Conduit = { network: block.network, touchedAt: now, free: "all", nodes: HashMap.empty() }
    next = { ...next, free: block.free, conduits: HashMap.set(next.conduits, name, conduit) }
    changes.push(saved(leases, [name], conduit))
  }
  return [next, changes]
}

/** Gives the child its address, or renews it, for a process that began at `startedAt`. The conduit must be known. */
export const allocate = (
  leases: Leases,
  [conduitName, nodeName, name]: readonly [conduit: string, node: string, child: string],
  now: number,
  startedAt?: number
): Result.Result<readonly [address: Ip.Ip, ...Changed], Refusal> => {
  const { nodeLength, prefix } = leases.pool
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  if (conduit === undefined) return exhausted("conduit", prefix, leases.pool.conduitLength)
  const known = Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const block = known ?? carve(conduit.free, conduit.network, nodeLength)
  if (block === undefined) return exhausted("node", conduit.network, nodeLength)
  const node = known ?? emptyNode(block.network, now)
  const held = Option.getOrUndefined(HashMap.get(node.children, name))
  const slot = held === undefined ? carve(node.free, node.network, Ip.bits(leases.pool.family)) : undefined
  const network = held?.network ?? slot?.network
  if (network === undefined) return exhausted("address", node.network, Ip.bits(leases.pool.family))
  const address = Cidr.ip(network)
  const isFresh = held !== undefined && now - held.touchedAt < renewMs
  const isYounger = startedAt !== undefined && startedAt > (held?.startedAt ?? Number.NEGATIVE_INFINITY)
  if (isFresh && !isYounger) return Result.succeed([address, leases, []])

  const youngest = isYounger ? startedAt : held?.startedAt
  const child: Held = {
    network,
    touchedAt: isFresh ? held.touchedAt : now,
    ...(youngest === undefined ? {} : { startedAt: youngest })
  }
  const isNodeFresh = known !== undefined && now - known.touchedAt < renewMs
  const nextNode: Node = {
    ...node,
    touchedAt: isNodeFresh ? known.touchedAt : now,
    free: slot?.free ?? node.free,
    children: HashMap.set(node.children, name, child)
  }
  const nextConduit: Conduit = {
    ...conduit,
    free: known === undefined ? block.free : conduit.free,
    nodes: HashMap.set(conduit.nodes, nodeName, nextNode)
  }
  return Result.succeed([address, { ...leases, conduits: HashMap.set(leases.conduits, conduitName, nextConduit) }, [
    ...(isNodeFresh ? [] : [saved(leases, [conduitName, nodeName], nextNode)]),
    ...(isFresh ? [] : [saved(leases, [conduitName, nodeName, name], child)])
  ]])
}

/** Takes the address of a child back, for a process that began at `startedAt`; what is not there stays so. */
export const release = (
  leases: Leases,
  [conduitName, nodeName, name]: readonly [conduit: string, node: string, child: string],
  startedAt?: number
): Changed => {
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  const node = conduit && Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const held = node && Option.getOrUndefined(HashMap.get(node.children, name))
  if (conduit === undefined || node === undefined || held === undefined) return [leases, []]
  if (startedAt !== undefined && held.startedAt !== undefined && startedAt < held.startedAt) return [leases, []]
  const nextNode = withoutChild(node, name, held)
  const nextConduit = { ...conduit, nodes: HashMap.set(conduit.nodes, nodeName, nextNode) }
  return [
    { ...leases, conduits: HashMap.set(leases.conduits, conduitName, nextConduit) },
    [deletion(leases, [conduitName, nodeName, name])]
  ]
}

/**
 * Takes back what was not renewed since `before`: children but for the bridge, and nodes in which nothing was renewed,
 * with everything in them. (The original takes a stale node with its fresh children.)
 */
export const sweep = (leases: Leases, before: number): Changed => {
  const changes: Array<Change> = []
  let { conduits } = leases
  for (const [conduitName, conduit] of HashMap.entries(leases.conduits)) {
    let next = conduit
    for (const [nodeName, node] of HashMap.entries(conduit.nodes)) {
      const stale = [...HashMap.entries(node.children)].filter(([, { touchedAt }]) => touchedAt < before)
      if (node.touchedAt < before && stale.length === HashMap.size(node.children)) {
        next = {
          ...next,
          free: returned(next.free, next.network, node.network),
          nodes: HashMap.remove(next.nodes, nodeName)
        }
        changes.push(deletion(leases, [conduitName, nodeName]))
        continue
      }
      let kept = node
      for (const [name, held] of stale) {
        if (name === bridge) continue
        kept = withoutChild(kept, name, held)
        changes.push(deletion(leases, [conduitName, nodeName, name]))
      }
      if (kept !== node) next = { ...next, nodes: HashMap.set(next.nodes, nodeName, kept) }
    }
    if (next !== conduit) conduits = HashMap.set(conduits, conduitName, next)
  }
  return [conduits === leases.conduits ? leases : { ...leases, conduits }, changes]
}

/** The conduits in which somebody holds an address. */
export const conduitsInUse = ({ conduits }: Leases): ReadonlyArray<string> =>
  [...HashMap.entries(conduits)]
    .filter(([, { nodes }]) => HashMap.some(nodes, ({ children }) => !HashMap.isEmpty(children)))
    .map(([name]) => name)

/** Whether the conduit has a prefix. */
export const hasConduit = (leases: Leases, name: string): boolean => HashMap.has(leases.conduits, name)

/** Whether no conduit has a prefix. */
export const isEmpty = ({ conduits }: Leases): boolean => HashMap.isEmpty(conduits)

const emptyNode = (network: Cidr.Cidr, touchedAt: number): Node => {
  const hostBits = Ip.bits(Cidr.family(network)) - Cidr.length(network)
  return { network, touchedAt, free: Free.inner(hostBits), children: HashMap.empty() }
}

const withoutChild = (node: Node, name: string, held: Held): Node => ({
  ...node,
  free: returned(node.free, node.network, held.network),
  children: HashMap.remove(node.children, name)
})

const returned = (free: Free.Free, parent: Cidr.Cidr, network: Cidr.Cidr): Free.Free => {
  const block = Free.blockOf(parent, network)
  return block === undefined ? free : Free.give(free, block)
}

// The lowest free block of a length that is longer than its parent's.
const carve = (
  free: Free.Free,
  parent: Cidr.Cidr,
  length: number
): { readonly network: Cidr.Cidr; readonly free: Free.Free } | undefined => {
  const bits = length - Cidr.length(parent)
  if (bits < 1 || length > Ip.bits(Cidr.family(parent))) return undefined
  const block = Free.lowest(free, bits)
  const rest = block === undefined ? undefined : Free.claim(free, block)
  return block === undefined || rest === undefined ? undefined : { network: Free.network(parent, block), free: rest }
}

// Undefined if the entry has no parent or does not lie in a free block of it.
const insert = (leases: Leases, { network, path, touchedAt }: Entry): Leases | undefined => {
  const [conduitName = "", nodeName, name] = path
  const claimed = (free: Free.Free, parent: Cidr.Cidr) => {
    const block = Free.blockOf(parent, network)
    return block === undefined ? undefined : Free.claim(free, block)
  }
  if (nodeName === undefined) {
    const free = claimed(leases.free, leases.pool.prefix)
    const conduit: Conduit = { network, touchedAt, free: "all", nodes: HashMap.empty() }
    return free && { ...leases, free, conduits: HashMap.set(leases.conduits, conduitName, conduit) }
  }
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  if (conduit === undefined) return undefined
  const withNode = (conduit: Conduit, node: Node): Leases => ({
    ...leases,
    conduits: HashMap.set(leases.conduits, conduitName, {
      ...conduit,
      nodes: HashMap.set(conduit.nodes, nodeName, node)
    })
  })
  if (name === undefined) {
    const free = claimed(conduit.free, conduit.network)
    return free && withNode({ ...conduit, free }, emptyNode(network, touchedAt))
  }
  const node = Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const isHost = Cidr.length(network) === Ip.bits(leases.pool.family)
  const free = node && isHost ? claimed(node.free, node.network) : undefined
  return node && free &&
    withNode(conduit, { ...node, free, children: HashMap.set(node.children, name, { network, touchedAt }) })
}

const exhausted = (
  level: "conduit" | "node" | "address",
  prefix: Cidr.Cidr,
  length: number
): Result.Result<never, Refusal> => Result.fail({ _tag: "Exhausted", level, prefix, length })

const saved = (leases: Leases, path: ReadonlyArray<string>, { network, touchedAt }: Held): Change => ({
  _tag: "SaveEntry",
  entry: { family: leases.pool.family, path, network, touchedAt }
})

const deletion = (leases: Leases, path: ReadonlyArray<string>): Change => ({
  _tag: "DeleteEntry",
  family: leases.pool.family,
  path
})
