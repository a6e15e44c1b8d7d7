//! From CONNECT to CONNACK. MQTT 5 §3.1, §3.2, §4.12

use crate::convert;
use crate::counters::PacketMetric;
use crate::endpoint::{Held, Method, MqttEndpoint, Opening, Out, PROTOCOL, Phase};
use bytes::Bytes;
use headgate_model::access::{Credentials, Wanted};
use headgate_model::bus::{NEVER, Presence};
use headgate_model::gate::{Waiting, is_own_state, is_reserved};
use headgate_model::link::BRIDGE_PROPERTY;
use headgate_model::{
    Admitted, Answer, BusCommand, ClientId, Identity, Instant, Message, Metric, Open, PeerFacts, Question,
    Refused, Topic, Verdict, Will,
};
use headgate_mqtt_codec::{
    Auth, ConnAck, ConnAckProperties, Connect, DecodeError, Packet, ReasonCode, Utf8, Version,
    Will as WireWill, fit,
};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

/// Deliveries the bus may hand over before more are granted.
const CREDIT: u32 = 1_024;

/// A CONNECT on its way to its CONNACK.
#[derive(Debug)]
pub(crate) struct Connecting {
    connect: Connect,
    will: Option<Will>,
    assigned: bool,
    /// The last word of enhanced authentication, for CONNACK.
    auth_data: Option<Bytes>,
    pub facts: PeerFacts,
    /// As it was let in.
    pub identity: Option<Identity>,
    /// It must be let in by then.
    pub until: Instant,
}

impl MqttEndpoint {
    pub(crate) fn on_connect(&mut self, mut connect: Connect, now: Instant, out: &mut Out) {
        self.version = connect.version;
        self.bridge = connect.bridge || calls_itself_bridge(&connect);
        self.quiet = connect.properties.request_problem_information == Some(false);
        self.max_packet_size = connect
            .properties
            .maximum_packet_size
            .map_or(u32::MAX, NonZeroU32::get);
        let Phase::Fresh(fresh) = &self.phase else { return };
        let facts = fresh.facts.clone();
        let assigned = connect.client_id.is_empty();
        if let Err(reason) = self.take_client_id(&connect, facts.nonce) {
            self.client_id = ClientId::from(connect.client_id.as_str());
            return self.refuse(reason, out);
        }
        let will = match connect.will.take().map(|will| self.check_will(will)).transpose() {
            Ok(will) => will,
            Err(reason) => return self.refuse(reason, out),
        };
        // mosquitto's bridge of version 5 says by nothing else what it is.
        let own_state = |will: &Will| is_own_state(&self.client_id, &will.message);
        self.bridge |= self.version == Version::V5 && will.as_ref().is_some_and(own_state);
        let method = connect.properties.authentication_method.take();
        self.method = method.map(|name| {
            let name = Utf8::new(Bytes::copy_from_slice(name.as_str().as_bytes())).expect("a copy of UTF-8");
            Box::new(Method { name, username: None }) // a slice would keep all of CONNECT
        });
        let username = connect.username.take();
        let data = connect.properties.authentication_data.take();
        let credentials = self.credentials(username, connect.password.take(), data);
        let until = now + self.settings.connect_timeout;
        let connecting = Box::new(Connecting {
            connect,
            will,
            assigned,
            auth_data: None,
            facts,
            identity: None,
            until,
        });
        self.phase = Phase::Connecting(connecting);
        self.ask(Held::Connect, Question::Authenticate(Box::new(credentials)), out);
    }

