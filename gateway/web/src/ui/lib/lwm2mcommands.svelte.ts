// Commands to one device of LwM2M, and what came of each: the last one of every path is shown.

import { SvelteMap, SvelteSet } from "svelte/reactivity";
import { lwm2m } from "./api.ts";
import { problem } from "./load.svelte.ts";
import { linked } from "./lwm2m.ts";
import type { Lwm2mOutcome, Lwm2mValue } from "./types.ts";

export type Command = "read" | "discover" | "observe" | "cancel-observe" | "write" | "execute";

export interface Given {
  command: Command;
  outcome: Lwm2mOutcome | null;
  /** Why the gateway did not take it. */
  error: string | null;
}

/** A browser has six connections for the gateway: some are left for the rest of the page. */
const MOST_AT_ONCE = 3;

export class Commands {
  readonly given = new SvelteMap<string, Given>();
  readonly values = new SvelteMap<string, Lwm2mValue>();
  /** Resources that the device told of. */
  readonly discovered = new SvelteSet<string>();
  #underWay = $state(0);

  constructor(
    readonly endpoint: string,
    /** What is observed may be another. */
    private readonly observed: () => void,
  ) {}

  get busy(): boolean {
    return this.#underWay >= MOST_AT_ONCE;
  }

  /** Gives a command. Whether the device did it. */
  async give(command: Command, path: string, data: Record<string, unknown> = {}): Promise<boolean> {
    const given: Given = { command, outcome: null, error: null };
    // The last one is the last of the map, too.
    this.given.delete(path);
    this.given.set(path, given);
    this.#underWay += 1;
    try {
      given.outcome = await lwm2m.command(this.endpoint, command, { path, ...data });
    } catch (refusal) {
      given.error = problem(refusal);
    }
    this.#underWay -= 1;
    // A later command for this path is told of instead.
    if (this.given.get(path) === given) this.given.set(path, { ...given });
    if (command === "observe" || command === "cancel-observe") this.observed();
    this.#take(given.outcome);
    return given.outcome?.answer?.data.code.startsWith("2.") ?? false;
  }

  /** Reads without telling of it. */
  async refresh(path: string): Promise<void> {
    await lwm2m.command(this.endpoint, "read", { path }).then(this.#take, () => {});
  }

  /** Values of an answer are there also where the gateway retains none. */
  #take = (outcome: Lwm2mOutcome | null): void => {
    for (const entry of outcome?.answer?.data.content ?? []) {
      if (typeof entry === "string") {
        const path = linked(entry);
        if (path) this.discovered.add(path);
      } else {
        this.values.set(entry.path, { ...this.values.get(entry.path), value: entry.value, time: Date.now() });
      }
    }
  };
}
