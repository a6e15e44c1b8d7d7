// The pages of the UI as a person uses them: by what is written on fields and buttons, in English.

import { readFile } from "node:fs/promises";

/** The address of a page, names as segments of it. */
export const hash = (page, ...names) => `#/${[page, ...names].map(encodeURIComponent).join("/")}`;

/** What all pages have. */
export class Ui {
  constructor(page, url) {
    this.page = page;
    this.url = url;
  }

  /** Loads a page anew, as if its address were typed. What the page is asking meanwhile is cut off: wait for its answer before. */
  async load(path = "") {
    await this.page.goto("about:blank");
    await this.page.goto(this.url + path);
  }

  /** Goes to a page of the navigation. */
  async go(title) {
    await this.page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: title, exact: true }).click();
    await this.heading(title);
  }

  async heading(title) {
    await this.page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
  }

  async tab(title) {
    await this.page.getByRole("main").getByRole("link", { name: title, exact: true }).click();
  }

  field(label, within = this.page) {
    // What a label says around a list of choices is also what the choices say.
    return within.getByLabel(label, { exact: true }).or(within.getByRole("combobox", { name: label, exact: true }));
  }

  button(name, within = this.page) {
    return within.getByRole("button", { name, exact: true });
  }

  dialog(title) {
    return this.page.getByRole("dialog", { name: title });
  }

  panel(title) {
    return this.page.getByRole("region", { name: title, exact: true });
  }

  row(text) {
    return this.page.getByRole("row").filter({ hasText: text });
  }

  /** Presses a button that asks first, and says yes. */
  async confirm(name, within = this.page) {
    await this.button(name, within).click();
    const dialog = this.dialog(name);
    await this.button(name, dialog).click();
    await dialog.waitFor({ state: "hidden" });
  }

  /** What came of an action is told. */
  async told(text) {
    await this.page.getByRole("status").filter({ hasText: text }).first().waitFor();
  }

  async alert(text) {
    await this.page.getByRole("alert").filter({ hasText: text }).first().waitFor();
  }

  async shows(text) {
    await this.page.getByRole("main").getByText(text).first().waitFor();
  }

  async logIn(name, password) {
    await this.heading("Log in");
    await this.field("Name").fill(name);
    await this.field("Password").fill(password);
    await this.button("Log in").click();
    await this.page.getByRole("navigation", { name: "Pages" }).waitFor({ state: "attached" });
  }

  /** What is downloaded by a button, as text. */
  async download(button) {
    const [download] = await Promise.all([this.page.waitForEvent("download"), button.click()]);
    return readFile(await download.path(), "utf8");
  }

  /** Looks at a change of the configuration, and applies it. */
  async apply(confirmWithin) {
    const panel = this.panel("Apply this change?");
    await panel.getByRole("group", { name: "Differences" }).waitFor();
    await this.field("To be confirmed within", panel).selectOption({ label: confirmWithin ?? "not needed" });
    await this.button("Apply", panel).click();
    await panel.waitFor({ state: "hidden" });
  }
}

/** The first page of a new gateway, and the steps behind it. */
export class Wizard extends Ui {
  async makeAdministrator(code, name, password) {
    await this.heading("Welcome");
    await this.field("One-time code").fill(code);
    await this.field("Name").fill(name);
    await this.field("Password").fill(password);
    await this.field("Password again").fill(password);
    await this.button("Make administrator").click();
  }

  async step(title) {
    await this.page.getByRole("heading", { level: 2, name: title, exact: true }).waitFor();
  }

  async name(node, zone) {
    await this.step("Name and time zone");
    await this.field("Name of the gateway").fill(node);
    await this.field("Time zone").selectOption(zone);
    await this.button("Next").click();
  }

  async accessForNetwork(user, password) {
    await this.step("Who may connect");
    await this.page.getByLabel("Devices in the network").check();
    await this.field("User name of the first device").fill(user);
    await this.field("Its password").fill(password);
    await this.button("Next").click();
  }

  async uplink(name, address, filter) {
    await this.step("First uplink");
    await this.field("Bridge").fill(name);
    await this.field("Address").fill(address);
    await this.field("Topic filter").fill(filter);
    await this.button("Test").click();
    await this.page.getByText("Everything is as it should be.").waitFor();
    await this.button("Keep this uplink").click();
    await this.step("Done");
  }
}

