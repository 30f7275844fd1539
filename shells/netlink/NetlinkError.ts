/**
 * What the kernel refused, in words.
 */
import { Schema } from "effect"
import { getSystemErrorMap, getSystemErrorMessage } from "node:util"

/** A request the kernel answered with an errno. */
export class NetlinkError extends Schema.TaggedError<NetlinkError>()("NetlinkError", {
  /** What was asked, for example `AddAddress 10.0.0.1/24 to eth0`. */
  request: Schema.String,
  /** The name of the errno, `ENODEV`; `EPROTO` when the answer itself could not be read. */
  code: Schema.String,
  /** Explanation for people. */
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.request}: ${this.detail} (${this.code})`
  }
}

/** The error of a positive errno; the reason is the kernel's own. */
export const fromErrno = (request: string, errno: number, reason?: string): NetlinkError =>
  new NetlinkError({
    request,
    code: getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`,
    detail: getSystemErrorMessage(-errno) + (reason === undefined ? "" : `: ${reason}`)
  })

/** The error of something thrown by a system call of Node or of the addon. */
export const fromThrown = (request: string, thrown: unknown): NetlinkError =>
  new NetlinkError({
    request,
    code: thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "EPROTO",
    detail: thrown instanceof Error ? thrown.message : String(thrown)
  })
