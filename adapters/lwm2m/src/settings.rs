//! What an operator may set about LwM2M.

use crate::bootstrap::BootstrapSettings;
use crate::supplies::Supplies;
use headgate_coap::Transmission;
use headgate_lwm2m_codec::{Format, Path};
use headgate_model::{Fault, Qos, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Limits and habits of LwM2M.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lwm2mSettings {
    /// Registered clients at once, 1 or more. Who comes then is answered 5.03.
    pub max_clients: usize,
    /// Clients that are being let in at once, 1 or more.
    pub max_logins: usize,
    /// Bytes of the longest endpoint name, 1 to 255.
    pub max_endpoint_bytes: usize,
    /// Bytes of the longest list of objects in a registration, at most 8192.
    pub max_links_bytes: usize,
    /// The shortest lifetime that a client may register with. A shorter one is answered 4.00.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub min_lifetime: Duration,
    /// The longest. A client that asks for 0, which means for ever, gets this one; a longer one is answered 4.00.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_lifetime: Duration,
    /// So long a registration stays when its lifetime is over, for updates that come late.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lifetime_grace: Duration,
    /// How long a client in queue mode listens after it has said something. LwM2M 1.1 §6.5: MAX_TRANSMIT_WAIT, 93 s
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub awake_window: Duration,
    /// The same for clients that are otherwise, by endpoint name; a `*` at the end stands for anything. The longest name that fits is taken.
    #[schemars(with = "BTreeMap<String, String>")]
    #[serde(with = "windows")]
    pub awake_windows: BTreeMap<String, Duration>,
    /// How long a response is waited for after the request was acknowledged.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub response_timeout: Duration,
    /// How long a command waits for its client, if it does not say so itself.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub command_expiry: Duration,
    /// Commands of one client in memory at once, 1 to 1000; others wait in the store.
    pub max_commands: u16,
    /// Observations of one client, 1 to 256.
    pub max_observations: usize,
    /// Paths that are observed as soon as a client registers with them: `/3303`, `/3303/0/5700`.
    pub auto_observe: Vec<String>,
    /// In which form values are asked for and written: `text`, `opaque`, `cbor`, `senml-json`, `senml-cbor`, `tlv`, `json` or `lwm2m-cbor`. Default: what the client says that it
    /// knows; TLV for clients of 1.0.
    pub format: Option<String>,
    /// The last value of each resource is retained at `lwm2m/{ep}/{object}/{instance}/{resource}`.
    pub retain_resources: bool,
    /// Resources of one client whose last value is retained, 0 or more. Others are counted and not retained.
    pub max_retained_resources: usize,
    /// QoS of what is published, 0 or 1.
    pub publish_qos: u8,
    /// Topics.
    pub topics: Topics,
    /// Requests that one client may send a second in the long run; 0 for no limit. Beyond that they are answered 4.29.
    pub max_client_requests_per_second: u32,
    /// Requests that one client may send at once; 0 for as many as in a second.
    pub client_burst_requests: u32,
    /// Bytes of the longest body that is taken from a client.
    pub max_body_bytes: usize,
    /// Bytes for all bodies that are under way in blocks.
    pub max_transfer_bytes: usize,
    /// Bytes of the largest block that is sent, 16 to 1024. RFC 7959
    pub max_block_bytes: usize,
    /// A folder with object definitions, files `*.xml` as in the registry of OMA. They are added to those that the gateway has, and read again when they change.
    pub objects: Option<PathBuf>,
    /// A folder with firmware packages that clients may be updated with. Read again when they change.
    pub firmware: Option<PathBuf>,
    /// How clients reach this server to fetch firmware: `coap://gateway.example:5783`. Without it firmware is pushed to them.
    pub firmware_uri: Option<String>,
    /// What clients are told that ask to be bootstrapped.
    pub bootstrap: BootstrapSettings,
    /// How messages are sent again, and what is remembered of those that came.
    pub transmission: Transmission,
    /// What was read from `objects` and `firmware`.
    #[serde(skip)]
    #[schemars(skip)]
    pub supplies: Supplies,
}

/// Where commands come from, and where answers and reports go. `{ep}` is the endpoint name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// In front of all others.
    pub prefix: String,
    /// Commands: a filter.
    pub command: String,
    /// Answers to commands.
    pub response: String,
    /// What observed resources say, and what clients send by themselves.
    pub notify: String,
    /// Registrations and their end.
    pub register: String,
    /// Updates of registrations.
    pub update: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            prefix: "lwm2m/{ep}".into(),
            command: "dn/#".into(),
            response: "up/resp".into(),
            notify: "up/notify".into(),
            register: "up/resp".into(),
            update: "up/update".into(),
        }
    }
}

