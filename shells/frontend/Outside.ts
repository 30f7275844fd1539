/** The routers outside of the cluster, for tests: configurations of BIRD, and FRR as a program. */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Host from "../lab/Host.ts"
import { eventually } from "./Eventually.ts"

const peer = (name: string, channel: string, local: string, range: string, net: string, extra: string) => `
protocol bgp ${name} {
  local ${local} port 10179 as 4248829953;
  neighbor range ${range} as 8103;
  passive; direct; hold time 24; dynamic name "${name}_";
  bfd { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; };
  error wait time 1, 2; ${extra}
  ${channel} { import all; export where net = ${net}; next hop self; };
}`

/** The routers of the other side: they wait for the frontend and offer it a default route. */
export const gatewayConfig = (md5: string): string => `
router id 198.51.100.1;
protocol device {}
protocol static { ipv4; route 0.0.0.0/0 unreachable; }
protocol static { ipv6; route ::/0 unreachable; }
protocol bfd { accept direct; interface "ext" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
${peer("fe4", "ipv4", "169.254.100.150", "169.254.100.0/24", "0.0.0.0/0", md5)}
${peer("fe6", "ipv6", "100:100::150", "100:100::/64", "::/0", "")}
`

/** The other side of static gateways: it routes the VIP whenever BFD sees the frontend. */
export const staticConfig = `
router id 198.51.100.1;
protocol device {}
protocol static 'to-vip' { ipv4; route 20.0.0.1/32 via 169.254.100.1%'ext' bfd; }
protocol bfd { accept direct; interface "ext" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
`

const daemons = "/usr/lib/frr"

/**
 * Starts FRR in a namespace, until the scope ends; the result asks vtysh. Without a port bgpd does not listen, so that
 * it must connect by itself.
 */
export const frr = (
  namespace: string,
  folder: string,
  config: string,
  port: number
): Effect.Effect<(command: string) => Effect.Effect<string, Host.HostError>, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    fs.mkdirSync(folder, { recursive: true })
    const file = path.join(folder, "frr.conf")
    fs.writeFileSync(file, config)
    // The daemons leave root for the user frr, who must reach the sockets.
    fs.chmodSync(path.dirname(folder), 0o755)
    yield* Host.run(["chown", "-R", "frr:frr", folder])
    const zserv = path.join(folder, "zserv.api")
    const daemon = (name: string, ...more: ReadonlyArray<string>) =>
      Host.start({
        command: [
          path.join(daemons, name),
          "-f",
          file,
          "--vty_socket",
          folder,
          "--log",
          "stdout",
          "-z",
          zserv,
          "-i",
          path.join(folder, `${name}.pid`),
          ...more
        ],
        namespace,
        logFile: path.join(folder, `${name}.log`)
      })
    yield* daemon("zebra")
    yield* eventually("zebra serves", () => fs.existsSync(zserv))
    yield* daemon("bfdd", "--bfdctl", path.join(folder, "bfdd.sock"))
    yield* daemon("staticd")
    yield* daemon("bgpd", "-p", String(port))
    return (command) => Host.run(["vtysh", "--vty_socket", folder, "-c", command])
  })

const family = (name: string, address: string, list: string) => [
  ` address-family ${name} unicast`,
  `  neighbor ${address} activate`,
  `  neighbor ${address} default-originate`,
  `  neighbor ${address} prefix-list ${list} out`,
  " exit-address-family"
]

/** FRR as the gateway of both families; `extra` are lines for the IPv4 neighbour, such as a password. */
export const frrConfig = (extra: ReadonlyArray<string>, passive: boolean): string => {
  const neighbour = (address: string) => [
    ` neighbor ${address} remote-as 8103`,
    ...(passive ? [` neighbor ${address} passive`] : []),
    ` neighbor ${address} port 10179`,
    ` neighbor ${address} timers 8 24`,
    ` neighbor ${address} timers connect 1`,
    ` neighbor ${address} bfd 5 300 300`
  ]
  return [
    "frr defaults traditional",
    "ip prefix-list default4 permit 0.0.0.0/0",
    "ipv6 prefix-list default6 permit ::/0",
    "router bgp 4248829953",
    " bgp router-id 198.51.100.1",
    " no bgp ebgp-requires-policy",
    " no bgp default ipv4-unicast",
    ...neighbour("169.254.100.1"),
    ...extra,
    ...neighbour("100:100::1"),
    ...family("ipv4", "169.254.100.1", "default4"),
    ...family("ipv6", "100:100::1", "default6"),
    "exit",
    ""
  ].join("\n")
}

/** FRR as a static gateway with BFD. */
export const frrStatic = [
  "frr defaults traditional",
  "ip route 20.0.0.1/32 169.254.100.1 ext",
  "bfd",
  " peer 169.254.100.1 local-address 169.254.100.150 interface ext",
  "  detect-multiplier 5",
  "  receive-interval 300",
  "  transmit-interval 300",
  " exit",
  "exit",
  ""
].join("\n")

/** Another IPv4 gateway, in a namespace of its own. */
export const secondConfig = `
router id 198.51.100.2;
protocol device {}
protocol static { ipv4; route 0.0.0.0/0 unreachable; }
protocol bfd { accept direct; interface "ext2" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
${peer("fe4", "ipv4", "169.254.100.151", "169.254.100.0/24", "0.0.0.0/0", "")}
`
