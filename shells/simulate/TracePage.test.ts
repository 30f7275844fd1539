import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Profiles, Simulation } from "../../property-tests/simulation/index.ts"
import { mutants } from "../../property-tests/simulation/Mutants.ts"
import * as Chromium from "./Chromium.ts"
import * as TracePage from "./TracePage.ts"

const executable = Chromium.find()
/** No browser, no test; the name says so. */
const inBrowser = executable === undefined ? "in Chromium (left out: there is none on this machine)" : "in Chromium"

const Probe = Schema.Struct({
  drawn: Schema.Struct({
    lanes: Schema.Natural,
    steps: Schema.Natural,
    arrows: Schema.Natural,
    lost: Schema.Natural,
    faults: Schema.Natural,
    violations: Schema.Natural,
    labels: Schema.Natural
  }),
  drawMs: Schema.Finite,
  shown: Schema.Natural
})

/** Two frames on: what was asked for is drawn. */
const drawn = `new Promise((done) => {
  const look = () => document.documentElement.dataset.ready === undefined
    ? requestAnimationFrame(look)
    : requestAnimationFrame(() => requestAnimationFrame(() => done(JSON.parse(JSON.stringify(window.sluice)))))
  look()
})`
const decodeProbe = Schema.decodeUnknownSync(Probe)

/** Shares of the pixels of the lanes that are not the commonest colour, and how many colours there are. */
const ink = `(() => {
  const canvas = document.querySelector("#canvas")
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  const colors = new Map()
  const pixels = new Uint32Array(data.buffer)
  for (const pixel of pixels) colors.set(pixel, (colors.get(pixel) ?? 0) + 1)
  return { colors: colors.size, inked: 1 - Math.max(...colors.values()) / pixels.length }
})()`
const decodeInk = Schema.decodeUnknownSync(Schema.Struct({ colors: Schema.Natural, inked: Schema.Finite }))
const decodeText = Schema.decodeUnknownSync(Schema.String)

const withPage = <A, E>(html: string, use: (page: Chromium.Page) => Effect.Effect<A, E>) =>
  Effect.scoped(Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-trace-"))),
      (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true }))
    )
    const file = path.join(folder, "trace.html")
    fs.writeFileSync(file, html)
    const page = yield* Chromium.launch(executable ?? "")
    yield* page.resize(1440, 900)
    yield* page.open(`file://${file}`)
    yield* page.evaluate(drawn)
    const result = yield* use(page)
    assert.deepStrictEqual(page.complaints(), [])
    return result
  }))

const life = (profile: Profiles.Name, seed: number, machines: Simulation.Options["machines"] = {}) =>
  Simulation.run({ profile: Profiles.profiles[profile], seed, machines, trace: true })

const told = { title: "A life of a trench", command: "sluice simulate --seed 1" }

/** A life in which frontend 0 dies for three seconds. */
const crash = () =>
  Simulation.run({
    profile: Profiles.profiles.calm,
    seed: 1,
    schedule: [{ at: 40_000, fault: { _tag: "Crash", process: "fe-0", downMs: 3_000 } }],
    trace: true
  })

describe("The trace of a life", () => {
  it("has the sessions of gateways: up, down as BFD notices it, and what is announced over them", () => {
    const { entries, lanes } = TracePage.trace(told, crash())
    const gateway = lanes.findIndex(({ name }) => name === "gateway-0")
    const sessions = entries.flatMap((entry) =>
      entry.lane === gateway && (entry.kind === "up" || entry.kind === "down") && entry.text.startsWith("fe-0")
        ? [{ at: entry.at, kind: entry.kind, text: entry.text, cause: entries[entry.cause ?? -1]?.kind }]
        : []
    )
    assert.deepStrictEqual(sessions.slice(0, 4).map(({ kind, text }) => [kind, text]), [
      ["up", "fe-0: BGP over 169.254.100.150 up"],
      ["up", "fe-0: BGP over 100:100::96 up"],
      ["down", "fe-0: BGP over 169.254.100.150 down: BFD heard nothing for 1500 ms"],
      ["down", "fe-0: BGP over 100:100::96 down: BFD heard nothing for 1500 ms"]
    ])
    assert.strictEqual(sessions[2]?.at, 41_500)
    assert.strictEqual(sessions[2]?.cause, "ended")
    assert.deepStrictEqual(sessions.slice(4).map(({ kind }) => kind), ["up", "up"])
    assert.isTrue(
      entries.some((one) =>
        one.kind === "message" && one.to === gateway && one.name === "bgp.update"
        && one.arrivedAt !== undefined
      )
    )
  })
})

