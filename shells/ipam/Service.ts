/** `ipam.v1.Ipam`: requests from the wire to the machine, answers back. */
import { Effect } from "effect"
import { type Ipam, Model } from "../../core/ipam/index.ts"
import type { Family } from "../../core/net/Ip.ts"
import { type Child, IpamDefinition, IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Server from "../grpc/Server.ts"
import type { Replies } from "../runtime/Replies.ts"

export const make = (send: (event: Ipam.Event) => void, replies: Replies<Model.Answer>) => {
  const ask = (tag: "AllocateRequested" | "ReleaseRequested", child: Child, { metadata }: Server.Call) =>
    Effect.suspend(() => {
      const family = families[child.subnet?.ipFamily ?? IPFamily.IPV4]
      if (family === undefined) {
        return tag === "ReleaseRequested"
          ? Effect.succeed<Model.Answer>({ _tag: "Released" })
          : Effect.fail(GrpcError.error("Unknown", `subnet.ipFamily=${child.subnet?.ipFamily}: write IPV4 or IPV6`))
      }
      let reply: number | undefined
      return replies.ask((number) => {
        reply = number
        send({ _tag: tag, reply: number, child: fromWire(child, family, metadata[Model.startedAtKey]) })
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => reply !== undefined && send({ _tag: "RequestAbandoned", reply }))),
        Effect.flatMap((answer) =>
          answer._tag === "Refused" ? Effect.fail(toError(answer.refusal)) : Effect.succeed(answer)
        )
      )
    })
  return Server.service(IpamDefinition, {
    allocate: (child, call) =>
      Effect.map(ask("AllocateRequested", child, call), (answer) =>
        answer._tag === "Allocated"
          ? { address: answer.address, prefixLength: answer.length }
          : { address: "", prefixLength: 0 }),
    release: (child, call) => Effect.as(ask("ReleaseRequested", child, call), {})
  })
}

const families: { readonly [family: number]: Family | undefined } = { [IPFamily.IPV4]: "v4", [IPFamily.IPV6]: "v6" }

// An empty name counts as missing: nobody can configure a conduit without a name.
const fromWire = ({ name, subnet }: Child, family: Family, startedAt: string | undefined): Model.Child => {
  const conduit = subnet?.conduit?.name ?? ""
  const trench = subnet?.conduit?.trench?.name ?? ""
  return {
    family,
    name,
    node: subnet?.node ?? "",
    ...(conduit === "" ? {} : { conduit }),
    ...(trench === "" ? {} : { trench }),
    ...(startedAt !== undefined && /^\d{1,15}$/.test(startedAt) ? { startedAt: Number(startedAt) } : {})
  }
}

// The original fails with UNKNOWN whatever the cause, and proxies only tell errors from success.
const toError = (refusal: Model.Refusal): GrpcError.GrpcError =>
  GrpcError.error(
    refusal._tag === "Closing" || refusal._tag === "StoreFailed" ? "Unavailable" : "Unknown",
    Model.explain(refusal)
  )
