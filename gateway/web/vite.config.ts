// The UI. Nothing is inlined: the policy of its pages allows neither scripts nor styles in the markup.

import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  root: "src/ui",
  // Relative, so that a proxy may serve it below any path.
  base: "./",
  plugins: [svelte({ configFile: "../../svelte.config.js" })],
  // HEADGATE is where a gateway answers, for `npm run dev`.
  server: { proxy: { "/api": process.env.HEADGATE ?? "http://127.0.0.1:18083" } },
  build: {
    outDir: "../../dist/ui",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1024,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
});
