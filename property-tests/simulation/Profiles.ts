/** The kinds of life that trenches are put through: each with its size and its mix of faults, drawn from the seed. */
import * as Seed from "../../core/Seed.ts"
import { prefixOf, type Size } from "./Cluster.ts"
import type { Fault, Schedule } from "./Fault.ts"
import type * as Manifests from "./Manifests.ts"

export interface Profile {
  readonly summary: string
  readonly size: Size
  /** The faults of a run; equal draws give equal faults. */
  readonly schedule: (draw: Draw, size: Size) => Schedule
}

/** A uniform integer, both ends included. */
export type Draw = (low: number, high: number) => number

/** Everything has settled before the first fault. */
export const quietMs = 30_000

/**
 * How far a clock goes wrong. Registrations carry the absolute time of their end by the clock of the manager, and live for
 * a minute here, ten in life: an endpoint whose clock is half a life behind renews too late, as in NSM.
 */
const leapMs = 12_000

const small: Size = { nodes: 2, targets: 4, frontends: 2, gateways: 1, streams: 2, maxTargets: 10 }

/** Times and faults: as many as drawn, spread over the span. */
const spread = (draw: Draw, count: number, spanMs: number, fault: () => Fault): Schedule =>
  Array.from({ length: count }, () => ({ at: quietMs + draw(0, spanMs), fault: fault() }))
    .toSorted((a, b) => a.at - b.at)

const pick = <A>(draw: Draw, items: readonly [A, ...ReadonlyArray<A>]): A =>
  items[draw(0, items.length - 1)] ?? items[0]

const indexed = (name: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => `${name}-${n}`)

const processes = (size: Size): readonly [string, ...ReadonlyArray<string>] => [
  "nsp",
  "ipam",
  "nsmgr",
  ...indexed("proxy", size.nodes),
  ...indexed("lb", size.frontends),
  ...indexed("fe", size.frontends),
  ...indexed("target", size.targets),
  ...indexed("gateway", size.gateways),
  ...Array.from({ length: countOf(size) - 1 }, (_, n) => prefixOf(n + 1)).flatMap((prefix) => [
    `${prefix}nsp`,
    `${prefix}ipam`,
    ...indexed(`${prefix}proxy`, size.nodes),
    ...indexed(`${prefix}lb`, size.frontends),
    ...indexed(`${prefix}fe`, size.frontends),
    ...indexed(`${prefix}gateway`, size.gateways)
  ])
]

const countOf = ({ trenches = 1 }: Size): number => trenches

/** One of the trenches; where there is one nothing is drawn. */
const trenchIn = (draw: Draw, size: Size): number => countOf(size) === 1 ? 0 : draw(0, countOf(size) - 1)

/** The first trench goes without saying. */
const said = (trench: number): { readonly trench?: number } => trench === 0 ? {} : { trench }

/** Two processes that talk to each other. */
const channel = (draw: Draw, size: Size): readonly [string, string] => {
  const of = prefixOf(trenchIn(draw, size))
  const target = `target-${draw(0, size.targets - 1)}`
  const [nsp, ipam, proxy] = [`${of}nsp`, `${of}ipam`, `${of}proxy-${draw(0, size.nodes - 1)}`]
  const n = draw(0, size.frontends - 1)
  const [balancer, frontend] = [`${of}lb-${n}`, `${of}fe-${n}`]
  return pick<readonly [string, string]>(draw, [
    [target, nsp],
    [target, "nsmgr"],
    [proxy, nsp],
    [proxy, ipam],
    [proxy, "nsmgr"],
    [balancer, nsp],
    [balancer, "nsmgr"],
    [frontend, nsp],
    [frontend, `${of}gateway-${draw(0, size.gateways - 1)}`],
    [ipam, nsp]
  ])
}

const application = (draw: Draw, size: Size): Fault => ({
  _tag: draw(0, 1) === 0 ? "Open" : "Close",
  target: draw(0, size.targets - 1),
  stream: draw(0, size.streams - 1),
  ...said(trenchIn(draw, size))
})

