// What the gateway's API says: one type for each resource, as /api/v1 writes it.

export type Role = "viewer" | "operator" | "administrator";

export type Qos = 0 | 1 | 2;

export interface Page<Row, Cursor = string> {
  rows: Row[];
  next: Cursor | null;
}

// Login and set-up

export interface SetupState {
  needed: boolean;
  /** Where the one-time code stands. */
  code_file: string | null;
  node: string;
  version: string;
}

export interface Session {
  name: string;
  role: Role;
  csrf: string;
  idle_seconds: number;
}

export interface Administrator {
  name: string;
  role: Role;
  created: number | null;
  last_login: number | null;
}

export interface ApiKey {
  id: string;
  name: string;
  role: Role;
  expires: number | null;
  created: number;
  last_used: number | null;
}

export interface NewApiKey extends ApiKey {
  secret: string;
}

export interface AuditEntry {
  number: number;
  at: number;
  who: string;
  from: string;
  /** Method and path. */
  request: string;
  /** What was done, in words. */
  action: string;
  /** None while it is under way, or for ever if the gateway ended meanwhile. */
  status?: number | null;
  before?: unknown;
  after?: unknown;
}

// The gateway as a whole

export interface Status {
  node: string;
  version: string;
  uptime_seconds: number;
  ready: boolean;
  not_ready_because: string[];
  needs_restart: string[];
  clients: number;
  sessions: number;
  subscriptions: number;
  retained: number;
  queued: number;
  memory: { ledger_bytes: number; max_bytes: number | null; process_bytes: number | null };
  data_dir: { path: string; moves_to: string | null };
  store: { place: "disk" | "memory"; moving: boolean; disk_bytes: number; disk_free_bytes: number | null };
  listeners: { name: string; connections: number | null }[];
  bridges: { name: string; state: BridgeState; queued: number }[];
  alarms: { id: string; severity: Severity }[];
}

export interface System {
  node: string;
  version: string;
  uptime_seconds: number;
  /** Another one after each start. */
  run: string;
  now: number;
  /** Empty: that of the browser. */
  time_zone: string;
  clock: {
    believed: boolean;
    synchronized: boolean | null;
    max_error_seconds: number | null;
    offset_seconds: number | null;
    service: string | null;
    servers: string[];
    /** What a clock chip says, in seconds since 1970. */
    chip: number | null;
  };
  cpu: { load_1m: number | null; cores: number; process_seconds: number | null };
  memory: {
    total_bytes: number | null;
    available_bytes: number | null;
    process_bytes: number | null;
    ledger_bytes: number;
    max_bytes: number | null;
  };
  disk: {
    total_bytes: number | null;
    free_bytes: number | null;
    store_bytes: number;
    /** By the store, since the start. */
    written_bytes: number;
    /** Of an eMMC that says so. */
    life_used_tenths: number | null;
  };
  temperatures: { name: string; celsius: number }[];
  networks: { name: string; up: boolean }[];
  ports: Port[];
  data_dir: string;
  configuration: string;
}

export interface Port {
  listener: string;
  protocol: string;
  kind: string;
  address: string;
  tls: boolean;
  /** Nobody but this machine reaches it. */
  loopback: boolean;
}

export interface Overview {
  clients_by_protocol: Record<string, number>;
  asleep: number;
  away: number;
  /** Not all sessions were looked at. */
  partial: boolean;
  rates: {
    received_per_second: number | null;
    sent_per_second: number | null;
    received_bytes_per_second: number | null;
    sent_bytes_per_second: number | null;
    dropped_per_second: number | null;
    store_bytes_per_second: number | null;
  };
}

export interface History {
  step_seconds: number;
  from: number;
  series: Record<string, (number | null)[]>;
}

export interface MetricFamily {
  name: string;
  help: string;
  kind: string;
  samples: { labels: Record<string, string>; value: number }[];
}

export interface SlowClient {
  client: string;
  seconds: number;
}

