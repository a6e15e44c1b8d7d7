//! A session: what is left of a handshake when it is complete.

use crate::CID_LEN;
use crate::credentials::Shown;
use crate::crypto::keys::Keys;
use crate::flight::{Flight, Sizes};
use crate::handshake::Handshake;
use crate::ledger::PLACES;
use crate::outputs::{Counter, Outputs, Peer};
use crate::resume::SessionId;
use crate::window::Window;
use crate::writer::Writer;
use headgate_dtls_codec::{Alert, ContentType, Description, HandshakeType, Record, next_fragment};
use headgate_model::Instant;

/// How often the last flight may be asked for.
const MAX_REPEATS: u8 = 10;

pub(crate) struct Session<A> {
    pub(crate) address: A,
    /// Ours, if the client has agreed to Connection IDs.
    pub(crate) cid: Option<[u8; CID_LEN]>,
    /// When something authentic came last.
    pub(crate) heard: Instant,
    /// When its timer is due: not before it ends for its silence.
    pub(crate) timer_at: Instant,
    /// Bytes that the ledger knows of.
    pub(crate) counted: usize,
    /// The name by which it may be resumed.
    pub(crate) resumed_by: Option<Box<SessionId>>,
    read: Keys,
    writer: Writer,
    window: Window,
    sizes: Sizes,
    /// The end of the handshake, until the client says something; it may not have got it.
    last: Option<Box<(Flight, u8)>>,
    peer: Option<Box<Peer>>,
}

/// What a record was.
pub(crate) enum Got {
    Data(Vec<u8>),
    /// The client ends the session.
    Closed(Alert),
    /// The client begins another handshake inside this one. RFC 5246 §7.4.1.1
    Renegotiation,
    /// The client has not got the end of the handshake.
    Repeat,
    Nothing,
    Malformed,
    Replayed,
    Forged,
}

impl<A: Copy> Session<A> {
    /// `last`: the flight that was just sent.
    pub(crate) fn new(handshake: &mut Handshake<A>, read: Keys, last: Option<Flight>, now: Instant) -> Self {
        let has_cid = handshake.has_cid();
        let writer = Writer::new(0, Box::default());
        Self {
            address: handshake.address,
            cid: has_cid.then_some(handshake.cid),
            heard: now,
            timer_at: now,
            counted: 0,
            read,
            writer: std::mem::replace(&mut handshake.writer, writer),
            window: handshake.window,
            sizes: handshake.sizes,
            resumed_by: handshake.session_id.map(Box::new),
            last: last.map(|last| Box::new((last, 0))),
            peer: Some(Box::new(Peer {
                identity: handshake.identity.take(),
                shown: handshake.shown.take(),
                suite: handshake.agreed.suite,
                server_name: handshake.agreed.server_name.take(),
                connection_id: has_cid,
            })),
        }
    }

    /// Bytes of memory that it takes, as long as it has the end of its handshake.
    pub(crate) fn bytes(&self) -> usize {
        let last = self
            .last
            .as_ref()
            .map_or(0, |last| size_of_val(&**last) + last.0.bytes());
        let id = self.resumed_by.as_ref().map_or(0, |id| size_of_val(&**id));
        size_of::<Self>() + PLACES + last + id
    }

    /// What its client has shown, until that is told.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.peer.as_ref()?.shown.as_ref()
    }

    /// Who it is; told once.
    pub(crate) fn take_peer(&mut self) -> Option<Box<Peer>> {
        self.peer.take()
    }

    /// Takes a record of epoch 1. What it was, and whether it is newer than all before.
    pub(crate) fn take(&mut self, record: &Record<'_>, now: Instant) -> (Got, bool) {
        if !self.window.is_new(record.sequence) {
            return (Got::Replayed, false);
        }
        let Ok((content, plaintext)) = self.read.open(record) else {
            return (Got::Forged, false);
        };
        let is_newest = self.window.note(record.sequence);
        self.heard = now;
        (self.sort(content, plaintext), is_newest)
    }

    fn sort(&mut self, content: ContentType, plaintext: Vec<u8>) -> Got {
        match content {
            ContentType::ApplicationData => {
                self.last = None;
                Got::Data(plaintext)
            }
            ContentType::Alert => match Alert::decode(&plaintext) {
                Ok(alert) if alert.fatal || alert.description == Description::CLOSE_NOTIFY => {
                    Got::Closed(alert)
                }
                Ok(_) => Got::Nothing,
                Err(_) => Got::Malformed,
            },
            ContentType::Handshake => match next_fragment(&plaintext) {
                Ok((fragment, _)) => match HandshakeType::from_u8(fragment.kind) {
                    Some(HandshakeType::Finished) => Got::Repeat,
                    Some(HandshakeType::ClientHello) => Got::Renegotiation,
                    _ => Got::Nothing,
                },
                Err(_) => Got::Malformed,
            },
            ContentType::ChangeCipherSpec | ContentType::Tls12Cid => Got::Malformed,
        }
    }

    /// Sends the end of the handshake again. RFC 6347 §4.2.4
    pub(crate) fn repeat_last(&mut self, out: &mut Outputs<A>) {
        if let Some(last) = &mut self.last
            && last.1 < MAX_REPEATS
        {
            last.1 += 1;
            last.0.send(self.address, self.sizes, &mut self.writer, out);
            out.count(Counter::Resent);
        }
    }

    /// The most bytes that a record to this client may carry.
    pub(crate) fn max_plaintext(&self) -> usize {
        self.sizes.record
    }

    /// Whether no record can follow.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.writer.is_exhausted()
    }

    pub(crate) fn send(&mut self, bytes: &[u8], out: &mut Outputs<A>) {
        self.write(ContentType::ApplicationData, bytes, out);
    }

    pub(crate) fn alert(&mut self, alert: Alert, out: &mut Outputs<A>) {
        self.write(ContentType::Alert, &alert.encode(), out);
    }

    fn write(&mut self, content: ContentType, bytes: &[u8], out: &mut Outputs<A>) {
        let writer = &mut self.writer;
        out.datagram(self.address, |datagram| {
            writer.protected(content, bytes, datagram);
        });
    }
}
