/**
 * Metrics for Prometheus: `http://<any address>:<port>/metrics`. They are collected when they are asked for, so that what
 * has ended is not shown any more. Names and labels are those of Meridio's OpenTelemetry meter: dots become underscores,
 * counters end in `_total`, and `target_info` carries the resource.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Metric, Schema, type Scope } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"

/** One value of one metric. */
export interface Sample {
  /** With dots, as Meridio names it: `meridio.interface.rx_bytes`. */
  readonly name: string
  readonly kind: "Counter" | "Gauge"
  readonly description: string
  readonly labels: { readonly [name: string]: string }
  readonly value: number
}

/** The metrics cannot be served. */
export class MetricsError extends Schema.TaggedError<MetricsError>()("MetricsError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

export interface Options<E> {
  /** 0 for any. */
  readonly port: number
  readonly collect: Effect.Effect<ReadonlyArray<Sample>, E>
}

/** Serves metrics for the life of the scope; returns the port. */
export const serve = <E>({ collect, port }: Options<E>): Effect.Effect<number, MetricsError, Scope.Scope> =>
  Effect.gen(function*() {
    const server = createServer()
    const answer = Effect.matchCauseEffect(Effect.flatMap(collect, text), {
      onSuccess: (body) => Effect.succeed(HttpServerResponse.text(body, { contentType })),
      onFailure: (cause) =>
        Effect.as(
          Effect.logWarning("The metrics cannot be collected", cause),
          HttpServerResponse.text("the metrics cannot be collected\n", { status: 500 })
        )
    })
    const app = HttpRouter.serve(HttpRouter.add("GET", "/metrics", answer), {
      disableLogger: true,
      disableListenLog: true
    })
    yield* Layer.build(Layer.provide(app, NodeHttpServer.layer(() => server, { port }))).pipe(
      Effect.mapError(({ cause }) => new MetricsError({ detail: `metrics on port ${port}: ${said(cause)}` }))
    )
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : port
  })

/** The samples in Prometheus' text format. */
export const text = (samples: ReadonlyArray<Sample>): Effect.Effect<string> =>
  Effect.gen(function*() {
    for (const { description, kind, labels, name, value } of [resource, ...samples]) {
      const options = { description, attributes: labels }
      yield* kind === "Counter"
        ? Metric.update(Metric.counter(`${name}_total`, options), value)
        : Metric.update(Metric.gauge(name, options), value)
    }
    return yield* PrometheusMetrics.format()
  }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))

const contentType = "text/plain; version=0.0.4; charset=utf-8"

const resource: Sample = {
  name: "target_info",
  kind: "Gauge",
  description: "Target metadata",
  labels: { service_name: "meridio", service_version: "v1.0.0" },
  value: 1
}

const said = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
