// What is done, in this order: each step leaves the gateway as the next one wants it.

import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { open } from "./browser.mjs";
import { everyPage, hostileNames, pictures } from "./every_page.mjs";
import { Lwm2mDevice, Outside, within } from "./outside.mjs";
import { Bridges, Devices, hash, Lwm2m, Topics, Ui, WebSocketTest, Wizard } from "./pages.mjs";

export const STEPS = [
  ["wizard", wizard],
  ["first_message", firstMessage],
  ["stranger", stranger],
  ["overview", overview],
  ["device", device],
  ["kick_and_ban", kickAndBan],
  ["queue", queue],
  ["lwm2m", lwm2m],
  ["sleeper", sleeper],
  ["topics", topics],
  ["bridge", bridge],
  ["users", users],
  ["rules", rules],
  ["listener", listener],
  ["certificates", certificates],
  ["clock", clock],
  ["not_confirmed", notConfirmed],
  ["log_and_traces", logAndTraces],
  ["backup", backup],
  ["roles", roles],
  ["keys", keys],
  ["system", system],
  ["hostile_names", hostileNames],
  ["every_page", everyPage],
  ["rolled_back", rolledBack],
  // Nothing waits to be confirmed any more.
  ["configuration", configuration],
  ["pictures", pictures],
];

const ui = ({ own, url }, Page = Ui) => new Page(own.page, url);
const asPump = ({ mqtt, device }, id, options) => Outside.connect(mqtt, id, { ...device, ...options });

async function wizard(world) {
  const page = ui(world, Wizard);
  await page.load();
  const code = (await readFile(world.codeFile, "utf8")).trim();
  const { name, password } = world.administrator;
  await page.makeAdministrator("AAAA-AAAA-AAAA", name, password);
  await page.page.getByRole("alert").filter({ hasText: /\S/ }).first().waitFor();
  await page.makeAdministrator(code, name, password);
  await page.name("plant-7", "Europe/Berlin");
  await page.accessForNetwork(world.device.username, world.device.password);
  await page.uplink("cloud", world.remote, "sensors/#");
}

/** From the page, through the gateway, to a client here and one at the remote. */
async function firstMessage(world) {
  const here = await asPump(world, "here");
  const there = await Outside.connect(world.remote, "there");
  await here.subscribe("sensors/#");
  await there.subscribe("sensors/#");
  const page = ui(world, WebSocketTest);
  await page.connect();
  await page.publish("sensors/hall/temperature", "21.5");
  await here.hears("sensors/hall/temperature", "21.5");
  await page.shows("PUBLISH");
  await page.field("Topic filter").fill("cmd/#");
  await page.button("Subscribe").click();
  await page.shows("SUBACK");
  await here.publish("cmd/valve/3", "open");
  await page.page.getByRole("region", { name: "Received messages" }).getByText("open").waitFor();
  await page.page.getByLabel("QoS").last().selectOption("1");
  await page.publish("sensors/hall/temperature", "22");
  await there.hears("sensors/hall/temperature", "22");
  await here.end();
  await there.end();
}

/** A second browser, without login. */
async function stranger({ browser, url }) {
  const other = await open(browser);
  const page = new Ui(other.page, url);
  await page.load(hash("devices"));
  await page.heading("Log in");
  assert.equal(await other.page.getByRole("navigation").count(), 0);
  for (const path of ["clients", "configuration", "tail?filter=%23", "log", "backups"]) {
    assert.equal((await other.page.request.get(`${url}api/v1/${path}`)).status(), 401, path);
  }
  await page.field("Name").fill("anna");
  await page.field("Password").fill("wrong password");
  await page.button("Log in").click();
  await page.alert("wrong");
  await other.context.close();
}

async function overview(world) {
  const page = ui(world);
  await page.load(hash("overview"));
  const pump = await asPump(world, "pump-7");
  const tile = page.page.locator(".stat", { hasText: "Clients connected" });
  await within("the overview counts the client", async () => /[1-9]/.test(await tile.locator(".value").innerText()));
  await page.panel("Uplinks").getByText("cloud").waitFor();
  await page.panel("History").waitFor();
  await pump.end();
}

