/**
 * What the seven watches of the configuration manager answer: the objects of the trench that match a selector.
 *
 * An empty name, and a parent that the request does not name, match everything; only a trench has to be named. (The original treats a missing parent as
 * "nothing"; all its useful requests name their parents and get the same answers here.)
 * Source: Meridio `api/nsp/v1/utils.go`, `pkg/configuration/registry`.
 */
import { Result, Schema } from "effect"
import type { Deployment } from "../config/Deployment.ts"
import type { Attractor, Conduit, Configuration, Flow, Gateway, Stream, Vip } from "../config/Model.ts"

/** Names that must agree; an empty or absent one agrees with every name. `name` is that of the object itself. */
export const Selector = Schema.Struct({
  trench: Schema.optionalKey(Schema.String),
  conduit: Schema.optionalKey(Schema.String),
  stream: Schema.optionalKey(Schema.String),
  name: Schema.optionalKey(Schema.String)
})
export type Selector = typeof Selector.Type

/** A watch: from the configuration and a selector to the answer. */
type Watch<A> = (configuration: Configuration, selector: Selector) => ReadonlyArray<A>

/** The trench itself, once or not at all. Here `name` is the name of the trench, and no name is nobody's. */
export const trenches: Watch<string> = ({ trench }, { name }) => (name === trench ? [trench] : [])

export const conduits: Watch<Conduit> = (configuration, { name, trench }) =>
  configuration.conduits.filter((one) => agrees(name, one.conduit) && agrees(trench, one.trench))

export const streams: Watch<Stream> = (configuration, { conduit, name, trench }) =>
  configuration.streams.filter((one) =>
    agrees(name, one.stream) && agrees(conduit, one.conduit) && agrees(trench, one.trench)
  )

export const flows: Watch<Flow> = (configuration, { conduit, name, stream, trench }) =>
  configuration.flows.filter((one) =>
    agrees(name, one.name) && agrees(stream, one.stream.stream) && agrees(conduit, one.stream.conduit) &&
    agrees(trench, one.stream.trench)
  )

export const vips: Watch<Vip> = (configuration, selector) => ofTrench(configuration, selector, configuration.vips)

export const attractors: Watch<Attractor> = (configuration, selector) =>
  ofTrench(configuration, selector, configuration.attractors)

export const gateways: Watch<Gateway> = (configuration, selector) =>
  ofTrench(configuration, selector, configuration.gateways)

const ofTrench = <A extends { readonly name: string }>(
  configuration: Configuration,
  { name, trench }: Selector,
  objects: ReadonlyArray<A>
): ReadonlyArray<A> => agrees(trench, configuration.trench) ? objects.filter((one) => agrees(name, one.name)) : []

const agrees = (wanted: string | undefined, name: string): boolean =>
  wanted === undefined || wanted === "" || wanted === name

/** Which of several trenches an NSP serves: the one of the given name, or the only one; the namespace breaks ties. */
export const choose = (
  deployments: ReadonlyArray<Deployment>,
  wanted: { readonly trench: string; readonly namespace: string }
): Result.Result<Deployment, string> => {
  const named = deployments.filter(({ configuration }) => agrees(wanted.trench, configuration.trench))
  const found = named.length > 1 ? named.filter(({ namespace }) => namespace === wanted.namespace) : named
  const [only] = found
  if (only !== undefined && found.length === 1) return Result.succeed(only)
  const there = deployments.map(({ configuration, namespace }) => `${namespace}/${configuration.trench}`).join(", ")
  return Result.fail(
    named.length === 0
      ? `the manifests hold no trench ${
        wanted.trench === "" ? "at all" : `${wanted.trench}, but ${there === "" ? "none" : there}`
      }`
      : `the manifests hold several trenches (${there}); choose one with NSP_TRENCH and NSP_NAMESPACE`
  )
}
