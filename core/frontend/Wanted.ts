/**
 * What follows from what a frontend knows. Every event asks for all of it and hardly one changes it, so the last answer
 * for each frontend is kept for as long as what it follows from is the same.
 */
import * as Memo from "../Memo.ts"
import { Cidr } from "../net/index.ts"
import * as BirdConfig from "./BirdConfig.ts"
import type { Protocol, Session } from "./BirdOutput.ts"
import * as Connectivity from "./Connectivity.ts"
import type { Attractor, BirdSettings, Gateway, Secret, Settings } from "./Model.ts"
import * as Quarantine from "./Quarantine.ts"

/** What the configuration follows from. */
export interface Grounds {
  readonly settings: Settings
  readonly attractor: Attractor
  readonly quarantine: ReadonlyArray<Quarantine.Entry>
  readonly secrets: ReadonlyArray<Secret>
  readonly connectivity: Connectivity.Connectivity
  /** The VIPs whose rules are in place. */
  readonly secured: ReadonlyArray<Cidr.Cidr>
  readonly isAdvertising: boolean
}

/** The configuration that BIRD should run. */
export const config: (grounds: Grounds) => BirdConfig.Config = Memo.last(({ settings }) => settings, (grounds) => {
  const { attractor: { gateways, vips }, connectivity, isAdvertising, quarantine, secrets, secured, settings } = grounds
  const isReached = (vip: Cidr.Cidr) => !settings.perFamily || connectivity[Cidr.family(vip)] === "Up"
  return BirdConfig.render({
    settings: settings.bird,
    vips,
    announces: isAdvertising ? vips.filter((vip) => secured.includes(vip) && isReached(vip)) : [],
    gateways: Quarantine.free(gateways, quarantine),
    secrets
  })
})

/** The configuration that BIRD starts with: it announces nothing and cannot be wrong. */
export const base: (settings: BirdSettings) => BirdConfig.Config = Memo.each((settings) =>
  BirdConfig.render({ settings, vips: [], announces: [], gateways: [], secrets: [] })
)

/** What the gateways are judged by. */
export interface Sight {
  readonly settings: Settings
  readonly gateways: ReadonlyArray<Gateway>
  readonly protocols: ReadonlyArray<Protocol>
  readonly sessions: ReadonlyArray<Session>
}

/** How the gateways fare. */
export const connectivity: (sight: Sight) => Connectivity.Connectivity = Memo.last(
  ({ settings }) => settings,
  ({ gateways, protocols, sessions, settings }) => Connectivity.judge(gateways, protocols, sessions, settings.perFamily)
)

/** The Secrets to watch. */
export const sources: (attractor: Attractor) => ReadonlyArray<string> = Memo.each(({ gateways }) =>
  [
    ...new Set(
      gateways.flatMap(({ routing }) =>
        routing._tag === "Bgp" && routing.password !== undefined ? [routing.password.source] : []
      )
    )
  ].toSorted()
)