/** A client of MQTT in the page. */
export class WebSocketTest extends Ui {
  async connect() {
    await this.go("MQTT over WebSocket");
    await this.page.waitForFunction(() => document.querySelector("input[list=urls]")?.value.startsWith("ws"));
    await this.button("Connect").click();
    await this.told("Connected");
  }

  async publish(topic, payload) {
    await this.field("Topic").fill(topic);
    await this.field("Payload").fill(payload);
    await this.button("Publish").click();
  }
}

export class Devices extends Ui {
  async find(words) {
    await this.go("Devices");
    await this.field("Search").fill(words);
    await this.row(words).first().waitFor();
  }

  async open(client) {
    await this.load(hash("device", client));
    await this.page.getByRole("heading", { level: 1 }).waitFor();
    await this.button("Disconnect").waitFor();
  }

  async ban() {
    await this.button("Ban").click();
    const dialog = this.dialog("Ban");
    await this.button("Ban", dialog).click();
    await dialog.waitFor({ state: "hidden" });
  }

  async subscribe(filter) {
    await this.tab("Subscriptions");
    await this.field("Topic filter").fill(filter);
    await this.button("Subscribe").click();
    await this.row(filter).waitFor();
  }

  async explain(topic) {
    await this.tab("Rules");
    await this.field("Topic").fill(topic);
    await this.button("Why?").click();
  }
}

/** The objects of a device that speaks LwM2M. */
export class Lwm2m extends Ui {
  async open(endpoint) {
    await this.load(`${hash("device", `$lwm2m/${endpoint}`)}?tab=lwm2m`);
    await this.panel("Objects").waitFor();
  }

  async unfold(path) {
    await this.panel("Objects").locator("summary").filter({ hasText: path }).click();
  }

  /** A resource, by its path: that of others may begin like it. */
  row(path) {
    const cell = this.page.getByRole("cell", { name: path, exact: true });
    return this.page.getByRole("row").filter({ has: cell });
  }

  async write(path, value, more = {}) {
    await this.button(`Write ${path}`).click();
    const dialog = this.dialog(`Write ${path}`);
    for (const [name, text] of Object.entries(more)) await this.field(name, dialog).fill(text);
    const field = this.field("Value", dialog);
    await (typeof value === "string" ? field.fill(value) : field.selectOption(value));
    await this.button("Write", dialog).click();
    await dialog.waitFor({ state: "hidden" });
  }

  async execute(path, args) {
    await this.button(`Execute ${path}`).click();
    const dialog = this.dialog(`Execute ${path}`);
    await this.field("Arguments", dialog).fill(args);
    await this.button("Execute", dialog).click();
    await dialog.waitFor({ state: "hidden" });
  }
}

export class Topics extends Ui {
  async publish(topic, payload, { retain = false, qos = 0 } = {}) {
    await this.load("#/topics?tab=publish");
    await this.field("Topic").fill(topic);
    await this.field("Payload").fill(payload);
    await this.field("QoS").selectOption(String(qos));
    if (retain) await this.field("Retain").check();
    await this.button("Publish").click();
    await this.told("Published");
  }

  /** Opens the tree down to a topic, and chooses it. */
  async choose(levels) {
    await this.load("#/topics");
    for (const level of levels.slice(0, -1)) await this.button(`Below ${level}`).click();
    await this.page.getByRole("list").getByRole("button", { name: levels.at(-1), exact: true }).last().click();
  }
}

export class Bridges extends Ui {
  panelOf(name) {
    return this.page.getByRole("main").locator("section").filter({ has: this.page.getByRole("heading", { name }) });
  }

  async add({ name, address, filter }) {
    await this.go("Store and forward");
    await this.page.getByRole("link", { name: "New bridge" }).click();
    await this.field("Bridge").fill(name);
    await this.field("Address").fill(address);
    await this.field("Topic filter").fill(filter);
  }

  async state(name, state) {
    await this.load(hash("bridge", name));
    await this.page.getByRole("main").locator(".head").getByText(state, { exact: true }).waitFor();
  }
}