async function device(world) {
  const page = ui(world, Devices);
  await page.load();
  await page.go("Devices");
  const pump = await asPump(world, "pump-7");
  // The list hears of it by itself.
  await page.row("pump-7").getByText("Online").waitFor();
  await page.find("pump-7");
  await page.field("State").selectOption({ label: "Offline" });
  await page.row("pump-7").waitFor({ state: "hidden" });
  await page.field("State").selectOption({ label: "Online" });
  await page.row("pump-7").waitFor();
  await page.open("pump-7");
  await page.subscribe("orders/#");
  const publisher = await asPump(world, "publisher");
  await publisher.publish("orders/1", "go");
  await pump.hears("orders/1", "go");
  await page.confirm("Unsubscribe");
  await page.explain("sensors/hall/temperature");
  await page.shows("Allowed:");
  await page.tab("Messages");
  await page.told("Live");
  await pump.publish("sensors/tail", "seen in the tail");
  await page.shows("seen in the tail");
  await pump.end();
  await publisher.end();
}

async function kickAndBan(world) {
  const page = ui(world, Devices);
  const pump = await asPump(world, "pump-7");
  await page.open("pump-7");
  await page.confirm("Disconnect");
  await pump.isClosed();
  const again = await asPump(world, "pump-7");
  await page.open("pump-7");
  await page.ban();
  await again.isClosed();
  assert.equal(await Outside.isLetIn(world.mqtt, "pump-7", world.device), false);
  await page.load("#/access?tab=bans");
  await page.row("pump-7").waitFor();
  await page.confirm("Lift");
  await page.row("pump-7").waitFor({ state: "hidden" });
  assert.equal(await Outside.isLetIn(world.mqtt, "pump-7", world.device), true);

  // A browser would take this name out of an address.
  const dots = await asPump(world, "..");
  await page.open("..");
  assert.equal(await page.page.getByRole("link", { name: "Queue" }).count(), 0);
  await page.confirm("Disconnect");
  await dots.isClosed();
}

/** Commands to a device, each seen at the device. */
async function lwm2m(world) {
  const page = ui(world, Lwm2m);
  const device = await Lwm2mDevice.register(world.lwm2mDevice, world.lwm2m, "meter");
  const application = await asPump(world, "application");
  await application.subscribe("lwm2m/meter/up/notify");
  await page.open("meter");
  await page.unfold("/3303/0");
  await page.button("Read /3303/0").click();
  const sensor = page.row("/3303/0/5700");
  await sensor.getByText("21.5").waitFor();
  await page.button("Observe /3303/0/5700").click();
  await sensor.getByText("observed").waitFor();
  device.tell({ do: "set", path: "/3303/0/5700", value: 22.5 });
  await within("the application is notified", () => application.heard.some(({ payload }) => payload.includes("22.5")));
  await sensor.getByText("22.5").waitFor();
  await page.button("Cancel observation of /3303/0/5700").click();
  await sensor.getByText("observed").waitFor({ state: "hidden" });
  await page.button("Discover /3303/0").click();
  await page.shows("</3303/0/5605>");
  await page.execute("/3303/0/5605", "0='on'");
  assert.equal((await device.tells("executed")).path, "/3303/0/5605");
  await page.row("/3303/0/5605").getByText("2.04").waitFor();
  await page.button("Read /3303/0/5518").click();
  await page.row("/3303/0/5518").getByText("4.04").waitFor();
  await page.write("/3303/0/5750", "cellar");
  await page.row("/3303/0/5750").getByText("2.04").waitFor();
  assert.equal(await device.value("/3303/0/5750"), "cellar");
  await page.row("/3303/0/5750").getByText("cellar").waitFor();

  // Nobody knows this object: who writes says of which type the value is.
  await page.unfold("/32769/0");
  await page.button("Read /32769/0").click();
  await page.row("/32769/0/8").getByText("three").waitFor();
  await page.row("/32769/0/2").getByText("00 01 02 ff").waitFor();
  await page.button("Discover /32769/0").click();
  await page.execute("/32769/0/3", "");
  assert.equal((await device.tells("executed")).path, "/32769/0/3");
  await page.write("/32769/0/5", { label: "false" });
  await page.row("/32769/0/5").getByText("2.04").waitFor();
  assert.equal(await device.value("/32769/0/5"), false);
  // More digits than JavaScript's numbers have.
  await page.write("/32769/0/1", "9007199254740993");
  await page.row("/32769/0/1").getByText("2.04").waitFor();
  assert.match(await device.written("/32769/0/1"), /: 9007199254740993\b/);
  await page.write("/32769/0/8", "nought", { "Resource instance": "0" });
  await page.row("/32769/0/8").getByText("2.04").waitFor();
  assert.equal(await device.value("/32769/0/8/0"), "nought");
  await application.end();
  device.tell({ do: "deregister" });
  await device.tells("deregistered");
  device.end();
}

