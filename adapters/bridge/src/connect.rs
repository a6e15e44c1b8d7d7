//! From CONNECT to the first message: CONNACK, the session of the bus, subscriptions at the remote, the notification. MQTT 5 §3.1, §3.2, §3.8
//!
//! What needs a packet identifier of ours is asked and answered before the bus hands over anything, for deliveries choose theirs among all. \[MQTT-2.2.1-3\]

use crate::convert;
use crate::endpoint::{BridgeEndpoint, Out, Phase};
use crate::plan::{DOWN, UP};
use crate::reasons::EndReason;
use crate::status::BridgeState;
use bytes::Bytes;
use headgate_model::bus::Refusal;
use headgate_model::{
    AckToken, Admitted, BusCommand, DeliveryId, Instant, Qos, RetainHandling as LocalRetainHandling,
    TopicFilter,
};
use headgate_mqtt_codec::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, Packet, PacketId, Publish, Qos as WireQos,
    ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeOptions, UnsubAck, Unsubscribe,
    Utf8, Version, Will, encoded_len,
};
use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// User property of CONNECT by which one gateway of this kind knows another: the name of the node.
const BRIDGE: &str = "headgate-bridge";

/// Filters in one SUBSCRIBE or UNSUBSCRIBE: some remotes take no more.
const FILTERS_AT_ONCE: usize = 8;

/// What the remote has been asked.
#[derive(Debug)]
pub(crate) struct Preparing {
    asked: BTreeMap<PacketId, Asked>,
    /// PINGREQ: asked when there is nothing else to ask, for only an answer shows that the remote is there.
    ping: bool,
    next_id: PacketId,
    /// Deliveries whose PUBREL goes out as soon as the packet identifiers above are free.
    pub received: Vec<DeliveryId>,
    /// The connection was open before.
    pub again: bool,
}

#[derive(Debug)]
enum Asked {
    Subscribe(Vec<(TopicFilter, Qos)>),
    Unsubscribe,
}

impl Preparing {
    /// Packet identifiers are taken from this one down.
    fn new(next_id: PacketId) -> Self {
        Self {
            asked: BTreeMap::new(),
            ping: false,
            next_id,
            received: Vec::new(),
            again: false,
        }
    }

    fn ask(&mut self, what: Asked) -> PacketId {
        let id = self.next_id;
        self.next_id = PacketId::new(id.get() - 1).unwrap_or(PacketId::MAX);
        self.asked.insert(id, what);
        id
    }
}

impl BridgeEndpoint {
    pub(crate) fn connect(&mut self, now: Instant, out: &mut Out) {
        self.status.begin();
        self.status.set_state(BridgeState::Connecting, now);
        self.phase = Phase::Connecting(now + self.patience());
        let settings = &self.plan.settings;
        let will = self.plan.remote_notification().map(|topic| Will {
            topic,
            payload: Bytes::from_static(DOWN),
            qos: WireQos::AtLeastOnce.min(self.remote.max_qos),
            retain: settings.outgoing_retain,
            ..Will::default()
        });
        let connect = Connect {
            bridge: self.private,
            clean_start: settings.clean_session,
            keep_alive: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            will,
            username: self.credentials.username.clone(),
            password: self.credentials.password.clone(),
            properties: self.connect_properties(),
            ..Connect::new(self.plan.version(), self.plan.client_id.clone())
        };
        out.send(Packet::Connect(Box::new(connect)));
    }

    fn connect_properties(&self) -> ConnectProperties {
        if self.plan.version() != Version::V5 {
            return ConnectProperties::default();
        }
        let settings = &self.plan.settings;
        ConnectProperties {
            session_expiry: Some(self.plan.remote_session_expiry()),
            receive_maximum: NonZeroU16::new(settings.receive_maximum),
            maximum_packet_size: NonZeroU32::new(settings.max_packet_size),
            topic_alias_maximum: Some(0),
            user_properties: vec![(Utf8::from(BRIDGE), self.plan.node.clone())],
            ..ConnectProperties::default()
        }
    }

    pub(crate) fn on_connack(&mut self, connack: ConnAck, now: Instant, out: &mut Out) {
        if connack.code != ReasonCode::Success {
            return self.on_connect_refused(&connack, out);
        }
        self.status.private_settled();
        self.remote.session_present = connack.session_present;
        if self.plan.version() == Version::V5 {
            self.take_limits(&connack.properties);
        }
        self.inbound.begin(connack.session_present, self.plan.version());
        self.phase = Phase::Opening;
        self.status.acknowledged_at(now);
        let open = self.plan.open(self.remote.receive_maximum, &self.status.remote());
        out.bus(BusCommand::Open(Box::new(open)));
    }

