/** What the operator is told: each mistake once while it lasts, and how the gateways fare when that changes. */
import { Schema } from "effect"
import * as Memo from "../Memo.ts"
import * as Same from "../Same.ts"
import * as BirdConfig from "./BirdConfig.ts"
import type { Connectivity } from "./Connectivity.ts"
import type { Attractor, Secret } from "./Model.ts"
import type * as Quarantine from "./Quarantine.ts"
import type * as Speaker from "./Speaker.ts"

const Report = Schema.TaggedStruct("Report", {
  level: Schema.Literals(["Info", "Warning", "Error"]),
  message: Schema.String
})
export type Report = typeof Report.Type

export const report = (level: Report["level"], message: string): Report => ({ _tag: "Report", level, message })

export interface Mistakes {
  readonly attractor: Attractor
  readonly secrets: ReadonlyArray<Secret>
  readonly quarantine: ReadonlyArray<Quarantine.Entry>
  readonly speaker: Speaker.State
  readonly wanted: BirdConfig.Config
}

/** Everything that is wrong now: parts of the attractor, passwords, refused gateways, a refused configuration. */
export const complaints = Memo.last(({ wanted }: Mistakes) => wanted, (mistakes): ReadonlyArray<string> => {
  const { attractor, quarantine, secrets, speaker: { process }, wanted } = mistakes
  const change = process._tag === "Up" ? process.change : undefined
  // A refusal that led to another wish is the quarantine's.
  const refusal = change?._tag === "Refused" && Same.equals(change.config, wanted) ? change : undefined
  const culprit = refusal && (BirdConfig.culprit(refusal.config.text, refusal.message) ?? "the new one")
  return [
    ...attractor.rejected.map(({ item, reason }) => `${item} is left out: ${reason}`),
    ...BirdConfig.missingPasswords(attractor.gateways, secrets)
      .map(({ gateway, reason }) => `gateway ${gateway} is left out: ${reason}`),
    ...quarantine.map(({ certain, gateway: { name }, message }) =>
      `gateway ${name} is left out: BIRD refuses it${certain ? "" : " or another one"}: ${message}`
    ),
    ...(BirdConfig.hasDifferentBfd(attractor.gateways)
      ? ["static gateways ask for different BFD values: all get the shortest intervals and the largest multiplier"]
      : []),
    ...(refusal ? [`BIRD keeps its configuration because of ${culprit}: ${refusal.message}`] : [])
  ]
})

/** The status of all gateways, if one of them or the whole went up or down. */
export const sessions = (before: Connectivity, after: Connectivity): ReadonlyArray<Report> => {
  if (Same.equals(ups(before), ups(after))) return []
  const gateways = after.gateways.map(({ detail, gateway, up }) => `${gateway} ${up ? "up" : `down (${detail})`}`)
  const reach = after.connected ? "the outside is reachable" : "the outside is not reachable"
  return [report(
    after.gateways.every(({ up }) => up) ? "Info" : "Error",
    `${reach}: ${gateways.join(", ") || "no gateways"}`
  )]
}

const ups = ({ connected, gateways }: Connectivity) => ({
  connected,
  gateways: gateways.map(({ gateway, up }) => ({ gateway, up }))
})
