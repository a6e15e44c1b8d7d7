//! A bridge's settings, checked and made ready: what all its connections share.

use crate::mapping::TopicMap;
use crate::presets::Preset;
use crate::settings::{BridgeSettings, BridgeSettingsError};
use bytes::Bytes;
use headgate_model::bus::{NEVER, PeerName, Presence, Protocol};
use headgate_model::{
    Admitted, ClientId, Entrant, Link, Message, Open, Qos, QueueRules, Subscription, Topic, Will,
};
use headgate_mqtt_codec::{Utf8, Version};
use std::fmt;
use std::time::Duration;

/// The word for operators.
static PROTOCOL: Protocol = Protocol { name: "mqtt" };

/// Everything that is fixed about a bridge.
#[derive(Debug)]
pub struct BridgePlan {
    pub(crate) settings: BridgeSettings,
    pub(crate) topics: TopicMap,
    /// Of any rule; `None` when none gathers messages.
    most_in_a_batch: Option<u16>,
    pub(crate) version: Version,
    /// Of this gateway, as it stands in `headgate-path`.
    pub(crate) node: Utf8,
    /// At the remote.
    pub(crate) client_id: Utf8,
    /// `None` when nobody is notified.
    pub(crate) notification: Option<Topic>,
    pub(crate) dead_letters: Topic,
}

impl BridgePlan {
    /// The gateway whose bridge it is.
    pub fn node(&self) -> &str {
        self.node.as_str()
    }

    /// Checks settings. `node` is the name of this gateway.
    pub fn new(settings: BridgeSettings, node: &str) -> Result<Self, BridgeSettingsError> {
        settings.check()?;
        let topics = TopicMap::compile(&settings.topics)
            .map_err(|(at, cause)| BridgeSettingsError::Topics { at, cause })?;
        let client_id = match settings.client_id.as_str() {
            "" => format!("{}.{node}", settings.name),
            given => given.to_owned(),
        };
        let notification = match settings.notification_topic.as_str() {
            "" => format!("$SYS/broker/connection/{client_id}/state"),
            given => given.to_owned(),
        };
        let dead_letters = match settings.dead_letter_topic.as_str() {
            "" => format!("$bridge/{}/dead", settings.name),
            given => given.to_owned(),
        };
        let notification = topic("notification_topic", notification)?;
        Ok(Self {
            most_in_a_batch: topics.most_in_a_batch(),
            topics,
            version: settings.version.into(),
            node: text("node", node.to_owned())?,
            client_id: text("client_id", client_id)?,
            notification: settings.notifications.then_some(notification),
            dead_letters: topic("dead_letter_topic", dead_letters)?,
            settings,
        })
    }

    /// The settings it was made of.
    pub fn settings(&self) -> &BridgeSettings {
        &self.settings
    }

    /// The rules for topics.
    pub fn topics(&self) -> &TopicMap {
        &self.topics
    }

    /// Where dead letters go.
    pub fn dead_letter_topic(&self) -> &Topic {
        &self.dead_letters
    }

    /// The version spoken to the remote.
    pub fn version(&self) -> Version {
        self.version
    }

    /// As whom the bridge comes to the remote.
    pub fn remote_client_id(&self) -> &str {
        self.client_id.as_str()
    }

    /// Whether the remote lets this bridge in under no other client identifier.
    pub fn is_bound_to_client_id(&self) -> bool {
        self.settings.preset.as_ref().is_some_and(Preset::binds_client_id)
    }

