// Whoever is no browser: clients of MQTT, by which the effect of what the UI does is seen.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const PATIENCE = 20_000;

export class Outside {
  static async connect(url, clientId, options = {}) {
    const client = mqtt.connect(url, { clientId, protocolVersion: 5, reconnectPeriod: 0, connectTimeout: PATIENCE, ...options });
    const outside = new Outside(client, clientId);
    await new Promise((resolve, reject) => {
      client.once("connect", resolve);
      client.once("error", reject);
      client.once("close", () => reject(new Error(`${clientId} was not let in`)));
    });
    return outside;
  }

  /** Whether somebody is let in. */
  static async isLetIn(url, clientId, options) {
    try {
      await (await Outside.connect(url, clientId, options)).end();
      return true;
    } catch {
      return false;
    }
  }

  constructor(client, clientId) {
    this.client = client;
    this.clientId = clientId;
    this.heard = [];
    this.closed = new Promise((resolve) => client.once("close", resolve));
    client.on("message", (topic, payload) => this.heard.push({ topic, payload: payload.toString() }));
    client.on("error", () => {});
  }

  subscribe(filter, qos = 1) {
    return this.#inTime(`subscribes to ${filter}`, this.client.subscribeAsync(filter, { qos }));
  }

  publish(topic, payload, options = { qos: 1 }) {
    return this.#inTime(`publishes to ${topic}`, this.client.publishAsync(topic, payload, options));
  }

  /** MQTT.js waits for ever for the answer to what it has said, also when the connection is gone. */
  #inTime(what, answer) {
    let timer;
    const late = new Promise((_, reject) => {
      const why = () => reject(new Error(`${this.clientId.slice(0, 40)} ${what.slice(0, 80)}: no answer`));
      timer = setTimeout(why, PATIENCE);
      this.closed.then(why);
    });
    return Promise.race([answer, late]).finally(() => clearTimeout(timer));
  }

  /** Waits for a message. */
  hears(topic, payload) {
    return within(`${this.clientId} hears ${topic}`, () =>
      this.heard.some((message) => message.topic === topic && (payload === undefined || message.payload === payload)),
    );
  }

  isClosed() {
    return within(`${this.clientId} is disconnected`, () => !this.client.connected);
  }

  end() {
    return this.client.endAsync(true);
  }
}

/** A device of LwM2M: tests/tools/lwm2m_device.py, which is told what to do, and tells what happens. */
export class Lwm2mDevice {
  static async register([program, ...script], server, endpoint, options = []) {
    const device = new Lwm2mDevice(spawn(program, [...script, "--server", server, "--endpoint", endpoint, ...options]));
    await device.tells("ready");
    device.tell({ do: "register" });
    await device.tells("registered");
    return device;
  }

  constructor(child) {
    this.child = child;
    this.events = [];
    createInterface({ input: child.stdout }).on("line", (line) => this.events.push({ ...JSON.parse(line), line }));
    child.stderr.pipe(process.stderr);
  }

  tell(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** Waits for an event of this kind, and takes it away. */
  async tells(kind, path) {
    let found;
    const isIt = ({ event, path: at }) => event === kind && (path === undefined || at === path);
    await within(`the device tells ${kind}`, () => (found = this.events.find(isIt)));
    this.events = this.events.filter((event) => event !== found);
    return found;
  }

  /** What it has at a path, as it writes it down: JavaScript has no numbers of 64 bits. */
  async written(path) {
    this.tell({ do: "get", path });
    return (await this.tells("value", path)).line;
  }

  async value(path) {
    return JSON.parse(await this.written(path)).values[path];
  }

  end() {
    this.tell({ do: "quit" });
  }
}

/** Waits until something is so. */
export async function within(what, isSo, patience = PATIENCE) {
  const end = Date.now() + patience;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
