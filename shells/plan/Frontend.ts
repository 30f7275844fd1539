/**
 * The plan of a frontend, for each attractor: the configuration that BIRD runs and the rules that the kernel holds while
 * everything works. Passwords are shown as `<secret/key>`.
 */
import { Effect, Result } from "effect"
import type { Deployment } from "../../core/config/index.ts"
import { Admission, BirdConfig, type Model, Report, RouterId, Rules, Speaker } from "../../core/frontend/index.ts"
import { Kernel } from "../../core/net/index.ts"
import * as Config from "../frontend/Config.ts"
import * as Sources from "../frontend/Sources.ts"
import * as Wire from "../nsp/Wire.ts"
import * as Settings from "../runtime/Settings.ts"
import { type Outcome, type Plan, PlanError } from "./Main.ts"

export const plan: Plan = ({ deployments, env }) =>
  Effect.gen(function*() {
    const outcomes = yield* Effect.forEach(
      deployments.flatMap((deployment) =>
        deployment.configuration.attractors.map((attractor) => ({ deployment, name: attractor.name }))
      ),
      ({ deployment, name }) => ofAttractor(deployment, name, env)
    )
    return {
      text: outcomes.length === 0
        ? "# The manifests have no attractor."
        : outcomes.map(({ text }) => text).join("\n\n"),
      problems: outcomes.flatMap(({ problems }) => problems)
    }
  })

const ofAttractor = (
  { attractors, configuration }: Deployment.Deployment,
  name: string,
  env: Settings.Environment
): Effect.Effect<Outcome, PlanError> =>
  Effect.gen(function*() {
    // The operator sets these variables from the manifests.
    const link = attractors.find((pods) => pods.name === name)?.interface.name
    const settings = yield* decode({
      NFE_TRENCH_NAME: configuration.trench,
      NFE_ATTRACTOR_NAME: name,
      ...(link === undefined ? {} : { NFE_EXTERNAL_INTERFACE: link }),
      ...env
    })
    const routerId = RouterId.derive([], settings.externalInterface, `${name}-0`)
    const bird = yield* Effect.mapError(
      Effect.fromResult(Config.ofBird(settings, routerId)),
      (reason) => new PlanError({ lines: [reason] })
    )
    const machine = Config.ofMachine(settings, bird)
    const found = configuration.attractors.find((one) => one.name === name)
    const attractor = found === undefined
      ? Admission.nothing
      : Admission.admit(Sources.offer(Wire.toAttractor(configuration.trench)(found)))
    const { gateways, vips } = attractor
    const secrets = secretsOf(gateways)
    const config = BirdConfig.render({ settings: bird, vips, announces: vips, gateways, secrets })
    const desired = { vips, guarded: [], table: bird.table, blackhole: machine.dropIfNoPeer }
    const title = `${configuration.trench}/${name}`
    const mistakes = { attractor, secrets, quarantine: [], speaker: Speaker.initial, wanted: config }
    return {
      text: [
        `# ${title}: ${Config.birdConfigFile(settings)}`,
        "# The router id is that of a pod without an IPv4 address; else it is the lowest address of the pod.",
        config.text,
        `# ${title}: rules`,
        ...Rules.plan(desired, Kernel.empty).map(show)
      ].join("\n"),
      problems: Report.complaints(mistakes).map((complaint) => `${title}: ${complaint}`)
    }
  })

const decode = (env: Settings.Environment): Effect.Effect<Config.Settings, PlanError> => {
  const settings = Settings.decode(Config.settings, env)
  if (Result.isFailure(settings)) {
    return Effect.fail(new PlanError({ lines: settings.failure.map(({ message }) => message) }))
  }
  const lines = Config.validate(settings.success)
  return lines.length === 0 ? Effect.succeed(settings.success) : Effect.fail(new PlanError({ lines }))
}

/** All secrets, as if they were there. */
const secretsOf = (gateways: ReadonlyArray<Model.Gateway>): ReadonlyArray<Model.Secret> =>
  gateways.flatMap(({ routing }) =>
    routing._tag === "Bgp" && routing.password !== undefined
      ? [{ source: routing.password.source, keys: [{ key: routing.password.key, revision: 0 }] }]
      : []
  )

/** As ip(8) would be told; there are only routes and rules to be made in a namespace that has none. */
const show = (operation: Kernel.Operation): string => {
  switch (operation._tag) {
    case "ReplaceRoute": {
      const { destination, family, metric, table, type } = operation.route
      return `ip ${flag(family)} route replace ${type} ${destination} table ${table} metric ${metric}`
    }
    case "AddRule": {
      const { family, from, priority, table } = operation.rule
      return `ip ${flag(family)} rule add priority ${priority} from ${from ?? "all"} lookup ${table}`
    }
    default:
      return `# ${JSON.stringify(operation)}`
  }
}

const flag = (family: "v4" | "v6"): string => (family === "v4" ? "-4" : "-6")
