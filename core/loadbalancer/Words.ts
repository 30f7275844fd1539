/** The words of nftables for the fields of packets, by family. */
import type { Protocol } from "../config/Model.ts"
import type * as Ip from "../net/Ip.ts"

/** The transport protocols that are balanced, and their numbers (IANA). */
export const protocols: ReadonlyArray<readonly [Protocol, number]> = [["tcp", 6], ["udp", 17], ["sctp", 132]]

export interface Words {
  readonly family: Ip.Family
  readonly n: "4" | "6"
  readonly ip: "ip" | "ip6"
  readonly icmp: "icmp" | "icmpv6"
  readonly address: "ipv4_addr" | "ipv6_addr"
  /** What tells that a packet is whole and may be forwarded, if its next header is one of the protocols above. */
  readonly plain: string
  /** The protocol by the first header alone, which is another one when headers we do not know come between. */
  readonly next: string
  /** Source and destination, as raw bytes, which spare the kernel a look at the family. */
  readonly pair: string
  /** The messages that carry the head of the packet they are about. */
  readonly errors: string
  /** Of the packet inside an ICMP error: `th` is the ICMP header there, and its payload starts after 8 bytes. */
  readonly inner: {
    readonly source: string
    readonly destination: string
    readonly protocol: string
    /** Where the ports are: after the header, whose length differs by its options. */
    readonly ports: ReadonlyArray<Ports>
  }
}

export interface Ports {
  /** Tells that they are there; empty for always. */
  readonly condition: string
  readonly source: string
  readonly destination: string
}

const transport4 = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map((words): Ports => ({
  condition: `@th,68,4 ${words} `,
  source: `@th,${64 + 32 * words},16`,
  destination: `@th,${80 + 32 * words},16`
}))

export const words: { readonly [F in Ip.Family]: Words } = {
  v4: {
    family: "v4",
    n: "4",
    ip: "ip",
    icmp: "icmp",
    address: "ipv4_addr",
    plain: "@nh,0,8 0x45 ip frag-off & 0x3fff 0 ip ttl > 1",
    next: "ip protocol",
    pair: "@nh,96,64",
    errors: "icmp type { 3, 4, 5, 11, 12 }",
    inner: { source: "@th,160,32", destination: "@th,192,32", protocol: "@th,136,8", ports: transport4 }
  },
  v6: {
    family: "v6",
    n: "6",
    ip: "ip6",
    icmp: "icmpv6",
    address: "ipv6_addr",
    plain: "ip6 hoplimit > 1",
    next: "ip6 nexthdr",
    pair: "@nh,64,128 . @nh,192,128",
    errors: "icmpv6 type { 1, 2, 3, 4 }",
    inner: {
      source: "@th,128,128",
      destination: "@th,256,128",
      protocol: "@th,112,8",
      ports: [{ condition: "", source: "@th,384,16", destination: "@th,400,16" }]
    }
  }
}
