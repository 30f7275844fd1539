/** What the lists of the NSP ask for: the targets to route to, and the rules once some of them are ready. */
import { type ConduitKey, type Flow, sameConduit, type Stream } from "../config/Model.ts"
import * as Target from "../config/Target.ts"
import * as Memo from "../Memo.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type { Lists } from "./Lists.ts"
import * as Maglev from "./Maglev.ts"
import type { Ruleset, Stream as Balanced } from "./Model.ts"
import type { Offsets, Range } from "./Offsets.ts"
import type * as Routes from "./Routes.ts"
import type * as Seen from "./Seen.ts"

/** What the wishes depend on. */
export interface Given {
  readonly conduit: ConduitKey
  readonly lists: Lists
  readonly offsets: Offsets
  /** The name of the tables of nftables. */
  readonly table: string
  /** Whether the streams are in use. */
  readonly attracts: boolean
}

/** The streams of the conduit that fit. */
export const streams = (conduit: ConduitKey, all: ReadonlyArray<Stream>): ReadonlyArray<Stream> =>
  all.filter((stream) => sameConduit(stream, conduit) && stream.maxTargets <= Maglev.maxTargetsLimit)

/** Enabled targets with a usable identifier, by mark; of several with the same one the first by address. */
export const targets = ({ attracts, conduit, lists, offsets }: Given): ReadonlyArray<Routes.Target> =>
  attracts && lists.targets !== undefined ? targetsOf({ conduit, all: lists.targets, offsets }) : none

const none: ReadonlyArray<never> = []

interface Listed {
  readonly conduit: ConduitKey
  readonly all: ReadonlyArray<Target.Target>
  readonly offsets: Offsets
}

const targetsOf = Memo.last(
  ({ conduit }: Listed) => conduit,
  ({ all, conduit, offsets }): ReadonlyArray<Routes.Target> => {
    const byMark = new Map<number, Routes.Target>()
    for (const target of all) {
      const { stream } = target
      const identifier = Target.identifier(target)
      if (target.status !== "enabled" || identifier === undefined) continue
      if (stream === undefined || !sameConduit(stream, conduit)) continue
      const range = offsets[stream.stream]
      if (range === undefined || identifier > range.maxTargets) continue
      const mark = range.offset + identifier
      const ips = addresses(target.ips)
      const other = byMark.get(mark)
      if (ips.length > 0 && (other === undefined || ips.join() < other.ips.join())) byMark.set(mark, { mark, ips })
    }
    return [...byMark.values()].toSorted((a, b) => a.mark - b.mark)
  }
)

/** The rules when packets may go to the ready ones of the wanted targets, by the fast path if there is one. */
export const rules = (given: Given, seen: Seen.Seen): Ruleset => rulesOf({ ...given, seen })

interface Grounds extends Given {
  readonly seen: Seen.Seen
}

const rulesOf = Memo.last(({ conduit }: Grounds) => conduit, (grounds): Ruleset => {
  const { attracts, conduit, lists, offsets, seen: { fastPath, guard, ready }, table } = grounds
  const wanted = new Set(targets(grounds).map(({ mark }) => mark))
  const served = ready.filter((mark) => wanted.has(mark)).toSorted((a, b) => a - b)
  const hops = fastPath?.hops.filter(({ mark }) => wanted.has(mark)) ?? []
  return {
    table,
    vips: (lists.vips ?? []).map(({ address }) => address),
    flows: attracts && lists.flows !== undefined ? flowsOf({ conduit, all: lists.flows }) : [],
    streams: attracts
      ? Object.entries(offsets).map(([name, range]) =>
        streamOf({ name, range, identifiers: within(served, range.offset, range.maxTargets) })
      )
      : [],
    portNats: lists.portNats ?? [],
    ...(guard === undefined ? {} : { guard }),
    ...(fastPath === undefined || hops.length === 0 ? {} : { fastPath: { ...fastPath, hops } })
  }
})

/** The identifiers of the marks, which are in order, that belong to a stream; of many streams each looks at its own. */
const within = (marks: ReadonlyArray<number>, offset: number, maxTargets: number): ReadonlyArray<number> => {
  let [first, end] = [0, marks.length]
  while (first < end) {
    const middle = (first + end) >> 1
    if ((marks[middle] ?? 0) <= offset) first = middle + 1
    else end = middle
  }
  const identifiers: Array<number> = []
  for (let mark = marks[first]; mark !== undefined && mark <= offset + maxTargets; mark = marks[++first]) {
    identifiers.push(mark - offset)
  }
  return identifiers
}

// What did not change is the same value, so that its rules are known already.
const flowsOf = Memo.last(
  ({ all }: { readonly conduit: ConduitKey; readonly all: ReadonlyArray<Flow> }) => all,
  ({ all, conduit }) => all.filter(({ stream, vips }) => sameConduit(stream, conduit) && vips.length > 0)
)

interface InRange {
  readonly name: string
  readonly range: Range
  readonly identifiers: ReadonlyArray<number>
}

const streamOf = Memo.last(
  ({ range }: InRange) => range,
  ({ identifiers, name, range: { maxTargets, offset } }): Balanced => ({
    name,
    maxTargets,
    slots: Maglev.size(maxTargets),
    offset,
    identifiers
  })
)

/** The marks that packets may get by the rules. */
export const marks: (rules: Ruleset) => ReadonlySet<number> = Memo.each(({ streams }) =>
  new Set(streams.flatMap(({ identifiers, offset }) => identifiers.map((identifier) => offset + identifier)))
)

// The lowest address of each family.
const addresses = Memo.each((texts: ReadonlyArray<string>): ReadonlyArray<Ip.Ip> => {
  const all = texts.flatMap((text) => {
    const parsed = Cidr.parse(text)
    return parsed._tag === "Success" ? [Cidr.ip(parsed.success)] : []
  }).toSorted(Ip.compare)
  return Ip.families.flatMap((family) => all.find((ip) => Ip.family(ip) === family) ?? [])
})
