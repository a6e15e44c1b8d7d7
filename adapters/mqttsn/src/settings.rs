//! What an operator may set about MQTT-SN.

use headgate_model::{ClientId, ConfiguredLogin, Fault, MountPoint, Naming, Secret, Topic};
use headgate_mqttsn_codec::is_reserved;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Limits and habits of the MQTT-SN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnSettings {
    /// Told in ADVERTISE and GWINFO. §5.3.6
    pub gateway_id: u8,
    /// How often the gateway advertises itself; `0s` for never. T_ADV in §7.2
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub advertise_interval: Duration,
    /// Whether SEARCHGW is answered to everybody, so that others need not ask; otherwise to who asked. §6.1
    pub broadcast_gwinfo: bool,
    /// Clients at once, those that sleep among them. Who comes then is told of congestion. 0 for no limit.
    pub max_clients: usize,
    /// Clients that are being let in at once, 1 or more.
    pub max_handshakes: usize,
    /// Bytes of the longest datagram; a longer message is not delivered.
    pub max_datagram_bytes: usize,
    /// Bytes of the longest client id. The specification has 23. §5.3.1
    pub max_client_id_bytes: usize,
    /// Topic ids that one client may have, whoever registered them.
    pub max_registrations: usize,
    /// Bytes for the topic ids of clients that have gone: who comes back without CleanSession finds them again. The longest gone is forgotten first. 0 for no limit.
    pub max_remembered_bytes: usize,
    /// Requests (PUBLISH, REGISTER, SUBSCRIBE and so on) that one client may send a second in the long run; 0 for no limit. What comes faster is dropped without an answer, and counts
    /// as `mqttsn/datagrams/too_fast`: a datagram cannot be left unread, as a connection is that is too fast. At QoS 1 and 2 the client sends it again.
    pub max_client_packets_per_second: u32,
    /// Requests that one client may send at once; 0 for as many as in a second.
    pub client_burst_packets: u32,
    /// PUBLISH of a client that sleeps wakes it, as its PINGREQ would: the message is taken, and what waits for the client is sent, then PINGRESP.
    /// Otherwise it is told to connect. §6.14
    pub publish_wakes: bool,
    /// Bytes that an address is sent at most for each byte that came from it, until it has proved by an acknowledgement that it receives: whoever uses
    /// somebody's address wins nothing. What does not fit waits. Serial lines have no such limit; `0` is no limit.
    pub amplification_limit: u8,
    /// How long the gateway waits for an answer of a client, 1 ms or more. T_retry in §7.2
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub retry_interval: Duration,
    /// How often it sends again; then the client is lost. 0 for never again. N_retry in §7.2
    pub retries: u8,
    /// How long letting a client in may take, 1 ms or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long the session of a client without CleanSession is kept after it left or was lost. `0s` for ever.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub session_expiry: Duration,
    /// How long a client may be silent that gave no keep alive, or of which a restarted gateway does not know for how long it sleeps. 1 s or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_silence: Duration,
    /// User name of clients that have none in `credentials`; empty for none.
    pub default_username: String,
    /// The password with it.
    #[schemars(with = "String")]
    pub default_password: Secret,
    /// User names and passwords by client id. MQTT-SN 1.2 cannot carry them.
    pub credentials: Vec<SnCredentials>,
    /// Topic ids that clients know beforehand. §6.7
    pub predefined: Vec<PredefinedTopic>,
    /// PUBLISH without a connection.
    pub qos_minus_one: QosMinusOneSettings,
}

impl Default for SnSettings {
    fn default() -> Self {
        Self {
            gateway_id: 1,
            advertise_interval: Duration::from_secs(15 * 60),
            broadcast_gwinfo: false,
            max_clients: 1_000_000,
            max_handshakes: 10_000,
            max_datagram_bytes: 1_400,
            max_client_id_bytes: 128,
            max_registrations: 256,
            max_remembered_bytes: 16 << 20,
            max_client_packets_per_second: 0,
            client_burst_packets: 0,
            publish_wakes: false,
            amplification_limit: 3,
            retry_interval: Duration::from_secs(10),
            retries: 5,
            connect_timeout: Duration::from_secs(60),
            session_expiry: Duration::from_secs(24 * 60 * 60),
            max_silence: Duration::from_secs(24 * 60 * 60),
            default_username: String::new(),
            default_password: Secret::default(),
            credentials: Vec::new(),
            predefined: Vec::new(),
            qos_minus_one: QosMinusOneSettings::default(),
        }
    }
}

