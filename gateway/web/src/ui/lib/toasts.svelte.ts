// What came of an action, told for some seconds and to screen readers.

import { problem } from "./load.svelte.ts";

export interface Toast {
  id: number;
  text: string;
  isError: boolean;
}

const DONE_STAYS = 5_000;
const ERROR_STAYS = 15_000;
const MOST = 4;
const state = $state<{ toasts: Toast[] }>({ toasts: [] });
let last = 0;

export { state as toasts };

export function dismiss(id: number): void {
  state.toasts = state.toasts.filter((toast) => toast.id !== id);
}

export function tell(text: string, isError = false): void {
  const id = ++last;
  state.toasts = [...state.toasts, { id, text, isError }].slice(-MOST);
  setTimeout(() => dismiss(id), isError ? ERROR_STAYS : DONE_STAYS);
}

/** Does it, and tells what came of it. Whether it went well. */
export async function attempt(action: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await action();
    if (done) tell(done);
    return true;
  } catch (error) {
    tell(problem(error), true);
    return false;
  }
}
