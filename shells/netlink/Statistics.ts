/** What the links of a namespace have carried since they were made (`struct rtnl_link_stats64`, IFLA_STATS64). */
import * as Decode from "./Decode.ts"
import * as Wire from "./Wire.ts"

export interface Statistics {
  readonly link: string
  readonly rxPackets: number
  readonly txPackets: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxErrors: number
  readonly txErrors: number
  readonly rxDropped: number
  readonly txDropped: number
}

const attribute = 23

/** Reads a link message; undefined when it has no statistics. */
export const decode = (body: Buffer): Statistics | undefined => {
  const link = Decode.linkName(body)?.[1]
  const bytes = link === undefined ? undefined : Wire.attributes(body, Wire.headerSize.link).get(attribute)
  if (link === undefined || bytes === undefined || bytes.length < 64) return undefined
  const at = (index: number) => Number(bytes.readBigUInt64LE(index * 8))
  return {
    link,
    rxPackets: at(0),
    txPackets: at(1),
    rxBytes: at(2),
    txBytes: at(3),
    rxErrors: at(4),
    txErrors: at(5),
    rxDropped: at(6),
    txDropped: at(7)
  }
}
