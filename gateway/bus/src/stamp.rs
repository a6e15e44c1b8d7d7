//! Stamps: when a message came by the system's clock, and how good that clock was, as two user properties of MQTT 5.
//!
//! Always true: where stamps are wanted, what a client says under these names itself is taken away; a message that came by a link keeps the stamp that it
//! has, for it came first where that was made; a message is stamped when it is published, and not again when it was delayed or retained.

use crate::bus::Bus;
use bytes::Bytes;
use headgate_model::message::Properties;
use headgate_model::{Instant, Message, WallTime};

/// When the message came: `2026-11-30T09:10:00.123Z`. RFC 3339
pub(crate) const RECEIVED: &str = "headgate-received";
/// How good the clock was that says so: [`ClockQuality`].
pub(crate) const CLOCK: &str = "headgate-clock";

/// How good a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockQuality {
    /// A time service keeps the clock right.
    Synchronized,
    /// It was set once, by hand or by a clock chip, and runs alone.
    Set,
    /// It is not believed: the gateway's own time goes on from the last that was.
    Floor,
}

impl ClockQuality {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synchronized => "synchronized",
            Self::Set => "set",
            Self::Floor => "floor",
        }
    }
}

/// The clock that stamps are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampClock {
    /// What it says at [`Instant::START`].
    pub epoch: WallTime,
    /// How good that is.
    pub quality: ClockQuality,
}

/// The clock, and the last time in words: many messages come in one millisecond.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    clock: Option<StampClock>,
    last: Option<(WallTime, Bytes)>,
}

impl Stamps {
    fn received(&mut self, clock: StampClock, now: Instant) -> Bytes {
        let at = WallTime::of(now, clock.epoch);
        match &self.last {
            Some((last, words)) if *last == at => words.clone(),
            _ => {
                let words = Bytes::from(words(at));
                self.last = Some((at, words.clone()));
                words
            }
        }
    }
}

impl Bus {
    /// Stamps are made by this clock from now on, if [`BusSettings::stamp`](crate::BusSettings::stamp) wants them. Without one there are none.
    pub fn set_stamp_clock(&mut self, clock: Option<StampClock>) {
        self.stamps.clock = clock;
    }

    /// Somebody publishes a message: `is_link` if it is another broker.
    pub(crate) fn stamp(&mut self, message: &mut Message, is_link: bool, now: Instant) {
        if self.settings.stamp
            && let Some(clock) = self.stamps.clock
        {
            let received = || self.stamps.received(clock, now);
            put(message, is_link, clock.quality, received);
        }
    }
}

fn put(message: &mut Message, is_link: bool, quality: ClockQuality, received: impl FnOnce() -> Bytes) {
    let is_stamp = |name: &Bytes| name == RECEIVED.as_bytes() || name == CLOCK.as_bytes();
    // An empty retained message removes what is retained: there is nothing to say of it.
    let properties = message
        .properties
        .get_or_insert_with(|| Box::new(Properties::default()));
    let pairs = &mut properties.user_properties;
    if is_link && pairs.iter().any(|(name, _)| is_stamp(name)) {
        return;
    }
    pairs.retain(|(name, _)| !is_stamp(name));
    pairs.reserve_exact(2);
    pairs.push((Bytes::from_static(RECEIVED.as_bytes()), received()));
    pairs.push((
        Bytes::from_static(CLOCK.as_bytes()),
        Bytes::from_static(quality.name().as_bytes()),
    ));
}

/// `2026-11-30T09:10:00.123Z`
fn words(at: WallTime) -> String {
    let (seconds, ms) = (at.0 / 1_000, at.0 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of so many days since 1970, in years that begin with March: a leap day is the last of its year then. Four centuries have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::Topic;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(words(WallTime(ms)), text);
        }
    }

    fn stamped(pairs: &[(&str, &str)], is_link: bool) -> Vec<(String, String)> {
        let pair = |(name, value): &(&str, &str)| {
            (Bytes::from((*name).to_owned()), Bytes::from((*value).to_owned()))
        };
        let mut message = Message::new(Topic::try_from("t").unwrap(), "x");
        if !pairs.is_empty() {
            message.properties = Some(Box::new(Properties {
                user_properties: pairs.iter().map(pair).collect(),
                ..Properties::default()
            }));
        }
        put(&mut message, is_link, ClockQuality::Set, || "now".into());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = message.properties.unwrap().user_properties.into_iter();
        pairs.map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn nobody_forges_a_stamp() {
        let stamp = [(RECEIVED, "now"), (CLOCK, "set")];
        assert_eq!(stamped(&[], false), pairs(&stamp));
        let forged = [
            (CLOCK, "synchronized"),
            ("unit", "K"),
            (RECEIVED, "1999"),
            (CLOCK, "x"),
        ];
        assert_eq!(
            stamped(&forged, false),
            pairs(&[("unit", "K"), (RECEIVED, "now"), (CLOCK, "set")])
        );
    }

    #[test]
    fn what_another_gateway_has_stamped_stays() {
        let there = [("unit", "K"), (RECEIVED, "before"), (CLOCK, "synchronized")];
        assert_eq!(stamped(&there, true), pairs(&there));
        assert_eq!(
            stamped(&[("unit", "K")], true),
            pairs(&[("unit", "K"), (RECEIVED, "now"), (CLOCK, "set")])
        );
    }
}
