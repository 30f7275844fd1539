/**
 * Health as probes see it: named probes, each the conjunction of its sub-services (`grpc.health.v1`).
 *
 * 1. The service `""` is always SERVING.
 * 2. A probe is SERVING when all its sub-services are; without sub-services it is SERVING unless it is set directly.
 * 3. A new sub-service is NOT_SERVING; it may belong to several probes, or to none.
 * 4. Setting a probe that has sub-services changes nothing.
 * 5. Check of an unknown service is NOT_FOUND; Watch of it is SERVICE_UNKNOWN until it becomes known.
 * 6. A watcher that reads slowly or not at all holds up nobody; when it reads, it sees the newest status.
 *
 * Source: Meridio pkg/health. Ours: a probe that is not SERVING is logged once per change, not once per question.
 */
import { Context, Effect, Layer, PubSub, Stream } from "effect"
import type { Scope } from "effect"
import { HealthCheckResponse_ServingStatus as Status, HealthDefinition } from "../../proto/gen/grpc/health/v1/health.ts"
import * as Client from "./Client.ts"
import * as GrpcError from "./Error.ts"
import * as Server from "./Server.ts"

/** The probes that Kubernetes asks for. */
export const probes = { startup: "Startup", readiness: "Readiness", liveness: "Liveness" } as const

/** Where every program answers probes unless `SLUICE_HEALTH_SOCKET` says otherwise. */
export const defaultAddress = "unix:///tmp/health.sock"

/** The address from the environment: a path or a `unix:` URL; several programs on one machine need one each. */
export const addressFrom = (env: { readonly [name: string]: string | undefined }): string => {
  const text = env["SLUICE_HEALTH_SOCKET"] ?? ""
  if (text === "") return defaultAddress
  return text.startsWith("/") ? `unix://${text}` : text
}

/** What is known about health: which sub-services each probe has, and whether each service serves. */
export interface State {
  readonly probes: { readonly [probe: string]: ReadonlyArray<string> }
  readonly serving: { readonly [service: string]: boolean }
}

const initial: State = { probes: {}, serving: { "": true } }

const withProbe = (state: State, probe: string, subs: ReadonlyArray<string>): State => {
  const all = [...new Set([...(state.probes[probe] ?? []), ...subs])]
  const serving = { ...Object.fromEntries(subs.map((sub) => [sub, false])), ...state.serving }
  return recompute({ probes: { ...state.probes, [probe]: all }, serving: { [probe]: true, ...serving } })
}

const withServing = (state: State, service: string, serving: boolean): State => {
  const isComposed = (state.probes[service] ?? []).length > 0
  if (service === "" || isComposed || state.serving[service] === serving) return state
  return recompute({ ...state, serving: { ...state.serving, [service]: serving } })
}

const recompute = (state: State): State => {
  const serving: { [service: string]: boolean } = { ...state.serving }
  for (const [probe, subs] of Object.entries(state.probes)) {
    if (subs.length > 0) serving[probe] = subs.every((sub) => state.serving[sub] === true)
  }
  return { ...state, serving }
}

const statusOf = (state: State, service: string): Status | undefined => {
  const serving = state.serving[service]
  if (serving === undefined) return undefined
  return serving ? Status.SERVING : Status.NOT_SERVING
}

/** The health of this process. */
export class Health extends Context.Service<Health, {
  /** Makes a probe, or adds sub-services to it. */
  readonly register: (probe: string, subs?: ReadonlyArray<string>) => Effect.Effect<void>
  /** Sets a sub-service, or a probe without sub-services. */
  readonly set: (service: string, serving: boolean) => Effect.Effect<void>
  /** Keeps a sub-service equal to the newest value of a stream, for example `client.ready`, until the scope closes. */
  readonly track: (service: string, serving: Stream.Stream<boolean>) => Effect.Effect<void, never, Scope.Scope>
  readonly state: Effect.Effect<State>
  /** The state as it is, then the newest one after each change; a slow reader skips states but never the last. */
  readonly changes: Stream.Stream<State>
}>()("sluice/grpc/Health") {}

const make = Effect.gen(function*() {
  let state = initial
  // What a slow reader has not read is replaced by what is newer, so that a dead one costs nothing.
  const states = yield* PubSub.sliding<State>({ capacity: 1, replay: 1 })
  yield* PubSub.publish(states, state)
  const update = (service: string, change: (state: State) => State): Effect.Effect<void> =>
    Effect.gen(function*() {
      const before = state
      const after = change(before)
      if (after === before) return
      state = after
      yield* PubSub.publish(states, after)
      yield* Effect.forEach(Object.keys(after.probes), (probe) => report(probe, before, after), { discard: true })
    }).pipe(Effect.annotateLogs({ service }))
  const set = (service: string, serving: boolean) => update(service, (state) => withServing(state, service, serving))
  return Health.of({
    register: (probe, subs = []) => update(probe, (state) => withProbe(state, probe, subs)),
    set,
    track: (service, serving) =>
      Stream.runForEach(serving, (now) => set(service, now)).pipe(
        Effect.ensuring(set(service, false)),
        Effect.forkScoped,
        Effect.asVoid
      ),
    state: Effect.sync(() => state),
    changes: Stream.fromPubSub(states)
  })
})

