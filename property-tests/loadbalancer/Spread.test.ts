import { assert, describe, it } from "@effect/vitest"
import { Maglev } from "../../core/loadbalancer/index.ts"
import { Ip } from "../../core/net/index.ts"
import * as Kernel from "./Kernel.ts"

const everyone = Array.from({ length: 100 }, (_, n) => n + 1)

const stream = (identifiers: ReadonlyArray<number>) => ({
  name: "s",
  maxTargets: 100,
  slots: Maglev.size(100),
  offset: 5_000,
  identifiers
})

// 10 000 clients, each with ten connections in a row.
const flows: ReadonlyArray<Kernel.Flow> = Array.from({ length: 100_000 }, (_, n) => {
  const client = Math.floor(n / 10)
  return {
    source: Ip.unsafe(client % 2 === 0 ? `198.51.${client >> 8}.${client & 255}` : `2001:db8::${client.toString(16)}`),
    destination: Ip.unsafe(client % 2 === 0 ? "20.0.0.1" : "2000::1"),
    protocol: client % 3 === 0 ? 17 : 6,
    sourcePort: 32_768 + (client * 7) % 20_000 + n % 10,
    destinationPort: 4_000
  }
})

describe("100 000 flows", () => {
  it("are spread over 100 targets so that none gets more than 1.10 times its share", () => {
    const counts = new Map<number, number>()
    const choose = Kernel.chooser(stream(everyone))
    for (const target of flows.map(choose)) counts.set(target, (counts.get(target) ?? 0) + 1)
    assert.sameMembers([...counts.keys()], everyone)
    assert.isAtMost(Math.max(...counts.values()), 1.1 * flows.length / everyone.length)
  })

  it("stay where they are when one of 100 targets leaves, but for its own, at most 1.3 % of all", () => {
    const [before, after] = [everyone, everyone.filter((each) => each !== 42)].map((all) => Kernel.chooser(stream(all)))
    const moved = flows.filter((flow) => before?.(flow) !== after?.(flow))
    assert.isTrue(moved.every((flow) => before?.(flow) === 42))
    assert.isAbove(moved.length, 0.005 * flows.length)
    assert.isAtMost(moved.length, 1.3 * flows.length / everyone.length)
  })
})
