/** What tests of the kernel share: a namespace of their own, a shell in it, and rules. */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import * as Namespace from "./Namespace.ts"
import * as Netlink from "./Netlink.ts"

let counter = 0

/** A namespace and the service for it. */
export const world = Effect.gen(function*() {
  const path = yield* Namespace.scoped(`sl-nl-${process.pid}-${counter++}`)
  const netlink = yield* Netlink.make(path)
  return { path, ...netlink }
})

/** Runs the command in the namespace; the result is what it prints. */
export const sh = (path: string, command: string): string =>
  execFileSync("nsenter", [`--net=${path}`, "sh", "-ec", command], { encoding: "utf8", stdio: "pipe" })

export const rule = (from: string | undefined, more: Partial<Kernel.Rule> = {}): Kernel.Rule => ({
  family: from?.includes(":") ? "v6" : "v4",
  priority: 100,
  table: 1,
  ...from !== undefined && { from: Cidr.unsafe(from) },
  foreign: false,
  ...more
})
