import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: ".cache/vite",
  test: {
    include: ["core/**/*.test.ts", "shells/**/*.test.ts", "property-tests/**/*.test.ts"],
    // Two projects in one run: everything that needs the machine (namespaces, BIRD, sockets) is slow and root-only.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks"
  }
})
