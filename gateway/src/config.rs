//! The configuration: one typed TOML file, or the embedded defaults.
//!
//! Whatever is wrong is said with file, line, key and what is allowed; nothing is guessed and no key is ignored. A value may also come from
//! the environment: `HEADGATE__MQTT__MAX_QOS=1` stands for `max_qos = 1` in `[mqtt]`.

use crate::bridges::Checked;
use crate::mqttsn::MqttSnSettings;
use headgate_auth::AuthSettings;
use headgate_bridge::BridgeSettings;
use headgate_bus::BusSettings;
use headgate_mqtt::MqttSettings;
use headgate_shell::tls::ServerTls;
use headgate_shell::{ListenerKind, ListenerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway keeps its data; relative to the folder it is started in.
    pub data_dir: PathBuf,
    /// The gateway's name in `$SYS/brokers/{node}/`, and by which other gateways know it. One with bridges needs one of its own.
    pub node: String,
    /// Connections open at a time on all listeners together; 0 for no limit.
    pub max_connections: usize,
    /// What goes to the log.
    pub log: LogSettings,
    /// Where clients connect. Default: MQTT on `127.0.0.1:1883` and MQTT over WebSocket on `127.0.0.1:8083`.
    pub listeners: Vec<ListenerSettings>,
    /// MQTT clients.
    pub mqtt: MqttSettings,
    /// MQTT-SN gateways. Default: one for UDP on `127.0.0.1:1884`.
    pub mqttsn: Vec<MqttSnSettings>,
    /// Routing, sessions, queues and retained messages.
    pub bus: BusSettings,
    /// Bridges to other brokers.
    pub bridges: Vec<BridgeSettings>,
    /// What survives a restart.
    pub store: StoreSettings,
    /// Who may connect and what they may do.
    pub auth: AuthSettings,
    /// What is told under `$SYS`.
    pub sys: SysSettings,
}

impl Default for Config {
    fn default() -> Self {
        let listener = |name: &str, kind, bind: &str| ListenerSettings {
            name: name.into(),
            kind,
            bind: bind.into(),
            ..ListenerSettings::default()
        };
        Self {
            data_dir: "headgate-data".into(),
            node: DEFAULT_NODE.into(),
            max_connections: 0,
            log: LogSettings::default(),
            listeners: vec![
                listener("tcp", ListenerKind::Tcp, "127.0.0.1:1883"),
                listener("ws", ListenerKind::Ws, "127.0.0.1:8083"),
            ],
            mqtt: MqttSettings::default(),
            mqttsn: vec![MqttSnSettings::default()],
            bridges: Vec::new(),
            bus: BusSettings::default(),
            store: StoreSettings::default(),
            auth: AuthSettings::default(),
            sys: SysSettings::default(),
        }
    }
}

/// What goes to the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,headgate_mqtt=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Lines of one kind that are written within ten seconds, at `info` and above; what is more is counted and told by its number. 0 for no limit.
    pub max_repeats: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::default(),
            max_repeats: 50,
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
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
pub enum Durability {
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
pub struct SysSettings {
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

/// A configuration that cannot be, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// A variable of the environment is wrong.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// Its name.
        name: String,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// Settings that are well-formed and cannot be.
    #[error("{}", each(path, faults))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong: key, fault and what is allowed.
        faults: Vec<String>,
    },
}

/// The name of a gateway that was given none.
pub const DEFAULT_NODE: &str = "headgate@127.0.0.1";

const ENV_PREFIX: &str = "HEADGATE__";

