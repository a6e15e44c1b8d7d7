// Numbers, sizes and times as people read them, in their language and in the gateway's time zone.

import { locale, t } from "./i18n.svelte.ts";

const STORED = "headgate.timezone";
const zone = $state<{ name: string | null }>({ name: localStorage.getItem(STORED) });

/** The time zone of the gateway; `null` for the browser's. */
export function setTimeZone(name: string | null): void {
  const valid = name !== null && name !== "" && isTimeZone(name);
  zone.name = valid ? name : null;
  if (valid) localStorage.setItem(STORED, name);
  else localStorage.removeItem(STORED);
}

export function timeZone(): string {
  return zone.name ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

export const NOTHING = "–";

export function number(value: number | null | undefined, digits = 0): string {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${number(size, unit > 0 && size < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

export function rate(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  return t("unit.per_second", { n: number(value, value < 10 ? 1 : 0) });
}

export function percent(part: number | null | undefined, whole: number | null | undefined): string {
  if (!whole || part === null || part === undefined) return NOTHING;
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 1 }).format(part / whole);
}

/** The two largest units: `3 d 4 h`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return NOTHING;
  const whole = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), t("unit.days")],
    [Math.floor(whole / 3_600) % 24, t("unit.hours")],
    [Math.floor(whole / 60) % 60, t("unit.minutes")],
    [whole % 60, t("unit.seconds")],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return `0 ${t("unit.seconds")}`;
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** Seconds since 1970, or a text by RFC 3339, as date and time. */
export function time(value: number | string | null | undefined): string {
  const date = toDate(value);
  if (!date) return NOTHING;
  return new Intl.DateTimeFormat(locale(), {
    dateStyle: "medium",
    timeStyle: "medium",
    timeZone: zone.name ?? undefined,
  }).format(date);
}

/** The time of the day alone, for what was just now. */
export function clock(value: number | string | null | undefined): string {
  const date = toDate(value);
  if (!date) return NOTHING;
  return new Intl.DateTimeFormat(locale(), {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
    timeZone: zone.name ?? undefined,
  }).format(date);
}

function toDate(value: number | string | null | undefined): Date | null {
  if (value === null || value === undefined) return null;
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}
