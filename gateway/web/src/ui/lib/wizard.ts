// Changes of single settings, taken at once: the wizard asks for each in a step of its own.

import type { configuration as Api } from "./api.ts";
import type { Edit } from "./types.ts";

export async function applyEdits(configuration: typeof Api, changes: Edit[]): Promise<void> {
  const { toml } = await configuration.edit(changes);
  await configuration.apply(toml);
}
