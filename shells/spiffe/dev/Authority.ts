/**
 * A certificate authority in memory, FOR TESTS AND LAPTOPS ONLY: its key is in no safe place, and it gives identities
 * to whoever asks.
 */
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, sign } from "node:crypto"
import type { KeyObject } from "node:crypto"
import * as Der from "../Der.ts"

/** What an authority signs with. */
export interface Authority {
  /** In its subject: the trust domain for a root. */
  readonly name: string
  /** DER. */
  readonly certificate: Buffer
  readonly key: KeyObject
}

/** An identity as the Workload API delivers it. */
export interface Issued {
  /** The chain in DER, leaf first, without the authority of the bundle. */
  readonly chain: Buffer
  /** PKCS#8 in DER. */
  readonly key: Buffer
}

/** What to certify. The defaults make a good leaf; the rest is there to make bad ones. */
export interface Leaf {
  readonly uris: ReadonlyArray<string>
  /** Milliseconds since the Unix epoch. */
  readonly notBefore: number
  readonly notAfter: number
  /** Key usage bits: 0x80 digital signature (the default), 0x04 certificates, 0x02 revocation lists. */
  readonly usage?: number
  readonly curve?: "P-256" | "P-384"
  /** Addresses that a server may be reached at, for those who look at names of hosts. */
  readonly ipv4?: ReadonlyArray<string>
}

/** A new authority with a new key. */
export const make = (trustDomain: string, notBefore: number, notAfter: number): Authority => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const certificate = certify({
    issuer: { name: trustDomain, key: privateKey },
    subject: { name: trustDomain, key: publicKey },
    isAuthority: true,
    uris: [`spiffe://${trustDomain}`],
    usage: 0x06,
    notBefore,
    notAfter
  })
  return { name: trustDomain, certificate, key: privateKey }
}

/** An authority below another, to be shown as an intermediate. */
export const subordinate = (parent: Authority, notBefore: number, notAfter: number): Authority => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const name = `${parent.name} intermediate`
  const certificate = certify({
    issuer: { name: parent.name, key: parent.key },
    subject: { name, key: publicKey },
    isAuthority: true,
    uris: [`spiffe://${parent.name}`],
    usage: 0x06,
    notBefore,
    notAfter
  })
  return { name, certificate, key: privateKey }
}

/** A new key with its certificate. */
export const issue = (authority: Authority, leaf: Leaf): Issued => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: leaf.curve ?? "P-256" })
  const chain = certify({
    issuer: { name: authority.name, key: authority.key },
    subject: { name: "workload", key: publicKey },
    isAuthority: false,
    uris: leaf.uris,
    ipv4: leaf.ipv4 ?? [],
    usage: leaf.usage ?? 0x80,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter
  })
  return { chain, key: privateKey.export({ type: "pkcs8", format: "der" }) }
}

interface Certificate {
  readonly issuer: { readonly name: string; readonly key: KeyObject }
  readonly subject: { readonly name: string; readonly key: KeyObject }
  readonly isAuthority: boolean
  readonly uris: ReadonlyArray<string>
  readonly ipv4?: ReadonlyArray<string>
  readonly usage: number
  readonly notBefore: number
  readonly notAfter: number
}

/** X.509 version 3, ecdsa-with-SHA256. Source: RFC 5280. */
const certify = (certificate: Certificate): Buffer => {
  const { ipv4 = [], isAuthority, issuer, notAfter, notBefore, subject, uris, usage } = certificate
  const names = [
    ...uris.map((uri) => Der.value(0x86, Buffer.from(uri))),
    ...ipv4.map((address) => Der.value(0x87, Buffer.from(address.split(".").map(Number))))
  ]
  const algorithm = Der.sequence(Der.identifier("1.2.840.10045.4.3.2"))
  const extensions = [
    extension("2.5.29.19", true, Der.sequence(...(isAuthority ? [Der.isTrue] : []))),
    extension("2.5.29.15", true, Der.bits(Buffer.of(usage), trailingZeros(usage))),
    extension("2.5.29.14", false, Der.octets(keyIdentifier(subject.key))),
    extension("2.5.29.35", false, Der.sequence(Der.value(0x80, keyIdentifier(createPublicKey(issuer.key))))),
    ...(isAuthority ? [] : [extension("2.5.29.37", false, forServersAndClients)]),
    ...(names.length === 0 ? [] : [extension("2.5.29.17", false, Der.sequence(...names))])
  ]
  const body = Der.sequence(
    Der.value(0xa0, Der.integer(Buffer.of(2))),
    Der.integer(serial()),
    algorithm,
    nameOf(issuer.name),
    Der.sequence(Der.time(notBefore), Der.time(notAfter)),
    nameOf(subject.name),
    subject.key.export({ type: "spki", format: "der" }),
    Der.value(0xa3, Der.sequence(...extensions))
  )
  return Der.sequence(body, algorithm, Der.bits(sign("sha256", body, issuer.key)))
}

const serial = (): Buffer => {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) + 0x40, 0)
  return bytes
}

const nameOf = (text: string): Buffer =>
  Der.sequence(
    Der.set(Der.sequence(Der.identifier("2.5.4.10"), Der.utf8("Sluice development"))),
    Der.set(Der.sequence(Der.identifier("2.5.4.3"), Der.utf8(text)))
  )

const extension = (identifier: string, isCritical: boolean, content: Buffer): Buffer =>
  Der.sequence(Der.identifier(identifier), ...(isCritical ? [Der.isTrue] : []), Der.octets(content))

const forServersAndClients = Der.sequence(Der.identifier("1.3.6.1.5.5.7.3.1"), Der.identifier("1.3.6.1.5.5.7.3.2"))

const keyIdentifier = (key: KeyObject): Buffer =>
  createHash("sha1").update(key.export({ type: "spki", format: "der" })).digest()

const trailingZeros = (byte: number): number => byte === 0 ? 0 : 31 - Math.clz32(byte & -byte)
