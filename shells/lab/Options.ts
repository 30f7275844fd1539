/** The command line of `sluice lab`, and what the machine must have. */
import { Result } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import type { Arguments } from "../runtime/Tool.ts"

export const usage =
  `Usage: sluice lab [--config PATH] [--targets N] [--nodes N] [--gateway bird|frr] [--nsm-tls] [--keep]
       sluice lab --check [--report FILE] [...]

  --config   a YAML file, or a folder of them, with meridio.nordix.org/v1 or v1alpha1 objects
             (default: a dual-stack trench with two frontends)
  --targets  how many targets each trench has, 1 to 100 (default: 4)
  --nodes    how many nodes the targets are spread over, 1 to 16; each has a proxy per conduit (default: 2)
  --gateway  the router daemon outside, bird or frr (default: bird)
  --nsm-tls  gives each pod a SPIFFE identity: mutual TLS, tokens and descriptors as in a cluster (default: plain text)
  --check    runs the scenarios, prints a line for each and ends
  --report   writes their results to a file as JSON
  --keep     leaves the folder with logs and recordings behind

Exit code: 0 all checks hold, 1 one does not, 2 wrong usage, manifests or machine.`

export const options = {
  config: { type: "string" },
  targets: { type: "string", default: "4" },
  nodes: { type: "string", default: "2" },
  gateway: { type: "string", default: "bird" },
  "nsm-tls": { type: "boolean", default: false },
  check: { type: "boolean", default: false },
  report: { type: "string" },
  keep: { type: "boolean", default: false }
} as const

export interface Settings {
  readonly config?: string
  readonly targets: number
  readonly nodes: number
  readonly gateway: "bird" | "frr"
  readonly nsmTls: boolean
  readonly check: boolean
  readonly report?: string
  readonly keep: boolean
}

/** Reads the command line; the failure lists every mistake. */
export const read = (
  given: Arguments["options"],
  words: ReadonlyArray<string>
): Result.Result<Settings, ReadonlyArray<string>> => {
  const { config, gateway, report } = given
  const targets = Number(given["targets"])
  const nodes = Number(given["nodes"])
  const mistakes = [
    ...words.map((word) => `"${word}" is not an option; options begin with --, see sluice lab --help`),
    ...(isBetween(targets, 1, 100)
      ? []
      : [`--targets ${String(given["targets"])}: expected a whole number from 1 to 100`]),
    ...(isBetween(nodes, 1, 16) ? [] : [`--nodes ${String(given["nodes"])}: expected a whole number from 1 to 16`]),
    ...(isGateway(gateway) ? [] : [`--gateway ${String(gateway)}: expected bird or frr`]),
    ...(report !== undefined && given["check"] !== true ? ["--report: goes with --check, which makes the report"] : [])
  ]
  if (mistakes.length > 0 || !isGateway(gateway)) return Result.fail(mistakes)
  return Result.succeed({
    targets,
    nodes,
    gateway,
    nsmTls: given["nsm-tls"] === true,
    check: given["check"] === true,
    keep: given["keep"] === true,
    ...(typeof config === "string" ? { config } : {}),
    ...(typeof report === "string" ? { report } : {})
  })
}

const isBetween = (n: number, minimum: number, maximum: number): boolean =>
  Number.isInteger(n) && n >= minimum && n <= maximum

const isGateway = (text: unknown): text is "bird" | "frr" => text === "bird" || text === "frr"

// By Debian package.
const programs: Record<string, ReadonlyArray<string>> = {
  iproute2: ["ip"],
  nftables: ["nft"],
  bird2: ["bird", "birdc"],
  "iputils-ping": ["ping"],
  "util-linux": ["nsenter", "unshare"]
}

/** What the lab needs to know of the machine. */
export interface Machine {
  readonly isRoot: boolean
  readonly has: (program: string) => boolean
}

/** This machine. */
export const machine: Machine = {
  isRoot: process.getuid?.() === 0,
  has: (program) =>
    [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"].some((folder) =>
      fs.existsSync(path.join(folder, program))
    )
}

/** What the machine lacks to run a lab, in one sentence; undefined if it lacks nothing. */
export const missing = (gateway: "bird" | "frr", { has, isRoot }: Machine): string | undefined => {
  if (!isRoot) return "it makes network namespaces and has to be run as root"
  const wanted = gateway === "frr" ? { ...programs, frr: ["vtysh"] } : programs
  const lacking = Object.entries(wanted).filter(([, names]) => !names.every(has)).map(([name]) => name)
  return lacking.length === 0
    ? undefined
    : `programs are missing; install them: apt-get install ${lacking.join(" ")}`
}
