/** The proxy: the node's bridge between load balancers and targets. */
export * as IpContext from "./IpContext.ts"
export * as Leases from "./Leases.ts"
export * as Mesh from "./Mesh.ts"
export * as Model from "./Model.ts"
export * as Proxy from "./Proxy.ts"
export * as Routes from "./Routes.ts"
export * as Targets from "./Targets.ts"