// Devices

export type ClientState = "connected" | "away" | "asleep" | "awake" | "opening" | "falling asleep" | "leaving";

export interface Client {
  client: string;
  user: string | null;
  state: ClientState;
  protocol: string;
  version: number | string;
  address: string;
  port: number;
  listener: string | null;
  connected_at: number | null;
  /** Since when it is away or asleep. */
  last_seen: number | null;
  keep_alive_seconds: number;
  clean_start: boolean;
  durable: boolean;
  subscriptions: number;
  queued: number;
  inflight: number;
}

export interface ClientDetails extends Client {
  expiry_seconds: number | null;
  ends_in_seconds: number | null;
  will_topic: string | null;
  queued_bytes: number;
  queued_on_disk: number;
  queued_on_disk_bytes: number;
  inflight_bytes: number;
  receive_maximum: number;
  awaiting_release: number;
  link: boolean;
  sessions: Client[];
}

export interface ClientQuery {
  search?: string;
  protocol?: string;
  listener?: string;
  address?: string;
  state?: string;
  after?: string;
  limit?: number;
}

export interface Subscription {
  filter: string;
  qos: number;
  no_local: boolean;
  retain_as_published: boolean;
  identifier: number | null;
}

export interface QueuedMessage {
  topic: string;
  qos: number;
  retain: boolean;
  bytes: number;
  priority: number;
  inflight: boolean;
  sent: boolean;
}

export interface QueuePage extends Page<QueuedMessage> {
  on_disk: number;
  on_disk_bytes: number;
}

export interface Lwm2mClient {
  endpoint: string;
  user: string | null;
  connected: boolean;
  listener: string;
  address: string;
  port: number;
  lifetime_seconds: number;
  version: string;
  binding: string;
  queue_mode: boolean;
  sms: string | null;
  alternate_path: string | null;
  objects: string[];
  observations: { paths: string[]; composite: boolean }[];
  firmware: unknown;
  ends_in_seconds: number | null;
  commands_waiting?: number;
  names?: Record<string, string>;
}

export interface Lwm2mObject {
  id: number;
  name: string;
  version: string | null;
  multiple: boolean;
  mandatory: boolean;
  resources: Lwm2mResource[];
}

export interface Lwm2mResource {
  id: number;
  name: string;
  /** `null` of one that is there to be executed. */
  type: string | null;
  read: boolean;
  write: boolean;
  execute: boolean;
  multiple: boolean;
  mandatory: boolean;
  units: string;
  range: string;
}

/** The last value of a resource, as it is retained. */
export interface Lwm2mValue {
  value: unknown;
  type?: string;
  unit?: string;
  name?: string;
  /** Milliseconds since 1970. */
  time?: number;
}

/** As it is on the bus. */
export interface Lwm2mOutcome {
  /** `null` if none came in time. */
  answer: {
    msgType: string;
    data: {
      reqPath: string;
      code: string;
      codeMsg?: string;
      reason?: string;
      location?: string;
      /** Values, or links as text. */
      content?: (string | { path: string; value: unknown; time?: number })[];
    };
  } | null;
}

// Messages

export interface RetainedRow {
  topic: string;
  qos: number;
  bytes: number;
  expires_in_seconds: number | null;
}

export interface RetainedMessage {
  topic: string;
  qos: number;
  payload: string | null;
  payload_base64: string;
  content_type: string | null;
  user_properties: [string, string][];
}

export interface TailMessage {
  topic: string;
  payload: string | null;
  payload_base64: string | null;
  qos: number;
  retain: boolean;
  bytes: number;
  cut: boolean;
  from: string | null;
  at: number;
}

export interface DelayedRow {
  topic: string;
  qos: number;
  bytes: number;
  due_at: number;
}

export interface SharedRow {
  group: string;
  filter: string;
  members: number;
}

