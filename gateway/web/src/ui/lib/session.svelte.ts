// Who is logged in, and what that allows.

import { ApiError, gateway, session as api, setCsrf, setRefusalHandler, setup } from "./api.ts";
import { setTimeZone } from "./format.svelte.ts";
import type { Role, Session } from "./types.ts";

type Stage = "loading" | "unreachable" | "setup" | "login" | "in";
/** Of who may use this UI. */
export const SHORTEST_PASSWORD = 12;
const RANKS: Record<Role, number> = { viewer: 0, operator: 1, administrator: 2 };

const state = $state<{ stage: Stage; session: Session | null; node: string; version: string; ended: boolean; codeFile: string }>({
  stage: "loading",
  session: null,
  node: "",
  version: "",
  ended: false,
  codeFile: "",
});

export { state as session };

/** What a role may not do is not offered. */
export function may(role: Role): boolean {
  return state.session !== null && RANKS[state.session.role] >= RANKS[role];
}

export function begin(session: Session): void {
  setCsrf(session.csrf);
  state.session = session;
  state.stage = "in";
  state.ended = false;
  void gateway.system().then(
    ({ node, time_zone }) => {
      state.node = node;
      setTimeZone(time_zone);
    },
    () => {},
  );
}

export async function start(): Promise<void> {
  setRefusalHandler((refusal) => {
    state.ended = state.session !== null && refusal.status === 401;
    state.session = null;
    state.stage = refusal.body.setup ? "setup" : "login";
  });
  state.stage = "loading";
  try {
    const { needed, node, version, code_file } = await setup.state();
    Object.assign(state, { node, version, codeFile: code_file ?? "" });
    if (needed) {
      state.stage = "setup";
      return;
    }
    begin(await api.current());
  } catch (error) {
    // Of 401 and of a gateway to be set up the handler was told.
    if (error instanceof ApiError && (error.status === 401 || error.body.setup)) return;
    state.stage = "unreachable";
  }
}

export async function logOut(): Promise<void> {
  await api.close().catch(() => {});
  setCsrf("");
  setTimeZone(null);
  state.session = null;
  state.stage = "login";
  state.ended = false;
}
