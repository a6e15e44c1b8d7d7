//! Counters with EMQ 2's names: counted in the endpoints, added up by the shell, shown in `$SYS` and wherever else.

macro_rules! metrics {
    ($($variant:ident => $name:literal,)*) => {
        /// One counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Metric { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl Metric {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// EMQ 2's name, or one in its spirit where EMQ has none.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

metrics! {
    BytesReceived => "bytes/received",
    BytesSent => "bytes/sent",
    PacketsReceived => "packets/received",
    PacketsSent => "packets/sent",
    ConnectReceived => "packets/connect",
    ConnackSent => "packets/connack",
    PublishReceived => "packets/publish/received",
    PublishSent => "packets/publish/sent",
    PubackReceived => "packets/puback/received",
    PubackSent => "packets/puback/sent",
    PubackMissed => "packets/puback/missed",
    PubrecReceived => "packets/pubrec/received",
    PubrecSent => "packets/pubrec/sent",
    PubrecMissed => "packets/pubrec/missed",
    PubrelReceived => "packets/pubrel/received",
    PubrelSent => "packets/pubrel/sent",
    PubrelMissed => "packets/pubrel/missed",
    PubcompReceived => "packets/pubcomp/received",
    PubcompSent => "packets/pubcomp/sent",
    PubcompMissed => "packets/pubcomp/missed",
    SubscribeReceived => "packets/subscribe",
    SubackSent => "packets/suback",
    UnsubscribeReceived => "packets/unsubscribe",
    UnsubackSent => "packets/unsuback",
    PingreqReceived => "packets/pingreq",
    PingrespSent => "packets/pingresp",
    DisconnectReceived => "packets/disconnect",
    DisconnectSent => "packets/disconnect/sent",
    AuthReceived => "packets/auth/received",
    AuthSent => "packets/auth/sent",
    Qos0Received => "messages/qos0/received",
    Qos0Sent => "messages/qos0/sent",
    Qos1Received => "messages/qos1/received",
    Qos1Sent => "messages/qos1/sent",
    Qos2Received => "messages/qos2/received",
    Qos2Sent => "messages/qos2/sent",
    Qos2Dropped => "messages/qos2/dropped",
    ConnectRefused => "clients/refused",
    MemoryShed => "clients/shed",
    MalformedPackets => "packets/malformed",
    ProtocolErrors => "packets/protocol_errors",
    DroppedTooLarge => "messages/dropped/too_large",
    DroppedNotAuthorized => "messages/dropped/not_authorized",
    SubscribeNotAuthorized => "subscriptions/refused/not_authorized",
    SubscribeRefused => "subscriptions/refused/limit",
    RegisterReceived => "packets/register/received",
    RegisterSent => "packets/register/sent",
    SnDatagramsReceived => "mqttsn/datagrams/received",
    SnDatagramsSent => "mqttsn/datagrams/sent",
    SnMalformed => "mqttsn/datagrams/malformed",
    SnUnknownSender => "mqttsn/datagrams/unknown_sender",
    SnDropped => "mqttsn/datagrams/dropped",
    SnRetries => "mqttsn/retries",
    SnLost => "mqttsn/clients/lost",
    SnMoved => "mqttsn/clients/moved",
    SnRejected => "mqttsn/messages/rejected",
    SnHeldBack => "mqttsn/messages/held_back",
    SnUnsent => "mqttsn/messages/unsent",
    SnUnproved => "mqttsn/datagrams/unproved",
}

/// What one step, or one batch of steps, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u32; Metric::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Metric::ALL.len()])
    }
}

impl Counts {
    /// Counts one.
    pub fn add(&mut self, metric: Metric) {
        self.add_n(metric, 1);
    }

    /// Counts `n`.
    pub fn add_n(&mut self, metric: Metric, n: u32) {
        self.0[metric as usize] += n;
    }

    /// Hands every counter that is not zero to `sink` and sets it to zero.
    pub fn drain(&mut self, mut sink: impl FnMut(Metric, u32)) {
        for metric in Metric::ALL {
            let slot = &mut self.0[*metric as usize];
            if *slot > 0 {
                sink(*metric, std::mem::take(slot));
            }
        }
    }
}
