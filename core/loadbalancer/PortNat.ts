/**
 * The translation of ports: clients know the port of a VIP, targets another one. It follows the balancing, which looks at
 * the ports as the client knows them. ICMP errors carry the head of a packet with the ports as their sender saw them, so
 * they are translated too.
 *
 * The kernel mends the checksums of TCP and UDP by the difference and works that of SCTP out anew. Errors about a packet
 * with IPv4 options keep the port as their sender saw it.
 *
 * nftables does not mend the checksum of an ICMP message when raw bytes in it change. It does so when it changes a field
 * it knows. So such a field is first set to what makes up for the change of the port, without a word to the checksum, and
 * then back to what it was: with ICMP its type and code, with ICMPv6 the end of the VIP, which its checksum covers.
 */
import type { PortNat, Protocol } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Classification from "./Classification.ts"
import * as Flows from "./Flows.ts"
import { baseChain, chain, map, type Object } from "./Objects.ts"
import { protocols, type Words, words } from "./Words.ts"

/** What belongs into the general table. */
export const objects = (nats: ReadonlyArray<PortNat>): ReadonlyArray<Object> => {
  const parts = Object.values(words).flatMap((w) =>
    protocols.flatMap(([protocol, number]) => {
      const own = translations(nats, w.family, protocol)
      return own.length === 0 ? [] : [{ ...ofPackets(w, protocol, own), errors: ofErrors(w, protocol, number, own) }]
    })
  )
  const errors = parts.flatMap(({ errors }) => errors.rules)
  return parts.length === 0 ? [] : [
    ...parts.flatMap((part) => [...part.maps, ...part.errors.objects]),
    baseChain("port-nat", "filter hook prerouting priority 100", [...parts.flatMap(({ rules }) => rules), ...errors]),
    // After `own-errors`.
    baseChain("port-nat-errors", "filter hook output priority 100", errors)
  ]
}

/** The destinations that are translated: address, protocol and port. */
export const elements = (nats: ReadonlyArray<PortNat>, family: Ip.Family): ReadonlyArray<string> =>
  protocols.flatMap(([protocol]) =>
    single(translations(nats, family, protocol), ({ port }) => port)
      .map(({ port, vip }) => `${vip} . ${protocol} . ${port}`)
  )

interface Translation {
  readonly vip: Cidr.Cidr
  readonly port: number
  readonly targetPort: number
}

const translations = (
  nats: ReadonlyArray<PortNat>,
  family: Ip.Family,
  protocol: Protocol
): ReadonlyArray<Translation> =>
  nats.filter((nat) => nat.protocol === protocol).flatMap(({ port, targetPort, vips }) =>
    Classification.distinct(vips.map(({ address }) => address), family).map((vip) => ({ vip, port, targetPort }))
  ).toSorted((a, b) => Cidr.compare(a.vip, b.vip) || a.port - b.port || a.targetPort - b.targetPort)

// Of translations of the same address and port the first counts.
const single = (all: ReadonlyArray<Translation>, from: (one: Translation) => number): ReadonlyArray<Translation> =>
  all.filter((one, i) => all.findIndex((other) => from(other) === from(one) && Cidr.overlaps(other.vip, one.vip)) === i)

const ofPackets = (
  { address, family, ip, n }: Words,
  protocol: Protocol,
  own: ReadonlyArray<Translation>
): { readonly maps: ReadonlyArray<Object>; readonly rules: ReadonlyArray<string> } => {
  const type = `type ${address} . inet_service : inet_service; flags interval`
  const [there, back] = [`nat${n}-${protocol}`, `unnat${n}-${protocol}`]
  const toTarget = `${ip} daddr . ${protocol} dport map @${there}`
  const toClient = `${ip} saddr . ${protocol} sport map @${back}`
  const set = (rewriting: string): ReadonlyArray<string> => [
    `${rewriting}${protocol} dport set ${toTarget}`,
    `${rewriting}${protocol} sport set ${toClient}`
  ]
  return {
    maps: [
      map(
        there,
        type,
        single(own, ({ port }) => port).map(({ port, targetPort, vip }) => `${vip} . ${port} : ${targetPort}`)
      ),
      map(
        back,
        type,
        single(own, ({ targetPort }) => targetPort).map(({ port, targetPort, vip }) =>
          `${vip} . ${targetPort} : ${port}`
        )
      )
    ],
    // A UDP checksum of 0 means none and must stay so; raw bytes are written without one.
    rules: protocol === "udp" && family === "v4"
      ? [
        ...set("udp checksum != 0 "),
        `udp checksum 0 @th,16,16 set ${toTarget}`,
        `udp checksum 0 @th,0,16 set ${toClient}`
      ]
      : set("")
  }
}

