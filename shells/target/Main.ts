/**
 * `sluice target`: opens, closes and watches streams by hand, as an application beside the ambassador would. Options,
 * lists and exit codes are those of Meridio's `target-client`, so that scripts that read its output go on.
 */
import { Effect, Stream } from "effect"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import * as Tool from "../runtime/Tool.ts"

const defaultSocket = "unix:///var/lib/meridio/ambassador.sock"

export const command = Tool.tool({
  name: "target",
  summary: "Opens, closes and watches streams at the ambassador of this target.",
  usage: `Usage: sluice target open|close|watch [-t TRENCH] [-c CONDUIT] [-s STREAM] [--socket PATH] [--json] [--once]

  -t, --trench   name of the trench
  -c, --conduit  name of the conduit
  -s, --stream   name of the stream
  --socket       path or unix:///path of the ambassador (default: $MERIDIO_AMBASSADOR_SOCKET or ${defaultSocket})
  --json         one line of JSON for each answer, in the form of ambassador.v1
  --once         watch: print the list once and end

open and close need all three names; for watch a name that is left out matches every name. watch prints the whole list
at once and after each change, until a signal ends it:

  New stream list:
  STATUS - STREAM - CONDUIT - TRENCH        STATUS is OPEN, PENDING, UNAVAILABLE or UNDEFINED

Exit code: 0 done (watch: also when a signal ends it), 1 refused or not reachable, 2 wrong usage.`,
  options: {
    trench: { type: "string", short: "t", default: "" },
    conduit: { type: "string", short: "c", default: "" },
    stream: { type: "string", short: "s", default: "" },
    socket: { type: "string" },
    json: { type: "boolean", default: false },
    once: { type: "boolean", default: false }
  },
  onSignal: ({ words }) => words[0] === "watch" ? 0 : undefined,
  main: ({ options, words }, world) =>
    Effect.gen(function*() {
      const [action, ...rest] = words
      const text = (option: string) => String(options[option])
      const stream: Tap.Stream = {
        name: text("stream"),
        conduit: { name: text("conduit"), trench: { name: text("trench") } }
      }
      if ((action !== "open" && action !== "close" && action !== "watch") || rest.length > 0) {
        world.err(`sluice target: expected open, close or watch, found "${words.join(" ")}"; see --help`)
        return 2
      }
      const missing = ["trench", "conduit", "stream"].filter((name) => text(name) === "")
      if (action !== "watch" && missing.length > 0) {
        world.err(`sluice target: ${action} needs --${missing.join(", --")}`)
        return 2
      }
      const socket = typeof options["socket"] === "string"
        ? options["socket"]
        : world.env["MERIDIO_AMBASSADOR_SOCKET"] ?? defaultSocket
      const client = yield* Client.make({ target: socket.startsWith("/") ? `unix://${socket}` : socket })
      if (action === "watch") {
        const updates = client.stream(Tap.TapDefinition, "watch", stream)
        const wanted = options["once"] === true ? Stream.take(updates, 1) : updates
        yield* Stream.runForEach(wanted, (response) =>
          Effect.sync(() => world.out(show(response, options["json"] === true))))
        return 0
      }
      yield* client.call(Tap.TapDefinition, action, stream, { timeoutMs: callMs })
      world.out(
        options["json"] === true
          ? JSON.stringify(Tap.Stream.toJSON(stream))
          : `${action === "open" ? "asked for" : "gave back"} ${label(stream)}`
      )
      return 0
    })
})

/** An open behind a running close is answered when the close is done. */
const callMs = 60_000

const show = ({ streamStatus }: Tap.StreamResponse, json: boolean): string => {
  const named = streamStatus.map(({ status, stream }) => ({ status: Tap.streamStatus_StatusToJSON(status), stream }))
  // Not the generated toJSON: it leaves out OPEN, the zero value.
  if (json) return JSON.stringify({ streamStatus: named })
  return [
    "New stream list:",
    ...named.map(({ status, stream }) => `${status} - ${namesOf(stream).join(" - ")}`)
  ].join("\n")
}

const namesOf = (stream: Tap.Stream | undefined): ReadonlyArray<string> => [
  stream?.name ?? "",
  stream?.conduit?.name ?? "",
  stream?.conduit?.trench?.name ?? ""
]

const label = (stream: Tap.Stream): string => {
  const [name, conduit, trench] = namesOf(stream)
  return `stream ${name} of conduit ${conduit} in trench ${trench}`
}
