// Bundles each page with the packages that it uses, into dist/, where the gateway's build finds it. Files that stay the same are left alone, so that nothing is built again.

import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { buildUi } from "./build-ui.mjs";

async function put(path, bytes) {
  const before = await readFile(path).catch(() => null);
  if (!before?.equals(bytes)) {
    await writeFile(path, bytes);
  }
}

await mkdir("dist/demo", { recursive: true });
const bundled = await build({
  entryPoints: ["src/demo/chat.js"],
  write: false,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2020",
  // sockjs-client was written for Node's `global`.
  define: { global: "window" },
  legalComments: "eof",
});
await put("dist/demo/chat.js", Buffer.from(bundled.outputFiles[0].contents));
for (const file of ["index.html", "chat.css"]) {
  await put(`dist/demo/${file}`, await readFile(`src/demo/${file}`));
}
// What a browser loads in the iframe of a SockJS listener.
await put("dist/demo/sockjs.min.js", await readFile("node_modules/sockjs-client/dist/sockjs.min.js"));

await buildUi(put);
