//! Registration with Azure's Device Provisioning Service: asked by MQTT which hub is the device's. Pure; the connection is there, and CONNACK came.
//!
//! Always true: one question is under way at a time, answers to others are not looked at; an answer is read only if it is short; it ends within
//! three minutes, one way or the other.
//!
//! Sources, as of 2026: Azure "Communicate with DPS using the MQTT protocol"; "Runtime Registration" in the reference of its REST API for the answers' JSON.

use crate::azure::{Assignment, LONGEST_ID, Provisioning};
use headgate_model::Instant;
use headgate_mqtt_codec::{
    Ack, AckKind, Packet, PacketId, PacketType, Publish, Qos, ReasonCode, Subscribe, SubscribeFilter,
    SubscribeOptions, Utf8,
};
use serde::Deserialize;
use std::time::Duration;

const ANSWERS: &str = "$dps/registrations/res/#";
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For all of it: a hub may be chosen by somebody's own program.
const LONGEST: Duration = Duration::from_secs(180);
/// Until the next question, if the service does not say.
const PAUSE: u64 = 3;
const LONGEST_PAUSE: u64 = 60;
const LONGEST_ANSWER: usize = 64 << 10;
/// Of what the service says in words, characters.
const LONGEST_WORDS: usize = 300;
const LONGEST_HOST: usize = 255;

/// One registration.
#[derive(Debug)]
pub struct Registration {
    request: String,
    phase: Phase,
    /// Of the question that was asked last.
    number: u16,
    /// What the service calls the registration, once it has begun.
    operation: Option<String>,
    gives_up_at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// SUBACK is awaited, until then.
    Subscribing(Instant),
    /// An answer is awaited, until then.
    Asked(Instant),
    /// It is asked again then.
    Pausing(Instant),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ProvisioningInput {
    /// This came.
    Packet(Packet),
    /// A deadline passed.
    Timeout,
}

/// Why nothing was assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisioningError {
    /// The service does not answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    NoAnswer,
    /// It answers, and does not come to an end.
    #[error("nothing was assigned within {} s", LONGEST.as_secs())]
    TooLong,
    /// SUBACK said no.
    #[error("the subscription to {ANSWERS} was refused: {0}")]
    Subscription(ReasonCode),
    /// It does not want this device.
    #[error("refused: {status} {words}")]
    Refused {
        /// As in HTTP.
        status: u16,
        /// What it says to it.
        words: String,
    },
    /// The registration ended without a hub.
    #[error("the registration is `{status}`: {words}")]
    Ended {
        /// `failed` or `disabled`.
        status: String,
        /// What it says to it.
        words: String,
    },
    /// An answer that cannot be understood.
    #[error("an answer cannot be understood: {0}")]
    Malformed(&'static str),
    /// What no server sends now.
    #[error("{0} out of turn")]
    OutOfTurn(PacketType),
}

/// What came of it.
pub type Provisioned = Result<Assignment, ProvisioningError>;

/// A RegistrationOperationStatus, or an error.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    operation_id: Option<String>,
    status: Option<String>,
    registration_state: Option<State>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    assigned_hub: Option<String>,
    device_id: Option<String>,
    error_message: Option<String>,
}

