// What the flash must bear.

import type { System } from "./types.ts";

const DAY = 86_400;
/** Before that nothing can be said of a day. */
const LONG_ENOUGH = 600;

/** Bytes written to the disk a day, at the rate since the start. */
export function wearPerDay({ disk, uptime_seconds }: Pick<System, "disk" | "uptime_seconds">): number | null {
  if (disk.written_bytes === null || disk.written_bytes === undefined || uptime_seconds < LONG_ENOUGH) return null;
  return (disk.written_bytes / uptime_seconds) * DAY;
}
