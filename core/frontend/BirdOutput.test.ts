import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as fs from "node:fs"
import { gateways } from "../../property-tests/frontend/Specimen.ts"
import { Ip } from "../net/index.ts"
import * as Admission from "./Admission.ts"
import * as BirdOutput from "./BirdOutput.ts"
import * as Connectivity from "./Connectivity.ts"
import type { Gateway } from "./Model.ts"

const fixture = (name: string): string => fs.readFileSync(new URL(`./fixtures/${name}`, import.meta.url), "utf8")

const routes = (imported: number, exported: number, preferred: number) => ({ imported, exported, preferred })

const named = (...names: ReadonlyArray<string>): ReadonlyArray<Gateway> =>
  Admission.admit({ vips: [], gateways: gateways.filter(({ name }) => names.includes(name)) }).gateways

const Name = Schema.String.check(Schema.isPattern(/^NBR-[A-Za-z0-9_.:-]{1,60}$/))
const Info = Schema.Literals(["", "Established", "Active", "Idle          Error: Link down"])
const Row = Schema.Struct({
  name: Name,
  kind: Schema.Literals(["BGP", "Static"]),
  state: Schema.Literals(["up", "start", "down"]),
  info: Info
})

const row = (name: string, kind: string, state = "up", info = "Established") => ({
  name: `NBR-${name}`,
  kind,
  state,
  info
})

const session = (address: string, state: string) => ({ address: Ip.unsafe(address), link: "ext-vlan", state })

const printRow = ({ info, kind, name, state }: typeof Row.Type) =>
  `${name.padEnd(10)} ${kind.padEnd(10)} ${"---".padEnd(10)} ${state.padEnd(6)} ${
    "12:00:30.404".padEnd(12)
  }  ${info}\n` +
  "  Channel ipv4\n    State:          DOWN\n"

describe("BirdOutput", () => {
  it("reads what BIRD 2.0.12 shows", () => {
    assert.deepStrictEqual(
      BirdOutput.protocols(fixture("protocols-2.0.12.txt")),
      Result.succeed([
        { name: "NBR-gateway-v4-a", kind: "BGP", state: "up", info: "Established", routes: routes(1, 2, 0) },
        { name: "NBR-gateway-v6-a", kind: "BGP", state: "up", info: "Established", routes: routes(1, 0, 1) },
        { name: "NBR-nobody", kind: "BGP", state: "start", info: "Connect       Socket: No route to host" },
        { name: "NBR-s4", kind: "Static", state: "up", info: "", routes: routes(1, 0, 1) },
        { name: "NBR-s4b", kind: "Static", state: "up", info: "", routes: routes(0, 0, 0) },
        { name: "NBR-BFD", kind: "BFD", state: "up", info: "" }
      ])
    )
    assert.deepStrictEqual(
      BirdOutput.sessions(fixture("sessions-2.0.12.txt")),
      Result.succeed([
        { address: Ip.unsafe("100:100::150"), link: "ext-vlan", state: "Up" },
        { address: Ip.unsafe("169.254.100.151"), link: "ext-vlan", state: "Down" },
        { address: Ip.unsafe("169.254.100.150"), link: "ext-vlan", state: "Up" }
      ])
    )
  })

  it("reads what BIRD 3.1 shows", () => {
    assert.deepStrictEqual(
      BirdOutput.protocols(fixture("protocols-3.1.4.txt")),
      Result.succeed([
        { name: "NBR-gateway-v4-a", kind: "BGP", state: "up", info: "Established", routes: routes(3, 2, 1) },
        {
          name: "NBR-gateway-v6-a",
          kind: "BGP",
          state: "start",
          info: "Idle          BGP Error: Hold timer expired"
        },
        { name: "NBR-BFD", kind: "BFD", state: "up", info: "" }
      ])
    )
  })

  it("reads what BIRD 3.3 shows", () => {
    assert.deepStrictEqual(
      BirdOutput.protocols(fixture("protocols-3.3.2.txt")),
      Result.succeed([
        { name: "NBR-gateway-v4", kind: "BGP", state: "up", info: "Established", routes: routes(1, 1, 1) },
        { name: "NBR-gateway-v6", kind: "BGP", state: "up", info: "Established", routes: routes(1, 1, 1) },
        { name: "NBR-BFD", kind: "BFD", state: "up", info: "" }
      ])
    )
    assert.deepStrictEqual(
      BirdOutput.sessions(fixture("sessions-3.3.2.txt")),
      Result.succeed([
        { address: Ip.unsafe("169.254.100.150"), link: "ext-vlan0", state: "Up" },
        { address: Ip.unsafe("100:100::150"), link: "ext-vlan0", state: "Up" }
      ])
    )
  })

  it.each([
    "",
    "syntax error, unexpected CF_SYM_UNDEFINED",
    "Name Proto Table State Since Info\nNBR-x BGP --- sideways 12:00",
    "Name Proto Table State Since Info\n  details of nothing"
  ])("refuses %j as protocols and says what it expected", (text) => {
    const read = BirdOutput.protocols(text)
    assert.isTrue(Result.isFailure(read) && read.failure.startsWith("expected"))
  })

  it("refuses a session it cannot read", () => {
    assert.deepStrictEqual(
      BirdOutput.sessions("NBR-BFD:\n10.0.0 ext-vlan Up 12:00:00 0.3 1.5"),
      Result.fail(
        "expected address, interface and state of a BFD session, found \"10.0.0 ext-vlan Up 12:00:00 0.3 1.5\""
      )
    )
  })

  it.prop("20: reads back every row that can be printed", { rows: Schema.Array(Row) }, ({ rows }) => {
    const text = `Name       Proto      Table      State  Since         Info\n${rows.map(printRow).join("\n")}`
    assert.deepStrictEqual(BirdOutput.protocols(text), Result.succeed(rows))
  })

  it.prop(
    "20: reads back every session that can be printed",
    {
      rows: Schema.Array(Schema.Struct({ address: Ip.Ip, state: Schema.Literals(["Up", "Down", "Init", "AdminDown"]) }))
    },
    ({ rows }) => {
      const print = rows.map(({ address, state }) =>
        `${address.padEnd(25)} ${"ext-vlan".padEnd(10)} ${state.padEnd(10)} 12:00:30.404    0.300    1.500`
      )
      const text = `NBR-BFD:\nIP address                Interface  State      Since         Interval  Timeout\n${
        print.join("\n")
      }\n`
      assert.deepStrictEqual(
        BirdOutput.sessions(text),
        Result.succeed(rows.map(({ address, state }) => ({ address, link: "ext-vlan", state })))
      )
    }
  )
})

