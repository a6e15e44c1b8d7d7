//! Heart-beats both ways. STOMP 1.2, Heart-beating.

use crate::settings::StompSettings;
use headgate_model::Instant;
use std::time::Duration;

/// What both sides agreed upon, and when it is due.
#[derive(Debug, Default)]
pub(crate) struct HeartBeats {
    /// Something goes to the client at least so often.
    send_every: Option<Duration>,
    sent_at: Instant,
    /// The client is lost when nothing came for so long.
    patience: Option<Duration>,
    heard_at: Instant,
}

/// The header `heart-beat`: what a side can do and what it wants, in milliseconds; 0 for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub can_send: u32,
    pub wants: u32,
}

impl Offer {
    /// Two numbers of digits. What is longer than a u32 can say is as good as the longest.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (can_send, wants) = text.split_once(',')?;
        Some(Self {
            can_send: number(can_send.trim())?,
            wants: number(wants.trim())?,
        })
    }

    /// What we say in CONNECTED.
    pub(crate) fn ours(settings: &StompSettings) -> Self {
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self {
            can_send: ms(settings.heart_beat_send),
            wants: ms(settings.heart_beat_receive),
        }
    }
}

impl HeartBeats {
    /// From now on, with what the client said.
    pub(crate) fn agreed(theirs: Offer, settings: &StompSettings, now: Instant) -> Self {
        let ours = Offer::ours(settings);
        let tolerance = settings.heart_beat_tolerance;
        Self {
            send_every: interval(ours.can_send, theirs.wants),
            sent_at: now,
            patience: interval(theirs.can_send, ours.wants).map(|every| every * tolerance / 100),
            heard_at: now,
        }
    }

    /// Something came from the client: a frame, a line end, a part of one.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Something goes to the client.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent_at = now;
    }

    /// When the next heart-beat leaves: a tenth earlier than promised, for the way takes time.
    pub(crate) fn send_at(&self) -> Option<Instant> {
        self.send_every.map(|every| self.sent_at + every * 9 / 10)
    }

    /// When the client is lost.
    pub(crate) fn lost_at(&self) -> Option<Instant> {
        self.patience.map(|patience| self.heard_at + patience)
    }
}

/// The longer of both, if both want it.
fn interval(can_send: u32, wants: u32) -> Option<Duration> {
    let agreed = can_send > 0 && wants > 0;
    agreed.then(|| Duration::from_millis(can_send.max(wants).into()))
}
