/**
 * Finds what a lab left on the machine. The lab touches nothing outside of its own namespaces and folder, so the
 * machine's links, rules, routes and nftables have to be what they were.
 */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as Host from "./Host.ts"
import { folderOf, prefix } from "./Lab.ts"

/** The state of the machine that must not change. */
export type Fingerprint = Readonly<Record<string, string>>

const views: Record<string, ReadonlyArray<string>> = {
  links: ["ip", "-o", "link", "show"],
  "IPv4 rules": ["ip", "rule", "show"],
  "IPv6 rules": ["ip", "-6", "rule", "show"],
  "IPv4 routes": ["ip", "route", "show", "table", "all"],
  "IPv6 routes": ["ip", "-6", "route", "show", "table", "all"],
  "nftables": ["nft", "list", "ruleset"]
}

/** Looks at the machine itself. */
export const fingerprint: Effect.Effect<Fingerprint> = Effect.forEach(
  Object.entries(views),
  ([name, command]) =>
    Effect.map(
      Effect.orElseSucceed(Host.run(command), () => ""),
      // Counters and lifetimes move by themselves.
      (text) => [name, text.replaceAll(/expires \d+sec|packets \d+ bytes \d+/g, "")] as const
    )
).pipe(Effect.map(Object.fromEntries))

/** Everything that is still there of this lab, in words; empty when it is clean. */
export const leftovers = (before: Fingerprint): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(fingerprint, (after) => [
    ...Object.keys(views).filter((name) => before[name] !== after[name]).map((name) => `the machine's ${name} changed`),
    ...namespaces().map((name) => `network namespace ${name}`),
    ...processes().map((name) => `process ${name}`),
    ...(fs.existsSync(folder) ? [`folder ${folder}`] : [])
  ])

const folder = folderOf(false)

const namespaces = (): ReadonlyArray<string> =>
  (fs.existsSync("/run/netns") ? fs.readdirSync("/run/netns") : []).filter((name) => name.startsWith(`${prefix}-`))

/** Processes whose environment or command line speaks of the folder of the lab, besides this one. */
const processes = (): ReadonlyArray<string> =>
  fs.readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid).flatMap((pid) => {
    try {
      const command = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()
      const environment = fs.readFileSync(`/proc/${pid}/environ`, "utf8")
      return command !== "" && (command + environment).includes(folder) ? [`${pid} (${command.slice(0, 80)})`] : []
    } catch {
      // It ended while we looked.
      return []
    }
  })
