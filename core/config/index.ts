/** The configured objects, their manifests, and the entries of the target registry. */
export * as GoSyntax from "./GoSyntax.ts"
export * as Model from "./Model.ts"
export * as Target from "./Target.ts"
