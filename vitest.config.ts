import { defineConfig } from "vitest/config"
import type { Reporter } from "vitest/node"

/** On a machine that has all that is needed, nothing may be left out unnoticed. */
const nothingSkipped: Reporter = {
  onTestRunEnd: (modules) => {
    const skipped = modules.flatMap((module) => [...module.children.allTests("skipped")])
    if (skipped.length === 0) return
    process.stderr.write(
      `skipped, which CI does not accept:\n${skipped.map(({ fullName }) => `  ${fullName}\n`).join("")}`
    )
    process.exitCode = 1
  }
}

export default defineConfig({
  cacheDir: ".cache/vite",
  test: {
    include: ["core/**/*.test.ts", "shells/**/*.test.ts", "property-tests/**/*.test.ts"],
    // More cases than usual take as long as they take.
    testTimeout: process.env.SLUICE_TEST_RUNS === undefined ? 30_000 : 3_600_000,
    hookTimeout: 60_000,
    pool: "forks",
    setupFiles: "property-tests/setup.ts",
    // Programs log as in production; only the logs of a failed test are worth reading.
    silent: "passed-only",
    reporters: process.env.CI === undefined ? ["default"] : ["default", nothingSkipped]
  }
})