const replaceable = (draw: Draw, size: Size): string => {
  const kind = draw(0, 3)
  if (kind > 1) return `target-${draw(0, size.targets - 1)}`
  const of = prefixOf(trenchIn(draw, size))
  return kind === 0 ? `${of}proxy-${draw(0, size.nodes - 1)}` : `${of}fe-${draw(0, size.frontends - 1)}`
}

/** A change of the configuration; what is taken away may come back. */
const operator = (draw: Draw, size: Size): Fault => {
  const [which, present] = [draw(0, 12), draw(0, 2) > 0]
  const trench = said(trenchIn(draw, size))
  const set = (kind: Manifests.Kind, n: number, isThere = present): Fault => ({
    _tag: "Set",
    kind,
    n,
    present: isThere,
    ...trench
  })
  switch (which) {
    case 0:
    case 1:
      return set("stream", draw(1, size.streams))
    case 2:
    case 3:
      return set("vip", draw(2, 4))
    case 4:
      return set("attracted", draw(1, 3))
    case 5:
      return set("flow", draw(0, size.streams - 1))
    case 6:
      return set("second-flow", draw(0, size.streams - 1))
    case 7:
      return set("gateway", draw(0, size.gateways - 1))
    case 8:
      return set("static", 0)
    case 9:
      return set("bad", 0)
    case 10:
      return set("attractor", 0)
    case 11:
      return set("port-nat", 0)
    default:
      return { _tag: "Resize", stream: draw(0, size.streams - 1), maxTargets: draw(1, 12), ...trench }
  }
}

const anything = (draw: Draw, size: Size): Fault => {
  const [a, b] = channel(draw, size)
  const process = pick(draw, processes(size))
  switch (draw(0, 7)) {
    case 0:
      return { _tag: "Part", a, b, forMs: draw(500, 80_000) }
    case 1:
      return { _tag: "Cut", a, b }
    case 2:
      return operator(draw, size)
    case 3:
      return { _tag: "Jump", process, byMs: draw(-leapMs, leapMs) }
    case 4:
      return { _tag: "Restart", process, pauseMs: draw(200, 5_000) }
    case 5:
      return application(draw, size)
    case 6:
      return { _tag: "Replace", process: replaceable(draw, size), pauseMs: draw(200, 20_000) }
    default:
      return { _tag: "Crash", process, downMs: draw(100, 30_000) }
  }
}

/**
 * The conduit disappears from the configuration while streams are open, in half of the lives, and mostly comes back. Its
 * pods stay: Meridio's operator ends them with it, and this one has no hands.
 */
const absence = (draw: Draw, size: Size): Schedule => {
  const at = quietMs + draw(0, 120_000)
  const conduit = { _tag: "Set", kind: "conduit", n: 0, ...said(trenchIn(draw, size)) } as const
  const [isGone, returns, afterMs] = [draw(0, 1) === 0, draw(0, 4) > 0, draw(200, 60_000)]
  return [
    ...isGone ? [{ at, fault: { ...conduit, present: false } }] : [],
    ...isGone && returns ? [{ at: at + afterMs, fault: { ...conduit, present: true } }] : []
  ]
}

/** The machine of a process fails while there is something to do: VIPs come and go, the process begins anew. */
const trouble = (draw: Draw, size: Size): Schedule => {
  const trench = trenchIn(draw, size)
  const of = prefixOf(trench)
  const [node, pod] = [draw(0, size.nodes - 1), draw(0, size.frontends - 1)]
  const process = pick(draw, [`${of}ipam`, `${of}proxy-${node}`, `${of}lb-${pod}`, `${of}fe-${pod}`])
  const [at, forMs] = [quietMs + draw(0, 150_000), draw(500, 10_000)]
  const within = (): number => at + draw(0, forMs)
  const vip = (): Fault => ({ _tag: "Set", kind: "vip", n: draw(2, 4), present: draw(0, 1) > 0, ...said(trench) })
  return [
    { at, fault: { _tag: "Break", process, forMs } },
    { at: within(), fault: vip() },
    draw(0, 1) === 0
      ? { at: within(), fault: vip() }
      : { at: within(), fault: { _tag: "Restart", process, pauseMs: draw(50, 500) } }
  ]
}

