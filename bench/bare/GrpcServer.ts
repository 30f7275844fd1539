/** The least a gRPC server on Node can be: answers every health check on the socket of its argument with SERVING. */
import * as grpc from "@grpc/grpc-js"

const server = new grpc.Server({ "grpc.enable_channelz": 0 })
server.addService({
  check: {
    path: "/grpc.health.v1.Health/Check",
    requestStream: false,
    responseStream: false,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes) => bytes
  }
}, {
  check: (_: grpc.ServerUnaryCall<Buffer, Buffer>, respond: grpc.sendUnaryData<Buffer>) =>
    respond(null, Buffer.from([8, 1]))
})
server.bindAsync(`unix:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error
})
process.once("SIGTERM", () => process.exit())
