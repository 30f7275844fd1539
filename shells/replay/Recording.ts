/** Recordings on disk, and the machines of all programs to run them with. */
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import type * as Machine from "../../core/Machine.ts"
import * as Tape from "../runtime/Tape.ts"

type Replay = (lines: ReadonlyArray<Tape.Line>) => Tape.Report

const of = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  { machine }: { readonly machine: Machine.Machine<Input, State, Event, Command> }
): Replay =>
(lines) => Tape.replay(machine, lines)

/** The machines that programs run, by the name in their recordings. */
const machines: Record<string, () => Promise<Replay>> = {
  frontend: async () => of(await import("../../core/frontend/Frontend.ts")),
  ipam: async () => of(await import("../../core/ipam/Ipam.ts")),
  loadbalancer: async () => of(await import("../../core/loadbalancer/LoadBalancer.ts")),
  "nsm-client": async () => of(await import("../../core/nsm/Client.ts")),
  "nsm-endpoint": async () => of(await import("../../core/nsm/Host.ts")),
  "nsm-registration": async () => of(await import("../../core/nsm/Registration.ts")),
  nsmgr: async () => of(await import("../../core/nsm/Manager.ts")),
  "nsp-registry": async () => of(await import("../../core/nsp/Registry.ts")),
  proxy: async () => of(await import("../../core/proxy/Proxy.ts")),
  tapa: async () => of(await import("../../core/tapa/Ambassador.ts"))
}

/** A recording cannot be replayed. */
export class ReplayError extends Schema.TaggedError<ReplayError>()("ReplayError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/** A recording, ready to be run again. */
export interface Recording {
  readonly lines: ReadonlyArray<Tape.Line>
  readonly replay: () => Tape.Report
}

/** Reads a recording and finds the machine that made it. */
export const open = (file: string): Effect.Effect<Recording, ReplayError> =>
  Effect.gen(function*() {
    const text = yield* Effect.try({
      try: () => fs.readFileSync(file, "utf8"),
      catch: (cause) => new ReplayError({ detail: cause instanceof Error ? cause.message : String(cause) })
    })
    const lines = yield* Effect.mapError(
      Effect.fromResult(Tape.read(text)),
      (reason) => new ReplayError({ detail: `${file} is not a recording: ${reason}` })
    )
    const name = Tape.machineOf(lines)
    const load = machines[name]
    if (load === undefined) {
      return yield* new ReplayError({
        detail: `${file} is of the machine "${name}"; this version knows ${Object.keys(machines).join(", ")}`
      })
    }
    const replay = yield* Effect.promise(load)
    return { lines, replay: () => replay(lines) }
  })

/** What a replay found, in words. */
export const verdict = (report: Tape.Report): string => {
  switch (report._tag) {
    case "Same":
      return `${report.events} events, ${report.states} states, the same decisions`
    case "Differs":
      return `line ${report.line} differs\n  recorded ${JSON.stringify(report.expected)}\n  now      ${
        JSON.stringify(report.actual)
      }`
    case "Unreadable":
      return `line ${report.line} does not fit the machine: ${report.reason}`
  }
}
