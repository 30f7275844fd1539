/** Recordings on disk, and the machines of all programs to run them with. */
import { Effect, type Result, Schema } from "effect"
import * as fs from "node:fs"
import type * as Machine from "../../core/Machine.ts"
import * as Tape from "../runtime/Tape.ts"
import * as Player from "./Player.ts"
import type * as TestFile from "./TestFile.ts"

/** A machine that can run a recording. */
interface Reader {
  readonly replay: (lines: ReadonlyArray<Tape.Line>) => Tape.Report
  readonly play: (lines: ReadonlyArray<Tape.Line>) => Result.Result<Player.Player, string>
}

const of = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  { machine }: { readonly machine: Machine.Machine<Input, State, Event, Command> }
): Reader => ({
  replay: (lines) => Tape.replay(machine, lines),
  play: (lines) => Player.play(machine, lines)
})

const entry = (component: string, module: string, load: () => Promise<Reader>) => ({
  source: { component, module },
  load
})

/** The machines that programs run, by the name in their recordings. */
const machines: Record<string, ReturnType<typeof entry>> = {
  frontend: entry("frontend", "Frontend", async () => of(await import("../../core/frontend/Frontend.ts"))),
  ipam: entry("ipam", "Ipam", async () => of(await import("../../core/ipam/Ipam.ts"))),
  loadbalancer: entry(
    "loadbalancer",
    "LoadBalancer",
    async () => of(await import("../../core/loadbalancer/LoadBalancer.ts"))
  ),
  "nsm-client": entry("nsm", "Client", async () => of(await import("../../core/nsm/Client.ts"))),
  "nsm-endpoint": entry("nsm", "Host", async () => of(await import("../../core/nsm/Host.ts"))),
  "nsm-registration": entry("nsm", "Registration", async () => of(await import("../../core/nsm/Registration.ts"))),
  nsmgr: entry("nsm", "Manager", async () => of(await import("../../core/nsm/Manager.ts"))),
  "nsp-registry": entry("nsp", "Registry", async () => of(await import("../../core/nsp/Registry.ts"))),
  proxy: entry("proxy", "Proxy", async () => of(await import("../../core/proxy/Proxy.ts"))),
  tapa: entry("tapa", "Ambassador", async () => of(await import("../../core/tapa/Ambassador.ts")))
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
  /** To walk through it. */
  readonly player: Effect.Effect<Player.Player, ReplayError>
  readonly source: TestFile.Source
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
    const known = machines[name]
    if (known === undefined) {
      return yield* new ReplayError({
        detail: `${file} is of the machine "${name}"; this version knows ${Object.keys(machines).join(", ")}`
      })
    }
    const reader = yield* Effect.promise(known.load)
    return {
      lines,
      source: known.source,
      replay: () => reader.replay(lines),
      player: Effect.suspend(() =>
        Effect.mapError(
          Effect.fromResult(reader.play(lines)),
          (reason) => new ReplayError({ detail: `${file}: ${reason}` })
        )
      )
    }
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
