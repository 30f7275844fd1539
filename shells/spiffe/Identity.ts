/**
 * Who this process is towards other workloads, and how it speaks to them: mutual TLS with its SPIFFE identity if it has
 * one, else plain text. `SPIFFE_ENDPOINT_SOCKET` decides; programs need not know.
 */
import { Context, Effect, Layer } from "effect"
import type { Scope } from "effect"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import type * as Server from "../grpc/Server.ts"
import type * as SpiffeClient from "./Client.ts"
import type * as Spiffe from "./Spiffe.ts"

/** The variable that names the agent: `unix:///run/spire/agent.sock` or `tcp://127.0.0.1:8081`. */
export const endpointVariable = "SPIFFE_ENDPOINT_SOCKET"

/** The identity of this process; undefined in plain text. */
export const Identity = Context.Reference<Spiffe.Spiffe["Service"] | undefined>("sluice/spiffe/Identity", {
  defaultValue: () => undefined
})

/** The identity that the agent at the address gives; an empty address means plain text. */
export const layer = (endpoint: string): Layer.Layer<never, Spiffe.SpiffeError> =>
  endpoint === ""
    ? Layer.empty
    : Layer.effect(Identity, Effect.flatMap(code, ({ Spiffe }) => Spiffe.make({ endpoint })))

/** A channel to another workload. Waits for the first identity; tokens are sent only with one. */
export const client = (
  options: SpiffeClient.Options
): Effect.Effect<Client.Client | SpiffeClient.SpiffeClient, GrpcError.GrpcError, Scope.Scope> =>
  Effect.flatMap(Identity, (identity) => {
    const { maxTokenLifetimeMs: _, ...plain } = options
    return identity === undefined
      ? Client.make(plain)
      : refused(
        Effect.flatMap(
          code,
          ({ Client, Spiffe }) => Effect.provideService(Client.make(options), Spiffe.Spiffe, identity)
        )
      )
  })

/** Credentials of a server for other workloads; none in plain text. Waits for the first identity. */
export const credentials: Effect.Effect<Pick<Server.Options<never>, "credentials">, GrpcError.GrpcError, Scope.Scope> =
  Effect.flatMap(Identity, (identity) =>
    identity === undefined
      ? Effect.succeed({})
      : refused(Effect.flatMap(code, ({ Spiffe, Tls }) => Effect.provideService(Tls.server, Spiffe.Spiffe, identity)))
        .pipe(Effect.map((credentials) => ({ credentials }))))

// Loaded with the first use, as it costs start and memory: most sidecars of a laptop have no identity.
const code = Effect.promise(async () => ({
  Client: await import("./Client.ts"),
  Spiffe: await import("./Spiffe.ts"),
  Tls: await import("./Tls.ts")
}))

const refused = <A, R>(
  effect: Effect.Effect<A, GrpcError.GrpcError | Spiffe.SpiffeError, R>
): Effect.Effect<A, GrpcError.GrpcError, R> =>
  Effect.catchTag(effect, "SpiffeError", ({ message }) => Effect.fail(GrpcError.error("Unauthenticated", message)))
