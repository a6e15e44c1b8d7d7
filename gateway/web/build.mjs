// Bundles each page with the packages that it uses, into dist/, where the gateway's build finds it.

import { build } from "esbuild";
import { cp, mkdir, rm } from "node:fs/promises";

await rm("dist", { recursive: true, force: true });
await mkdir("dist/demo", { recursive: true });
await build({
  entryPoints: ["src/demo/chat.js"],
  outfile: "dist/demo/chat.js",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2020",
  // sockjs-client was written for Node's `global`.
  define: { global: "window" },
  legalComments: "eof",
});
for (const file of ["index.html", "chat.css"]) {
  await cp(`src/demo/${file}`, `dist/demo/${file}`);
}
// What a browser loads that has no WebSocket and is on another origin than the gateway's SockJS listener.
await cp("node_modules/sockjs-client/dist/sockjs.min.js", "dist/demo/sockjs.min.js");
