//! What every protocol adapter is: a plain struct that is told what happened and writes down what follows.

use crate::access::{Answer, Denials, Question};
use crate::{BusCommand, BusEvent, Counts, Instant};
use bytes::BytesMut;

/// One remote party speaking one protocol. No socket, clock, lock or `async`; see [`Input`] and [`Outputs`].
pub trait Endpoint {
    /// What the codec makes of bytes: a frame, or the reason why there is none.
    type In;
    /// What the codec makes bytes of.
    type Out;

    /// Takes one thing that happened and writes everything that follows from it into `out`.
    fn handle(&mut self, input: Input<Self::In>, now: Instant, out: &mut Outputs<Self::Out>);

    /// When `Input::Timeout` is next wanted; `None` while nothing is pending.
    fn deadline(&self) -> Option<Instant>;

    /// Bytes that it keeps for its client beside its own size, for the ledger of memory. Asked after every turn: must be quick.
    fn held(&self) -> usize {
        0
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
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input<F> {
    /// The peer sent a frame, or something that is none.
    Frame(F),
    /// The bus says.
    Bus(BusEvent),
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
pub struct Outputs<F> {
    /// To the peer, in order.
    pub frames: Vec<F>,
    /// To the bus, in order.
    pub bus: Vec<BusCommand>,
    /// To the access service: one is open at a time, and no frame is taken until its answer came.
    pub question: Option<Question>,
    /// Shut the link down after `frames` are written.
    pub close: bool,
    /// What to count.
    pub counts: Counts,
    /// What to write to the log.
    pub denials: Denials,
}

impl<F> Default for Outputs<F> {
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

impl<F> Outputs<F> {
    /// Sends a frame to the peer.
    pub fn send(&mut self, frame: impl Into<F>) {
        self.frames.push(frame.into());
    }

    /// Writes a command to the bus.
    pub fn bus(&mut self, command: BusCommand) {
        self.bus.push(command);
    }

    /// Grants the bus one more delivery for one of so many bytes; grants in a row become one command.
    pub fn grant_credit(&mut self, size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match self.bus.last_mut() {
            Some(BusCommand::Credit { deliveries, bytes }) => {
                *deliveries += 1;
                *bytes = bytes.saturating_add(size);
            }
            _ => self.bus.push(BusCommand::Credit {
                deliveries: 1,
                bytes: size,
            }),
        }
    }
}
