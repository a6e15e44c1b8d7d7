// Objects of LwM2M as they are browsed: what a device has, what its definitions say, and values as people read and type them.

import type { Lwm2mObject, Lwm2mOutcome, Lwm2mResource, Lwm2mValue } from "./types.ts";

/** Types of values, as object definitions call them. */
export const TYPES = [
  "String",
  "Integer",
  "Unsigned Integer",
  "Float",
  "Boolean",
  "Opaque",
  "Time",
  "Objlnk",
  "Corelnk",
] as const;

export interface Instance {
  /** `/3/0`, or `/5` of an object without instances. */
  path: string;
  definition: Lwm2mObject | undefined;
}

/** What a device registered, in the order of its numbers. */
export function instancesOf(paths: string[], definitions: Lwm2mObject[]): Instance[] {
  const known = new Map(definitions.map((object) => [object.id, object]));
  return paths.map((path) => ({ path, definition: known.get(Number(path.split("/")[1])) }));
}

export interface Row {
  path: string;
  definition: Lwm2mResource | undefined;
  /** Of the resource, or of its instances by their paths. */
  values: [path: string, value: Lwm2mValue][];
}

/** The resources of an instance: those that are defined, those that the device has told of, and those that only have a value. */
export function rowsOf(
  { path, definition }: Instance,
  values: ReadonlyMap<string, Lwm2mValue>,
  discovered: ReadonlySet<string>,
): Row[] {
  const rows = new Map<number, Row>();
  const row = (id: number) => {
    const known = rows.get(id) ?? { path: `${path}/${id}`, definition: undefined, values: [] };
    rows.set(id, known);
    return known;
  };
  for (const resource of definition?.resources ?? []) row(resource.id).definition = resource;
  const idOf = (at: string) => (at.startsWith(`${path}/`) ? Number(at.split("/")[3]) : NaN);
  for (const at of discovered) if (idOf(at) >= 0) row(idOf(at));
  for (const [at, value] of values) if (idOf(at) >= 0) row(idOf(at)).values.push([at, value]);
  const inOrder = ([a]: [string, unknown], [b]: [string, unknown]) => Number(a.split("/")[4] ?? 0) - Number(b.split("/")[4] ?? 0);
  for (const { values } of rows.values()) values.sort(inOrder);
  return [...rows.entries()].sort(([a], [b]) => a - b).map(([, row]) => row);
}

/** The path of a link: `</3/0/9>;pmin=5` */
export function linked(link: string): string | null {
  return /^<(\/\d+\/\d+\/\d+)>/.exec(link)?.[1] ?? null;
}

/** The path of a value by its topic: `/3/0/0`. */
export function pathOf(topic: string, endpoint: string): string | null {
  const path = topic.startsWith(`lwm2m/${endpoint}/`) ? topic.slice(`lwm2m/${endpoint}`.length) : "";
  return /^(\/\d+){3,4}$/.test(path) ? path : null;
}

const UNITS: Record<string, string> = { "/100": "%", Cel: "°C" };

/** `21.5 °C` */
export function withUnit(value: string, unit: string | null | undefined): string {
  return unit ? `${value} ${UNITS[unit] ?? unit}` : value;
}

/** What an answer says beside values. */
export function words({ answer }: Lwm2mOutcome): string {
  const { codeMsg = "", reason = "", location = "" } = answer?.data ?? {};
  return [codeMsg.replaceAll("_", " "), location, reason].filter(Boolean).join(" · ");
}
