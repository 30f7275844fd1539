/**
 * Settings of a program, declared as a table and read from the environment as the originals read theirs (envconfig).
 *
 *     export const settings = Settings.table({
 *       node: Settings.entry("MERIDIO_NODE", Settings.Text, "", "Name of the node."),
 *       timeoutMs: Settings.entry("MERIDIO_TIMEOUT", Settings.DurationMs, 15_000, "Limit of one attempt."),
 *       nspPort: Settings.entry(["MERIDIO_NSP_SERVICE_PORT", "NSP_SERVICE_PORT"], Settings.Int, 7778, "Port of the NSP.")
 *     })
 *     export type Config = Settings.Values<typeof settings>
 *
 * 1. Names are tried in order; the first one that is set counts, even if it is empty.
 * 2. The default applies only when no name is set.
 * 3. All bad variables are reported together, each with its value and what to write instead.
 * 4. A secret shows neither in messages nor in logs.
 * 5. Ours: a fallback that holds a Kubernetes service link (`tcp://10.0.0.1:7778`, injected for any Service of that
 *    name) counts as not set; the original fails on it.
 */
import { Effect, Redacted, Result, Schema, SchemaGetter, SchemaIssue } from "effect"
import { GoSyntax } from "../../core/config/index.ts"

/** Text to value and back. Any such schema will do as the codec of an entry. */
export type Codec<A> = Schema.Codec<A, string>

/** One row of a table. */
export interface Entry<out A> {
  /** The name to document, then those that are also accepted. */
  readonly names: readonly [string, ...ReadonlyArray<string>]
  readonly read: (text: string) => Result.Result<A, string>
  readonly hasDefault: boolean
  /** The value as text, a secret hidden. */
  readonly show: (value: unknown) => string
  /** Undefined when a value must be given. */
  readonly fallback: A | undefined
  /** The default as it would be written in the environment. */
  readonly shown: string
  readonly isSecret: boolean
  readonly summary: string
}

/** Rows by the name of their value. */
export type Table = { readonly [key: string]: Entry<unknown> }

/** The values of a table. */
export type Values<T extends Table> = { readonly [K in keyof T]: T[K] extends Entry<infer A> ? A : never }

type Names = string | readonly [string, ...ReadonlyArray<string>]

/** A setting with a default. */
export const entry = <A>(names: Names, codec: Codec<A>, fallback: A, summary: string): Entry<A> => ({
  names: typeof names === "string" ? [names] : names,
  read: reader(codec),
  show: shower(codec),
  hasDefault: true,
  fallback,
  // Only when somebody asks: a start needs no text of a default.
  get shown() {
    return shower(codec)(fallback)
  },
  isSecret: isSecret(codec),
  summary
})

/** A setting that must be given. */
export const required = <A>(names: Names, codec: Codec<A>, summary: string): Entry<A> => ({
  names: typeof names === "string" ? [names] : names,
  read: reader(codec),
  show: shower(codec),
  hasDefault: false,
  fallback: undefined,
  shown: "",
  isSecret: isSecret(codec),
  summary
})

const shower = <A>(codec: Codec<A>) => {
  const encode = Schema.encodeUnknownResult(codec)
  return (value: unknown) => isSecret(codec) ? "<redacted>" : Result.getOrElse(encode(value), String)
}

const isSecret = (codec: unknown): boolean => codec === Secret

/** Checks a table against the shape while keeping its own types. */
export const table = <const T extends Table>(entries: T): T => entries

const reader = <A>(codec: Codec<A>) => {
  const decode = Schema.decodeResult(codec)
  return (text: string): Result.Result<A, string> => Result.mapError(decode(text), (error) => expectation(error.issue))
}

const formatIssue = SchemaIssue.makeFormatterDefault()

const expectation = (issue: SchemaIssue.Issue): string =>
  formatIssue(issue).replace(/^Expected /, "").replace(/, got .*$/s, "")

/** A codec from a parser, whose failure says what to write, and a formatter. */
export const codecOf = <A extends string | number | boolean | ReadonlyArray<string>>(
  decoded: Schema.Codec<A>,
  parse: (text: string) => Result.Result<A, string>,
  format: (value: A) => string
): Codec<A> =>
  Schema.String.pipe(Schema.decodeTo(decoded, {
    decode: SchemaGetter.transformEffect((text: string, options) =>
      Effect.fromResult(
        Result.mapError(parse(text), (expected) => new SchemaIssue.InvalidValue({ expected }, text, options))
      )
    ),
    encode: SchemaGetter.transform(format)
  }))

