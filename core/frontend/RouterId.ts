/**
 * Decides the router id of BIRD, which is 32 bits and must be there even where there is only IPv6 (Meridio #297): the
 * lowest IPv4 address of the external interface, else of any interface, else a hash of the host name in 240.0.0.0/4.
 * Taken once: a router id that changes breaks all sessions.
 */
import { Cidr, Ip, type Kernel } from "../net/index.ts"

export const derive = (
  addresses: ReadonlyArray<Kernel.Address>,
  externalInterface: string,
  hostname: string
): Ip.Ip =>
  lowest(addresses.filter(({ link }) => link === externalInterface)) ??
    lowest(addresses.filter(({ link }) => link !== "lo")) ??
    Ip.fromBigInt("v4", 0xf000_0000n | (hash(hostname) & 0x0fff_ffffn))

const lowest = (addresses: ReadonlyArray<Kernel.Address>): Ip.Ip | undefined =>
  addresses.map(({ cidr }) => Cidr.ip(cidr)).filter((ip) => Ip.family(ip) === "v4").toSorted(Ip.compare)[0]

/** FNV-1a, 32 bits. */
const hash = (text: string): bigint => {
  let h = 0x811c_9dc5n
  for (const char of text) h = ((h ^ BigInt(char.codePointAt(0) ?? 0)) * 0x0100_0193n) & 0xffff_ffffn
  return h
}