const report = (probe: string, before: State, after: State): Effect.Effect<void> => {
  if (before.serving[probe] === after.serving[probe]) return Effect.void
  if (after.serving[probe] === true) return Effect.logInfo(`Probe ${probe} is SERVING`)
  const subs = Object.fromEntries((after.probes[probe] ?? []).map((sub) => [sub, after.serving[sub] === true]))
  return Effect.logInfo(`Probe ${probe} is NOT_SERVING`).pipe(Effect.annotateLogs({ subServices: subs }))
}

/** The health of this process without a server. */
export const layer: Layer.Layer<Health> = Layer.effect(Health, make)

/** `grpc.health.v1.Health` over the process's health, to be served beside other services or alone. */
export const service = (health: Health["Service"]) =>
  Server.service(HealthDefinition, {
    check: ({ service }) =>
      Effect.flatMap(health.state, (state) => {
        const status = statusOf(state, service)
        return status === undefined
          ? Effect.fail(GrpcError.error("NotFound", `unknown service ${service}`))
          : Effect.succeed({ status })
      }),
    watch: ({ service }) =>
      health.changes.pipe(
        Stream.map((state) => statusOf(state, service) ?? Status.SERVICE_UNKNOWN),
        Stream.changes,
        Stream.map((status) => ({ status }))
      )
  })

/** The health of this process, served on its own socket. */
export const serve = (address: string): Layer.Layer<Health, GrpcError.GrpcError> =>
  Layer.effect(
    Health,
    Effect.tap(make, (health) =>
      Effect.mapError(
        Server.serve({ address, services: [service(health)], graceMs: 100 }),
        ({ code, details }) =>
          new GrpcError.GrpcError({ code, details: `${details} (SLUICE_HEALTH_SOCKET names another health socket)` })
      ))
  )

type Dial = (options: Omit<Client.Options, "credentials">) => ReturnType<typeof Client.make>

/** Asks a server once whether a service is SERVING. Fails with NOT_FOUND if it does not know the service. */
export const check = (options: {
  readonly address: string
  readonly service: string
  /** For connection and answer together. Default: 1000 ms. */
  readonly timeoutMs?: number
  /** Opens the channel. Default: in plain text. */
  readonly dial?: Dial
}): Effect.Effect<boolean, GrpcError.GrpcError> =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* (options.dial ?? Client.make)({
      target: options.address,
      channelOptions: { "grpc.primary_user_agent": "meridio-grpc-health-probe" }
    })
    const request = { service: options.service }
    const response = yield* client.call(HealthDefinition, "check", request, { timeoutMs: options.timeoutMs ?? 1000 })
    return response.status === Status.SERVING
  }))

/** A server of this process, and the sub-service that stands for it. */
export interface SelfProbe {
  readonly service: string
  readonly address: string
  readonly timeoutMs?: number
  readonly dial?: Dial
  readonly listens?: boolean
}

/** Probes a server that lives as long as the scope; with it the sub-service goes down. */
export const scopedProbe = (options: SelfProbe): Effect.Effect<void, never, Health | Scope.Scope> =>
  Effect.gen(function*() {
    const health = yield* Health
    yield* Effect.forkScoped(selfProbe(options))
    yield* Effect.addFinalizer(() => health.set(options.service, false))
  })

/**
 * Probes a server of this process for ever, at once and then 5 s after each answer, and sets a sub-service to the
 * outcome. Fork it in the scope of the program.
 *
 * With `listens` the server counts as serving from the start, for it is known to listen, and is asked 5 s later for the
 * first time: a cold start does not pay for a client.
 */
export const selfProbe = (options: SelfProbe): Effect.Effect<never, never, Health> =>
  Effect.gen(function*() {
    const health = yield* Health
    if (options.listens === true) {
      yield* health.set(options.service, true)
      yield* Effect.sleep("5 seconds")
    }
    const once = check({ ...options, service: "" })
    return yield* Effect.orElseSucceed(once, () => false).pipe(
      Effect.flatMap((serving) => health.set(options.service, serving)),
      Effect.andThen(Effect.sleep("5 seconds")),
      Effect.forever
    )
  })
