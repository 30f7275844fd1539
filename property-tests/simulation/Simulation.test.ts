import { assert, describe, it } from "@effect/vitest"
import * as Coverage from "./Coverage.ts"
import * as Fault from "./Fault.ts"
import { mutants } from "./Mutants.ts"
import * as Profiles from "./Profiles.ts"
import * as Shrink from "./Shrink.ts"
import * as Simulation from "./Simulation.ts"
import * as Trace from "./Trace.ts"

const everyday = ["calm", "upgrade", "flaky", "crashes", "churn", "storm", "trenches"] as const
/** Nightly runs find what is rare; a fresh seed for each run of the tests finds what a change has broken. */
const fresh = Math.floor(Math.random() * 1_000_000)

/** Lives that found a defect, with the faults that mattered: a seed draws others when profiles change. */
const regressions: ReadonlyArray<
  { readonly was: string; readonly profile: Profiles.Name; readonly seed: number; readonly schedule: Fault.Schedule }
> = [
  {
    was: "bound a target that had restarted to a proxy that was replaced",
    profile: "storm",
    seed: 5_006,
    schedule: [
      { at: 93_699, fault: { _tag: "Crash", process: "target-5", downMs: 2_072 } },
      { at: 147_848, fault: { _tag: "Replace", process: "proxy-1", pauseMs: 16_309 } }
    ]
  },
  {
    was: "bound a target to the second proxy after the first, and lost it with the third",
    profile: "storm",
    seed: 3_000_385,
    schedule: [
      { at: 43_843, fault: { _tag: "Replace", process: "proxy-1", pauseMs: 19_904 } },
      { at: 56_679, fault: { _tag: "Set", kind: "vip", n: 4, present: true } },
      { at: 161_751, fault: { _tag: "Replace", process: "proxy-1", pauseMs: 3_447 } }
    ]
  },
  {
    was: "kept a target from healing because it asked again and again",
    profile: "storm",
    seed: 1_000_029,
    schedule: [
      { at: 111_006, fault: { _tag: "Crash", process: "nsp", downMs: 11_723 } },
      { at: 118_248, fault: { _tag: "Set", kind: "vip", n: 4, present: true } },
      { at: 122_024, fault: { _tag: "Part", a: "target-3", b: "nsp", forMs: 48_415 } },
      { at: 130_380, fault: { _tag: "Restart", process: "proxy-1", pauseMs: 4_297 } },
      { at: 142_828, fault: { _tag: "Crash", process: "ipam", downMs: 28_376 } },
      { at: 162_316, fault: { _tag: "Replace", process: "proxy-1", pauseMs: 19_735 } }
    ]
  },
  {
    was: "gave the addresses of a link away that the manager had not taken down yet",
    profile: "storm",
    seed: 7_001_655,
    schedule: [
      { at: 51_261, fault: { _tag: "Part", a: "lb-0", b: "nsmgr", forMs: 76_528 } },
      { at: 80_052, fault: { _tag: "Crash", process: "nsmgr", downMs: 13_909 } },
      { at: 89_028, fault: { _tag: "Restart", process: "proxy-0", pauseMs: 4_446 } }
    ]
  },
  {
    was: "gave an address away that its next holder had, as the release of the one before came late",
    profile: "storm",
    seed: 7_001_313,
    schedule: [
      { at: 142_521, fault: { _tag: "Part", a: "proxy-0", b: "nsmgr", forMs: 44_807 } },
      { at: 167_440, fault: { _tag: "Part", a: "proxy-0", b: "ipam", forMs: 45_580 } },
      { at: 177_686, fault: { _tag: "Replace", process: "proxy-0", pauseMs: 7_525 } }
    ]
  },
  {
    was: "gave the addresses of a conduit that came back to others",
    profile: "churn",
    seed: 9_200_000,
    schedule: [
      { at: 56_147, fault: { _tag: "Set", kind: "conduit", n: 0, present: false } },
      { at: 77_328, fault: { _tag: "Set", kind: "conduit", n: 0, present: true } }
    ]
  },
  {
    was: "let targets of a conduit that was gone wait for an address",
    profile: "churn",
    seed: 9_200_050,
    schedule: [
      { at: 33_794, fault: { _tag: "Set", kind: "conduit", n: 0, present: false } },
      { at: 146_973, fault: { _tag: "Close", target: 1, stream: 1 } },
      { at: 148_831, fault: { _tag: "Open", target: 1, stream: 0 } }
    ]
  },
  {
    was: "woke a load balancer without end that could neither serve nor change its rules",
    profile: "storm",
    seed: 20_003_525,
    schedule: [
      { at: 35_097, fault: { _tag: "Crash", process: "gateway-0", downMs: 24_804 } },
      { at: 43_489, fault: { _tag: "Set", kind: "gateway", n: 1, present: false } },
      { at: 60_909, fault: { _tag: "Break", process: "lb-0", forMs: 5_828 } }
    ]
  },
  {
    was: "left VIPs off a connection, as an update that was given up came through later",
    profile: "storm",
    seed: 10_000_119,
    schedule: [
      { at: 90_998, fault: { _tag: "Part", a: "target-0", b: "nsmgr", forMs: 42_652 } },
      { at: 101_684, fault: { _tag: "Set", kind: "conduit", n: 0, present: false } },
      { at: 118_922, fault: { _tag: "Set", kind: "conduit", n: 0, present: true } }
    ]
  },
  {
    was: "left VIPs off a connection that healed with an update that was given up",
    profile: "storm",
    seed: 9_500_010,
    schedule: [
      { at: 61_806, fault: { _tag: "Part", a: "target-4", b: "nsmgr", forMs: 58_316 } },
      { at: 99_424, fault: { _tag: "Set", kind: "conduit", n: 0, present: false } },
      { at: 114_570, fault: { _tag: "Set", kind: "conduit", n: 0, present: true } }
    ]
  }
]

