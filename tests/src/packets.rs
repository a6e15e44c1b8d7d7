//! Short words for packets, so that a test shows only what matters.

use bytes::Bytes;
use headgate_mqtt_codec::{
    Ack, AckKind, Auth, AuthProperties, Connect, ConnectProperties, Disconnect, Packet, PacketId, Publish,
    PublishProperties, Qos, ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe, Utf8,
    Version, Will, WillProperties,
};

/// A string of a packet.
pub fn text(text: &str) -> Utf8 {
    Utf8::new(Bytes::copy_from_slice(text.as_bytes())).expect("a test writes well-formed text")
}

/// A packet identifier.
pub fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("a test knows that zero is none")
}

/// A CONNECT with a clean start and nothing else.
pub fn connect(version: Version, client_id: &str) -> Connect {
    Connect::new(version, text(client_id))
}

/// What a CONNECT may say besides.
pub trait ConnectExt: Sized {
    /// Not a clean start; before MQTT 5 this also keeps the session.
    fn resume(self) -> Self;
    /// Not a clean start, and the session is kept for ever after.
    fn durable(self) -> Self;
    /// Session Expiry Interval.
    fn expiry(self, seconds: u32) -> Self;
    /// Keep alive.
    fn keep_alive(self, seconds: u16) -> Self;
    /// A Will.
    fn will(self, will: Will) -> Self;
    /// User name and password.
    fn login(self, username: &str, password: &str) -> Self;
    /// Any property.
    fn with(self, change: impl FnOnce(&mut ConnectProperties)) -> Self;
}

impl ConnectExt for Connect {
    fn resume(mut self) -> Self {
        self.clean_start = false;
        self
    }

    fn durable(self) -> Self {
        let v5 = self.version == Version::V5;
        let resumed = self.resume();
        if v5 { resumed.expiry(u32::MAX) } else { resumed }
    }

    fn expiry(self, seconds: u32) -> Self {
        self.with(|p| p.session_expiry = Some(seconds))
    }

    fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    fn login(mut self, username: &str, password: &str) -> Self {
        self.username = Some(text(username));
        self.password = Some(Bytes::copy_from_slice(password.as_bytes()));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut ConnectProperties)) -> Self {
        change(&mut self.properties);
        self
    }
}

/// A Will at QoS 0, not retained.
pub fn will(topic: &str, payload: &str) -> Will {
    Will {
        topic: text(topic),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Will::default()
    }
}

/// What a Will may say besides.
pub trait WillExt: Sized {
    /// Will QoS.
    fn qos(self, qos: Qos) -> Self;
    /// Will Retain.
    fn retain(self) -> Self;
    /// Will Delay Interval.
    fn delay(self, seconds: u32) -> Self;
    /// Any property.
    fn with(self, change: impl FnOnce(&mut WillProperties)) -> Self;
}

impl WillExt for Will {
    fn qos(mut self, qos: Qos) -> Self {
        self.qos = qos;
        self
    }

    fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    fn delay(self, seconds: u32) -> Self {
        self.with(|p| p.delay_interval = Some(seconds))
    }

    fn with(mut self, change: impl FnOnce(&mut WillProperties)) -> Self {
        change(&mut self.properties);
        self
    }
}

/// A PUBLISH at QoS 0.
pub fn publish(topic: &str, payload: &str) -> Publish {
    Publish {
        topic: text(topic),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Publish::default()
    }
}

/// What a PUBLISH may say besides.
pub trait PublishExt: Sized {
    /// The QoS, with this identifier if it is 1 or 2.
    fn qos(self, qos: Qos, packet_id: u16) -> Self;
    /// RETAIN is set.
    fn retain(self) -> Self;
    /// DUP is set.
    fn dup(self) -> Self;
    /// Any property.
    fn with(self, change: impl FnOnce(&mut PublishProperties)) -> Self;
    /// Its properties, or none.
    fn props(&self) -> PublishProperties;
    /// Its topic and payload as `topic=payload`.
    fn brief(&self) -> String;
    /// The number of its packet identifier, zero for none.
    fn number(&self) -> u16;
}