impl Config {
    /// Reads and checks the file, or takes the defaults; `environment` overrides both.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let shown = path.unwrap_or(Path::new("(defaults)"));
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
                path: path.to_owned(),
                cause,
            })?,
            None => String::new(),
        };
        // First as it stands, so that errors know their line; then with the environment's values.
        let mut config: Self = toml::from_str(&text).map_err(|error| explain(shown, &text, &error))?;
        let mut whole: toml::Table = text.parse().map_err(|error| explain(shown, &text, &error))?;
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                config = Self::with(&mut whole, &name, path, &value)?;
            }
        }
        let faults = config.check();
        if faults.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::Invalid {
            path: shown.to_owned(),
            faults,
        })
    }

    /// The configuration with one value from the environment, which is put into `whole` too.
    fn with(whole: &mut toml::Table, name: &str, path: &str, value: &str) -> Result<Self, ConfigError> {
        let wrong = |message: String| ConfigError::Environment {
            name: name.to_owned(),
            message,
        };
        let path = path.to_lowercase();
        let keys: Vec<&str> = path.split("__").collect();
        let (last, parents) = keys.split_last().expect("split gives at least one");
        let mut table = &mut *whole;
        for key in parents {
            table = table
                .entry(*key)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| wrong(format!("`{key}` is not a section")))?;
        }
        // As TOML if it is TOML (numbers, booleans, lists), else as text.
        let parsed = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut t| t.remove("value"));
        table.insert(
            (*last).to_owned(),
            parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())),
        );
        let whole = whole.clone();
        whole
            .try_into()
            .map_err(|error: toml::de::Error| wrong(suggest(error.message())))
    }

    /// What the types cannot say: every fault, each with its key.
    fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut note = |fault: Result<(), String>| faults.extend(fault.err());
        note(check_level(&self.log.level));
        if self.node.is_empty() || self.node.contains(['/', '+', '#']) {
            note(Err(format!(
                "node: `{}` must not be empty nor hold `/`, `+` or `#`",
                self.node
            )));
        }
        if self.mqtt.max_qos > 2 {
            note(Err(format!(
                "mqtt.max_qos: {} is out of range, allowed is 0 to 2",
                self.mqtt.max_qos
            )));
        }
        if self.mqtt.receive_maximum == 0 {
            note(Err(
                "mqtt.receive_maximum: 0 is out of range, allowed is 1 to 65535".into(),
            ));
        }
        if self.mqtt.max_packet_size < 64 {
            note(Err(format!(
                "mqtt.max_packet_size: {} is out of range, allowed is 64 and more",
                self.mqtt.max_packet_size
            )));
        }
        if self.sys.presence_qos > 2 {
            note(Err(format!(
                "sys.presence_qos: {} is out of range, allowed is 0 to 2",
                self.sys.presence_qos
            )));
        }
        let bus = headgate_bus::Bus::new(self.bus.clone(), headgate_model::WallTime(0), 0);
        note(bus.map(drop).map_err(|error| format!("bus.{error}")));
        note(headgate_auth::Access::check(&self.auth).map_err(|error| format!("auth.{error}")));
        for (n, listener) in self.listeners.iter().enumerate() {
            note(self.check_listener(n, listener));
        }
        for (n, gateway) in self.mqttsn.iter().enumerate() {
            note(gateway.check().map_err(|error| format!("mqttsn.{error}")));
            let anonymous = gateway.check_anonymous(self.auth.anonymous);
            note(anonymous.map_err(|error| format!("mqttsn.{error}")));
            if self.mqttsn[..n].iter().any(|other| other.name == gateway.name) {
                note(Err(format!("mqttsn.name: `{}` stands twice", gateway.name)));
            }
        }
        note(self.checked_bridges().map(drop));
        faults
    }

    fn check_listener(&self, n: usize, listener: &ListenerSettings) -> Result<(), String> {
        listener.check().map_err(|error| format!("listeners: {error}"))?;
        if let Some(tls) = &listener.tls {
            ServerTls::load(&listener.name, tls.clone())
                .map_err(|error| format!("listeners.tls: `{}`: {error}", listener.name))?;
        }
        if let Some(mount) = &listener.mount_point {
            headgate_model::MountPoint::parse(mount)
                .map_err(|error| format!("listeners.mount_point: `{mount}`: {error}"))?;
        }
        let before = &self.listeners[..n];
        if before.iter().any(|other| other.name == listener.name) {
            return Err(format!("listeners.name: `{}` stands twice", listener.name));
        }
        // With port 0 each gets a port of its own.
        let same = before
            .iter()
            .find(|other| other.bind == listener.bind && !listener.bind.ends_with(":0"));
        same.map_or(Ok(()), |other| {
            Err(format!(
                "listeners.bind: `{}` and `{}` both listen on {}",
                other.name, listener.name, listener.bind
            ))
        })
    }

    /// The bridges, ready to be started. The error names the key.
    pub fn checked_bridges(&self) -> Result<Vec<Checked>, String> {
        for (n, bridge) in self.bridges.iter().enumerate() {
            if self.bridges[..n].iter().any(|other| other.name == bridge.name) {
                return Err(format!("bridges.name: `{}` stands twice", bridge.name));
            }
        }
        let checked = |bridge: &BridgeSettings| {
            Checked::new(bridge, &self.node).map_err(|error| format!("bridges: `{}`: {error}", bridge.name))
        };
        self.bridges.iter().map(checked).collect()
    }

    /// What is another in `new`, the bridges left out: `key: old → new`, as `check --print` shows it, so without secrets.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let shown = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let mut changes = Vec::new();
        compare("", &shown(self), &shown(new), &mut changes);
        changes.retain(|change| !change.starts_with("bridges"));
        changes
    }

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// Adds a line for each value that differs.
fn compare(path: &str, old: &serde_json::Value, new: &serde_json::Value, changes: &mut Vec<String>) {
    use serde_json::Value::{Null, Object};
    match (old, new) {
        _ if old == new => {}
        (Object(before), Object(after)) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                let value = |table: &serde_json::Map<_, _>| table.get(key).cloned().unwrap_or(Null);
                compare(&path, &value(before), &value(after), changes);
            }
        }
        _ => changes.push(format!("{path}: {old} → {new}")),
    }
}

