#!/usr/bin/env node
/** `sluice` from its sources. */
import { run } from "./Sluice.ts"

await run(process.argv.slice(2))