export interface PublishRequest {
  topic: string;
  payload?: string;
  payload_base64?: string;
  qos?: number;
  retain?: boolean;
  expiry_seconds?: number;
  content_type?: string;
  response_topic?: string;
  user_properties?: [string, string][];
}

// Access

export interface User {
  name: string;
}

export interface Rule {
  rule: string;
  effect: "allow" | "deny";
  action: string;
  who: string;
  topics: string[] | null;
  qos: number[];
  retain: boolean | null;
}

export interface Banned {
  client?: string;
  user?: string;
  address?: string;
}

export interface Ban extends Banned {
  by: string;
  reason?: string;
  since: number;
  until?: number | null;
}

export interface ExplainRequest {
  client: string;
  user?: string;
  address?: string;
  listener?: string;
  publish?: string;
  subscribe?: string;
  qos?: number;
  retain?: boolean;
}

export interface Explained {
  client: string;
  user: string | null;
  said_user: string | null;
  not_let_in: string | null;
  address: string;
  listener: string | null;
  banned: Ban | null;
  client_is_known: boolean;
  user_is_known: boolean;
  topic: string;
  allowed: boolean;
  by: string;
  at: string | null;
  narrowed: boolean;
  sessions: number;
  first_sessions: string[];
  kept_from: number;
  shared_subscriptions: number;
  bridges: string[];
  retained: string[];
  more_retained: boolean;
}

// Bridges

export type BridgeState =
  | "connecting"
  | "connected"
  | "stalled"
  | "backing_off"
  | "waiting_for_time"
  | "paused"
  | "idle";

export interface Bridge {
  name: string;
  source: "configuration" | "added";
  state: BridgeState;
  state_seconds: number;
  paused: boolean;
  remote: string;
  way_out: string | null;
  addresses: string[];
  last_error: string | null;
  failures: Record<string, string>;
  next_try_seconds: number | null;
  last_acknowledged_seconds: number | null;
  queue: BridgeQueue;
  sent: number;
  sent_again: number;
  batches: number;
  acknowledged: number;
  received: number;
  bytes: number;
  dead_letters: Record<string, number>;
  dead_letter_list: { topic: string; payload_bytes: number; reason: string }[];
  dropped: Record<string, number>;
  dropped_topics: { topic: string; count: number }[];
  loops: number;
  duplicates: number;
  refused_subscriptions: string[];
}

export interface BridgeQueue {
  messages: number;
  messages_qos0: number;
  in_flight: number;
  bytes: number;
  max_messages: number;
  max_bytes: number;
  oldest_seconds: number | null;
  in_per_second: number | null;
  out_per_second: number | null;
  capacity_hours: number | null;
  drain_seconds: number | null;
}

export interface Finding {
  address: string;
  step: string;
  ok: boolean;
  detail: string;
  milliseconds: number;
}

export interface Renamed {
  topic: string;
  direction: "out" | "in";
  becomes: string | null;
  /** The place of the rule. */
  rule: number | null;
  /** Why the new name would be none. */
  fault: string | null;
}

// Listeners, lines, certificates

export interface Listener {
  name: string;
  protocol: string;
  kind: string;
  address: string;
  mount_point: string | null;
  connections: number | null;
  max_connections: number | null;
  opened: number | null;
  refused: Record<string, number>;
  running: boolean;
  tls: boolean;
  path: string | null;
}

export interface SerialLine {
  port: string;
  /** Other names of the same device. */
  also: string[];
  present: boolean;
  listener: string | null;
  settings: LineSettings | null;
  counters: Record<string, number>;
}

export interface LineSettings {
  baud: number;
  parity: string;
  data_bits: number;
  stop_bits: number;
  flow_control: string;
  rs485: unknown;
}

export interface Certificate {
  /** By which it is kept in the data folder. */
  name: string | null;
  listeners: string[];
  file: string;
  key_file: string | null;
  subject: string | null;
  issuer: string | null;
  names: string[];
  not_before: number | null;
  not_after: number | null;
  days_left: number | null;
  chain: string[];
  chain_fault: string | null;
  key_matches: boolean | null;
  fault: string | null;
}

