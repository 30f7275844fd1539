/** The tokens of NSM signed and verified: ES256, the only kind there is. What is in them says `core/nsm/Token.ts`. */
import { Result } from "effect"
import { sign, verify } from "node:crypto"
import type { X509Certificate } from "node:crypto"
import * as Token from "../../core/nsm/Token.ts"
import type * as Svid from "./Svid.ts"

/** A token for somebody. */
export interface Made {
  readonly token: string
  /** What belongs beside the token: milliseconds since the Unix epoch. */
  readonly expiresAt: number
}

/** Makes the token that tells `peer` who this is: the TLS peer of the call, on either side; none in plain text. */
export const make = (options: {
  readonly svid: Svid.Svid
  readonly peer?: Pick<Svid.Peer, "id" | "notAfter">
  readonly now: number
  /** NSM_MAX_TOKEN_LIFETIME. */
  readonly maxLifetimeMs: number
}): Made => {
  const { maxLifetimeMs, now, peer, svid } = options
  const { exp, expiresAt } = Token.ends({
    now,
    maxLifetimeMs,
    ownNotAfter: svid.notAfter,
    ...(peer === undefined ? {} : { peerNotAfter: peer.notAfter })
  })
  const text = Token.toSign({ sub: svid.id.text, exp, ...(peer === undefined ? {} : { aud: [peer.id.text] }) })
  const signature = sign("sha256", Buffer.from(text), { key: svid.key, dsaEncoding: "ieee-p1363" })
  return { token: Token.join(text, signature), expiresAt }
}

/** Tells whether tokens were signed by the holder of the certificate; for the policies of `core/nsm/Token.ts`. */
export const signedBy = (certificate: X509Certificate): Token.IsSigned => {
  const key = certificate.publicKey
  const canSign = key.asymmetricKeyDetails?.namedCurve === "prime256v1"
  return (token) => {
    const decoded = Token.decode(token)
    if (!canSign || Result.isFailure(decoded) || decoded.success.algorithm !== "ES256") return false
    const { signature, signed } = decoded.success
    return verify("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }, signature)
  }
}
