/** The network namespaces of pods: each with an interface in the cluster's own network, some with one to the outside. */
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import type * as Kernels from "./Kernels.ts"
import { primary } from "./Oracle.ts"

/** The interface of a frontend's pod that leads to the gateways. */
export const external = "ext"

/** Makes a namespace, and says its address. */
export type Make = () => string

/** Makes namespaces with an address each in the cluster's own network. */
export const make = (kernels: Kernels.Kernels): Make => {
  let count = 0
  return () => {
    const n = ++count
    const netns = `inode://4/${n}`
    kernels.create(netns)
    kernels.addLink(netns, device(primary, n))
    const address = `10.${Math.floor(n / 62_500)}.${Math.floor(n / 250) % 250}.${1 + n % 250}`
    kernels.applyAll(netns, [
      { _tag: "AddAddress", link: primary, cidr: Cidr.unsafe(`${address}/8`) },
      { _tag: "AddAddress", link: primary, cidr: Cidr.unsafe(`fc00::${n.toString(16)}/64`) },
      ...Ip.families.map((family): Kernel.Operation => ({
        _tag: "ReplaceRoute",
        route: {
          family,
          table: 254,
          destination: Cidr.defaultRoute(family),
          type: "unicast",
          metric: family === "v4" ? 0 : 1024,
          hops: [{ link: primary, via: Ip.unsafe(family === "v4" ? "10.255.255.254" : "fc00::ffff") }],
          protocol: 3,
          onlink: false
        }
      }))
    ])
    return netns
  }
}

/** Gives a pod its interface to the outside; n keeps the devices apart. */
export const connectOutside = (
  kernels: Kernels.Kernels,
  netns: string,
  n: number,
  addresses: ReadonlyArray<Cidr.Cidr>
): void => {
  kernels.addLink(netns, device(external, n))
  kernels.applyAll(netns, addresses.map((cidr) => ({ _tag: "AddAddress", link: external, cidr })))
}

const device = (name: string, n: number): Kernel.Link => ({
  name,
  kind: "",
  mac: `02:00:00:00:${(n >> 8 & 255).toString(16).padStart(2, "0")}:${(n & 255).toString(16).padStart(2, "0")}`,
  up: true,
  carrier: true,
  mtu: 1500
})