impl PublishExt for Publish {
    fn qos(mut self, qos: Qos, packet_id: u16) -> Self {
        self.qos = qos;
        self.packet_id = PacketId::new(packet_id).filter(|_| qos != Qos::AtMostOnce);
        self
    }

    fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut PublishProperties)) -> Self {
        change(self.properties.get_or_insert_default());
        self
    }

    fn props(&self) -> PublishProperties {
        self.properties.as_deref().cloned().unwrap_or_default()
    }

    fn brief(&self) -> String {
        format!(
            "{}={}",
            self.topic.as_str(),
            String::from_utf8_lossy(&self.payload)
        )
    }

    fn number(&self) -> u16 {
        self.packet_id.map_or(0, PacketId::get)
    }
}

/// A SUBSCRIBE of these filters.
pub fn subscribe(packet_id: u16, filters: &[(&str, Qos)]) -> Subscribe {
    let filter = |(filter, qos): &(&str, Qos)| SubscribeFilter {
        filter: text(filter),
        options: SubscribeOptions::qos(*qos),
    };
    Subscribe {
        packet_id: id(packet_id),
        identifier: None,
        user_properties: Vec::new(),
        filters: filters.iter().map(filter).collect(),
    }
}

/// An UNSUBSCRIBE of these filters.
pub fn unsubscribe(packet_id: u16, filters: &[&str]) -> Unsubscribe {
    Unsubscribe {
        packet_id: id(packet_id),
        user_properties: Vec::new(),
        filters: filters.iter().map(|filter| text(filter)).collect(),
    }
}

/// PUBACK.
pub fn puback(packet_id: u16) -> Ack {
    Ack::success(AckKind::PubAck, id(packet_id))
}

/// PUBREC.
pub fn pubrec(packet_id: u16) -> Ack {
    Ack::success(AckKind::PubRec, id(packet_id))
}

/// PUBREL.
pub fn pubrel(packet_id: u16) -> Ack {
    Ack::success(AckKind::PubRel, id(packet_id))
}

/// PUBCOMP.
pub fn pubcomp(packet_id: u16) -> Ack {
    Ack::success(AckKind::PubComp, id(packet_id))
}

/// An acknowledgement with another reason than Success.
pub trait AckExt {
    /// The same for this reason.
    fn because(self, reason: ReasonCode) -> Self;
}

impl AckExt for Ack {
    fn because(mut self, reason: ReasonCode) -> Self {
        self.reason = reason;
        self
    }
}

/// DISCONNECT.
pub fn disconnect(reason: ReasonCode) -> Disconnect {
    Disconnect::with_reason(reason)
}

/// AUTH of a method, with data.
pub fn auth(reason: ReasonCode, method: &str, data: &'static str) -> Auth {
    let properties = AuthProperties {
        method: Some(text(method)),
        data: Some(Bytes::from_static(data.as_bytes())),
        ..AuthProperties::default()
    };
    Auth {
        reason,
        properties: Some(Box::new(properties)),
    }
}

/// Anything that can be sent.
pub trait ToPacket {
    /// The packet.
    fn to_packet(self) -> Packet;
}

macro_rules! to_packet {
    ($($kind:ident $wrap:expr,)*) => {
        $(impl ToPacket for $kind {
            fn to_packet(self) -> Packet {
                let wrap: fn($kind) -> Packet = $wrap;
                wrap(self)
            }
        })*
    };
}

to_packet! {
    Packet |p| p,
    Connect |p| Packet::Connect(Box::new(p)),
    Publish Packet::Publish,
    Ack Packet::Ack,
    Subscribe |p| Packet::Subscribe(Box::new(p)),
    Unsubscribe |p| Packet::Unsubscribe(Box::new(p)),
    Disconnect Packet::Disconnect,
    Auth Packet::Auth,
}
