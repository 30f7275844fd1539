/** The gateway router as FRR: zebra, bgpd, bfdd and staticd with passive BGP and BFD towards every frontend. */
import { Array as Arr, Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Ip from "../../core/net/Ip.ts"
import { eventually } from "./Eventually.ts"
import * as Host from "./Host.ts"
import * as Pods from "./Pods.ts"
import * as Router from "./Router.ts"

const daemonFolder = "/usr/lib/frr"

/** Starts FRR in the gateway's pod. */
export const start: Router.Start = (layout, pod, folder) =>
  Effect.gen(function*() {
    const peers = Router.peers(layout)
    fs.mkdirSync(folder, { recursive: true })
    const file = path.join(folder, "frr.conf")
    fs.writeFileSync(file, config(peers))
    const zserv = path.join(folder, "zserv.api")
    // FRR's daemons drop root for the user frr, who needs a folder for the sockets.
    yield* Host.run(["chown", "-R", "frr:frr", folder])
    const common = ["-f", file, "--vty_socket", folder, "--log", "stdout"]
    const daemon = (name: string, ...more: ReadonlyArray<string>) =>
      Host.start({
        command: [
          path.join(daemonFolder, name),
          ...common,
          "-z",
          zserv,
          "-i",
          path.join(folder, `${name}.pid`),
          ...more
        ],
        namespace: Pods.path(pod),
        logFile: path.join(folder, `${name}.log`)
      })
    yield* daemon("zebra")
    yield* eventually(exists(zserv), 10_000).pipe(Effect.mapError(late("zebra")))
    yield* daemon("bfdd", "--bfdctl", path.join(folder, "bfdd.sock"))
    yield* daemon("staticd")
    yield* daemon("bgpd", "-p", String(peers.find(({ protocol }) => protocol === "bgp")?.localPort ?? 179))
    const vtysh = (command: string) => Host.run(["vtysh", "--vty_socket", folder, "-c", command])
    yield* eventually(
      Effect.match(vtysh("show bgp summary json"), { onFailure: (error) => error.message, onSuccess: () => undefined }),
      10_000
    ).pipe(Effect.mapError(late("bgpd")))

    return {
      daemon: "frr",
      sessions: Effect.gen(function*() {
        const established = yield* neighbours(yield* vtysh("show bgp neighbors json"))
        const bfd = yield* bfdPeers(yield* vtysh("show bfd peers json"))
        return peers.map((peer) => {
          const bfdUp = bfd.some(({ peer: address, status }) => address === peer.remote && status === "up")
          return {
            gateway: peer.gateway,
            frontend: peer.frontend,
            protocol: peer.protocol,
            up: peer.protocol === "static" || established[peer.remote]?.bgpState === "Established",
            ...(peer.bfd === undefined ? {} : { bfdUp })
          }
        })
      })
    }
  })

const late = (daemon: string) => ({ detail }: { readonly detail: string }) =>
  new Host.HostError({ command: `${daemon} (gateway)`, detail })

const exists = (file: string): Effect.Effect<string | undefined> =>
  Effect.sync(() => fs.existsSync(file) ? undefined : `${file} is not there`)

const Neighbours = Schema.Record(Schema.String, Schema.Struct({ bgpState: Schema.optionalKey(Schema.String) }))
const BfdPeers = Schema.Array(Schema.Struct({ peer: Schema.String, status: Schema.String }))

const unexpected = (cause: { readonly message: string }) =>
  new Host.HostError({ command: "vtysh (gateway)", detail: cause.message })

const neighbours = (json: string) => {
  return Effect.mapError(Schema.decodeEffect(Schema.fromJsonString(Neighbours))(json), unexpected)
}

const bfdPeers = (json: string) => {
  return Effect.mapError(Schema.decodeEffect(Schema.fromJsonString(BfdPeers))(json), unexpected)
}

/** The configuration of the gateway; pure. One BGP instance for each AS number that the manifests give the gateway. */
export const config = (peers: ReadonlyArray<Router.Peer>): string => {
  const bgp = peers.filter(({ protocol }) => protocol === "bgp")
  const asns = Arr.dedupe(bgp.map(({ localAsn }) => localAsn))
  return [
    "frr defaults traditional",
    "ip prefix-list default4 permit 0.0.0.0/0",
    "ipv6 prefix-list default6 permit ::/0",
    ...peers.filter(({ protocol }) => protocol === "static").flatMap(staticRoutes),
    ...asns.flatMap((asn, index) => instance(asn, index === 0, bgp.filter(({ localAsn }) => localAsn === asn))),
    "bfd",
    ...peers.filter(({ bfd, protocol }) => protocol === "static" && bfd !== undefined).flatMap((peer) => [
      ` peer ${peer.remote} local-address ${peer.local} interface ${peer.bridge}`,
      ...timers(peer, "  ")
    ]),
    "exit",
    ""
  ].join("\n")
}

const instance = (asn: number, first: boolean, peers: ReadonlyArray<Router.Peer>): ReadonlyArray<string> => [
  `router bgp ${asn}${first ? "" : ` view as${asn}`}`,
  " bgp router-id 198.51.100.1",
  " no bgp ebgp-requires-policy",
  " no bgp default ipv4-unicast",
  " bgp bestpath as-path multipath-relax",
  ...peers.flatMap((peer) => [
    ` neighbor ${peer.remote} remote-as ${peer.remoteAsn}`,
    ` neighbor ${peer.remote} passive`,
    ` neighbor ${peer.remote} port ${peer.remotePort}`,
    ` neighbor ${peer.remote} update-source ${peer.local}`,
    ` neighbor ${peer.remote} timers ${Math.max(1, Math.floor(peer.holdTimeS / 3))} ${peer.holdTimeS}`,
    ...(peer.bfd === undefined ? [] : [
      ` neighbor ${peer.remote} bfd ${peer.bfd.multiplier} ${peer.bfd.minRxMs} ${peer.bfd.minTxMs}`
    ])
  ]),
  ...(["v4", "v6"] as const).flatMap((family) => [
    ` address-family ip${family} unicast`,
    ...peers.filter(({ remote }) => Ip.family(remote) === family).flatMap((peer) => [
      `  neighbor ${peer.remote} activate`,
      `  neighbor ${peer.remote} default-originate`,
      `  neighbor ${peer.remote} prefix-list default${family.slice(1)} out`
    ]),
    " exit-address-family"
  ]),
  "exit"
]

const timers = ({ bfd }: Router.Peer, indent: string): ReadonlyArray<string> =>
  bfd === undefined ? [] : [
    `${indent}detect-multiplier ${bfd.multiplier}`,
    `${indent}receive-interval ${bfd.minRxMs}`,
    `${indent}transmit-interval ${bfd.minTxMs}`,
    " exit"
  ]

const staticRoutes = (peer: Router.Peer): ReadonlyArray<string> =>
  peer.vips.map((vip) =>
    `${Cidr.family(vip) === "v4" ? "ip" : "ipv6"} route ${Cidr.network(vip)} ${peer.remote} ${peer.bridge}`
  )
