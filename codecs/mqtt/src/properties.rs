//! Properties of MQTT 5, one typed struct for each packet that has them. §2.2.2
//!
//! Absent is `None` or an empty `Vec`; present with its default value is `Some`. Before MQTT 5 there are none.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;

use crate::{Qos, Utf8};

/// A name and a value; order and repetition mean something. §1.5.7
pub type UserProperty = (Utf8, Utf8);

/// Properties of a CONNECT. §3.1.2.11
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds the session outlives the connection; absent is zero, `u32::MAX` is for ever.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 publishes the client takes at once; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet the client takes, in bytes; absent is no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest topic alias the client takes; absent is zero.
    pub topic_alias_maximum: Option<u16>,
    /// Whether the client asks for Response Information; absent is no.
    pub request_response_information: Option<bool>,
    /// Whether the client wants reason strings and user properties with every packet; absent is yes.
    pub request_problem_information: Option<bool>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Name of the enhanced authentication method.
    pub authentication_method: Option<Utf8>,
    /// Data for that method.
    pub authentication_data: Option<Bytes>,
}

/// Properties of a Will. §3.1.3.2
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WillProperties {
    /// Seconds to wait before publishing the Will; absent is zero.
    pub delay_interval: Option<u32>,
    /// True: the payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Lifetime of the Will in seconds.
    pub message_expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<Utf8>,
    /// Where an answer is expected.
    pub response_topic: Option<Utf8>,
    /// What tells which request an answer is for.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

/// Properties of a CONNACK. §3.2.2.3
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Session expiry the server uses instead of the one asked for, in seconds.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 publishes the server takes at once; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Highest QoS the server takes; absent is 2, and 2 is written by leaving it out.
    pub maximum_qos: Option<Qos>,
    /// Whether retained messages are supported; absent is yes.
    pub retain_available: Option<bool>,
    /// The largest packet the server takes, in bytes; absent is no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client identifier the server chose for a client that sent none.
    pub assigned_client_identifier: Option<Utf8>,
    /// The highest topic alias the server takes; absent is zero.
    pub topic_alias_maximum: Option<u16>,
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Whether wildcard subscriptions are supported; absent is yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscription identifiers are supported; absent is yes.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether shared subscriptions are supported; absent is yes.
    pub shared_subscription_available: Option<bool>,
    /// Keep alive the client must use instead of its own, in seconds.
    pub server_keep_alive: Option<u16>,
    /// Basis for response topics.
    pub response_information: Option<Utf8>,
    /// Another server to use.
    pub server_reference: Option<Utf8>,
    /// Name of the enhanced authentication method.
    pub authentication_method: Option<Utf8>,
    /// Data for that method.
    pub authentication_data: Option<Bytes>,
}

/// Properties of a PUBLISH. §3.3.2.3
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// True: the payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Lifetime of the message in seconds.
    pub message_expiry: Option<u32>,
    /// Stands for the topic on this connection.
    pub topic_alias: Option<NonZeroU16>,
    /// Where an answer is expected; never holds a wildcard. [MQTT-3.3.2-14]
    pub response_topic: Option<Utf8>,
    /// What tells which request an answer is for.
    pub correlation_data: Option<Bytes>,
    /// User properties, to be forwarded in order. [MQTT-3.3.2-18]
    pub user_properties: Vec<UserProperty>,
    /// Which subscriptions caused this; only from a server. [MQTT-3.3.4-6]
    pub subscription_identifiers: Vec<u32>,
    /// What the payload is.
    pub content_type: Option<Utf8>,
}

/// Properties of PUBACK, PUBREC, PUBREL and PUBCOMP. §3.4.2.2
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

/// Properties of a DISCONNECT. §3.14.2.2
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// A new session expiry in seconds; only from a client. [MQTT-3.14.2-2]
    pub session_expiry: Option<u32>,
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// Another server to use.
    pub server_reference: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

/// Properties of an AUTH. §3.15.2.2
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthProperties {
    /// Name of the enhanced authentication method; required whenever there are properties.
    pub method: Option<Utf8>,
    /// Data for that method.
    pub data: Option<Bytes>,
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

macro_rules! property_ids {
    ($($name:ident = $value:literal, $text:literal;)+) => {
        /// The identifier in front of each property. §2.2.2.2
        #[repr(u8)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PropertyId {
            $(#[doc = concat!($text, ".")] $name = $value,)+
        }

        impl PropertyId {
            /// Every identifier there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The identifier with this value, if MQTT 5 has one.
            pub const fn from_u32(value: u32) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for PropertyId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)+
                })
            }
        }
    };
}

property_ids! {
    PayloadFormatIndicator = 0x01, "Payload Format Indicator";
    MessageExpiryInterval = 0x02, "Message Expiry Interval";
    ContentType = 0x03, "Content Type";
    ResponseTopic = 0x08, "Response Topic";
    CorrelationData = 0x09, "Correlation Data";
    SubscriptionIdentifier = 0x0B, "Subscription Identifier";
    SessionExpiryInterval = 0x11, "Session Expiry Interval";
    AssignedClientIdentifier = 0x12, "Assigned Client Identifier";
    ServerKeepAlive = 0x13, "Server Keep Alive";
    AuthenticationMethod = 0x15, "Authentication Method";
    AuthenticationData = 0x16, "Authentication Data";
    RequestProblemInformation = 0x17, "Request Problem Information";
    WillDelayInterval = 0x18, "Will Delay Interval";
    RequestResponseInformation = 0x19, "Request Response Information";
    ResponseInformation = 0x1A, "Response Information";
    ServerReference = 0x1C, "Server Reference";
    ReasonString = 0x1F, "Reason String";
    ReceiveMaximum = 0x21, "Receive Maximum";
    TopicAliasMaximum = 0x22, "Topic Alias Maximum";
    TopicAlias = 0x23, "Topic Alias";
    MaximumQos = 0x24, "Maximum QoS";
    RetainAvailable = 0x25, "Retain Available";
    UserProperty = 0x26, "User Property";
    MaximumPacketSize = 0x27, "Maximum Packet Size";
    WildcardSubscriptionAvailable = 0x28, "Wildcard Subscription Available";
    SubscriptionIdentifierAvailable = 0x29, "Subscription Identifier Available";
    SharedSubscriptionAvailable = 0x2A, "Shared Subscription Available";
}
