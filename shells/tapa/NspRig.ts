/** Our NSP as it is, for tests of the TAPA, in a folder. */
import { Effect, Result } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { stringify } from "yaml"
import * as Health from "../grpc/Health.ts"
import * as Config from "../nsp/Config.ts"
import * as Service from "../nsp/Service.ts"
import * as Settings from "../runtime/Settings.ts"

/** Starts it with the objects on a free port. */
export const start = (folder: string, objects: ReadonlyArray<object>) => {
  writeFileSync(join(folder, "trench.yaml"), objects.map((one) => stringify(one)).join("---\n"))
  const settings = Result.getOrThrow(Settings.decode(Config.settings, {
    NSP_CONFIG_PATH: join(folder, "trench.yaml"),
    NSP_DATASOURCE: join(folder, "registry.db"),
    NSP_PORT: "0"
  }))
  return Effect.provide(Service.start(settings), Health.serve(`unix://${folder}/nsp-health.sock`))
}
