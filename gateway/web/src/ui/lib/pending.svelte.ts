// The configuration that goes back by itself unless it is confirmed.

import { configuration, gatewayNow } from "./api.ts";

class Pending {
  /** When it goes back, in milliseconds since 1970 by the browser's clock; `null` while nothing waits. */
  until = $state<number | null>(null);
  /** Goes up whenever another configuration may be valid. */
  turn = $state(0);
  #told: number | null = null;

  /** Takes what the gateway says, in seconds since 1970 by its own clock. */
  take(told: number | null): void {
    if (told === this.#told) return;
    this.#told = told;
    this.until = told === null ? null : Date.now() + told * 1000 - gatewayNow();
  }

  look = async (): Promise<void> => {
    try {
      this.take((await configuration.history()).confirm_until);
    } catch {
      // Who may not see the configuration need not see this.
      this.take(null);
    }
    this.turn += 1;
  };
}

export const pending = new Pending();
