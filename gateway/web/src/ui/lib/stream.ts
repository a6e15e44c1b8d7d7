// Server-sent events. A stream that breaks is opened again, ever more slowly.

import { refusalOf, url } from "./api.ts";

type Handlers = Record<string, (data: never) => void>;

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

export interface Stream {
  close(): void;
}

/** Calls the handler of each event with its data. A stream is over when it is `denied`, which hears also why one was not even opened. `onState` hears whether it is open. */
export function open(
  path: string,
  query: Record<string, string | number | undefined>,
  handlers: Handlers,
  onState: (open: boolean) => void = () => {},
): Stream {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pause = FIRST_PAUSE;
  let closed = false;

  function connect(): void {
    source = new EventSource(url(path, query));
    source.addEventListener("open", (event) => {
      pause = FIRST_PAUSE;
      // A tail says by an event of this name when it is subscribed: what was published before that it has not seen.
      if (path !== "tail" || event instanceof MessageEvent) onState(true);
    });
    source.onerror = () => {
      onState(false);
      // The browser gives up by itself where the answer was a refusal, and does not say which.
      if (source?.readyState === EventSource.CLOSED) void askWhy();
      source?.close();
      if (closed) return;
      timer = setTimeout(connect, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    };
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        handler(JSON.parse((event as MessageEvent<string>).data) as never);
        if (name === "denied") close();
      });
    }
  }

  async function askWhy(): Promise<void> {
    const error = await refusalOf(path, query);
    if (!error || closed) return;
    handlers.denied?.({ error } as never);
    close();
  }

  function close(): void {
    closed = true;
    clearTimeout(timer);
    source?.close();
  }

  connect();
  return { close };
}
