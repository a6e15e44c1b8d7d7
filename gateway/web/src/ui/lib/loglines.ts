// Lines of the log in words.

import type { LogLine } from "./types.ts";

export function messageOf(line: LogLine): string {
  return String(line.fields.message ?? "");
}

/** `name=value` of all else, and of the spans around it. */
export function fieldsOf(line: LogLine): string {
  const fields = Object.entries(line.fields).filter(([name]) => name !== "message");
  return fields.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
}