impl Topics {
    /// One of them for a client.
    pub fn of(&self, part: &str, endpoint: &str) -> String {
        let prefix = self.prefix.replace("{ep}", endpoint);
        format!("{prefix}/{}", part.replace("{ep}", endpoint))
    }
}

impl Default for Lwm2mSettings {
    fn default() -> Self {
        Self {
            max_clients: 100_000,
            max_logins: 1_000,
            max_endpoint_bytes: 128,
            max_links_bytes: 4_096,
            min_lifetime: Duration::from_secs(1),
            max_lifetime: Duration::from_secs(366 * 24 * 60 * 60),
            lifetime_grace: Duration::from_secs(30),
            awake_window: Duration::from_secs(93),
            awake_windows: BTreeMap::new(),
            response_timeout: Duration::from_secs(60),
            command_expiry: Duration::from_secs(24 * 60 * 60),
            max_commands: 16,
            max_observations: 64,
            auto_observe: Vec::new(),
            format: None,
            retain_resources: true,
            max_retained_resources: 1_000,
            publish_qos: 1,
            topics: Topics::default(),
            max_client_requests_per_second: 0,
            client_burst_requests: 0,
            max_body_bytes: 256 << 10,
            max_transfer_bytes: 16 << 20,
            max_block_bytes: 1_024,
            objects: None,
            firmware: None,
            firmware_uri: None,
            bootstrap: BootstrapSettings::default(),
            transmission: Transmission::default(),
            supplies: Supplies::default(),
        }
    }
}

impl Lwm2mSettings {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let number = |key: &str, value: usize, least: usize, most: usize, allowed: &str| {
            let message = format!("{value} is out of range, allowed is {allowed}");
            (!(least..=most).contains(&value)).then(|| Fault::new(key, message))
        };
        let most = usize::MAX;
        let numbers = [
            number("max_clients", self.max_clients, 1, most, "1 and more"),
            number("max_logins", self.max_logins, 1, most, "1 and more"),
            number("max_endpoint_bytes", self.max_endpoint_bytes, 1, 255, "1 to 255"),
            number("max_links_bytes", self.max_links_bytes, 1, 8_192, "1 to 8192"),
            number("max_commands", self.max_commands.into(), 1, 1_000, "1 to 1000"),
            number("max_observations", self.max_observations, 1, 256, "1 to 256"),
            number("max_block_bytes", self.max_block_bytes, 16, 1_024, "16 to 1024"),
            number("publish_qos", self.publish_qos.into(), 0, 1, "0 and 1"),
        ];
        let lifetimes = (self.min_lifetime.is_zero() || self.min_lifetime > self.max_lifetime).then(|| {
            Fault::new(
                "min_lifetime",
                "must be 1s or more, and not longer than max_lifetime",
            )
        });
        let window = self
            .awake_window
            .is_zero()
            .then(|| Fault::new("awake_window", "0s is out of range, allowed is 1ms and more"));
        let topics = self
            .topics
            .faults()
            .into_iter()
            .map(|fault| fault.below("topics"));
        let format = self.format.as_deref().and_then(|name| {
            let fault = || Fault::new("format", format!("`{name}` is no format, allowed are text, opaque, cbor, senml-json, senml-cbor, tlv, json and lwm2m-cbor"));
            name.parse::<Format>().err().map(|_| fault())
        });
        let observed = self.auto_observe.iter().enumerate().filter_map(|(n, path)| {
            let what = format!("`{path}` is no path such as /3303/0/5700");
            let depth = path.parse::<Path>().map_or(0, |path| path.depth());
            (depth == 0).then(|| Fault::new(format!("auto_observe[{n}]"), what))
        });
        let below = self.transmission.faults().into_iter();
        let below = below.map(|fault| fault.below("transmission"));
        let bootstrap = self.bootstrap.faults().into_iter();
        let bootstrap = bootstrap.map(|fault| fault.below("bootstrap"));
        let single = numbers
            .into_iter()
            .flatten()
            .chain(lifetimes)
            .chain(window)
            .chain(format);
        single
            .chain(topics)
            .chain(observed)
            .chain(bootstrap)
            .chain(below)
            .collect()
    }

    pub(crate) fn qos(&self) -> Qos {
        Qos::from_u8(self.publish_qos).unwrap_or_default()
    }

    /// How long a client in queue mode listens after it has said something.
    pub(crate) fn window_of(&self, endpoint: &str) -> Duration {
        let fits = |pattern: &&String| match pattern.strip_suffix('*') {
            Some(beginning) => endpoint.starts_with(beginning),
            None => endpoint == pattern.as_str(),
        };
        let longest = self
            .awake_windows
            .keys()
            .filter(fits)
            .max_by_key(|pattern| pattern.len());
        longest.map_or(self.awake_window, |pattern| self.awake_windows[pattern])
    }
}

