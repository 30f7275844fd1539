/**
 * Pairs of virtual Ethernet links between two namespaces.
 */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as Apply from "./Apply.ts"
import * as Ask from "./Ask.ts"
import * as Encode from "./Encode.ts"
import { fromThrown, type NetlinkError } from "./NetlinkError.ts"

/** One end of a veth pair in its final place. */
export interface End {
  /** The path of the namespace the end is made in. */
  readonly namespace: string
  readonly name: string
  /** Marks ownership, so that a restarted process finds what it left behind. */
  readonly alias?: string
  readonly mac?: string
  /** Bytes. */
  readonly mtu?: number
}

/** Makes the pair; both ends exist, with their aliases, or none does. */
export const create = (ask: Ask.Ask, one: End, other: End): Effect.Effect<void, NetlinkError> => {
  const request = `create veth ${one.name} in ${one.namespace} to ${other.name} in ${other.namespace}`
  return Effect.scoped(Effect.gen(function*() {
    const veth = Encode.veth(
      { ...one, namespace: yield* openFile(request, one.namespace) },
      { ...other, namespace: yield* openFile(request, other.namespace) }
    )
    const asks = [yield* Ask.open(one.namespace), yield* Ask.open(other.namespace)] as const
    yield* ask(request, veth)
    // The kernel takes no alias for a link that does not exist yet.
    yield* setAlias(asks[0], one).pipe(
      Effect.andThen(setAlias(asks[1], other)),
      Effect.onError(() => Effect.ignore(Apply.applyAll(asks[0], [{ _tag: "DeleteLink", link: one.name }])))
    )
  })).pipe(Effect.uninterruptible)
}

const setAlias = (ask: Ask.Ask, end: End): Effect.Effect<void, NetlinkError> =>
  end.alias === undefined
    ? Effect.void
    : Apply.applyAll(ask, [{ _tag: "SetLinkAlias", link: end.name, alias: end.alias }])

const openFile = (request: string, path: string) =>
  Effect.acquireRelease(
    Effect.try({ try: () => fs.openSync(path, "r"), catch: (thrown) => fromThrown(request, thrown) }),
    (fd) => Effect.sync(() => fs.closeSync(fd))
  )
