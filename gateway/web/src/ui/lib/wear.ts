// What the flash must bear.

const DAY = 86_400;

/** Bytes a day, at the rate of now. */
export function wearPerDay(bytesPerSecond: number | null | undefined): number | null {
  return bytesPerSecond === null || bytesPerSecond === undefined ? null : bytesPerSecond * DAY;
}
