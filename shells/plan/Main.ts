/**
 * `sluice plan`: what a component would do, as text and without touching anything. Each component has a file here, loaded
 * when it is asked for.
 */
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import { parseEnv } from "node:util"
import type { Deployment } from "../../core/config/index.ts"
import * as Manifests from "../lab/Manifests.ts"
import type * as Settings from "../runtime/Settings.ts"
import * as Tool from "../runtime/Tool.ts"
import type { Arguments } from "../runtime/Tool.ts"

/** What a plan is made of. */
export interface Request {
  /** One per trench; none without `--config`. */
  readonly deployments: ReadonlyArray<Deployment.Deployment>
  /** The settings of the program: those of the file before those of this process. */
  readonly env: Settings.Environment
  readonly options: Arguments["options"]
}

/** The plan as text, and what cannot be served, one sentence each. */
export interface Outcome {
  readonly text: string
  readonly problems: ReadonlyArray<string>
}

export type Plan = (request: Request) => Effect.Effect<Outcome, PlanError>

/** Why there is no plan; one line for each reason. */
export class PlanError extends Schema.TaggedError<PlanError>()("PlanError", { lines: Schema.Array(Schema.String) }) {
  override get message(): string {
    return this.lines.join("\n")
  }
}

interface Component {
  readonly summary: string
  /** The option without which there is nothing to plan. */
  readonly needs: "config" | "desired"
  readonly load: () => Promise<{ readonly plan: Plan }>
}

const components: { readonly [name: string]: Component } = {
  frontend: {
    summary: "configuration of BIRD and routing rules of each attractor",
    needs: "config",
    load: () => import("./Frontend.ts")
  },
  loadbalancer: {
    summary: "rules of nftables and routes of each conduit",
    needs: "config",
    load: () => import("./LoadBalancer.ts")
  },
  proxy: {
    summary: "changes of links, addresses, rules and routes on a node",
    needs: "desired",
    load: () => import("./Proxy.ts")
  }
}

const list = Object.entries(components).map(([name, { summary }]) => `  ${name.padEnd(14)}${summary}`).join("\n")

export const command = Tool.tool({
  name: "plan",
  summary: "Shows what a component would do, and changes nothing.",
  usage: `Usage: sluice plan frontend --config PATH [--env-file FILE]
       sluice plan loadbalancer --config PATH [--targets FILE] [--env-file FILE]
       sluice plan proxy --desired FILE [--observed FILE] [--ip]

  --config    manifests: a YAML file or a folder of them
  --env-file  settings of the component, NAME=VALUE in each line; they go before those of the environment
  --targets   targets of load balancers, a YAML list of { stream, identifier, ips } and where needed trench
  --desired   what is wanted, as JSON (the type Desired of core/proxy/Routes.ts)
  --observed  what there is, as JSON (the type Snapshot of core/net/Kernel.ts); "live", the default: this namespace
  --ip        prints lines of ip(8) instead of JSON

Components:
${list}

Exit code: 0 all can be served, 1 something is left out (on standard error), 2 wrong usage.`,
  options: {
    config: { type: "string" },
    "env-file": { type: "string" },
    targets: { type: "string" },
    desired: { type: "string" },
    observed: { type: "string" },
    ip: { type: "boolean" }
  },
  main: ({ options, words }, world) =>
    Effect.gen(function*() {
      const [name = ""] = words
      const component = Object.hasOwn(components, name) ? components[name] : undefined
      const { config, "env-file": envFile } = options
      if (component === undefined || words.length > 1 || typeof options[component.needs] !== "string") {
        world.err(
          component === undefined
            ? `sluice plan: name one component; these are known:\n${list}`
            : `sluice plan: name one component and --${component.needs}`
        )
        return 2
      }
      const { deployments } = typeof config === "string" ? yield* Manifests.load(config) : { deployments: [] }
      const file = typeof envFile === "string" ? yield* readEnv(envFile) : {}
      const { plan } = yield* Effect.promise(component.load)
      const { problems, text } = yield* plan({ deployments, env: { ...world.env, ...file }, options })
      world.out(text)
      for (const problem of problems) world.err(problem)
      return problems.length === 0 ? 0 : 1
    })
})

const readEnv = (file: string): Effect.Effect<Settings.Environment, PlanError> =>
  Effect.try({
    try: () => parseEnv(fs.readFileSync(file, "utf8")),
    catch: (cause) => new PlanError({ lines: [`--env-file ${file}: ${cause instanceof Error ? cause.message : ""}`] })
  })
