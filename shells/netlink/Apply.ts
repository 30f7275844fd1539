/**
 * `Kernel.Operation`s carried out in order, with success defined by the end state, not by the errno.
 *
 * Where the kernel compares loosely, its objects are read first, so that never a neighbour of the meant object is hit:
 * a request to delete a rule without `from` matches one with it, and one for an IPv4 route of metric 0 any metric. What
 * was read is kept, and kept up to date, until the last operation of the list (`Known`).
 */
import { Effect } from "effect"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import type { Ask } from "./Ask.ts"
import * as Decode from "./Decode.ts"
import * as Encode from "./Encode.ts"
import * as Known from "./Known.ts"
import { fromErrno, type NetlinkError } from "./NetlinkError.ts"
import * as Wire from "./Wire.ts"

type Done = Effect.Effect<void, NetlinkError>

/** Stops at the first operation that fails. */
export const applyAll = (ask: Ask, operations: ReadonlyArray<Kernel.Operation>): Done =>
  Effect.suspend(() => {
    const known = Known.make(ask)
    return Effect.forEach(
      operations,
      (operation) => Effect.tap(apply(ask, known, operation), () => Effect.sync(() => known.note(operation))),
      { discard: true }
    )
  })

const apply = (ask: Ask, known: Known.Known, operation: Kernel.Operation): Done => {
  const request = () => describe(operation)
  const send = sending(ask, known, operation, request)
  switch (operation._tag) {
    case "AddBridge":
      return send.pipe(onCode("EEXIST", () => adoptBridge(ask, operation.name, request)))
    case "AddAddress":
      return send.pipe(onCode("EEXIST", () => confirmAddress(ask, operation.link, operation.cidr, request)))
    case "AddRule":
      return send.pipe(onCode("EEXIST", (error) => addRuleBeside(ask, known, operation.rule, error, request)))
    case "DeleteRule":
      return Effect.flatMap(
        known.firstMatch(operation.rule),
        (match) => match === "exact" ? absentIsSuccess(send) : match === "none" ? Effect.void : shadowed(request)
      )
    case "DeleteRoute":
      return Effect.flatMap(
        known.mayHave(operation.route),
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

/** A link that another one has replaced since its index was read is looked for again. */
const sending = (ask: Ask, known: Known.Known, operation: Kernel.Operation, request: () => string): Done => {
  const names = Encode.links(operation)
  const attempt = Effect.gen(function*() {
    for (const name of names) yield* known.findIndex(name, request)
    const { body, flags, type } = Encode.message(operation, known.index)
    yield* ask(request, { body, type, flags })
  })
  return names.length > 0 && names.every(known.hasIndex)
    ? Effect.catchIf(attempt, ({ code }) => code === "ENODEV", () => Effect.andThen(known.forgetLinks, attempt))
    : attempt
}

const absent: ReadonlySet<string> = new Set(["ENOENT", "ESRCH", "ENODEV", "EADDRNOTAVAIL"])

const absentIsSuccess = (effect: Done): Done =>
  Effect.catchIf(effect, (error) => absent.has(error.code), () => Effect.void)

const onCode = (code: string, recover: (error: NetlinkError) => Done) => (effect: Done): Done =>
  Effect.catchIf(effect, (error) => error.code === code, recover)

const eexist = 17
const einval = 22

/** The name is taken; that is success if a bridge has it. */
const adoptBridge = (ask: Ask, name: string, request: () => string): Done =>
  Effect.flatMap(
    ask(request, Encode.findLink(name)),
    ([body]) =>
      body !== undefined && Decode.linkKind(Wire.attributes(body, Wire.headerSize.link)) === "bridge"
        ? Effect.void
        : fromErrno(`${request()}: taken by a link that is no bridge`, eexist)
  )

/** IPv6 says EEXIST as well when the link has the address with another prefix length, and that is no success. */
const confirmAddress = (ask: Ask, link: string, cidr: Cidr.Cidr, request: () => string): Done =>
  Effect.gen(function*() {
    const names = Decode.names(yield* ask(request, Encode.dumpLinks()))
    const bodies = yield* ask(request, Encode.dump("address", Cidr.family(cidr)))
    const there = bodies.some((body) => {
      const address = Decode.address(body, names)
      return address?.link === link && address.cidr === cidr
    })
    if (!there) return yield* fromErrno(`${request()}: there with another prefix length`, eexist)
  })

/** The kernel takes a rule with `from` for a duplicate of the same rule without; then it is added unconditionally. */
const addRuleBeside = (
  ask: Ask,
  known: Known.Known,
  rule: Kernel.Rule,
  error: NetlinkError,
  request: () => string
): Done =>
  Effect.gen(function*() {
    if (yield* known.hasRule(rule)) return
    if (rule.from !== undefined) return yield* error
    const { body, type } = Encode.message({ _tag: "AddRule", rule }, () => 0)
    yield* ask(request, { type, flags: Wire.create, body })
  })

const shadowed = (request: () => string): NetlinkError =>
  fromErrno(`${request()}: a rule of the same priority and table with more selectors stands before it`, einval)

/** The operation in words, for messages. */
const describe = (operation: Kernel.Operation): string => {
  const { _tag: name, ...rest } = operation
  return `${name} ${JSON.stringify(rest)}`
}
