//! Property sections. §2.2.2
//!
//! Each packet has one loop that names the properties it may hold. A property that is not named there makes the
//! packet malformed; one that comes twice, or holds a value it cannot have, is a protocol error.

use std::num::{NonZeroU16, NonZeroU32};

use crate::decode::no_more_than;
use crate::decoder::Side;
use crate::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PropertyId,
    PublishProperties, UserProperty, WillProperties,
};
use crate::reader::Reader;
use crate::{DecodeError, PacketType, Qos, Utf8};

use PropertyId as Id;

type Result<T> = std::result::Result<T, DecodeError>;

/// §3.1.2.11
pub(crate) fn connect(r: &mut Reader<'_>) -> Result<ConnectProperties> {
    let mut p = ConnectProperties::default();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::SessionExpiryInterval => once(&mut p.session_expiry, id, r.u32()?)?,
            Id::ReceiveMaximum => once(&mut p.receive_maximum, id, non_zero_u16(r, id)?)?,
            Id::MaximumPacketSize => once(&mut p.maximum_packet_size, id, non_zero_u32(r, id)?)?,
            Id::TopicAliasMaximum => once(&mut p.topic_alias_maximum, id, r.u16()?)?,
            Id::RequestResponseInformation => once(&mut p.request_response_information, id, flag(r, id)?)?,
            Id::RequestProblemInformation => once(&mut p.request_problem_information, id, flag(r, id)?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            Id::AuthenticationMethod => once(&mut p.authentication_method, id, r.utf8()?)?,
            Id::AuthenticationData => once(&mut p.authentication_data, id, r.binary()?)?,
            _ => return not_allowed(r, id),
        }
    }
    if p.authentication_data.is_some() && p.authentication_method.is_none() {
        return Err(DecodeError::AuthDataWithoutMethod(r.packet()));
    }
    Ok(p)
}

/// §3.1.3.2
pub(crate) fn will(r: &mut Reader<'_>) -> Result<WillProperties> {
    let mut p = WillProperties::default();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::WillDelayInterval => once(&mut p.delay_interval, id, r.u32()?)?,
            Id::PayloadFormatIndicator => once(&mut p.payload_format, id, flag(r, id)?)?,
            Id::MessageExpiryInterval => once(&mut p.message_expiry, id, r.u32()?)?,
            Id::ContentType => once(&mut p.content_type, id, r.utf8()?)?,
            Id::ResponseTopic => once(&mut p.response_topic, id, response_topic(r)?)?,
            Id::CorrelationData => once(&mut p.correlation_data, id, r.binary()?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok(p)
}

/// §3.2.2.3
pub(crate) fn conn_ack(r: &mut Reader<'_>) -> Result<ConnAckProperties> {
    let mut p = ConnAckProperties::default();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::SessionExpiryInterval => once(&mut p.session_expiry, id, r.u32()?)?,
            Id::ReceiveMaximum => once(&mut p.receive_maximum, id, non_zero_u16(r, id)?)?,
            Id::MaximumQos => {
                let qos = if flag(r, id)? {
                    Qos::AtLeastOnce
                } else {
                    Qos::AtMostOnce
                };
                once(&mut p.maximum_qos, id, qos)?;
            }
            Id::RetainAvailable => once(&mut p.retain_available, id, flag(r, id)?)?,
            Id::MaximumPacketSize => once(&mut p.maximum_packet_size, id, non_zero_u32(r, id)?)?,
            Id::AssignedClientIdentifier => once(&mut p.assigned_client_identifier, id, r.utf8()?)?,
            Id::TopicAliasMaximum => once(&mut p.topic_alias_maximum, id, r.u16()?)?,
            Id::ReasonString => once(&mut p.reason_string, id, r.utf8()?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            Id::WildcardSubscriptionAvailable => {
                once(&mut p.wildcard_subscription_available, id, flag(r, id)?)?;
            }
            Id::SubscriptionIdentifierAvailable => {
                once(&mut p.subscription_identifiers_available, id, flag(r, id)?)?;
            }
            Id::SharedSubscriptionAvailable => once(&mut p.shared_subscription_available, id, flag(r, id)?)?,
            Id::ServerKeepAlive => once(&mut p.server_keep_alive, id, r.u16()?)?,
            Id::ResponseInformation => once(&mut p.response_information, id, r.utf8()?)?,
            Id::ServerReference => once(&mut p.server_reference, id, r.utf8()?)?,
            Id::AuthenticationMethod => once(&mut p.authentication_method, id, r.utf8()?)?,
            Id::AuthenticationData => once(&mut p.authentication_data, id, r.binary()?)?,
            _ => return not_allowed(r, id),
        }
    }
    if p.authentication_data.is_some() && p.authentication_method.is_none() {
        return Err(DecodeError::AuthDataWithoutMethod(r.packet()));
    }
    Ok(p)
}

