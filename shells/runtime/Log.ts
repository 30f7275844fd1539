/**
 * Log lines of the originals: one JSON object per line on stdout with the keys `severity`, `timestamp`, `service_id`,
 * `message`, `version` and `extra_data`, in this order.
 *
 *     yield* Effect.logInfo("Stream opened", { stream: "s", identifier: 7 })
 *
 * Text of a message is joined; objects and annotations go into `extra_data`, errors into `extra_data.error`. There are
 * no stack traces, except at level TRACE, where a defect shows its own as `extra_data.stack`.
 * Source: Meridio pkg/log.
 */
import { Cause, Formatter, Logger, LogLevel, References } from "effect"

/** What the originals call levels: exactly these two words, anything else is INFO. */
export type Level = "TRACE" | "DEBUG" | "INFO"

/** The level that a setting such as MERIDIO_LOG_LEVEL means. */
export const levelOf = (text: string): Level => text === "TRACE" || text === "DEBUG" ? text : "INFO"

/** A level that can be changed while the program runs (SIGUSR1, SIGUSR2). */
export interface Switch {
  level: Level
}

const minimum: { readonly [L in Level]: LogLevel.LogLevel } = { TRACE: "Trace", DEBUG: "Debug", INFO: "Info" }

/** A logger that writes lines for the service, for example `Meridio-tapa`. */
export const make = (
  serviceId: string,
  control: Readonly<Switch>,
  write: (line: string) => void
): Logger.Logger<unknown, void> =>
  Logger.make(({ cause, date, fiber, logLevel, message }) => {
    if (!LogLevel.isGreaterThanOrEqualTo(logLevel, minimum[control.level])) return
    const extra: { [key: string]: unknown } = { ...fiber.getRef(References.CurrentLogAnnotations) }
    const texts: Array<string> = []
    for (const part of Array.isArray(message) ? message : [message]) {
      if (typeof part === "object" && part !== null && !(part instanceof Error)) Object.assign(extra, part)
      else texts.push(part instanceof Error ? part.message : String(part))
    }
    if (cause.reasons.length > 0) Object.assign(extra, errorOf(cause, control.level === "TRACE"))
    write(Formatter.formatJson({
      severity: severity(logLevel),
      timestamp: timestamp(date),
      service_id: serviceId,
      message: texts.join(" "),
      version: "1.0.0",
      extra_data: extra
    }))
  })

const severity = (level: LogLevel.LogLevel): string => {
  switch (level) {
    case "Trace":
    case "Debug":
      return "debug"
    case "Error":
      return "error"
    case "Fatal":
      return "critical"
    default:
      return "info"
  }
}

/** The first reason of a failure in one line. */
export const explain = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (Cause.hasInterruptsOnly(cause)) return "interrupted"
  return error instanceof Error ? error.message || error.name : Formatter.format(error)
}

const errorOf = (cause: Cause.Cause<unknown>, withStack: boolean) => {
  const error = Cause.squash(cause)
  const stack = withStack && error instanceof Error ? { stack: error.stack } : {}
  return { error: explain(cause), ...stack }
}

const two = (n: number): string => String(Math.floor(Math.abs(n))).padStart(2, "0")

/** RFC 3339 in local time as Go prints it: up to three digits of fraction without trailing zeros, never `Z`. */
export const timestamp = (date: Date): string => {
  const offset = -date.getTimezoneOffset()
  const local = new Date(date.getTime() + offset * 60_000).toISOString()
  const fraction = local.slice(19, 23).replace(/\.?0+$/, "")
  return `${local.slice(0, 19)}${fraction}${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}`
}
