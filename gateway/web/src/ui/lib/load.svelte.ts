// What a page shows of the gateway: asked for, asked for again, with what went wrong.

import { ApiError, inBackground } from "./api.ts";
import { t } from "./i18n.svelte.ts";

export function problem(error: unknown): string {
  if (error instanceof ApiError) return error.status === 0 ? t("error.unreachable") : error.message;
  return error instanceof Error ? error.message : String(error);
}

export class Loaded<T> {
  data = $state.raw<T | null>(null);
  error = $state<string | null>(null);
  #asked = 0;

  constructor(private readonly ask: () => Promise<T>) {}

  reload = async (): Promise<void> => {
    const asked = ++this.#asked;
    try {
      const data = await this.ask();
      // The answer to an earlier question is of no interest.
      if (asked !== this.#asked) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (asked !== this.#asked) return;
      this.error = problem(error);
    }
  };
}

/** Asks now, and every so many seconds while the page is looked at. To be called while a component is set up. */
export function load<T>(ask: () => Promise<T>, everySeconds?: number): Loaded<T> {
  const loaded = new Loaded(ask);
  $effect(() => {
    void loaded.reload();
    if (!everySeconds) return;
    const timer = setInterval(() => {
      if (!document.hidden) void inBackground(loaded.reload);
    }, everySeconds * 1000);
    return () => clearInterval(timer);
  });
  return loaded;
}