const report = ({ schedule, seed, violations }: Simulation.Outcome): string =>
  [
    `seed ${seed}`,
    ...violations.map(({ at, detail, property }) => `${at} ms: ${property}: ${detail}`),
    ...schedule.map(Fault.describe)
  ].join("\n")

describe("A simulated trench", () => {
  it.each(["storm", "trenches"] as const)("lives the same life from the same seed, byte for byte, in %s", (name) => {
    const [first = "", second] = [1, 2].map(() => {
      const { journal } = Simulation.run({ profile: Profiles.profiles[name], seed: 7, trace: true })
      return journal === undefined ? "" : Trace.ndjson(journal)
    })
    assert.isAbove(first.length, 100_000)
    assert.isTrue(first === second)
  })

  for (const name of everyday) {
    const seeds = [1, 2, 3, fresh]
    it(`keeps every promise in the profile ${name} with the seeds ${seeds.join(", ")}`, () => {
      const coverage: Coverage.Coverage = new Map()
      for (const seed of seeds) {
        const outcome = Simulation.run({ profile: Profiles.profiles[name], seed, coverage })
        assert.strictEqual(outcome.violations.length, 0, report(outcome))
        assert.isAbove(outcome.steps, 1_000)
      }
      // What is said to be out of reach is in no life; all of it are rows.
      assert.includeMembers([...Coverage.missing(coverage)], Object.keys(Coverage.beyond))
    }, 120_000)
  }

  it.each(mutants)("notices that $mistake", ({ caughtBy, machines, profile, schedule, within }) => {
    const seen = new Set<string>()
    for (let seed = 1; seed <= within && !seen.has(caughtBy); seed++) {
      const { violations } = Simulation.run({
        profile: Profiles.profiles[profile],
        seed,
        machines,
        ...schedule === undefined ? {} : { schedule }
      })
      for (const { property } of violations) seen.add(property)
    }
    assert.include([...seen], caughtBy)
    if (schedule === undefined) return
    const right = Simulation.run({ profile: Profiles.profiles[profile], seed: 1, schedule })
    assert.strictEqual(right.violations.length, 0, report(right))
  })

  it.each(regressions)("survives what once $was", ({ profile, schedule, seed }) => {
    const outcome = Simulation.run({ profile: Profiles.profiles[profile], seed, schedule })
    assert.strictEqual(outcome.violations.length, 0, report(outcome))
  })

  it("shows the smallest schedule that still fails", () => {
    const schedule = Array.from({ length: 24 }, (_, at): Fault.Schedule[number] => ({
      at,
      fault: { _tag: "Cut", a: "a", b: String(at) }
    }))
    const { schedule: smallest } = Shrink.shrink(
      schedule,
      (part) => [5, 17].every((at) => part.some((one) => one.at === at))
    )
    assert.deepStrictEqual(smallest.map(({ at }) => at), [5, 17])
  })
})
