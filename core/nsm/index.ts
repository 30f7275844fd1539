/** Network Service Mesh: connections, the client, the manager, the registry and the kernel forwarder as pure logic. */
export * as Model from "./Model.ts"
