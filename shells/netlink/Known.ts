/**
 * What has been read of a namespace while a list of operations is applied: each list of the kernel at most once, unless
 * an operation may have changed it in a way that only the kernel knows.
 */
import { Effect, Predicate } from "effect"
import { type Ip, Kernel } from "../../core/net/index.ts"
import * as Same from "../../core/Same.ts"
import type { Ask } from "./Ask.ts"
import * as Decode from "./Decode.ts"
import * as Encode from "./Encode.ts"
import { fromErrno, type NetlinkError } from "./NetlinkError.ts"

type Found<A> = Effect.Effect<A, NetlinkError>

export interface Known {
  /** Reads the index of the link unless it is known; ENODEV if there is none. */
  readonly findIndex: (name: string, request: () => string) => Found<void>
  readonly hasIndex: (name: string) => boolean
  /** 0 unless it is known. */
  readonly index: (name: string) => number
  readonly forgetLinks: Effect.Effect<void>
  readonly hasRule: (rule: Kernel.Rule) => Found<boolean>
  /** Which rule a request to delete this one hits: this one, none, or one with more selectors that stands before. */
  readonly firstMatch: (rule: Kernel.Rule) => Found<"exact" | "none" | "other">
  /** Whether a request to delete this route would hit no other one. */
  readonly mayHave: (route: Kernel.Route) => Found<boolean>
  /** The operation has been carried out. */
  readonly note: (operation: Kernel.Operation) => void
}

export const make = (ask: Ask): Known => {
  const indexes = new Map<string, number>()
  const rules = new Map<Ip.Family, Rules>()
  let routes: Set<string> | undefined

  const readRules = (family: Ip.Family) =>
    Effect.map(ask(`read ${family} rules`, Encode.dump("rule", family)), (bodies) => {
      const table = ruleTable(bodies.map(Decode.rule).filter(Predicate.isNotUndefined))
      rules.set(family, table)
      return table
    })
  const rulesOf = (family: Ip.Family) =>
    Effect.suspend(() => {
      const table = rules.get(family)
      return table === undefined ? readRules(family) : Effect.succeed(table)
    })
  const readRoutes = Effect.suspend(() =>
    routes !== undefined ? Effect.succeed(routes) : Effect.map(
      ask("read v4 routes", Encode.dump("route", "v4")),
      (bodies) =>
        routes = new Set(
          bodies.map((body) => Decode.route(body, new Map())).filter(Predicate.isNotUndefined).filter(isLoose)
            .map(routeKey)
        )
    )
  )

  return {
    findIndex: (name, request) =>
      Effect.suspend(() =>
        indexes.has(name)
          ? Effect.void
          : Effect.flatMap(ask(request, Encode.findLink(name)), ([body]) => {
            const found = body && Decode.linkName(body)
            if (found === undefined) return fromErrno(request(), enodev)
            indexes.set(name, found[0])
            return Effect.void
          })
      ),
    hasIndex: (name) => indexes.has(name),
    index: (name) => indexes.get(name) ?? 0,
    forgetLinks: Effect.sync(() => indexes.clear()),
    hasRule: (rule) =>
      Effect.flatMap(rulesOf(rule.family), (known) =>
        known.candidates(rule).some((other) => isSame(other, rule))
          ? Effect.succeed(true)
          // Somebody may have added it in the meantime.
          : Effect.map(readRules(rule.family), (read) => read.candidates(rule).some((other) => isSame(other, rule)))),
    firstMatch: (rule) =>
      Effect.map(rulesOf(rule.family), (known) => {
        const candidates = known.candidates(rule)
        if (!candidates.some((other) => isSame(other, rule))) return "none"
        const first = candidates.find((other) =>
          (rule.iif === undefined || other.iif === rule.iif) && hasMark(other, rule) && hasTraffic(other, rule)
          && (rule.goto === undefined) === (other.goto === undefined)
        )
        return first !== undefined && isSame(first, rule) ? "exact" : "other"
      }),
    mayHave: (route) =>
      isLoose(route) ? Effect.map(readRoutes, (known) => known.has(routeKey(route))) : Effect.succeed(true),
    note: (operation) => {
      switch (operation._tag) {
        case "AddRule":
          return rules.get(operation.rule.family)?.add(operation.rule)
        case "DeleteRule":
          return rules.get(operation.rule.family)?.remove(operation.rule)
        case "ReplaceRoute":
          if (isLoose(operation.route)) routes?.add(routeKey(operation.route))
          return
        case "DeleteRoute":
          if (isLoose(operation.route)) routes?.delete(routeKey(operation.route))
          return
        case "AddBridge":
        case "RenameLink":
        case "DeleteLink":
          indexes.clear()
          routes = undefined
          return
        case "ReplaceNeighbour":
        case "DeleteNeighbour":
        case "SetLinkAlias":
        case "SetLinkMaster":
          return
        case "SetLinkUp":
        case "SetLinkMtu":
        case "SetLinkMac":
        case "AddAddress":
        case "DeleteAddress":
          // Routes come and go with these.
          routes = undefined
      }
    }
  }
}

