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

const state = $state<{ route: Route }>({ route: parse(location.hash) });

addEventListener("hashchange", () => {
  state.route = parse(location.hash);
});

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
  state.route = parse(location.hash);
}
