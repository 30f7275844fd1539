/** The plan of a proxy: how the kernel of its node comes from what there is to what is wanted. */
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import { IpCommand, Kernel } from "../../core/net/index.ts"
import { Routes } from "../../core/proxy/index.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { type Plan, PlanError } from "./Main.ts"

export const plan: Plan = ({ options: { desired, ip, observed } }) =>
  Effect.gen(function*() {
    const wish = yield* read("--desired", desired, Schema.toCodecJson(Routes.Desired))
    const seen = observed === undefined || observed === "live"
      ? yield* live
      : yield* read("--observed", observed, Schema.toCodecJson(Kernel.Snapshot))
    const operations = Routes.plan(wish, seen)
    const fault = Routes.fault(wish, seen)
    const missing = Routes.missing(wish, seen).map((link) => `${link} is not there yet, so it is not a port`)
    return {
      text: ip === true
        ? operations.map(IpCommand.line).join("\n")
        : `[${operations.map((operation) => `\n  ${JSON.stringify(encode(operation))}`).join(",")}\n]`,
      problems: fault === undefined ? missing : [fault]
    }
  })

const encode = Schema.encodeSync(Schema.toCodecJson(Kernel.Operation))

const live = Effect.scoped(Effect.flatMap(Netlink.make(), ({ snapshot }) => snapshot)).pipe(
  Effect.mapError(({ message }) => new PlanError({ lines: [message] }))
)

const read = <A, E>(option: string, file: unknown, codec: Schema.Codec<A, E>): Effect.Effect<A, PlanError> =>
  Effect.try({ try: (): unknown => JSON.parse(fs.readFileSync(String(file), "utf8")), catch: messageOf }).pipe(
    Effect.flatMap((json) => Effect.mapError(Schema.decodeUnknownEffect(codec)(json), messageOf)),
    Effect.mapError((message) => new PlanError({ lines: [`${option} ${String(file)}: ${message}`] }))
  )

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)
