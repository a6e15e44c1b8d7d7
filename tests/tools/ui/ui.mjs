// The web UI in a browser, from an empty data folder on. What it does is checked from outside, by clients of MQTT.
//
//     node ui.mjs URL MQTT REMOTE CODE_FILE FREE_PORT --lwm2m LWM2M --device PYTHON --device SCRIPT [--pictures FOLDER] [--only STEP,...]
//
// URL is the page's, MQTT and REMOTE the addresses (`mqtt://…`) of the gateway and of a broker for its first uplink, CODE_FILE has the one-time code, FREE_PORT
// is for a listener to come. LWM2M is the gateway's address (`coap://…`) for devices, and SCRIPT is one, tests/tools/lwm2m_device.py. Each step says a line when it is done; the last line is `done`. What is wrong is on standard error.

import { parseArgs } from "node:util";
import { launch, open } from "./browser.mjs";
import { Ui } from "./pages.mjs";
import { STEPS } from "./steps.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pictures: { type: "string" },
    only: { type: "string" },
    lwm2m: { type: "string" },
    device: { type: "string", multiple: true },
  },
});
const [url, mqtt, remote, codeFile, freePort] = positionals;
const only = values.only?.split(",");

const browser = await launch();
const world = {
  url: url.endsWith("/") ? url : `${url}/`,
  mqtt,
  remote,
  codeFile,
  freePort: Number(freePort),
  lwm2m: values.lwm2m,
  lwm2mDevice: values.device,
  pictures: values.pictures,
  browser,
  /** The administrator's browser. */
  own: await open(browser),
  administrator: { name: "anna", password: "correct horse battery staple" },
  device: { username: "pump", password: "pump password" },
};

// Of a gateway that has its administrator, one step alone can be tried again.
if (only && !only.includes("wizard")) {
  const page = new Ui(world.own.page, world.url);
  await page.load();
  await page.logIn(world.administrator.name, world.administrator.password);
}

/** Far more than any step needs: what hangs is to be named. */
const LONGEST_STEP = 300_000;

function tooLong() {
  return new Promise((_, reject) => setTimeout(() => reject(new Error("it takes too long")), LONGEST_STEP).unref());
}

let failed = false;
for (const [name, run] of STEPS) {
  if (only && !only.includes(name)) continue;
  try {
    await Promise.race([run(world), tooLong()]);
    if (world.own.complaints.length > 0) throw new Error("the page complained");
    console.log(name);
  } catch (error) {
    failed = true;
    const { page, complaints } = world.own;
    console.error(`${name}: ${error.stack}\n${complaints.splice(0).join("\n")}\nat ${page.url()}:\n${(await page.innerText("body").catch(() => "")).slice(0, 3_000)}`);
    if (values.pictures) await page.screenshot({ path: `${values.pictures}/failed-${name}.png` }).catch(() => {});
    if (!only) break;
  }
}
await browser.close();
if (!failed) console.log("done");
process.exit(failed ? 1 : 0);
