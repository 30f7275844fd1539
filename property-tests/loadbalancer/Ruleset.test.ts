import { assert, describe, it } from "@effect/vitest"
import { Ruleset } from "../../core/loadbalancer/index.ts"
import * as Specimen from "./Specimen.ts"

describe("The rules of a load balancer", () => {
  it.prop(
    "24: compare marks in full, and keep checksums right in each protocol and family",
    { rules: Specimen.rulesets },
    ({ rules }) => {
      const lines = Ruleset.script(undefined, rules).split("\n").map((line) => line.trim())
      for (const line of lines) {
        for (const [, after = ""] of line.matchAll(/meta mark(?! :) ([^ ]+ ?[^ ]*)/g)) {
          assert.match(after, /^(set |map @|@|0xffffffff)/, line)
        }
        // Ports are written by the name of their protocol, so that the kernel mends the checksum that belongs to it.
        const [, protocol = "", written] = /^(.*)(?:dport|sport|@th,(?:0|16),16) set .* map @(?:un)?nat/.exec(line) ??
          []
        if (written === undefined && protocol === "") continue
        assert.match(protocol, /^(tcp |sctp |udp |udp checksum != 0 udp |udp checksum 0 )$/, line)
        if (/@nat4-udp|@unnat4-udp/.test(line)) assert.match(line, /^udp checksum (!= )?0 /)
        if (/@th/.test(protocol)) assert.match(line, /^udp checksum 0 /)
      }
    }
  )
})
