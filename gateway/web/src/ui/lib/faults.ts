// Faults of a configuration, with the place of each.

import type { Told } from "./types.ts";

const PLACED = /^.*?:(\d+):(\d+): (.*)$/s;
const KEYED = /^([A-Za-z0-9_.[\]"-]+): (.*)$/s;

interface TypedFault {
  line?: number | null;
  column?: number | null;
  place?: { line?: number; column?: number } | null;
  key?: string;
  message?: string;
}

/** As the gateway lists them, or out of its words: each line is `FILE:LINE:COLUMN: KEY: what is wrong`. */
export function faults(error: string, listed?: unknown): Told[] {
  if (Array.isArray(listed)) return listed.map(told);
  return error.split("\n").filter(Boolean).map(parse);
}

export function told(fault: TypedFault | string): Told {
  if (typeof fault === "string") return parse(fault);
  const { line, column, place, key, message } = fault;
  return {
    line: line ?? place?.line ?? null,
    column: column ?? place?.column ?? null,
    key: key ?? "",
    message: message ?? "",
  };
}

function parse(text: string): Told {
  const placed = PLACED.exec(text);
  const rest = placed?.[3] ?? text;
  const keyed = placed && KEYED.exec(rest);
  return {
    line: placed ? Number(placed[1]) : null,
    column: placed ? Number(placed[2]) : null,
    key: keyed?.[1] ?? "",
    message: keyed?.[2] ?? rest,
  };
}
