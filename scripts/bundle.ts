/** How programs are bundled: the shipped ones, and what benchmarks compare them with. */
import { build, type Plugin } from "rolldown"

/**
 * Stay outside of bundles and are resolved from node_modules at run time: native add-ons, and what grpc-js loads only
 * for services that no program offers (channelz, ORCA). What makes the page of a trace is needed in a checkout alone.
 */
const external = /^(koffi|netlink|@grpc\/proto-loader)(\/|$)|scripts\/page\.ts$/

/** Writes each input as `DIR/NAME.mjs`, with what is loaded lazily or shared beside it. */
export const bundle = async (
  input: { readonly [name: string]: string },
  dir: string,
  plugins: ReadonlyArray<Plugin> = []
): Promise<void> => {
  await build({
    input: { ...input },
    platform: "node",
    external,
    plugins: [...plugins],
    // What is only defined has no effect: a program carries no schema and no message that it does not use.
    treeshake: { moduleSideEffects: (id) => !/\/(core|proto\/gen|node_modules\/effect)\//.test(id) },
    output: {
      dir,
      format: "esm",
      minify: true,
      entryFileNames: "[name].mjs",
      chunkFileNames: "[name]-[hash].mjs"
    }
  })
}

/**
 * Writes `DIR/sluice.mjs` and each subcommand as a bundle of its own, `DIR/programs/NAME.mjs`: what they share is in
 * each of them, as loading many small files costs a program more than its whole code.
 */
export const bundleCommand = async (dir: string): Promise<void> => {
  const programs = new Map<string, string>()
  const apart: Plugin = {
    name: "programs",
    async resolveId(id, importer) {
      if (importer?.endsWith("/shells/cli/Commands.ts") !== true) return null
      const found = await this.resolve(id, importer)
      if (found === null) return null
      const name = id.replace(/^\W+/, "").replace(/(\/Main)?\.ts$/, "").replaceAll("/", "-")
      programs.set(name, found.id)
      return { id: `./programs/${name}.mjs`, external: true }
    }
  }
  await bundle({ sluice: "shells/cli/Launcher.ts" }, dir, [apart])
  for (const [name, file] of programs) await bundle({ [name]: file }, `${dir}/programs`)
}
