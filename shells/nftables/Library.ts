/**
 * libnftables, of which the program `nft` is a thin shell, in this process.
 *
 * A change costs no process (8 ms), and is answered when its rules are in force: `nft` ends, with its socket, only after
 * the kernel has cleaned up (10 ms).
 */
import { Effect, type Scope, Semaphore } from "effect"
import koffi, { type KoffiFunc, type LibraryHandle } from "koffi"
import * as fs from "node:fs"
import * as Inside from "../netlink/Inside.ts"

/**
 * Runs commands in nft's language as one transaction, and answers with what they print. Fails with the words of the
 * library, which begin with the place if there is one: `script:2:25-32: Error: `, line and columns.
 */
export type Run = (commands: string) => Effect.Effect<string, string>

/** The language of what is printed. */
export type Output = "text" | "json"

/** The library for the namespace at the path, or for that of this process, until the Scope ends. */
export const open = (output: Output, namespace?: string): Effect.Effect<Run, string, Scope.Scope> =>
  Effect.gen(function*() {
    const make = attempt(() => inside(namespace, () => makeContext(load(), output)))
    let held: Context | undefined = yield* make
    const replace = (next: Context | undefined) => {
      if (held !== undefined) load().free(held)
      held = next
    }
    yield* Effect.addFinalizer(() => turn.withPermits(1)(Effect.sync(() => replace(undefined))))
    return (commands) =>
      Effect.gen(function*() {
        if (held === undefined) return yield* Effect.fail("libnftables is closed")
        const { error, output } = yield* runIn(held, commands, namespace)
        if (error === undefined) return output
        // Answers that nobody read would be taken for those of the next commands.
        replace(yield* make)
        return yield* Effect.fail(error)
      }).pipe(Effect.uninterruptible, turn.withPermits(1))
  })

// Contexts share tables of names inside of the library, which knows no threads.
const turn = Semaphore.makeUnsafe(1)

interface Result {
  readonly output: string
  readonly error?: string
}

const runIn = (context: Context, commands: string, namespace: string | undefined): Effect.Effect<Result, string> =>
  Effect.gen(function*() {
    const { errorOf, outputOf, run } = load()
    const path = yield* script(commands)
    // Only this thread can be in another namespace, where the library looks up links.
    const code = namespace === undefined
      ? yield* aside((done) => run.async(context, path, done))
      : yield* attempt(() => inside(namespace, () => run(context, path)))
    if (commands.length > large) yield* aside((done) => trim.async(0, done))
    const [output, error] = [outputOf(context), errorOf(context).trim().replaceAll(path, "script")]
    return code === 0 ? { output } : { output, error: error || `libnftables says ${code}` }
  }).pipe(Effect.scoped)

/** A file in memory: for what comes from a file the library tells the line of an error. */
const script = (commands: string): Effect.Effect<string, string, Scope.Scope> =>
  Effect.acquireRelease(
    attempt(() => {
      const file = createFile("script", closeOnExec)
      if (file < 0) throw new Error(`no file in memory (errno ${koffi.errno()})`)
      fs.writeFileSync(file, commands)
      return file
    }),
    (file) => Effect.sync(() => fs.closeSync(file))
  ).pipe(Effect.map((file) => `/proc/self/fd/${file}`))

/** Parsing takes 50 times the text, which the C library would keep, for each thread that parsed. */
const large = 100_000

/** Calls on a thread of the pool, so that the event loop goes on. */
const aside = (call: (done: (error: unknown, code: number) => void) => void): Effect.Effect<number, string> =>
  Effect.callback((resume) =>
    call((error, code) => resume(error === null ? Effect.succeed(code) : Effect.fail(wordsOf(error))))
  )

const inside = <A>(namespace: string | undefined, f: () => A): A =>
  namespace === undefined ? f() : Inside.run(namespace, f)

const attempt = <A>(f: () => A): Effect.Effect<A, string> => Effect.try({ try: f, catch: wordsOf })

const wordsOf = (thrown: unknown): string => thrown instanceof Error ? thrown.message : String(thrown)

/** A `struct nft_ctx`, with a socket of the namespace in which it was made. */
type Context = bigint | object

interface Library {
  readonly create: (flags: number) => Context | null
  readonly free: (context: Context) => void
  readonly setOutput: (context: Context, flags: number) => void
  readonly bufferOutput: (context: Context) => number
  readonly bufferError: (context: Context) => number
  /** 0 for success. */
  readonly run: KoffiFunc<(context: Context, path: string) => number>
  /** What was printed since it was asked the last time. */
  readonly outputOf: (context: Context) => string
  readonly errorOf: (context: Context) => string
}

let loaded: Library | undefined

const load = (): Library => loaded ??= bind(file())

const name = "libnftables.so.1"

const file = (): LibraryHandle => {
  try {
    return koffi.load(name)
  } catch (thrown) {
    throw new Error(`${name}: ${wordsOf(thrown)}; install nftables`, { cause: thrown })
  }
}

const bind = (library: LibraryHandle): Library => ({
  create: library.func("nft_ctx_new", "void *", ["uint32_t"]),
  free: library.func("nft_ctx_free", "void", ["void *"]),
  setOutput: library.func("nft_ctx_output_set_flags", "void", ["void *", "unsigned int"]),
  bufferOutput: library.func("nft_ctx_buffer_output", "int", ["void *"]),
  bufferError: library.func("nft_ctx_buffer_error", "int", ["void *"]),
  run: library.func("nft_run_cmd_from_filename", "int", ["void *", "const char *"]),
  outputOf: library.func("nft_ctx_get_output_buffer", "const char *", ["void *"]),
  errorOf: library.func("nft_ctx_get_error_buffer", "const char *", ["void *"])
})

const libc = koffi.load(null)
const trim: KoffiFunc<(keep: number) => number> = libc.func("malloc_trim", "int", ["size_t"])
const createFile: (name: string, flags: number) => number = libc.func("memfd_create", "int", [
  "const char *",
  "uint32_t"
])
const closeOnExec = 1

/** NFT_CTX_OUTPUT_* */
const outputs: { readonly [O in Output]: number } = { text: 0, json: 1 << 4 }

const makeContext = (library: Library, output: Output): Context => {
  const context = library.create(0)
  if (context === null) throw new Error("libnftables cannot be started")
  library.setOutput(context, outputs[output])
  library.bufferOutput(context)
  library.bufferError(context)
  return context
}
