/** `loadbalancer.v1.StreamAvailabilityService`: tells the frontend of the pod whether there is anybody to serve. */
import { Stream } from "effect"
import { StreamAvailabilityServiceDefinition } from "../../proto/gen/api/loadbalancer/v1/stream.ts"
import * as Server from "../grpc/Server.ts"

/** The value at once, then each change: one target, with our host name as identifier or with an empty context. */
export const service = (hostname: string, available: Stream.Stream<boolean>) =>
  Server.service(StreamAvailabilityServiceDefinition, {
    watch: () =>
      available.pipe(
        Stream.changes,
        Stream.map((isAvailable) => ({ targets: [{ context: contextOf(hostname, isAvailable) }] }))
      )
  })

const contextOf = (identifier: string, isAvailable: boolean): { readonly [key: string]: string } =>
  isAvailable ? { identifier } : {}
