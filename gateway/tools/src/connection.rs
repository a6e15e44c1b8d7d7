//! What `pub`, `sub` and `lwm2m` have in common: where to connect, and as whom.

use super::login::LoginArgs;
use crate::error::ArgumentError;
use bytes::Bytes;
use clap::{ArgAction, Args};
use headgate_cli::ValueError;
use headgate_client::ClientError;
use headgate_dial::{ClientTls, Dial, RemoteAddress, Target};
use headgate_mqtt_codec::{Connect, ConnectProperties, Qos, Utf8, Utf8Error, Version, Will, WillProperties};
use std::path::PathBuf;

/// For ever. MQTT 5 §3.1.2.11.2
const NEVER: u32 = u32::MAX;

/// Seconds of silence after which a ping is sent.
const KEEP_ALIVE: u16 = 60;

/// How the client identifiers begin of those who give none.
const ID_PREFIX: &str = "hg-";

/// Where to connect, and as whom.
#[derive(Args)]
pub(super) struct ConnectionArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Client identifier with a random end.
    #[arg(
        long,
        value_name = "PREFIX",
        conflicts_with = "id",
        help_heading = "Connection"
    )]
    id_prefix: Option<String>,
    /// Seconds of silence after which a ping is sent; 0 for none.
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        default_value_t = KEEP_ALIVE,
        help_heading = "Connection"
    )]
    keep_alive: u16,
    /// Go on with the session of before, and leave one behind.
    #[arg(short = 'c', long, help_heading = "Connection")]
    no_clean: bool,
    /// How long the session outlives the connection (MQTT 5); with --no-clean, for ever unless told.
    #[arg(long, value_name = "SECONDS", help_heading = "Connection")]
    session_expiry: Option<u32>,
    /// Topic of the will.
    #[arg(long, value_name = "TOPIC", help_heading = "Will", value_parser = utf8)]
    will_topic: Option<Utf8>,
    /// Payload of the will.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        requires = "will_topic",
        help_heading = "Will"
    )]
    will_payload: String,
    /// QoS of the will.
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = qos, requires = "will_topic", help_heading = "Will")]
    will_qos: Qos,
    /// The will is retained.
    #[arg(long, requires = "will_topic", help_heading = "Will")]
    will_retain: bool,
    /// How long the will waits (MQTT 5).
    #[arg(long, value_name = "SECONDS", requires = "will_topic", help_heading = "Will")]
    will_delay: Option<u32>,
}

/// Where a server is, and how it is spoken to: what every client of MQTT must know.
#[derive(Args)]
pub(super) struct ServerArgs {
    /// Server, by name or address.
    #[arg(
        short = 'h',
        long,
        value_name = "HOST",
        default_value = "localhost",
        help_heading = "Connection"
    )]
    host: String,
    /// Port; without it 1883, with TLS 8883.
    #[arg(short, long, help_heading = "Connection")]
    port: Option<u16>,
    /// Server as `mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]`, `ws[s]://HOST[:PORT][/PATH]` or `unix:PATH`.
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "port"], help_heading = "Connection")]
    url: Option<Target>,
    /// MQTT version: 3.1, 3.1.1 or 5.
    #[arg(short = 'V', long = "mqtt-version", value_name = "VERSION", default_value = "5", value_parser = version, help_heading = "Connection")]
    version: Version,
    /// Client identifier; without it a random one.
    #[arg(short, long, value_name = "ID", help_heading = "Connection")]
    id: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// TLS, and what it needs.
#[derive(Args)]
pub(super) struct TlsArgs {
    /// TLS, even if nothing else says so.
    #[arg(long, help_heading = "TLS")]
    tls: bool,
    /// Authorities to believe, as PEM; without it the system's.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cafile: Option<PathBuf>,
    /// Our certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    cert: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    key: Option<PathBuf>,
    /// Believe any server. Anybody in between can read and change everything.
    #[arg(long, help_heading = "TLS")]
    insecure: bool,
}

impl TlsArgs {
    /// The files, and whether TLS is wanted.
    pub(super) fn resolve(&self) -> (ClientTls, bool) {
        let files = ClientTls {
            cafile: self.cafile.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure: self.insecure,
            ..ClientTls::default()
        };
        let wanted = self.tls || files.any();
        (files, wanted)
    }
}

/// How to connect.
pub(super) struct Connection {
    /// Where, and with which certificates.
    pub dial: Dial,
    /// With which CONNECT.
    pub connect: Connect,
}

