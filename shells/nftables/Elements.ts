/**
 * Elements of sets and maps by the kernel's own protocol (nfnetlink, linux/netfilter/nf_tables.h), in one transaction.
 *
 * Where only elements come and go, libnftables takes five times as long: it reads the tables, and each element as text.
 */
import { Effect } from "effect"
import { constants } from "node:os"
import { Ip } from "../../core/net/index.ts"
import { fromErrno, type NetlinkError } from "../netlink/NetlinkError.ts"
import * as Socket from "../netlink/Socket.ts"
import * as Wire from "../netlink/Wire.ts"

/** What becomes of the elements of a set or map; numbers are in the order of the host, as marks are. */
export interface Change {
  readonly family: "inet" | "netdev"
  readonly table: string
  /** The set or map. */
  readonly name: string
  readonly removed: ReadonlyArray<number>
  /** With the value in a map; keys that are removed as well get another value. */
  readonly added: ReadonlyArray<readonly [key: number, value: number | Ip.Ip | undefined]>
}

/** Applies all changes, or none and fails. The kernel answers while it takes them. */
export const apply = (socket: Socket.Socket, changes: ReadonlyArray<Change>): Effect.Effect<void, NetlinkError> =>
  Effect.suspend(() => {
    const messages = changes.flatMap(messagesOf)
    if (messages.length === 0) return Effect.void
    const batch = [border(batchBegin), ...messages.map(({ message }) => message), border(batchEnd)]
    const failed = Socket.send(socket, Buffer.concat(batch.map((message, i) => Wire.request(message, i))))
    if (failed !== undefined) return Effect.fail(fromErrno("change elements", failed))
    const answered = new Set<number>()
    for (;;) {
      const bytes = Socket.receive(socket, "look")
      if (typeof bytes === "number") {
        if (bytes !== constants.errno.EAGAIN) return Effect.fail(fromErrno("change elements", bytes))
        break
      }
      for (const part of Wire.messages(bytes)) {
        const { errno, reason } = Wire.verdict(part)
        if (errno !== 0) {
          drain(socket)
          return Effect.fail(fromErrno(messages[part.sequence - 1]?.words ?? "change elements", errno, reason))
        }
        answered.add(part.sequence)
      }
    }
    return messages.every((_, i) => answered.has(i + 1))
      ? Effect.void
      : Effect.fail(fromErrno("change elements: no answer", constants.errno.EPROTO))
  })

const drain = (socket: Socket.Socket): void => {
  while (typeof Socket.receive(socket, "look") !== "number") continue
}

interface Request {
  readonly words: string
  readonly message: Wire.Message
}

const messagesOf = ({ added, family, name, removed, table }: Change): ReadonlyArray<Request> => {
  const head = Buffer.concat([
    generic(families[family], 0),
    Wire.attribute(listTable, Wire.text(table)),
    Wire.attribute(listSet, Wire.text(name))
  ])
  const request = (words: string, type: number, flags: number, added: Change["added"]): ReadonlyArray<Request> =>
    inParts(added).map((part) => ({
      words: `${words} elements of ${family} ${table} ${name}`,
      message: {
        type: type | subsystem << 8,
        flags,
        body: Buffer.concat([head, nested(listElements, ...encode(part))])
      }
    }))
  return [
    ...request("delete", deleteElements, 0, removed.map((key) => [key, undefined])),
    ...request("add", newElements, Wire.create, added)
  ]
}

/** The length of an attribute has 16 bits. */
const inParts = (added: Change["added"]): ReadonlyArray<Change["added"]> =>
  Array.from({ length: Math.ceil(added.length / most) }, (_, i) => added.slice(i * most, (i + 1) * most))

const most = 1_000

// Elements of numbers, of which there are thousands, differ from one another in those numbers only.
const encode = (added: Change["added"]): ReadonlyArray<Buffer> => {
  if (added.some(([, value]) => typeof value === "string")) return added.map(([key, value]) => element(key, value))
  const model = element(0, added[0]?.[1])
  const bytes = Buffer.alloc(model.length * added.length, model)
  let at = 0
  for (const [key, value] of added) {
    bytes.writeUInt32LE(key, at + keyAt)
    if (typeof value === "number") bytes.writeUInt32LE(value, at + valueAt)
    at += model.length
  }
  return [bytes]
}

const element = (key: number, value: Change["added"][number][1]): Buffer =>
  nested(
    listElement,
    nested(elementKey, Wire.attribute(dataValue, Wire.u32(key))),
    ...value === undefined
      ? []
      : [nested(elementData, Wire.attribute(dataValue, typeof value === "number" ? Wire.u32(value) : Wire.ip(value)))]
  )

/** Where the numbers stand in an element. */
const [keyAt, valueAt] = [12, 24]

const nested = (type: number, ...attributes: ReadonlyArray<Buffer>): Buffer =>
  Wire.attribute(type | nest, ...attributes)

/** struct nfgenmsg: family, version, and a number in the order of the network. */
const generic = (family: number, resource: number): Buffer => Buffer.from([family, 0, resource >> 8, resource & 0xff])

const border = (type: number): Wire.Message => ({ type, flags: 0, body: generic(0, subsystem) })

const subsystem = 10
const [batchBegin, batchEnd, newElements, deleteElements] = [16, 17, 12, 14]
const families = { inet: 1, netdev: 5 } as const
const [listTable, listSet, listElements, listElement] = [1, 2, 3, 1]
const [elementKey, elementData, dataValue, nest] = [1, 2, 1, 0x8000]
