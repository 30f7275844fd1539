/** The configured objects, their manifests, the entries of the target registry, and the syntax of Go's settings. */
export * as ByteMatches from "./ByteMatches.ts"
export * as Deployment from "./Deployment.ts"
export * as GoSyntax from "./GoSyntax.ts"
export * as Manifest from "./Manifest.ts"
export * as Model from "./Model.ts"
export * as Ports from "./Ports.ts"
export * as Problem from "./Problem.ts"
export * as Target from "./Target.ts"