/// What a client is known by to the access service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnCredentials {
    /// Whose.
    pub client_id: String,
    /// User name.
    pub username: String,
    /// Password.
    #[serde(default)]
    #[schemars(with = "String")]
    pub password: Secret,
}

/// A topic id that both sides know. §6.7
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredefinedTopic {
    /// 1 to 65,534.
    pub id: u16,
    /// The topic's name.
    pub topic: String,
    /// For this client alone, before what all have; absent for all.
    #[serde(default)]
    pub client_id: Option<String>,
}

/// PUBLISH at QoS −1: no connection, no acknowledgement, to predefined ids for all and to short names. §6.8
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QosMinusOneSettings {
    /// Whether it is taken.
    pub enabled: bool,
    /// The identity under which all of it is published.
    pub client_id: String,
    /// Its user name; empty for none.
    pub username: String,
    /// The password with it.
    #[schemars(with = "String")]
    pub password: Secret,
    /// Messages a second, of all senders together. 0 for no limit.
    pub rate: u32,
    /// Messages at once, 1 or more.
    pub burst: u32,
}

impl Default for QosMinusOneSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            client_id: "mqtt-sn-unconnected".into(),
            username: String::new(),
            password: Secret::default(),
            rate: 100,
            burst: 200,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnSettingsError {
    /// Two topic ids are reserved. §5.3.11
    #[error("predefined.id: {0} is reserved")]
    ReservedId(u16),
    /// A topic id stands twice.
    #[error("predefined.id: {0} stands twice")]
    IdTwice(u16),
    /// Not a topic name.
    #[error("predefined.topic: `{topic}` is not a topic name: {cause}")]
    Topic {
        /// As written.
        topic: String,
        /// What is wrong.
        cause: String,
    },
    /// A number is out of range.
    #[error("{key}: {value} is out of range, allowed is {allowed}")]
    Range {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A time is out of range.
    #[error("{key}: {} is out of range, allowed is {allowed}", humantime_serde::re::humantime::format_duration(*.value))]
    Time {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: Duration,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl SnSettings {
    /// All that is wrong, for clients whose topics have `mount` in front.
    pub fn faults(&self, mount: &MountPoint) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.out_of_range().iter().map(Fault::of).collect();
        let mut tables = Tables::default();
        for (n, entry) in self.predefined.iter().enumerate() {
            if let Err(error) = tables.add(entry.clone(), mount) {
                faults.push(Fault::of(&error).of_entry(n));
            }
        }
        faults
    }

    /// The log-ins that are shown to the access service for clients; anonymous ones are left out.
    pub(crate) fn logins(&self) -> Vec<ConfiguredLogin> {
        let credentials = self.credentials.iter().enumerate().map(|(n, entry)| {
            let key = format!("credentials[{n}].username");
            (key, &entry.username, &entry.password)
        });
        let unconnected = &self.qos_minus_one;
        let own = [
            (
                true,
                "default_username",
                &self.default_username,
                &self.default_password,
            ),
            (
                unconnected.enabled,
                "qos_minus_one.username",
                &unconnected.username,
                &unconnected.password,
            ),
        ];
        let own = own.into_iter().filter(|(used, ..)| *used);
        let all = own
            .map(|(_, key, username, password)| (key.to_owned(), username, password))
            .chain(credentials);
        let all = all.filter(|(_, username, _)| !username.is_empty());
        all.map(|(key, username, password)| ConfiguredLogin {
            key,
            username: username.clone(),
            password: password.clone(),
        })
        .collect()
    }

    fn out_of_range(&self) -> Vec<SnSettingsError> {
        const MOST: usize = u16::MAX as usize;
        let number = |key, value: usize, range: RangeInclusive<usize>, allowed| {
            (!range.contains(&value)).then_some(SnSettingsError::Range {
                key,
                value: value as u64,
                allowed,
            })
        };
        let time = |key, value: Duration, least: Duration, allowed| {
            (value < least).then_some(SnSettingsError::Time { key, value, allowed })
        };
        const MS: Duration = Duration::from_millis(1);
        const SECOND: Duration = Duration::from_secs(1);
        let burst = usize::try_from(self.qos_minus_one.burst).unwrap_or(usize::MAX);
        let longest = (self.max_datagram_bytes, self.max_client_id_bytes);
        [
            number("max_datagram_bytes", longest.0, 64..=MOST, "64 to 65535"),
            number(
                "max_registrations",
                self.max_registrations,
                1..=MOST,
                "1 to 65535",
            ),
            number("max_client_id_bytes", longest.1, 1..=MOST, "1 to 65535"),
            // Whoever is being let in is nobody yet: without a limit anybody could be at it for ever.
            number(
                "max_handshakes",
                self.max_handshakes,
                1..=usize::MAX,
                "1 and more",
            ),
            number("qos_minus_one.burst", burst, 1..=usize::MAX, "1 and more"),
            time("retry_interval", self.retry_interval, MS, "1ms and more"),
            time("connect_timeout", self.connect_timeout, MS, "1ms and more"),
            time("max_silence", self.max_silence, SECOND, "1s and more"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The same, with the largest number there is where 0 stands for no limit.
    fn without_zeros(mut self) -> Self {
        for limit in [&mut self.max_clients, &mut self.max_remembered_bytes] {
            if *limit == 0 {
                *limit = usize::MAX;
            }
        }
        self
    }
}

/// A user name with its password, as the access service is shown it; anonymous without.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    pub username: String,
    pub password: Secret,
}

/// Settings as the gateway uses them.
#[derive(Debug)]
pub(crate) struct Config {
    pub settings: SnSettings,
    pub naming: Arc<Naming>,
    topics: Tables,
    logins: BTreeMap<String, Login>,
}

/// Predefined topics: everyone's, and those of single clients.
#[derive(Debug, Default)]
struct Tables {
    everyone: Predefined,
    by_client: BTreeMap<String, Predefined>,
}

/// Topics as their clients see them.
#[derive(Debug, Default)]
struct Predefined {
    by_id: BTreeMap<u16, Topic>,
    by_topic: BTreeMap<Topic, u16>,
}

impl Config {
    pub(crate) fn new(settings: SnSettings, naming: Arc<Naming>) -> Result<Self, SnSettingsError> {
        if let Some(error) = settings.out_of_range().into_iter().next() {
            return Err(error);
        }
        let mut settings = settings.without_zeros();
        let mut topics = Tables::default();
        for entry in std::mem::take(&mut settings.predefined) {
            topics.add(entry, &naming.mount)?;
        }
        let logins = std::mem::take(&mut settings.credentials).into_iter();
        let logins = logins.map(|entry| {
            let login = Login {
                username: entry.username,
                password: entry.password,
            };
            (entry.client_id, login)
        });
        Ok(Self {
            logins: logins.collect(),
            settings,
            naming,
            topics,
        })
    }

    /// The topic of a predefined id; of `None`, that of somebody without a connection.
    pub(crate) fn predefined_topic(&self, client: Option<&ClientId>, id: u16) -> Option<&Topic> {
        let own = client.and_then(|client| self.topics.by_client.get(client.as_str()));
        own.and_then(|table| table.by_id.get(&id))
            .or_else(|| self.topics.everyone.by_id.get(&id))
    }

    /// The predefined id of a topic.
    pub(crate) fn predefined_id(&self, client: &ClientId, topic: &Topic) -> Option<u16> {
        let own = self.topics.by_client.get(client.as_str());
        if let Some(id) = own.and_then(|table| table.by_topic.get(topic)) {
            return Some(*id);
        }
        let id = *self.topics.everyone.by_topic.get(topic)?;
        // Its own meaning of the id goes before everyone's.
        let hidden = own.is_some_and(|table| table.by_id.contains_key(&id));
        (!hidden).then_some(id)
    }

    pub(crate) fn login(&self, client_id: &str) -> Login {
        self.logins.get(client_id).cloned().unwrap_or_else(|| Login {
            username: self.settings.default_username.clone(),
            password: self.settings.default_password.clone(),
        })
    }
}

impl Tables {
    fn add(&mut self, entry: PredefinedTopic, mount: &MountPoint) -> Result<(), SnSettingsError> {
        let table = match entry.client_id {
            None => &mut self.everyone,
            Some(client_id) => self.by_client.entry(client_id).or_default(),
        };
        table.add(entry.id, entry.topic, mount)
    }
}

impl Predefined {
    fn add(&mut self, id: u16, topic: String, mount: &MountPoint) -> Result<(), SnSettingsError> {
        if is_reserved(id) {
            return Err(SnSettingsError::ReservedId(id));
        }
        let parsed = Topic::try_from(topic.as_str());
        // With the mount point it must be one, too.
        let parsed = parsed.and_then(|topic| mount.mount(&mut topic.clone()).map(|()| topic));
        let parsed = parsed.map_err(|cause| SnSettingsError::Topic {
            topic,
            cause: cause.to_string(),
        })?;
        if self.by_id.insert(id, parsed.clone()).is_some() {
            return Err(SnSettingsError::IdTwice(id));
        }
        self.by_topic.entry(parsed).or_insert(id);
        Ok(())
    }
}