export interface IssueRequest {
  holder: "gateway" | "device";
  /** By which it is kept, for the gateway. */
  name?: string;
  common_name: string;
  names: string[];
  days: number;
}

export interface Issued {
  /** PEM, with that of the CA behind it. */
  certificate: string;
  /** PEM, of a device: it is told this once. */
  key: string | null;
  /** What is kept, of the gateway. */
  kept: Certificate | null;
}

// Log, alarms, traces

export interface LogLine {
  timestamp: string;
  level: string;
  target: string;
  fields: Record<string, unknown>;
}

export interface LogLevel {
  level: string;
  configured: string;
  until: number | null;
  destinations: { name: string; lost: number; failing: string | null }[];
}

export type Severity = "warning" | "error" | "critical";

export interface Alarm {
  id: string;
  severity: Severity;
  summary: string;
  details: Record<string, unknown>;
  raised: number;
  cleared?: number | null;
}

export interface TraceWanted {
  name: string;
  client?: string;
  topic?: string;
  address?: string;
  seconds: number;
  max_bytes: number;
  payload?: number;
}

export interface Trace {
  name: string;
  file: string;
  running: boolean;
  bytes: number;
  until: number | null;
  lost: number;
  about: TraceWanted | null;
}

// Configuration and backups

export interface Told {
  line?: number | null;
  column?: number | null;
  key: string;
  message: string;
}

export interface Preview {
  changes: string[];
  warnings: Told[];
}

/** A configuration to be applied, and the one that it was made of. */
export interface Proposal {
  before: string;
  toml: string;
}

export interface Applied extends Preview {
  number: number | null;
  listeners: Record<string, string>;
  bridges: Record<string, string>;
  rules: boolean;
  confirm_until: number | null;
  replaced: string | null;
}

export interface ConfigurationEntry {
  number: number;
  at: number;
  by: string;
  changes: string[];
}

export interface ConfigurationHistory {
  configurations: ConfigurationEntry[];
  confirm_until: number | null;
}

/** A change of one setting: `null` takes it out. Entries of lists go by their names: `listeners[tcp].bind`. A section may be given as text. */
export type Edit = { path: string; value: unknown } | { path: string; toml: string };

export interface Backup {
  name: string;
  bytes: number;
  made_at: number;
  encrypted: boolean;
  /** The next start takes it. */
  waits: boolean;
}

// The system below the gateway

export type FirmwareState = "none" | "trial" | "good" | "bad";

/** A start of the machine, or of the gateway alone. */
export interface Start {
  at: number;
  what: string;
  why: string;
  version: string;
}

export type WanState = "unknown" | "works" | "recovers" | "fails";

/** A way out for bridges. */
export interface Wan {
  name: string;
  interface: string;
  active: boolean;
  state: WanState;
  state_seconds: number;
  round_trip_ms: number | null;
  last_error: string | null;
  trusted_in_seconds: number | null;
}

/** The signed file that was taken last, and whether one waits for the next start. */
export interface Provisioning {
  taken: { number: number; at: number } | null;
  waits: boolean;
  /** Names of this machine, by which a file can be for it alone. */
  devices: string[];
}

export interface Slot {
  name: string;
  boot_name: string;
  booted: boolean;
  first: boolean;
  good: boolean;
  version: string | null;
  installed: string | null;
}

export interface Firmware {
  available: boolean;
  why_not: string | null;
  has_factory_reset: boolean;
  compatible: string;
  slots: Slot[];
  state: FirmwareState;
  missing: string[];
  fell_back: { slot: string; version: string | null; missing: string[]; at: number } | null;
  installation: { bundle: string; began: number; percent: number; step: string; ended: boolean; error: string | null } | null;
  uploaded: { bytes: number; at: number } | null;
  commands: string | null;
}

export interface BundleInfo {
  compatible: string;
  version: string | null;
  description: string | null;
}
