/** How programs are bundled: the shipped ones, and what benchmarks compare them with. */
import { build, type InputOptions, type OutputOptions, type Plugin } from "rolldown"

const options: InputOptions = {
  platform: "node",
  // What one program loads lazily another one needs in any case.
  checks: { pluginTimings: false, ineffectiveDynamicImport: false },
  /**
   * Stay outside of bundles and are resolved from node_modules at run time: native add-ons, and what grpc-js loads only
   * for services that no program offers (channelz, ORCA). What makes the page of a trace is needed in a checkout alone.
   */
  external: /^(koffi|netlink|@grpc\/proto-loader)(\/|$)|scripts\/page\.ts$/,
  // What is only defined has no effect: a program carries no schema and no message that it does not use.
  treeshake: { moduleSideEffects: (id) => !/\/(core|proto\/gen|node_modules\/effect)\//.test(id) }
}

/** Writes each input as `DIR/NAME.mjs`, with what is loaded lazily or shared beside it. */
export const bundle = async (input: { readonly [name: string]: string }, dir: string): Promise<void> => {
  await build({
    ...options,
    input: { ...input },
    output: { dir, format: "esm", minify: true, entryFileNames: "[name].mjs", chunkFileNames: "[name]-[hash].mjs" }
  })
}

/**
 * CommonJS, as importing a module of Node from an ES module touches all its exports, of which some load more, and as its
 * compiled code can be kept (see `shells/cli/Launcher.ts`).
 */
const commonJs: OutputOptions = { format: "cjs", minify: true, dynamicImportInCjs: false }

/**
 * Writes `DIR/sluice.cjs` and each subcommand as a bundle of its own, `DIR/programs/NAME-HASH.cjs`: what they share is in
 * each of them, as loading many small files costs a program more than its whole code.
 */
export const bundleCommand = async (dir: string): Promise<void> => {
  const apart: Plugin = {
    name: "programs",
    async resolveId(id, importer) {
      if (importer?.endsWith("/shells/cli/Commands.ts") !== true) return null
      const found = await this.resolve(id, importer)
      if (found === null) return null
      const name = id.replace(/^\W+/, "").replace(/(\/Main)?\.ts$/, "").replaceAll("/", "-")
      return { id: `./programs/${await bundleProgram(name, found.id, `${dir}/programs`)}`, external: true }
    }
  }
  await build({
    ...options,
    input: { sluice: "shells/cli/Launcher.ts" },
    plugins: [apart],
    output: { ...commonJs, dir, entryFileNames: "[name].cjs", codeSplitting: false }
  })
}

/** Writes a program and what it loads lazily; the result is the name of its file. */
const bundleProgram = async (name: string, file: string, dir: string): Promise<string> => {
  const { output: [{ fileName }] } = await build({
    ...options,
    input: { [name]: file },
    // All that it needs in any case is one file, on which what it loads lazily may rest.
    preserveEntrySignatures: "allow-extension",
    output: {
      ...commonJs,
      dir,
      entryFileNames: "[name]-[hash].cjs",
      chunkFileNames: "[name]-[hash].cjs",
      codeSplitting: { groups: [{ name, tags: ["$initial"] }] }
    }
  })
  return fileName
}