/// What the topic of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Heading {
    status: u16,
    number: u16,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Registration {
    /// Begins: what is to be sent is in `out`.
    pub fn new(provisioning: &Provisioning, now: Instant, out: &mut Vec<Packet>) -> Self {
        out.push(Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::MAX,
            identifier: None,
            user_properties: Vec::new(),
            filters: vec![SubscribeFilter {
                filter: Utf8::from(ANSWERS),
                options: SubscribeOptions::qos(Qos::AtLeastOnce),
            }],
        })));
        Self {
            request: provisioning.request.clone(),
            phase: Phase::Subscribing(now + PATIENCE),
            number: 0,
            operation: None,
            gives_up_at: now + LONGEST,
        }
    }

    /// Takes what happened; writes into `out` what is to be sent. When something comes of it, it is at its end.
    pub fn handle(
        &mut self,
        input: ProvisioningInput,
        now: Instant,
        out: &mut Vec<Packet>,
    ) -> Option<Provisioned> {
        match input {
            ProvisioningInput::Packet(Packet::SubAck(suback)) => {
                if let Some(code) = suback.codes.iter().find(|code| code.is_error()) {
                    return Some(Err(ProvisioningError::Subscription(*code)));
                }
                if matches!(self.phase, Phase::Subscribing(_)) {
                    return self.ask(now, out);
                }
                None
            }
            ProvisioningInput::Packet(Packet::Publish(publish)) => {
                if let Some(id) = publish.packet_id {
                    out.push(Packet::Ack(Ack::success(AckKind::PubAck, id)));
                }
                self.on_answer(&publish, now)
            }
            // That a question has arrived does not answer it.
            ProvisioningInput::Packet(Packet::Ack(_) | Packet::PingResp) => None,
            ProvisioningInput::Packet(packet) => {
                Some(Err(ProvisioningError::OutOfTurn(packet.packet_type())))
            }
            ProvisioningInput::Timeout => self.on_timeout(now, out),
        }
    }

    /// When [`ProvisioningInput::Timeout`] is wanted.
    pub fn deadline(&self) -> Instant {
        let (Phase::Subscribing(at) | Phase::Asked(at) | Phase::Pausing(at)) = self.phase;
        at.min(self.gives_up_at)
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Packet>) -> Option<Provisioned> {
        if now < self.deadline() {
            return None;
        }
        if now >= self.gives_up_at {
            return Some(Err(ProvisioningError::TooLong));
        }
        match self.phase {
            Phase::Pausing(_) => self.ask(now, out),
            Phase::Subscribing(_) | Phase::Asked(_) => Some(Err(ProvisioningError::NoAnswer)),
        }
    }

    /// Asks to be registered, or how far that is.
    fn ask(&mut self, now: Instant, out: &mut Vec<Packet>) -> Option<Provisioned> {
        self.number += 1;
        let number = self.number;
        let (topic, payload) = match &self.operation {
            None => (
                format!("$dps/registrations/PUT/iotdps-register/?$rid={number}"),
                self.request.clone(),
            ),
            Some(operation) => (
                format!(
                    "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={number}&operationId={operation}"
                ),
                String::new(),
            ),
        };
        let Ok(topic) = Utf8::try_from(topic) else {
            return Some(Err(ProvisioningError::Malformed("operationId is too long")));
        };
        out.push(Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            packet_id: PacketId::new(number),
            topic,
            payload: payload.into(),
            ..Publish::default()
        }));
        self.phase = Phase::Asked(now + PATIENCE);
        None
    }

    fn on_answer(&mut self, publish: &Publish, now: Instant) -> Option<Provisioned> {
        let Some(heading) = Heading::of(publish.topic.as_str()) else {
            return Some(Err(ProvisioningError::Malformed("its topic")));
        };
        // An answer comes again, or late.
        if heading.number != self.number || !matches!(self.phase, Phase::Asked(_)) {
            return None;
        }
        let answer = read(&publish.payload);
        match (heading.status, answer) {
            (429 | 500..=599, _) => self.pause(&heading, now),
            (300.., answer) => Some(Err(ProvisioningError::Refused {
                status: heading.status,
                words: words(answer.unwrap_or_default().message),
            })),
            (_, Err(error)) => Some(Err(error)),
            (_, Ok(answer)) => self.on_status(answer, &heading, now),
        }
    }

    fn on_status(&mut self, answer: Answer, heading: &Heading, now: Instant) -> Option<Provisioned> {
        let state = answer.registration_state.unwrap_or_default();
        match answer.status.as_deref() {
            Some("assigned") => Some(assignment(state)),
            Some(status @ ("failed" | "disabled")) => Some(Err(ProvisioningError::Ended {
                status: status.to_owned(),
                words: words(state.error_message.or(answer.message)),
            })),
            // It is not decided yet: `assigning`, `unassigned`.
            _ => {
                if let Some(operation) = answer.operation_id {
                    if !is_name(&operation, 1_024, "-._~:") {
                        return Some(Err(ProvisioningError::Malformed("operationId")));
                    }
                    self.operation = Some(operation);
                }
                if self.operation.is_none() {
                    return Some(Err(ProvisioningError::Malformed("operationId is missing")));
                }
                self.pause(heading, now)
            }
        }
    }

    fn pause(&mut self, heading: &Heading, now: Instant) -> Option<Provisioned> {
        let seconds = heading.retry_after.unwrap_or(PAUSE).clamp(1, LONGEST_PAUSE);
        self.phase = Phase::Pausing(now + Duration::from_secs(seconds));
        None
    }
}

impl Heading {
    /// `$dps/registrations/res/{status}/?$rid={number}&retry-after={seconds}`
    fn of(topic: &str) -> Option<Self> {
        let rest = topic.strip_prefix("$dps/registrations/res/")?;
        let (status, properties) = rest.split_once("/?")?;
        let mut heading = Self {
            status: status.parse().ok()?,
            number: 0,
            retry_after: None,
        };
        for property in properties.split('&') {
            match property.split_once('=') {
                Some(("$rid", number)) => heading.number = number.parse().ok()?,
                Some(("retry-after", seconds)) => heading.retry_after = seconds.parse().ok(),
                _ => {}
            }
        }
        Some(heading)
    }
}

fn read(payload: &[u8]) -> Result<Answer, ProvisioningError> {
    if payload.len() > LONGEST_ANSWER {
        return Err(ProvisioningError::Malformed("it is longer than 64 KiB"));
    }
    let answer = serde_json::from_slice(payload);
    answer.map_err(|_| ProvisioningError::Malformed("it is not the JSON that is expected"))
}

/// It becomes a host name, a user name and parts of topics.
fn assignment(state: State) -> Provisioned {
    let hub = state.assigned_hub.unwrap_or_default();
    if !is_name(&hub, LONGEST_HOST, "-.:") {
        return Err(ProvisioningError::Malformed("assignedHub is no host name"));
    }
    let device = state.device_id.unwrap_or_default();
    if !is_name(&device, LONGEST_ID, "-._%*?!(),:=@$'") {
        return Err(ProvisioningError::Malformed("deviceId cannot stand in a topic"));
    }
    Ok(Assignment { hub, device })
}

fn is_name(text: &str, longest: usize, signs: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    (1..=longest).contains(&text.len()) && text.chars().all(good)
}

fn words(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(LONGEST_WORDS).collect()
}
