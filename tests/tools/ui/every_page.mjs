// What must hold on every page: nobody is shut out, whatever names are shown; and the pictures of the documentation.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { accessibilityFaults, open, overflow } from "./browser.mjs";
import { Lwm2mDevice, Outside, within } from "./outside.mjs";
import { hash, Ui } from "./pages.mjs";

const PAGES = [
  "overview",
  "devices",
  "device/pump-7",
  "device/pump-7?tab=subscriptions",
  "device/pump-7?tab=queue",
  "device/pump-7?tab=messages",
  "device/pump-7?tab=explain",
  "device/%24lwm2m%2Fmeter?tab=lwm2m",
  "topics",
  "topics?tab=tail",
  "topics?tab=publish",
  "topics?tab=retained",
  "topics?tab=other",
  "websocket",
  "bridges",
  "bridge/cloud",
  "edit-bridge",
  "access?tab=users",
  "access?tab=rules",
  "access?tab=bans",
  "access?tab=explain",
  "listeners",
  "listeners?tab=certificates",
  "lines",
  "log",
  "alarms",
  "traces",
  "configuration",
  "configuration?tab=history",
  "backups",
  "administrators",
  "administrators?tab=keys",
  "administrators?tab=audit",
  "firmware",
  "system",
  "account",
  "wizard",
];
const LOOKS = [
  { locale: "en-US", theme: "light", width: 1280 },
  { locale: "en-US", theme: "dark", width: 360 },
  { locale: "zh-CN", theme: "light", width: 360 },
  { locale: "zh-CN", theme: "dark", width: 1280 },
];
/** Pages ask, and draw what they are told. */
const SETTLES = 400;

async function settled(page) {
  await page.locator("main h1").first().waitFor();
  await page.waitForTimeout(SETTLES);
  // What is folded is looked at, too.
  const folded = page.locator("main details");
  await folded.evaluateAll((all) => all.forEach((one) => (one.open = true)));
  if ((await folded.count()) > 0) await page.waitForTimeout(SETTLES);
}

/** A browser that is as another one: with its session, but in another language and with another theme. */
async function as(world, look) {
  const other = await open(world.browser, { ...look, height: 740 });
  await other.context.addCookies(await world.own.context.cookies());
  return other;
}

/** Both languages, both themes, a desk and a phone. */
export async function everyPage(world) {
  const pump = await Outside.connect(world.mqtt, "pump-7", world.device);
  await pump.subscribe("orders/#");
  const meter = await Lwm2mDevice.register(world.lwm2mDevice, world.lwm2m, "meter");
  const faults = [];
  for (const look of LOOKS) {
    const { context, page, complaints } = await as(world, look);
    const view = new Ui(page, world.url);
    for (const path of PAGES) {
      await view.load(`#/${path}`);
      await settled(page);
      const where = `${path} (${look.locale}, ${look.theme}, ${look.width} px)`;
      faults.push(...(await accessibilityFaults(page)).map((fault) => `${where}: ${fault}`));
      const wide = await overflow(page);
      if (wide > 0) faults.push(`${where}: ${wide} px wider than the window`);
      const lang = await page.evaluate(() => document.documentElement.lang);
      if (lang !== (look.locale === "zh-CN" ? "zh-CN" : "en")) faults.push(`${where}: is in ${lang}`);
    }
    faults.push(...complaints);
    await context.close();
  }
  await pump.end();
  meter.end();
  assert.deepEqual(faults, []);
}

const RTL = "\u202e";
const HOSTILE = [
  "<img src=x onerror=alert(1)>",
  "'\"><script>alert(1)</script>",
  `evil${RTL}moc.elpmaxe`,
  "tab\tbell\u0007escape\u001b[31m",
  "{{constructor.constructor('alert(1)')()}}",
  "../../etc/passwd",
  "%2e%2e%2f?x=#y&z",
  "zero\u200bwidth\ufeff",
  "x".repeat(60_000),
];