const together = (...schedules: ReadonlyArray<Schedule>): Schedule => schedules.flat().toSorted((a, b) => a.at - b.at)

export const profiles = {
  calm: {
    summary: "nothing happens but applications that open and close streams",
    size: small,
    schedule: (draw, size) => spread(draw, draw(0, 6), 60_000, () => application(draw, size))
  },
  upgrade: {
    summary: "every process is restarted, or its pod replaced, one after another",
    size: small,
    schedule: (draw, size) => {
      let at = quietMs
      return processes(size).map((process) => {
        at += draw(2_000, 12_000)
        const pauseMs = draw(200, 5_000)
        const _tag = /^(t\d+-)?(target|proxy|fe)-/.test(process) && draw(0, 1) === 0 ? "Replace" : "Restart"
        return { at, fault: { _tag, process, pauseMs } as const }
      })
    }
  },
  flaky: {
    summary: "connections break, messages are slow, partitions come and go",
    size: small,
    schedule: (draw, size) =>
      spread(draw, draw(4, 14), 120_000, () => {
        const [a, b] = channel(draw, size)
        const kind = draw(0, 9)
        if (kind < 4) return { _tag: "Cut", a, b }
        if (kind < 8) return { _tag: "Part", a, b, forMs: draw(500, 80_000) }
        if (kind < 9) return { _tag: "Slow", forMs: draw(5_000, 40_000), lowMs: 50, highMs: draw(100, 1_500) }
        return application(draw, size)
      })
  },
  crashes: {
    summary: "processes die without a word, several at a time",
    size: small,
    schedule: (draw, size) =>
      spread(draw, draw(4, 14), 120_000, () => ({
        _tag: "Crash",
        process: pick(draw, processes(size)),
        downMs: draw(100, 40_000)
      }))
  },
  churn: {
    summary: "objects of the configuration come, go and change while applications open and close",
    size: small,
    schedule: (draw, size) =>
      together(
        spread(draw, draw(6, 24), 120_000, () => draw(0, 2) === 0 ? application(draw, size) : operator(draw, size)),
        absence(draw, size)
      )
  },
  storm: {
    summary: "everything at once: crashes, partitions, churn and leaps of the clock",
    size: { ...small, targets: 6, gateways: 2 },
    schedule: (draw, size) =>
      together(
        spread(draw, draw(6, 24), 150_000, () => anything(draw, size)),
        absence(draw, size),
        trouble(draw, size)
      )
  },
  trenches: {
    summary: "two trenches over the same nodes: targets go from one to the other while anything happens to either",
    size: { ...small, trenches: 2 },
    schedule: (draw, size) =>
      together(
        spread(
          draw,
          draw(6, 20),
          150_000,
          () => draw(0, 1) === 0 ? application(draw, size) : anything(draw, size)
        ),
        absence(draw, size),
        trouble(draw, size)
      )
  },
  scale: {
    summary: "50 nodes, 10 frontends, 100 streams, 1000 targets; a few crashes",
    size: { nodes: 50, targets: 1_000, frontends: 10, gateways: 2, streams: 100, maxTargets: 20 },
    schedule: (draw, size) =>
      spread(draw, 4, 60_000, () => ({
        _tag: "Crash",
        process: pick(draw, processes(size)),
        downMs: draw(100, 10_000)
      }))
  }
} as const satisfies { readonly [name: string]: Profile }

export type Name = keyof typeof profiles

export const isName = (text: string): text is Name => Object.hasOwn(profiles, text)

/** The schedule of a run: drawn from a generator of its own, so that the world's draws do not depend on it. */
export const schedule = (profile: Profile, seed: Seed.Seed, size: Size = profile.size): Schedule => {
  let state = (seed ^ 0x5bd1_e995) >>> 0
  return profile.schedule((low, high) => {
    const [value, after] = Seed.between(state, low, high)
    state = after
    return value
  }, size)
}
