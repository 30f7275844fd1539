/**
 * Bytes with open files beside them: sendmsg and recvmsg with SCM_RIGHTS, which Node does not have. Both never wait.
 *
 * Layouts are those of 64-bit Linux.
 */
import koffi from "koffi"
import type { Socket } from "node:net"
import { getSystemErrorMap } from "node:util"

/** How many files one message may carry: what the receivers of NSM make room for. */
export const maxDescriptors = 64

/** What became of a message. `Full`: nothing was sent, because the buffer of the socket is full; try again later. */
export type Sent =
  | { readonly _tag: "Sent"; readonly bytes: number }
  | { readonly _tag: "Full" }
  | { readonly _tag: "Failed"; readonly code: string }

/** What was received. The descriptors belong to the caller now, who closes them. No bytes at all: the peer ended. */
export type Received =
  | { readonly _tag: "Received"; readonly bytes: Buffer; readonly descriptors: ReadonlyArray<number> }
  | { readonly _tag: "Empty" }
  | { readonly _tag: "Failed"; readonly code: string }

/** Sends as many of the bytes as fit, with all of the descriptors if any byte was sent. `bytes` must not be empty. */
export const send = (socket: number, bytes: Uint8Array, descriptors: ReadonlyArray<number>): Sent => {
  const control = outside(controlSpace(descriptors.length))
  control.writeBigUInt64LE(BigInt(headerBytes + 4 * descriptors.length), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  descriptors.forEach((descriptor, i) => control.writeInt32LE(descriptor, headerBytes + 4 * i))
  const data = outside(bytes.length)
  data.set(bytes)
  const message = messageOf(data, descriptors.length === 0 ? undefined : control)
  const sent = sendmsg(socket, message.header, MSG_DONTWAIT | MSG_NOSIGNAL)
  if (sent >= 0) return { _tag: "Sent", bytes: sent }
  return isFull(koffi.errno()) ? { _tag: "Full" } : { _tag: "Failed", code: nameOf(koffi.errno()) }
}

/** Takes what is there, at most `size` bytes, with the descriptors that came with it. */
export const receive = (socket: number, size: number): Received => {
  const data = outside(size)
  const control = outside(controlSpace(maxDescriptors))
  const message = messageOf(data, control)
  const received = recvmsg(socket, message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
  if (received < 0) {
    return isFull(koffi.errno()) ? { _tag: "Empty" } : { _tag: "Failed", code: nameOf(koffi.errno()) }
  }
  const used = Number(message.header.readBigUInt64LE(controlLengthAt))
  return { _tag: "Received", bytes: data.subarray(0, received), descriptors: descriptorsIn(control.subarray(0, used)) }
}

/** The descriptor of a socket of Node, by an inner property; undefined when the socket is closed. */
export const descriptorOf = (socket: Socket): number | undefined => {
  const handle: unknown = Reflect.get(socket, "_handle")
  const isOpen = typeof handle === "object" && handle !== null && "fd" in handle && typeof handle.fd === "number"
  return isOpen && typeof handle.fd === "number" && handle.fd >= 0 ? handle.fd : undefined
}

const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
const EINTR = 4
const EAGAIN = 11

const libc = koffi.load(null)
const sendmsg: (socket: number, message: Buffer, flags: number) => number = libc.func("sendmsg", "long", [
  "int",
  "void *",
  "int"
])
const recvmsg: (socket: number, message: Buffer, flags: number) => number = libc.func("recvmsg", "long", [
  "int",
  "void *",
  "int"
])

const headerBytes = 16
const controlLengthAt = 40

const aligned = (length: number): number => Math.ceil(length / 8) * 8

const controlSpace = (descriptors: number): number => headerBytes + aligned(4 * descriptors)

/** Memory that the garbage collector does not move, since the kernel gets its address. */
const outside = (length: number): Buffer => Buffer.from(new ArrayBuffer(length))

/** A `struct msghdr` with one part; `parts` only keeps that one alive. */
const messageOf = (
  data: Buffer,
  control: Buffer | undefined
): { readonly header: Buffer; readonly parts: Buffer } => {
  const parts = outside(16)
  parts.writeBigUInt64LE(koffi.address(data), 0)
  parts.writeBigUInt64LE(BigInt(data.length), 8)
  const header = outside(56)
  header.writeBigUInt64LE(koffi.address(parts), 16)
  header.writeBigUInt64LE(1n, 24)
  if (control !== undefined) {
    header.writeBigUInt64LE(koffi.address(control), 32)
    header.writeBigUInt64LE(BigInt(control.length), controlLengthAt)
  }
  return { header, parts }
}

const descriptorsIn = (control: Buffer): ReadonlyArray<number> => {
  const found: Array<number> = []
  let at = 0
  while (at + headerBytes <= control.length) {
    const length = Number(control.readBigUInt64LE(at))
    if (length < headerBytes || at + length > control.length) break
    if (control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let i = at + headerBytes; i + 4 <= at + length; i += 4) found.push(control.readInt32LE(i))
    }
    at += aligned(length)
  }
  return found
}

const isFull = (errno: number): boolean => errno === EAGAIN || errno === EINTR

const nameOf = (errno: number): string => getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`
