//! Property sections, written. §2.2.2

use std::num::{NonZeroU16, NonZeroU32};

use crate::encode::PublishParts;
use crate::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    PropertyId as Id, UserProperty, WillProperties,
};
use crate::sink::{Length, PropertySink, Sink};
use crate::{Qos, Utf8};

/// What can stand in a property section.
pub(crate) trait Properties {
    fn write<S: Sink>(&self, out: &mut S);
}

/// The section: its length, then the properties. §2.2.2.1
#[inline]
pub(crate) fn section<S: Sink>(properties: &impl Properties, out: &mut S) {
    let mut length = Length::default();
    properties.write(&mut length);
    out.variable_byte_integer(length.get());
    properties.write(out);
}

/// Whether there is nothing to write. [MQTT-2.2.2-1] asks for a zero length then, where it may not be left out.
#[inline]
pub(crate) fn is_empty(properties: &impl Properties) -> bool {
    let mut length = Length::default();
    properties.write(&mut length);
    length.0 == 0
}

impl Properties for ConnectProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        out.property_u32(Id::SessionExpiryInterval, self.session_expiry);
        out.property_u16(Id::ReceiveMaximum, self.receive_maximum.map(NonZeroU16::get));
        out.property_u32(
            Id::MaximumPacketSize,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        out.property_u16(Id::TopicAliasMaximum, self.topic_alias_maximum);
        out.property_flag(Id::RequestResponseInformation, self.request_response_information);
        out.property_flag(Id::RequestProblemInformation, self.request_problem_information);
        out.user_properties(&self.user_properties);
        out.property_utf8(Id::AuthenticationMethod, &self.authentication_method);
        out.property_binary(Id::AuthenticationData, &self.authentication_data);
    }
}

impl Properties for WillProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        out.property_u32(Id::WillDelayInterval, self.delay_interval);
        out.property_flag(Id::PayloadFormatIndicator, self.payload_format);
        out.property_u32(Id::MessageExpiryInterval, self.message_expiry);
        out.property_utf8(Id::ContentType, &self.content_type);
        out.property_utf8(Id::ResponseTopic, &self.response_topic);
        out.property_binary(Id::CorrelationData, &self.correlation_data);
        out.user_properties(&self.user_properties);
    }
}

impl Properties for ConnAckProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        // QoS 2 is said by saying nothing. §3.2.2.3.4
        let maximum_qos = match self.maximum_qos {
            Some(Qos::AtMostOnce) => Some(false),
            Some(Qos::AtLeastOnce) => Some(true),
            Some(Qos::ExactlyOnce) | None => None,
        };
        out.property_u32(Id::SessionExpiryInterval, self.session_expiry);
        out.property_u16(Id::ReceiveMaximum, self.receive_maximum.map(NonZeroU16::get));
        out.property_flag(Id::MaximumQos, maximum_qos);
        out.property_flag(Id::RetainAvailable, self.retain_available);
        out.property_u32(
            Id::MaximumPacketSize,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        out.property_utf8(Id::AssignedClientIdentifier, &self.assigned_client_identifier);
        out.property_u16(Id::TopicAliasMaximum, self.topic_alias_maximum);
        out.property_utf8(Id::ReasonString, &self.reason_string);
        out.user_properties(&self.user_properties);
        out.property_flag(
            Id::WildcardSubscriptionAvailable,
            self.wildcard_subscription_available,
        );
        out.property_flag(
            Id::SubscriptionIdentifierAvailable,
            self.subscription_identifiers_available,
        );
        out.property_flag(
            Id::SharedSubscriptionAvailable,
            self.shared_subscription_available,
        );
        out.property_u16(Id::ServerKeepAlive, self.server_keep_alive);
        out.property_utf8(Id::ResponseInformation, &self.response_information);
        out.property_utf8(Id::ServerReference, &self.server_reference);
        out.property_utf8(Id::AuthenticationMethod, &self.authentication_method);
        out.property_binary(Id::AuthenticationData, &self.authentication_data);
    }
}

impl Properties for PublishParts<'_> {
    #[inline]
    fn write<S: Sink>(&self, out: &mut S) {
        let forwarded = self.properties;
        let message_expiry = self.message_expiry.or(forwarded.and_then(|p| p.message_expiry));
        out.property_u32(Id::MessageExpiryInterval, message_expiry);
        out.property_u16(Id::TopicAlias, self.topic_alias.map(NonZeroU16::get));
        for &identifier in self.subscription_identifiers {
            out.u8(Id::SubscriptionIdentifier as u8);
            out.variable_byte_integer(identifier);
        }
        if let Some(p) = forwarded {
            out.property_flag(Id::PayloadFormatIndicator, p.payload_format);
            out.property_utf8(Id::ResponseTopic, &p.response_topic);
            out.property_binary(Id::CorrelationData, &p.correlation_data);
            out.user_properties(&p.user_properties);
            out.property_utf8(Id::ContentType, &p.content_type);
        }
    }
}

impl Properties for AckProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        Answer {
            reason_string: &self.reason_string,
            user_properties: &self.user_properties,
        }
        .write(out);
    }
}

/// The properties that every answer may have.
pub(crate) struct Answer<'a> {
    pub(crate) reason_string: &'a Option<Utf8>,
    pub(crate) user_properties: &'a [UserProperty],
}

impl Properties for Answer<'_> {
    fn write<S: Sink>(&self, out: &mut S) {
        out.property_utf8(Id::ReasonString, self.reason_string);
        out.user_properties(self.user_properties);
    }
}

/// The properties of a SUBSCRIBE, and without an identifier of an UNSUBSCRIBE.
pub(crate) struct Request<'a> {
    pub(crate) identifier: Option<u32>,
    pub(crate) user_properties: &'a [UserProperty],
}

impl Properties for Request<'_> {
    fn write<S: Sink>(&self, out: &mut S) {
        if let Some(identifier) = self.identifier {
            out.u8(Id::SubscriptionIdentifier as u8);
            out.variable_byte_integer(identifier);
        }
        out.user_properties(self.user_properties);
    }
}

impl Properties for DisconnectProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        out.property_u32(Id::SessionExpiryInterval, self.session_expiry);
        out.property_utf8(Id::ReasonString, &self.reason_string);
        out.property_utf8(Id::ServerReference, &self.server_reference);
        out.user_properties(&self.user_properties);
    }
}

impl Properties for AuthProperties {
    fn write<S: Sink>(&self, out: &mut S) {
        out.property_utf8(Id::AuthenticationMethod, &self.method);
        out.property_binary(Id::AuthenticationData, &self.data);
        out.property_utf8(Id::ReasonString, &self.reason_string);
        out.user_properties(&self.user_properties);
    }
}