/// A line for each fault.
fn each(path: &Path, faults: &[String]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}: {fault}", path.display()))
        .collect();
    lines.join("\n")
}

/// A word that is no level would be taken for the name of a module, and silence all others.
fn check_level(text: &str) -> Result<(), String> {
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| level.eq_ignore_ascii_case(word.trim()))
    };
    let wrong = text.split(',').find(|part| {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        !is_level(level)
    });
    wrong.map_or(Ok(()), |wrong| {
        Err(format!(
            "log.level: `{wrong}`: allowed is off, error, warn, info, debug or trace, also by module: info,headgate_mqtt=debug"
        ))
    })
}

/// A parser's error without a file: line, column, what, and what was probably meant.
pub fn explain_text(text: &str, error: &toml::de::Error) -> String {
    let (line, column) = place(text, error);
    format!("{line}:{column}: {}", suggest(error.message()))
}

/// Line and column of an error, from 1.
fn place(text: &str, error: &toml::de::Error) -> (usize, usize) {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or("").chars().count();
    (line, column)
}

/// A parser's error as an operator wants it: where, what, and what was probably meant.
fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let (line, column) = place(text, error);
    ConfigError::Parse {
        path: path.to_owned(),
        line,
        column,
        message: suggest(error.message()),
    }
}

