/**
 * The kernel parameters that forwarding over the bridge needs. An init container may have set them, so a proxy that may
 * not write them goes on. Source: Meridio `pkg/controllers/common/models.go`.
 */
import { Effect } from "effect"
import type { Ip } from "../../core/net/index.ts"
import * as Sysctl from "../netlink/Sysctl.ts"

const parameters: { readonly [F in Ip.Family]: ReadonlyArray<readonly [name: string, value: string]> } = {
  v4: [
    ["net/ipv4/conf/all/forwarding", "1"],
    ["net/ipv4/fib_multipath_hash_policy", "1"],
    ["net/ipv4/conf/all/rp_filter", "0"],
    ["net/ipv4/conf/default/rp_filter", "0"]
  ],
  v6: [
    ["net/ipv6/conf/all/forwarding", "1"],
    ["net/ipv6/fib_multipath_hash_policy", "1"],
    ["net/ipv6/conf/all/accept_dad", "0"]
  ]
}

/** With these the kernel announces the addresses of the bridge whenever its hardware address is set. */
export const announcing: { readonly [F in Ip.Family]: string } = {
  v4: "net/ipv4/conf/all/arp_notify",
  v6: "net/ipv6/conf/all/ndisc_notify"
}

/** Sets what is not set yet; a parameter of forwarding that cannot be set is a warning. */
export const enable = (families: ReadonlyArray<Ip.Family>): Effect.Effect<void> =>
  Effect.forEach(
    families.flatMap((family) => parameters[family]),
    ([name, value]) =>
      Effect.catch(set(name, value), (error) =>
        Effect.logWarning(`Traffic may not be forwarded: set ${name} to ${value} in the pod`, {
          error: error.message
        })),
    { discard: true }
  ).pipe(
    Effect.andThen(Effect.forEach(families, (family) =>
      Effect.ignore(set(announcing[family], "1")), { discard: true }))
  )

const set = (name: string, value: string) =>
  Effect.flatMap(Sysctl.read(name), (current) => current === value ? Effect.void : Sysctl.write(name, value))
