/**
 * Decides what of an offered attractor can be served: each VIP and gateway is taken, or listed with a reason. Whatever
 * is taken is accepted by BIRD and by the kernel.
 *
 * 1. No rule from everywhere: a VIP has a prefix length above 0 and no host bits.
 * 2. No text of the offer reaches BIRD unchecked.
 * 3. The order of the offer has no meaning.
 */
import { Result } from "effect"
import { Cidr, Ip } from "../net/index.ts"
import type { Attractor, Bfd, Gateway, OfferedAttractor, OfferedGateway, Rejection, SecretRef } from "./Model.ts"

/** The attractor before the NSP said anything, and after it was removed. */
export const nothing: Attractor = { vips: [], gateways: [], rejected: [] }

/** Checks an offer. */
export const admit = (offer: OfferedAttractor): Attractor => {
  const rejected: Array<Rejection> = []
  const take = <A>(item: string, result: Result.Result<A, string>): ReadonlyArray<A> => {
    if (Result.isSuccess(result)) return [result.success]
    rejected.push({ item, reason: result.failure })
    return []
  }
  const vips = offer.vips.flatMap((text) => take(`vip ${text}`, vip(text)))
  const names = offer.gateways.map(({ name }) => name)
  const gateways = offer.gateways.flatMap((offered) =>
    take(
      `gateway ${offered.name}`,
      names.indexOf(offered.name) === names.lastIndexOf(offered.name)
        ? gateway(offered)
        : Result.fail("two gateways of the attractor have this name; a name must be unique across both families")
    )
  )
  return {
    vips: [...new Set(vips)].toSorted(Cidr.compare),
    gateways: gateways.toSorted((a, b) => compareText(a.name, b.name)),
    rejected: unique(rejected)
  }
}

const vip = (text: string): Result.Result<Cidr.Cidr, string> => {
  const parsed = Cidr.parse(text)
  if (Result.isFailure(parsed)) return parsed
  const cidr = parsed.success
  if (Cidr.length(cidr) === 0) return Result.fail("a default route is not a VIP; write one address, 20.0.0.1/32")
  if (Cidr.network(cidr) !== cidr) return Result.fail(`it has host bits; write ${Cidr.network(cidr)}`)
  return unusable(Cidr.ip(cidr)) ? Result.fail("it is not a unicast address") : Result.succeed(cidr)
}

const gateway = (offered: OfferedGateway): Result.Result<Gateway, string> => {
  if (!/^[A-Za-z0-9_.:-]{1,60}$/.test(offered.name) || offered.name === "BFD") {
    return Result.fail("its name must be 1 to 60 letters, digits or _.:- and not BFD, to name a protocol of BIRD")
  }
  const address = Ip.parse(offered.address.split("/")[0] ?? "")
  if (Result.isFailure(address)) return Result.fail(address.failure)
  if (unusable(address.success)) return Result.fail(`${address.success} is not a unicast address`)
  const problem = numberProblem(offered)
  if (problem !== undefined) return Result.fail(problem)
  const common = {
    name: offered.name,
    address: address.success,
    ...(offered.bfd ? { bfd: bfd(offered) } : {})
  }
  switch (offered.protocol) {
    case "static":
      return Result.succeed({ ...common, routing: { _tag: "Static" } })
    case "bgp":
      return Result.map(password(offered), (secret) => ({ ...common, routing: bgp(offered, secret) }))
    default:
      return Result.fail(`its protocol is "${offered.protocol}"; write bgp or static`)
  }
}

const bgp = (offered: OfferedGateway, secret: { readonly password?: SecretRef }): Gateway["routing"] => ({
  _tag: "Bgp",
  ...given("remoteAs", offered.remoteAs),
  ...given("localAs", offered.localAs),
  ...given("remotePort", offered.remotePort),
  ...given("localPort", offered.localPort),
  ...given("holdTimeS", offered.holdTimeS),
  ...secret
})

const bfd = (offered: OfferedGateway): Bfd => ({
  ...given("minTxMs", offered.minTxMs),
  ...given("minRxMs", offered.minRxMs),
  ...given("multiplier", offered.multiplier)
})

/** An absent number is 0 on the wire (proto3). */
const given = <K extends string>(key: K, value: number): { readonly [P in K]?: number } | object =>
  value === 0 ? {} : { [key]: value }

const password = (offered: OfferedGateway): Result.Result<{ readonly password?: SecretRef }, string> => {
  const { keyName, keySource } = offered
  if (keySource === "") return Result.succeed({})
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(keySource)) {
    return Result.fail(`the key source "${keySource}" is not the name of a Secret`)
  }
  return /^[-._a-zA-Z0-9]{1,253}$/.test(keyName)
    ? Result.succeed({ password: { source: keySource, key: keyName } })
    : Result.fail(`the key name "${keyName}" is not the name of a key of a Secret`)
}

const numberProblem = (offered: OfferedGateway): string | undefined => {
  const limits: ReadonlyArray<readonly [name: string, value: number, minimum: number, maximum: number]> = [
    ["remote AS", offered.remoteAs, 1, 4_294_967_295],
    ["local AS", offered.localAs, 1, 4_294_967_295],
    ["remote port", offered.remotePort, 1, 65_535],
    ["local port", offered.localPort, 1, 65_535],
    ["hold time", offered.holdTimeS, 3, 65_535],
    ["BFD min-tx", offered.minTxMs, 1, 4_294_967],
    ["BFD min-rx", offered.minRxMs, 1, 4_294_967],
    ["BFD multiplier", offered.multiplier, 1, 255]
  ]
  const wrong = limits.find(([, value, minimum, maximum]) => value !== 0 && (value < minimum || value > maximum))
  return wrong && `its ${wrong[0]} is ${wrong[1]}; write ${wrong[2]} to ${wrong[3]}, or 0 for the default`
}

/** Unspecified, loopback, multicast and broadcast addresses. */
const unusable = (ip: Ip.Ip): boolean => {
  if (Ip.family(ip) === "v6") return ip === "::" || ip === "::1" || ip.startsWith("ff")
  const first = Number(ip.split(".")[0])
  return first === 0 || first === 127 || (first >= 224 && first < 240) || ip === "255.255.255.255"
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const unique = (rejected: ReadonlyArray<Rejection>): ReadonlyArray<Rejection> => {
  const texts = new Map(rejected.map((one) => [`${one.item}: ${one.reason}`, one]))
  return [...texts.keys()].toSorted(compareText).flatMap((text) => texts.get(text) ?? [])
}
