/**
 * Mutual TLS by SPIFFE's rules for gRPC: both sides show their SVID and believe any id that its own trust domain
 * vouches for. Names of hosts are not looked at.
 *
 * A server learns only the leaf of its caller from gRPC. Where it believes one trust domain, the check of the whole
 * chain by OpenSSL decides. Where it believes several, the leaf must come from the bundle of its domain directly or by
 * the server's own intermediates, since OpenSSL cannot tell which domain vouched; others are refused.
 */
import * as grpc from "@grpc/grpc-js"
import { Effect, Result, Stream } from "effect"
import type { Scope } from "effect"
import { X509Certificate } from "node:crypto"
import type { DetailedPeerCertificate, PeerCertificate } from "node:tls"
import * as GrpcError from "../grpc/Error.ts"
import type * as Server from "../grpc/Server.ts"
import * as Spiffe from "./Spiffe.ts"
import * as Svid from "./Svid.ts"

/** Credentials of a channel. The hook hears of the server in each handshake, before any call goes over it. */
export const channel = (svid: Svid.Svid, onPeer: (peer: Svid.Peer) => void): grpc.ChannelCredentials => {
  const { authorities, certificates, key } = pems(svid)
  return grpc.credentials.createSsl(authorities, key, certificates, {
    checkServerIdentity: (_host, certificate) => {
      const peer = Svid.verify(chainOf(certificate), svid.bundles, Date.now())
      if (Result.isFailure(peer)) return peer.failure
      onPeer(peer.success)
    }
  })
}

/** Options that a channel needs beside the credentials: a name for TLS that is never an address. */
export const channelOptions: grpc.ChannelOptions = { "grpc.ssl_target_name_override": "localhost" }

/**
 * Credentials of a server that demands a certificate. New connections get the newest SVID; those that exist stay. Waits
 * for the first identity.
 */
export const server: Effect.Effect<
  grpc.ServerCredentials,
  Spiffe.SpiffeError,
  Spiffe.Spiffe | Scope.Scope
> = Effect.gen(function*() {
  const spiffe = yield* Spiffe.Spiffe
  let newest = pems(yield* spiffe.current)
  const authorities = new Set<grpc.experimental.CaCertificateUpdateListener>()
  const identities = new Set<grpc.experimental.IdentityCertificateUpdateListener>()
  const tellAuthorities = (listener: grpc.experimental.CaCertificateUpdateListener) =>
    listener({ caCertificate: newest.authorities })
  const tellIdentity = (listener: grpc.experimental.IdentityCertificateUpdateListener) =>
    listener({ certificate: newest.certificates, privateKey: newest.key })
  const provider: grpc.experimental.CertificateProvider = {
    // Later, because the server is not ready to hear while it adds itself.
    addCaCertificateListener: (listener) => {
      authorities.add(listener)
      process.nextTick(tellAuthorities, listener)
    },
    addIdentityCertificateListener: (listener) => {
      identities.add(listener)
      process.nextTick(tellIdentity, listener)
    },
    removeCaCertificateListener: (listener) => void authorities.delete(listener),
    removeIdentityCertificateListener: (listener) => void identities.delete(listener)
  }
  yield* Effect.forkScoped(Effect.ignore(Stream.runForEach(spiffe.changes, (svid) =>
    Effect.sync(() => {
      newest = pems(svid)
      authorities.forEach(tellAuthorities)
      identities.forEach(tellIdentity)
    }))))
  return grpc.experimental.createCertificateProviderServerCredentials(provider, provider, true)
})

/** Who makes a call. Fails with UNAUTHENTICATED when it did not prove a SPIFFE id, for example in plain text. */
export const peer = (call: Server.Call): Effect.Effect<Svid.Peer, GrpcError.GrpcError, Spiffe.Spiffe> =>
  Effect.gen(function*() {
    const spiffe = yield* Spiffe.Spiffe
    const svid = yield* Effect.mapError(
      spiffe.current,
      ({ message }) => GrpcError.error("Unauthenticated", message)
    )
    const bytes = call.certificate()
    if (bytes === undefined) return yield* GrpcError.error("Unauthenticated", "the caller showed no certificate")
    const verdict = accept(new X509Certificate(bytes), svid)
    return yield* Effect.mapError(
      Effect.fromResult(verdict),
      ({ message }) => GrpcError.error("Unauthenticated", message)
    )
  })

/** A leaf whose chain OpenSSL has found good against all bundles together. */
const accept = (leaf: X509Certificate, svid: Svid.Svid): Result.Result<Svid.Peer, Svid.SvidError> => {
  const { bundles, chain } = svid
  if (Object.keys(bundles).length > 1) return Svid.verify([leaf, ...chain.slice(1)], bundles, Date.now())
  return Result.flatMap(Svid.leafId(leaf), (id) =>
    Object.hasOwn(bundles, id.trustDomain)
      ? Result.succeed({ id, certificate: leaf, notAfter: leaf.validToDate.getTime() })
      : Svid.verify([leaf], bundles, Date.now()))
}

interface Pems {
  readonly authorities: Buffer
  readonly certificates: Buffer
  readonly key: Buffer
}

const pems = ({ bundles, chain, key }: Svid.Svid): Pems => ({
  authorities: Buffer.from(Object.values(bundles).flat().join("")),
  certificates: Buffer.from(chain.join("")),
  key: Buffer.from(key.export({ type: "pkcs8", format: "pem" }))
})

/** The certificates that a peer showed, completed by Node with those that it found for them; leaf first. */
const chainOf = (certificate: PeerCertificate | DetailedPeerCertificate): ReadonlyArray<X509Certificate> => {
  const found = new Map<string, X509Certificate>()
  let at: PeerCertificate | DetailedPeerCertificate | undefined = certificate
  while (at?.raw !== undefined && !found.has(at.fingerprint256)) {
    found.set(at.fingerprint256, new X509Certificate(at.raw))
    at = "issuerCertificate" in at ? at.issuerCertificate : undefined
  }
  return [...found.values()]
}