describe("Connectivity", () => {
  const v4 = row("gateway-v4-a", "BGP")
  const v6 = row("gateway-v6-a", "BGP")

  it("needs every family that has gateways, and one gateway of each", () => {
    const both = named("gateway-v4-a", "gateway-v4-b", "gateway-v6-a")
    const judge = (rows: ReadonlyArray<typeof v4>, of = both) => Connectivity.judge(of, rows, [], false)
    assert.isTrue(judge([v4, v6]).connected)
    assert.isFalse(judge([v4]).connected)
    assert.isFalse(judge([v4, row("gateway-v6-a", "BGP", "start", "Idle")]).connected)
    assert.isTrue(judge([v4], named("gateway-v4-a")).connected)
    assert.isFalse(judge([], []).connected)
    assert.isFalse(judge([row("gateway-v4-a", "Static")], named("gateway-v4-a")).connected)
    assert.deepInclude(judge([v4]), { v4: "Up", v6: "Down" })
  })

  it("needs one family that is up when each counts by itself", () => {
    const both = named("gateway-v4-a", "gateway-v6-a")
    const judge = (rows: ReadonlyArray<typeof v4>) => Connectivity.judge(both, rows, [], true).connected
    assert.isTrue(judge([v4]))
    assert.isTrue(judge([v6]))
    assert.isFalse(judge([]))
    assert.isFalse(Connectivity.judge([], [], [], true).connected)
  })

  it("asks BFD for static gateways that use it, by the exact address", () => {
    const statics = named("static-v4")
    const judge = (...sessions: ReadonlyArray<BirdOutput.Session>) =>
      Connectivity.judge(statics, [row("static-v4", "Static", "up", "")], sessions, false).connected
    assert.isTrue(judge(session("169.254.100.153", "Up")))
    assert.isFalse(judge(session("169.254.100.153", "Init")))
    assert.isFalse(judge(session("16.254.100.153", "Up"), session("69.254.100.153", "Up")))
    assert.isFalse(judge())
  })
})
