//! What MQTT endpoints count of their packets, under EMQ 2's names.

headgate_model::counters! {
    /// One counter of packets.
    pub enum PacketMetric {
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
    }
}
