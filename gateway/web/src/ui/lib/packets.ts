// Packets of MQTT in a few words, and where MQTT is spoken over WebSocket.

import type { Packet } from "mqtt";
import type { Listener } from "./types.ts";

export interface SeenPacket {
  id: number;
  at: number;
  direction: "in" | "out";
  name: string;
  details: string;
}

/** What is worth showing of a packet, in the order of the specification. */
const FIELDS = [
  "clientId",
  "protocolVersion",
  "clean",
  "keepalive",
  "username",
  "sessionPresent",
  "messageId",
  "returnCode",
  "reasonCode",
  "granted",
  "topic",
  "qos",
  "retain",
  "dup",
  "subscriptions",
  "unsubscriptions",
  "properties",
];

export function describe(packet: Packet): { name: string; details: string } {
  const fields = packet as unknown as Record<string, unknown>;
  const isPublish = packet.cmd === "publish";
  const shown = FIELDS.filter((field) => {
    const value = fields[field];
    if (value === undefined || value === null) return false;
    // Every packet has these here, on the wire one has.
    return !["qos", "retain", "dup"].includes(field) || isPublish;
  }).map((field) => `${field} ${typeof fields[field] === "string" ? fields[field] : JSON.stringify(fields[field])}`);
  if (isPublish) shown.push(`${packet.payload.length} B`);
  return { name: packet.cmd.toUpperCase(), details: shown.join(", ") };
}

/** Where a listener for WebSocket is reached from here; one bound to all addresses by the name that the page has. */
export function webSocketUrl({ protocol, kind, address, path }: Listener, host: string): string | null {
  if (protocol !== "mqtt" || path === null || (kind !== "ws" && kind !== "wss")) return null;
  const at = address.lastIndexOf(":");
  const bound = address.slice(0, at);
  const isAny = ["0.0.0.0", "[::]", "::", "*"].includes(bound);
  const isLoopback = bound.startsWith("127.") || bound === "[::1]";
  const name = isAny || isLoopback ? (isLoopback && host === "localhost" ? bound : host) : bound;
  return `${kind}://${name}:${address.slice(at + 1)}${path}`;
}
