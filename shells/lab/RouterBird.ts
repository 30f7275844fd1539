/** The gateway router as BIRD: passive BGP with BFD towards every frontend, ECMP over those that announce a VIP. */
import { Array as Arr, Effect, Result } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as BirdOutput from "../../core/frontend/BirdOutput.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Ip from "../../core/net/Ip.ts"
import { eventually } from "./Eventually.ts"
import * as Host from "./Host.ts"
import * as Pods from "./Pods.ts"
import * as Router from "./Router.ts"
import type { Layout } from "./Topology.ts"

/** Starts BIRD in the gateway's pod. */
export const start: Router.Start = (layout, pod, folder) =>
  Effect.gen(function*() {
    fs.mkdirSync(folder, { recursive: true })
    const file = path.join(folder, "bird.conf")
    const socket = path.join(folder, "bird.ctl")
    fs.writeFileSync(file, config(layout))
    yield* Host.start({
      command: ["bird", "-f", "-c", file, "-s", socket],
      namespace: Pods.path(pod),
      logFile: path.join(folder, "bird.log")
    })
    const birdc = (...words: ReadonlyArray<string>) => Host.run(["birdc", "-s", socket, ...words])
    yield* eventually(
      Effect.match(birdc("show", "status"), { onFailure: (error) => error.message, onSuccess: () => undefined }),
      10_000
    ).pipe(Effect.mapError((error) => new Host.HostError({ command: "bird (gateway)", detail: error.detail })))
    const peers = Router.peers(layout)
    return {
      daemon: "bird",
      sessions: Effect.gen(function*() {
        const protocols = yield* read(yield* birdc("show", "protocols"), BirdOutput.protocols)
        const bfd = peers.some((peer) => peer.bfd !== undefined)
          ? yield* read(yield* birdc("show", "bfd", "sessions"), BirdOutput.sessions)
          : []
        return peers.map((peer) => {
          const row = protocols.find(({ name }) => name === protocolName(peer))
          const bfdUp = bfd.some(({ address, state }) => address === peer.remote && state === "Up")
          return {
            gateway: peer.gateway,
            frontend: peer.frontend,
            protocol: peer.protocol,
            up: row?.state === "up" && (peer.protocol === "static" || row.info.startsWith("Established")),
            ...(peer.bfd === undefined ? {} : { bfdUp })
          }
        })
      })
    }
  })

const read = <A>(text: string, parse: (text: string) => Result.Result<A, string>): Effect.Effect<A, Host.HostError> => {
  const parsed = parse(text)
  return Result.isSuccess(parsed)
    ? Effect.succeed(parsed.success)
    : Effect.fail(new Host.HostError({ command: "birdc (gateway)", detail: parsed.failure }))
}

const protocolName = ({ frontend, gateway }: Router.Peer): string =>
  `peer_${gateway}_${frontend}`.replaceAll(/[^A-Za-z0-9_]/g, "_")

/** The configuration of the gateway; pure. */
export const config = (layout: Layout): string => {
  const peers = Router.peers(layout)
  return [
    "log stderr all;",
    "router id 198.51.100.1;",
    "protocol device {}",
    ...(["ipv4", "ipv6"] as const).map((family) =>
      `protocol kernel ${family}_kernel { ${family} { import none; export where source ~ [RTS_BGP, RTS_STATIC] && ` +
      `net !~ [${family === "ipv4" ? "0.0.0.0/0" : "::/0"}]; }; merge paths on; }`
    ),
    // What the frontends learn as their way out. The gateway itself reaches the client by its connected route.
    "protocol static default4 { ipv4; route 0.0.0.0/0 unreachable; }",
    "protocol static default6 { ipv6; route ::/0 unreachable; }",
    `protocol bfd bfd1 {${
      Arr.dedupeWith(peers.filter(({ bfd }) => bfd !== undefined), (a, b) => a.bridge === b.bridge).map((
        { bfd, bridge }
      ) =>
        ` interface "${bridge}" { min rx interval ${bfd?.minRxMs} ms; min tx interval ${bfd?.minTxMs} ms; multiplier ${bfd?.multiplier}; };`
      ).join("")
    } }`,
    ...peers.map((peer) => peer.protocol === "bgp" ? bgp(peer) : staticRoutes(peer))
  ].join("\n") + "\n"
}

const channel = (ip: Ip.Ip): string => (Ip.family(ip) === "v4" ? "ipv4" : "ipv6")

const bgp = (peer: Router.Peer): string =>
  `protocol bgp ${protocolName(peer)} {
  local ${peer.local} port ${peer.localPort} as ${peer.localAsn};
  neighbor ${peer.remote} port ${peer.remotePort} as ${peer.remoteAsn};
  strict bind on;
  passive;
  direct;
  hold time ${peer.holdTimeS};
  error wait time 1, 5;
${peer.bfd === undefined ? "" : "  bfd on;\n"}  ${channel(peer.local)} { import all; export where net ~ [${
    Ip.family(peer.local) === "v4" ? "0.0.0.0/0" : "::/0"
  }]; next hop self; };
}`

const staticRoutes = (peer: Router.Peer): string =>
  `protocol static ${protocolName(peer)} {
  ${channel(peer.local)};
${
    peer.vips.map((vip) =>
      `  route ${Cidr.network(vip)} via ${peer.remote}%'${peer.bridge}'${peer.bfd === undefined ? "" : " bfd"};`
    ).join("\n")
  }
}`
