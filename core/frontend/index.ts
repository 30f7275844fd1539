/** The frontend: attracts the traffic of VIPs by BIRD and keeps their egress on the way to the gateways. */
export * as Admission from "./Admission.ts"
export * as BirdConfig from "./BirdConfig.ts"
export * as BirdOutput from "./BirdOutput.ts"
export * as Connectivity from "./Connectivity.ts"
export * as Model from "./Model.ts"
export * as Rules from "./Rules.ts"
