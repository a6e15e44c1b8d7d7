//! The protocols that the gateway speaks. Adding one means a line in [`with_protocols!`]: docs/adapters.md.

use crate::config::Config;
use headgate_model::{DatagramProtocol, Fault, StreamProtocol};
use headgate_shell::settings::WebSocketFacts;
use headgate_shell::{DatagramListener, ListenerFor, Protocols};
use std::collections::BTreeSet;

/// The protocol of listeners that tell how the gateway is: see [`crate::http`].
pub(crate) const HTTP: &str = "http";
/// The protocol that the demo page speaks.
pub(crate) const STOMP: &str = headgate_stomp::Stomp::NAME;

/// Calls `$then!` with `$args` and the list of all protocols, each with the name of its section of the configuration and what is said of that. Those over
/// connections have one section, for all listeners that speak it; those over datagrams have a list, with an entry for each socket or line.
macro_rules! with_protocols {
    ($then:ident!($($args:tt)*)) => {
        $then! {
            ($($args)*)
            streams {
                /// MQTT clients.
                headgate_mqtt::Mqtt => mqtt,
                /// STOMP clients.
                headgate_stomp::Stomp => stomp,
                /// CoAP clients on connections. RFC 8323
                headgate_coap::CoapTcp => coap_tcp,
            }
            datagrams {
                /// MQTT-SN gateways. Default: one for UDP on `127.0.0.1:1884`.
                headgate_mqttsn::MqttSn => mqttsn,
                /// CoAP servers. Default: one for UDP on `127.0.0.1:5683`.
                headgate_coap::Coap => coap,
            }
        }
    };
}
pub(crate) use with_protocols;

macro_rules! functions {
    (()
        streams { $($(#[$about:meta])* $stream:ty => $section:ident,)* }
        datagrams { $($(#[$told:meta])* $datagram:ty => $list:ident,)* }
    ) => {
        /// What `protocol` of a listener may be.
        pub(crate) const NAMES: &[&str] = &[$(<$stream>::NAME,)* HTTP];

        /// What clients speak, as they are listed: the same over connections and datagrams is one.
        pub(crate) fn spoken() -> BTreeSet<&'static str> {
            BTreeSet::from([$(<$stream>::NAME,)* $(<$datagram>::SPOKEN,)*])
        }

        /// The lists of sockets and lines for datagrams.
        pub(crate) const DATAGRAM_LISTS: &[&str] = &[$(stringify!($list),)*];

        /// Whether SockJS can carry it.
        pub(crate) fn is_text(protocol: &str) -> bool {
            [$((<$stream>::NAME, <$stream>::IS_TEXT)),*].contains(&(protocol, true))
        }

        /// Whether its clients need not say a QoS.
        pub(crate) fn has_default_qos(protocol: &str) -> bool {
            [$((<$stream>::NAME, <$stream>::HAS_DEFAULT_QOS)),*].contains(&(protocol, true))
        }

        /// Registers all that are spoken over connections.
        pub(crate) fn register(protocols: &mut Protocols, config: &Config) {
            $(protocols.register(<$stream>::new(&config.$section, &config.node));)*
        }

        /// Whether those over connections are told the same by both.
        pub(crate) fn are_alike(old: &Config, new: &Config) -> bool {
            old.node == new.node $(&& old.$section == new.$section)*
        }

        /// What the protocol of this name says of itself over WebSocket.
        pub(crate) fn websocket_facts(name: &str) -> WebSocketFacts {
            match name {
                $(<$stream>::NAME => WebSocketFacts {
                    subprotocols: <$stream>::SUBPROTOCOLS,
                    is_text: <$stream>::IS_TEXT,
                },)*
                _ => WebSocketFacts::default(),
            }
        }

        /// All that is wrong with their sections.
        pub(crate) fn faults(config: &Config) -> Vec<Fault> {
            let sections = [$((stringify!($section), <$stream>::faults(&config.$section))),*];
            let below = |(section, faults): (&'static str, Vec<Fault>)| {
                faults.into_iter().map(move |fault| fault.below(section))
            };
            sections.into_iter().flat_map(below).collect()
        }

        /// All sockets and lines for datagrams.
        pub(crate) fn datagram_listeners(config: &Config) -> impl Iterator<Item = Entry<'_>> {
            let all: Vec<Entry<'_>> = Vec::new();
            let all = all.into_iter();
            $(let all = all.chain(config.$list.iter().enumerate().map(|(n, settings)| Entry {
                list: stringify!($list),
                n,
                listener: Box::new(ListenerFor::<$datagram>(settings)),
            }));)*
            all
        }

        /// What an entry of such a list has that says only what it must.
        pub(crate) fn defaults_of_entry(list: &str) -> Option<serde_json::Value> {
            match list {
                $(stringify!($list) => {
                    type Settings = headgate_shell::SettingsOf<$datagram>;
                    Some(crate::config::defaults_of::<Settings>(&["name"]))
                })*
                _ => None,
            }
        }
    };
}

with_protocols!(functions!());

/// One socket or line for datagrams, and where it stands in the configuration.
pub(crate) struct Entry<'a> {
    /// The name of the list.
    pub list: &'static str,
    /// Its place there.
    pub n: usize,
    /// The listener.
    pub listener: Box<dyn DatagramListener + 'a>,
}
