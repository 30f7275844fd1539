/**
 * The leases of one family: which prefix each conduit and node, and which address each child holds.
 *
 * 1. Blocks of one parent never overlap and lie inside it; the lowest free one is given first.
 * 2. A child never holds the first or the last address of its node.
 * 3. The same path gets the same block for as long as its lease lives.
 * 4. Nothing is created by releasing; removing a lease removes everything below it.
 *
 * Addresses are those of the original, but for a defect of its successor function (it skips from `.254` to `.1.255`).
 */
import { HashMap, Option, Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Free from "./Free.ts"
import { bridge, type Change, type Entry, Pool, type Refusal } from "./Model.ts"

export const Held = Schema.Struct({ network: Cidr.Cidr, touchedAt: Schema.Finite })
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

// A lease that was renewed less than this ago is not written again (Meridio: pkg/ipam/node).
const renewMs = 60_000

/** The leases of stored entries, in any order. The stored pool counts, not the configured one. */
export const load = (configured: Pool, entries: ReadonlyArray<Entry>): Leases => {
  const own = entries.filter((entry) => entry.family === configured.family)
  const root = own.find((entry) => entry.path.length === 0)
  const pool = root === undefined ? configured : { ...configured, prefix: root.network }
  const empty: Leases = { pool, free: Free.whole(pool.prefix), conduits: HashMap.empty() }
  return own.toSorted((a, b) => a.path.length - b.path.length).reduce(insert, empty)
}

/** Every lease as it is stored, parents first. */
export const entries = ({ conduits, pool }: Leases): ReadonlyArray<Entry> => {
  const { family } = pool
  const all: Array<Entry> = [{ family, path: [], network: pool.prefix, touchedAt: 0 }]
  for (const [conduitName, conduit] of HashMap.entries(conduits)) {
    all.push({ family, path: [conduitName], network: conduit.network, touchedAt: conduit.touchedAt })
    for (const [nodeName, node] of HashMap.entries(conduit.nodes)) {
      all.push({ family, path: [conduitName, nodeName], network: node.network, touchedAt: node.touchedAt })
      for (const [name, child] of HashMap.entries(node.children)) {
        all.push({ family, path: [conduitName, nodeName, name], ...child })
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
  let next = leases
  for (const [name, conduit] of HashMap.entries(leases.conduits)) {
    if (names.includes(name)) continue
    next = {
      ...next,
      free: Free.give(next.free, Free.range(conduit.network)),
      conduits: HashMap.remove(next.conduits, name)
    }
    changes.push(deletion(leases, [name]))
  }
  for (const name of names) {
    if (HashMap.has(next.conduits, name)) continue
    const block = carve(next.free, next.pool.prefix, next.pool.conduitLength)
    if (block === undefined) continue
    const conduit: Conduit = {
      network: block.network,
      touchedAt: now,
      free: Free.whole(block.network),
      nodes: HashMap.empty()
    }
    next = { ...next, free: block.free, conduits: HashMap.set(next.conduits, name, conduit) }
    changes.push(saved(leases, [name], conduit))
  }
  return [next, changes]
}

/** Gives the child its address, or renews it. The conduit must be known. */
export const allocate = (
  leases: Leases,
  [conduitName, nodeName, name]: readonly [conduit: string, node: string, child: string],
  now: number
): Result.Result<readonly [address: Ip.Ip, ...Changed], Refusal> => {
  const { nodeLength, prefix } = leases.pool
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  if (conduit === undefined) return exhausted("conduit", prefix, leases.pool.conduitLength)
  const known = Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const block = known ?? carve(conduit.free, conduit.network, nodeLength)
  if (block === undefined) return exhausted("node", conduit.network, nodeLength)
  const node = known ??
    { network: block.network, touchedAt: now, free: Free.inner(block.network), children: HashMap.empty() }
  const held = Option.getOrUndefined(HashMap.get(node.children, name))
  const slot = held === undefined ? carve(node.free, node.network, Ip.bits(leases.pool.family)) : undefined
  const network = held?.network ?? slot?.network
  if (network === undefined) return exhausted("address", node.network, Ip.bits(leases.pool.family))
  const address = Cidr.ip(network)
  if (held !== undefined && now - held.touchedAt < renewMs) return Result.succeed([address, leases, []])

  const child: Held = { network, touchedAt: now }
  const nextNode: Node = {
    ...node,
    touchedAt: now,
    free: slot?.free ?? node.free,
    children: HashMap.set(node.children, name, child)
  }
  const nextConduit: Conduit = {
    ...conduit,
    free: known === undefined ? block.free : conduit.free,
    nodes: HashMap.set(conduit.nodes, nodeName, nextNode)
  }
  return Result.succeed([address, { ...leases, conduits: HashMap.set(leases.conduits, conduitName, nextConduit) }, [
    saved(leases, [conduitName, nodeName], nextNode),
    saved(leases, [conduitName, nodeName, name], child)
  ]])
}

/** Takes the address of a child back; what is not there stays so. */
export const release = (
  leases: Leases,
  [conduitName, nodeName, name]: readonly [conduit: string, node: string, child: string]
): Changed => {
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  const node = conduit && Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const held = node && Option.getOrUndefined(HashMap.get(node.children, name))
  if (conduit === undefined || node === undefined || held === undefined) return [leases, []]
  const nextNode = withoutChild(node, name, held)
  const nextConduit = { ...conduit, nodes: HashMap.set(conduit.nodes, nodeName, nextNode) }
  return [
    { ...leases, conduits: HashMap.set(leases.conduits, conduitName, nextConduit) },
    [deletion(leases, [conduitName, nodeName, name])]
  ]
}

/** Takes back what was not renewed since `before`: nodes with everything in them, and children but for the bridge. */
export const sweep = (leases: Leases, before: number): Changed => {
  const changes: Array<Change> = []
  let { conduits } = leases
  for (const [conduitName, conduit] of HashMap.entries(leases.conduits)) {
    let next = conduit
    for (const [nodeName, node] of HashMap.entries(conduit.nodes)) {
      if (node.touchedAt < before) {
        next = {
          ...next,
          free: Free.give(next.free, Free.range(node.network)),
          nodes: HashMap.remove(next.nodes, nodeName)
        }
        changes.push(deletion(leases, [conduitName, nodeName]))
        continue
      }
      let kept = node
      for (const [name, held] of HashMap.entries(node.children)) {
        if (name === bridge || held.touchedAt >= before) continue
        kept = withoutChild(kept, name, held)
        changes.push(deletion(leases, [conduitName, nodeName, name]))
      }
      if (kept !== node) next = { ...next, nodes: HashMap.set(next.nodes, nodeName, kept) }
    }
    if (next !== conduit) conduits = HashMap.set(conduits, conduitName, next)
  }
  return [conduits === leases.conduits ? leases : { ...leases, conduits }, changes]
}

/** Whether the conduit has a prefix. */
export const hasConduit = (leases: Leases, name: string): boolean => HashMap.has(leases.conduits, name)

/** Whether no conduit has a prefix. */
export const isEmpty = ({ conduits }: Leases): boolean => HashMap.isEmpty(conduits)

const withoutChild = (node: Node, name: string, held: Held): Node => ({
  ...node,
  free: Free.give(node.free, Free.range(held.network)),
  children: HashMap.remove(node.children, name)
})

// The lowest free block of a length that is longer than its parent's.
const carve = (
  free: Free.Free,
  parent: Cidr.Cidr,
  length: number
): { readonly network: Cidr.Cidr; readonly free: Free.Free } | undefined => {
  const family = Cidr.family(parent)
  if (length <= Cidr.length(parent) || length > Ip.bits(family)) return undefined
  const size = 1n << BigInt(Ip.bits(family) - length)
  const first = Free.lowest(free, size)
  const rest = first === undefined ? undefined : Free.claim(free, { first, last: first + size - 1n })
  return first === undefined || rest === undefined
    ? undefined
    : { network: Cidr.make(Ip.fromBigInt(family, first), length), free: rest }
}

// A stored entry that has no parent or whose block is taken cannot be honoured, and is left out.
const insert = (leases: Leases, { network, path, touchedAt }: Entry): Leases => {
  const [conduitName, nodeName, name] = path
  if (conduitName === undefined) return leases
  const block = Free.range(network)
  const conduit = Option.getOrUndefined(HashMap.get(leases.conduits, conduitName))
  if (nodeName === undefined) {
    const free = Free.claim(leases.free, block)
    return free === undefined ? leases : {
      ...leases,
      free,
      conduits: HashMap.set(leases.conduits, conduitName, {
        network,
        touchedAt,
        free: Free.whole(network),
        nodes: HashMap.empty()
      })
    }
  }
  if (conduit === undefined) return leases
  const withNode = (conduit: Conduit, node: Node): Leases => ({
    ...leases,
    conduits: HashMap.set(leases.conduits, conduitName, {
      ...conduit,
      nodes: HashMap.set(conduit.nodes, nodeName, node)
    })
  })
  if (name === undefined) {
    const free = Free.claim(conduit.free, block)
    return free === undefined
      ? leases
      : withNode({ ...conduit, free }, { network, touchedAt, free: Free.inner(network), children: HashMap.empty() })
  }
  const node = Option.getOrUndefined(HashMap.get(conduit.nodes, nodeName))
  const free = node && Free.claim(node.free, block)
  if (node === undefined || free === undefined) return leases
  return withNode(conduit, { ...node, free, children: HashMap.set(node.children, name, { network, touchedAt }) })
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
