//! Between the codec's words and the model's.

use bytes::Bytes;
use headgate_model::bus::Refusal;
use headgate_model::{Instant, Properties, Qos};
use headgate_mqtt_codec as codec;
use headgate_mqtt_codec::{PublishProperties, ReasonCode, Utf8};

pub(crate) fn qos_to_wire(qos: Qos) -> codec::Qos {
    match qos {
        Qos::AtMostOnce => codec::Qos::AtMostOnce,
        Qos::AtLeastOnce => codec::Qos::AtLeastOnce,
        Qos::ExactlyOnce => codec::Qos::ExactlyOnce,
    }
}

pub(crate) fn qos_from_wire(qos: codec::Qos) -> Qos {
    match qos {
        codec::Qos::AtMostOnce => Qos::AtMostOnce,
        codec::Qos::AtLeastOnce => Qos::AtLeastOnce,
        codec::Qos::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// What a SUBACK grants; `None` for a refusal. MQTT 5 §3.9.3
pub(crate) fn granted(code: ReasonCode) -> Option<Qos> {
    Qos::from_u8(code as u8)
}

/// The code for what the bus will never take; `None` for what it may take later.
pub(crate) fn lasting_refusal(why: Refusal) -> Option<ReasonCode> {
    match why {
        Refusal::TopicInvalid => Some(ReasonCode::TopicNameInvalid),
        Refusal::NotSupported | Refusal::ExclusiveTaken => Some(ReasonCode::ImplementationSpecificError),
        Refusal::QuotaExceeded
        | Refusal::QueueFull
        | Refusal::NoMemory
        | Refusal::StoreFull
        | Refusal::StoreFailed => None,
    }
}

/// Text that is no MQTT string is left out: not all that is on the bus came through this codec.
fn text(bytes: &Bytes) -> Option<Utf8> {
    Utf8::new(bytes.clone()).ok()
}

/// The expiry interval of a message that expires then. \[MQTT-3.3.2-6\]
pub(crate) fn seconds_left(expires_at: Option<Instant>, now: Instant) -> Option<u32> {
    let left = expires_at?.since(now).as_millis().div_ceil(1_000);
    Some(u32::try_from(left).unwrap_or(u32::MAX))
}

pub(crate) fn properties_to_wire(properties: &Properties) -> PublishProperties {
    PublishProperties {
        payload_format: properties.payload_is_utf8,
        content_type: properties.content_type.as_ref().and_then(text),
        response_topic: properties.response_topic.as_ref().and_then(text),
        correlation_data: properties.correlation_data.clone(),
        user_properties: properties
            .user_properties
            .iter()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect(),
        ..PublishProperties::default()
    }
}

/// `None` when nothing is left once expiry, alias and identifiers, which mean something only on one connection, are taken out.
pub(crate) fn properties_from_wire(properties: PublishProperties) -> Option<Box<Properties>> {
    let pairs = properties.user_properties.into_iter();
    let properties = Properties {
        payload_is_utf8: properties.payload_format,
        content_type: properties.content_type.map(Utf8::into_bytes),
        response_topic: properties.response_topic.map(Utf8::into_bytes),
        correlation_data: properties.correlation_data,
        user_properties: pairs
            .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
            .collect(),
    };
    (properties != Properties::default()).then(|| Box::new(properties))
}
