/** A browser for tests and pictures, by the DevTools protocol over a pipe: nothing listens, nothing is left behind. */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Readable, Writable } from "node:stream"

/** Where the browser is; undefined: there is none. */
export const find = (): string | undefined =>
  [process.env["CHROMIUM"], "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
    .find((file) => file !== undefined && file !== "" && fs.existsSync(file))

export class BrowserError extends Schema.TaggedError<BrowserError>()("BrowserError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

const fail = (detail: string): Effect.Effect<never, BrowserError> => Effect.fail(new BrowserError({ detail }))

/** One page. */
export interface Page {
  readonly open: (url: string) => Effect.Effect<void, BrowserError>
  /** The value of an expression as JSON has it; a promise is waited for. */
  readonly evaluate: (expression: string) => Effect.Effect<unknown, BrowserError>
  readonly press: (key: string) => Effect.Effect<void, BrowserError>
  readonly click: (x: number, y: number) => Effect.Effect<void, BrowserError>
  readonly moveTo: (x: number, y: number) => Effect.Effect<void, BrowserError>
  readonly resize: (width: number, height: number) => Effect.Effect<void, BrowserError>
  readonly setDark: (isDark: boolean) => Effect.Effect<void, BrowserError>
  /** The picture as PNG. */
  readonly capture: Effect.Effect<Buffer, BrowserError>
  /** What the page complained of and what it asked the network for. */
  readonly complaints: () => ReadonlyArray<string>
}

const Answer = Schema.fromJsonString(Schema.Struct({
  id: Schema.optional(Schema.Natural),
  method: Schema.optional(Schema.String),
  params: Schema.optional(Schema.Unknown),
  result: Schema.optional(Schema.Unknown),
  error: Schema.optional(Schema.Struct({ message: Schema.String }))
}))
const decodeAnswer = Schema.decodeUnknownSync(Answer)

/** Starts a browser, which ends with the scope. */
export const launch = (executable: string): Effect.Effect<Page, BrowserError, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-chromium-"))),
      (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))
    )
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(executable, [
          "--headless",
          "--no-sandbox",
          "--disable-gpu",
          "--disable-dev-shm-usage",
          "--hide-scrollbars",
          "--no-first-run",
          `--user-data-dir=${folder}`,
          "--remote-debugging-pipe"
        ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true })
      ),
      (child) =>
        Effect.callback<void>((resume) => {
          if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
            return resume(Effect.void)
          }
          child.once("exit", () => resume(Effect.void))
          // The group: a browser is many processes.
          process.kill(-child.pid, "SIGKILL")
        })
    )
    const [toBrowser, fromBrowser] = [child.stdio[3], child.stdio[4]]
    if (!(toBrowser instanceof Writable) || !(fromBrowser instanceof Readable)) {
      return yield* new BrowserError({ detail: `${executable} has no pipe` })
    }
    const waiting = new Map<number, (answer: Effect.Effect<unknown, BrowserError>) => void>()
    const events = new Map<string, () => void>()
    const complaints: Array<string> = []
    let calls = 0
    let rest = ""
    child.on("exit", () => waiting.forEach((resume) => resume(fail("the browser ended"))))
    fromBrowser.on("data", (chunk: Buffer) => {
      const texts = (rest + chunk.toString()).split("\0")
      rest = texts.pop() ?? ""
      for (const { error, id, method = "", params, result } of texts.map((text) => decodeAnswer(text))) {
        if (id !== undefined) {
          waiting.get(id)?.(error === undefined ? Effect.succeed(result) : fail(error.message))
          waiting.delete(id)
        } else if (/exceptionThrown|requestWillBeSent$/.test(method)) {
          const text = JSON.stringify(params)
          if (!/"url":"(file|data|blob):/.test(text)) complaints.push(text)
        } else if (method === "Runtime.consoleAPICalled" && JSON.stringify(params).includes("\"type\":\"error\"")) {
          complaints.push(JSON.stringify(params))
        } else {
          events.get(method)?.()
          events.delete(method)
        }
      }
    })
    const send = (method: string, params: object = {}, sessionId?: string): Effect.Effect<unknown, BrowserError> =>
      Effect.callback((resume) => {
        const id = ++calls
        waiting.set(id, resume)
        toBrowser.write(`${JSON.stringify({ id, method, params, ...sessionId === undefined ? {} : { sessionId } })}\0`)
      })
    const created = yield* send("Target.createTarget", { url: "about:blank" })
    const { targetId } = Schema.decodeUnknownSync(Schema.Struct({ targetId: Schema.String }))(created)
    const attached = yield* send("Target.attachToTarget", { targetId, flatten: true })
    const { sessionId } = Schema.decodeUnknownSync(Schema.Struct({ sessionId: Schema.String }))(attached)
    const call = (method: string, params: object = {}) => send(method, params, sessionId)
    for (const domain of ["Page", "Runtime", "Network"]) yield* call(`${domain}.enable`)

    const evaluate = (expression: string): Effect.Effect<unknown, BrowserError> =>
      Effect.flatMap(
        call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }),
        (answer) => {
          const { exceptionDetails, result } = decodeEvaluated(answer)
          return exceptionDetails === undefined ? Effect.succeed(result.value) : fail(JSON.stringify(exceptionDetails))
        }
      )
    const mouse = (type: string, x: number, y: number) =>
      call("Input.dispatchMouseEvent", { type, x, y, button: type === "mouseMoved" ? "none" : "left", clickCount: 1 })
    return {
      evaluate,
      open: (url) =>
        Effect.gen(function*() {
          const loaded = Promise.withResolvers<void>()
          events.set("Page.loadEventFired", loaded.resolve)
          yield* call("Page.navigate", { url })
          yield* Effect.promise(() => loaded.promise)
        }),
      press: (key) =>
        Effect.gen(function*() {
          const text = key.length === 1 ? { text: key } : {}
          yield* call("Input.dispatchKeyEvent", { type: "keyDown", key, ...text })
          yield* call("Input.dispatchKeyEvent", { type: "keyUp", key })
        }),
      click: (x, y) =>
        Effect.asVoid(
          Effect.all([mouse("mouseMoved", x, y), mouse("mousePressed", x, y), mouse("mouseReleased", x, y)])
        ),
      moveTo: (x, y) => Effect.asVoid(mouse("mouseMoved", x, y)),
      resize: (width, height) =>
        Effect.asVoid(
          call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false })
        ),
      setDark: (isDark) =>
        Effect.asVoid(call("Emulation.setEmulatedMedia", {
          features: [{ name: "prefers-color-scheme", value: isDark ? "dark" : "light" }]
        })),
      capture: Effect.map(
        call("Page.captureScreenshot", { format: "png" }),
        (answer) => Buffer.from(decodeCaptured(answer).data, "base64")
      ),
      complaints: () => complaints
    }
  })

const decodeEvaluated = Schema.decodeUnknownSync(Schema.Struct({
  result: Schema.Struct({ value: Schema.optional(Schema.Unknown) }),
  exceptionDetails: Schema.optional(Schema.Unknown)
}))
const decodeCaptured = Schema.decodeUnknownSync(Schema.Struct({ data: Schema.String }))
