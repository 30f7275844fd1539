/** The stateless load balancer: which target gets which packet, and the rules and routes that make it so. */
export * as LoadBalancer from "./LoadBalancer.ts"
export * as Maglev from "./Maglev.ts"
export * as Model from "./Model.ts"
export * as Routes from "./Routes.ts"
export * as Ruleset from "./Ruleset.ts"
