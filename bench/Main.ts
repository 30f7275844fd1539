/** `npm run bench -- NAME [--json FILE]`: runs one benchmark and prints its rows. */
import { Effect } from "effect"
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import type { Bench, Row } from "./Bench.ts"

/** The benchmarks by name; loading one loads no other. */
const benches: Record<string, () => Promise<Bench>> = {
  dataplane: async () => (await import("./Dataplane.ts")).bench,
  failover: async () => (await import("./Failover.ts")).bench,
  nsm: async () => (await import("./Nsm.ts")).bench,
  ipam: async () => (await import("./Ipam.ts")).bench,
  nsp: async () => (await import("./Nsp.ts")).bench,
  proxy: async () => (await import("./Proxy.ts")).bench,
  runner: async () => (await import("./Runner.ts")).bench,
  simulate: async () => (await import("./Simulate.ts")).bench,
  tapa: async () => (await import("./Tapa.ts")).bench
}

const usage = `usage: npm run bench -- NAME [--json FILE]\nNAME is one of: ${Object.keys(benches).join(", ")}\n`

const format = (value: number): string => value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3)

const print = (rows: ReadonlyArray<Row>): void => {
  const table = rows.map(({ metric, unit, value, ratio }) => [metric, format(value), unit, `${ratio.toFixed(2)}x`])
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  for (const row of table) {
    process.stdout.write(
      row.map((cell, column) => column === 1 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd() + "\n"
    )
  }
}

const main = async (): Promise<number> => {
  const { positionals: [name], values } = parseArgs({ options: { json: { type: "string" } }, allowPositionals: true })
  const load = name === undefined ? undefined : benches[name]
  if (load === undefined) {
    process.stderr.write(name === undefined ? usage : `there is no benchmark "${name}"\n${usage}`)
    return 2
  }
  const rows = await Effect.runPromise((await load()).rows)
  print(rows)
  if (values.json !== undefined) fs.writeFileSync(values.json, JSON.stringify(rows, undefined, 2) + "\n")
  return 0
}

main().then(
  (code) => {
    process.exitCode = code
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}`)
    process.exitCode = 2
  }
)
