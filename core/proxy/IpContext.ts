/**
 * Decides what the proxy writes into the IP context of a connection, given the addresses of the connection and of the
 * bridge. The gateways of a target are the addresses of the bridge.
 *
 * 1. The answer to a target has exactly one own address and one gateway of each family.
 * 2. What the target brought along (its VIPs) stays, in its order.
 * 3. Answering an answer changes nothing.
 * 4. A load balancer's ends never share an address.
 *
 * Source: Meridio `pkg/proxy/proxy.go`, which gives an address twice when a request has our addresses but no gateway.
 */
import * as Memo from "../Memo.ts"
import { Cidr } from "../net/index.ts"
import type * as Nsm from "../nsm/Model.ts"
import * as Same from "../Same.ts"
import type { Pair } from "./Model.ts"

/** The context of a connection to a load balancer: the proxy is its client, so our end is the source. */
export const toLoadBalancer = (ip: Nsm.IpContext, pair: Pair): Nsm.IpContext => ({
  ...ip,
  srcAddrs: pair.dst,
  dstAddrs: pair.src
})

/**
 * The answer to a target: its own addresses, ours, and the bridge as gateway. Entries in the subnet of an old or a new
 * gateway are the proxy's and are replaced; everything else is the target's. The gateway of each policy follows, too.
 */
export const toTarget = (ip: Nsm.IpContext, pair: Pair, bridge: ReadonlyArray<Cidr.Cidr>): Nsm.IpContext =>
  answerTo({ ip, pair, bridge })

// Every refresh of an answered connection asks for the same again.
const answerTo = Memo.last(({ ip }: {
  readonly ip: Nsm.IpContext
  readonly pair: Pair
  readonly bridge: ReadonlyArray<Cidr.Cidr>
}) => ip, ({ bridge, ip, pair }): Nsm.IpContext => {
  const subnets = [...ip.extraPrefixes, ...bridge]
  const srcAddrs = replaceOwn(ip.srcAddrs, pair.src, subnets)
  const dstAddrs = replaceOwn(ip.dstAddrs, pair.dst, subnets)
  if (srcAddrs === ip.srcAddrs && dstAddrs === ip.dstAddrs && sameSet(ip.extraPrefixes, bridge)) return ip
  return {
    ...ip,
    srcAddrs,
    dstAddrs,
    extraPrefixes: bridge,
    policies: ip.policies.map((policy) => withGateway(policy, bridge))
  }
})

/** The same list if its own part is right as it is, else what is not in the subnets followed by the own addresses. */
const replaceOwn = (
  addresses: ReadonlyArray<Cidr.Cidr>,
  own: ReadonlyArray<Cidr.Cidr>,
  subnets: ReadonlyArray<Cidr.Cidr>
): ReadonlyArray<Cidr.Cidr> => {
  const isOwn = (address: Cidr.Cidr): boolean =>
    own.includes(address) || subnets.some((subnet) => Cidr.contains(subnet, Cidr.host(Cidr.ip(address))))
  if (sameSet(addresses.filter(isOwn), own)) return addresses
  return [...addresses.filter((address) => !isOwn(address)), ...own]
}

const withGateway = (policy: Nsm.Policy, bridge: ReadonlyArray<Cidr.Cidr>): Nsm.Policy => {
  const { from } = policy
  if (from === undefined) return policy
  const gateway = bridge.find((address) => Cidr.family(address) === Cidr.family(from))
  const routes = policy.routes.map(({ prefix }) =>
    gateway === undefined ? { prefix } : { prefix, nextHop: Cidr.ip(gateway) }
  )
  return { ...policy, routes }
}

/** Without duplicates on either side. */
const sameSet = (a: ReadonlyArray<Cidr.Cidr>, b: ReadonlyArray<Cidr.Cidr>): boolean =>
  a.length === b.length && Same.equals(a.toSorted(Cidr.compare), b.toSorted(Cidr.compare))
