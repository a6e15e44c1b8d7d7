// The gateway's API, typed. Addresses are relative, so that a proxy may serve the UI below any path.

import type {
  Administrator,
  Alarm,
  ApiKey,
  Applied,
  AuditEntry,
  Backup,
  Ban,
  Banned,
  Bridge,
  BundleInfo,
  Certificate,
  Client,
  ClientDetails,
  ClientQuery,
  ConfigurationHistory,
  DelayedRow,
  Edit,
  Explained,
  ExplainRequest,
  Finding,
  Firmware,
  History,
  Issued,
  IssueRequest,
  Listener,
  LogLevel,
  LogLine,
  Lwm2mClient,
  Lwm2mObject,
  Lwm2mOutcome,
  MetricFamily,
  NewApiKey,
  Overview,
  Page,
  Preview,
  Proposal,
  PublishRequest,
  QueuePage,
  Renamed,
  RetainedMessage,
  RetainedRow,
  Role,
  Rule,
  SerialLine,
  Session,
  SetupState,
  SharedRow,
  SlowClient,
  Status,
  Subscription,
  Provisioning,
  Start,
  System,
  Trace,
  TraceWanted,
  User,
  Wan,
} from "./types.ts";

export const ROOT = "api/v1/";

type Query = Record<string, string | number | boolean | null | undefined>;
type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** The gateway said no, or nothing. */
export class ApiError extends Error {
  constructor(
    /** 0 if it did not answer. */
    readonly status: number,
    message: string,
    readonly body: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

let csrf = "";
let isBackground = false;
/** By how many milliseconds the gateway's clock is ahead of this one. */
let ahead = 0;
let onRefusal: (error: ApiError) => void = () => {};

/** By which changes prove that they come from this page. */
export function setCsrf(token: string): void {
  csrf = token;
}

/** What the gateway's clock says by its last answer, in milliseconds since 1970. */
export function gatewayNow(): number {
  return Date.now() + ahead;
}

/** What is asked for meanwhile is the page's own wish: it does not keep an idle session open. */
export function inBackground<T>(ask: () => T): T {
  isBackground = true;
  try {
    return ask();
  } finally {
    isBackground = false;
  }
}

/** Who is told that nobody is logged in any more, or that the gateway wants to be set up. */
export function setRefusalHandler(handler: (error: ApiError) => void): void {
  onRefusal = handler;
}

export function url(path: string, query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return ROOT + path + (text && `?${text}`);
}

/** A name as one segment of a path. */
const seg = encodeURIComponent;

/** Browsers take `.` and `..` out of a path, however they are written. */
export const isSegment = (name: string) => name !== "." && name !== "..";

/** A client or its session. One whose name is no segment, or that of the place for these, goes by a query; what is below it has no such place. */
function byId(kind: "clients" | "sessions", id: string): [path: string, query: Query] {
  return isSegment(id) && id !== "by-id" ? [`${kind}/${seg(id)}`, {}] : [`${kind}/by-id`, { client: id }];
}

async function send(method: Method, path: string, query?: Query, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (method !== "GET") headers["x-csrf-token"] = csrf;
  if (isBackground) headers["x-background"] = "1";
  const raw = body instanceof Blob;
  if (body !== undefined) headers["content-type"] = raw ? "application/octet-stream" : "application/json";
  let answer: Response;
  try {
    answer = await fetch(url(path, query), {
      method,
      headers,
      body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "");
  }
  const date = Date.parse(answer.headers.get("date") ?? "");
  // A header has whole seconds: less than one of difference is none.
  if (!Number.isNaN(date)) ahead = Math.abs(date - Date.now()) < 1_500 ? 0 : date + 500 - Date.now();
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const refusal = new ApiError(answer.status, String(told?.error ?? answer.statusText), told ?? {});
  // A password or code that is wrong is the affair of who typed it.
  const isLogin = method !== "GET" && /^(setup|session)\b/.test(path);
  if ((answer.status === 401 && !isLogin) || refusal.body.setup) onRefusal(refusal);
  throw refusal;
}

/** Why a question of a stream is refused, if it is. */
export async function refusalOf(path: string, query: Query): Promise<string | null> {
  const stop = new AbortController();
  try {
    await send("GET", path, query, undefined, stop.signal);
    stop.abort();
  } catch (refusal) {
    if (refusal instanceof ApiError && refusal.status > 0) return refusal.message;
  }
  return null;
}

async function ask<T>(method: Method, path: string, query?: Query, body?: unknown): Promise<T> {
  const answer = await send(method, path, query, body);
  const text = await answer.text();
  return (text ? JSON.parse(text) : {}) as T;
}

const get = <T>(path: string, query?: Query) => ask<T>("GET", path, query);
const post = <T>(path: string, body: unknown = {}, query?: Query) => ask<T>("POST", path, query, body);
const put = <T>(path: string, body: unknown) => ask<T>("PUT", path, undefined, body);
const remove = <T>(path: string, query?: Query, body?: unknown) => ask<T>("DELETE", path, query, body);

/** A list that comes whole. */
const rows = async <T>(answer: Promise<{ rows: T[] }>): Promise<T[]> => (await answer).rows;

/** Takes the answer line by line, each as soon as it is there. */
export async function lines<T>(
  method: Method,
  path: string,
  body: unknown,
  each: (line: T) => void,
  signal?: AbortSignal,
): Promise<void> {
  const answer = await send(method, path, undefined, body, signal);
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const whole = rest.split("\n");
    rest = done ? "" : whole.pop()!;
    for (const line of whole) if (line.trim()) each(JSON.parse(line) as T);
    if (done) return;
  }
}

export const setup = {
  state: () => get<SetupState>("setup"),
  begin: (code: string, name: string, password: string) => post<Session>("setup", { code, name, password }),
};

export const session = {
  current: () => get<Session>("session"),
  open: (name: string, password: string) => post<Session>("session", { name, password }),
  close: () => remove<object>("session"),
  setPassword: (old: string, fresh: string) => put<object>("session/password", { old, new: fresh }),
};

export const administrators = {
  list: () => rows<Administrator>(get("administrators")),
  add: (name: string, password: string, role: Role) => post("administrators", { name, password, role }),
  change: (name: string, change: { password?: string; role?: Role }) => put(`administrators/${seg(name)}`, change),
  remove: (name: string) => remove(`administrators/${seg(name)}`),
};

export const keys = {
  list: () => rows<ApiKey>(get("keys")),
  add: (name: string, role: Role, expires_in_seconds?: number) =>
    post<NewApiKey>("keys", { name, role, expires_in_seconds }),
  remove: (id: string) => remove(`keys/${seg(id)}`),
};

export const audit = (after?: number) => get<Page<AuditEntry, number>>("audit", { after, limit: 100 });

export const gateway = {
  status: () => get<Status>("status"),
  system: () => get<System>("system"),
  wans: async () => (await get<{ rows: Wan[] }>("wans")).rows,
  starts: async () => (await get<{ rows: Start[] }>("system/starts")).rows,
  overview: () => get<Overview>("overview"),
  history: (series: string[], span: "24h" | "30d") => get<History>("history", { series: series.join(","), span }),
  metrics: () => get<MetricFamily[]>("metrics"),
  slow: () => get<SlowClient[]>("slow"),
  setClock: (now: number) => put("system/clock", { now }),
  /** Comes back when it serves again. Nobody is logged in then. */
  restart: async () => {
    const { run } = await get<System>("system");
    await post("restart");
    for (const end = Date.now() + 120_000; Date.now() < end; ) {
      await new Promise((wake) => setTimeout(wake, 500));
      try {
        if ((await get<System>("system")).run !== run) return;
      } catch (refusal) {
        const isGone = refusal instanceof ApiError && (refusal.status === 0 || refusal.status >= 500);
        if (!isGone) return;
      }
    }
    throw new ApiError(0, "");
  },
};

export const clients = {
  list: (query: ClientQuery) => get<Page<Client>>("clients", { limit: 50, ...query }),
  show: (id: string) => get<ClientDetails>(...byId("clients", id)),
  kick: (id: string) => remove(...byId("clients", id)),
  subscriptions: (id: string, after?: string) =>
    get<Page<Subscription>>(`clients/${seg(id)}/subscriptions`, { after, limit: 100 }),
  subscribe: (id: string, filter: string, qos: number) => post(`clients/${seg(id)}/subscriptions`, { filter, qos }),
  unsubscribe: (id: string, filter: string) => remove(`clients/${seg(id)}/subscriptions`, {}, { filter }),
  removeSession: (id: string) => remove(...byId("sessions", id)),
  queue: (id: string, after?: string) => get<QueuePage>(`sessions/${seg(id)}/queue`, { after, limit: 50 }),
  purge: (id: string) => remove<{ purged: number }>(`sessions/${seg(id)}/queue`),
};

/** As long as the gateway lets somebody wait for an answer. */
const COMMAND_SECONDS = 25;

export const lwm2m = {
  show: (endpoint: string) => get<Lwm2mClient>(`lwm2m/clients/${seg(endpoint)}`),
  objects: (endpoint: string) => rows<Lwm2mObject>(get(`lwm2m/clients/${seg(endpoint)}/objects`)),
  command: (endpoint: string, msgType: string, data: Record<string, unknown>) =>
    post<Lwm2mOutcome>(`lwm2m/clients/${seg(endpoint)}/command`, { msgType, data, wait_seconds: COMMAND_SECONDS }),
};

export const messages = {
  retained: (filter: string, after?: string) => get<Page<RetainedRow>>("retained", { filter, after, limit: 200 }),
  retainedOf: (topic: string) => get<RetainedMessage>("retained/message", { topic }),
  removeRetained: (topic: string) => remove("retained", { topic }),
  publish: (request: PublishRequest) => post<{ receivers: number }>("publish", request),
  delayed: (after?: string) => get<Page<DelayedRow>>("delayed", { after, limit: 100 }),
  shared: () => rows<SharedRow>(get("shared")),
};

export const users = {
  list: (after?: string) => get<Page<User>>("users", { after, limit: 100 }),
  add: (name: string, password: string) => post("users", { name, password }),
  setPassword: (name: string, password: string) => put(`users/${seg(name)}`, { password }),
  remove: (name: string) => remove(`users/${seg(name)}`),
  /** Without `hash` it is a password file of mosquitto. */
  import: (text: string, replace: boolean, hash?: string) =>
    post<{ added: number; replaced: number; kept: number }>("users/import", { text, hash, replace }),
};

export const access = {
  rules: (listener?: string) => rows<Rule>(get("acl", { listener })),
  explain: (request: ExplainRequest) => post<Explained>("explain", request),
  bans: () => get<Ban[]>("bans"),
  ban: (who: Banned, reason: string, seconds?: number) => post<{ kicked: number }>("bans", { ...who, reason, seconds }),
  unban: (who: Banned) => remove("bans", undefined, who),
};

export const bridges = {
  list: () => get<Bridge[]>("bridges"),
  show: (name: string) => get<Bridge>(`bridges/${seg(name)}`),
  text: (name: string) => get<{ toml: string }>(`bridges/${seg(name)}/toml`),
  add: (toml: string) => post<{ bridge: string; change: string }>("bridges", { toml }),
  remove: (name: string) => remove(`bridges/${seg(name)}`),
  pause: (name: string) => post(`bridges/${seg(name)}/pause`),
  resume: (name: string) => post(`bridges/${seg(name)}/resume`),
  flush: (name: string) => post<{ flushed: number }>(`bridges/${seg(name)}/flush`),
  preview: (toml: string, topics: string[]) => rows<Renamed>(post("bridges/preview", { toml, topics })),
  test: (name: string, each: (finding: Finding) => void) =>
    lines<Finding>("POST", `bridges/${seg(name)}/test`, {}, each),
  testText: (toml: string, each: (finding: Finding) => void) => lines<Finding>("POST", "bridges/test", { toml }, each),
};

export const listeners = {
  list: () => rows<Listener>(get("listeners")),
  start: (name: string) => post(`listeners/${seg(name)}/start`),
  stop: (name: string) => post(`listeners/${seg(name)}/stop`),
  lines: () => rows<SerialLine>(get("lines")),
};

export const certificates = {
  list: () => rows<Certificate>(get("certificates")),
  texts: (name: string) => get<{ certificate: string | null; request: string | null }>(`certificates/${seg(name)}`),
  request: (name: string, common_name: string, names: string[]) =>
    post<{ csr: string; key_file: string }>("certificates/csr", { name, common_name, names }),
  makeCa: (common_name: string) => post<Certificate>("certificates/ca", { common_name }),
  issue: (wanted: IssueRequest) => post<Issued>("certificates/issue", wanted),
  upload: (name: string, certificate: string, key?: string) =>
    put<Certificate>(`certificates/${seg(name)}`, { certificate, key }),
  remove: (name: string) => remove(`certificates/${seg(name)}`),
};

export const log = {
  last: async (count: number): Promise<LogLine[]> => {
    const got: LogLine[] = [];
    await lines<LogLine>("GET", `log?last=${count}`, undefined, (line) => got.push(line));
    return got;
  },
  level: () => get<LogLevel>("log/level"),
  setLevel: (level: string, seconds?: number) => put<LogLevel>("log/level", { level, seconds }),
  resetLevel: () => remove<LogLevel>("log/level"),
};

export const alarms = () => get<{ active: Alarm[]; history: Alarm[] }>("alarms");

export const traces = {
  list: () => get<Trace[]>("traces"),
  start: (wanted: TraceWanted) => post<Trace>("traces", wanted),
  stop: (name: string) => post(`traces/${seg(name)}/stop`),
  remove: (name: string) => remove(`traces/${seg(name)}`),
  address: (name: string) => url(`traces/${seg(name)}`),
};

export const configuration = {
  show: () => get<{ toml: string; file?: string }>("configuration"),
  edit: (changes: Edit[], toml?: string) => post<{ toml: string }>("configuration/edit", { toml, changes }),
  preview: (toml: string) => post<Preview>("configuration/preview", { toml }),
  /** Only if `instead_of`, of which the text was made, is still valid: otherwise it is refused with 409. */
  apply: (toml: string, instead_of: string, confirm_seconds?: number) =>
    post<Applied>("configuration/apply", { toml, instead_of, confirm_seconds }),
  /** The valid text, and what the changes make of it. */
  change: async (changes: Edit[]): Promise<Proposal> => {
    const { toml: before } = await configuration.show();
    return { before, toml: (await configuration.edit(changes, before)).toml };
  },
  /** Changes single settings at once. */
  set: async (changes: Edit[]) => {
    const { toml, before } = await configuration.change(changes);
    await configuration.apply(toml, before);
  },
  confirm: () => post("configuration/confirm"),
  rollBack: (number?: number) => post<Applied>("configuration/rollback", { number }),
  history: () => get<ConfigurationHistory>("configuration/history"),
  earlier: (number: number) => get<{ number: number; toml: string }>(`configuration/history/${number}`),
};

/** `bundle`: an address; left out, the one that was uploaded. */
export const provisioning = {
  view: () => get<Provisioning>("provisioning"),
  accept: (text: string) => post("provisioning", { text }),
};

export const firmware = {
  view: () => get<Firmware>("firmware"),
  upload: (file: Blob) => ask("PUT", "firmware/bundle", undefined, file),
  check: (bundle?: string) => post<BundleInfo>("firmware/check", { bundle }),
  install: (bundle?: string) => post("firmware/install", { bundle }),
  bootOther: () => post("firmware/boot-other"),
  reboot: () => post("reboot"),
  factoryReset: (confirm: string) => post("factory-reset", { confirm }),
};

export const backups = {
  list: () => rows<Backup>(get("backups")),
  make: (passphrase?: string) => post<Backup>("backups", { passphrase }),
  upload: (name: string, file: Blob) => ask("PUT", `backups/${seg(name)}`, undefined, file),
  remove: (name: string) => remove(`backups/${seg(name)}`),
  restore: (name: string, passphrase?: string) => post(`backups/${seg(name)}/restore`, { passphrase }),
  withdraw: (name: string) => remove(`backups/${seg(name)}/restore`),
  address: (name: string) => url(`backups/${seg(name)}`),
};
