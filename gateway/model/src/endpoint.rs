//! What every protocol adapter is: a plain struct that is told what happened and writes down what follows.

use crate::access::{Answer, Denials, Question};
use crate::trace::{PacketTrace, Party};
use crate::{BusCommand, Counts, Instant, Many, One, SessionKey, Sessions};
use bytes::BytesMut;

/// One remote party speaking one protocol. No socket, clock, lock or `async`; see [`Input`] and [`Outputs`].
pub trait Endpoint {
    /// Names of what it counts beside what all protocols have: those of its [`Counter`](crate::Counter).
    const COUNTERS: &'static [&'static str] = &[];

    /// What the codec makes of bytes: a frame, or the reason why there is none.
    type In;
    /// What the codec makes bytes of.
    type Out;
    /// How many sessions it may have: [`One`] or [`Many`].
    type Sessions: Sessions;

    /// Takes one thing that happened and writes everything that follows from it into `out`.
    fn handle(
        &mut self,
        input: Input<Self::In, Self::Sessions>,
        now: Instant,
        out: &mut Outputs<Self::Out, Self::Sessions>,
    );

    /// When `Input::Timeout` is next wanted; `None` while nothing is pending.
    fn deadline(&self) -> Option<Instant>;

    /// Bytes that it keeps for its client beside its own size, for the ledger of memory. Asked after every turn: must be quick.
    fn held(&self) -> usize {
        0
    }

    /// Who is at the other end, for a trace. Default: nobody knows.
    fn party(&self) -> Party<'_> {
        Party::default()
    }

    /// False while an answer is awaited and no further frame may be handed over: order is kept by leaving frames unread.
    fn ready(&self) -> bool;
}

/// Bytes to frames and frames to bytes, for one link of one protocol.
pub trait Wire {
    /// As [`Endpoint::In`].
    type In;
    /// As [`Endpoint::Out`].
    type Out;

    /// Takes the next whole frame off `bytes`; `None` when there is none yet.
    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Self::In>;

    /// Appends a frame to `bytes`.
    fn encode(&mut self, frame: Self::Out, bytes: &mut BytesMut);

    /// What a frame of the peer says, for a trace. Default: nothing is told.
    fn trace_in(&self, _frame: &Self::In) -> Option<PacketTrace> {
        None
    }

    /// What a frame to the peer says, for a trace. Default: nothing is told.
    fn trace_out(&self, _frame: &Self::Out) -> Option<PacketTrace> {
        None
    }
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input<F, S: Sessions = One> {
    /// The peer sent a frame, or something that is none.
    Frame(F),
    /// The bus says.
    Bus(S::Event),
    /// The world outside says.
    Answer(Answer),
    /// The deadline came.
    Timeout,
    /// The link broke, or the peer closed it.
    Closed,
    /// The gateway stops: say goodbye. MQTT 5 §3.14.2.1: 0x8B.
    Shutdown,
}

/// Everything that follows from one step. The loop drains it before the next step.
#[derive(Debug)]
pub struct Outputs<F, S: Sessions = One> {
    /// To the peer, in order.
    pub frames: Vec<F>,
    /// To the bus, in order.
    pub bus: Vec<S::Command>,
    /// To the access service: one is open at a time, and no frame is taken until its answer came.
    pub question: Option<Question>,
    /// Shut the link down after `frames` are written.
    pub close: bool,
    /// What to count.
    pub counts: Counts,
    /// What to write to the log.
    pub denials: Denials,
}

impl<F, S: Sessions> Default for Outputs<F, S> {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            bus: Vec::new(),
            question: None,
            close: false,
            counts: Counts::default(),
            denials: Denials::default(),
        }
    }
}

impl<F, S: Sessions> Outputs<F, S> {
    /// Sends a frame to the peer.
    pub fn send(&mut self, frame: impl Into<F>) {
        self.frames.push(frame.into());
    }
}

impl<F> Outputs<F, Many> {
    /// Writes a command for one of the sessions to the bus.
    pub fn bus(&mut self, session: SessionKey, command: BusCommand) {
        self.bus.push((session, command));
    }

    /// Grants the bus one more delivery of so many bytes for one of the sessions; grants in a row become one command.
    pub fn grant_credit(&mut self, session: SessionKey, size: usize) {
        let last = self.bus.last_mut().filter(|(key, _)| *key == session);
        let granted = last.is_some_and(|(_, last)| last.adds_credit(size));
        if !granted {
            self.bus.push((session, BusCommand::credit_of(size)));
        }
    }
}

impl<F> Outputs<F> {
    /// Writes a command to the bus.
    pub fn bus(&mut self, command: BusCommand) {
        self.bus.push(command);
    }

    /// Grants the bus one more delivery for one of so many bytes; grants in a row become one command.
    pub fn grant_credit(&mut self, size: usize) {
        let granted = self.bus.last_mut().is_some_and(|last| last.adds_credit(size));
        if !granted {
            self.bus.push(BusCommand::credit_of(size));
        }
    }
}