/// §3.3.2.3
pub(crate) fn publish(r: &mut Reader<'_>, side: Side) -> Result<Option<Box<PublishProperties>>> {
    let r = &mut r.property_section()?;
    if r.is_empty() {
        return Ok(None);
    }
    let mut p = Box::<PublishProperties>::default();
    while let Some(id) = next(r)? {
        match id {
            Id::PayloadFormatIndicator => once(&mut p.payload_format, id, flag(r, id)?)?,
            Id::MessageExpiryInterval => once(&mut p.message_expiry, id, r.u32()?)?,
            Id::TopicAlias => once(&mut p.topic_alias, id, non_zero_u16(r, id)?)?,
            Id::ResponseTopic => once(&mut p.response_topic, id, response_topic(r)?)?,
            Id::CorrelationData => once(&mut p.correlation_data, id, r.binary()?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            // [MQTT-3.3.4-6]
            Id::SubscriptionIdentifier if side == Side::Client => {
                p.subscription_identifiers.push(subscription_identifier(r)?);
            }
            Id::ContentType => once(&mut p.content_type, id, r.utf8()?)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok(Some(p))
}

/// §3.4.2.2
pub(crate) fn ack(r: &mut Reader<'_>) -> Result<Option<Box<AckProperties>>> {
    let (reason_string, user_properties) = codes(r)?;
    if reason_string.is_none() && user_properties.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(AckProperties {
        reason_string,
        user_properties,
    })))
}

/// Reason string and user properties, as SUBACK and UNSUBACK have them too. §3.9.2.1, §3.11.2.1
pub(crate) fn codes(r: &mut Reader<'_>) -> Result<(Option<Utf8>, Vec<UserProperty>)> {
    let mut reason_string = None;
    let mut user_properties = Vec::new();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::ReasonString => once(&mut reason_string, id, r.utf8()?)?,
            Id::UserProperty => push_user_property(&mut user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok((reason_string, user_properties))
}

/// §3.8.2.1
pub(crate) fn subscribe(r: &mut Reader<'_>) -> Result<(Option<u32>, Vec<UserProperty>)> {
    let mut identifier = None;
    let mut user_properties = Vec::new();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::SubscriptionIdentifier => once(&mut identifier, id, subscription_identifier(r)?)?,
            Id::UserProperty => push_user_property(&mut user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok((identifier, user_properties))
}

/// §3.10.2.1
pub(crate) fn unsubscribe(r: &mut Reader<'_>) -> Result<Vec<UserProperty>> {
    let mut user_properties = Vec::new();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::UserProperty => push_user_property(&mut user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok(user_properties)
}

/// §3.14.2.2
pub(crate) fn disconnect(r: &mut Reader<'_>, side: Side) -> Result<Option<Box<DisconnectProperties>>> {
    let r = &mut r.property_section()?;
    if r.is_empty() {
        return Ok(None);
    }
    let mut p = Box::<DisconnectProperties>::default();
    while let Some(id) = next(r)? {
        match id {
            // [MQTT-3.14.2-2]
            Id::SessionExpiryInterval if side == Side::Server => once(&mut p.session_expiry, id, r.u32()?)?,
            Id::ReasonString => once(&mut p.reason_string, id, r.utf8()?)?,
            Id::ServerReference => once(&mut p.server_reference, id, r.utf8()?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    Ok(Some(p))
}

/// §3.15.2.2: the method must be there.
pub(crate) fn auth(r: &mut Reader<'_>) -> Result<AuthProperties> {
    let mut p = AuthProperties::default();
    let r = &mut r.property_section()?;
    while let Some(id) = next(r)? {
        match id {
            Id::AuthenticationMethod => once(&mut p.method, id, r.utf8()?)?,
            Id::AuthenticationData => once(&mut p.data, id, r.binary()?)?,
            Id::ReasonString => once(&mut p.reason_string, id, r.utf8()?)?,
            Id::UserProperty => push_user_property(&mut p.user_properties, r)?,
            _ => return not_allowed(r, id),
        }
    }
    if p.method.is_none() {
        return Err(DecodeError::AuthWithoutMethod);
    }
    Ok(p)
}

/// The next property's identifier, itself a variable byte integer. §2.2.2.2
#[inline]
fn next(r: &mut Reader<'_>) -> Result<Option<Id>> {
    if r.is_empty() {
        return Ok(None);
    }
    let id = r.variable_byte_integer()?;
    Id::from_u32(id).map(Some).ok_or(DecodeError::UnknownProperty(id))
}

#[inline]
fn once<T>(slot: &mut Option<T>, id: Id, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::DuplicateProperty(id)),
    }
}

fn not_allowed<T>(r: &Reader<'_>, property: Id) -> Result<T> {
    let packet: PacketType = r.packet();
    Err(DecodeError::PropertyNotAllowed { packet, property })
}

/// A byte that is 0 or 1.
fn flag(r: &mut Reader<'_>, property: Id) -> Result<bool> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(DecodeError::PropertyValue {
            property,
            value: value.into(),
        }),
    }
}

fn non_zero_u16(r: &mut Reader<'_>, property: Id) -> Result<NonZeroU16> {
    NonZeroU16::new(r.u16()?).ok_or(DecodeError::PropertyValue { property, value: 0 })
}

fn non_zero_u32(r: &mut Reader<'_>, property: Id) -> Result<NonZeroU32> {
    NonZeroU32::new(r.u32()?).ok_or(DecodeError::PropertyValue { property, value: 0 })
}

/// 1 to 268,435,455. §3.8.2.1.2
fn subscription_identifier(r: &mut Reader<'_>) -> Result<u32> {
    match r.variable_byte_integer()? {
        0 => Err(DecodeError::PropertyValue {
            property: Id::SubscriptionIdentifier,
            value: 0,
        }),
        identifier => Ok(identifier),
    }
}

/// [MQTT-3.3.2-13] [MQTT-3.3.2-14]
fn response_topic(r: &mut Reader<'_>) -> Result<Utf8> {
    let topic = r.utf8()?;
    if topic.is_empty() {
        return Err(DecodeError::EmptyTopic(r.packet()));
    }
    if topic.has_wildcard() {
        return Err(DecodeError::WildcardInResponseTopic);
    }
    Ok(topic)
}

/// User properties that one packet may have. Each takes many times its bytes on the wire.
pub const MAX_USER_PROPERTIES: usize = 256;

fn push_user_property(all: &mut Vec<UserProperty>, r: &mut Reader<'_>) -> Result<()> {
    no_more_than(MAX_USER_PROPERTIES, all.len(), r.packet())?;
    all.push(user_property(r)?);
    Ok(())
}

/// [MQTT-1.5.7-1]
fn user_property(r: &mut Reader<'_>) -> Result<UserProperty> {
    Ok((r.utf8()?, r.utf8()?))
}