// Errors about a target's packet show the port of the client, those about a client's packet the port of the target.
const ofErrors = (
  w: Words,
  protocol: Protocol,
  number: number,
  own: ReadonlyArray<Translation>
): { readonly objects: ReadonlyArray<Object>; readonly rules: ReadonlyArray<string> } => {
  const { inner, n } = w
  const [ports] = inner.ports
  if (ports === undefined) return { objects: [], rules: [] }
  const sides = [
    {
      name: `nat-errors${n}-${protocol}`,
      address: inner.source,
      field: ports.source,
      outer: "daddr",
      changes: single(own, ({ port }) => port).map(({ port, targetPort, vip }) => ({ vip, from: port, to: targetPort }))
    },
    {
      name: `unnat-errors${n}-${protocol}`,
      address: inner.destination,
      field: ports.destination,
      outer: "saddr",
      changes: single(own, ({ targetPort }) => targetPort).map(({ port, targetPort, vip }) => ({
        vip,
        from: targetPort,
        to: port
      }))
    }
  ] as const
  return {
    objects: sides.flatMap(({ address, changes, field, name, outer }) => {
      const chains = changes.flatMap((change, i) => {
        const rules = w.family === "v4" ? mended4(field, change) : mended6(field, change, outer)
        return rules.length === 0 ? [] : [{ change, chain: chain(`${name}-${i}`, rules) }]
      })
      return [
        ...chains.map(({ chain }) => chain),
        map(
          name,
          `typeof ${address} . ${field} : verdict; flags interval`,
          chains.map(({ chain, change }) => `${Flows.rawSpan(change.vip)} . ${change.from} : goto ${chain.name}`)
        )
      ]
    }),
    rules: sides.map(({ address, field, name }) =>
      `${w.errors} ${ports.condition}${inner.protocol} ${number} ${address} . ${field} vmap @${name}`
    )
  }
}

interface Change {
  readonly vip: Cidr.Cidr
  readonly from: number
  readonly to: number
}

/** Destination unreachable by its usual codes, time exceeded and parameter problem. */
const messages: ReadonlyArray<readonly [type: number, code: number]> = [
  ...[4, 3, 1, 0, 2, 9, 10, 13].map((code) => [3, code] as const),
  [11, 0],
  [11, 1],
  [12, 0]
]

const mended4 = (field: string, { from, to }: Change): ReadonlyArray<string> =>
  messages.map(([type, code]) =>
    `icmp type ${type} icmp code ${code} @th,0,16 set ${madeUp(type * 256 + code, from, to)} ${field} set ${to} `
    + `icmp type set ${type} icmp code set ${code} accept`
  )

// A VIP that is more than one address is not known by its prefix; such errors stay as they are.
const mended6 = (field: string, { from, to, vip }: Change, outer: "saddr" | "daddr"): ReadonlyArray<string> => {
  if (Cidr.length(vip) < 128) return []
  const address = Cidr.ip(vip)
  const end = Number(Ip.toBigInt(address) & 0xffffn)
  return [
    `ip6 ${outer} ${address} @nh,${outer === "saddr" ? 176 : 304},16 set ${madeUp(end, from, to)} ${field} set ${to} `
    + `ip6 ${outer} set ${address}`
  ]
}

/** What has to stand in place of the word so that the sum stays as it is when another word changes. */
const madeUp = (word: number, from: number, to: number): number => (word + from - to + 65_535) % 65_535