/** A command that has no answer yet is told as waiting. */
async function sleeper(world) {
  const page = ui(world, Lwm2m);
  const device = await Lwm2mDevice.register(world.lwm2mDevice, world.lwm2m, "dozer", ["--queue"]);
  device.tell({ do: "sleep" });
  await page.open("dozer");
  await page.unfold("/3/0");
  await page.button("Read /3/0/1").click();
  await page.row("/3/0/1").getByText("as soon as it wakes up").waitFor();
  device.tell({ do: "wake" });
  await page.row("/3/0/1").getByText("Simulator").waitFor();
  await page.row("/3/0/1").getByText("2.05").waitFor();
  device.tell({ do: "deregister" });
  await device.tells("deregistered");
  device.end();
}

async function queue(world) {
  const durable = { clean: false, properties: { sessionExpiryInterval: 3600 } };
  const sleeper = await asPump(world, "sleeper", durable);
  await sleeper.subscribe("orders/#");
  await sleeper.end();
  const publisher = await asPump(world, "publisher");
  for (const n of [1, 2, 3]) await publisher.publish(`orders/${n}`, `order ${n}`);
  const page = ui(world, Devices);
  await page.open("sleeper");
  await page.tab("Queue");
  await page.row("orders/3").waitFor();
  await page.confirm("Empty the queue");
  await page.shows("Nothing waits");
  const back = await asPump(world, "sleeper", durable);
  await publisher.publish("orders/4", "order 4");
  await back.hears("orders/4");
  assert.deepEqual(back.heard.map(({ topic }) => topic), ["orders/4"]);
  await back.end();
  await page.open("sleeper");
  await page.confirm("Remove session");
  await publisher.end();
}

async function topics(world) {
  const page = ui(world, Topics);
  const here = await asPump(world, "here");
  await here.subscribe("plant/#");
  await page.publish("plant/hall/state", '{"level": 3}', { retain: true, qos: 1 });
  await here.hears("plant/hall/state", '{"level": 3}');
  await page.choose(["plant", "hall", "state"]);
  await page.page.getByRole("region", { name: "Last value" }).getByText('"level": 3').waitFor();
  await page.tab("Live tail");
  await page.field("Topic filter").fill("plant/+/tail");
  await page.button("Watch").click();
  await page.told("Live");
  await here.publish("plant/hall/tail", "passing by");
  await page.shows("passing by");
  await page.tab("Retained");
  await page.field("Topic filter").fill("plant/#");
  await page.button("Search").click();
  await page.confirm("Remove", page.row("plant/hall/state"));
  await page.shows("Nothing is retained");
  const later = await asPump(world, "later");
  await later.subscribe("plant/#");
  await here.publish("plant/hall/end", "end");
  await later.hears("plant/hall/end");
  assert.equal(later.heard.length, 1);
  await here.end();
  await later.end();
}

