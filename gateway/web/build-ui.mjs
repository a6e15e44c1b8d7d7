// The UI: built by Vite, compressed ahead, and held to its sizes.

import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const DIST = "dist/ui";
const KIB = 1024;
/** What a browser loads before it shows the first page, compressed with gzip, which all of them know. */
const FIRST_LOAD = 400 * KIB;
/** All files of the UI as they are, before they are compressed. */
const ALL = 1024 * KIB;
/** The oldest Node that Vite runs on. */
const NODE = [20, 19];

/** Compressing what is smaller saves no packet. */
const WORTH_IT = KIB;

export async function buildUi(put) {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < NODE[0] || (major === NODE[0] && minor < NODE[1])) {
    throw new Error(`the UI needs Node ${NODE.join(".")} or later to be built, this is ${process.versions.node}`);
  }
  const { build } = await import("vite");
  const { output } = await build({ configFile: "vite.config.ts", logLevel: "warn", build: { write: false } });
  const files = output.map((file) => ({ ...file, bytes: Buffer.from(file.type === "chunk" ? file.code : file.source) }));

  let all = 0;
  const gzipped = new Map();
  const kept = new Set();
  for (const { fileName, bytes } of files) {
    all += bytes.length;
    const small = await promisify(gzip)(bytes, { level: 9 });
    const smaller = await promisify(brotliCompress)(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    });
    gzipped.set(fileName, small.length);
    const beside = bytes.length < WORTH_IT ? [] : [[".gz", small], [".br", smaller]];
    for (const [ending, content] of [["", bytes], ...beside]) {
      const path = join(DIST, fileName + ending);
      await mkdir(dirname(path), { recursive: true });
      await put(path, content);
      kept.add(path);
    }
  }
  for (const entry of await readdir(DIST, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile() && !kept.has(path)) await rm(path);
  }

  const first = firstLoad(output).reduce((sum, name) => sum + gzipped.get(name), 0);
  console.log(`UI: ${kib(first)} for the first load (at most ${kib(FIRST_LOAD)}), ${kib(all)} in all (at most ${kib(ALL)})`);
  if (first > FIRST_LOAD || all > ALL) throw new Error("the UI is larger than it may be");
}

/** The document, what it names, what that imports statically, the first page, and the largest language. */
function firstLoad(output) {
  const chunks = new Map(output.filter((file) => file.type === "chunk").map((chunk) => [chunk.fileName, chunk]));
  const wanted = new Set(["index.html"]);
  const add = (name) => {
    if (!name || wanted.has(name)) return;
    wanted.add(name);
    const chunk = chunks.get(name);
    chunk?.imports.forEach(add);
    chunk?.viteMetadata?.importedCss.forEach(add);
  };
  const of = (ending) => [...chunks.values()].find((chunk) => chunk.facadeModuleId?.endsWith(ending))?.fileName;
  add([...chunks.values()].find((chunk) => chunk.isEntry)?.fileName);
  ["pages/Overview.svelte", "lib/uplot.ts", "messages/zh-CN.json"].map(of).forEach(add);
  return [...wanted];
}

function kib(bytes) {
  return `${(bytes / KIB).toFixed(0)} KiB`;
}
