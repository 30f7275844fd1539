/** DER, the bytes of certificates: as much of reading and writing as SPIFFE needs beside what Node offers. */

/** One value: its tag byte and what is inside. */
export interface Element {
  readonly tag: number
  readonly content: Buffer
  /** Tag, length and content. */
  readonly whole: Buffer
}

/** The values that lie one after the other in the bytes; undefined when they are not DER. */
export const elements = (bytes: Buffer): ReadonlyArray<Element> | undefined => {
  const found: Array<Element> = []
  let at = 0
  while (at < bytes.length) {
    const size = lengthAt(bytes, at + 1)
    if (size === undefined || size.start + size.length > bytes.length) return undefined
    const end = size.start + size.length
    found.push({
      tag: bytes.readUInt8(at),
      content: bytes.subarray(size.start, end),
      whole: bytes.subarray(at, end)
    })
    at = end
  }
  return found
}

/** The contents of the extensions of a certificate, by the hexadecimal bytes of their identifier. */
export const extensions = (certificate: Buffer): ReadonlyMap<string, Buffer> => {
  const found = new Map<string, Buffer>()
  const list = inside(inside(inside([certificate], tags.sequence), tags.sequence), tags.context3)
  for (const extension of inside(list, tags.sequence).flatMap((bytes) => elements(bytes) ?? [])) {
    const parts = elements(extension.content) ?? []
    const [identifier, value] = [parts[0], parts.at(-1)]
    if (identifier?.tag === tags.identifier && value?.tag === tags.octets) {
      found.set(identifier.content.toString("hex"), value.content)
    }
  }
  return found
}

const tags = { identifier: 0x06, octets: 0x04, sequence: 0x30, set: 0x31, context3: 0xa3 }

/** The contents of the first values with the tag in each of the bytes. */
const inside = (all: ReadonlyArray<Buffer>, tag: number): ReadonlyArray<Buffer> =>
  all.flatMap((bytes) => {
    const found = elements(bytes)?.find((element) => element.tag === tag)
    return found === undefined ? [] : [found.content]
  })

const lengthAt = (bytes: Buffer, at: number): { readonly start: number; readonly length: number } | undefined => {
  const first = bytes[at]
  if (first === undefined) return undefined
  if (first < 0x80) return { start: at + 1, length: first }
  const count = first - 0x80
  return count === 0 || count > 4 || at + 1 + count > bytes.length
    ? undefined
    : { start: at + 1 + count, length: bytes.readUIntBE(at + 1, count) }
}

/** A value with the given tag. */
export const value = (tag: number, ...content: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  const short = length.subarray(length.findIndex((byte) => byte !== 0))
  return Buffer.concat([Buffer.of(tag, 0x80 + short.length), short, body])
}

export const sequence = (...content: ReadonlyArray<Uint8Array>): Buffer => value(tags.sequence, ...content)
export const set = (...content: ReadonlyArray<Uint8Array>): Buffer => value(tags.set, ...content)
export const octets = (...content: ReadonlyArray<Uint8Array>): Buffer => value(tags.octets, ...content)
export const isTrue: Buffer = value(0x01, Buffer.of(0xff))
export const utf8 = (text: string): Buffer => value(0x0c, Buffer.from(text))

/** A positive number as bytes, the highest first. */
export const integer = (bytes: Uint8Array): Buffer =>
  (bytes[0] ?? 0) < 0x80 ? value(0x02, bytes) : value(0x02, Buffer.of(0), bytes)

/** Bits, of which the last `unused` do not count. */
export const bits = (bytes: Uint8Array, unused = 0): Buffer => value(0x03, Buffer.of(unused), bytes)

/** An object identifier out of `1.2.840.10045.4.3.2`. */
export const identifier = (text: string): Buffer => {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number)
  return value(tags.identifier, Buffer.from([first * 40 + second, ...rest].flatMap(base128)))
}

/** An instant, whole seconds. */
export const time = (at: number): Buffer => {
  const text = new Date(at).toISOString().replaceAll(/[-:T]|\.\d+/g, "")
  return text < "2050" ? value(0x17, Buffer.from(text.slice(2))) : value(0x18, Buffer.from(text))
}

const base128 = (number: number): ReadonlyArray<number> => {
  const digits = [number % 128]
  for (let rest = Math.floor(number / 128); rest > 0; rest = Math.floor(rest / 128)) {
    digits.unshift(0x80 + rest % 128)
  }
  return digits
}
