/**
 * The bytes of rtnetlink: fixed headers, attributes, addresses (linux/netlink.h, rtnetlink.h; host order, little endian).
 */
import { Ip } from "../../core/net/index.ts"

/** Message types and the size of the fixed header that follows the netlink header. */
export const newLink = 16
export const delLink = 17
export const getLink = 18
export const setLink = 19
export const newAddress = 20
export const delAddress = 21
export const getAddress = 22
export const newRoute = 24
export const delRoute = 25
export const getRoute = 26
export const newNeighbour = 28
export const delNeighbour = 29
export const getNeighbour = 30
export const newRule = 32
export const delRule = 33
export const getRule = 34
export const error = 2
export const done = 3

export const headerSize = { link: 16, address: 8, route: 12, neighbour: 12, rule: 12 } as const

/** Flags of the netlink header. */
export const replace = 0x100
export const exclusive = 0x200
export const create = 0x400
export const dump = 0x300
/** The dump is inconsistent: something changed while it was made. */
export const interrupted = 0x10
const isRequest = 0x01
const acknowledge = 0x04
/** The acknowledgement has attributes. */
const explained = 0x200

export const familyNumber = (family: Ip.Family): number => (family === "v4" ? 2 : 10)
export const familyOf = (number: number): Ip.Family | undefined =>
  number === 2 ? "v4" : number === 10 ? "v6" : undefined

/** A request: message type, header flags, and the body after the netlink header. */
export interface Message {
  readonly type: number
  readonly flags: number
  readonly body: Buffer
}

/** The size of the netlink header: length, type, flags, sequence number, port. */
const envelope = 16

/** The message as it is sent: a list ends by itself, anything else is acknowledged. */
export const request = ({ body, flags, type }: Message, sequence: number): Buffer => {
  const head = Buffer.alloc(envelope)
  head.writeUInt32LE(envelope + body.length, 0)
  head.writeUInt16LE(type, 4)
  head.writeUInt16LE(flags | isRequest | ((flags & dump) === dump ? 0 : acknowledge), 6)
  head.writeUInt32LE(sequence, 8)
  return Buffer.concat([head, body])
}

/** A message as it came; the body is part of what was read. */
export interface Part {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly body: Buffer
}

/** The messages of one reading; stops at the first one that does not fit. */
export function* messages(bytes: Buffer): Generator<Part> {
  for (let at = 0; at + envelope <= bytes.length;) {
    const size = bytes.readUInt32LE(at)
    if (size < envelope || at + size > bytes.length) return
    yield {
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + envelope, at + size)
    }
    at += align(size)
  }
}

/** How an answer ended: errno 0 is success; the reason is in the words of the kernel (NLMSGERR_ATTR_MSG). */
export const verdict = ({ body, flags, type }: Part): { readonly errno: number; readonly reason?: string } => {
  const errno = body.length >= 4 ? -body.readInt32LE(0) : 0
  if ((flags & explained) === 0) return { errno }
  // After an error stands the header of the question (NETLINK_CAP_ACK).
  const reason = readText(attributes(body, type === error ? 4 + envelope : 4).get(1))
  return reason === undefined ? { errno } : { errno, reason }
}

export const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(n)
  return bytes
}

/** A text with the terminating zero. */
export const text = (value: string): Buffer => Buffer.from(`${value}\0`, "utf8")

export const mac = (value: string): Buffer => Buffer.from(value.replaceAll(":", ""), "hex")

export const ip = (value: Ip.Ip): Buffer => {
  const hex = Ip.toBigInt(value).toString(16)
  return Buffer.from(hex.padStart(Ip.bits(Ip.family(value)) / 4, "0"), "hex")
}

/** One attribute: length, type, payload, padding to four bytes. */
export const attribute = (type: number, ...payload: ReadonlyArray<Uint8Array>): Buffer => {
  const size = 4 + payload.reduce((sum, part) => sum + part.length, 0)
  const bytes = Buffer.alloc(align(size))
  bytes.writeUInt16LE(size, 0)
  bytes.writeUInt16LE(type, 2)
  let at = 4
  for (const part of payload) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** Attributes by type. A later one of the same type wins. */
export type Attributes = ReadonlyMap<number, Buffer>

/** Reads attributes from an offset to the end; stops at the first one that does not fit. */
export const attributes = (bytes: Buffer, from: number): Attributes => {
  const found = new Map<number, Buffer>()
  for (let at = from; at + 4 <= bytes.length;) {
    const size = bytes.readUInt16LE(at)
    if (size < 4 || at + size > bytes.length) break
    // The two upper bits mark nesting and byte order.
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + size))
    at += align(size)
  }
  return found
}

export const readU8 = (bytes: Buffer | undefined): number | undefined =>
  bytes !== undefined && bytes.length >= 1 ? bytes.readUInt8() : undefined

export const readU16 = (bytes: Buffer | undefined): number | undefined =>
  bytes !== undefined && bytes.length >= 2 ? bytes.readUInt16LE() : undefined

export const readU32 = (bytes: Buffer | undefined): number | undefined =>
  bytes !== undefined && bytes.length >= 4 ? bytes.readUInt32LE() : undefined

/** A text up to the terminating zero. */
export const readText = (bytes: Buffer | undefined): string | undefined => {
  if (bytes === undefined) return undefined
  const end = bytes.indexOf(0)
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end)
}

export const readMac = (bytes: Buffer | undefined): string | undefined =>
  bytes !== undefined && bytes.length === 6
    ? Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":")
    : undefined

export const readIp = (family: Ip.Family, bytes: Buffer | undefined): Ip.Ip | undefined =>
  bytes !== undefined && bytes.length === Ip.bits(family) / 8
    ? Ip.fromBigInt(family, BigInt(`0x${bytes.toString("hex")}`))
    : undefined

/** One member of RTA_MULTIPATH (struct rtnexthop): flags, interface index, and its attributes. */
export interface Hop {
  readonly flags: number
  readonly index: number
  readonly attributes: Attributes
}

export const readHops = (bytes: Buffer): ReadonlyArray<Hop> => {
  const hops: Array<Hop> = []
  for (let at = 0; at + 8 <= bytes.length;) {
    const size = bytes.readUInt16LE(at)
    if (size < 8 || at + size > bytes.length) break
    hops.push({
      flags: bytes.readUInt8(at + 2),
      index: bytes.readUInt32LE(at + 4),
      attributes: attributes(bytes.subarray(at, at + size), 8)
    })
    at += align(size)
  }
  return hops
}

export const writeHop = (flags: number, index: number, attribute: Buffer): Buffer => {
  const head = Buffer.alloc(8)
  head.writeUInt16LE(8 + attribute.length, 0)
  head.writeUInt8(flags, 2)
  head.writeUInt32LE(index, 4)
  return Buffer.concat([head, attribute])
}

const align = (size: number): number => (size + 3) & ~3
