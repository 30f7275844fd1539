/** The network service platform: the registry of targets and the configuration of one trench. */
export * as Configuration from "./Configuration.ts"
export * as Registry from "./Registry.ts"
