// Pages by the fragment of the address, `#/devices/pump-7?tab=queue`, so that the gateway has one document to serve.

export interface Route {
  page: string;
  args: string[];
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...args] = path.split("/").map((segment) => {
    try {
      return decodeURIComponent(segment);
    } catch {
      return segment;
    }
  });
  return { page: page || "overview", args, query: new URLSearchParams(query) };
}

/** The address of a page. Names are segments, whatever is in them. */
export function href(page: string, args: string[] = [], query: Record<string, string | undefined> = {}): string {
  const path = [page, ...args].map(encodeURIComponent).join("/");
  const given = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const text = new URLSearchParams(given).toString();
  return `#/${path}${text && `?${text}`}`;
}

const state = $state<{ route: Route; wanted: string | null }>({ route: parse(location.hash), wanted: null });
let shown = location.hash;
let isHeld: () => boolean = () => false;

const place = ({ page, args }: Route) => href(page, args);

addEventListener("hashchange", () => {
  const wanted = location.hash;
  const next = parse(wanted);
  if (place(next) !== place(state.route) && isHeld()) {
    history.replaceState(null, "", shown || "#");
    state.wanted = wanted;
    return;
  }
  shown = wanted;
  state.route = next;
});

/** As long as this holds, the page is not left without a question. Gives back how it is let go. */
export function hold(while_: () => boolean): () => void {
  isHeld = while_;
  return () => {
    isHeld = () => false;
    state.wanted = null;
  };
}

/** Whether somebody wants to leave a page that is held. */
export function wantsToLeave(): boolean {
  return state.wanted !== null;
}

export function stay(): void {
  state.wanted = null;
}

export function leave(): void {
  const wanted = state.wanted;
  isHeld = () => false;
  state.wanted = null;
  if (wanted !== null) location.hash = wanted || href("overview");
}

export function route(): Route {
  return state.route;
}

export function go(page: string, args: string[] = [], query: Record<string, string | undefined> = {}): void {
  location.hash = href(page, args, query);
}

/** Keeps what is asked for in the address, without a new page in the history. */
export function setQuery(query: Record<string, string | undefined>): void {
  const { page, args } = state.route;
  history.replaceState(null, "", href(page, args, query));
  shown = location.hash;
  state.route = parse(shown);
}
