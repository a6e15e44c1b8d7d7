// The UI: built by Vite, compressed ahead, and held to its sizes.

import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

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
  const licenses = { type: "asset", fileName: "assets/licenses.txt", source: await licensesOf(output) };
  const files = [...output, licenses].map((file) => ({ ...file, bytes: Buffer.from(file.type === "chunk" ? file.code : file.source) }));

  let all = 0;
  const gzipped = new Map();
  const kept = new Set();
  for (const { fileName, bytes } of files) {
    all += bytes.length;
    const small = await promisify(gzip)(bytes, { level: 9 });
    gzipped.set(fileName, small.length);
    // Each once: who does not take gzip gets it unpacked by the gateway.
    const [ending, content] = bytes.length < WORTH_IT || fileName.endsWith(".html") ? ["", bytes] : [".gz", small];
    const path = join(DIST, fileName + ending);
    await mkdir(dirname(path), { recursive: true });
    await put(path, content);
    kept.add(path);
  }
  for (const entry of await readdir(DIST, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile() && !kept.has(path)) await rm(path);
  }

  const first = firstLoad(output).reduce((sum, name) => sum + gzipped.get(name), 0);
  console.log(`UI: ${kib(first)} for the first load (at most ${kib(FIRST_LOAD)}), ${kib(all)} in all (at most ${kib(ALL)})`);
  if (first > FIRST_LOAD || all > ALL) throw new Error("the UI is larger than it may be");
}

/** What the authors of the packages in the UI want told. MQTT.js comes with its own packages in it. */
async function licensesOf(output) {
  const used = new Set();
  const modules = output.flatMap((file) => (file.type === "chunk" ? file.moduleIds : []));
  for (const id of modules) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
    if (name) await addPackage(name, used, name === "mqtt");
  }
  const texts = [];
  for (const name of [...used].sort()) {
    const file = (await readdir(join("node_modules", name))).find((entry) => /^licen[cs]e/i.test(entry));
    const { version, license } = await packageOf(name);
    texts.push(`${name} ${version}, ${license}\n\n${file ? await readFile(join("node_modules", name, file), "utf8") : ""}`);
  }
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}

async function addPackage(name, used, withDependencies) {
  if (used.has(name)) return;
  used.add(name);
  const { dependencies = {} } = withDependencies ? await packageOf(name) : {};
  for (const below of Object.keys(dependencies)) if (!below.startsWith("@types/")) await addPackage(below, used, true);
}

async function packageOf(name) {
  return JSON.parse(await readFile(join("node_modules", name, "package.json"), "utf8"));
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