const enodev = 19

/** The rules of a family in the order of the kernel. */
interface Rules {
  /** Those that could be taken for this one: same priority and table, and the same source if it has one. */
  readonly candidates: (rule: Kernel.Rule) => ReadonlyArray<Kernel.Rule>
  readonly add: (rule: Kernel.Rule) => void
  readonly remove: (rule: Kernel.Rule) => void
}

const ruleTable = (read: ReadonlyArray<Kernel.Rule>): Rules => {
  const all = new Set<Kernel.Rule>()
  const bySource = new Map<string, Array<Kernel.Rule>>()
  const candidates = (rule: Kernel.Rule): ReadonlyArray<Kernel.Rule> =>
    rule.from === undefined
      ? [...all].filter(({ priority, table }) => priority === rule.priority && table === rule.table)
      : bySource.get(ruleKey(rule)) ?? []
  const add = (rule: Kernel.Rule): void => {
    all.add(rule)
    bySource.set(ruleKey(rule), [...bySource.get(ruleKey(rule)) ?? [], rule])
  }
  read.forEach(add)
  return {
    candidates,
    add: (rule) => {
      if (!candidates(rule).some((other) => isSame(other, rule))) add(rule)
    },
    remove: (rule) => {
      const found = candidates(rule).find((other) => isSame(other, rule))
      if (found === undefined) return
      all.delete(found)
      bySource.set(ruleKey(found), (bySource.get(ruleKey(found)) ?? []).filter((other) => other !== found))
    }
  }
}

const ruleKey = ({ from, priority, table }: Kernel.Rule): string => `${priority} ${table} ${from}`

const isSame = (a: Kernel.Rule, b: Kernel.Rule): boolean => Same.equals(a, b) && !a.foreign

/** Whether the rule asks for the mark that the other asks for, if it does. */
const hasMark = (rule: Kernel.Rule, other: Kernel.Rule): boolean =>
  ((other.mark ?? 0) === 0 || rule.mark === other.mark) && (maskOf(other) === 0 || maskOf(rule) === maskOf(other))

const maskOf = ({ mark, mask }: Kernel.Rule): number => mask ?? (mark === undefined ? 0 : Kernel.wholeMark)

/** Whether the rule has at least the selectors by traffic of the other. */
const hasTraffic = ({ traffic = {} }: Kernel.Rule, { traffic: asked = {} }: Kernel.Rule): boolean =>
  Kernel.isSameTraffic({ ...traffic, ...asked }, traffic)

/** For the kernel the metric 0 means any one when it deletes an IPv4 route. */
const isLoose = ({ family, metric }: Kernel.Route): boolean => family === "v4" && metric === 0

const routeKey = ({ destination, table }: Kernel.Route): string => `${table} ${destination}`
