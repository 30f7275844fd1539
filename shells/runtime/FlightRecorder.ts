/**
 * Records what every machine of the process decided, so that an incident can be replayed on any laptop.
 *
 * In memory a tape is a bounded ring of references, which costs nothing until it is written. With `SLUICE_RECORD=DIR`
 * each machine writes its tape to `DIR/<machine>-<pid>-<n>.ndjson` as it goes; after a defect the ring is written to the
 * temporary directory in any case. Secrets never reach a tape: they are `Redacted` in the schemas, or not in the state.
 *
 * A tape is NDJSON (see `Tape.ts`): a head with the first state, one line for each event with its commands, and now and
 * then the state, so that a replay can be checked and a cut tape still has a beginning.
 */
import { Context, Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type * as Machine from "../../core/Machine.ts"
import * as Tape from "./Tape.ts"

/** The tape of one machine. */
export interface Recording<State, Event, Command> {
  readonly append: (
    now: Machine.Millis,
    event: Event | Machine.Woken,
    state: State,
    commands: ReadonlyArray<Command>
  ) => void
  /** Writes what is in memory, because the machine died. */
  readonly crashed: Effect.Effect<void>
}

export interface Recorder {
  readonly open: <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
    machine: Machine.Machine<Input, State, Event, Command>,
    state: State,
    now: Machine.Millis
  ) => Effect.Effect<Recording<State, Event, Command>, never, Scope.Scope>
}

/** The recorder of the process: to files if `SLUICE_RECORD` names a folder, else in memory. */
export const FlightRecorder = Context.Reference<Recorder>("sluice/runtime/FlightRecorder", {
  defaultValue: () => {
    const folder = process.env["SLUICE_RECORD"]
    return folder === undefined || folder === "" ? inMemory : toFolder(folder)
  }
})

const ringLength = 1024
const segmentBytes = 16 * 1024 * 1024
const checkpointEvery = 256
const flushMs = 100

const inMemory: Recorder = {
  open: (machine, state, now) => Effect.sync(() => openRing(machine, state, now))
}

const openRing = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  state: State,
  now: Machine.Millis
): Recording<State, Event, Command> => {
  let head = { now, state }
  let ring: Array<readonly [Machine.Millis, Event | Machine.Woken, ReadonlyArray<Command>]> = []
  return {
    append: (now, event, state, commands) => {
      ring.push([now, event, commands])
      if (ring.length >= ringLength) {
        ring = []
        head = { now, state }
      }
    },
    crashed: Effect.suspend(() => {
      // Made only now: the encoder costs every start more than the ring costs in an hour.
      const lines = Tape.encoder(machine)
      const file = path.join(os.tmpdir(), `sluice-${machine.name}-${process.pid}.ndjson`)
      const text = [lines.head(head.now, head.state), ...ring.map((line) => lines.event(...line))].join("\n") + "\n"
      return Effect.try({ try: () => fs.writeFileSync(file, text, { mode: 0o600 }), catch: String }).pipe(
        Effect.matchEffect({
          onFailure: (reason) => Effect.logError(`the recording of ${machine.name} was lost: ${reason}`),
          onSuccess: () => Effect.logError(`the last decisions of ${machine.name} are in ${file}`)
        })
      )
    })
  }
}

let tapes = 0

/** Writes every tape to a folder: the current segment and the one before it, each of at most 16 MiB. */
export const toFolder = (folder: string): Recorder => ({
  open: (machine, state, now) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => openSegments(folder, machine, state, now)),
        (segments) => Effect.sync(segments.close)
      ),
      (segments) => ({ append: segments.append, crashed: Effect.sync(segments.close) })
    )
})

const openSegments = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  folder: string,
  machine: Machine.Machine<Input, State, Event, Command>,
  first: State,
  startedAt: Machine.Millis
) => {
  fs.mkdirSync(folder, { recursive: true })
  const file = path.join(folder, `${machine.name}-${process.pid}-${tapes++}.ndjson`)
  const lines = Tape.encoder(machine)
  let last = { now: startedAt, state: first }
  let fd = fs.openSync(file, "w", 0o600)
  let pending = lines.head(startedAt, first) + "\n"
  let bytes = 0
  let events = 0
  let closed = false

  const flush = (): void => {
    if (pending !== "") bytes += fs.writeSync(fd, pending)
    pending = ""
  }
  const rotate = (): void => {
    flush()
    fs.closeSync(fd)
    fs.renameSync(file, `${file}.1`)
    fd = fs.openSync(file, "w", 0o600)
    bytes = 0
    pending = lines.head(last.now, last.state) + "\n"
  }
  const timer = setInterval(flush, flushMs).unref()

  return {
    append: (
      now: Machine.Millis,
      event: Event | Machine.Woken,
      state: State,
      commands: ReadonlyArray<Command>
    ): void => {
      if (closed) return
      last = { now, state }
      pending += lines.event(now, event, commands) + "\n"
      if (++events % checkpointEvery === 0) pending += lines.state(now, state) + "\n"
      if (bytes + pending.length > segmentBytes) rotate()
    },
    close: (): void => {
      if (closed) return
      closed = true
      clearInterval(timer)
      pending += lines.state(last.now, last.state) + "\n"
      flush()
      fs.closeSync(fd)
    }
  }
}
