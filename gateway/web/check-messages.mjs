// Every text is there in every language, with the same parameters; and every text is used.

import { readdir, readFile } from "node:fs/promises";

const FOLDER = "src/ui/messages";
/** Words of the API: their keys are put together at run time. */
const WORDS = /^(firmware\.state|starts\.(what|why)|audit|bans|bridge\.direction|bridge\.source|bridge\.state|cause|client\.state|counter|dead|drop|kind|protocol|role|roles|rules\.action|severity|test\.step|theme|traces|wans\.state)\./;

const faults = [];
const languages = new Map();
for (const file of await readdir(FOLDER)) {
  languages.set(file, JSON.parse(await readFile(`${FOLDER}/${file}`, "utf8")));
}
const parameters = (text) => [...new Set(text.match(/\{\w+\}/g))].sort().join();
const english = languages.get("en.json");
for (const [file, messages] of languages) {
  for (const [key, text] of Object.entries(english)) {
    if (!messages[key]?.trim()) faults.push(`${file}: ${key} is missing`);
    else if (parameters(messages[key]) !== parameters(text)) faults.push(`${file}: ${key} has other parameters than in en.json`);
  }
  for (const key of Object.keys(messages)) if (!(key in english)) faults.push(`${file}: ${key} is not in en.json`);
}

let sources = "";
for (const entry of await readdir("src/ui", { recursive: true })) {
  if (/\.(svelte|ts)$/.test(entry)) sources += await readFile(`src/ui/${entry}`, "utf8");
}
for (const key of Object.keys(english)) {
  const name = key.replace(/\.(one|other)$/, "");
  if (!sources.includes(`"${key}"`) && !sources.includes(`"${name}"`) && !WORDS.test(key)) faults.push(`${key} is not used`);
}
for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);