/// Adds the nearest allowed word to "unknown field `x`, expected one of `a`, `b`".
fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some(wrong) = quoted.next().filter(|_| unknown) else {
        return message.to_owned();
    };
    let message = message.replacen("unknown field", "unknown key", 1);
    let nearest = quoted
        .map(|word| (strsim::damerau_levenshtein(wrong, word), word))
        .min();
    match nearest {
        Some((distance, word)) if distance <= 1 + wrong.len() / 3 => {
            format!("{message}; did you mean `{word}`?")
        }
        _ => message,
    }
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
            error.starts_with("headgate.toml:4:1: unknown key `max_qso`"),
            "{error}"
        );
        assert!(error.ends_with("did you mean `max_qos`?"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place_and_what_is_allowed() {
        let error = load("[bus]\nwhen_full = \"drop_all\"\n").unwrap_err();
        assert!(
            error.starts_with("headgate.toml:2:13: unknown variant `drop_all`"),
            "{error}"
        );
        assert!(error.contains("`drop_oldest`"), "{error}");
        let error = load("[mqtt]\nmax_qos = 3\n").unwrap_err();
        assert_eq!(
            error,
            "headgate.toml: mqtt.max_qos: 3 is out of range, allowed is 0 to 2"
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
    fn a_wrong_mqttsn_gateway_is_refused() {
        for (wrong, told) in [
            ("kind = \"udp\"", "`sn`: bind is missing"),
            ("kind = \"serial\"", "`sn`: serial is missing"),
            (
                "kind = \"serial\"\nserial = { port = \"/dev/ttyS1\", baud = 0 }",
                "serial.baud: 0 is out of range",
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
                "mount_point: `a/+`",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway = { max_registrations = 0 }",
                "gateway.max_registrations: 0 is out of range, allowed is 1 to 65535",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway = { retrys = 1 }",
                "did you mean `retries`?",
            ),
            (
                "bind = \"0.0.0.0:1884\"\ngateway.qos_minus_one.enabled = true",
                "gateway.qos_minus_one.username: without one it is an anonymous client",
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
            ("", "bridges: `up`: addresses: at least one is wanted"),
            (
                "addresses = [\"broker\"]",
                "addresses: `broker`: a URL begins with",
            ),
            (
                "addresses = [\"mqtt://broker\"]\ntopics = [\"# sideways 1\"]",
                "sideways",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nkeep_alive = \"1s\"",
                "keep_alive: 1s is out of range, allowed is 5s to 65535s",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nproxi = \"http://x\"",
                "headgate.toml:5:1: unknown key `proxi`",
            ),
            (
                "addresses = [\"mqtt://broker\"]\nlogin = { password = \"a\", password_file = \"b\" }",
                "login: one of password,",
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

    #[test]
    fn what_changed_and_needs_a_restart_is_listed() {
        let old = load("[mqtt]\nmax_qos = 2\n").unwrap();
        let new = load("node = \"edge\"\n[mqtt]\nmax_qos = 1\n").unwrap();
        let mut changes = old.changes(&new);
        changes.sort();
        assert_eq!(
            changes,
            ["mqtt.max_qos: 2 → 1", "node: \"headgate@127.0.0.1\" → \"edge\""]
        );
        assert!(old.changes(&old).is_empty());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let error = load(
            "[log]\nlevel = \"inof\"\n[mqtt]\nmax_qos = 3\n\
             [[listeners]]\nname = \"a\"\nbind = \"127.0.0.1:1883\"\n\
             [[listeners]]\nname = \"b\"\nbind = \"127.0.0.1:1883\"\n\
             [[listeners]]\nname = \"c\"\nkind = \"tls\"\nbind = \"127.0.0.1:8883\"\n\
             tls = { certificate = \"/nowhere/c.pem\", key = \"/nowhere/k.pem\" }\n",
        );
        let error = error.unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 4, "{error}");
        for (line, told) in lines.iter().zip([
            "log.level: `inof`",
            "mqtt.max_qos: 3",
            "listeners.bind: `a` and `b` both listen on 127.0.0.1:1883",
            "listeners.tls: `c`: /nowhere/c.pem",
        ]) {
            assert!(
                line.starts_with("headgate.toml: ") && line.contains(told),
                "{line}"
            );
        }
        load("[log]\nlevel = \"info,headgate_mqtt=debug\"\n").unwrap();
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(load(&text).unwrap(), Config::default());
    }
}
