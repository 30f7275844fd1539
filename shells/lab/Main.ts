/**
 * `sluice lab`: a whole deployment on one machine, out of the real programs. With `--check` it is a test that leaves a
 * report and an exit code.
 */
import { Effect, Result } from "effect"
import type { Scope } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Tool from "../runtime/Tool.ts"
import * as Report from "./checks/Report.ts"
import * as Clean from "./Clean.ts"
import * as Lab from "./Lab.ts"
import * as Manifests from "./Manifests.ts"
import * as Options from "./Options.ts"
import * as View from "./View.ts"

export const command = Tool.tool({
  name: "lab",
  summary: "Builds a trench on this machine out of the real programs and sends traffic through it.",
  usage: Options.usage,
  options: Options.options,
  main: ({ options, words }, { err, out }) =>
    Effect.gen(function*() {
      const read = Options.read(options, words)
      if (Result.isFailure(read)) return refuse(err, read.failure)
      const settings = read.success
      const loaded = yield* Effect.result(Manifests.load(settings.config ?? defaultTrench))
      if (Result.isFailure(loaded)) return refuse(err, loaded.failure.lines)
      const manifests = loaded.success
      const missing = Options.missing(settings.gateway, Options.machine)
      if (missing !== undefined) return refuse(err, [missing])
      for (const ignored of manifests.ignored) out(`ignored: ${ignored}`)

      const input = { ...settings, deployments: manifests.deployments, manifests: manifests.text }
      return settings.check
        ? yield* check(input, settings.report, out)
        : yield* Effect.scoped(live(input, out))
    })
})

const defaultTrench = fileURLToPath(new URL("default-trench.yaml", import.meta.url))

const refuse = (err: (text: string) => void, lines: ReadonlyArray<string>): number => {
  for (const line of lines) err(`sluice lab: ${line}`)
  return 2
}

const announceStart = (input: Lab.Options, out: (text: string) => void): void =>
  out(
    `building ${input.deployments.map(({ configuration }) => configuration.trench).join(", ")}: ` +
      `${input.targets} targets and ${input.nodes} nodes each`
  )

const live = (
  input: Lab.Options,
  out: (text: string) => void
): Effect.Effect<never, { readonly message: string }, Scope.Scope> =>
  Effect.gen(function*() {
    announceStart(input, out)
    const lab = yield* Lab.start(input)
    yield* Effect.forEach(lab.trenches, Lab.openAll, { concurrency: "unbounded" })
    const paint = process.stdout.isTTY ? (screen: string) => out(`\u001B[2J\u001B[H${screen}`) : out
    return yield* View.show(lab, paint)
  })

const check = (
  input: Lab.Options,
  reportFile: string | undefined,
  out: (text: string) => void
): Effect.Effect<number, { readonly message: string }> =>
  Effect.gen(function*() {
    announceStart(input, out)
    const before = yield* Clean.fingerprint
    const outcome = yield* Effect.result(Effect.scoped(Effect.gen(function*() {
      const lab = yield* Lab.start(input)
      const opened = yield* Effect.result(Effect.forEach(lab.trenches, Lab.openAll, { concurrency: "unbounded" }))
      if (Result.isFailure(opened)) out(`FAIL open: ${opened.failure.message}`)
      const report = yield* Report.run(lab, out)
      return { ...report, ok: report.ok && Result.isSuccess(opened) }
    })))
    if (Result.isFailure(outcome)) return yield* Effect.fail(outcome.failure)
    const left = input.keep ? [] : yield* Clean.leftovers(before)
    const clean = {
      name: "clean",
      ok: left.length === 0,
      detail: left.length === 0 ? "nothing is left on the machine" : left.join(", "),
      ms: 0
    }
    out(Report.line(clean))
    const report = {
      ...outcome.success,
      ok: outcome.success.ok && clean.ok,
      checks: [...outcome.success.checks, clean]
    }
    if (reportFile !== undefined) fs.writeFileSync(reportFile, JSON.stringify(report, undefined, 2) + "\n")
    const failed = report.checks.filter(({ ok }) => !ok).length
    out(`${report.checks.length - failed} passed, ${failed} failed, ${report.leftOut.length} left out`)
    return report.ok ? 0 : 1
  })
