/** The least a server on Node can be: listens on the socket of its argument and says nothing. */
import { createServer } from "node:net"

createServer().listen(process.argv[2])
process.once("SIGTERM", () => process.exit())
