/** Addresses, prefixes, and the kernel's network objects and operations as data. */
export * as Cidr from "./Cidr.ts"
export * as Ip from "./Ip.ts"
export * as IpCommand from "./IpCommand.ts"
export * as Kernel from "./Kernel.ts"
