/** SPIFFE ids, `spiffe://trust-domain/path`: who a workload is. Source: SPIFFE-ID standard, section 2. */
import { Result } from "effect"

/** An id in its parts. The path starts with a slash, or is empty for the trust domain itself. */
export interface SpiffeId {
  readonly text: string
  readonly trustDomain: string
  readonly path: string
}

/** Reads an id; the failure tells what is expected. */
export const parse = (text: string): Result.Result<SpiffeId, string> => {
  const found = form.exec(text)?.groups
  const isDotted = found?.["path"]?.split("/").some((part) => part === "." || part === "..") === true
  return found === undefined || isDotted || text.length > 2048
    ? Result.fail(`"${text}" is not a SPIFFE id; it has the form spiffe://trust.domain/path`)
    : Result.succeed({ text, trustDomain: found["domain"] ?? "", path: found["path"] ?? "" })
}

const form = /^spiffe:\/\/(?<domain>[a-z0-9._-]{1,255})(?<path>(?:\/[a-zA-Z0-9._-]+)*)$/
