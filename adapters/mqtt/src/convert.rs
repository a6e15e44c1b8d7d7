//! Between the codec's words and the model's.

use bytes::Bytes;
use headgate_model::bus::Refusal;
use headgate_model::{Properties, Qos, RetainHandling, SubscriptionOptions};
use headgate_mqtt_codec as codec;
use headgate_mqtt_codec::{PublishProperties, ReasonCode, Utf8, WillProperties};

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

/// The code of a granted subscription. MQTT 5 §3.9.3
pub(crate) fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::GRANTED_QOS_0,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

pub(crate) fn refusal(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::QuotaExceeded
        | Refusal::QueueFull
        | Refusal::NoMemory
        | Refusal::StoreFull
        | Refusal::ExclusiveTaken => ReasonCode::QuotaExceeded,
        Refusal::StoreFailed | Refusal::NotSupported => ReasonCode::ImplementationSpecificError,
        Refusal::TopicInvalid => ReasonCode::TopicNameInvalid,
    }
}

pub(crate) fn subscription_options(options: codec::SubscribeOptions, identifier: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: qos_from_wire(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            codec::RetainHandling::SendAtSubscribe => RetainHandling::Send,
            codec::RetainHandling::SendIfNew => RetainHandling::SendIfNew,
            codec::RetainHandling::DoNotSend => RetainHandling::DoNotSend,
        },
        identifier,
        by_identifier: false,
    }
}

/// Text of the model, which came through a codec that checked it.
fn text(bytes: &Bytes) -> Utf8 {
    Utf8::new(bytes.clone()).expect("checked when it was decoded")
}

pub(crate) fn properties_to_wire(properties: &Properties) -> PublishProperties {
    PublishProperties {
        payload_format: properties.payload_is_utf8,
        content_type: properties.content_type.as_ref().map(text),
        response_topic: properties.response_topic.as_ref().map(text),
        correlation_data: properties.correlation_data.clone(),
        user_properties: properties
            .user_properties
            .iter()
            .map(|(k, v)| (text(k), text(v)))
            .collect(),
        ..PublishProperties::default()
    }
}

/// `None` when nothing is left once expiry, alias and identifiers, which mean something only here, are taken out.
pub(crate) fn properties_from_wire(properties: PublishProperties) -> Option<Box<Properties>> {
    let properties = Properties {
        payload_is_utf8: properties.payload_format,
        content_type: properties.content_type.map(Utf8::into_bytes),
        response_topic: properties.response_topic.map(Utf8::into_bytes),
        correlation_data: properties.correlation_data,
        user_properties: user_properties(properties.user_properties),
    };
    (properties != Properties::default()).then(|| Box::new(properties))
}

pub(crate) fn will_properties(properties: WillProperties) -> Option<Box<Properties>> {
    properties_from_wire(PublishProperties {
        payload_format: properties.payload_format,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user_properties: properties.user_properties,
        ..PublishProperties::default()
    })
}

fn user_properties(pairs: Vec<(Utf8, Utf8)>) -> Vec<(Bytes, Bytes)> {
    pairs
        .into_iter()
        .map(|(k, v)| (k.into_bytes(), v.into_bytes()))
        .collect()
}
