/** The page of a trace: one file that needs nothing else, drawn by the modules in `page/`. */
import * as fs from "node:fs"
import * as zlib from "node:zlib"
import { type Journal, Properties, type Simulation } from "../../property-tests/simulation/index.ts"
import * as Difference from "../replay/Difference.ts"
import type * as Model from "./page/Model.ts"

/** Larger values are cut. Unit: characters of JSON. */
const valueLimit = 4_000

export interface Told {
  readonly title: string
  /** The command that makes the trace again. */
  readonly command: string
}

/** The page of a run that kept a journal. */
export const html = async (told: Told, outcome: Simulation.Outcome): Promise<string> => {
  const packed = zlib.gzipSync(JSON.stringify(trace(told, outcome))).toString("base64")
  return (await template()).replace("/*TRACE*/", () => packed)
}

const template = async (): Promise<string> => {
  const built = new URL("./trace.html", import.meta.url)
  if (fs.existsSync(built)) return fs.readFileSync(built, "utf8")
  // In a checkout nothing is built, and what builds is there.
  const { page } = await import("../../scripts/page.ts")
  return page()
}

/** What the page shows. */
export const trace = (told: Told, { journal, ...outcome }: Simulation.Outcome): Model.Trace => {
  const entries = journal?.entries() ?? []
  const actors = journal?.actors() ?? []
  const names = lanesOf(entries)
  const lanes = new Map(names.map((name, lane) => [name, lane]))
  const laneOf = (process: string): number => lanes.get(process) ?? 0
  const states = new Map<number, unknown>()
  return {
    ...told,
    lanes: names.map((name) => ({ name, group: groupOf(name) })),
    endMs: outcome.virtualMs,
    facts: [
      ["of virtual time", `${Math.round(outcome.virtualMs / 1_000)} s`],
      ["entries", entries.length.toLocaleString("en")],
      ["machine steps", outcome.steps.toLocaleString("en")],
      [outcome.schedule.length === 1 ? "fault" : "faults", String(outcome.schedule.length)]
    ],
    entries: entries.map((entry): Model.Entry => {
      const { at, cause, process } = entry
      const common = { at, lane: laneOf(process), ...cause === undefined ? {} : { cause } }
      switch (entry._tag) {
        case "Step": {
          const before = states.get(entry.actor)
          states.set(entry.actor, entry.state)
          return { ...common, kind: "step", ...step(entry, before, actors) }
        }
        case "Message":
          return {
            ...common,
            kind: "message",
            to: laneOf(entry.to),
            what: entry.kind,
            name: entry.subject.name,
            ...entry.arrivedAt === undefined ? {} : { arrivedAt: entry.arrivedAt }
          }
        default:
          return {
            ...common,
            kind: kinds[entry._tag],
            text: entry.text,
            strikes: entry.strikes.map(laneOf),
            lastsMs: entry.lastsMs,
            ...entry._tag === "Violation" ? { reason: Properties.reasonOf(entry.text.split(":")[0] ?? "") } : {}
          }
      }
    })
  }
}

const kinds = {
  Started: "started",
  Ended: "ended",
  Fault: "fault",
  Violation: "violation",
  Up: "up",
  Down: "down"
} as const

const step = (
  { actor, at, encoded, event, isNew, now, state, wake }: Journal.Step,
  before: unknown,
  actors: ReadonlyArray<Journal.Actor>
): Pick<Model.StepEntry, "machine" | "event" | "fields" | "commands" | "changes" | "wake"> => ({
  machine: actors[actor]?.machine ?? "",
  event,
  fields: short(untagged(encoded.event())),
  commands: encoded.commands().map((command) => ({ name: tagOf(command), fields: short(untagged(command)) })),
  changes: isNew
    ? Difference.between(before, state).map(({ after, before, path }) => [path || "all", short(before), short(after)])
    : [],
  // Deadlines are told by the clock of the process, which may have jumped.
  ...wake === undefined ? {} : { wake: at + wake - now }
})

const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const tagOf = (value: unknown): string => isRecord(value) ? String(value["_tag"]) : String(value)

const untagged = (value: unknown): unknown => {
  if (!isRecord(value)) return value
  const { _tag, ...fields } = value
  return fields
}

const short = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null) {
    return typeof value === "string" && value.length > valueLimit ? cut(value) : value
  }
  const text = JSON.stringify(value)
  return text.length > valueLimit ? cut(text) : value
}

const cut = (text: string): string => `${text.slice(0, valueLimit / 2)} … cut, ${text.length} characters`

/** Along the way of a packet: from outside to the targets, then those who only govern. */
const groups: ReadonlyArray<readonly [Model.Group, RegExp]> = [
  ["world", /^world$/],
  ["outside", /^(t\d+-)?gateway-/],
  ["frontends", /^(t\d+-)?(fe|lb)-/],
  ["proxies", /^(t\d+-)?proxy-/],
  ["targets", /^target-/],
  ["control", /./]
]

const groupOf = (name: string): Model.Group => groups.find(([, names]) => names.test(name))?.[0] ?? "control"

const lanesOf = (entries: ReadonlyArray<Journal.Entry>): ReadonlyArray<string> => {
  const names = new Set(["world", ...entries.map(({ process }) => process)])
  return [...names].toSorted((a, b) => rank(a) - rank(b) || trenchOf(a) - trenchOf(b) || numberOf(a) - numberOf(b))
}

const rank = (name: string): number => groups.findIndex(([, pattern]) => pattern.test(name))
const trenchOf = (name: string): number => Number(/^t(\d+)-/.exec(name)?.[1] ?? 0)
const numberOf = (name: string): number => Number(/\d+$/.exec(name)?.[0] ?? 0)
