import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result } from "effect"
import * as Settings from "./Settings.ts"

const table = Settings.table({
  name: Settings.entry("X_NAME", Settings.Text, "nsc", "Name."),
  nspPort: Settings.entry(["X_NSP_PORT", "NSP_PORT"], Settings.Int, 7778, "Port of the NSP."),
  timeoutMs: Settings.entry("X_TIMEOUT", Settings.DurationMs, 15_000, "Limit."),
  ecmp: Settings.entry("X_ECMP", Settings.Bool, false, "Several paths."),
  socket: Settings.entry("X_SOCKET", Settings.Url, "unix:///run/x.sock", "Socket."),
  vrrps: Settings.entry("X_VRRPS", Settings.List, [], "Addresses."),
  family: Settings.entry("X_FAMILY", Settings.Choice(["ipv4", "ipv6"]), "ipv4", "Family."),
  password: Settings.entry("X_PASSWORD", Settings.Secret, Redacted.make("initial"), "Password.")
})

const messages = (env: Settings.Environment) =>
  Result.match(Settings.decode(table, env), {
    onSuccess: () => [],
    onFailure: (problems) => problems.map(({ message }) => message)
  })

const port = (env: Settings.Environment) => Result.getOrThrow(Settings.decode(table, env)).nspPort

describe("Settings", () => {
  it("takes defaults only for what is not set", () => {
    const values = Result.getOrThrow(Settings.decode(table, { X_NAME: "", X_VRRPS: "10.0.0.1, 10.0.0.2" }))
    assert.strictEqual(values.name, "")
    assert.deepStrictEqual(values.vrrps, ["10.0.0.1", "10.0.0.2"])
    assert.strictEqual(values.timeoutMs, 15_000)
  })

  it("prefers the first name, and ignores a Kubernetes service link in a fallback", () => {
    assert.strictEqual(port({ X_NSP_PORT: "0x10", NSP_PORT: "2" }), 16)
    assert.strictEqual(port({ NSP_PORT: "2" }), 2)
    assert.strictEqual(port({ NSP_PORT: "tcp://10.96.0.1:7778" }), 7778)
  })

  it("reports all bad variables together, each with name, value and remedy", () => {
    assert.deepStrictEqual(
      messages({ X_TIMEOUT: "15", X_ECMP: "yes", X_SOCKET: "1.2.3.4:5", X_FAMILY: "", NSP_PORT: "" }),
      [
        `NSP_PORT="" is not usable: write an integer such as 7778 (a leading zero means octal), or unset it to use "7778"`,
        `X_TIMEOUT="15" is not usable: write a duration with units such as 500ms, 15s or 1m30s, or unset it to use "15s"`,
        `X_ECMP="yes" is not usable: write true or false, or unset it to use "false"`,
        `X_SOCKET="1.2.3.4:5" is not usable: write a URL such as unix:///path/of.sock or tcp://host:port, or unset it to use "unix:///run/x.sock"`,
        `X_FAMILY="" is not usable: write "ipv4" | "ipv6", or unset it to use "ipv4"`
      ]
    )
    const must = Settings.table({ trench: Settings.required("X_TRENCH", Settings.NonEmptyText, "Name of the trench.") })
    const missing = Result.getOrElse(Result.flip(Settings.decode(must, {})), () => [])
    assert.deepStrictEqual(missing.map(({ message }) => message), ["X_TRENCH is not set: Name of the trench."])
  })

  it("never shows a secret", () => {
    const env = { X_PASSWORD: "hunter2" }
    const values = Result.getOrThrow(Settings.decode(table, env))
    assert.strictEqual(Redacted.value(values.password), "hunter2")
    const shown = [
      JSON.stringify(values),
      JSON.stringify(Settings.encode(table, values)),
      JSON.stringify(Settings.present(table, env)),
      Settings.describe(table)
    ].join()
    assert.notInclude(shown, "hunter2")
    assert.notInclude(shown, "initial")
  })
})