/** Any text, as it is. */
export const Text: Codec<string> = Schema.String
/** Text that must not be empty. */
export const NonEmptyText: Codec<string> = Schema.String.check(
  Schema.makeFilter((text: string) => text.length > 0, { expected: "a text that is not empty" })
)
/** A duration in Go's syntax. Unit of the value: milliseconds. */
export const DurationMs: Codec<number> = codecOf(Schema.Finite, GoSyntax.durationMs, GoSyntax.formatDurationMs)
/** An integer in Go's base-0 syntax. */
export const Int: Codec<number> = codecOf(Schema.Int, GoSyntax.integer, String)
/** A boolean in Go's syntax. */
export const Bool: Codec<boolean> = codecOf(Schema.Boolean, GoSyntax.boolean, String)
/** A URL that Go accepts, kept as text; `shells/grpc` connects to it. */
export const Url: Codec<string> = codecOf(Schema.String, GoSyntax.url, (text) => text)
/** A list separated by commas, items trimmed, empty items dropped. */
export const List: Codec<ReadonlyArray<string>> = codecOf(
  Schema.Array(Schema.String),
  (text) => Result.succeed(GoSyntax.list(text).map((item) => item.trim()).filter((item) => item !== "")),
  (items) => items.join(",")
)
/** One of a few words. */
export const Choice = <const Words extends ReadonlyArray<string>>(words: Words): Codec<Words[number]> =>
  Schema.Literals(words)
/** A secret: never shown. */
export const Secret: Codec<Redacted.Redacted> = Schema.RedactedFromValue(Schema.String)

/** A variable that cannot be used. */
export interface Problem {
  readonly name: string
  readonly message: string
}

/** The environment, as `process.env` has it. */
export type Environment = { readonly [name: string]: string | undefined }

/** Reads all settings; the failure lists every problem. */
export function decode<T extends Table>(table: T, env: Environment): Result.Result<Values<T>, ReadonlyArray<Problem>>
export function decode(table: Table, env: Environment): Result.Result<unknown, ReadonlyArray<Problem>> {
  const values: { [key: string]: unknown } = {}
  const problems: Array<Problem> = []
  for (const [key, row] of Object.entries(table)) {
    const name = row.names.find((name, index) => isSet(env, name, index))
    if (name === undefined && !row.hasDefault) {
      problems.push({ name: row.names[0], message: `${row.names[0]} is not set: ${row.summary}` })
    } else {
      const result = name === undefined ? Result.succeed(row.fallback) : row.read(env[name] ?? "")
      if (Result.isSuccess(result)) values[key] = result.success
      else problems.push({ name: name ?? "", message: complaint(row, name ?? "", env, result.failure) })
    }
  }
  return problems.length === 0 ? Result.succeed(values) : Result.fail(problems)
}

const isSet = (env: Environment, name: string, index: number): boolean => {
  const text = env[name]
  const isServiceLink = index > 0 && name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\/[\d.:[\]a-f]+$/.test(text ?? "")
  return text !== undefined && !isServiceLink
}

const complaint = (row: Entry<unknown>, name: string, env: Environment, expected: string): string => {
  const remedy = row.hasDefault ? `, or unset it to use "${row.shown}"` : ""
  return row.isSecret
    ? `${name} is not usable: write ${expected}`
    : `${name}="${env[name] ?? ""}" is not usable: write ${expected}${remedy}`
}

/** The table as text for `--help`: one line per setting. */
export const describe = (table: Table): string => {
  const rows = Object.values(table).map((row) => [row.names[0], row.hasDefault ? row.shown : "(required)", row.summary])
  const width = (column: number) => Math.max(0, ...rows.map((row) => (row[column] ?? "").length))
  const [first, second] = [width(0), width(1)]
  return rows.map(([name = "", shown = "", text = ""]) => `  ${name.padEnd(first)}  ${shown.padEnd(second)}  ${text}`)
    .join("\n")
}

/** The variables of the table that are set, secrets hidden; for `--debug`. */
export const present = (table: Table, env: Environment): { readonly [name: string]: string } =>
  Object.fromEntries(
    Object.values(table).flatMap((row) =>
      row.names.flatMap((name) => {
        const text = env[name]
        return text === undefined ? [] : [[name, row.isSecret ? "<redacted>" : text]]
      })
    )
  )

/** The values as they would be written in the environment, secrets hidden; for the log. */
export function encode<T extends Table>(table: T, values: Values<T>): { readonly [name: string]: string }
export function encode(table: Table, values: { readonly [key: string]: unknown }): { readonly [name: string]: string } {
  return Object.fromEntries(Object.entries(table).map(([key, row]) => [row.names[0], row.show(values[key])]))
}
