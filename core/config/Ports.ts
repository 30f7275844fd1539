/** The text of port ranges: `3000`, `3000-4000` or `any`. Source: Meridio `api/v1/types.go`. */
import { Result } from "effect"
import { anyPort, type PortRange } from "./Model.ts"

/** Parses a range. */
export const parse = (text: string): Result.Result<PortRange, string> => {
  if (text === "any") return Result.succeed(anyPort)
  const [, first = "", last] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? []
  const from = Number(first)
  const to = last === undefined ? from : Number(last)
  return first !== "" && from <= to && to <= 65_535 ? Result.succeed({ from, to }) : Result.fail(
    `"${text}" is not a port (3000), a range of ports (3000-4000) between 0 and 65535, or any`
  )
}

/** The text on the wire: `any` has become `0-65535`. */
export const format = ({ from, to }: PortRange): string => (from === to ? `${from}` : `${from}-${to}`)

/** Whether the two share a port. */
export const overlaps = (a: PortRange, b: PortRange): boolean => a.from <= b.to && b.from <= a.to