    /// Seconds that the session at the remote outlives a connection, `u32::MAX` for ever. MQTT 5 §3.1.2.11.2
    pub fn remote_session_expiry(&self) -> u32 {
        match self.settings.session_expiry.as_secs() {
            _ if self.settings.clean_session => 0,
            0 => u32::MAX,
            seconds => u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }

    /// Whose session holds the queue: `$bridge/{name}`.
    pub fn local_client_id(&self) -> ClientId {
        ClientId::from(format!("$bridge/{}", self.settings.name).as_str())
    }

    /// How the session is opened. `receive_maximum`: PUBLISH packets of QoS 1 and 2 that the remote takes at a time.
    pub fn open(&self, receive_maximum: u16, remote: &str) -> Open {
        let window = self.window(receive_maximum);
        let who = Presence {
            protocol: &PROTOCOL,
            version: self.version.level(),
            peer: PeerName::from(remote),
            keep_alive: u16::try_from(self.settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            ..Presence::default()
        };
        Open {
            client: Entrant::of_gateway(self.local_client_id(), who),
            clean_start: false,
            expiry: NEVER,
            // Whatever becomes of this connection and of the gateway: who watches the bridge hears of it.
            will: self
                .notification(DOWN)
                .map(|message| {
                    Admitted::of_gateway(Will {
                        message: message.into_inner(),
                        delay: Duration::ZERO,
                        message_expiry: None,
                    })
                })
                .into(),
            receive_maximum: window,
            credit: 0,
            link: Some(Box::new(Link {
                queue: Some(self.queue_rules()),
                window: if self.gathers() { window } else { 0 },
            })),
            forgeable: false,
            wants_expired: false,
        }
    }

    /// Whether a rule gathers messages to batches.
    pub(crate) fn gathers(&self) -> bool {
        self.most_in_a_batch.is_some()
    }

    /// Messages that may be under way at a time, when the remote takes `receive_maximum` packets: more, if there are many in one.
    pub(crate) fn window(&self, receive_maximum: u16) -> u16 {
        let Some(most) = self.most_in_a_batch else {
            return receive_maximum;
        };
        let window = receive_maximum.saturating_mul(most);
        window.min(MAX_WINDOW).max(receive_maximum)
    }

    fn queue_rules(&self) -> QueueRules {
        let queue = self.settings.queue.clone().without_zeros();
        QueueRules {
            max_messages: queue.max_messages,
            max_bytes: queue.max_bytes,
            max_age: queue.max_age,
            when_full: queue.when_full,
            store_qos0: queue.qos0,
            priorities: self.topics.priorities(),
        }
    }

    /// What the session is subscribed to.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.topics.local_subscriptions()
    }

    /// QoS 1 and 2 messages that may be under way, if the remote does not say less.
    pub(crate) fn max_inflight(&self) -> u16 {
        match (self.settings.max_inflight, self.version()) {
            (0, Version::V5) => 100,
            (0, Version::V31 | Version::V311) => 20,
            (n, _) => n,
        }
    }

    /// What the bus is told of the bridge's state.
    pub(crate) fn notification(&self, state: &'static [u8]) -> Option<Admitted<Message>> {
        let topic = self.notification.clone()?;
        Some(Admitted::of_gateway(Message {
            qos: Qos::AtLeastOnce,
            retain: true,
            ..Message::new(topic, Bytes::from_static(state))
        }))
    }

    /// Where the remote is told of the bridge's state.
    pub(crate) fn remote_notification(&self) -> Option<Utf8> {
        let topic = self.notification.as_ref()?;
        let tells = !self.settings.notifications_local_only;
        tells.then(|| Utf8::new(topic.bytes().clone()).ok()).flatten()
    }
}

/// Messages that a bridge with batches has under way: each takes up memory.
const MAX_WINDOW: u16 = 10_000;

/// A notification's payload: the bridge is connected.
pub(crate) const UP: &[u8] = b"1";
/// A notification's payload: it is not.
pub(crate) const DOWN: &[u8] = b"0";

fn text(key: &'static str, value: String) -> Result<Utf8, BridgeSettingsError> {
    let fault = |what: String| BridgeSettingsError::Text {
        key,
        value: value.clone(),
        what,
    };
    if value.is_empty() {
        return Err(fault("must not be empty".into()));
    }
    Utf8::try_from(value.clone()).map_err(|cause| fault(cause.to_string()))
}

fn topic(key: &'static str, value: String) -> Result<Topic, BridgeSettingsError> {
    Topic::try_from(value.as_str()).map_err(|cause| BridgeSettingsError::Text {
        key,
        what: format!("is not a topic name: {cause}"),
        value,
    })
}

/// What the bridge shows of itself to the remote. Read anew for each connection, for it may have changed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: Option<Utf8>,
    pub(crate) password: Option<Bytes>,
}

/// Credentials that MQTT cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The user name is no MQTT string.
    #[error("the user name is longer than 65535 bytes or holds U+0000")]
    Username,
    /// The password is too long.
    #[error("the password is longer than 65535 bytes")]
    Password,
    /// Before MQTT 5 a password goes with a user name. \[3.1.1 MQTT-3.1.2-22\]
    #[error("a password needs a user name before MQTT 5")]
    PasswordAlone,
}

impl Credentials {
    /// Checks what is to be shown to a remote of this version.
    pub fn new(
        username: Option<String>,
        password: Option<Bytes>,
        version: Version,
    ) -> Result<Self, CredentialsError> {
        let username = username
            .map(Utf8::try_from)
            .transpose()
            .map_err(|_| CredentialsError::Username)?;
        if password.as_ref().is_some_and(|p| p.len() > usize::from(u16::MAX)) {
            return Err(CredentialsError::Password);
        }
        if username.is_none() && password.is_some() && version != Version::V5 {
            return Err(CredentialsError::PasswordAlone);
        }
        Ok(Self { username, password })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
