// Versions of protocols as people call them.

import type { Client } from "./types.ts";

const MQTT: Record<string, string> = { 3: "3.1", 4: "3.1.1", 5: "5.0" };

/** MQTT says 4 on the wire where everybody says 3.1.1. */
export function versionName({ protocol, version }: Pick<Client, "protocol" | "version">): string {
  const said = String(version);
  return protocol === "mqtt" ? (MQTT[said] ?? said) : said;
}
