import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as ByteMatches from "./ByteMatches.ts"
import { ByteMatch, PortRange } from "./Model.ts"
import * as Ports from "./Ports.ts"

describe("the texts of flows", () => {
  it.prop("a port range survives the way through its text", [PortRange], ([{ from, to }]) => {
    const range = from <= to ? { from, to } : { from: to, to: from }
    assert.deepStrictEqual(Ports.parse(Ports.format(range)), Result.succeed(range))
  })

  it.prop("a byte match that fits survives the way through its text", [ByteMatch], ([match]) => {
    const parsed = ByteMatches.parse(ByteMatches.format(match))
    if (Result.isSuccess(parsed)) assert.deepStrictEqual(parsed.success, match)
    else assert.match(parsed.failure, /beyond|hold/)
  })

  it.each([
    ["sctp[0 : 2] & 0xff = 0x10", { protocol: "sctp", offset: 0, length: 2, mask: 255, value: 16 }],
    ["udp[4:4]=010", { protocol: "udp", offset: 4, length: 4, value: 8 }]
  ])("reads %s", (text, expected) => assert.deepStrictEqual<unknown>(ByteMatches.parse(text), Result.succeed(expected)))

  it.each(["tcp[1:1]", "tcp [1:1] = 1", "icmp[1:1] = 1", "tcp[1:1] & 255 = 1", "tcp[1:1] = 0XA", "tcp[1:1] = 08"])(
    "refuses %s",
    (text) => assert.isTrue(Result.isFailure(ByteMatches.parse(text)))
  )
})
