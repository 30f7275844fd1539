import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { World } from "../runtime/Process.ts"
import * as Check from "./checks/Check.ts"
import { command } from "./Main.ts"
import * as Options from "./Options.ts"

const defaults = { targets: "4", nodes: "2", gateway: "bird", nsmTls: false, check: false, keep: false }

/** Runs the command and gives its exit code and what it said on stderr. */
const said = async (...argv: ReadonlyArray<string>): Promise<{ code: number; err: string }> => {
  const lines: Array<string> = []
  const world: World = { env: {}, out: () => undefined, err: (text) => lines.push(text) }
  return { code: await command.run(argv, world), err: lines.join("\n") }
}

describe("sluice lab", () => {
  it("has defaults", () => {
    assert.deepStrictEqual(
      Options.read(defaults, []),
      Result.succeed({ targets: 4, nodes: 2, gateway: "bird", nsmTls: false, check: false, keep: false })
    )
  })

  it("names every mistake of the command line at once and ends with 2", async () => {
    const { code, err } = await said(
      "--targets",
      "0",
      "--nodes",
      "2.5",
      "--gateway",
      "quagga",
      "--report",
      "x",
      "stray"
    )
    assert.strictEqual(code, 2)
    for (const part of ["--targets 0", "--nodes 2.5", "--gateway quagga", "--report", "\"stray\""]) {
      assert.include(err, part)
    }
  })

  it("refuses manifests with object, field, value and remedy, and starts nothing", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-manifests-"))
    try {
      const good = fs.readFileSync(new URL("default-trench.yaml", import.meta.url), "utf8")
      fs.writeFileSync(path.join(folder, "bad.yaml"), good.replace("protocols: [tcp, udp]", "protocols: [tcp, icmp]"))
      const { code, err } = await said("--config", folder)
      assert.strictEqual(code, 2)
      for (const part of ["Flow", "flow-a", "spec.protocols", "icmp", "\"tcp\" | \"udp\" | \"sctp\""]) {
        assert.include(err, part)
      }
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  })

  it.each([
    ["a path that does not exist", undefined, "no such file"],
    ["a folder without manifests", "", "no .yaml or .yml file"],
    ["YAML that is broken", "kind: [", "manifest.yaml"],
    ["no trench", "kind: Pod\napiVersion: v1\nmetadata: {name: a}\n", "no object of kind Trench"]
  ])("refuses %s", async (_name, text, expected) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-manifests-"))
    try {
      if (text !== undefined && text !== "") fs.writeFileSync(path.join(folder, "manifest.yaml"), text)
      const { code, err } = await said("--config", text === undefined ? path.join(folder, "nowhere") : folder)
      assert.strictEqual(code, 2)
      assert.include(err, expected)
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  })
})

const hasNoRouters = (program: string): boolean => !["birdc", "nft", "vtysh"].includes(program)

describe("What the lab needs of the machine", () => {
  it("is root, before anything else", () => {
    assert.include(Options.missing("bird", { isRoot: false, has: () => false }), "as root")
  })

  it("is programs, named by the packages to install, those of the gateway only when it is used", () => {
    assert.strictEqual(
      Options.missing("bird", { isRoot: true, has: hasNoRouters }),
      "programs are missing; install them: apt-get install nftables bird2"
    )
    assert.include(Options.missing("frr", { isRoot: true, has: hasNoRouters }), "apt-get install nftables bird2 frr")
    assert.isUndefined(Options.missing("bird", { isRoot: true, has: (program) => program !== "vtysh" }))
  })
})

const answer = (replies: Record<string, number>, lost = 0) => ({ id: 0, replies, lost, errors: [] })

describe("The share of each target", () => {
  it("may be 40 % off even and no more", () => {
    assert.isUndefined(Check.unevenness(answer({ a: 140, b: 60 }), ["a", "b"]))
    assert.include(Check.unevenness(answer({ a: 141, b: 59 }), ["a", "b"]) ?? "", "a got 141 of 200")
  })

  it("must not be nothing, a stranger's, or short of lost connections", () => {
    assert.include(Check.unevenness(answer({ a: 100 }), ["a", "b"]) ?? "", "even is 50")
    assert.include(Check.unevenness(answer({ a: 50, b: 50, c: 1 }), ["a", "b"]) ?? "", "c answered and should not")
    assert.include(Check.unevenness(answer({ a: 50, b: 50 }, 1), ["a", "b"]) ?? "", "1 of 101 were lost")
  })
})
