/** What people see while a lab runs: sessions, announced VIPs, streams and targets, and who served how much. */
import { Effect } from "effect"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Check from "./checks/Check.ts"
import type { Lab } from "./Lab.ts"
import * as Router from "./Router.ts"
import * as Target from "./Target.ts"
import type { Trench } from "./Trench.ts"

const refreshMs = 1_000
const sample = 20

/** Sends a little traffic and paints the state again and again; on a terminal in place. */
export const show = (lab: Lab, paint: (screen: string) => void): Effect.Effect<never> =>
  Effect.forever(Effect.gen(function*() {
    yield* Effect.forEach(lab.trenches, (trench) =>
      Effect.forEach(
        [...Check.servicesOf(trench, "tcp", undefined), ...Check.servicesOf(trench, "udp", undefined)],
        (service) => Check.send(trench, service, sample)
      ), { concurrency: "unbounded" })
    const screens = yield* Effect.forEach(lab.trenches, describe)
    paint([...screens, `manifests: ${lab.manifestFile} (edit them and watch), Ctrl-C ends the lab`, ""].join("\n"))
    yield* Effect.sleep(refreshMs)
  }))

/** The state of a trench as text. */
export const describe = (trench: Trench): Effect.Effect<string> =>
  Effect.gen(function*() {
    const sessions = yield* Effect.orElseSucceed(trench.router.sessions, () => [])
    const routes = yield* Effect.orElseSucceed(Router.learned(trench.gateway), () => [])
    const statuses = yield* Effect.forEach(trench.targets, ({ name, statuses }) =>
      Effect.map(statuses, (all) => ({ name, all })))
    const served = trench.traffic.served()
    return [
      `trench ${trench.layout.trench} (${trench.layout.ipFamily}), gateway router: ${trench.router.daemon}`,
      "  sessions",
      ...sessions.map(({ bfdUp, frontend, gateway, protocol, up }) => {
        const bfd = bfdUp === undefined ? "" : `  BFD ${bfdUp ? "up" : "down"}`
        return `    ${gateway.padEnd(14)} ${frontend.padEnd(26)} ${protocol.padEnd(6)} ${up ? "up  " : "down"}${bfd}`
      }),
      "  announced VIPs",
      ...announced(trench, routes),
      "  streams and targets",
      ...trench.layout.configuration.streams.map((stream) =>
        `    ${Target.key(stream).padEnd(26)} ${
          statuses.map(({ all, name }) => `${short(trench, name)} ${all[Target.key(stream)] ?? "closed"}`).join(", ")
        }`
      ),
      "  connections served",
      ...trench.targets.map(({ name }) =>
        `    ${short(trench, name).padEnd(26)} ${served[name] ?? 0}`
      ),
      ""
    ].join("\n")
  })

const announced = (trench: Trench, routes: ReadonlyArray<Cidr.Cidr>): ReadonlyArray<string> => {
  const ours = routes.filter((route) =>
    !trench.layout.externals.some(({ prefixes }) => prefixes.includes(route)) && Cidr.length(route) > 0 &&
    !isPlumbing(route)
  )
  return ours.length === 0 ? ["    none"] : ours.map((route) => `    ${route}`)
}

// The link between gateway and client, and link-local routes.
const isPlumbing = (route: Cidr.Cidr): boolean =>
  ["198.51.100.0/24", "2001:db8:c::/64", "fe80::/64"].includes(route) || route.startsWith("ff00")

const short = (trench: Trench, name: string): string => name.replace(`${trench.layout.trench}-`, "")