async function bridge(world) {
  const page = ui(world, Bridges);
  const there = await Outside.connect(world.remote, "there");
  await there.subscribe("alarms/#");
  await page.load();
  await page.add({ name: "second", address: world.remote, filter: "alarms/#" });
  await page.field("Topics to try").fill("alarms/fire\nother/topic");
  await page.row("alarms/fire").getByText("out", { exact: true }).waitFor();
  await page.row("other/topic").getByText("not carried").waitFor();
  await page.button("Test").click();
  await page.shows("Everything is as it should be.");
  await page.button("Save").click();
  await page.told("The bridge is saved");
  await page.state("second", "Connected");
  const publisher = await asPump(world, "publisher");
  await publisher.publish("alarms/fire", "hot");
  await there.hears("alarms/fire", "hot");

  await page.button("Pause").click();
  await page.told("The bridge is paused");
  await page.state("second", "Paused");
  await publisher.publish("alarms/fire", "kept");
  await page.load(hash("bridges"));
  await page.panelOf("second").getByText("1 of").waitFor();
  await page.panelOf("second").getByRole("button", { name: "Resume" }).click();
  await there.hears("alarms/fire", "kept");
  await page.state("second", "Connected");
  await page.button("Test").click();
  await page.dialog("Test of the bridge").getByText("Everything is as it should be.").waitFor();
  await page.button("Close").click();
  await page.confirm("Remove");
  await page.heading("Store and forward");
  await publisher.end();
  await there.end();
}

async function users(world) {
  const page = ui(world);
  const isLetIn = (username, password) => Outside.isLetIn(world.mqtt, "somebody", { username, password });
  await page.load("#/access?tab=users");
  assert.equal(await isLetIn("valve", "first password"), false);
  await page.button("Add user").click();
  const dialog = page.dialog("Add user");
  await page.field("User name", dialog).fill("valve");
  await page.field("Password", dialog).fill("first password");
  await page.button("Save", dialog).click();
  await page.row("valve").waitFor();
  assert.equal(await isLetIn("valve", "first password"), true);
  await page.button("Set password", page.row("valve")).click();
  const change = page.dialog("Set password");
  await page.field("Password", change).fill("second password");
  await page.button("Save", change).click();
  await change.waitFor({ state: "hidden" });
  assert.equal(await isLetIn("valve", "second password"), true);
  await page.button("Import").click();
  const csv = { name: "users.csv", mimeType: "text/csv", buffer: Buffer.from("username,password\none,password one\ntwo,password two\n") };
  await page.field("File", page.dialog("Import")).setInputFiles(csv);
  await page.button("Import", page.dialog("Import")).click();
  await page.told("2 added");
  assert.equal(await isLetIn("two", "password two"), true);
  await page.confirm("Remove", page.row("valve"));
  await page.row("valve").waitFor({ state: "hidden" });
  assert.equal(await isLetIn("valve", "second password"), false);
}

async function rules(world) {
  const page = ui(world);
  const here = await asPump(world, "here");
  await here.publish("secret/plan", "x");
  await page.load("#/access?tab=rules");
  await page.button("Add rule").click();
  const dialog = page.dialog("Add rule");
  await page.field("Effect", dialog).selectOption("deny");
  await page.field("Topics", dialog).fill("secret/#");
  await page.button("Next", dialog).click();
  await page.apply();
  await page.row("secret/#").getByText("Deny").waitFor();
  await assert.rejects(here.publish("secret/plan", "x"));
  await page.tab("Why?");
  await page.field("Client ID").fill("here");
  await page.field("Topic").fill("secret/plan");
  await page.button("Why?").click();
  await page.shows("Denied:");
  await page.shows("auth.acl[0]");
  await page.tab("Rules");
  await page.button("Remove", page.row("secret/#")).click();
  await page.apply();
  await page.row("secret/#").waitFor({ state: "hidden" });
  await here.publish("secret/plan", "x");
  await here.end();
}

