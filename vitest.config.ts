import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: ".cache/vite",
  test: {
    include: ["core/**/*.test.ts", "shells/**/*.test.ts", "property-tests/**/*.test.ts"],
    // Programs log as in production; only the logs of a failed test are worth reading.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    setupFiles: "property-tests/setup.ts",
    silent: "passed-only"
  }
})
