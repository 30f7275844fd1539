/**
 * The nftables rules of the load balancer, and the script that turns one set of them into another.
 *
 *     packet for a VIP ─▶ flows (layers of boxes) ─▶ stream: slot = jhash(key) mod size ─▶ mark of the target ─▶ routing
 *
 * 1. A script is one transaction: every packet sees the rules before or after it, never a mix, never none.
 * 2. A change of targets changes only the slots that change owners.
 * 3. Packets for a VIP that belong to no flow, or to a stream without targets, are dropped.
 * 4. The text depends on the set of streams, flows and VIPs, not on their order.
 *
 * What was measured and why each expression is as it is: Linux 6.18, nftables 1.0.6.
 */
import * as Chains from "./Chains.ts"
import * as Maglev from "./Maglev.ts"
import type { Ruleset, Stream } from "./Model.ts"

export const empty: Ruleset = { vips: [], flows: [], streams: [], portNats: [] }

/** The table that holds everything. */
export const table = "sluice-lb"

/** The script that replaces whatever is in the table, or, given the rules in the kernel, changes what differs. */
export const script = (before: Ruleset | undefined, after: Ruleset): string => {
  const wanted = Chains.objects(after)
  const slots = after.streams.toSorted((a, b) => a.offset - b.offset).flatMap((stream) =>
    slotChanges(before?.streams.find(({ offset }) => offset === stream.offset), stream)
  )
  const structure = before === undefined
    ? [`table inet ${table} {}`, `delete table inet ${table}`, declare(wanted)]
    : restructure(Chains.objects(before), wanted)
  return [...structure, ...slots, ""].join("\n")
}

/** The mark of each slot of a stream. */
export const marks = (stream: Stream): ReadonlyArray<number> =>
  Maglev.table(stream, stream.identifiers).map((identifier) => stream.offset + identifier)

const declare = (objects: ReadonlyArray<Chains.Object>): string =>
  `table inet ${table} {\n${objects.map(({ text }) => text).join("\n")}\n}`

// Rules go first, then what they and the elements of maps refer to; sets, maps and base chains that stay are kept.
const restructure = (
  present: ReadonlyArray<Chains.Object>,
  wanted: ReadonlyArray<Chains.Object>
): ReadonlyArray<string> => {
  const gone = present.filter(({ name }) => wanted.every((object) => object.name !== name))
  const isSame = wanted.length === present.length && wanted.every(({ text }, i) => text === present[i]?.text)
  return isSame ? [] : [
    `flush table inet ${table}`,
    ...present.filter(({ isFilled }) => isFilled).map(({ kind, name }) => `flush ${kind} inet ${table} ${name}`),
    ...gone.map(({ kind, name }) => `delete ${kind} inet ${table} ${name}`),
    declare(wanted)
  ]
}

const slotChanges = (before: Stream | undefined, after: Stream): ReadonlyArray<string> => {
  const old = before === undefined ? [] : marks(before)
  const wanted = marks(after)
  const map = `element inet ${table} ${Chains.slotsOf(after.offset)}`
  const removed: Array<string> = []
  const added: Array<string> = []
  for (let slot = 0; slot < Math.max(old.length, wanted.length); slot++) {
    const [from, to] = [old[slot], wanted[slot]]
    if (from === to) continue
    if (from !== undefined) removed.push(String(slot))
    if (to !== undefined) added.push(`${slot} : ${to}`)
  }
  return [
    ...(removed.length === 0 ? [] : [`delete ${map} { ${removed.join(", ")} }`]),
    ...(added.length === 0 ? [] : [`add ${map} { ${added.join(", ")} }`])
  ]
}
