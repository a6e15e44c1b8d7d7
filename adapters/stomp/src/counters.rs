//! What STOMP endpoints count.

headgate_model::counters! {
    /// One counter of frames, or of what became of a message.
    pub enum StompMetric {
        ConnectReceived => "stomp/connect",
        ConnectedSent => "stomp/connected",
        SendReceived => "stomp/send",
        SubscribeReceived => "stomp/subscribe",
        UnsubscribeReceived => "stomp/unsubscribe",
        AckReceived => "stomp/ack",
        NackReceived => "stomp/nack",
        AckMissed => "stomp/ack/missed",
        BeginReceived => "stomp/begin",
        CommitReceived => "stomp/commit",
        AbortReceived => "stomp/abort",
        TransactionDropped => "stomp/transaction/dropped",
        DisconnectReceived => "stomp/disconnect",
        MessageSent => "stomp/message",
        MessageRedelivered => "stomp/message/redelivered",
        DeadLettered => "stomp/message/dead_lettered",
        NackedDropped => "stomp/message/dropped/nack",
        NotTextDropped => "stomp/message/dropped/not_text",
        ReceiptSent => "stomp/receipt",
        ErrorSent => "stomp/error",
        HeartBeatSent => "stomp/heart_beat/sent",
        HeartBeatMissed => "stomp/heart_beat/missed",
    }
}
