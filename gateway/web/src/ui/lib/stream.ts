// Server-sent events. A stream that breaks is opened again, ever more slowly.

import { url } from "./api.ts";

type Handlers = Record<string, (data: never) => void>;

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

export interface Stream {
  close(): void;
}

/** Calls the handler of each event with its data. `onState` hears whether the stream is open. */
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
    source.onopen = () => {
      pause = FIRST_PAUSE;
      onState(true);
    };
    source.onerror = () => {
      onState(false);
      source?.close();
      if (closed) return;
      timer = setTimeout(connect, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    };
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handler(JSON.parse((event as MessageEvent<string>).data) as never));
    }
  }

  connect();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      source?.close();
    },
  };
}
