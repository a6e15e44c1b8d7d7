//! What CoAP counts.

headgate_model::counters! {
    /// One counter of CoAP.
    pub enum CoapMetric {
        DatagramsReceived => "coap/datagrams/received",
        DatagramsSent => "coap/datagrams/sent",
        Malformed => "coap/datagrams/malformed",
        Duplicates => "coap/messages/duplicate",
        Retransmissions => "coap/messages/retransmitted",
        Lost => "coap/messages/lost",
        Rejected => "coap/messages/rejected",
        Unproved => "coap/messages/unproved",
        Forgotten => "coap/messages/forgotten",
        Overflowed => "coap/messages/overflowed",
        TransfersDropped => "coap/transfers/dropped",
        RequestsReceived => "coap/requests/received",
        ResponsesSent => "coap/responses/sent",
        ClientErrorsSent => "coap/responses/client_error",
        ServerErrorsSent => "coap/responses/server_error",
        TooFast => "coap/requests/too_fast",
        BadOptions => "coap/requests/bad_option",
        Notifications => "coap/notifications/sent",
        NotificationsDropped => "coap/notifications/dropped",
        Observed => "coap/observations/begun",
        Restored => "coap/observations/restored",
        Cancelled => "coap/observations/cancelled",
        ClientsLost => "coap/clients/lost",
        Moved => "coap/clients/moved",
    }
}
