import { defineConfig } from "vitest/config"

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
    silent: "passed-only"
  }
})