    fn take_client_id(&mut self, connect: &Connect, nonce: u128) -> Result<(), ReasonCode> {
        if connect.client_id.len() > self.settings.max_client_id_bytes {
            return Err(ReasonCode::ClientIdentifierNotValid); // [MQTT-3.1.3-8] [3.1.1 MQTT-3.1.3-9]
        }
        if is_reserved(connect.client_id.as_str()) {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if !connect.client_id.is_empty() {
            self.client_id = ClientId::from(connect.client_id.as_str());
            return Ok(());
        }
        // 3.1 has no empty identifiers; 3.1.1 only with a clean session. [3.1.1 MQTT-3.1.3-7] [3.1.1 MQTT-3.1.3-8]
        if connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start) {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        self.client_id = ClientId::from(format!("auto-{nonce:032x}").as_str()); // [MQTT-3.1.3-6]
        Ok(())
    }

    fn check_will(&self, will: WireWill) -> Result<Will, ReasonCode> {
        let qos = convert::qos_from_wire(will.qos);
        if qos as u8 > self.settings.max_qos {
            return Err(ReasonCode::QosNotSupported); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.settings.retain_available {
            return Err(ReasonCode::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        if will.properties.payload_format == Some(true) && std::str::from_utf8(&will.payload).is_err() {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        let topic = Topic::parse(will.topic.into_bytes()).map_err(|_| ReasonCode::TopicNameInvalid)?;
        Ok(Will {
            delay: Duration::from_secs(will.properties.delay_interval.unwrap_or(0).into()),
            message_expiry: will
                .properties
                .message_expiry
                .map(|s| Duration::from_secs(s.into())),
            message: Message {
                qos,
                retain: will.retain,
                properties: convert::will_properties(will.properties),
                ..Message::new(topic, will.payload)
            },
        })
    }

    pub(crate) fn credentials(
        &self,
        username: Option<Utf8>,
        password: Option<Bytes>,
        data: Option<Bytes>,
    ) -> Credentials {
        Credentials {
            client_id: self.client_id.clone(),
            username: username.map(|name| Arc::from(name.as_str())),
            password,
            method: self.method_name().map(|name| Arc::from(name.as_str())),
            data,
            link: self.bridge,
        }
    }

    pub(crate) fn on_auth_while_connecting(&mut self, auth: Auth, now: Instant, out: &mut Out) {
        let properties = auth.properties.map(|p| *p).unwrap_or_default();
        // A method that CONNECT did not name, or another one. [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        if self.method.is_none()
            || properties.method.as_ref() != self.method_name()
            || auth.reason != ReasonCode::ContinueAuthentication
        {
            return self.refuse(ReasonCode::ProtocolError, out);
        }
        if let Phase::Connecting(connecting) = &mut self.phase {
            connecting.until = now + self.settings.connect_timeout;
        }
        self.ask(Held::Connect, Question::Continue(properties.data), out);
    }

    pub(crate) fn on_authenticated(&mut self, answer: Answer, now: Instant, out: &mut Out) {
        let Phase::Connecting(connecting) = &mut self.phase else {
            return;
        };
        match answer {
            Answer::Allowed { identity, data } => {
                connecting.auth_data = data;
                if let Some(method) = &mut self.method {
                    method.username = identity.username.clone();
                }
                connecting.identity = Some(identity);
                let Some(will) = connecting.will.take() else {
                    return self.open(None, now, out);
                };
                match self.gate().will(will) {
                    Verdict::Admitted(will) => self.open(Some(will), now, out),
                    Verdict::Refused(refused) => self.refuse_will(&refused, out),
                    Verdict::Ask(will) => {
                        let question = Question::Authorize(vec![will.request()]);
                        self.ask(Held::Will(will), question, out);
                    }
                }
            }
            Answer::Challenge(data) => {
                self.send_auth(ReasonCode::ContinueAuthentication, Some(data), out); // [MQTT-4.12.0-2]
            }
            // The access service has written to the log whom it refused, and why.
            Answer::Refused(why) => self.turn_away(refusal_code(why, self.version), out),
            Answer::Authorized(_) | Answer::Identified(_) => {
                self.refuse(ReasonCode::ImplementationSpecificError, out);
            }
        }
    }

    pub(crate) fn on_will_decided(
        &mut self,
        will: Waiting<Will>,
        answer: &Answer,
        now: Instant,
        out: &mut Out,
    ) {
        match will.decide(answer.decision(0)) {
            Ok(will) => self.open(Some(will), now, out),
            Err(refused) => self.refuse_will(&refused, out),
        }
    }

    fn refuse_will(&mut self, refused: &Refused, out: &mut Out) {
        self.tell_refused(refused, out);
        let reason = match refused.name_error() {
            Some(_) => ReasonCode::TopicNameInvalid,
            None => ReasonCode::NotAuthorized,
        };
        self.turn_away(reason, out);
    }

    /// The client is let in: the bus opens its session, and CONNACK says on which terms.
    fn open(&mut self, will: Option<Admitted<Will>>, now: Instant, out: &mut Out) {
        let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        let Connecting {
            connect,
            assigned,
            auth_data,
            facts,
            identity,
            ..
        } = *connecting;
        let Identity { username, policy } = identity.expect("it was let in");
        let settings = &self.settings;
        let wished = &connect.properties;
        let v5 = connect.version == Version::V5;

        self.session_expiry = wished.session_expiry.unwrap_or(0);
        let expiry = match (v5, connect.clean_start) {
            (true, _) => session_expiry(self.session_expiry),
            (false, true) => Duration::ZERO, // [3.1.1 MQTT-3.1.2-6]
            (false, false) if settings.v3_session_expiry.is_zero() => NEVER,
            (false, false) => settings.v3_session_expiry,
        };
        let keep_alive = self.granted_keep_alive(connect.keep_alive);
        self.patience_ms = u32::from(keep_alive) * 1_500;
        self.silent_since = now;
        let receive_maximum = wished.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        let aliases = wished
            .topic_alias_maximum
            .unwrap_or(0)
            .min(settings.outbound_topic_alias_maximum);
        self.outbound.allow_aliases(aliases);
        self.inbound
            .allow_aliases(if v5 { settings.topic_alias_maximum } else { 0 });

        let mut connack = ConnAck::default();
        if v5 {
            connack.properties = ConnAckProperties {
                receive_maximum: NonZeroU16::new(settings.receive_maximum),
                maximum_qos: (settings.max_qos < 2).then(|| {
                    if settings.max_qos == 1 {
                        headgate_mqtt_codec::Qos::AtLeastOnce
                    } else {
                        headgate_mqtt_codec::Qos::AtMostOnce
                    }
                }),
                retain_available: (!settings.retain_available).then_some(false),
                maximum_packet_size: NonZeroU32::new(settings.max_packet_size),
                assigned_client_identifier: assigned
                    .then(|| Utf8::new(Bytes::copy_from_slice(self.client_id.as_str().as_bytes())).ok())
                    .flatten(),
                topic_alias_maximum: Some(settings.topic_alias_maximum).filter(|n| *n > 0),
                wildcard_subscription_available: (!settings.wildcard_available).then_some(false),
                subscription_identifiers_available: (!settings.identifiers_available).then_some(false),
                shared_subscription_available: (!settings.shared_available).then_some(false),
                server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
                response_information: self.response_information(wished.request_response_information),
                authentication_method: self.method_name().cloned(),
                authentication_data: auth_data,
                ..ConnAckProperties::default()
            };
        }
        let who = Presence {
            username,
            protocol: &PROTOCOL,
            version: self.version.level(),
            peer: facts.peer,
            peer_port: facts.peer_port,
            keep_alive,
            clean_start: connect.clean_start,
            ..Presence::default()
        };
        let gate = self.naming.gate(&self.client_id, Some(&policy));
        let client = gate.enter(who).expect("looked at with CONNECT");
        let link = self.bridge && policy.may_link();
        let who = Arc::clone(client.who());
        self.phase = Phase::Opening(Box::new(Opening { connack, who }));
        out.bus(BusCommand::Open(Box::new(Open {
            client,
            clean_start: connect.clean_start,
            expiry,
            will: will.into(),
            receive_maximum,
            credit: CREDIT,
            forgeable: false,
            wants_expired: false,
            link: link.then(Box::default),
        })));
    }

    /// Only version 5 can be told of another keep alive; the others get what they asked for. \[MQTT-3.2.2-21\]
    fn granted_keep_alive(&self, wished: u16) -> u16 {
        let most = u16::try_from(self.settings.max_keep_alive.as_secs()).unwrap_or(u16::MAX);
        if self.version != Version::V5 || most == 0 || (1..=most).contains(&wished) {
            wished
        } else {
            most
        }
    }

    fn response_information(&self, wanted: Option<bool>) -> Option<Utf8> {
        if wanted != Some(true) || self.settings.response_information.is_empty() {
            return None; // [MQTT-3.1.2-28]
        }
        let text = self
            .settings
            .response_information
            .replace("%c", self.client_id.as_str());
        Utf8::new(text.into()).ok()
    }

    pub(crate) fn on_opened(&mut self, present: bool, expiry: Duration, now: Instant, out: &mut Out) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let mut connack = std::mem::take(&mut opening.connack);
        let who = Arc::clone(&opening.who);
        // 3.1 has no Session Present flag: the encoder leaves it out.
        connack.session_present = present;
        if self.version == Version::V5 && expiry < session_expiry(self.session_expiry) {
            // MQTT 5 §3.2.2.3.2
            connack.properties.session_expiry = u32::try_from(expiry.as_secs()).ok();
        }
        let mut packet = Packet::ConnAck(Box::new(connack));
        if !fit(&mut packet, self.version, self.max_packet_size) {
            return self.fail(
                ReasonCode::PacketTooLarge,
                "CONNACK is larger than the client takes",
                out,
            );
        }
        self.phase = Phase::Open(who);
        self.silent_since = now;
        out.counts.add_own(PacketMetric::ConnackSent);
        out.send(packet); // [MQTT-3.2.0-1] [MQTT-3.2.0-2]
    }

    /// Refuses a CONNECT, and tells so. See [`Self::turn_away`].
    pub(crate) fn refuse(&mut self, reason: ReasonCode, out: &mut Out) {
        self.tell(|| Wanted::Connect, || reason.to_string().into(), out);
        self.turn_away(reason, out);
    }

    /// CONNACK with the reason, then the link ends. \[MQTT-3.2.2-6\] \[MQTT-3.2.2-7\]
    pub(crate) fn turn_away(&mut self, reason: ReasonCode, out: &mut Out) {
        out.counts.add(Metric::ConnectRefused);
        out.counts.add_own(PacketMetric::ConnackSent);
        let mut packet = Packet::ConnAck(Box::new(ConnAck {
            code: reason,
            ..ConnAck::default()
        }));
        // What a 3.x return code cannot say ends without one. [3.1.1 MQTT-3.2.2-6]
        let sayable = self.version == Version::V5 || has_return_code(reason);
        if sayable && fit(&mut packet, self.version, self.max_packet_size) {
            out.send(packet);
        }
        self.finish(out);
    }

    /// Bytes that are no CONNECT. A peer that does not speak MQTT gets no answer. \[MQTT-3.1.4-1\] \[3.1.1 MQTT-3.1.4-1\]
    pub(crate) fn refuse_malformed_connect(
        &mut self,
        error: &DecodeError,
        version: Option<Version>,
        out: &mut Out,
    ) {
        self.tell(|| Wanted::Connect, || error.to_string().into(), out);
        match (error, version) {
            // The wire encodes in the version the peer can read best. [MQTT-3.1.2-2] [3.1.1 MQTT-3.1.2-2]
            (DecodeError::UnsupportedVersion(level), _) => {
                self.version = if *level > Version::V5 as u8 {
                    Version::V5
                } else {
                    Version::V311
                };
                self.turn_away(ReasonCode::UnsupportedProtocolVersion, out);
            }
            (DecodeError::UnknownProtocol(_) | DecodeError::ConnectExpected(_), _) => self.finish(out),
            (_, Some(Version::V5)) => {
                self.version = Version::V5;
                self.turn_away(error.reason_code(), out);
            }
            _ => self.finish(out),
        }
    }
}

/// MQTT 5 has no bit for it: a gateway of our kind says it by a user property.
fn calls_itself_bridge(connect: &Connect) -> bool {
    let mut pairs = connect.properties.user_properties.iter();
    pairs.any(|(name, _)| name.as_str() == BRIDGE_PROPERTY)
}

/// 0xFFFFFFFF never ends. MQTT 5 §3.1.2.11.2
pub(crate) fn session_expiry(seconds: u32) -> Duration {
    if seconds == u32::MAX {
        NEVER
    } else {
        Duration::from_secs(seconds.into())
    }
}

fn refusal_code(why: headgate_model::access::AuthRefusal, version: Version) -> ReasonCode {
    use headgate_model::access::AuthRefusal as Why;
    match why {
        Why::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
        Why::NotAuthorized => ReasonCode::NotAuthorized,
        Why::Banned if version == Version::V5 => ReasonCode::Banned,
        Why::Banned => ReasonCode::NotAuthorized,
        Why::BadMethod => ReasonCode::BadAuthenticationMethod,
        Why::Busy if version == Version::V5 => ReasonCode::ServerBusy,
        Why::Unavailable | Why::Busy => ReasonCode::ServerUnavailable,
    }
}

/// Whether one of the return codes 1 to 5 means this. 3.1.1 §3.2.2.3
fn has_return_code(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::ServerUnavailable
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
    )
}
