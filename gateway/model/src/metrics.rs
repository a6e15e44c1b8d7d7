//! Counters with EMQ 2's names: counted in the endpoints, added up by the shell, shown in `$SYS` and wherever else.
//!
//! What every adapter may count is a [`Metric`]. What one adapter alone counts is its own [`Counter`], declared by [`counters!`](crate::counters) and
//! registered by name where it is served.

/// Some counter.
pub trait Counter: Copy {
    /// The names under which all of them are told, in the order of their numbers.
    const NAMES: &'static [&'static str];

    /// Its place among the names.
    fn number(self) -> usize;
}

/// Declares counters: an enum, and the names under which they are told. EMQ 2's names, or ones in their spirit where EMQ has none.
#[macro_export]
macro_rules! counters {
    ($(#[$doc:meta])* $vis:vis enum $counter:ident { $($variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        $vis enum $counter { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl $crate::Counter for $counter {
            const NAMES: &'static [&'static str] = &[$($name,)*];

            fn number(self) -> usize {
                self as usize
            }
        }

        impl $counter {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name under which it is told.
            pub fn name(self) -> &'static str {
                <Self as $crate::Counter>::NAMES[self as usize]
            }
        }
    };
}

counters! {
    /// One counter that adapters share.
    pub enum Metric {
    BytesReceived => "bytes/received",
    BytesSent => "bytes/sent",
    PacketsReceived => "packets/received",
    PacketsSent => "packets/sent",
    Qos0Received => "messages/qos0/received",
    Qos0Sent => "messages/qos0/sent",
    Qos1Received => "messages/qos1/received",
    Qos1Sent => "messages/qos1/sent",
    Qos2Received => "messages/qos2/received",
    Qos2Sent => "messages/qos2/sent",
    Qos2Dropped => "messages/qos2/dropped",
    ConnectRefused => "clients/refused",
    MemoryShed => "clients/shed",
    Slowed => "clients/slowed",
    MalformedPackets => "packets/malformed",
    ProtocolErrors => "packets/protocol_errors",
    DroppedTooLarge => "messages/dropped/too_large",
    DroppedNotAuthorized => "messages/dropped/not_authorized",
    SubscribeNotAuthorized => "subscriptions/refused/not_authorized",
    SubscribeRefused => "subscriptions/refused/limit",
    }
}

/// Counters that an adapter may have of its own.
const MOST_OWN: usize = 48;

/// What one step, or one batch of steps, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    shared: [u32; Metric::ALL.len()],
    /// Of the one adapter that writes here.
    own: [u32; MOST_OWN],
    has_own: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            shared: [0; Metric::ALL.len()],
            own: [0; MOST_OWN],
            has_own: false,
        }
    }
}

impl Counts {
    /// Counts one.
    pub fn add(&mut self, metric: Metric) {
        self.add_n(metric, 1);
    }

    /// Counts `n`.
    pub fn add_n(&mut self, metric: Metric, n: u32) {
        self.shared[metric as usize] += n;
    }

    /// Counts one of the adapter's own.
    pub fn add_own<C: Counter>(&mut self, counter: C) {
        self.add_own_n(counter, 1);
    }

    /// Counts `n` of the adapter's own.
    pub fn add_own_n<C: Counter>(&mut self, counter: C, n: u32) {
        const { assert!(C::NAMES.len() <= MOST_OWN, "an adapter has so many at most") };
        self.own[counter.number()] += n;
        self.has_own = true;
    }

    /// Hands every counter that is not zero to `sink` and sets it to zero.
    pub fn drain(&mut self, mut sink: impl FnMut(Metric, u32)) {
        for metric in Metric::ALL {
            let count = &mut self.shared[*metric as usize];
            if *count > 0 {
                sink(*metric, std::mem::take(count));
            }
        }
    }

    /// The same with the adapter's own, by their numbers.
    pub fn drain_own(&mut self, mut sink: impl FnMut(usize, u32)) {
        if !std::mem::take(&mut self.has_own) {
            return;
        }
        for (number, count) in self.own.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            sink(number, std::mem::take(count));
        }
    }
}
