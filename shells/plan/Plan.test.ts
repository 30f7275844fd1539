import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { command } from "./Main.ts"

const manifests = fileURLToPath(new URL("../lab/default-trench.yaml", import.meta.url))

const run = async (...argv: ReadonlyArray<string>) => {
  const [out, err]: [Array<string>, Array<string>] = [[], []]
  const code = await command.run(argv, { env: {}, out: (text) => out.push(text), err: (text) => err.push(text) })
  return { code, out: out.join("\n"), err: err.join("\n") }
}

const withFile = async <A>(text: string, use: (file: string) => Promise<A>): Promise<A> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sl-plan-"))
  try {
    const file = path.join(folder, "file.yaml")
    fs.writeFileSync(file, text)
    return await use(file)
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

describe("sluice plan frontend", () => {
  it("prints a configuration that BIRD accepts, and the rules, for each attractor", async () => {
    const { code, err, out } = await run("frontend", "--config", manifests)
    assert.deepStrictEqual([code, err], [0, ""])
    assert.match(out, /^# trench-a\/attractor-a: \/etc\/bird\/bird-fe-meridio\.conf\n/)
    assert.include(out, "protocol bgp 'NBR-gateway-v4' from LINK4 {\n  interface \"ext-vlan0\";")
    const [config = "", rules = ""] = out.split("# trench-a/attractor-a: rules\n")
    assert.deepStrictEqual(rules.split("\n"), [
      "ip -4 route replace blackhole 0.0.0.0/0 table 4097 metric 4294967295",
      "ip -6 route replace blackhole ::/0 table 4097 metric 4294967295",
      "ip -4 rule add priority 101 from 20.0.0.1/32 lookup 4097",
      "ip -6 rule add priority 101 from 2000::1/128 lookup 4097",
      "ip -4 rule add priority 100 from 20.0.0.1/32 lookup 4096",
      "ip -6 rule add priority 100 from 2000::1/128 lookup 4096"
    ])
    await withFile(config, async (file) => void execFileSync("bird", ["-p", "-c", file]))
  })

  it("takes the settings of a file", async () => {
    const text = "NFE_TABLE_ID=7\nNFE_VRRPS=169.254.100.9/24\nNFE_EXTERNAL_INTERFACE=eth7\n"
    const { code, out } = await withFile(text, (file) => run("frontend", "--config", manifests, "--env-file", file))
    assert.strictEqual(code, 0)
    assert.include(out, "route 0.0.0.0/0 via 169.254.100.9%'eth7' onlink;")
    assert.include(out, "ip -4 rule add priority 100 from 20.0.0.1/32 lookup 7")
    assert.notInclude(out, "blackhole 0.0.0.0/0")
    const bad = await withFile("NFE_LOCAL_AS=0\n", (file) => run("frontend", "--config", manifests, "--env-file", file))
    assert.deepStrictEqual([bad.code, bad.err], [
      1,
      "sluice plan: NFE_LOCAL_AS is 0; write 1 to 4294967295"
    ])
  })

  it("says what cannot be served", async () => {
    const text = fs.readFileSync(manifests, "utf8").replaceAll("20.0.0.1/32", "127.0.0.1/32")
    const { code, err } = await withFile(text, (file) => run("frontend", "--config", file))
    assert.deepStrictEqual([code, err], [
      1,
      "trench-a/attractor-a: vip 127.0.0.1/32 is left out: it is not a unicast address"
    ])
  })

  it("asks for what it needs", async () => {
    assert.match((await run("nothing", "--config", manifests)).err, /name one component.*\n {2}frontend /)
    assert.strictEqual((await run("frontend")).code, 2)
    assert.include((await run("proxy", "--config", manifests)).err, "name one component and --desired")
    assert.strictEqual((await run("frontend", "--config", "/nonexistent")).code, 1)
  })
})

const veth = (name: string) => ({ name, kind: "veth", mac: "02:00:00:00:00:07", up: true, carrier: true, mtu: 1500 })

const observed = (...names: ReadonlyArray<string>) => ({
  links: names.map(veth),
  addresses: [],
  rules: [],
  routes: [],
  neighbours: []
})

describe("sluice plan proxy", () => {
  const desired = {
    families: ["v4", "v6"],
    bridge: { name: "bridge0", mac: "02:00:00:00:00:01", addresses: ["172.16.0.1/24", "fd00::1/64"] },
    ports: [
      { link: "lb-1", role: "LoadBalancer", remotes: ["172.16.0.2/24", "fd00::2/64"], phase: "Live" },
      { link: "lb-2", role: "LoadBalancer", remotes: ["172.16.0.4/24"], phase: "Live" },
      { link: "tg-1", role: "Target", remotes: [], phase: "Live" }
    ],
    vips: ["20.0.0.1/32", "2000::1/128"],
    table: 1,
    priority: 32_000,
    settled: true,
    foreignPorts: "Leave"
  }
  const withFiles = (seen: unknown, ...more: ReadonlyArray<string>) =>
    withFile(
      JSON.stringify(desired),
      (wish) => withFile(JSON.stringify(seen), (file) => run("proxy", "--desired", wish, "--observed", file, ...more))
    )

  it("prints what ip(8) would be told, in order", async () => {
    const { code, err, out } = await withFiles(observed("lb-1", "lb-2", "tg-1"), "--ip")
    assert.deepStrictEqual([code, err], [0, ""])
    assert.deepStrictEqual(out.split("\n"), [
      "ip link add bridge0 address 02:00:00:00:00:01 type bridge",
      "ip link set bridge0 up",
      "ip -4 route replace unreachable 0.0.0.0/0 table 1 metric 4294967295 proto 3",
      "ip -6 route replace unreachable ::/0 table 1 metric 4294967295 proto 3",
      "ip -4 rule add priority 32000 from all iif bridge0 lookup 1",
      "ip -6 rule add priority 32000 from all iif bridge0 lookup 1",
      "ip address replace 172.16.0.1/24 dev bridge0",
      "ip address replace fd00::1/64 dev bridge0 nodad",
      "ip link set lb-1 master bridge0",
      "ip link set lb-2 master bridge0",
      "ip link set tg-1 master bridge0",
      "ip -4 route replace unicast 0.0.0.0/0 table 1 proto 3"
      + " nexthop via inet 172.16.0.2 dev bridge0 nexthop via inet 172.16.0.4 dev bridge0",
      "ip -6 route replace unicast ::/0 table 1 metric 1024 proto 3 via inet6 fd00::2 dev bridge0",
      "ip -4 rule add priority 32000 from 20.0.0.1/32 lookup 1",
      "ip -6 rule add priority 32000 from 2000::1/128 lookup 1"
    ])
  })

  it("prints operations as JSON, and says which ports are missing or what is in the way", async () => {
    const waiting = await withFiles(observed("lb-1", "lb-2"))
    assert.deepStrictEqual([waiting.code, waiting.err], [1, "tg-1 is not there yet, so it is not a port"])
    const operations: unknown = JSON.parse(waiting.out)
    assert.isTrue(Array.isArray(operations) && operations.length === 14)
    const taken = await withFiles({ ...observed(), links: [{ ...veth("bridge0"), kind: "dummy" }] })
    assert.deepStrictEqual([taken.code, JSON.parse(taken.out)], [1, []])
    assert.include(taken.err, "bridge0 is a dummy link")
  })

  it("names the file and the field that is wrong", async () => {
    const { code, err } = await withFiles({ ...observed(), rules: 7 })
    assert.strictEqual(code, 1)
    assert.match(err, /--observed \S+: (.|\n)*rules/)
  })

  it("reads the namespace that it runs in", async () => {
    const text = await withFile(
      JSON.stringify({ ...desired, bridge: { ...desired.bridge, name: "lo" } }),
      (file) => run("proxy", "--desired", file, "--observed", "live")
    )
    assert.include(text.err, "lo is a physical link, not a bridge")
  })
})

const plan = (targets: string) =>
  withFile(targets, (file) => run("loadbalancer", "--config", manifests, "--targets", file))

describe("sluice plan loadbalancer", () => {
  it("prints rules that nft accepts, and changes nothing", async () => {
    const { code, err, out } = await plan(`
- { stream: stream-a, identifier: 1, ips: [172.16.1.4/24, "fd00::4/64"] }
- { stream: stream-a, identifier: 7, ips: [172.16.1.5/24] }
`)
    assert.deepStrictEqual([code, err], [0, ""])
    assert.match(out, /^# trench-a\/conduit-a: rules of nftables\ntable inet sluice-lb-conduit-a\.trench-a \{\}\n/)
    assert.include(out, "ip -4 route replace default via 172.16.1.4 table 5001 proto 90")
    assert.include(out, "ip -6 rule add priority 54 fwmark 5001 lookup 5001")
    assert.include(out, "add element inet sluice-lb-conduit-a.trench-a hits-5000 { 5001, 5007 }")
    execFileSync("unshare", ["--net", "nft", "-c", "-f", "-"], { input: `${out}\n` })
  })

  it("prints the rules that let the kernel skip those of most targets, where there are many", async () => {
    const targets = Array.from(
      { length: 17 },
      (_, n) => `- { stream: stream-a, identifier: ${n + 1}, ips: [172.16.1.${n}/24] }`
    )
    const { out } = await plan(targets.join("\n"))
    assert.include(out, "# ip -4 rule add priority 30 from all fwmark 0/0xffffffff goto 99")
    assert.notInclude(out, "# ip -6 rule")
    const few = await plan(targets.slice(1).join("\n"))
    assert.notInclude(few.out, "priority 30 ")
  })

  it("says which targets are left out, and what is wrong with the file", async () => {
    const beyond = await plan("[{ stream: stream-a, identifier: 1000000, ips: [172.16.1.4] }]")
    assert.strictEqual(beyond.code, 1)
    assert.match(beyond.err, /target 1000000 of stream-a is left out/)
    const bad = await plan("[{ stream: stream-a }]")
    assert.strictEqual(bad.code, 1)
    assert.match(bad.err, /--targets (.|\n)*identifier/)
  })
})
