// Whoever is no browser: clients of MQTT, by which the effect of what the UI does is seen.

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

/** Waits until something is so. */
export async function within(what, isSo, patience = PATIENCE) {
  const end = Date.now() + patience;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
