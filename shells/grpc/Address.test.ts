import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Address from "./Address.ts"
import * as GrpcError from "./Error.ts"

const target = (text: string): string =>
  Result.match(Address.parse(text), { onFailure: String, onSuccess: Address.toTarget })

describe("Address", () => {
  it("reads every form that the originals' settings have", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["unix:///var/lib/nsm.sock", "unix:/var/lib/nsm.sock"],
      ["unix:/var/lib/nsm.sock", "unix:/var/lib/nsm.sock"],
      ["tcp://nsp-service-t.red:7778", "nsp-service-t.red:7778"],
      ["nsp-service-t.red:7778", "nsp-service-t.red:7778"],
      ["tcp://[::]:7778", "[::]:7778"],
      ["tcp://[fd00::1]:7778/", "[fd00::1]:7778"],
      [":7778", "[::]:7778"],
      ["127.0.0.1:0", "127.0.0.1:0"]
    ]
    for (const [text, expected] of cases) assert.strictEqual(target(text), expected)
  })

  it("refuses what has no path or no port", () => {
    for (const text of ["", "unix:", "nsp-service", "tcp://host", "host:70000", "http://host:80", "fd00::1:7778"]) {
      assert.isTrue(Result.isFailure(Address.parse(text)), text)
    }
  })

  it.prop(
    "reads back what it writes",
    { host: Schema.Literals(["h", "10.0.0.1", "fd00::1"]), port: Schema.Port },
    (tcp) => {
      const written = Address.toTarget({ _tag: "Tcp", ...tcp })
      return target(written) === written
    }
  )
})

describe("GrpcError", () => {
  it("names codes as the specification does", () => {
    assert.deepStrictEqual([3, 5, 9, 14, 42].map(GrpcError.name), [
      "INVALID_ARGUMENT",
      "NOT_FOUND",
      "FAILED_PRECONDITION",
      "UNAVAILABLE",
      "CODE_42"
    ])
  })

  it("gives machines a small reason for every code", () => {
    const tags = Object.values(GrpcError.Code).map((code) =>
      GrpcError.reason(new GrpcError.GrpcError({ code, details: "" }))._tag
    )
    assert.deepStrictEqual(tags, [
      "Timeout",
      "Other",
      "Other",
      "Timeout",
      "NotFound",
      "Conflict",
      "Denied",
      "Other",
      "Conflict",
      "Conflict",
      "Other",
      "Other",
      "Other",
      "Unavailable",
      "Other",
      "Denied"
    ])
  })
})