impl ConnectionArgs {
    /// What the arguments mean.
    pub(super) fn resolve(self) -> Result<Connection, ClientError> {
        let usage = |text: &str| Err(ClientError::Usage(text.into()));
        let session_expiry = match (self.session_expiry, self.no_clean) {
            (Some(_), _) if self.server.version < Version::V5 => {
                return usage("--session-expiry needs MQTT 5");
            }
            (None, true) => Some(NEVER),
            (expiry, _) => expiry,
        };
        if self.no_clean && self.server.id.is_none() {
            return usage("--no-clean needs a client identifier to come back as: give one with --id");
        }
        let will = self.will()?;
        let prefix = self.id_prefix.as_deref().unwrap_or(ID_PREFIX);
        let Connection { dial, connect } = self.server.resolve_with(prefix)?;
        let connect = Connect {
            clean_start: !self.no_clean,
            keep_alive: self.keep_alive,
            will,
            properties: ConnectProperties {
                session_expiry,
                ..connect.properties
            },
            ..connect
        };
        Ok(Connection { dial, connect })
    }

    fn will(&self) -> Result<Option<Will>, ClientError> {
        if self.will_payload.len() > usize::from(u16::MAX) {
            return Err(ClientError::Usage("the will is longer than 65535 bytes".into()));
        }
        Ok(self.will_topic.clone().map(|topic| Will {
            topic,
            payload: self.will_payload.clone().into(),
            qos: self.will_qos,
            retain: self.will_retain,
            properties: WillProperties {
                delay_interval: self.will_delay,
                ..WillProperties::default()
            },
        }))
    }
}

impl ServerArgs {
    /// Whether the server is on this machine, as far as its name tells.
    pub(super) fn is_here(&self) -> bool {
        let host = match &self.url {
            Some(url) => match &url.place {
                RemoteAddress::Host(host, _) => host,
                RemoteAddress::Unix(_) => return true,
            },
            None => &self.host,
        };
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// What the arguments mean, for a client whose session ends with its connection.
    pub(super) fn resolve(self) -> Result<Connection, ClientError> {
        self.resolve_with(ID_PREFIX)
    }

    /// Where nothing else is said, the client identifier begins like this.
    fn resolve_with(self, id_prefix: &str) -> Result<Connection, ClientError> {
        let (files, tls) = self.tls.resolve();
        let mut target = match &self.url {
            Some(url) => url.clone(),
            None => Target::host(&self.host, self.port, tls),
        };
        target.tls |= tls;
        let connect = self.connect(&target, id_prefix)?;
        let dial = Dial {
            target,
            tls: files,
            proxy: None,
            bind: None,
            way_out: None,
        };
        Ok(Connection { dial, connect })
    }

    fn connect(&self, target: &Target, id_prefix: &str) -> Result<Connect, ClientError> {
        let usage = |text: &str| Err(ClientError::Usage(text.into()));
        let username = self.login.username.clone().or_else(|| target.username.clone());
        let password = self.login.password()?.map(Bytes::from);
        let password = password.or_else(|| target.password.clone().map(Bytes::from));
        if self.version < Version::V5 && password.is_some() && username.is_none() {
            return usage("before MQTT 5 a password needs a user name: give one with --username");
        }
        if password
            .as_ref()
            .is_some_and(|password| password.len() > usize::from(u16::MAX))
        {
            return usage("the password is longer than 65535 bytes");
        }
        Ok(Connect {
            keep_alive: KEEP_ALIVE,
            username: username.map(text).transpose()?,
            password,
            ..Connect::new(self.version, text(self.client_id(id_prefix)?)?)
        })
    }

    fn client_id(&self, prefix: &str) -> Result<String, ClientError> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| ClientError::Usage(e.to_string()))?;
        // Also the 23 characters of MQTT 3.1 are enough for it.
        Ok(format!("{prefix}{:016x}", u64::from_ne_bytes(random)))
    }
}

/// Reads a file, or says which one cannot be read.
pub(super) fn read(path: &PathBuf) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|cause| ClientError::File {
        path: path.clone(),
        cause: cause.to_string(),
    })
}

/// Text as MQTT wants it.
pub(super) fn text(text: String) -> Result<Utf8, ClientError> {
    Utf8::try_from(text).map_err(|error| ClientError::Usage(error.to_string()))
}

/// Text of an argument.
pub(super) fn utf8(text: &str) -> Result<Utf8, Utf8Error> {
    Utf8::try_from(text.to_owned())
}

/// A QoS by its number.
pub fn qos(text: &str) -> Result<Qos, ValueError> {
    let number = text.parse().ok().and_then(Qos::from_bits);
    number.ok_or_else(|| ValueError::not_allowed(text, "0, 1 and 2"))
}

/// A version, as the standard names it or as mosquitto's tools do.
pub fn version(text: &str) -> Result<Version, ValueError> {
    match text.strip_prefix("mqttv").unwrap_or(text) {
        "3.1" | "31" | "3" => Ok(Version::V31),
        "3.1.1" | "311" | "4" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err(ValueError::not_allowed(text, "3.1, 3.1.1 and 5")),
    }
}

/// A user property as `name=value`.
pub(super) fn user_property(pair: &str) -> Result<(Utf8, Utf8), ArgumentError> {
    let halves = pair.split_once('=');
    let (name, value) = halves.ok_or_else(|| ArgumentError::NoPair {
        text: pair.to_owned(),
    })?;
    Ok((utf8(name)?, utf8(value)?))
}
