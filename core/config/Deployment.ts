/**
 * What a set of manifests asks for: per trench the configuration its NSP serves, and what an operator or a lab needs to
 * know to set up the pods.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import { Configuration, IpFamily, Name } from "./Model.ts"

/** How the frontends of an attractor reach the gateways. */
export const ExternalInterface = Schema.TaggedUnion({
  /** A VLAN interface that NSM makes on the base interface of each node. */
  NsmVlan: {
    name: Schema.String,
    ipv4Prefix: Cidr.Cidr,
    ipv6Prefix: Cidr.Cidr,
    baseInterface: Schema.String,
    vlanId: Schema.Int
  },
  /** A network of the cluster's CNI; `config` is its CNI configuration if the manifests define it. */
  NetworkAttachment: {
    name: Schema.String,
    attachment: Schema.Struct({
      namespace: Name,
      name: Name,
      /** The name of the interface in the pod, when it differs from `name`. */
      interface: Schema.optionalKey(Schema.String)
    }),
    config: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
  }
})
export type ExternalInterface = typeof ExternalInterface.Type

/** The pods of one attractor: frontends with the load balancers of its conduits. */
export const AttractorPods = Schema.Struct({
  name: Name,
  replicas: Schema.Natural,
  /** Names of conduits; today at most one. */
  conduits: Schema.Array(Name),
  interface: ExternalInterface
})
export type AttractorPods = typeof AttractorPods.Type

/** One trench. */
export const Deployment = Schema.Struct({
  namespace: Name,
  ipFamily: IpFamily,
  configuration: Configuration,
  attractors: Schema.Array(AttractorPods)
})
export type Deployment = typeof Deployment.Type
