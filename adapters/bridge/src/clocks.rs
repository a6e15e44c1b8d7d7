//! How long the link has been silent, and how long the remote has owed an answer.

use headgate_model::Instant;
use headgate_mqtt_codec::Packet;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Clocks {
    keep_alive: Duration,
    stalled_after: Duration,
    sent: Instant,
    received: Instant,
    /// Something went out at QoS 0, and nothing came since.
    unverified: Option<Instant>,
    /// PINGRESP is awaited.
    pinged: bool,
    /// The remote owes an answer, and has given none since.
    owed: Option<Instant>,
    stalled: bool,
}

impl Clocks {
    pub(crate) fn new(keep_alive: Duration, stalled_after: Duration, now: Instant) -> Self {
        Self {
            keep_alive,
            stalled_after,
            sent: now,
            received: now,
            unverified: None,
            pinged: false,
            owed: None,
            stalled: false,
        }
    }

    /// Zero for none.
    pub(crate) fn set_keep_alive(&mut self, keep_alive: Duration) {
        self.keep_alive = keep_alive;
    }

    pub(crate) fn received(&mut self, now: Instant) {
        self.received = now;
        self.unverified = None;
    }

    pub(crate) fn sent(&mut self, packets: &[Packet], now: Instant) {
        if packets.is_empty() {
            return;
        }
        self.sent = now;
        let qos0 =
            |packet: &Packet| matches!(packet, Packet::Publish(publish) if publish.packet_id.is_none());
        if packets.iter().any(qos0) {
            self.unverified.get_or_insert(now);
        }
    }

    pub(crate) fn ping(&mut self) {
        self.pinged = true;
    }

    pub(crate) fn pong(&mut self) {
        self.pinged = false;
    }

    /// Whether the remote owes anything but PINGRESP.
    pub(crate) fn owes(&mut self, more: bool, now: Instant) {
        if more || self.pinged {
            self.owed.get_or_insert(now);
        } else {
            self.owed = None;
        }
    }

    /// The remote has answered something that it owed: for the rest it has time anew. Whether it was stalled.
    pub(crate) fn answered(&mut self) -> bool {
        self.owed = None;
        std::mem::take(&mut self.stalled)
    }

    pub(crate) fn stall(&mut self) {
        self.stalled = true;
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let dues = [self.ping_due(), self.stalled_due(), self.give_up_due()];
        dues.into_iter().flatten().min()
    }

    /// A PINGREQ is due when nothing was sent or nothing came for the keep alive \[MQTT-3.1.2-20\], and to learn whether QoS 0 arrives at all.
    pub(crate) fn ping_due(&self) -> Option<Instant> {
        if self.pinged {
            return None;
        }
        let quiet = self.sent.min(self.received);
        let silence = (!self.keep_alive.is_zero()).then(|| quiet + self.keep_alive);
        let unverified = self.unverified.map(|at| at + self.stalled_after);
        [silence, unverified].into_iter().flatten().min()
    }

    pub(crate) fn stalled_due(&self) -> Option<Instant> {
        Some(self.owed.filter(|_| !self.stalled)? + self.stalled_after)
    }

    pub(crate) fn give_up_due(&self) -> Option<Instant> {
        Some(self.owed? + self.stalled_after * 2)
    }
}
