/** Address management of a trench: pools cut into conduits, nodes and addresses, leased by name. */
export * as Ipam from "./Ipam.ts"
export * as Leases from "./Leases.ts"
export * as Model from "./Model.ts"
export * as Notices from "./Notices.ts"
