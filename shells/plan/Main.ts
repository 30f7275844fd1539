/**
 * `sluice plan`: what a component would do for given manifests, as text and without touching anything. Each component
 * has a file here, loaded when it is asked for.
 */
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import { parseEnv } from "node:util"
import type { Deployment } from "../../core/config/index.ts"
import * as Manifests from "../lab/Manifests.ts"
import type * as Settings from "../runtime/Settings.ts"
import * as Tool from "../runtime/Tool.ts"

/** What a plan is made of. */
export interface Request {
  /** One per trench. */
  readonly deployments: ReadonlyArray<Deployment.Deployment>
  /** The settings of the program: those of the file before those of this process. */
  readonly env: Settings.Environment
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
  readonly load: () => Promise<{ readonly plan: Plan }>
}

const components: { readonly [name: string]: Component } = {
  frontend: {
    summary: "configuration of BIRD and routing rules of each attractor",
    load: () => import("./Frontend.ts")
  }
}

const list = Object.entries(components).map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`).join("\n")

export const command = Tool.tool({
  name: "plan",
  summary: "Shows what a component would do for given manifests, and changes nothing.",
  usage: `Usage: sluice plan COMPONENT --config PATH [--env-file FILE]

  --config    manifests: a YAML file or a folder of them
  --env-file  settings of the component, NAME=VALUE in each line; they go before those of the environment

Components:
${list}

Exit code: 0 all can be served, 1 something is left out (on standard error), 2 wrong usage.`,
  options: { config: { type: "string" }, "env-file": { type: "string" } },
  main: ({ options, words }, world) =>
    Effect.gen(function*() {
      const [name = ""] = words
      const component = Object.hasOwn(components, name) ? components[name] : undefined
      const { config, "env-file": envFile } = options
      if (component === undefined || words.length > 1 || typeof config !== "string") {
        world.err(
          component === undefined
            ? `sluice plan: name one component; these are known:\n${list}`
            : "sluice plan: name one component and --config PATH"
        )
        return 2
      }
      const { deployments } = yield* Manifests.load(config)
      const file = typeof envFile === "string" ? yield* readEnv(envFile) : {}
      const { plan } = yield* Effect.promise(component.load)
      const { problems, text } = yield* plan({ deployments, env: { ...world.env, ...file } })
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
