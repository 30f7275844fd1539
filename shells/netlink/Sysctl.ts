/**
 * Kernel parameters of a network namespace, read and written below `/proc/sys`.
 *
 * Names are written with slashes, `net/ipv4/conf/eth0.1/rp_filter`, because the names of links may contain dots.
 */
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as Inside from "./Inside.ts"

/** A parameter that does not exist, or a value the kernel refuses. */
export class SysctlError extends Schema.TaggedError<SysctlError>()("SysctlError", {
  name: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `sysctl ${this.name}: ${this.detail}`
  }
}

/** Reads a parameter, without the final line break; in the namespace at the path, or in that of this process. */
export const read = (name: string, namespace?: string): Effect.Effect<string, SysctlError> =>
  within(name, namespace, () => fs.readFileSync(path(name), "utf8").trimEnd())

/** Writes a parameter; in the namespace at the path, or in that of this process. */
export const write = (name: string, value: string, namespace?: string): Effect.Effect<void, SysctlError> =>
  within(name, namespace, () => fs.writeFileSync(path(name), value, { flag: "r+" }))

const path = (name: string): string => `/proc/sys/${name}`

// The kernel looks at the namespace of the thread that opens the file, so opening must be synchronous.
const within = <A>(name: string, namespace: string | undefined, f: () => A): Effect.Effect<A, SysctlError> =>
  Effect.try({
    try: () => namespace === undefined ? f() : Inside.run(namespace, f),
    catch: (thrown) => new SysctlError({ name, detail: thrown instanceof Error ? thrown.message : String(thrown) })
  })