async function listener(world) {
  const page = ui(world);
  const url = `mqtt://127.0.0.1:${world.freePort}`;
  await page.load(hash("listeners"));
  await page.button("Add listener").click();
  const dialog = page.dialog("Add listener");
  await page.field("Listener", dialog).fill("field");
  await page.field("Kind", dialog).selectOption("tcp");
  await page.field("Address", dialog).fill("127.0.0.1");
  await page.field("Port", dialog).fill(String(world.freePort));
  await page.button("Next", dialog).click();
  await page.apply("5 min");
  await page.button("Confirm").click();
  await page.told("The configuration is confirmed");
  await page.page.getByRole("timer").waitFor({ state: "hidden" });
  await page.row("field").getByText("Running").waitFor();
  assert.equal(await Outside.isLetIn(url, "by-field", world.device), true);
  await page.confirm("Stop", page.row("field"));
  await page.row("field").getByText("Stopped").waitFor();
  assert.equal(await Outside.isLetIn(url, "by-field", world.device), false);
  await page.button("Start", page.row("field")).click();
  await page.row("field").getByText("Running").waitFor();
  assert.equal(await Outside.isLetIn(url, "by-field", world.device), true);
  await page.button("Remove", page.row("field")).click();
  await page.apply();
  await page.row("field").waitFor({ state: "hidden" });
  await page.tab("Certificates");
  await page.button("Request a certificate (CSR)").click();
  const request = page.dialog("Request a certificate (CSR)");
  await page.field("Name", request).fill("gateway");
  await page.field("Common Name", request).fill("gateway.example");
  await page.button("Make request", request).click();
  const csr = await request.getByLabel("CSR").inputValue();
  assert.match(csr, /BEGIN CERTIFICATE REQUEST/);
  await page.button("Close", request).click();
}

/** A CA of the gateway's own: a listener with its certificate is trusted, and a device gets one. */
async function certificates(world) {
  const page = ui(world);
  await page.load("#/listeners?tab=certificates");
  await page.button("Make local CA").click();
  const making = page.dialog("Make local CA");
  await page.field("Common Name", making).fill("Plant 7 CA");
  await page.button("Make local CA", making).click();
  await page.told("The local CA is made");
  await page.panel("Trusted: the local CA").getByText("CN=Plant 7 CA").first().waitFor();

  await page.button("Issue certificate").click();
  const issuing = page.dialog("Issue certificate");
  await page.field("Name", issuing).fill("served");
  await page.field("Common Name", issuing).fill("plant-7");
  await page.field("Names and addresses", issuing).fill("localhost, 127.0.0.1");
  await page.field("Valid for (days)", issuing).fill("5");
  await page.button("Issue certificate", issuing).click();
  await page.told("kept on the gateway as served");
  const ca = await page.download(page.button("Download the CA's certificate", issuing));
  await page.button("Close", issuing).click();
  await page.panel("Issued by the local CA").getByText("CN=plant-7").first().waitFor();
  await page.panel("Issued by the local CA").getByText(/^[56] days left/).waitFor();

  await page.tab("Listeners");
  await page.button("Add listener").click();
  const adding = page.dialog("Add listener");
  await page.field("Listener", adding).fill("secure");
  await page.field("Kind", adding).selectOption("tls");
  await page.field("Address", adding).fill("127.0.0.1");
  await page.field("Port", adding).fill(String(world.freePort));
  await page.field("Certificate", adding).selectOption("served");
  await page.button("Next", adding).click();
  await page.apply();
  await page.row("secure").getByText("Running").waitFor();
  const url = `mqtts://127.0.0.1:${world.freePort}`;
  assert.equal(await Outside.isLetIn(url, "by-tls", { ...world.device, ca }), true);
  assert.equal(await Outside.isLetIn(url, "by-tls", world.device), false);
  await page.button("Remove", page.row("secure")).click();
  await page.apply();
  await page.row("secure").waitFor({ state: "hidden" });

  await page.tab("Certificates");
  await page.button("Issue certificate").click();
  await page.field("For", issuing).selectOption("device");
  await page.field("Common Name", issuing).fill("valve 3");
  await page.button("Issue certificate", issuing).click();
  await page.told("the key is not shown again");
  const certificate = new X509Certificate(await page.download(page.button("Download certificate", issuing)));
  const key = createPrivateKey(await page.download(page.button("Download key", issuing)));
  assert.equal(certificate.subject, "CN=valve 3");
  assert.ok(certificate.checkPrivateKey(key) && certificate.verify(new X509Certificate(ca).publicKey));
  await page.button("Close", issuing).click();
  await page.button("Issue certificate").click();
  assert.equal(await issuing.getByText("PRIVATE KEY").count(), 0);
  await page.button("Close", issuing).click();
}

