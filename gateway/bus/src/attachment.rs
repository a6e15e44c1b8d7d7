//! How a session is attached: whether an endpoint has it, and how far that is.

use crate::acks::Answers;
use headgate_model::EndpointId;

/// Whether an endpoint has the session.
#[derive(Debug)]
pub(crate) enum Attachment {
    /// No endpoint has it.
    Away {
        /// Since when, in [`seconds`](crate::ledger::seconds); 0 for since before the start.
        left: u32,
    },
    /// No endpoint has it, for its client sleeps. Operators see it as connected. MQTT-SN 1.2 §6.14
    Asleep {
        /// Since when, in [`seconds`](crate::ledger::seconds); 0 for since before the start.
        left: u32,
    },
    /// An endpoint has it.
    Attached(Attached),
}

impl Default for Attachment {
    fn default() -> Self {
        Self::Away { left: 0 }
    }
}

/// The endpoint that has a session.
#[derive(Debug)]
pub(crate) struct Attached {
    pub endpoint: EndpointId,
    pub stage: Stage,
    /// When it came, in [`seconds`](crate::ledger::seconds).
    pub since: u32,
    /// It wants to be told when nothing waits and nothing is under way.
    pub tell_drained: bool,
    /// Answers to it that wait; there since the first that had to.
    pub answers: Option<Box<Answers>>,
}

/// How far an endpoint is with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `Opened` waits for its commit: nothing is delivered before it.
    Opening {
        /// [`Stage::Awake`] comes next.
        awake: bool,
    },
    /// It takes deliveries.
    Online,
    /// It takes deliveries for a client that sleeps and is awake now. The store knows nothing of it until something is handed over.
    Awake,
    /// That its client sleeps is written, and it waits for the answer. It gets no deliveries.
    FallingAsleep,
    /// It was told that another connection takes over: it gets nothing more, and what its client had sent is still taken.
    Leaving {
        /// That its client sleeps is written.
        asleep: bool,
    },
}

impl Attached {
    pub(crate) fn new(endpoint: EndpointId, awake: bool, tell_drained: bool, since: u32) -> Self {
        Self {
            endpoint,
            stage: Stage::Opening { awake },
            since,
            tell_drained,
            answers: None,
        }
    }

    /// Whether it takes deliveries now.
    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        matches!(self.stage, Stage::Online | Stage::Awake)
    }

    /// The client has been told that it is in.
    pub(crate) fn opened(&mut self) {
        match self.stage {
            Stage::Opening { awake: false } => self.stage = Stage::Online,
            Stage::Opening { awake: true } => self.stage = Stage::Awake,
            _ => {}
        }
    }

    /// Another connection takes over. Whether it is the first that does.
    pub(crate) fn be_taken_over(&mut self) -> bool {
        let asleep = match self.stage {
            Stage::Leaving { .. } => return false,
            Stage::FallingAsleep => true,
            Stage::Opening { .. } | Stage::Online | Stage::Awake => false,
        };
        self.stage = Stage::Leaving { asleep };
        true
    }

    /// Its client falls asleep.
    pub(crate) fn fall_asleep(&mut self) {
        self.tell_drained = false;
        self.stage = match self.stage {
            Stage::Leaving { .. } => Stage::Leaving { asleep: true },
            _ => Stage::FallingAsleep,
        };
    }

    /// The store learns what it did not know of a client that is awake. Whether there was anything.
    pub(crate) fn note_written(&mut self) -> bool {
        match &mut self.stage {
            Stage::Awake => {
                self.stage = Stage::Online;
                true
            }
            Stage::Opening { awake } => std::mem::take(awake),
            _ => false,
        }
    }
}

impl Attachment {
    #[inline]
    pub(crate) fn attached(&self) -> Option<&Attached> {
        match self {
            Self::Attached(attached) => Some(attached),
            Self::Away { .. } | Self::Asleep { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn attached_mut(&mut self) -> Option<&mut Attached> {
        match self {
            Self::Attached(attached) => Some(attached),
            Self::Away { .. } | Self::Asleep { .. } => None,
        }
    }

    /// That its client sleeps is written, and an endpoint still has it.
    pub(crate) fn is_falling_asleep(&self) -> bool {
        let falling = |attached: &Attached| {
            matches!(
                attached.stage,
                Stage::FallingAsleep | Stage::Leaving { asleep: true }
            )
        };
        self.attached().is_some_and(falling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline]
    fn attached(stage: Stage) -> Attached {
        Attached {
            stage,
            ..Attached::new(EndpointId(1), false, true, 0)
        }
    }

    /// The answer to CONNECT may come after another connection has taken over, or after the client fell asleep: then nothing is delivered.
    #[test]
    fn only_an_opening_endpoint_comes_online() {
        for (before, after) in [
            (Stage::Opening { awake: false }, Stage::Online),
            (Stage::Opening { awake: true }, Stage::Awake),
            (Stage::FallingAsleep, Stage::FallingAsleep),
            (Stage::Leaving { asleep: false }, Stage::Leaving { asleep: false }),
        ] {
            let mut endpoint = attached(before);
            endpoint.opened();
            assert_eq!(endpoint.stage, after);
        }
    }

    /// That it sleeps is written, and must not be written over when its endpoint leaves.
    #[test]
    fn who_is_taken_over_while_it_falls_asleep_is_asleep() {
        let mut first = attached(Stage::Online);
        first.fall_asleep();
        assert!(first.be_taken_over() && !first.be_taken_over());
        let mut then = attached(Stage::Awake);
        assert!(then.be_taken_over());
        then.fall_asleep();
        for endpoint in [first, then] {
            assert_eq!(endpoint.stage, Stage::Leaving { asleep: true });
            assert!(!endpoint.tell_drained && !endpoint.is_online());
            assert!(Attachment::Attached(endpoint).is_falling_asleep());
        }
    }
}
