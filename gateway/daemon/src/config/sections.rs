//! The sections that are settings and nothing else: log, store, `$SYS`, alarms, metrics.

use headgate_access::Network;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What goes to the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,headgate_shell=debug`. `headgate log modules` lists them.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Lines of one kind that are written within ten seconds, at `info` and above; what is more is counted and told by its number. 0 for no limit.
    pub max_repeats: u64,
    /// Whether lines go to standard error, where a service manager finds them.
    pub stderr: bool,
    /// A file for lines. Default: none.
    pub file: Option<LogFileSettings>,
    /// Whether lines go to the journal of systemd with their fields, in its own protocol. Set `stderr` to false then, or they are there twice.
    pub journald: bool,
    /// A syslog server for lines. Default: none.
    pub syslog: Option<SyslogSettings>,
    /// Lines that are kept in memory for `headgate log`, up to 100,000; 0 for none.
    pub ring: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::default(),
            max_repeats: 50,
            stderr: true,
            file: None,
            journald: false,
            syslog: None,
            ring: 500,
        }
    }
}

/// A file for the lines of the log, which is put aside when it is large enough: `gateway.log`, then `gateway.log.1` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFileSettings {
    /// The file; its folder is made.
    pub path: PathBuf,
    /// Bytes at which it is put aside, 4,096 or more. Default: 10 MiB.
    #[serde(default = "ten_mib")]
    pub max_bytes: u64,
    /// How many that were put aside are kept, up to 1,000. Default: 5.
    #[serde(default = "five")]
    pub keep: u32,
    /// Bytes of lines that may wait in memory, up to 16 MiB: flash memory bears few writes. They are written together when there are so many, when a line of level `error` comes, after
    /// `hold_for`, and when the gateway stops; a power cut loses them. `headgate log` shows them all the same. Default: 0, each line is written at once.
    #[serde(default)]
    pub hold_bytes: usize,
    /// How long a line may wait, 1 s or more. Default: 10 minutes.
    #[serde(default = "ten_minutes", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub hold_for: Duration,
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

fn ten_mib() -> u64 {
    10 << 20
}

fn five() -> u32 {
    5
}

/// A syslog server for the lines of the log. RFC 5424
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyslogSettings {
    /// `udp://HOST[:PORT]`, `tcp://HOST[:PORT]` (each message with its length in front) or `unix:PATH`, such as `unix:/dev/log`. The port is 514 if none is said.
    pub address: String,
    /// Under which heading the server files them. Default: `daemon`.
    #[serde(default)]
    pub facility: Facility,
}

/// A heading of syslog, by its number. RFC 5424 §6.2.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Facility {
    User = 1,
    #[default]
    Daemon = 3,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSettings {
    /// What an acknowledgement promises. It changes while clients are connected; between `memory` and the disk the store takes its time: `headgate status`.
    pub durability: Durability,
    /// Bytes that the store may have on the disk; what would need more is refused (0x97) until there is room again. 0 for no limit but the
    /// disk's own, else 1 MiB or more.
    pub max_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            max_bytes: 4 << 30,
        }
    }
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Durability {
    /// What was acknowledged survives a power cut.
    #[default]
    PowerLoss,
    /// What was acknowledged survives a crash of the gateway, not of the machine.
    ProcessCrash,
    /// Nothing is written; a restart begins empty.
    Memory,
}

/// What is told under `$SYS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SysSettings {
    /// How often the topics under `$SYS` are published, 1 s or more; `0s` for never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Whether `clients/{clientid}/connected` and `…/disconnected` are published.
    pub presence: bool,
    /// QoS of those, 0 to 2.
    pub presence_qos: u8,
    /// Whether mosquitto's tree `$SYS/broker/…` is published too.
    pub mosquitto: bool,
}

impl Default for SysSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            presence: true,
            presence_qos: 1,
            mosquitto: false,
        }
    }
}

/// From when on alarms are raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlarmSettings {
    /// How long a bridge may be without its remote before the alarm `bridge_down_{name}` is raised.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub bridge_down_after: Duration,
    /// Bytes that the disk with `data_dir` must have free, or the alarm `disk_low` is raised; 0 for never. Default: 5 % of the disk, at most 1 GiB.
    pub min_free_disk_bytes: Option<u64>,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self {
            bridge_down_after: Duration::from_secs(300),
            min_free_disk_bytes: None,
        }
    }
}

/// What is told over HTTP, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsSettings {
    /// Who may read `/metrics` beside this machine: addresses and networks, such as `["10.1.2.0/24"]`. Client ids, bridges and loads can be read there.
    pub addresses: Vec<Network>,
    /// Sessions with the longest queues that are told one by one, up to 1,000; all others are one sum.
    pub top_sessions: usize,
}