/** Names with markup, control characters, marks of direction and great lengths do nothing but show. */
export async function hostileNames(world) {
  const { page, complaints } = world.own;
  const view = new Ui(page, world.url);
  const clients = [];
  for (const [at, name] of HOSTILE.entries()) {
    // Longer ids are refused, unless `mqtt.max_client_id_bytes` allows them.
    const id = `${at}${name.replace(/[\u0000-\u001f]/g, "")}`.slice(0, 1000);
    const client = await Outside.connect(world.mqtt, id, world.device);
    await client.subscribe(`hostile/${at}`, 0);
    // What a topic name may not have is left out.
    await client.publish(`hostile/${at}/${name.replace(/[\u0000-\u001f#+]/g, "")}`, name, { qos: 1, retain: true });
    clients.push(client);
  }
  const notText = Buffer.from([0xff, 0xfe, 0x00, 0x80, 0xc3, 0x28]);
  await clients[0].publish("hostile/bytes", notText, { qos: 1, retain: true });

  const paths = ["#/devices?search=evil", "#/topics?tab=tail", "#/topics?tab=retained", ...clients.map(({ clientId }) => hash("device", clientId))];
  for (const path of paths) {
    await view.load(path);
    await settled(page);
    const found = await page.evaluate(
      ([mark]) => ({
        images: document.querySelectorAll("main img, main script, main iframe").length,
        turned: document.body.innerText.includes(mark),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      }),
      [RTL],
    );
    assert.deepEqual(found, { images: 0, turned: false, wide: 0 }, path.slice(0, 80));
  }
  await view.load("#/devices?search=evil");
  await view.shows("evil⟨U+202E⟩moc.elpmaxe");
  await view.load("#/topics?tab=retained");
  await view.button("Show", view.row("hostile/bytes")).click();
  await view.dialog("Last value").getByText("ff fe 00 80 c3 28").waitFor();
  await view.button("Close", view.dialog("Last value")).click();
  // What is done to one of them is done to it.
  await view.load(hash("device", clients[0].clientId));
  await view.confirm("Disconnect");
  await clients[0].isClosed();
  assert.deepEqual(complaints, []);

  const cleaner = await Outside.connect(world.mqtt, "cleaner", world.device);
  await cleaner.subscribe("hostile/#");
  await within("all of them came", () => cleaner.heard.length >= HOSTILE.length + 1);
  for (const { topic } of [...cleaner.heard]) await cleaner.publish(topic, "", { qos: 1, retain: true });
  for (const client of [...clients.slice(1), cleaner]) await client.end();
}

const PICTURES = {
  overview: "overview",
  devices: "devices",
  bridges: "bridges",
  configuration: "configuration",
};
/** Of WebP, from 0 to 1. */
const QUALITY = 0.8;

/** For docs/ui.md. */
export async function pictures(world) {
  if (!world.pictures) return;
  const names = ["hmi", "meter-12", "pump-7", "valve-3"];
  const clients = await Promise.all(names.map((name) => Outside.connect(world.mqtt, name, world.device)));
  for (const client of clients) await client.subscribe(`orders/${client.clientId}/#`);
  const view = new Ui(world.own.page, world.url);
  await view.load(hash("bridge", "cloud"));
  await view.button("Pause").click();
  await view.button("Resume").waitFor();
  for (let n = 0; n < 40; n += 1) await clients[n % 4].publish(`sensors/${names[n % 4]}/temperature`, `${20 + (n % 7) / 2}`);
  for (const [name, path] of Object.entries(PICTURES)) {
    await take(world, name, path, { width: 1100, height: 720 });
  }
  await take(world, "phone", "overview", { width: 360, height: 740, theme: "dark" });
  await view.button("Resume").click();
  for (const client of clients) await client.end();
}

async function take(world, name, path, look) {
  const { context, page } = await as(world, look);
  await new Ui(page, world.url).load(`#/${path}`);
  await settled(page);
  await page.waitForTimeout(2 * SETTLES);
  const png = await page.screenshot();
  // What the browser draws it can also write as WebP, which is a quarter of it.
  await page.goto("about:blank");
  const webp = await page.evaluate(
    async ([source, quality]) => {
      const picture = await createImageBitmap(await (await fetch(source)).blob());
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      return canvas.toDataURL("image/webp", quality);
    },
    [`data:image/png;base64,${png.toString("base64")}`, QUALITY],
  );
  await writeFile(`${world.pictures}/${name}.webp`, Buffer.from(webp.split(",")[1], "base64"));
  await context.close();
}
