//! What a trace says of packets and of the words between endpoints and the bus: one line each, without secrets.

use crate::bus::{BusCommand, BusEvent, PeerName};
use crate::{Answer, Question};
use bytes::Bytes;
use std::fmt::Write;

/// Filters that are told of one packet.
const MOST_FILTERS: usize = 16;

/// One packet, as its codec's adapter tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketTrace {
    /// Kind, topic, QoS, flags, identifiers and reason codes.
    pub text: String,
    /// The client id that stands in it, if it has one.
    pub client: Option<String>,
    /// Its payload.
    pub payload: Option<Bytes>,
}

impl PacketTrace {
    /// Without client id and payload.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// Who is at the other end, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Party<'a> {
    /// The client id.
    pub client: Option<&'a str>,
    /// Where it comes from.
    pub peer: Option<&'a PeerName>,
}

/// One word between an endpoint and the bus that is about topics.
#[derive(Debug)]
pub struct BusTrace<'a> {
    /// What happens.
    pub text: String,
    /// The topics or filters, as on the bus.
    pub topics: Vec<&'a [u8]>,
    /// The message's payload.
    pub payload: Option<&'a Bytes>,
}

impl BusCommand {
    /// For a trace; `None` for what is no news of a client.
    pub fn traced(&self) -> Option<BusTrace<'_>> {
        let (text, topics, payload) = match self {
            Self::Publish { message, .. } => (
                format!(
                    "publish topic={} qos={} retain={} payload={}",
                    message.topic,
                    message.qos as u8,
                    message.retain,
                    message.payload.len()
                ),
                vec![message.topic.as_bytes()],
                Some(&message.payload),
            ),
            Self::Subscribe { subscriptions, .. } => {
                let mut text = "subscribe".to_owned();
                for subscription in subscriptions.iter().take(MOST_FILTERS) {
                    let (name, qos) = (subscription.stored_name(), subscription.options.qos as u8);
                    let _ = write!(text, " {name} (qos={qos})");
                }
                let filters = subscriptions.iter().map(|held| held.filter.as_bytes());
                (text, filters.collect(), None)
            }
            Self::SubscribeOnly { subscription, .. } => {
                let (name, qos) = (subscription.stored_name(), subscription.options.qos as u8);
                let text = format!("subscribe only {name} (qos={qos})");
                (text, vec![subscription.filter.as_bytes()], None)
            }
            Self::Unsubscribe { subscriptions, .. } => {
                let mut text = "unsubscribe".to_owned();
                for subscription in subscriptions.iter().take(MOST_FILTERS) {
                    let _ = write!(text, " {}", subscription.stored_name());
                }
                let filters = subscriptions.iter().map(|held| held.filter.as_bytes());
                (text, filters.collect(), None)
            }
            Self::FallAsleep { patience, .. } => (format!("falls asleep for {patience:?}"), Vec::new(), None),
            Self::Close { reason, .. } => (format!("leaves: {}", reason.as_str()), Vec::new(), None),
            _ => return None,
        };
        Some(BusTrace {
            text,
            topics,
            payload,
        })
    }
}

impl BusEvent {
    /// For a trace; `None` for what is no news of a client.
    pub fn traced(&self) -> Option<BusTrace<'_>> {
        let told = |text: String| {
            Some(BusTrace {
                text,
                topics: Vec::new(),
                payload: None,
            })
        };
        match self {
            Self::Delivery(delivery) => {
                let message = &delivery.message;
                Some(BusTrace {
                    text: format!(
                        "deliver topic={} qos={} retain={} again={} payload={}",
                        message.topic,
                        delivery.qos as u8,
                        delivery.retain,
                        delivery.redelivered,
                        message.payload.len()
                    ),
                    topics: vec![message.topic.as_bytes()],
                    payload: Some(&message.payload),
                })
            }
            Self::Opened { present, .. } => told(format!("session opened, it was there: {present}")),
            Self::OpenRefused(why) => told(format!("session refused: {why}")),
            Self::Refused(_, why) => told(format!("publish refused: {why}")),
            Self::Subscribed { results, .. } => {
                let refused = results.iter().filter_map(|result| result.as_ref().err());
                let refused: Vec<String> = refused.map(|why| format!("refused: {why}")).collect();
                (!refused.is_empty()).then(|| told(format!("subscription {}", refused.join(", "))))?
            }
            Self::TakenOver => told("another connection takes the session over".to_owned()),
            Self::Kicked => told("thrown out by an operator or a rule".to_owned()),
            Self::Asleep => told("sleeps".to_owned()),
            _ => None,
        }
    }
}

impl Question {
    /// For a trace: without passwords.
    pub fn traced(&self) -> String {
        match self {
            Self::Authenticate(who) | Self::Reauthenticate(who) => format!(
                "log-in is checked: client={} user={} password={} method={}",
                who.client_id.as_str(),
                who.username.as_deref().unwrap_or("(none)"),
                if who.password.is_some() {
                    "(given)"
                } else {
                    "(none)"
                },
                who.method.as_deref().unwrap_or("(none)")
            ),
            Self::Continue(_) => "log-in goes on".to_owned(),
            Self::Identify => "its keys are asked for its name".to_owned(),
            Self::Readmit(who) => format!(
                "log-in of before the restart is looked at: client={} user={}",
                who.client_id.as_str(),
                who.owner.as_deref().unwrap_or("(none)")
            ),
            Self::Authorize(requests) => format!("rules are asked about {} requests", requests.len()),
        }
    }
}

impl Answer {
    /// For a trace: the verdict.
    pub fn traced(&self) -> String {
        match self {
            Self::Allowed { identity, .. } => match &identity.username {
                Some(user) => format!("log-in is good, as user {user}"),
                None => "log-in is good, as anonymous client".to_owned(),
            },
            Self::Refused(why) => format!("log-in is refused: {why:?}"),
            Self::Challenge(_) => "log-in wants another step".to_owned(),
            Self::Authorized(decisions) => format!("rules say {decisions:?}"),
            Self::Identified(name) => format!("its keys say {}", name.as_deref().unwrap_or("(none)")),
        }
    }
}
