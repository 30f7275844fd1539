/** A manager of NSM for tests: no kernel, no sockets, only the answers. */
import { Effect, Layer, Option, Stream, SubscriptionRef } from "effect"
import { Cidr } from "../../core/net/index.ts"
import type * as Nsm from "../../core/nsm/Model.ts"
import { NsmClient } from "../sdk/Client.ts"

/** What a token of the path says; it must never be seen outside of the process. */
export const token = "header.secret.signature"

/**
 * Grants every request with the address, remembers connections over restarts of its client, and tells what it was
 * asked for.
 */
export const make = (address: string) =>
  Effect.gen(function*() {
    const connections = yield* SubscriptionRef.make<{ readonly [id: string]: Nsm.Connection }>({})
    const requests: Array<Nsm.Connection> = []
    const client: NsmClient["Service"] = {
      request: (wanted) =>
        Effect.gen(function*() {
          requests.push(wanted)
          const { ip } = wanted.context
          const granted: Nsm.Connection = {
            ...wanted,
            state: "Up",
            path: { index: 0, segments: [{ name: "target", id: wanted.id, token, metrics: {} }] },
            mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: "nsm-0" } },
            context: {
              ...wanted.context,
              ip: {
                ...ip,
                srcAddrs: ip.srcAddrs.length > 0 ? ip.srcAddrs : [Cidr.unsafe(address)],
                extraPrefixes: [Cidr.unsafe("172.16.0.1/24")]
              }
            }
          }
          yield* SubscriptionRef.update(connections, (all) => ({ ...all, [wanted.id]: granted }))
          return granted
        }),
      close: (id) =>
        SubscriptionRef.update(
          connections,
          (all) => Object.fromEntries(Object.entries(all).filter(([key]) => key !== id))
        ),
      query: (id) => Effect.map(SubscriptionRef.get(connections), (all) => Option.fromUndefinedOr(all[id])),
      changes: (id) =>
        SubscriptionRef.changes(connections).pipe(
          Stream.takeWhile((all) => all[id] !== undefined),
          Stream.flatMap((all) => Stream.fromIterable(all[id] === undefined ? [] : [all[id]]))
        ),
      registerService: (service) => Effect.succeed(service),
      find: () => Stream.never
    }
    return { connections, requests, layer: Layer.succeed(NsmClient, NsmClient.of(client)) }
  })