describe(`The page of a trace ${inBrowser}`, () => {
  it.effect.skipIf(executable === undefined)(
    "draws ten thousand entries at once and quickly",
    () =>
      Effect.gen(function*() {
        const outcome = life("storm", 5)
        const { entries, lanes } = TracePage.trace(told, outcome)
        assert.isAbove(entries.length, 10_000)
        yield* withPage(yield* Effect.promise(() => TracePage.html(told, outcome)), (page) =>
          Effect.gen(function*() {
            const look = Effect.map(page.evaluate(drawn), (value) => decodeProbe(value))
            const first = yield* look
            assert.strictEqual(first.shown, entries.length)
            assert.strictEqual(first.drawn.lanes, lanes.length)
            assert.isAbove(first.drawn.steps, 1_000)
            assert.isAbove(first.drawn.arrows, 500)
            assert.strictEqual(first.drawn.faults, outcome.schedule.length)
            const { colors, inked } = decodeInk(yield* page.evaluate(ink))
            assert.isAbove(colors, 50)
            assert.isAbove(inked, 0.1)
            assert.isAbove((yield* page.capture).length, 60_000)
            const times: Array<number> = []
            for (let n = 0; n < 15; n++) {
              yield* page.press(n < 10 ? "+" : "-")
              times.push((yield* look).drawMs)
            }
            // A frame that takes longer would be felt.
            assert.isBelow(times.toSorted((a, b) => a - b)[7] ?? Infinity, 100, times.join())
          }))
      }),
    120_000
  )

  it.effect.skipIf(executable === undefined)(
    "goes through entries by mouse, keys, search and filters",
    () =>
      withPageOf(life("calm", 1), (page) =>
        Effect.gen(function*() {
          const look = Effect.map(page.evaluate(drawn), (value) => decodeProbe(value))
          const detail = Effect.map(
            page.evaluate("document.querySelector('#detail').innerText"),
            (text) => decodeText(text)
          )
          const all = yield* look
          yield* page.press("ArrowRight")
          assert.match(yield* detail, /start[^]*nsp starts/)
          yield* page.press("s")
          assert.match(yield* detail, /State: \d+ change/)
          yield* page.press("z")
          yield* page.press("t")
          assert.isAbove((yield* look).drawn.labels, 3)

          yield* page.evaluate("document.querySelector('#search').focus()")
          for (const letter of "ListSucceeded") yield* page.press(letter)
          const found = yield* look
          assert.isBelow(found.shown, all.shown / 10)
          assert.isAbove(found.shown, 0)
          yield* page.press("Enter")
          assert.match(yield* detail, /ListSucceeded[^]*Caused by[^]*nsp\.watchTargets/)
          yield* page.press("Escape")

          yield* page.evaluate("document.querySelector('#search').value = ''")
          yield* page.evaluate("document.querySelector('#search').dispatchEvent(new Event('input'))")
          yield* page.evaluate("document.querySelector('#show-messages').click()")
          const without = yield* look
          assert.strictEqual(without.drawn.arrows, 0)
          assert.isBelow(without.shown, all.shown)
          yield* page.evaluate("document.querySelector('#show-messages').click()")

          yield* page.press("f")
          yield* page.press("Escape")
          const place = yield* page.evaluate(
            "(() => { const { x, y, height } = document.querySelector('#canvas')"
              + ".getBoundingClientRect(); return JSON.stringify([x + 4, y + 30 + (height - 34) / 15 * 1.5]) })()"
          )
          const [x, y] = decodePlace(place)
          yield* look
          yield* page.click(x, y)
          assert.match(yield* detail, /gateway-0 starts/)
        })),
    120_000
  )

  it.effect.skipIf(executable === undefined)(
    "shows a session that BFD takes for lost, and why",
    () =>
      withPageOf(crash(), (page) =>
        Effect.gen(function*() {
          yield* page.evaluate("document.querySelector('#search').focus()")
          for (const letter of "BFD heard") yield* page.press(letter)
          yield* page.evaluate(drawn)
          yield* page.press("Enter")
          const detail = decodeText(yield* page.evaluate("document.querySelector('#detail').innerText"))
          assert.match(detail, /session down\s+fe-0: BGP over .* down: BFD heard nothing[^]*Caused by[^]*fe-0 ends/)
        })),
    120_000
  )

  it.effect.skipIf(executable === undefined)(
    "marks the property that a broken machine violates, light and dark",
    () =>
      Effect.gen(function*() {
        const mutant = mutants.find(({ caughtBy }) => caughtBy === "no-leak")
        const outcome = life(mutant?.profile ?? "calm", 1, mutant?.machines)
        assert.isAbove(outcome.violations.length, 0)
        yield* withPageOf(outcome, (page) =>
          Effect.gen(function*() {
            const look = Effect.map(page.evaluate(drawn), (value) => decodeProbe(value))
            const detail = yield* page.evaluate("document.querySelector('#detail').innerText")
            assert.match(decodeText(detail), /violated property\s+no-leak[^]*Why it matters/)
            assert.strictEqual(
              decodeText(yield* page.evaluate("document.querySelector('#violation').innerText")),
              "✕ no-leak violated"
            )
            yield* page.press("v")
            assert.strictEqual((yield* look).drawn.violations, outcome.violations.length)
            const background = "getComputedStyle(document.body).backgroundColor"
            const light = yield* page.evaluate(background)
            yield* page.setDark(true)
            yield* look
            assert.notStrictEqual(yield* page.evaluate(background), light)
            assert.isAbove(decodeInk(yield* page.evaluate(ink)).colors, 10)
          }))
      }),
    120_000
  )
})

const decodePlace = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Tuple([Schema.Finite, Schema.Finite])))

const withPageOf = <A, E>(outcome: Simulation.Outcome, use: (page: Chromium.Page) => Effect.Effect<A, E>) =>
  Effect.flatMap(Effect.promise(() => TracePage.html(told, outcome)), (html) => withPage(html, use))
