// Faults of a configuration, with the place of each.

import { ApiError } from "./api.ts";
import type { Told } from "./types.ts";

/** What is wrong with a configuration that was refused; `null` if it was not for what it says. */
export function faultsOf(refusal: unknown): Told[] | null {
  if (!(refusal instanceof ApiError) || refusal.status !== 422) return null;
  const listed = refusal.body.faults as Told[] | undefined;
  return listed?.length ? listed : [{ key: "", message: refusal.message }];
}