impl Topics {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.prefix.contains("{ep}") {
            faults.push(Fault::new(
                "prefix",
                "must have {ep} in it, to tell clients apart",
            ));
        }
        for (key, part) in [
            ("response", &self.response),
            ("notify", &self.notify),
            ("register", &self.register),
            ("update", &self.update),
        ] {
            if Topic::try_from(self.of(part, "x").as_str()).is_err() {
                faults.push(Fault::new(key, format!("`{part}` makes no topic name")));
            }
        }
        let filter = self.of(&self.command, "x");
        if headgate_model::TopicFilter::parse(filter.into()).is_err() {
            faults.push(Fault::new(
                "command",
                format!("`{}` makes no topic filter", self.command),
            ));
        }
        faults
    }
}

/// Durations by name, as people write them.
mod windows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[derive(Serialize, Deserialize)]
    struct Written(#[serde(with = "humantime_serde")] Duration);

    pub(super) fn serialize<S: Serializer>(
        windows: &BTreeMap<String, Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(windows.iter().map(|(name, window)| (name, Written(*window))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Duration>, D::Error> {
        let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
        Ok(written
            .into_iter()
            .map(|(name, window)| (name, window.0))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_key_value_and_what_is_allowed() {
        let settings = Lwm2mSettings {
            max_commands: 0,
            publish_qos: 3,
            format: Some("xml".into()),
            auto_observe: vec!["/3303".into(), "temperature".into()],
            topics: Topics {
                prefix: "lwm2m".into(),
                update: "up/#".into(),
                ..Topics::default()
            },
            ..Lwm2mSettings::default()
        };
        let told: Vec<_> = settings.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "max_commands: 0 is out of range, allowed is 1 to 1000",
                "publish_qos: 3 is out of range, allowed is 0 and 1",
                "format: `xml` is no format, allowed are text, opaque, cbor, senml-json, senml-cbor, tlv, json and lwm2m-cbor",
                "topics.prefix: must have {ep} in it, to tell clients apart",
                "topics.update: `up/#` makes no topic name",
                "auto_observe[1]: `temperature` is no path such as /3303/0/5700",
            ]
        );
        assert!(Lwm2mSettings::default().faults().is_empty());
    }

    /// \[LWM2M-6.5-AWAKE\]
    #[test]
    fn the_longest_name_that_fits_says_how_long_a_client_listens() {
        let windows = [("meter*", 30), ("meter-7", 5), ("m*", 60)];
        let windows = windows.map(|(name, seconds)| (name.to_owned(), Duration::from_secs(seconds)));
        let settings = Lwm2mSettings {
            awake_windows: windows.into(),
            ..Lwm2mSettings::default()
        };
        let seconds = |endpoint| settings.window_of(endpoint).as_secs();
        assert_eq!(
            ["meter-7", "meter-8", "mill", "pump"].map(seconds),
            [5, 30, 60, 93]
        );
    }
}