async function clock(world) {
  const page = ui(world);
  const zone = async () => (await page.page.request.get(`${world.url}api/v1/system`)).json().then((told) => told.time_zone);
  await page.load(hash("system"));
  await page.panel("Clock").getByText("set", { exact: true }).waitFor();
  await page.panel("Networks").getByText(/^(up|down)$/).first().waitFor();
  for (const wanted of ["Asia/Shanghai", "Europe/Berlin"]) {
    await page.field("Time zone").selectOption(wanted);
    await page.button("Change").click();
    await page.apply();
    assert.equal(await zone(), wanted);
  }
}

/** A change that is applied and left alone: other steps go on meanwhile. */
async function notConfirmed(world) {
  const page = ui(world);
  await page.load(hash("configuration"));
  const editor = page.page.getByRole("textbox", { name: "File" });
  const text = await editor.inputValue();
  assert.doesNotMatch(text, /^max_connections/m);
  await editor.fill(`max_connections = 5000\n${text}`);
  await page.told("No fault");
  await page.button("Review and apply").click();
  await page.apply("1 min");
  await page.page.getByRole("timer").waitFor();
}

async function rolledBack(world) {
  const page = ui(world);
  const editor = page.page.getByRole("textbox", { name: "File" });
  const isAsBefore = async () => {
    await page.load(hash("configuration"));
    return !(await editor.inputValue()).includes("max_connections = 5000");
  };
  await within("the change is gone by itself", isAsBefore, 90_000);
  assert.equal(await page.page.getByRole("timer").count(), 0);
  await page.tab("History");
  await page.row("not confirmed").first().waitFor();
}

async function logAndTraces(world) {
  const page = ui(world);
  await page.load(hash("log"));
  await page.told("Live");
  await page.field("Level").fill("info,headgate_shell=debug");
  await page.button("Set").click();
  await page.told("The level is set");
  await page.field("Words").fill("level of the log was set");
  await page.shows("level of the log was set");
  await page.page.getByRole("button", { name: "Back to" }).click();

  await page.go("Traces");
  await page.button("Start trace").click();
  const dialog = page.dialog("Start trace");
  await page.field("Name", dialog).fill("pump");
  await page.field("Client ID", dialog).fill("pump-7");
  await page.button("Start trace", dialog).click();
  await page.row("pump-7").getByText("Running").waitFor();
  const pump = await asPump(world, "pump-7");
  await pump.publish("sensors/traced", "x");
  await pump.end();
  await page.button("Stop").click();
  await page.row("pump-7").getByText("Over").waitFor();
  const [download] = await Promise.all([
    page.page.waitForEvent("download"),
    page.page.getByRole("link", { name: "Download" }).click(),
  ]);
  assert.match(await readFile(await download.path(), "utf8"), /sensors\/traced/);
  await page.confirm("Remove");
  await page.go("Alarms");
}

async function configuration(world) {
  const page = ui(world);
  await page.load(hash("configuration"));
  const editor = page.page.getByRole("textbox", { name: "File" });
  const text = await editor.inputValue();
  await editor.fill(`${text}\n[store]\nmax_byte = 1\n`);
  const line = text.split("\n").length + 2;
  await page.alert(`Line ${line}`);
  assert.equal(await page.button("Review and apply").isDisabled(), true);
  await page.button(`Line ${line}`).click();
  assert.equal(await editor.evaluate((area) => area.value.slice(0, area.selectionStart).split("\n").length), line);
  await isAsked(page, text);
  await page.button("Discard").click();
  await isNotOverwritten(page, editor, text);
  await page.tab("History");
  await page.button("Compare").first().click();
  await page.page.getByRole("group", { name: "Differences" }).waitFor();
  await page.button("Close", page.dialog("What going back")).click();
}

