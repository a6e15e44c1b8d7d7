// The configuration that goes back by itself unless it is confirmed.

import { configuration } from "./api.ts";

class Pending {
  /** Seconds since 1970; `null` while nothing waits. */
  until = $state<number | null>(null);
  /** Goes up whenever another configuration may be valid. */
  turn = $state(0);

  look = async (): Promise<void> => {
    try {
      this.until = (await configuration.history()).confirm_until;
    } catch {
      // Who may not see the configuration need not see this.
      this.until = null;
    }
    this.turn += 1;
  };
}

export const pending = new Pending();
