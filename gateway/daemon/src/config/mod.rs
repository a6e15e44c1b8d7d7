//! The configuration: one typed TOML file, or the embedded defaults.
//!
//! Whatever is wrong is said at once, with file, line, key and what is allowed; nothing is guessed and no key is ignored. A value may also come from
//! the environment: `HEADGATE__MQTT__MAX_QOS=1` stands for `max_qos = 1` in `[mqtt]`.

mod addresses;
mod bridges;
mod changes;
mod checks;
mod document;
mod edit;
mod elsewhere;
mod environment;
mod limits;
mod schema;
mod sections;
mod system;
mod telemetry;
mod told;
mod users;
mod words;

pub(crate) use changes::at_most;
pub(crate) use checks::level_fault;
pub(crate) use edit::{Edit, EditError, edited, entry_text};
pub(crate) use environment::all as environment_variables;
pub(crate) use limits::LimitSettings;
pub(crate) use schema::{choices, resolve};
#[cfg(test)]
pub(crate) use sections::Facility;
pub(crate) use sections::{
    AlarmSettings, Audience, BackupSettings, Durability, FirmwareSettings, HttpSettings, LogFileSettings,
    LogFormat, LogSettings, MetricsSettings, RecoverySettings, StoreSettings, SysSettings, SyslogSettings,
    UpdateCommands,
};
pub(crate) use telemetry::{OtlpEndpoint, TelemetrySettings};
pub(crate) use told::{Location, Told};
pub(crate) use words::explain_text;

use crate::bridges::{BridgeError, Checked};
use crate::owner::stranger_of;
use crate::private;
use crate::protocols::{HTTP, STOMP, with_protocols};
use crate::wans::WanSettings;
use crate::whereabouts;
use document::{Document, Texts};
use headgate_auth::AuthSettings;
use headgate_bridge::BridgeSettings;
use headgate_bus::BusSettings;
use headgate_model::{DatagramProtocol, Fault, StreamProtocol};
use headgate_shell::settings::{DatagramSettings, SockJsSettings};
use headgate_shell::{ListenerKind, ListenerSettings, SettingsOf};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
            /// Where the data should be, as it was written, if they are elsewhere now: then that is `data_dir`.
            #[serde(skip)]
            pub moves_to: Option<PathBuf>,
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
                    moves_to: None,
                }
            }
        }
    };
}