/// The web UI and the HTTP API, and other pages for browsers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Who gets the web UI and the HTTP API, and may try to log in.
    pub api: Audience,
    /// Whether listeners of HTTP without TLS may be reached from other machines: whoever is on the way reads passwords and sessions there.
    pub plain_beyond_loopback: bool,
    /// How long a session of an administrator may be idle, from 1 minute to 12 hours.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub session_idle: Duration,
    /// Who gets the demo page of STOMP at `/demo/`. It tells the ports and paths of the listeners that browsers can use.
    pub demo: Audience,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            api: Audience::All,
            plain_beyond_loopback: false,
            session_idle: Duration::from_secs(1_800),
            demo: Audience::Local,
        }
    }
}

/// Backups that are kept in the data folder: archives as those of `headgate export`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackupSettings {
    /// How many are kept, 1 to 1,000: of those that were made by hand or uploaded, beyond which one more is refused; and again of those that were made by
    /// `every`, of which the newest stay.
    pub keep: usize,
    /// How often one is made by itself, 1 minute or more; `0s` for never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// Those are encrypted by the passphrase in the first line of this file, 12 characters at least. Default: they are not encrypted.
    pub passphrase_file: Option<PathBuf>,
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self {
            keep: 5,
            every: Duration::ZERO,
            passphrase_file: None,
        }
    }
}

/// Updates of the system that the gateway runs on, where RAUC writes them: see docs/appliance.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FirmwareSettings {
    /// RAUC's program; empty: there are no updates. Default: `rauc` where there is a `system.conf` of RAUC.
    pub program: Option<String>,
    /// How long a system may take until it serves and, the first time, reaches all bridges that the one before reached; otherwise the machine falls back.
    /// 10 seconds or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub trial_time: Duration,
    /// The program that starts the machine anew, and its arguments.
    pub reboot: Vec<String>,
    /// The program that wipes all data and starts the machine anew as from the factory, and its arguments; empty: there is no factory reset.
    pub factory_reset: Vec<String>,
    /// Bytes that an uploaded bundle may have.
    pub max_bundle_bytes: u64,
    /// Public keys (Ed25519, PEM): a provisioning file that was signed by one of them is taken.
    pub provisioning_key: PathBuf,
    /// Commands about updates by messages on the bus.
    pub commands: UpdateCommands,
}

/// Commands about updates by messages on the bus: at `{topic}/request`, answered at `{topic}/reply`; `{topic}/progress` says how far an installation is. Who may
/// ask may install any signed bundle and start the machine anew: see docs/appliance.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpdateCommands {
    /// What the topics begin with, such as `headgate/{node}/update`; `{node}` is the name of the gateway. Empty: there are no commands by the bus.
    pub topic: String,
    /// User names whose clients may ask, besides that the rules must let them publish there. Anonymous clients never may. Default: nobody.
    pub users: Vec<String>,
    /// Names of bridges whose remote may ask: whoever may publish there at the topics that come in from it. Default: none.
    pub bridges: Vec<String>,
}

impl UpdateCommands {
    /// What the topics begin with; `None` if there are none.
    pub(crate) fn prefix(&self, node: &str) -> Option<String> {
        (!self.topic.is_empty()).then(|| self.topic.replace("{node}", node))
    }
}

impl Default for FirmwareSettings {
    fn default() -> Self {
        Self {
            program: None,
            trial_time: Duration::from_secs(600),
            reboot: vec!["systemctl".into(), "reboot".into()],
            factory_reset: Vec::new(),
            max_bundle_bytes: 1 << 30,
            commands: UpdateCommands::default(),
            provisioning_key: "/etc/headgate/provisioning.pem".into(),
        }
    }
}

/// What is done when no bridge is connected for long: all try at once, then a program resets what makes the connection, then the machine is started anew. Each
/// round has twice the patience of the one before, also over starts of the machine: see docs/appliance.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RecoverySettings {
    /// How long none may be connected before the first step, and between two steps: 10 seconds or more; `0s`: nothing is done.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub after: Duration,
    /// The program that resets a modem, for example, and its arguments; empty: there is no such step.
    pub reset: Vec<String>,
    /// Whether the machine is started anew, by `firmware.reboot`.
    pub reboot: bool,
    /// The most that `after` grows to: 1 hour or more where `reboot` is set.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub longest: Duration,
    /// Bridges of which one at least should be connected. Default: all that are not paused.
    pub uplinks: Vec<String>,
}

impl Default for RecoverySettings {
    fn default() -> Self {
        Self {
            after: Duration::ZERO,
            reset: Vec::new(),
            reboot: false,
            longest: Duration::from_secs(24 * 60 * 60),
            uplinks: Vec::new(),
        }
    }
}

/// Who gets an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Audience {
    /// This machine.
    #[default]
    Local,
    /// Everybody who reaches the listener.
    All,
    /// Nobody.
    Off,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            top_sessions: 20,
        }
    }
}
