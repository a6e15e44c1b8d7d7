// A list that comes by the page.

import { problem } from "./load.svelte.ts";
import type { Page } from "./types.ts";

export class Paged<Row, Cursor = string> {
  rows = $state.raw<Row[]>([]);
  next = $state.raw<Cursor | null>(null);
  busy = $state(false);
  loaded = $state(false);
  error = $state<string | null>(null);
  #asked = 0;

  constructor(private readonly ask: (after?: Cursor) => Promise<Page<Row, Cursor>>) {}

  /** From the beginning. */
  reload = (): Promise<void> => this.#take(undefined);
  more = (): Promise<void> => this.#take(this.next ?? undefined);

  async #take(after: Cursor | undefined): Promise<void> {
    const asked = ++this.#asked;
    this.busy = true;
    try {
      const page = await this.ask(after);
      if (asked !== this.#asked) return;
      this.rows = after === undefined ? page.rows : [...this.rows, ...page.rows];
      this.next = page.next;
      this.error = null;
    } catch (error) {
      if (asked === this.#asked) this.error = problem(error);
    }
    if (asked === this.#asked) {
      this.busy = false;
      this.loaded = true;
    }
  }
}
