//! The configuration: one typed TOML file, or the embedded defaults.
//!
//! Whatever is wrong is said at once, with file, line, key and what is allowed; nothing is guessed and no key is ignored. A value may also come from
//! the environment: `HEADGATE__MQTT__MAX_QOS=1` stands for `max_qos = 1` in `[mqtt]`.

mod addresses;
mod bridges;
mod changes;
mod checks;
mod document;
mod environment;
mod limits;
mod schema;
mod system;
mod told;
mod users;
mod words;

pub(crate) use changes::at_most;
pub(crate) use checks::level_fault;
pub(crate) use environment::all as environment_variables;
pub(crate) use limits::LimitSettings;
pub(crate) use schema::{choices, resolve};
pub(crate) use told::{Location, Told};
pub(crate) use words::explain_text;

use crate::bridges::{BridgeError, Checked};
use crate::protocols::{HTTP, with_protocols};
use document::{Document, Texts};
use headgate_access::Network;
use headgate_auth::AuthSettings;
use headgate_bridge::BridgeSettings;
use headgate_bus::BusSettings;
use headgate_model::{DatagramProtocol, Fault, StreamProtocol};
use headgate_shell::settings::DatagramSettings;
use headgate_shell::{ListenerKind, ListenerSettings, SettingsOf};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Declares the configuration: its own settings with their defaults, and those of the protocols between the first and the others.
macro_rules! configuration {
    ((
        { $($(#[$first_doc:meta])* $first:ident: $first_type:ty = $first_default:expr,)* }
        { $($(#[$other_doc:meta])* $other:ident: $other_type:ty = $other_default:expr,)* }
    )
        streams { $($(#[$about:meta])* $stream:ty => $section:ident,)* }
        datagrams { $($(#[$told:meta])* $datagram:ty => $list:ident,)* }
    ) => {
        /// The whole configuration.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Config {
            $($(#[$first_doc])* pub $first: $first_type,)*
            $($(#[$about])* pub $section: <$stream as StreamProtocol>::Settings,)*
            $($(#[$told])* pub $list: Vec<SettingsOf<$datagram>>,)*
            $($(#[$other_doc])* pub $other: $other_type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($first: $first_default,)*
                    $($section: Default::default(),)*
                    $($list: <$datagram as DatagramProtocol>::DEFAULT_BIND
                        .map(|bind| DatagramSettings::udp_at(<$datagram as DatagramProtocol>::NAME, bind))
                        .into_iter()
                        .collect(),)*
                    $($other: $other_default,)*
                }
            }
        }
    };
}

with_protocols!(configuration!(
    {
        /// Where the gateway keeps its data; relative to the folder it is started in.
        data_dir: PathBuf = "headgate-data".into(),
        /// The gateway's name in `$SYS/brokers/{node}/`, and by which other gateways know it. One with bridges needs one of its own.
        node: String = DEFAULT_NODE.into(),
        /// Connections open at a time on all listeners together; 0 for no limit.
        max_connections: usize = 0,
        /// What goes to the log.
        log: LogSettings = LogSettings::default(),
        /// Where clients connect. Default: MQTT on `127.0.0.1:1883`, MQTT over WebSocket on `127.0.0.1:8083`, HTTP on `127.0.0.1:18083`.
        listeners: Vec<ListenerSettings> = default_listeners(),
    }
    {
        /// Routing, sessions, queues and retained messages.
        bus: BusSettings = BusSettings::default(),
        /// Bridges to other brokers.
        bridges: Vec<BridgeSettings> = Vec::new(),
        /// What survives a restart.
        store: StoreSettings = StoreSettings::default(),
        /// Who may connect and what they may do.
        auth: AuthSettings = AuthSettings::default(),
        /// What all clients together may do, and all of one user.
        limits: LimitSettings = LimitSettings::default(),
        /// What is told under `$SYS`.
        sys: SysSettings = SysSettings::default(),
        /// From when on alarms are raised.
        alarms: AlarmSettings = AlarmSettings::default(),
        /// What is told over HTTP, and to whom: listeners with `protocol = "http"` answer `/metrics`, `/status`, `/health/live` and `/health/ready`.
        metrics: MetricsSettings = MetricsSettings::default(),
    }
));

fn default_listeners() -> Vec<ListenerSettings> {
    let listener = |name: &str, kind, bind: &str| ListenerSettings {
        name: name.into(),
        kind,
        bind: bind.into(),
        ..ListenerSettings::default()
    };
    vec![
        listener("tcp", ListenerKind::Tcp, "127.0.0.1:1883"),
        listener("ws", ListenerKind::Ws, "127.0.0.1:8083"),
        ListenerSettings {
            protocol: HTTP.into(),
            ..listener("http", ListenerKind::Tcp, "127.0.0.1:18083")
        },
    ]
}

/// What a section has that says only what it must.
pub(crate) fn defaults_of<T: Serialize + DeserializeOwned>(required: &[&str]) -> serde_json::Value {
    let required = required.iter().map(|key| ((*key).to_owned(), "".into()));
    let entry = serde_json::from_value::<T>(serde_json::Value::Object(required.collect()));
    let entry = entry.expect("these are the keys that it must say");
    serde_json::to_value(entry).expect("settings are plain data")
}

/// What goes to the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,headgate_mqtt=debug`.
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
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Bytes that the store may have on the disk; what would need more is refused (0x97) until there is room again. 0 for no limit but the
    /// disk's own.
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
    /// How often the topics under `$SYS` are published; `0s` for never.
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

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            top_sessions: 20,
        }
    }
}

/// A configuration that cannot be, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Settings that cannot be, and what else is to be told.
    #[error("{}", lines(.faults, .warnings))]
    Faults {
        /// All that is wrong.
        faults: Vec<Told>,
        /// What is probably not as it was meant.
        warnings: Vec<Told>,
    },
}

impl ConfigError {
    /// Faults and warnings, each by itself.
    pub(crate) fn told(self) -> (Vec<Told>, Vec<Told>) {
        match self {
            Self::Faults { faults, warnings } => (faults, warnings),
            Self::Read { path, cause } => {
                let place = Location::File {
                    path: Some(path),
                    line: None,
                    column: None,
                };
                let told = Told {
                    place,
                    key: String::new(),
                    message: cause.to_string(),
                };
                (vec![told], Vec::new())
            }
        }
    }

    fn with_warnings(self, more: Vec<Told>) -> Self {
        match self {
            Self::Faults { faults, mut warnings } => {
                warnings.extend(more);
                Self::Faults { faults, warnings }
            }
            other => other,
        }
    }
}

impl From<Vec<Told>> for ConfigError {
    fn from(faults: Vec<Told>) -> Self {
        Self::Faults {
            faults,
            warnings: Vec::new(),
        }
    }
}

/// A configuration that a gateway can be started with.
#[derive(Debug)]
pub(crate) struct Startable {
    /// What it says.
    pub config: Config,
    /// What is probably not as it was meant, but no reason not to start.
    pub warnings: Vec<Told>,
}

/// The name of a gateway that was given none.
pub(crate) const DEFAULT_NODE: &str = "headgate@127.0.0.1";

impl Config {
    /// Reads the file, or takes the defaults, and checks all values; `environment` overrides both.
    pub(crate) fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let texts = read(path, environment)?;
        let reading = Reading::of(&texts)?;
        reading.done().map(|(_, config)| config)
    }

    /// The same for a command that needs the settings `needed` alone, each with its section: what is wrong with others is told beside it.
    pub(crate) fn load_for(
        needed: &[&str],
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Told>), ConfigError> {
        let texts = read(path, environment)?;
        let mut reading = Reading::of(&texts)?;
        reading.told.sort_by_key(|told| told.place.line());
        let (faults, others): (Vec<Told>, Vec<Told>) = std::mem::take(&mut reading.told)
            .into_iter()
            .partition(|told| needed.iter().any(|needed| told.concerns(needed)));
        reading.told = faults;
        reading.done().map(|(_, config)| (config, others))
    }

    /// The same, and looks whether this system lets a gateway start with it: at files, folders and addresses. Changes nothing.
    pub(crate) fn load_to_start(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Startable, ConfigError> {
        let text = path.map_or_else(|| Ok(String::new()), text_of)?;
        Self::read_to_start(path, text, environment)
    }

    /// The same with this text, which stands in the file or is to.
    pub(crate) fn read_to_start(
        path: Option<&Path>,
        text: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Startable, ConfigError> {
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let names: Vec<String> = environment.iter().map(|(name, _)| name.clone()).collect();
        let warnings = environment::warnings(names.iter().map(String::as_str), &Self::top_level());
        let texts = Texts::new(path, text, environment);
        let read = Reading::of(&texts).and_then(|mut reading| {
            reading.tell(system::obstacles(&reading.config));
            reading.done()
        });
        let (document, config) = match read {
            Ok(read) => read,
            Err(error) => return Err(error.with_warnings(warnings)),
        };
        let found = checks::warnings(&config).into_iter();
        let found = found.map(|fault| document.locate(fault));
        let warnings = warnings.into_iter().chain(found).collect();
        Ok(Startable { config, warnings })
    }

    /// The keys and sections of the top level.
    fn top_level() -> Vec<String> {
        let shown = serde_json::to_value(Self::default()).unwrap_or_default();
        let keys = shown.as_object().into_iter().flatten();
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// Whether a section has this setting.
    pub(crate) fn has_setting(section: &str, key: &str) -> bool {
        let shown = serde_json::to_value(Self::default()).unwrap_or_default();
        shown[section].get(key).is_some()
    }

    /// Whether a section or list is as it is without a file.
    pub(crate) fn is_default(&self, section: &str) -> bool {
        let of = |config: &Self| serde_json::to_value(config).map(|shown| shown[section].clone());
        matches!((of(self), of(&Self::default())), (Ok(mine), Ok(default)) if mine == default)
    }

    /// The bridges, ready to be started.
    pub(crate) fn checked_bridges(&self) -> Result<Vec<Checked>, BridgeError> {
        let checked = |bridge: &BridgeSettings| {
            let checked = Checked::new(bridge, &self.node);
            checked.map_err(|fault| Fault::new("bridges", format!("`{}`: {fault}", bridge.name)).into())
        };
        self.bridges.iter().map(checked).collect()
    }

    /// The JSON schema of the file.
    pub(crate) fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// A configuration as far as it could be read, and what is wrong with it.
struct Reading<'t> {
    document: Document<'t>,
    config: Config,
    told: Vec<Told>,
    /// Keys that something was told of.
    keys: Vec<String>,
}

impl<'t> Reading<'t> {
    /// All faults of the values.
    fn of(texts: &'t Texts<'t>) -> Result<Self, ConfigError> {
        let parsed = Document::parse(texts);
        let (mut document, mut told) = parsed.map_err(|told| vec![told])?;
        let (config, wrong) = document.read::<Config>();
        told.extend(wrong);
        let Some(config) = config else {
            return Err(told.into());
        };
        let mut reading = Self {
            document,
            config,
            told,
            keys: Vec::new(),
        };
        reading.tell(checks::faults(&reading.config));
        Ok(reading)
    }

    /// Takes faults down, unless they follow from another.
    fn tell(&mut self, faults: Vec<Fault>) {
        let known = self.keys.clone();
        for fault in faults {
            // A cloud's preset says where it is.
            let preset = fault
                .key
                .strip_suffix(".addresses")
                .map(|bridge| format!("{bridge}.preset"));
            let without = [Some(fault.key.as_str()), preset.as_deref()]
                .into_iter()
                .flatten();
            let follows = without.into_iter().any(|key| self.document.is_left_out(key));
            if known.contains(&fault.key) || follows {
                continue;
            }
            self.keys.push(fault.key.clone());
            self.told.push(self.document.locate(fault));
        }
    }

    fn done(mut self) -> Result<(Document<'t>, Config), ConfigError> {
        if self.told.is_empty() {
            return Ok((self.document, self.config));
        }
        self.told.sort_by_key(|told| told.place.line());
        Err(self.told.into())
    }
}

/// The texts of a configuration.
fn read(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Texts<'_>, ConfigError> {
    let text = path.map_or_else(|| Ok(String::new()), text_of);
    Ok(Texts::new(path, text?, environment))
}

/// `FILE:LINE` of a setting; `None` where the file does not say it.
pub(crate) fn place_of(path: &Path, text: String, key: &str) -> Option<String> {
    let texts = Texts::new(Some(path), text, environment_variables());
    let (document, _) = Document::parse(&texts).ok()?;
    let Location::File {
        path: Some(path),
        line: Some(line),
        ..
    } = document.locate(Fault::new(key, "")).place
    else {
        return None;
    };
    Some(format!("{}:{line}", path.display()))
}

/// What stands in a file.
pub(crate) fn text_of(path: &Path) -> Result<String, ConfigError> {
    let bytes = std::fs::read(path).map_err(|cause| ConfigError::Read {
        path: path.to_owned(),
        cause,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let place = Location::File {
            path: Some(path.to_owned()),
            line: Some(1 + valid.iter().filter(|byte| **byte == b'\n').count()),
            column: Some(1 + String::from_utf8_lossy(line).chars().count()),
        };
        let message = "the text is not UTF-8: save the file in this encoding".to_owned();
        vec![Told {
            place,
            key: String::new(),
            message,
        }]
        .into()
    })
}

/// A line for each.
fn lines(faults: &[Told], warnings: &[Told]) -> String {
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    let lines: Vec<String> = faults.iter().map(ToString::to_string).chain(warnings).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        load_with(text, &[])
    }

    fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headgate.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(&path), environment).map_err(|error| {
            error
                .to_string()
                .replace(&format!("{}/", folder.path().display()), "")
        })
    }

    #[test]
    fn without_a_file_only_loopback_is_served() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(config, Config::default());
        assert!(
            config
                .listeners
                .iter()
                .all(|listener| listener.bind.starts_with("127.0.0.1:"))
        );
        let mqttsn = config.mqttsn.iter().map(|gateway| gateway.bind.as_deref());
        assert_eq!(mqttsn.collect::<Vec<_>>(), [Some("127.0.0.1:1884")]);
        assert_eq!(load("").unwrap(), config, "an empty file changes nothing");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
        let error = load("node = \"a\"\n\n[mqtt]\nmax_qso = 1\n").unwrap_err();
        assert!(
            error.starts_with("headgate.toml:4:1: mqtt.max_qso: unknown key `max_qso`"),
            "{error}"
        );
        assert!(error.ends_with("did you mean `max_qos`?"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place_and_what_is_allowed() {
        let error = load("[bus]\nwhen_full = \"drop_all\"\n").unwrap_err();
        assert!(
            error.starts_with("headgate.toml:2:13: bus.when_full: unknown variant `drop_all`"),
            "{error}"
        );
        assert!(error.contains("`drop_oldest`"), "{error}");
        let error = load("[mqtt]\nmax_qos = 3\n").unwrap_err();
        assert_eq!(
            error,
            "headgate.toml:2:1: mqtt.max_qos: 3 is out of range, allowed is 0 to 2"
        );
        let error =
            load("[[bus.rewrite]]\nsource = \"a/#/b\"\npattern = \"x\"\ntarget = \"y\"\n").unwrap_err();
        assert!(error.contains("rewrite.source"), "{error}");
    }

    /// `check --print` and the log may be seen by whoever must not know a password.
    #[test]
    fn a_password_is_never_shown() {
        let text = "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\n[mqttsn.gateway]\ndefault_password = \"dumb\"\n\
                    [mqttsn.gateway.qos_minus_one]\npassword = \"dumb\"\n\
                    [[mqttsn.gateway.credentials]]\nclient_id = \"c\"\nusername = \"u\"\npassword = \"dumb\"\n";
        let config = load(text).unwrap();
        let shown = [
            toml::to_string(&config).unwrap(),
            serde_json::to_string(&config).unwrap(),
            format!("{config:?}"),
        ];
        for shown in shown {
            assert!(!shown.contains("dumb") && shown.contains("(hidden)"), "{shown}");
        }
        // Nor where it is no text.
        let error = load(&text.replace("\"dumb\"", "271828")).unwrap_err();
        assert!(error.contains("a secret is a text, in quotes"), "{error}");
        assert!(!error.contains("271828"), "{error}");
        // And it stays what it is when something else comes from the environment.
        let config = load_with(text, &[("HEADGATE__NODE", "edge-7")]).unwrap();
        assert_eq!(config.mqttsn[0].gateway.credentials[0].password.reveal(), "dumb");
    }

    /// As in `listeners.access`.
    #[test]
    fn a_rule_is_for_a_network_or_one_address() {
        for (address, told) in [
            ("10.0.0.0/8", None),
            ("10.0.0.7", None),
            ("10.0.0", Some("`10.0.0` is no address")),
        ] {
            let rule =
                format!("[[auth.acl]]\neffect = \"deny\"\naddress = \"{address}\"\ntopics = [\"#\"]\n");
            let error = load(&rule).err();
            assert_eq!(error.is_some(), told.is_some(), "{error:?}");
            assert!(error.is_none_or(|error| told.is_some_and(|told| error.contains(told))));
        }
    }

    #[test]
    fn http_goes_over_plain_connections_and_has_no_topics() {
        let listener = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
        load(listener).unwrap();
        for (wrong, told) in [
            (
                "kind = \"ws\"",
                "headgate.toml:5:1: listeners.kind: `http`: HTTP is spoken plainly",
            ),
            (
                "mount_point = \"a/\"",
                "headgate.toml:5:1: listeners.mount_point: `http`: HTTP has no topics",
            ),
        ] {
            let error = load(&format!("{listener}{wrong}\n")).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn a_wrong_mqttsn_gateway_is_refused() {
        for (wrong, told) in [
            ("kind = \"udp\"", "`sn`: bind is missing"),
            ("kind = \"serial\"", "`sn`: serial is missing"),
            (
                "kind = \"serial\"\nserial = { port = \"/dev/ttyS1\", baud = 0 }",
                "serial.baud: `sn`: 0 is out of range",
            ),
            (
                "bind = \"0.0.0.0:1884\"\nserial = { port = \"/dev/ttyS1\" }",
                "serial is set, but kind is `udp`",
            ),
            (
                "kind = \"serial\"\nserial = { port = \"/dev/ttyS1\", parity = \"evn\" }",
                "did you mean `even`?",
            ),
            (
                "bind = \"0.0.0.0:1884\"\nmount_point = \"a/+\"",
                "mount_point: `sn`: `a/+`",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway = { max_registrations = 0 }",
                "gateway.max_registrations: `sn`: 0 is out of range, allowed is 1 to 65535",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway = { retrys = 1 }",
                "did you mean `retries`?",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway.qos_minus_one.enabled = true",
                "gateway.qos_minus_one.username: `sn`: without one it is an anonymous client",
            ),
        ] {
            let error = load(&format!("[[mqttsn]]\nname = \"sn\"\n{wrong}\n")).unwrap_err();
            assert!(error.contains("headgate.toml"), "{error}");
            assert!(error.contains(told), "{error}");
        }
        let sn = "[[mqttsn]]\nname = \"sn\"\nbind = \"0.0.0.0:0\"\n";
        let error = load(&format!("{sn}{sn}")).unwrap_err();
        assert!(error.ends_with("mqttsn.name: `sn` stands twice"), "{error}");
        assert_eq!(load("mqttsn = []").unwrap().mqttsn, []);
        // Whose QoS −1 is taken, as far as one can see.
        for right in [
            "bind = \"127.0.0.1:0\"\ngateway.qos_minus_one.enabled = true",
            "bind = \"0.0.0.0:0\"\ngateway.qos_minus_one = { enabled = true, username = \"u\" }",
            "bind = \"0.0.0.0:0\"\ngateway.qos_minus_one.enabled = true\n[auth]\nanonymous = \"everywhere\"",
        ] {
            load(&format!("[[mqttsn]]\nname = \"sn\"\n{right}\n")).unwrap();
        }
    }

    #[test]
    fn a_wrong_bridge_is_refused() {
        let bridge = "node = \"edge\"\n[[bridges]]\nname = \"up\"\n";
        for (wrong, told) in [
            (
                "",
                "headgate.toml:2:1: bridges.addresses: `up`: at least one is wanted",
            ),
            (
                "addresses = [\"broker\"]",
                "bridges.addresses: `up`: `broker`: a URL begins with",
            ),
            (
                "addresses = [\"mqtt://broker\"]\ntopics = [\"# sideways 1\"]",
                "sideways",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nkeep_alive = \"1s\"",
                "keep_alive: `up`: 1s is out of range, allowed is 5s to 65535s",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nproxi = \"http://x\"",
                "headgate.toml:5:1: bridges.proxi: unknown key `proxi`",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nlogin = { password = \"a\", password_file = \"b\" }",
                "bridges.login: `up`: one of password,",
            ),
        ] {
            let error = load(&format!("{bridge}{wrong}\n")).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let good = "[[bridges]]\nname = \"up\"\naddresses = [\"mqtt://broker\"]\n";
        let error = load(good).unwrap_err();
        assert!(error.contains("needs a name of its own"), "{error}");
        let error = load(&format!("node = \"edge\"\n{good}{good}")).unwrap_err();
        assert!(error.ends_with("bridges.name: `up` stands twice"), "{error}");
        assert!(load(&format!("node = \"edge\"\n{good}")).is_ok());
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = load_with(
            "[mqtt]\nmax_qos = 2\n",
            &[("HEADGATE__MQTT__MAX_QOS", "1"), ("HEADGATE__NODE", "edge-7")],
        );
        let config = config.unwrap();
        assert_eq!((config.mqtt.max_qos, config.node.as_str()), (1, "edge-7"));
        let error = load_with("", &[("HEADGATE__MQTT__MAX_QSO", "1")]).unwrap_err();
        assert!(
            error.contains("HEADGATE__MQTT__MAX_QSO") && error.contains("did you mean `max_qos`?"),
            "{error}"
        );
    }

    /// A listener speaks what is registered.
    #[test]
    fn a_protocol_that_nobody_speaks_is_told_with_those_that_are() {
        let listener = |protocol: &str| {
            load(&format!(
                "[[listeners]]\nname = \"x\"\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\n"
            ))
        };
        assert!(listener("mqtt").is_ok());
        let error = listener("stomp").unwrap_err();
        assert!(
            error.contains(":3:1: listeners.protocol: `x`: `stomp` is not spoken here, allowed is mqtt"),
            "{error}"
        );
    }

    /// One line for each setting, and of a secret only that it changed.
    #[test]
    fn what_changed_is_listed() {
        let sn = |name: &str, password: &str, more: &str| {
            format!(
                "[[mqttsn]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\ngateway.default_password = \"{password}\"\n\
                 gateway.credentials = [{{ client_id = \"c\", username = \"u\", password = \"{password}\" }}]\n{more}"
            )
        };
        let old = load(&format!("[mqtt]\nmax_qos = 2\n{}", sn("sn", "dumb", ""))).unwrap();
        let long = "long/".repeat(40);
        let rule = "[[auth.acl]]\neffect = \"allow\"\n";
        let text = format!(
            "node = \"edge\"\n[mqtt]\nmax_qos = 1\nresponse_information = \"{long}\"\n{}{rule}",
            sn("sn", "silly", "")
        );
        let changes = old.changes(&load(&text).unwrap());
        for change in [
            "mqtt.max_qos: 2 → 1",
            "node: \"headgate@127.0.0.1\" → \"edge\"",
            "mqttsn[0].gateway.default_password: changed (hidden)",
            "mqttsn[0].gateway.credentials[0].password: changed (hidden)",
        ] {
            assert!(changes.contains(&change.to_owned()), "{change}: {changes:#?}");
        }
        let told = changes.join("\n");
        assert!(told.contains("auth.acl"), "{told}");
        assert_eq!(
            old.needs_restart(&load(&text).unwrap()),
            ["node: \"headgate@127.0.0.1\" → \"edge\""]
        );
        assert!(!told.contains("dumb") && !told.contains("silly"), "{told}");
        assert!(
            told.contains("mqtt.response_information: \"\" → \"long/")
                && told.contains("… and ")
                && changes.iter().all(|change| change.len() < 200),
            "{told}"
        );
        assert!(old.changes(&old).is_empty());
        // An entry that came or went is told by its name.
        let two = load(&format!("{}{}", sn("sn", "dumb", ""), sn("new", "dumb", ""))).unwrap();
        assert_eq!(old.changes(&two), ["mqttsn: an entry is new: new"]);
        assert_eq!(two.changes(&old), ["mqttsn: an entry is gone: new"]);
        let many: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        assert_eq!(at_most(&many).last().unwrap(), "and 5 more settings");
        assert_eq!(at_most(&many[..20]).len(), 20);
    }

    /// Faults of the types in all sections, and of the values in what is left: each once, at its line, and nothing that only follows from another.
    #[test]
    fn all_faults_are_told_at_once() {
        let text = "node = 5\n\
             [log]\nlevel = \"inof\"\nformat = \"xml\"\n\
             [mqtt]\nmax_qso = 1\nmax_packet_size = 1\nconnect_timeout = \"0s\"\nmax_connect_size = \"big\"\n\
             [[listeners]]\nname = \"a\"\nbind = \"127.0.0.1:1883\"\n\
             [[listeners]]\nname = \"gone\"\n\
             [[listeners]]\nname = \"b\"\nbind = \"0.0.0.0:1883\"\nhandshake_timeout = \"0s\"\nmount_point = \"a/+\"\n\
             [[listeners]]\nname = \"c\"\nkind = \"tls\"\nbind = \"127.0.0.1:8883\"\ntls = { certificat = \"c.pem\", key = \"k.pem\" }\n";
        let error = load(text).unwrap_err();
        let told: Vec<&str> = error.lines().collect();
        let expected = [
            ":1:8: node: invalid type: integer `5`, expected a string",
            ":3:1: log.level: `inof`: allowed is",
            ":4:10: log.format: unknown variant `xml`",
            ":6:1: mqtt.max_qso: unknown key `max_qso`",
            ":7:1: mqtt.max_packet_size: 1 is out of range, allowed is 64 and more",
            ":8:1: mqtt.connect_timeout: 0s is out of range, allowed is 1ms and more",
            ":9:20: mqtt.max_connect_size: invalid type: string \"big\", allowed is a number from 0 to 4294967295",
            ":13:1: listeners: `gone`: missing key `bind`",
            ":17:1: listeners.bind: `b` wants 0.0.0.0:1883, which `a` has with 127.0.0.1:1883",
            ":18:1: listeners.handshake_timeout: `b`: 0s is out of range",
            ":19:1: listeners.mount_point: `b`: `a/+`",
            ":24:9: listeners.tls.certificat: unknown key `certificat`",
            ":24:7: listeners.tls: `c`: missing key `certificate`",
        ];
        for expected in expected {
            let line = format!("headgate.toml{expected}");
            assert!(
                told.iter().any(|told| told.starts_with(&line)),
                "{expected}\n{error}"
            );
        }
        assert_eq!(told.len(), expected.len(), "{error}");
        load("[log]\nlevel = \"info,headgate_mqtt=debug\"\n").unwrap();
    }

    #[test]
    fn all_faults_of_lists_and_bridges_are_told_at_once() {
        let text = "[bus]\nmax_inflight = 0\n\
             rewrite = [\n{ source = \"a\", pattern = \"(\", target = \"b\" },\n{ source = \"a/#/b\", pattern = \"x\", target = \"b\" },\n]\n\
             [bus.links]\nmax_hops = 0\n\
             [auth.passwords]\nat_once = 0\nmax_waiting = 0\n\
             [[auth.acl]]\neffect = \"allow\"\ntopics = [\"a\",\n\"b+\",\n\"#/c\"]\n\
             [[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:1884\"\n\
             [mqttsn.gateway]\nmax_handshakes = 0\nretry_interval = \"0s\"\npredefined = [\n{ id = 0, topic = \"a\" },\n{ id = 1, topic = \"a/#\" },\n]\n\
             [[mqttsn]]\nname = \"again\"\nbind = \"0.0.0.0:1884\"\n\
             [[bridges]]\nname = \"up\"\naddresses = [\"mqtt://a\",\n\"broker\",\n\"ftp://b\"]\nkeep_alive = \"1s\"\nmax_qos = 3\n\
             topics = [\"a out 1\",\n\"b/#/c out 1\",\n{ filter = \"c\", throttle = { per_minute = 0 } }]\n\
             login = { password = \"x\", password_file = \"y\" }\n";
        let error = load(text).unwrap_err();
        let told: Vec<&str> = error.lines().collect();
        let expected = [
            ": node: it is still `headgate@127.0.0.1`",
            ":2:1: bus.max_inflight: 0 is out of range",
            ":4:17: bus.rewrite.pattern: `(` is not a regular expression",
            ":5:3: bus.rewrite.source: `a/#/b` is not a topic filter",
            ":8:1: bus.links.max_hops: 0",
            ":10:1: auth.passwords.at_once: 0 is out of range, allowed is 1 to 64",
            ":11:1: auth.passwords.max_waiting: 0",
            ":15:1: auth.acl.topics: `b+` is not",
            ":16:1: auth.acl.topics: `#/c` is not",
            ":21:1: mqttsn.gateway.max_handshakes: `sn`: 0",
            ":22:1: mqttsn.gateway.retry_interval: `sn`: 0s is out of range, allowed is 1ms and more",
            ":24:3: mqttsn.gateway.predefined.id: `sn`: 0 is reserved",
            ":25:11: mqttsn.gateway.predefined.topic: `sn`: `a/#` is not",
            ":29:1: mqttsn.bind: `again` wants 0.0.0.0:1884, which `sn` has with 127.0.0.1:1884",
            ":33:1: bridges.addresses: `up`: `broker`",
            ":34:1: bridges.addresses: `up`: `ftp://b`",
            ":35:1: bridges.keep_alive: `up`: 1s",
            ":36:1: bridges.max_qos: `up`: 3",
            ":38:1: bridges.topics: `up`: `b/#/c`",
            ":39:1: bridges.topics: `up`: throttle",
            ":40:1: bridges.login: `up`: one of",
        ];
        for expected in expected {
            let line = format!("headgate.toml{expected}");
            assert!(
                told.iter().any(|told| told.starts_with(&line)),
                "{expected}\n{error}"
            );
        }
    }

    #[test]
    fn a_fault_of_a_variable_is_told_with_its_name() {
        let variables = [
            ("HEADGATE__MQTT__MAX_QOS", "3"),
            ("HEADGATE__MQTT__RECEIVE_MAXIMUM", "many"),
            ("HEADGATE__NODE__X", "1"),
            ("HEADGATE__BUS__LINKS__MAX_HOPS", "0"),
            (
                "HEADGATE__LISTENERS",
                "[{ name = \"a\", bind = \"x\" }, { name = 5 }]",
            ),
        ];
        let error = load_with("node = \"a\"\n[bus.links]\nmax_hops = 1\n", &variables).unwrap_err();
        let told: Vec<&str> = error.lines().collect();
        let expected = [
            "HEADGATE__MQTT__MAX_QOS: mqtt.max_qos: 3 is out of range",
            "HEADGATE__MQTT__RECEIVE_MAXIMUM: mqtt.receive_maximum: invalid type",
            "HEADGATE__NODE__X: `node` is not a section",
            "HEADGATE__BUS__LINKS__MAX_HOPS: bus.links.max_hops: 0 is out of range",
            "HEADGATE__LISTENERS: listeners.bind: `a`: `x` is no address",
            "HEADGATE__LISTENERS: listeners.name: invalid type",
        ];
        for expected in expected {
            let line = format!("environment variable {expected}");
            assert!(
                told.iter().any(|told| told.starts_with(&line)),
                "{expected}\n{error}"
            );
        }
    }

    /// A limit of 0 is no limit, or is refused: it never means that nothing passes.
    #[test]
    fn zero_is_no_limit_or_is_refused() {
        let listener = "[[listeners]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n";
        let sn = "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\n";
        for good in [
            format!("max_connections = 0\n{listener}max_connections = 0\nmax_connections_per_ip = 0\nmax_connect_rate = 0\nbacklog = 0\n"),
            format!("{listener}kind = \"ws\"\nwebsocket = {{ max_message_bytes = 0 }}\n"),
            "[mqtt]\nmax_client_id_bytes = 0\nmax_topic_bytes = 0\nmax_topic_levels = 0\nmax_keep_alive = \"0s\"\n".into(),
            format!("{sn}receive_buffer_bytes = 0\ngateway = {{ max_clients = 0, max_remembered_bytes = 0, qos_minus_one.rate = 0 }}\n"),
            "[log]\nmax_repeats = 0\n[store]\nmax_bytes = 0\n[sys]\ninterval = \"0s\"\n[auth.passwords]\nremember = \"0s\"\n".into(),
        ] {
            load(&good).unwrap();
        }
        for (wrong, key) in [
            (format!("{listener}connect_burst = 0\n"), "listeners.connect_burst"),
            (format!("{listener}proxy_timeout = \"0s\"\n"), "listeners.proxy_timeout"),
            (
                format!("{listener}kind = \"ws\"\nwebsocket = {{ max_header_bytes = 0 }}\n"),
                "listeners.websocket.max_header_bytes",
            ),
            ("[mqtt]\nmax_connect_size = 0\n".into(), "mqtt.max_connect_size"),
            ("[mqtt]\nreceive_maximum = 0\n".into(), "mqtt.receive_maximum"),
            // In whole seconds it would be 0, which is no limit.
            ("[mqtt]\nmax_keep_alive = \"500ms\"\n".into(), "mqtt.max_keep_alive"),
            (format!("{sn}gateway = {{ max_silence = \"0s\" }}\n"), "mqttsn.gateway.max_silence"),
            (format!("{sn}gateway = {{ connect_timeout = \"0s\" }}\n"), "mqttsn.gateway.connect_timeout"),
            (format!("{sn}gateway = {{ qos_minus_one.burst = 0 }}\n"), "mqttsn.gateway.qos_minus_one.burst"),
            (
                "[[mqttsn]]\nname = \"sn\"\nkind = \"serial\"\nserial = { port = \"/dev/x\", frame_timeout = \"0s\" }\n".into(),
                "mqttsn.serial.frame_timeout",
            ),
        ] {
            let error = load(&wrong).unwrap_err();
            assert!(error.contains(&format!("{key}: ")) && error.contains("out of range, allowed is"), "{error}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(load(&text).unwrap(), Config::default());
    }
}