with_protocols!(configuration!(
    {
        /// Where the gateway keeps its data; relative to the folder it is started in. When this changes while it runs, the data go there.
        data_dir: PathBuf = "headgate-data".into(),
        /// The gateway's name in `$SYS/brokers/{node}/`, and by which other gateways know it. One with bridges needs one of its own.
        node: String = DEFAULT_NODE.into(),
        /// The time zone in which the web UI shows times, by its IANA name: `Europe/Berlin`. Default: that of the browser.
        time_zone: String = String::new(),
        /// Connections open at a time on all listeners together; 0 for no limit.
        max_connections: usize = 0,
        /// What goes to the log.
        log: LogSettings = LogSettings::default(),
        /// Where clients connect. Default: MQTT on `127.0.0.1:1883`, MQTT over WebSocket on `127.0.0.1:8083`, STOMP on `127.0.0.1:61613`, STOMP over SockJS on
        /// `127.0.0.1:61616` below `/stomp`, HTTP on `127.0.0.1:18083`.
        listeners: Vec<ListenerSettings> = default_listeners(),
    }
    {
        /// Routing, sessions, queues and retained messages.
        bus: BusSettings = BusSettings::default(),
        /// Bridges to other brokers.
        bridges: Vec<BridgeSettings> = Vec::new(),
        /// Ways out for bridges, the best first. Default: none, and the system chooses.
        wans: Vec<WanSettings> = Vec::new(),
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
        /// What else those listeners have: the demo page.
        http: HttpSettings = HttpSettings::default(),
        /// Backups that are kept in the data folder.
        backups: BackupSettings = BackupSettings::default(),
        /// Updates of the system that the gateway runs on.
        firmware: FirmwareSettings = FirmwareSettings::default(),
        /// What is done when no bridge is connected for long.
        recovery: RecoverySettings = RecoverySettings::default(),
        /// Traces of messages for OpenTelemetry.
        telemetry: TelemetrySettings = TelemetrySettings::default(),
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
            protocol: STOMP.into(),
            ..listener("stomp", ListenerKind::Tcp, "127.0.0.1:61613")
        },
        ListenerSettings {
            protocol: STOMP.into(),
            sockjs: Some(SockJsSettings {
                path: "/stomp".into(),
                ..SockJsSettings::default()
            }),
            ..listener("stomp-sockjs", ListenerKind::Sockjs, "127.0.0.1:61616")
        },
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
    /// It was not named, and is in the current folder; its user is neither root nor the one who asks.
    #[error(
        "{folder} here is user {user}'s, who may have put it there for others to find: go elsewhere, or name it: HEADGATE__DATA_DIR has its whole path, or --config a configuration with it"
    )]
    Stranger {
        /// The data folder.
        folder: PathBuf,
        /// Its user.
        user: u32,
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
            Self::Read { path, cause } => (vec![Told::of_file(path, cause.to_string())], Vec::new()),
            Self::Stranger { ref folder, .. } => {
                (vec![Told::of_file(folder.clone(), self.to_string())], Vec::new())
            }
        }
    }

    /// The same of a text that nobody can open, under a name of its own: keys say where, and lines do not.
    pub(crate) fn without_lines(mut self, name: &Path) -> Self {
        if let Self::Faults { faults, warnings } = &mut self {
            for told in faults.iter_mut().chain(warnings) {
                told.place.forget_line(name);
            }
        }
        self
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
    /// Where it names the data folder.
    pub data_dir: Told,
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

    /// The same of a text that stands in no file yet; `name` is what faults call it.
    pub(crate) fn of_text(
        name: Option<&Path>,
        text: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let texts = Texts::new(name, text, environment);
        Reading::of(&texts)?.done().map(|(_, config)| config)
    }

    /// What is wrong with settings that go into a configuration and stand in a section of another text: keys that there are not, and values that cannot be.
    pub(crate) fn faults_of_part(path: Option<&Path>, text: &str, section: &str) -> Vec<Told> {
        let texts = Texts::new(path, text.to_owned(), []);
        match Document::parse(&texts) {
            Ok((document, _)) => document.part(section).read::<Self>().1,
            Err(told) => vec![told],
        }
    }

    /// What this system has against a start with it.
    pub(crate) fn obstacles(&self) -> Vec<Fault> {
        system::obstacles(self)
    }

    /// The same for a command that needs the settings `needed` alone, each with its section: what is wrong with others is told beside it.
    pub(crate) fn load_for(
        needed: &[&str],
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Told>), ConfigError> {
        let texts = read(path, environment)?;
        Self::of_needed(needed, path, &texts)
    }

    /// The data folder, for a command that asks the gateway there and writes nothing. In a file that is no TOML it is what a line of its top level says; the
    /// fault is told beside it. Who writes to the folder of a gateway that does not run has to know it for sure.
    pub(crate) fn data_dir_to_ask(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(PathBuf, Vec<Told>), ConfigError> {
        let mut texts = read(path, environment)?;
        let fault = Document::parse(&texts).err();
        if fault.is_some() {
            texts.keep_lines_of("data_dir");
        }
        let (config, others) = Self::of_needed(&["data_dir"], path, &texts)?;
        Ok((config.data_dir, fault.into_iter().chain(others).collect()))
    }

    fn of_needed(
        needed: &[&str],
        path: Option<&Path>,
        texts: &Texts<'_>,
    ) -> Result<(Self, Vec<Told>), ConfigError> {
        let mut reading = Reading::of(texts)?;
        reading.told.sort_by_key(|told| told.place.line());
        let (faults, others): (Vec<Told>, Vec<Told>) = std::mem::take(&mut reading.told)
            .into_iter()
            .partition(|told| needed.iter().any(|needed| told.concerns(needed)));
        reading.told = faults;
        let (document, mut config) = reading.done()?;
        settle(path, &mut config);
        find_data(&document, &mut config)?;
        Ok((config, others))
    }

    /// The same, and looks whether this system lets a gateway start with it: at files, folders and addresses. Changes nothing.
    pub(crate) fn load_to_start(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Startable, ConfigError> {
        let text = path.map_or_else(|| Ok(String::new()), text_of)?;
        Self::read_to_start(path, text, environment)
    }

    /// Whether this version can read a text at all, whatever the system says to it.
    pub(crate) fn is_readable(
        path: Option<&Path>,
        text: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> bool {
        let texts = Texts::new(path, text, environment);
        Reading::of(&texts).and_then(Reading::done).is_ok()
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
        let (document, mut config) = match read {
            Ok(read) => read,
            Err(error) => return Err(error.with_warnings(warnings)),
        };
        settle(path, &mut config);
        find_data(&document, &mut config)?;
        let unread = crate::supplies::load(&mut config);
        let found = checks::warnings(&config).into_iter().chain(unread);
        let found = found.map(|fault| document.locate(fault));
        let warnings = warnings.into_iter().chain(found).collect();
        let data_dir = document.locate(Fault::new("data_dir", ""));
        Ok(Startable {
            config,
            warnings,
            data_dir,
        })
    }

    /// The keys and sections of the top level.
    fn top_level() -> Vec<String> {
        let shown = serde_json::to_value(Self::default()).unwrap_or_default();
        let keys = shown.as_object().into_iter().flatten();
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// Where the data should be, wherever they are now.
    pub(crate) fn wanted_data_dir(&self) -> &Path {
        self.moves_to.as_deref().unwrap_or(&self.data_dir)
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

/// Bytes of a configuration that are read at all; who wants it to be valid while the gateway runs has less.
const LONGEST: u64 = 16 << 20;

/// What that is called.
const OWN: &str = "headgate.toml";

/// The configuration of a gateway that was given none: in its data folder, where the web UI and `headgate config apply` put it.
pub(crate) fn own_file() -> Result<PathBuf, ConfigError> {
    let (config, _) = Config::load_for(&["data_dir"], None, environment_variables())?;
    // Where the data are plays no part.
    let folder = config.wanted_data_dir().to_owned();
    match is_unnamed(None, &folder).then(|| stranger_of(&folder)).flatten() {
        Some(user) => Err(ConfigError::Stranger { folder, user }),
        None => Ok(folder.join(OWN)),
    }
}

/// Whether a data folder is the one that happens to be in the current folder: no configuration and no variable names one.
pub(crate) fn is_unnamed(path: Option<&Path>, data_dir: &Path) -> bool {
    path.is_none() && data_dir == Config::default().data_dir
}

/// A configuration that lies in a data folder and names none is that folder's own: it may be read from anywhere.
fn settle(path: Option<&Path>, config: &mut Config) {
    let folder = path
        .filter(|path| path.file_name().is_some_and(|name| name == OWN))
        .and_then(Path::parent)
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && config.data_dir == Config::default().data_dir
        && ["configurations", "administrators.json", "setup-code", "store"]
            .iter()
            .any(|ours| folder.join(ours).exists())
    {
        folder.clone_into(&mut config.data_dir);
    }
}

/// The data may be elsewhere than they should be.
fn find_data(document: &Document<'_>, config: &mut Config) -> Result<(), ConfigError> {
    match whereabouts::elsewhere(&config.data_dir) {
        Ok(None) => {}
        Ok(Some(folder)) => config.moves_to = Some(std::mem::replace(&mut config.data_dir, folder)),
        Err(error) => return Err(vec![document.locate(Fault::new("data_dir", error.to_string()))].into()),
    }
    Ok(())
}

/// Where packages put the configuration.
const PACKAGED: &str = "/etc/headgate/headgate.toml";

/// The configuration that was given; or else the gateway's own, if it has one; or else that of the package, where there is no data folder here.
pub(crate) fn given_or_own(path: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = path {
        return Ok(Some(path.to_owned()));
    }
    let own = own_file()?;
    let is_here = own.parent().is_some_and(Path::exists);
    let packaged = Path::new(PACKAGED);
    Ok(match own.exists() {
        true => Some(own),
        false if !is_here && packaged.exists() => Some(packaged.to_owned()),
        false => None,
    })
}

/// What somebody is told who named no configuration, and has one in the current folder. It is not read unasked: anybody may have put it there.
pub(crate) fn unread_here() -> Option<&'static str> {
    const TOLD: &str = "there is a headgate.toml here: `--config headgate.toml` or HEADGATE_CONFIG reads it";
    Path::new(OWN).exists().then_some(TOLD)
}

/// What stands in a file; nothing, where there is none.
pub(crate) fn text_if_any(path: &Path) -> Result<String, ConfigError> {
    match text_of(path) {
        Err(ConfigError::Read { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        text => text,
    }
}

/// The line of a text in TOML where this stands (`users[1].name`), or what is nearest above it.
pub(crate) fn line_of(text: &str, key: &str) -> usize {
    let texts = Texts::new(None, text.to_owned(), []);
    let document = Document::parse(&texts).ok();
    let told = document.map(|(document, _)| document.locate(Fault::new(key, String::new())));
    told.and_then(|told| told.place.line()).unwrap_or(1)
}

/// What stands in a file. A pipe would be waited for.
pub(crate) fn text_of(path: &Path) -> Result<String, ConfigError> {
    let bytes = private::read(path, LONGEST).map_err(|cause| ConfigError::Read {
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
mod tests;
