/** How programs are bundled: the shipped ones, and what benchmarks compare them with. */
import { build } from "rolldown"

/**
 * Stay outside of bundles and are resolved from node_modules at run time: native add-ons, and what grpc-js loads only
 * for services that no program offers (channelz, ORCA).
 */
const external = ["koffi", "netlink", "@grpc/proto-loader"]

/** Writes each input as `DIR/NAME.mjs`, and what is loaded lazily or shared as `DIR/chunks/*`. */
export const bundle = async (input: { readonly [name: string]: string }, dir: string): Promise<void> => {
  await build({
    input: { ...input },
    platform: "node",
    external,
    output: {
      dir,
      format: "esm",
      minify: true,
      entryFileNames: "[name].mjs",
      chunkFileNames: "chunks/[name]-[hash].mjs"
    }
  })
}