/** Who leaves the page with edits that are not applied is asked. */
async function isAsked(page, text) {
  const editor = page.page.getByRole("textbox", { name: "File" });
  const edited = await editor.inputValue();
  assert.notEqual(edited, text);
  const mayLoad = () => page.page.evaluate(() => dispatchEvent(new Event("beforeunload", { cancelable: true })));
  assert.equal(await mayLoad(), false);
  const leaving = page.dialog("Leave without applying?");
  await page.page.evaluate(() => (location.hash = "#/alarms"));
  await page.button("Stay", leaving).click();
  await leaving.waitFor({ state: "hidden" });
  assert.equal(await editor.inputValue(), edited);
  assert.match(page.page.url(), /#\/configuration$/);
  await page.page.evaluate(() => (location.hash = "#/alarms"));
  // The next question is asked before the browser has told that the one before is closed.
  await page.button("Stay", leaving).evaluate((stay) => {
    stay.click();
    location.hash = "#/alarms";
  });
  await page.page.evaluate(() => new Promise((told) => requestAnimationFrame(() => requestAnimationFrame(told))));
  await page.button("Leave and lose it", leaving).click();
  await page.heading("Alarms");
  await page.go("Configuration");
  assert.equal(await editor.inputValue(), text);
  assert.equal(await mayLoad(), true);
  await editor.fill(edited);
}

/** What somebody else has applied meanwhile is shown beside one's own text, and not overwritten. */
async function isNotOverwritten(page, editor, text) {
  const applyElsewhere = (toml) =>
    page.page.evaluate(async (toml) => {
      const { csrf } = await (await fetch("api/v1/session")).json();
      const headers = { "content-type": "application/json", "x-csrf-token": csrf };
      return (await fetch("api/v1/configuration/apply", { method: "POST", headers, body: JSON.stringify({ toml }) })).status;
    }, toml);
  await editor.fill(`# mine\n${text}`);
  await page.told("No fault");
  await page.button("Review and apply").click();
  assert.equal(await applyElsewhere(`# theirs\n${text}`), 200);
  const panel = page.panel("Apply this change?");
  await panel.getByRole("group", { name: "Differences" }).waitFor();
  await page.button("Apply", panel).click();
  await page.alert("changed meanwhile");
  await page.button("Load the new text beside mine").click();
  const theirs = page.page.getByRole("textbox", { name: "The valid text" });
  assert.equal(await theirs.inputValue(), `# theirs\n${text}`);
  assert.equal(await editor.inputValue(), `# mine\n${text}`);
  await editor.fill(text);
  await page.told("No fault");
  await page.button("Review and apply").click();
  await page.apply();
  assert.equal(await editor.inputValue(), text);
}

async function backup(world) {
  const page = ui(world);
  await page.load(hash("backups"));
  await page.field("Passphrase").fill("a long passphrase");
  await page.button("Make backup").click();
  await page.told("The backup is made");
  const row = page.row("Encrypted");
  const [download] = await Promise.all([page.page.waitForEvent("download"), row.getByRole("link", { name: "Download" }).click()]);
  const path = await download.path();
  assert.ok((await stat(path)).size > 100);
  const bytes = await readFile(path);
  assert.ok(!bytes.includes("plant-7"), "what is encrypted cannot be read");
  await page.confirm("Remove", row);
  await page.field("File").setInputFiles({ name: "again.archive", mimeType: "application/octet-stream", buffer: bytes });
  await page.button("Upload").click();
  await page.told("The backup is here");
  await page.button("Restore", page.row("again.archive")).click();
  const dialog = page.dialog("Restore");
  await page.field("Passphrase", dialog).fill("the wrong one");
  await page.button("Restore", dialog).click();
  await page.alert("passphrase");
  await page.button("Cancel", dialog).click();
  await page.confirm("Remove", page.row("again.archive"));
}

/** What a role may not do is not offered, and refused. */
async function roles(world) {
  const page = ui(world);
  await page.load(hash("administrators"));
  await page.button("Add person").click();
  const dialog = page.dialog("Add person");
  await page.field("Name", dialog).fill("vera");
  await page.field("Password", dialog).fill("only wants to look");
  await page.field("Role", dialog).selectOption("viewer");
  await page.button("Save", dialog).click();
  await page.row("vera").waitFor();

  const other = await open(world.browser);
  const viewer = new Ui(other.page, world.url);
  await viewer.load();
  await viewer.logIn("vera", "only wants to look");
  const navigation = other.page.getByRole("navigation", { name: "Pages" });
  assert.equal(await navigation.getByRole("link", { name: "Configuration" }).count(), 0);
  const pump = await asPump(world, "pump-7");
  await viewer.load(hash("device", "pump-7"));
  await viewer.shows("Online");
  assert.equal(await viewer.button("Disconnect").count(), 0);
  const kick = await other.page.evaluate(() => fetch("api/v1/clients/pump-7", { method: "DELETE" }).then((answer) => answer.status));
  assert.equal(kick, 403);
  const meter = await Lwm2mDevice.register(world.lwm2mDevice, world.lwm2m, "meter");
  const objects = new Lwm2m(other.page, world.url);
  await objects.open("meter");
  await objects.unfold("/3/0");
  await objects.row("/3/0/0").getByText("Manufacturer").waitFor();
  assert.equal(await objects.button("Read /3/0").count(), 0);
  meter.end();
  assert.deepEqual(other.complaints, []);

  await page.confirm("Remove", page.row("vera"));
  await viewer.load(hash("devices"));
  await viewer.heading("Log in");
  await other.context.close();
  await pump.end();
}

async function keys(world) {
  const page = ui(world);
  await page.load("#/administrators?tab=keys");
  await page.button("Make key").click();
  const dialog = page.dialog("Make key");
  await page.field("Name", dialog).fill("grafana");
  await page.button("Make key", dialog).click();
  const [id, secret] = await Promise.all([0, 1].map((at) => dialog.locator("dd").nth(at).innerText()));
  await page.button("Close", dialog).last().click();
  const asked = await fetch(`${world.url}api/v1/clients`, {
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}` },
  });
  assert.equal(asked.status, 200);
  await page.confirm("Remove", page.row("grafana"));
  await page.tab("Audit log");
  await page.row("/api/v1/keys").first().waitFor();
}

/** This gateway knows no key, so nobody has signed a file for it. */
async function isProvisionedByNobody(page) {
  await page.load(hash("firmware"));
  const panel = page.panel("Provisioning file");
  const file = { name: "plant.toml", mimeType: "text/plain", buffer: Buffer.from("number = 1\n") };
  await panel.locator("input[type=file]").setInputFiles(file);
  await page.button("Take this file", panel).click();
  await page.alert("/etc/headgate/provisioning.pem");
  await page.load(hash("system"));
}

async function system(world) {
  const page = ui(world);
  await page.load(hash("system"));
  await page.panel("Open ports").getByText("This machine alone").first().waitFor();
  await page.panel("Starts").getByText("the first start with these data").waitFor();
  await page.field("Search counters").fill("clients_refused");
  await page.row("headgate_clients_refused_total").waitFor();
  const [download] = await Promise.all([
    page.page.waitForEvent("download"),
    page.page.getByRole("link", { name: "Diagnostics" }).click(),
  ]);
  await isProvisionedByNobody(page);
  assert.ok((await stat(await download.path())).size > 0);

  await page.page.getByRole("link", { name: world.administrator.name, exact: true }).click();
  const { password } = world.administrator;
  const fresh = `${password} again`;
  await page.field("Old password").fill(password);
  await page.field("New password").fill(fresh);
  await page.field("Password again").fill(fresh);
  await page.button("Change password").click();
  await page.told("The password is set");
  world.administrator.password = fresh;
  // All sessions of the old password are over, also this one.
  await page.load();
  await page.logIn(world.administrator.name, fresh);
}
