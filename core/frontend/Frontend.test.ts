import { Schema } from "effect"
import { allUp, gateways, settings } from "../../property-tests/frontend/Specimen.ts"
import { transcript } from "../../property-tests/laws/Transcript.ts"
import * as Machine from "../Machine.ts"
import type * as BirdConfig from "./BirdConfig.ts"
import * as Frontend from "./Frontend.ts"

const Names = Schema.Array(Schema.String)

// Stories name gateways instead of spelling them out, and show what a configuration announces and to whom.
const StoryEvent = Schema.Union([
  Schema.TaggedStruct("Attractor", { vips: Names, gateways: Names }),
  Schema.TaggedStruct("Sessions", { call: Machine.Call, up: Names }),
  Frontend.Event
])
type StoryEvent = typeof StoryEvent.Type

const translate = (event: StoryEvent | Machine.Woken): Frontend.Event | Machine.Woken => {
  switch (event._tag) {
    case "Attractor": {
      const named = gateways.filter(({ name }) => event.gateways.includes(name))
      return { _tag: "AttractorObserved", attractors: [{ vips: event.vips, gateways: named }] }
    }
    case "Sessions":
      return { _tag: "QueryBirdSucceeded", call: event.call, ...allUp(event.up) }
    default:
      return event
  }
}

const StoryCommand = Schema.Union([
  Schema.TaggedStruct("StartBird", { call: Machine.Call, announces: Names, gateways: Names }),
  Schema.TaggedStruct("ConfigureBird", { call: Machine.Call, announces: Names, gateways: Names }),
  Schema.TaggedStruct("ConvergeRules", { call: Machine.Call, vips: Names, guarded: Names }),
  Frontend.Command
])
type StoryCommand = typeof StoryCommand.Type

const gist = ({ announces, text }: BirdConfig.Config) => ({
  announces,
  gateways: [...text.matchAll(/^protocol (?:bgp|static) 'NBR-([^']+)'/gm)].map(([, name = ""]) => name)
})

const abridge = (command: Frontend.Command): StoryCommand => {
  switch (command._tag) {
    case "StartBird":
      return { _tag: "StartBird", call: command.call, ...gist(command.config) }
    case "ConfigureBird":
      return { _tag: "ConfigureBird", call: command.call, ...gist(command.config) }
    case "ConvergeRules":
      return { _tag: command._tag, call: command.call, vips: command.desired.vips, guarded: command.desired.guarded }
    default:
      return command
  }
}

const told = Machine.make({
  name: "frontend",
  Input: Schema.Struct({}),
  State: Frontend.State,
  Event: StoryEvent,
  Command: StoryCommand,
  init: (_, now): Machine.Step<Frontend.State, StoryCommand> => {
    const [state, commands] = Frontend.init(settings, now)
    return [state, commands.map(abridge)]
  },
  step: (state, event, now) => {
    const [next, commands] = Frontend.step(state, translate(event), now)
    return [next, commands.map(abridge)]
  },
  wake: Frontend.wake
})

const show = (state: Frontend.State): string => {
  const { announcement, connectivity, loadBalancer, phase, speaker } = state
  const wake = Frontend.wake(state)
  return [
    phase._tag,
    `bird=${speaker.process._tag}${speaker.process._tag === "Up" ? `/${speaker.process.change._tag}` : ""}`,
    `v4=${connectivity.v4} v6=${connectivity.v6}`,
    `lb=${loadBalancer._tag}`,
    `nsp=${announcement.held}`,
    Frontend.advertises(state) ? "advertises" : "silent",
    wake === undefined ? "at rest" : `wakes at ${wake}`
  ].join(", ")
}

transcript(told, new URL("./stories/announce.txt", import.meta.url), show)
transcript(told, new URL("./stories/trouble.txt", import.meta.url), show)
