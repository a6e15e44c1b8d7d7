//! What the MQTT-SN gateway alone counts.

headgate_model::counters! {
    /// One counter of the MQTT-SN gateway.
    pub enum SnMetric {
        DatagramsReceived => "mqttsn/datagrams/received",
        DatagramsSent => "mqttsn/datagrams/sent",
        Malformed => "mqttsn/datagrams/malformed",
        UnknownSender => "mqttsn/datagrams/unknown_sender",
        Dropped => "mqttsn/datagrams/dropped",
        Retries => "mqttsn/retries",
        Lost => "mqttsn/clients/lost",
        Moved => "mqttsn/clients/moved",
        Rejected => "mqttsn/messages/rejected",
        HeldBack => "mqttsn/messages/held_back",
        Unsent => "mqttsn/messages/unsent",
        Unproved => "mqttsn/datagrams/unproved",
    }
}
