//! Publishing over HTTP, for all APIs: a message passes the gate as one of a client does, and whoever published it is answered when it is as safe as a
//! PUBACK promises.
//!
//! Administrators, and who may open the control socket, may publish whatever a client could be allowed to. Everybody else is held to the access rules, as a
//! client with the user name of who is logged in; client id is `http`, or what the request names.

use super::guard::{self, Asking};
use super::routes::Routes;
use super::server::{Answer, Control, Failure};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_access::{ConnectionInfo, PeerAddr};
use headgate_admin::Role;
use headgate_model::access::Unrestricted;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::gate::{is_of_gateway, is_reserved};
use headgate_model::message::Properties;
use headgate_model::{
    AccessPolicy, Admitted, ClientId, Message, Metric, NameError, Naming, Qos, Topic, TopicError, UserLimit,
    Verdict,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The client id of who says none. EMQ 2 has it so.
pub(super) const CLIENT_ID: &str = "http";
/// Bytes that a text of MQTT may have. MQTT 5 §1.5.4
const MAX_TEXT: usize = 65_535;

pub(super) fn routes() -> Routes {
    Routes::default().ask(Role::Operator, "/publish", "Publishes a message.", publish)
}

/// Who publishes.
pub(super) struct Author {
    client: ClientId,
    user: Option<Arc<str>>,
    policy: Arc<dyn AccessPolicy>,
    /// Whose rate it is.
    account: Option<Arc<str>>,
    listener: Arc<str>,
    peer: PeerAddr,
}

/// What is to be published, as it was said.
#[derive(Default)]
pub(super) struct Letter {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u64,
    pub retain: bool,
    pub expiry_seconds: Option<u32>,
    pub properties: Properties,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unpublished {
    /// Its topic is none.
    #[error("`{0}` is not a topic name: {1}")]
    Topic(String, TopicError),
    /// Its topic has no place here.
    #[error("`{0}`: {1}")]
    Name(String, NameError),
    /// There is no such QoS, or it is more than `mqtt.max_qos`.
    #[error("QoS {0} is out of range, allowed is 0 to {1}")]
    Qos(u64, u8),
    /// Nothing is retained here.
    #[error("nothing is retained here (mqtt.retain_available)")]
    Retain,
    /// Nobody may have this client id, or somebody else has.
    #[error("`{0}` is a client id that nobody may have, or another user's")]
    ClientId(String),
    /// It is larger than a client may send.
    #[error("a message of {size} bytes, limit {limit} (mqtt.max_packet_size)")]
    TooLarge { size: usize, limit: usize },
    /// A property that MQTT cannot carry.
    #[error("{0} is longer than MQTT can carry, or no text")]
    Property(&'static str),
    /// Where an answer is expected is no topic.
    #[error("response topic `{0}`: {1}")]
    ResponseTopic(String, TopicError),
    /// Too many at once.
    #[error("too many messages at once ({})", .0.name())]
    TooFast(UserLimit),
    /// The access rules do not let it pass.
    #[error("`{topic}` may not be published: {why}")]
    Denied { topic: String, why: String },
    /// The bus did not take it.
    #[error("{0}")]
    Refused(Refusal),
}

impl Unpublished {
    /// Its topic is the gateway's own.
    fn system(message: &Message) -> Self {
        Self::Denied {
            topic: message.topic.to_string(),
            why: "topics under $SYS are the gateway's".into(),
        }
    }

    /// What HTTP has for it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Topic(..)
            | Self::Name(..)
            | Self::Qos(..)
            | Self::Retain
            | Self::ClientId(_)
            | Self::Property(_)
            | Self::ResponseTopic(..)
            | Self::Refused(Refusal::TopicInvalid) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooFast(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Unpublished> for Failure {
    fn from(error: Unpublished) -> Self {
        Self(error.status(), error.to_string())
    }
}

impl Author {
    /// Who asks by an API, at a listener or, without `info`, at the control socket.
    pub(super) fn of(
        control: &Control,
        asking: &Asking,
        info: Option<&ConnectionInfo>,
        client: Option<&str>,
    ) -> Result<Self, Unpublished> {
        let client = client_id(client)?;
        let user: Arc<str> = asking.who.name.as_str().into();
        if asking.who.role < Role::Administrator {
            not_of_others(control, &client, Some(&user))?;
        }
        let listener = info.map_or_else(|| "".into(), |info| Arc::clone(&info.listener));
        let peer = info.map_or(PeerAddr::Memory, |info| info.peer);
        let policy = match asking.who.role {
            Role::Administrator => Arc::new(Unrestricted),
            Role::Viewer | Role::Operator => {
                let address = guard::address(peer);
                control
                    .access
                    .policy(&listener, client.as_str(), Some(&user), address)
            }
        };
        Ok(Self {
            client,
            // Administrators are not users of devices, though their names may be alike.
            account: Some(format!("administrator {user}").into()),
            user: Some(user),
            policy,
            listener,
            peer,
        })
    }

    /// A user of devices who was let in.
    pub(super) fn of_user(
        client: ClientId,
        user: Option<Arc<str>>,
        policy: Arc<dyn AccessPolicy>,
        info: &ConnectionInfo,
    ) -> Self {
        Self {
            client,
            account: user.clone(),
            user,
            policy,
            listener: Arc::clone(&info.listener),
            peer: info.peer,
        }
    }

    /// Takes a message through the gate. Nothing is published yet.
    pub(super) async fn admit(
        &self,
        control: &Control,
        letter: Letter,
    ) -> Result<Admitted<Message>, Unpublished> {
        let config = control.live.config().await;
        let mqtt = &config.mqtt;
        let naming = Naming {
            rewriter: control.live.listeners().rewriter(),
            max_bytes: mqtt.max_topic_bytes,
            max_levels: mqtt.max_topic_levels,
            ..Naming::default()
        };
        let limit = usize::try_from(mqtt.max_packet_size).unwrap_or(usize::MAX);
        let message = letter.message(control, mqtt.max_qos, mqtt.retain_available, limit)?;
        let rates = control.live.listeners().total().user_rates();
        let size = message.topic.as_bytes().len() + message.payload.len();
        if let Some(account) = &self.account {
            let admits = rates.admits(account, size, control.hub.clock().now());
            admits.map_err(Unpublished::TooFast)?;
        }
        control.counters.count(match message.qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        let refused = match naming.gate(&self.client, Some(&self.policy)).publish(message) {
            // A client may say there whether it is up. Who asks by HTTP is none, and names any.
            Verdict::Admitted(message) if is_of_gateway(&message) => {
                return Err(Unpublished::system(&message));
            }
            Verdict::Admitted(message) => return Ok(message),
            Verdict::Refused(refused) => refused,
            // The rules of this gateway decide at once; who would have to be asked is not.
            Verdict::Ask(waiting) => match waiting.decide(None) {
                Ok(message) => return Ok(message),
                Err(refused) => refused,
            },
        };
        let topic = String::from_utf8_lossy(refused.wanted.name()).into_owned();
        if let Some(error) = refused.name_error() {
            return Err(Unpublished::Name(topic, error.clone()));
        }
        control.counters.count(Metric::DroppedNotAuthorized);
        let why = refused.why(Some(&self.policy)).into_owned();
        let (client, user) = (self.client.as_str(), self.user.as_deref());
        tracing::info!(listener = %self.listener, client, user, peer = %self.peer, topic, why, "publish refused");
        Err(Unpublished::Denied { topic, why })
    }

    /// Publishes one. Comes back when it is as safe as a PUBACK promises.
    pub(super) async fn publish(&self, control: &Control, letter: Letter) -> Result<Outcome, Unpublished> {
        let message = self.admit(control, letter).await?;
        control.hub.publish(message).await.map_err(Unpublished::Refused)
    }
}

/// A client id is its owner's while there is a session of it: nobody else has its rules.
pub(super) fn not_of_others(
    control: &Control,
    client: &ClientId,
    user: Option<&str>,
) -> Result<(), Unpublished> {
    let known = control.hub.session(client.as_str());
    let is_of_others = known.is_some_and(|known| known.client.presence.username.as_deref() != user);
    match is_of_others {
        true => Err(Unpublished::ClientId(client.to_string())),
        false => Ok(()),
    }
}

/// The client id that a request names.
pub(super) fn client_id(named: Option<&str>) -> Result<ClientId, Unpublished> {
    let named = named.unwrap_or(CLIENT_ID);
    match is_reserved(named) || named.len() > MAX_TEXT || named.contains('\0') {
        false => Ok(named.into()),
        true => Err(Unpublished::ClientId(named.to_owned())),
    }
}

impl Letter {
    fn message(
        self,
        control: &Control,
        max_qos: u8,
        retains: bool,
        limit: usize,
    ) -> Result<Message, Unpublished> {
        let topic = Topic::parse(Bytes::from(self.topic.clone()));
        let topic = topic.map_err(|error| Unpublished::Topic(self.topic, error))?;
        let qos = u8::try_from(self.qos).ok().filter(|qos| *qos <= max_qos);
        let qos = qos.and_then(Qos::from_u8);
        let qos = qos.ok_or(Unpublished::Qos(self.qos, max_qos))?;
        if self.retain && !retains {
            return Err(Unpublished::Retain);
        }
        check(&self.properties, &self.payload)?;
        let has_properties = self.properties != Properties::default();
        let now = control.hub.clock().now();
        let message = Message {
            qos,
            retain: self.retain,
            expires_at: self
                .expiry_seconds
                .map(|seconds| now + Duration::from_secs(seconds.into())),
            properties: has_properties.then(|| Box::new(self.properties)),
            ..Message::new(topic, self.payload)
        };
        // With no more than what MQTT writes around it.
        let size = message.size() - size_of::<Message>();
        match size > limit {
            true => Err(Unpublished::TooLarge { size, limit }),
            false => Ok(message),
        }
    }
}

/// Whether MQTT can carry them. MQTT 5 §1.5, §3.3.2.3
fn check(properties: &Properties, payload: &[u8]) -> Result<(), Unpublished> {
    let is_text = |text: &[u8]| {
        let text = std::str::from_utf8(text).ok();
        text.is_some_and(|text| text.len() <= MAX_TEXT && !text.contains('\0'))
    };
    if properties.payload_is_utf8 == Some(true) && std::str::from_utf8(payload).is_err() {
        return Err(Unpublished::Property("the payload, which is said to be text,"));
    }
    if !properties.content_type.as_deref().is_none_or(is_text) {
        return Err(Unpublished::Property("the content type"));
    }
    let pairs = &properties.user_properties;
    if !pairs.iter().all(|(name, value)| is_text(name) && is_text(value)) {
        return Err(Unpublished::Property("a user property"));
    }
    let correlation = properties.correlation_data.as_deref().unwrap_or_default();
    if correlation.len() > MAX_TEXT {
        return Err(Unpublished::Property("the correlation data"));
    }
    if let Some(topic) = &properties.response_topic {
        let wrong = |error| Unpublished::ResponseTopic(String::from_utf8_lossy(topic).into_owned(), error);
        Topic::parse(topic.clone()).map_err(wrong)?;
    }
    Ok(())
}

/// A message. One of `payload` and `payload_base64`; without them it is empty.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    qos: u64,
    #[serde(default)]
    retain: bool,
    /// After so many seconds it is delivered to nobody any more.
    expiry_seconds: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    /// Names and values.
    #[serde(default)]
    user_properties: Vec<(String, String)>,
}

/// Whom it went to.
#[derive(Serialize, JsonSchema)]
struct Receivers {
    /// Sessions, and groups of shared subscriptions, that wanted it at that moment.
    receivers: usize,
}

fn decoded(what: &str, text: &str) -> Result<Bytes, Failure> {
    let decoded = STANDARD.decode(text).map(Bytes::from);
    decoded.map_err(|error| Failure(StatusCode::UNPROCESSABLE_ENTITY, format!("{what}: {error}")))
}

impl Wanted {
    fn letter(self) -> Result<Letter, Failure> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => {
                let what = "one of payload and payload_base64, not both";
                return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
            }
            (Some(text), None) => text.into(),
            (None, Some(base64)) => decoded("payload_base64", &base64)?,
            (None, None) => Bytes::new(),
        };
        let correlation = self.correlation_data_base64.as_deref();
        let correlation = correlation.map(|text| decoded("correlation_data_base64", text));
        let pairs = self.user_properties.into_iter();
        Ok(Letter {
            topic: self.topic,
            payload,
            qos: self.qos,
            retain: self.retain,
            expiry_seconds: self.expiry_seconds,
            properties: Properties {
                payload_is_utf8: None,
                content_type: self.content_type.map(Bytes::from),
                response_topic: self.response_topic.map(Bytes::from),
                correlation_data: correlation.transpose()?,
                user_properties: pairs.map(|(name, value)| (name.into(), value.into())).collect(),
            },
        })
    }
}

async fn publish(
    State(control): State<Control>,
    Extension(asking): Extension<Asking>,
    info: Option<Extension<Arc<ConnectionInfo>>>,
    Json(wanted): Json<Wanted>,
) -> Answer<Receivers> {
    let info = info.map(|Extension(info)| info);
    let author = Author::of(&control, &asking, info.as_deref(), None)?;
    let message = author.admit(&control, wanted.letter()?).await?;
    let found = control.hub.receivers(&message.topic, 1);
    let published = control.hub.publish(message).await;
    published.map_err(Unpublished::Refused)?;
    Ok(Json(Receivers {
        receivers: found.sessions + found.groups,
    }))
}
