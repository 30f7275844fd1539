/** Which target the kernel chooses for a packet, as a model: jhash over what nftables puts together as a key. */
import { Maglev, type Model } from "../../core/loadbalancer/index.ts"
import { Ip } from "../../core/net/index.ts"

export interface Flow {
  readonly source: Ip.Ip
  readonly destination: Ip.Ip
  readonly protocol: number
  readonly sourcePort: number
  readonly destinationPort: number
}

/** Whom the rules of a stream send the packets of flows to. */
export const chooser = (stream: Model.Stream): (flow: Flow) => number => {
  const table = Maglev.table(stream, stream.identifiers)
  return (flow) => table[scaled(jhash(key(flow), 0x51ce), stream.slots)] ?? 0
}

// Fields begin at multiples of four bytes.
const key = ({ destination, destinationPort, protocol, source, sourcePort }: Flow): Uint8Array => {
  const ips = [source, destination].flatMap((ip) => bytes(Ip.toBigInt(ip), Ip.bits(Ip.family(ip)) / 8))
  const ports = [sourcePort, destinationPort].flatMap((port) => [port >> 8, port & 255, 0, 0])
  return Uint8Array.from([...ips, protocol, 0, 0, 0, ...ports])
}

const bytes = (value: bigint, count: number): ReadonlyArray<number> =>
  Array.from({ length: count }, (_, n) => Number((value >> BigInt(8 * (count - 1 - n))) & 255n))

const scaled = (hash: number, size: number): number => Number((BigInt(hash) * BigInt(size)) >> 32n)

const rotated = (n: number, by: number): number => (n << by) | (n >>> (32 - by))

// Bob Jenkins' lookup3, as in the kernel's jhash.h.
const jhash = (data: Uint8Array, seed: number): number => {
  const view = new DataView(data.buffer)
  const word = (at: number): number => view.getInt32(at, true)
  let a = (0xdeadbeef + data.length + seed) | 0
  let [b, c] = [a, a]
  let at = 0
  for (; data.length - at > 12; at += 12) {
    a = (a + word(at)) | 0
    b = (b + word(at + 4)) | 0
    c = (c + word(at + 8)) | 0
    a = ((a - c) | 0) ^ rotated(c, 4)
    c = (c + b) | 0
    b = ((b - a) | 0) ^ rotated(a, 6)
    a = (a + c) | 0
    c = ((c - b) | 0) ^ rotated(b, 8)
    b = (b + a) | 0
    a = ((a - c) | 0) ^ rotated(c, 16)
    c = (c + b) | 0
    b = ((b - a) | 0) ^ rotated(a, 19)
    a = (a + c) | 0
    c = ((c - b) | 0) ^ rotated(b, 4)
    b = (b + a) | 0
  }
  a = (a + word(at)) | 0
  if (data.length - at > 4) b = (b + word(at + 4)) | 0
  if (data.length - at > 8) c = (c + word(at + 8)) | 0
  c = ((c ^ b) - rotated(b, 14)) | 0
  a = ((a ^ c) - rotated(c, 11)) | 0
  b = ((b ^ a) - rotated(a, 25)) | 0
  c = ((c ^ b) - rotated(b, 16)) | 0
  a = ((a ^ c) - rotated(c, 4)) | 0
  b = ((b ^ a) - rotated(a, 14)) | 0
  c = ((c ^ b) - rotated(b, 24)) | 0
  return c >>> 0
}
