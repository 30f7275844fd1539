/**
 * Where a gRPC server listens and a client connects: `unix:///path`, `unix:/path`, `tcp://host:port`, `host:port`,
 * `:port`. The forms are those that the originals accept in their settings.
 */
import { Result } from "effect"

/** A parsed address. */
export type Address =
  | { readonly _tag: "Unix"; readonly path: string }
  | { readonly _tag: "Tcp"; readonly host: string; readonly port: number }

const hostPort = /^(?:\[(?<v6>[^\]]*)\]|(?<host>[^:/]*)):(?<port>\d{1,5})$/

/** Parses an address; the failure names what was expected. */
export const parse = (text: string): Result.Result<Address, string> => {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length).replace(/^\/\/(?=\/)/, "")
    return path.length > 0
      ? Result.succeed({ _tag: "Unix", path })
      : Result.fail(`"${text}" has no path; write unix:///path/of.sock`)
  }
  const found = hostPort.exec(text.replace(/^tcp:(\/\/)?/, "").replace(/\/$/, ""))?.groups
  const port = Number(found?.["port"])
  return found === undefined || port > 65535
    ? Result.fail(`"${text}" is not an address; write unix:///path/of.sock or tcp://host:port`)
    : Result.succeed({ _tag: "Tcp", host: found["v6"] ?? found["host"] ?? "", port })
}

/** The text that grpc-js wants: the wildcard host becomes `[::]`, which listens on both families. */
export const toTarget = (address: Address): string => {
  if (address._tag === "Unix") return `unix:${address.path}`
  const host = address.host === "" ? "::" : address.host
  return `${host.includes(":") ? `[${host}]` : host}:${address.port}`
}
