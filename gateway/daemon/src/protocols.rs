//! The protocols that the gateway speaks. Adding one means a line in [`with_protocols!`]: docs/adapters.md.

use crate::config::Config;
use headgate_model::{DatagramProtocol, Fault, Files, StreamProtocol};
use headgate_shell::settings::{DtlsSettings, WebSocketFacts};
use headgate_shell::{DatagramListener, ListenerFor, Protocols};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The protocol of listeners that tell how the gateway is: see [`crate::http`].
pub(crate) const HTTP: &str = "http";
/// The protocol that the demo page speaks.
pub(crate) const STOMP: &str = headgate_stomp::Stomp::NAME;

/// What is written down of clients of LwM2M, where, and what their objects are called: `headgate lwm2m list`.
pub(crate) use headgate_lwm2m::{Note as Lwm2mNote, SESSIONS as LWM2M_SESSIONS, Supplies as Lwm2mSupplies};

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
                /// LwM2M servers. Default: one for UDP on `127.0.0.1:5783`.
                headgate_lwm2m::Lwm2m => lwm2m,
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

        /// What sockets for datagrams have for DTLS, of all lists.
        pub(crate) fn dtls_of(config: &mut Config) -> Vec<&mut DtlsSettings> {
            let mut all = Vec::new();
            $(all.extend(config.$list.iter_mut().filter_map(|settings| settings.dtls.as_mut()));)*
            all
        }

        /// The folders that sockets and lines need, with their keys.
        pub(crate) fn folders(config: &Config) -> Vec<(String, PathBuf)> {
            let mut all = Vec::new();
            $(for (n, server) in config.$list.iter().enumerate() {
                for (key, folder) in <$datagram>::folders(&server.gateway) {
                    all.push((key_of(stringify!($list), n, key), folder.to_owned()));
                }
            })*
            all
        }

        /// Gives them what is in these folders. What is no good, with its key.
        pub(crate) fn supply(config: &mut Config, read: &mut dyn FnMut(&Path) -> Read) -> Vec<Fault> {
            let mut faults = Vec::new();
            $(for (n, server) in config.$list.iter_mut().enumerate() {
                let folders = <$datagram>::folders(&server.gateway).into_iter();
                let folders: Vec<_> = folders.map(|(key, folder)| (key, folder.to_owned())).collect();
                for (key, folder) in folders {
                    let (files, mut told) = read(&folder);
                    told.extend(<$datagram>::supply(&mut server.gateway, key, &files));
                    let key = key_of(stringify!($list), n, key);
                    faults.extend(told.into_iter().map(|what| Fault::new(key.clone(), what)));
                }
            })*
            faults
        }

        /// Whether sockets and lines are told the same by both.
        pub(crate) fn datagrams_alike(old: &Config, new: &Config) -> bool {
            true $(&& old.$list == new.$list)*
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

/// The files of a folder, and what was wrong with it.
pub(crate) type Read = (Arc<Files>, Vec<String>);

fn key_of(list: &str, n: usize, key: &str) -> String {
    format!("{list}[{n}].gateway.{key}")
}

/// One socket or line for datagrams, and where it stands in the configuration.
pub(crate) struct Entry<'a> {
    /// The name of the list.
    pub list: &'static str,
    /// Its place there.
    pub n: usize,
    /// The listener.
    pub listener: Box<dyn DatagramListener + 'a>,
}

/// The session of an LwM2M client, by its endpoint name.
pub(crate) fn lwm2m_session(endpoint: &str) -> String {
    format!("{LWM2M_SESSIONS}{}", endpoint.replace('%', "%25"))
}
