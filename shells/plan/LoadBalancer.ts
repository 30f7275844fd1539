/**
 * The plan of a load balancer, for each conduit: the rules of nftables, and the routes by which targets are reached, when
 * the targets of a file are there. The fast path depends on the links of the pod, so it is not part of it.
 */
import { Effect, Result, Schema } from "effect"
import * as fs from "node:fs"
import { parse } from "yaml"
import type { Deployment, Model, Target } from "../../core/config/index.ts"
import { Maglev, Offsets, Routes, Ruleset, Skips, Wanted } from "../../core/loadbalancer/index.ts"
import { Ip, IpCommand } from "../../core/net/index.ts"
import * as Config from "../loadbalancer/Config.ts"
import * as Settings from "../runtime/Settings.ts"
import { type Outcome, type Plan, PlanError } from "./Main.ts"

const Targets = Schema.Array(Schema.Struct({
  trench: Schema.optionalKey(Schema.NonEmptyString),
  stream: Schema.NonEmptyString,
  identifier: Schema.Int.check(Schema.isGreaterThan(0)),
  ips: Schema.Array(Schema.String)
}))
type Targets = typeof Targets.Type

export const plan: Plan = ({ deployments, env, options }) =>
  Effect.gen(function*() {
    const targets = typeof options["targets"] === "string" ? yield* readTargets(options["targets"]) : []
    const outcomes = yield* Effect.forEach(
      deployments.flatMap((deployment) =>
        deployment.configuration.conduits.map(({ conduit }) => ({ deployment, conduit }))
      ),
      ({ conduit, deployment }) => ofConduit(deployment, conduit, targets, env)
    )
    return {
      text: outcomes.length === 0 ? "# The manifests have no conduit." : outcomes.map(({ text }) => text).join("\n\n"),
      problems: outcomes.flatMap(({ problems }) => problems)
    }
  })

const readTargets = (file: string): Effect.Effect<Targets, PlanError> =>
  Effect.try({
    try: (): unknown => parse(fs.readFileSync(file, "utf8")),
    catch: (cause) => (cause instanceof Error ? cause.message : String(cause))
  }).pipe(
    Effect.flatMap((value) =>
      Effect.mapError(Schema.decodeUnknownEffect(Targets)(value ?? [], { errors: "all" }), ({ message }) => message)
    ),
    Effect.mapError((message) => new PlanError({ lines: [`--targets ${file}: ${message}`] }))
  )

const ofConduit = (
  { configuration, namespace }: Deployment.Deployment,
  conduit: string,
  all: Targets,
  env: Settings.Environment
): Effect.Effect<Outcome, PlanError> =>
  Effect.gen(function*() {
    const { trench } = configuration
    const settings = Config.ofMachine(
      // The operator sets these variables from the manifests.
      yield* decode({
        NSM_TRENCH_NAME: trench,
        NSM_CONDUIT_NAME: conduit,
        NSM_SERVICE_NAME: `${conduit}.${trench}.${namespace}`,
        ...env
      }),
      `${conduit}-0`
    )
    const key = { trench, conduit }
    const targets = all.filter((target) => target.trench === undefined || target.trench === trench).map(
      ({ identifier, ips, stream }): Target.Target => ({
        kind: "default",
        stream: { ...key, stream },
        ips,
        context: { identifier: String(identifier) },
        status: "enabled"
      })
    )
    const given: Wanted.Given = {
      conduit: key,
      table: settings.table,
      lists: {
        vips: configuration.vips,
        portNats: configuration.conduits.find((each) => each.conduit === conduit)?.portNats ?? [],
        streams: configuration.streams,
        flows: configuration.flows,
        targets,
        frontends: [],
        emptyAt: {}
      },
      offsets: Offsets.upTo(
        Offsets.assign({}, Wanted.streams(key, configuration.streams), settings.offsetStart),
        settings.offsetEnd
      ),
      attracts: true
    }
    const wanted = Wanted.targets(given)
    const skips = Ip.families.filter((family) =>
      Skips.areWorth(wanted.filter(({ ips }) => ips.some((ip) => Ip.family(ip) === family)).length)
    ).flatMap(Skips.rules)
    const title = `${trench}/${conduit}`
    return {
      text: [
        `# ${title}: rules of nftables`,
        Ruleset.script(undefined, Wanted.rules(given, { ready: wanted.map(({ mark }) => mark) })).trimEnd(),
        `# ${title}: routes`,
        ...wanted.flatMap(({ ips, mark }) =>
          ips.flatMap((ip) => {
            const flag = Ip.family(ip) === "v4" ? "-4" : "-6"
            return [
              `# ip ${flag} route replace default via ${ip} table ${mark} proto ${Routes.protocol}`,
              `# ip ${flag} rule add priority ${Skips.priorityOf(mark)} fwmark ${mark} lookup ${mark}`
            ]
          })
        ),
        ...skips.map((rule) => `# ${IpCommand.line({ _tag: "AddRule", rule })}`)
      ].join("\n"),
      problems: [
        ...own(configuration, key).filter(({ stream }) => given.offsets[stream] === undefined).map(({ stream }) =>
          `${title}: stream ${stream} is left out: it may have at most ${Maglev.maxTargetsLimit} targets and needs free marks`
        ),
        ...configuration.flows.filter(({ stream, vips }) => stream.conduit === conduit && vips.length === 0)
          .map(({ name }) => `${title}: flow ${name} is left out: it has no VIP`),
        ...targets.filter(({ context, stream }) =>
          own(configuration, key).some((each) => each.stream === stream?.stream)
          && !wanted.some(({ mark }) => mark === markOf(given, stream?.stream ?? "", Number(context["identifier"])))
        ).map(({ context, stream }) =>
          `${title}: target ${context["identifier"]} of ${stream?.stream} is left out: `
          + "it needs an address and an identifier up to maxTargets"
        )
      ]
    }
  })

const own = (configuration: Model.Configuration, { conduit }: Model.ConduitKey): ReadonlyArray<Model.Stream> =>
  configuration.streams.filter((stream) => stream.conduit === conduit)

const markOf = ({ offsets }: Wanted.Given, stream: string, identifier: number): number =>
  (offsets[stream]?.offset ?? 0) + identifier

const decode = (env: Settings.Environment): Effect.Effect<Config.Settings, PlanError> => {
  const settings = Settings.decode(Config.settings, env)
  if (Result.isFailure(settings)) {
    return Effect.fail(new PlanError({ lines: settings.failure.map(({ message }) => message) }))
  }
  const lines = Config.validate(settings.success)
  return lines.length === 0 ? Effect.succeed(settings.success) : Effect.fail(new PlanError({ lines }))
}
