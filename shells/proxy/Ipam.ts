/** The IPAM as the proxy uses it (`ipam.v1`): addresses of children in the subnet of (conduit, trench, node, family). */
import { Effect, Result } from "effect"
import { Model as IpamModel } from "../../core/ipam/index.ts"
import { Cidr } from "../../core/net/index.ts"
import type { Model } from "../../core/proxy/index.ts"
import { type Child, IpamDefinition, IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import type * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"

/** Where the addresses are taken from. */
export interface Subnet {
  readonly trench: string
  readonly conduit: string
  readonly node: string
}

type Call<A> = Effect.Effect<A, GrpcError.GrpcError>

export interface Ipam {
  /** Allocates one after the other; a child that has an address keeps it. Stops at the first failure. */
  readonly allocate: (children: ReadonlyArray<Model.Child>) => Call<ReadonlyArray<Model.Allocation>>
  /** Releases one after the other; unknown children count as released. Stops at the first failure. */
  readonly release: (children: ReadonlyArray<Model.Child>) => Call<void>
}

export interface Options {
  readonly subnet: Subnet
  /** The limit of each call, among it the wait for a connection. */
  readonly timeoutMs: number
  /** When this process began: what an earlier one of the node releases late does not count. */
  readonly startedAt: number
}

/** Makes the client. */
export const make = (client: Client.Client, { startedAt, subnet, timeoutMs }: Options): Ipam => {
  const options = { timeoutMs, metadata: { [IpamModel.startedAtKey]: String(startedAt) } }
  return {
    allocate: (children) =>
      Effect.forEach(children, (child) =>
        Effect.flatMap(
          client.call(IpamDefinition, "allocate", toWire(child, subnet), options),
          ({ address, prefixLength }) =>
            Result.match(Cidr.parse(`${address}/${prefixLength}`), {
              onSuccess: (address) => Effect.succeed({ ...child, address }),
              onFailure: (problem) => Effect.fail(GrpcError.error("Internal", `the IPAM answered ${problem}`))
            })
        )),
    release: (children) =>
      Effect.forEach(
        children,
        (child) => client.call(IpamDefinition, "release", toWire(child, subnet), options),
        { discard: true }
      )
  }
}

const toWire = ({ family, name }: Model.Child, { conduit, node, trench }: Subnet): Child => ({
  name,
  subnet: {
    conduit: { name: conduit, trench: { name: trench }, destinationPortNats: [] },
    node,
    ipFamily: family === "v4" ? IPFamily.IPV4 : IPFamily.IPV6
  }
})