    fn on_connect_refused(&mut self, connack: &ConnAck, out: &mut Out) {
        let private_refused = self.private && connack.code == ReasonCode::UnsupportedProtocolVersion;
        let end = if private_refused {
            self.status.private_refused();
            EndReason::PrivateRefused
        } else {
            EndReason::Refused(connack.code)
        };
        self.status.end(end);
        let properties = &connack.properties;
        let said = [&properties.reason_string, &properties.server_reference];
        let said: Vec<&str> = said.into_iter().flatten().map(Utf8::as_str).collect();
        if !said.is_empty() {
            self.status.set_error(&format!("{end}: {}", said.join(" ")));
        }
        self.finish(out);
    }

    /// The lower of what the remote takes and what the operator wants.
    fn take_limits(&mut self, properties: &ConnAckProperties) {
        let remote = &mut self.remote;
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        remote.receive_maximum = remote.receive_maximum.min(receive_maximum);
        let max_packet_size = properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        remote.max_packet_size = remote.max_packet_size.min(max_packet_size);
        remote.max_qos = remote
            .max_qos
            .min(properties.maximum_qos.unwrap_or(WireQos::ExactlyOnce));
        remote.retain_available &= properties.retain_available != Some(false);
        remote.wildcards_available = properties.wildcard_subscription_available != Some(false);
        if let Some(seconds) = properties.server_keep_alive {
            self.clocks.set_keep_alive(Duration::from_secs(seconds.into())); // [MQTT-3.1.2-21]
        }
    }

    /// The session is open: what goes out is subscribed to on the bus, what comes in at the remote.
    pub(crate) fn prepare(&mut self, out: &mut Out) {
        if !matches!(self.phase, Phase::Opening) {
            return;
        }
        let mut subscriptions = self.plan.subscriptions();
        if self.has_forgotten() {
            // It is given what is retained here, after what waits.
            for subscription in &mut subscriptions {
                subscription.options.retain_handling = LocalRetainHandling::Send;
            }
        }
        if !subscriptions.is_empty() {
            let token = AckToken(0);
            let subscriptions = Admitted::each_of_gateway(subscriptions);
            out.bus(BusCommand::Subscribe { token, subscriptions });
        }
        let mut preparing = Preparing::new(PacketId::MAX);
        self.subscribe(&mut preparing, out);
        self.unsubscribe(&mut preparing, out);
        self.notify_remote(&mut preparing, out);
        if preparing.asked.is_empty() {
            preparing.ping = true;
            self.ping(out);
        }
        self.phase = Phase::Preparing(Box::new(preparing));
    }

    /// The remote has nothing of a session that it should have kept: it may have lost what it retained, too, if it retains anything. 3.1 does not say
    /// whether it has.
    fn has_forgotten(&self) -> bool {
        let keeps = !self.plan.settings.clean_session && self.plan.version() != Version::V31;
        keeps && !self.remote.session_present && self.remote.retain_available
    }

