/**
 * Decides which gateways are left out after BIRD refused a configuration, so that one bad gateway keeps neither new
 * gateways nor new VIPs waiting.
 *
 *     refused ──▶ suspects: gateways of the refused configuration that the running one does not have
 *                   ├─ BIRD points at one, or there is only one ──▶ held until it changes
 *                   └─ more ──▶ all held; then one after the other is tried again, each time that BIRD runs the rest
 *
 * 1. A gateway that BIRD runs is never left out.
 * 2. A gateway that changes, or whose password does, is tried again; so are all when BIRD was started again.
 * 3. What is left out does not count for its family, like a gateway that was not admitted.
 *
 * Meridio ends with a refused configuration, and again after each restart.
 */
import { Schema } from "effect"
import * as Same from "../Same.ts"
import * as BirdConfig from "./BirdConfig.ts"
import { type BirdSettings, Gateway, type Secret } from "./Model.ts"
import type * as Speaker from "./Speaker.ts"

/** A gateway that is left out. */
export const Entry = Schema.Struct({
  gateway: Gateway,
  password: Schema.optionalKey(BirdConfig.Use),
  /** What BIRD says. */
  message: Schema.String,
  /** Whether it is this gateway and no other. */
  certain: Schema.Boolean
})
export type Entry = typeof Entry.Type

/** The gateways that BIRD should have. */
export const free = (gateways: ReadonlyArray<Gateway>, entries: ReadonlyArray<Entry>): ReadonlyArray<Gateway> =>
  entries.length === 0 ? gateways : gateways.filter(({ name }) => !entries.some(({ gateway }) => gateway.name === name))

/** The part of a frontend that a refusal is judged by. */
export interface Frontend {
  readonly settings: { readonly bird: BirdSettings }
  readonly secrets: ReadonlyArray<Secret>
  readonly quarantine: ReadonlyArray<Entry>
  readonly speaker: Speaker.State
}

/** The quarantine after BIRD refused a configuration; `gateways` are those that were free. */
export const afterRefusal = (
  { quarantine, secrets, settings, speaker: { process } }: Frontend,
  gateways: ReadonlyArray<Gateway>
): ReadonlyArray<Entry> => {
  if (process._tag !== "Up" || process.change._tag !== "Refused") return quarantine
  const { config: refused, message } = process.change
  const { applied } = process
  const fresh = suspects({ refused, applied, message, gateways, secrets, settings: settings.bird })
  return fresh.length === 0 ? quarantine : [...quarantine, ...fresh]
}

export interface Refusal {
  readonly refused: BirdConfig.Config
  /** What BIRD runs instead. */
  readonly applied: BirdConfig.Config
  readonly message: string
  /** As they are now. */
  readonly gateways: ReadonlyArray<Gateway>
  readonly secrets: ReadonlyArray<Secret>
  readonly settings: BirdSettings
}

/** The gateways to leave out after a refusal; none when it has to do with no gateway. */
export const suspects = (refusal: Refusal): ReadonlyArray<Entry> => {
  const { applied, gateways, message, refused, secrets, settings } = refusal
  const fresh = gateways.map((gateway) => entryOf(gateway, secrets, message))
    .filter((entry) => isIn(refused, entry, settings) && !isIn(applied, entry, settings))
  const culprit = BirdConfig.culprit(refused.text, message)
  const named = fresh.filter(({ gateway }) => BirdConfig.protocolOf(gateway.name) === culprit)
  const held = named.length > 0 ? named : fresh
  return held.map((entry) => ({ ...entry, certain: held.length === 1 }))
}

/** The entries that still are about a gateway as it was refused. */
export const remaining = (
  entries: ReadonlyArray<Entry>,
  gateways: ReadonlyArray<Gateway>,
  secrets: ReadonlyArray<Secret>
): ReadonlyArray<Entry> => {
  if (entries.length === 0) return entries
  const still = entries.filter((entry) =>
    gateways.some((gateway) =>
      Same.equals(gateway, entry.gateway) &&
      Same.equals(BirdConfig.passwordUse(gateway, secrets), entry.password)
    )
  )
  return still.length === entries.length ? entries : still
}

/** Whether some gateway may be held without guilt. */
export const hasSuspects = (entries: ReadonlyArray<Entry>): boolean => entries.some(({ certain }) => !certain)

/** Gives one suspect another chance. */
export const tryNext = (entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> => {
  const next = entries.find(({ certain }) => !certain)
  return next === undefined ? entries : entries.filter((entry) => entry !== next)
}

const entryOf = (gateway: Gateway, secrets: ReadonlyArray<Secret>, message: string): Entry => {
  const password = BirdConfig.passwordUse(gateway, secrets)
  return { gateway, message, certain: false, ...(password === undefined ? {} : { password }) }
}

const isIn = (config: BirdConfig.Config, { gateway, password }: Entry, settings: BirdSettings): boolean =>
  config.text.includes(BirdConfig.protocolText(gateway, settings)) &&
  (password === undefined || config.passwords.some((use) => Same.equals(use, password)))
