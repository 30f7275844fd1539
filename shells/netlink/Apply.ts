/**
 * One `Kernel.Operation` carried out, with success defined by the end state, not by the errno.
 *
 * Where the kernel compares loosely, its objects are read first, so that never a neighbour of the meant object is hit:
 * a request to delete a rule without `from` matches one with it, and one for an IPv4 route of metric 0 any metric.
 */
import { Effect, Predicate } from "effect"
import { Cidr, type Ip, type Kernel } from "../../core/net/index.ts"
import * as Decode from "./Decode.ts"
import * as Encode from "./Encode.ts"
import { fromErrno, type NetlinkError } from "./NetlinkError.ts"
import type { Ask } from "./Socket.ts"
import * as Wire from "./Wire.ts"

export const apply = (ask: Ask, operation: Kernel.Operation): Effect.Effect<void, NetlinkError> => {
  const request = describe(operation)
  const send = Effect.gen(function*() {
    const indexes = new Map<string, number>()
    for (const name of Encode.links(operation)) indexes.set(name, yield* findIndex(ask, request, name))
    const { body, flags, type } = Encode.message(operation, (name) => indexes.get(name) ?? 0)
    yield* ask(request, { body, type, flags })
  })
  switch (operation._tag) {
    case "AddBridge":
      return send.pipe(onCode("EEXIST", () => adoptBridge(ask, request, operation.name)))
    case "AddAddress":
      return send.pipe(onCode("EEXIST", () => confirmAddress(ask, request, operation.link, operation.cidr)))
    case "AddRule":
      return send.pipe(onCode("EEXIST", (error) => addRuleBeside(ask, request, operation.rule, error)))
    case "DeleteRule":
      return Effect.flatMap(
        firstMatch(ask, request, operation.rule),
        (match) => match === "exact" ? absentIsSuccess(send) : match === "none" ? Effect.void : shadowed(request)
      )
    case "DeleteRoute":
      return Effect.flatMap(
        isThere(ask, request, operation.route),
        (there) => there ? absentIsSuccess(send) : Effect.void
      )
    case "DeleteLink":
    case "DeleteAddress":
    case "DeleteNeighbour":
      return absentIsSuccess(send)
    case "SetLinkMaster":
      return operation.master === undefined ? absentIsSuccess(send) : send
    default:
      return send
  }
}

const absent: ReadonlySet<string> = new Set(["ENOENT", "ESRCH", "ENODEV", "EADDRNOTAVAIL"])

const absentIsSuccess = <A>(effect: Effect.Effect<A, NetlinkError>): Effect.Effect<void, NetlinkError> =>
  effect.pipe(Effect.asVoid, Effect.catchIf((error) => absent.has(error.code), () => Effect.void))

const onCode =
  (code: string, recover: (error: NetlinkError) => Effect.Effect<void, NetlinkError>) =>
  (effect: Effect.Effect<void, NetlinkError>): Effect.Effect<void, NetlinkError> =>
    Effect.catchIf(effect, (error) => error.code === code, recover)

const findIndex = (ask: Ask, request: string, name: string): Effect.Effect<number, NetlinkError> =>
  ask(request, Encode.findLink(name)).pipe(
    Effect.flatMap(([body]) => {
      const found = body && Decode.linkName(body)
      return found === undefined ? fromErrno(request, enodev) : Effect.succeed(found[0])
    })
  )

const enodev = 19
const eexist = 17
const einval = 22

/** The name is taken; that is success if a bridge has it. */
const adoptBridge = (ask: Ask, request: string, name: string): Effect.Effect<void, NetlinkError> =>
  Effect.flatMap(
    ask(request, Encode.findLink(name)),
    ([body]) =>
      body !== undefined && Decode.linkKind(Wire.attributes(body, Wire.headerSize.link)) === "bridge"
        ? Effect.void
        : fromErrno(`${request}: taken by a link that is no bridge`, eexist)
  )

/** IPv6 says EEXIST as well when the link has the address with another prefix length, and that is no success. */
const confirmAddress = (
  ask: Ask,
  request: string,
  link: string,
  cidr: Cidr.Cidr
): Effect.Effect<void, NetlinkError> =>
  Effect.gen(function*() {
    const names = Decode.names(yield* ask(request, Encode.dumpLinks()))
    const bodies = yield* ask(request, Encode.dump("address", Cidr.family(cidr)))
    const there = bodies.some((body) => {
      const address = Decode.address(body, names)
      return address?.link === link && address.cidr === cidr
    })
    if (!there) return yield* fromErrno(`${request}: there with another prefix length`, eexist)
  })

/** The kernel takes a rule with `from` for a duplicate of the same rule without; then it is added unconditionally. */
const addRuleBeside = (
  ask: Ask,
  request: string,
  rule: Kernel.Rule,
  error: NetlinkError
): Effect.Effect<void, NetlinkError> =>
  Effect.gen(function*() {
    const rules = yield* readRules(ask, request, rule.family)
    if (rules.some((other) => isSame(other, rule))) return
    if (rule.from !== undefined) return yield* error
    const { body, type } = Encode.message({ _tag: "AddRule", rule }, () => 0)
    yield* ask(request, { type, flags: Wire.create, body })
  })

/** Which rule a request to delete this one would hit: this one, none, or one with more selectors that stands before. */
const firstMatch = (
  ask: Ask,
  request: string,
  rule: Kernel.Rule
): Effect.Effect<"exact" | "none" | "other", NetlinkError> =>
  Effect.map(readRules(ask, request, rule.family), (rules) => {
    if (!rules.some((other) => isSame(other, rule))) return "none"
    const first = rules.find((other) =>
      other.priority === rule.priority && other.table === rule.table &&
      (rule.from === undefined || other.from === rule.from) && (rule.mark === undefined || other.mark === rule.mark)
    )
    return first !== undefined && isSame(first, rule) ? "exact" : "other"
  })

const shadowed = (request: string): NetlinkError =>
  fromErrno(`${request}: a rule of the same priority and table with more selectors stands before it`, einval)

const readRules = (ask: Ask, request: string, family: Ip.Family) =>
  Effect.map(
    ask(request, Encode.dump("rule", family)),
    (bodies) => bodies.map(Decode.rule).filter(Predicate.isNotUndefined)
  )

const isSame = (a: Kernel.Rule, b: Kernel.Rule): boolean =>
  a.priority === b.priority && a.table === b.table && a.from === b.from && a.mark === b.mark && !a.foreign

const isThere = (ask: Ask, request: string, route: Kernel.Route): Effect.Effect<boolean, NetlinkError> =>
  route.family === "v6" || route.metric !== 0
    ? Effect.succeed(true)
    : Effect.map(ask(request, Encode.dump("route", route.family)), (bodies) =>
      bodies.some((body) => {
        const other = Decode.route(body, new Map())
        return other?.table === route.table && other.destination === route.destination && other.metric === 0
      }))

/** The operation in words, for messages. */
const describe = (operation: Kernel.Operation): string => {
  const { _tag: name, ...rest } = operation
  return `${name} ${JSON.stringify(rest)}`
}