    /// What a session holds is not asked for again: the remote would send what it retains, older than what waits here.
    fn subscribe(&self, preparing: &mut Preparing, out: &mut Out) {
        let all = self.plan.topics.remote_subscriptions();
        if self.remote.session_present && self.status.is_subscribed(&self.status.remote(), &all) {
            return;
        }
        // The link may break before the answer.
        self.status.forget_subscribed();
        // Only what is new to a session brings what is retained. [MQTT-3.3.1-10]
        let retain_handling = match self.remote.session_present && !self.status.wants_retained() {
            true => RetainHandling::SendIfNew,
            false => RetainHandling::SendAtSubscribe,
        };
        let (filters, impossible): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(filter, _)| self.remote.wildcards_available || !filter.has_wildcard());
        for (filter, _) in impossible {
            let text = format!("{filter}: {}", ReasonCode::WildcardSubscriptionsNotSupported);
            self.status.refuse_subscription(text);
        }
        for chunk in filters.chunks(FILTERS_AT_ONCE) {
            let v5 = self.plan.version() == Version::V5;
            let wish = |(filter, qos): &(TopicFilter, Qos)| SubscribeFilter {
                filter: wire_filter(filter),
                options: SubscribeOptions {
                    qos: convert::qos_to_wire(*qos),
                    no_local: v5,
                    retain_as_published: v5,
                    retain_handling,
                },
            };
            let subscribe = Subscribe {
                packet_id: preparing.ask(Asked::Subscribe(chunk.to_vec())),
                identifier: None,
                user_properties: Vec::new(),
                filters: chunk.iter().map(wish).collect(),
            };
            self.send_request(Packet::Subscribe(Box::new(subscribe)), preparing, out);
        }
    }

    /// Nothing waits any more that may be newer than what the remote retains: it is asked for that once more. \[MQTT-3.8.4-4\]
    pub(crate) fn ask_again(&mut self, out: &mut Out) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.status.forget_subscribed();
        self.status.set_wants_retained(true);
        // Deliveries come to these identifiers last.
        let last = self.outbound.last.map_or(1, DeliveryId::get);
        let mut preparing = Preparing::new(PacketId::new(last).unwrap_or(PacketId::MAX));
        preparing.again = true;
        self.subscribe(&mut preparing, out);
        if !preparing.asked.is_empty() {
            self.phase = Phase::Preparing(Box::new(preparing));
        }
    }

    fn unsubscribe(&self, preparing: &mut Preparing, out: &mut Out) {
        // A session that has just begun holds none. 3.1 does not say whether it has.
        let fresh = !self.remote.session_present && self.plan.version() != Version::V31;
        if !self.plan.settings.attempt_unsubscribe || fresh {
            return;
        }
        for chunk in self.plan.topics.remote_unwanted().chunks(FILTERS_AT_ONCE) {
            let unsubscribe = Unsubscribe {
                packet_id: preparing.ask(Asked::Unsubscribe),
                user_properties: Vec::new(),
                filters: chunk.iter().map(wire_filter).collect(),
            };
            self.send_request(Packet::Unsubscribe(Box::new(unsubscribe)), preparing, out);
        }
    }

    /// At QoS 0: what the remote holds of the session may take up all that it takes at a time, and then mosquitto hangs up at one more.
    fn notify_remote(&self, preparing: &mut Preparing, out: &mut Out) {
        let Some(topic) = self.plan.remote_notification() else {
            return;
        };
        let publish = Publish {
            topic,
            payload: Bytes::from_static(UP),
            retain: self.remote.retain_available,
            ..Publish::default()
        };
        self.send_request(Packet::Publish(publish), preparing, out);
    }

    /// \[MQTT-3.2.2-15\]: what is larger than the remote takes is not asked.
    fn send_request(&self, packet: Packet, preparing: &mut Preparing, out: &mut Out) {
        if encoded_len(&packet, self.plan.version()) <= self.remote.max_packet_size as usize {
            return out.send(packet);
        }
        let (id, filters) = match &packet {
            Packet::Subscribe(subscribe) => (Some(subscribe.packet_id), subscribe.filters.len()),
            Packet::Unsubscribe(unsubscribe) => (Some(unsubscribe.packet_id), unsubscribe.filters.len()),
            _ => (None, 0),
        };
        if let Some(id) = id {
            preparing.asked.remove(&id);
        }
        let text = format!(
            "{} with {filters} filters: {}",
            packet.packet_type(),
            ReasonCode::PacketTooLarge
        );
        self.status.refuse_subscription(text);
    }

    pub(crate) fn on_suback(&mut self, suback: &SubAck, now: Instant, out: &mut Out) {
        let Some(Asked::Subscribe(filters)) =
            self.asked(suback.packet_id, |asked| matches!(asked, Asked::Subscribe(_)))
        else {
            return self.fail("SUBACK for nothing", out);
        };
        if suback.codes.len() != filters.len() {
            return self.fail("SUBACK with another number of filters", out); // [MQTT-3.8.4-6]
        }
        for ((filter, wanted), code) in filters.iter().zip(&suback.codes) {
            match convert::granted(*code) {
                Some(qos) if qos >= *wanted => {}
                Some(qos) => {
                    let text = format!("{filter}: QoS {} instead of {}", qos as u8, *wanted as u8);
                    self.status.refuse_subscription(text);
                }
                None => self.status.refuse_subscription(format!("{filter}: {code}")),
            }
        }
        self.answered(now);
        self.open_if_prepared(now, out);
    }

    pub(crate) fn on_unsuback(&mut self, unsuback: &UnsubAck, now: Instant, out: &mut Out) {
        let asked = self.asked(unsuback.packet_id, |asked| matches!(asked, Asked::Unsubscribe));
        if asked.is_none() {
            return self.fail("UNSUBACK for nothing", out);
        }
        self.answered(now);
        self.open_if_prepared(now, out);
    }

    pub(crate) fn on_prepared_pingresp(&mut self, now: Instant, out: &mut Out) {
        if let Phase::Preparing(preparing) = &mut self.phase {
            preparing.ping = false;
            self.open_if_prepared(now, out);
        }
    }

    fn asked(&mut self, id: PacketId, is_it: impl Fn(&Asked) -> bool) -> Option<Asked> {
        let Phase::Preparing(preparing) = &mut self.phase else {
            return None;
        };
        preparing.asked.get(&id).filter(|asked| is_it(asked))?;
        preparing.asked.remove(&id)
    }

    fn open_if_prepared(&mut self, now: Instant, out: &mut Out) {
        let prepared = match &self.phase {
            Phase::Preparing(preparing) => preparing.asked.is_empty() && !preparing.ping,
            _ => false,
        };
        if prepared {
            self.open(now, out);
        }
    }

    /// What the bus refused is not carried: operators see it.
    pub(crate) fn on_local_subscribed(&self, results: &[Result<Qos, Refusal>]) {
        for (subscription, result) in self.plan.subscriptions().iter().zip(results) {
            if let Err(why) = result {
                let text = format!("{} on the bus: {why:?}", subscription.filter);
                self.status.refuse_subscription(text);
            }
        }
    }
}

fn wire_filter(filter: &TopicFilter) -> Utf8 {
    Utf8::new(filter.bytes().clone()).expect("a filter is UTF-8 without NUL")
}
