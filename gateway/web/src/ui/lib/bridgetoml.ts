// A bridge of the form as it would stand below `[[bridges]]`.

import { array, quoted } from "./toml.ts";
import type { Qos } from "./types.ts";

export interface BridgeFields {
  name: string;
  address: string;
  version: "mqttv50" | "mqttv311";
  username: string;
  password: string;
  ca: string;
  certificate: string;
  key: string;
  topics: BridgeTopic[];
}

export interface BridgeTopic {
  filter: string;
  direction: "out" | "in" | "both";
  qos: Qos;
  local: string;
  remote: string;
}

export function bridgeToml(fields: BridgeFields): string {
  const addresses = fields.address.split(/[\s,]+/).filter(Boolean);
  const lines = [
    `name = ${quoted(fields.name)}`,
    `addresses = ${array(addresses)}`,
    ...(fields.version === "mqttv50" ? [`version = "mqttv50"`] : []),
    `topics = [`,
    ...fields.topics.filter(({ filter }) => filter).map((topic) => `  ${quoted(topicLine(topic))},`),
    `]`,
  ];
  const login = table({ username: fields.username, password: fields.password });
  const tls = table({ ca: fields.ca, certificate: fields.certificate, key: fields.key });
  if (login) lines.push(`login = ${login}`);
  if (tls) lines.push(`tls = ${tls}`);
  return `${lines.join("\n")}\n`;
}

/** As mosquitto writes it: `pattern direction qos local-prefix remote-prefix`. */
function topicLine({ filter, direction, qos, local, remote }: BridgeTopic): string {
  const prefixes = local || remote ? ` ${local || '""'}${remote ? ` ${remote}` : ""}` : "";
  return `${filter} ${direction} ${qos}${prefixes}`;
}

function table(values: Record<string, string>): string | null {
  const given = Object.entries(values).filter(([, value]) => value);
  return given.length > 0 ? `{ ${given.map(([key, value]) => `${key} = ${quoted(value)}`).join(", ")} }` : null;
}
