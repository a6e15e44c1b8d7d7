//! What one step of the gateway writes down.

use crate::ClientKey;
use crate::party::{Address, Party};
use bytes::{Bytes, BytesMut};
use headgate_model::{BusCommand, Counts, Metric, Question};
use headgate_mqttsn_codec::{Message, encode, encode_wrapped};
use std::ops::Range;

/// Who gets a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination<A> {
    /// One peer.
    To(A),
    /// Everybody who listens.
    Broadcast,
}

/// Everything that follows from some steps. The shell drains it.
#[derive(Debug)]
pub struct SnOutputs<A> {
    /// All datagrams, one behind the other.
    bytes: BytesMut,
    datagrams: Vec<(Destination<A>, Range<usize>)>,
    /// To the bus, in order. [`BusCommand::Open`] is the first of an endpoint, [`BusCommand::Close`] the last: the shell attaches and frees it.
    pub bus: Vec<(ClientKey, BusCommand)>,
    /// To the access service.
    pub questions: Vec<(ClientKey, Question)>,
    /// What to count.
    pub counts: Counts,
}

impl<A> Default for SnOutputs<A> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            datagrams: Vec::new(),
            bus: Vec::new(),
            questions: Vec::new(),
            counts: Counts::default(),
        }
    }
}

impl<A: Copy> SnOutputs<A> {
    /// The datagrams, in order; they are not there any more afterwards.
    pub fn take_datagrams(&mut self) -> Vec<(Destination<A>, Bytes)> {
        let bytes = self.bytes.split().freeze();
        let ranges = self.datagrams.drain(..);
        ranges.map(|(to, range)| (to, bytes.slice(range))).collect()
    }

    /// Hands each datagram to `sink` where it lies, in order, and forgets them; nothing is allocated.
    pub fn drain_datagrams(&mut self, mut sink: impl FnMut(Destination<A>, &[u8])) {
        for (to, range) in self.datagrams.drain(..) {
            sink(to, &self.bytes[range]);
        }
        self.bytes.clear();
    }

    /// How many datagrams wait.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    pub(crate) fn broadcast(&mut self, message: &Message) {
        let from = self.bytes.len();
        encode(message, &mut self.bytes).expect("what is broadcast is short");
        self.finish(Destination::Broadcast, from);
    }

    fn finish(&mut self, to: Destination<A>, from: usize) {
        self.counts.add(Metric::SnDatagramsSent);
        self.datagrams.push((to, from..self.bytes.len()));
    }
}

impl<A: Address> SnOutputs<A> {
    /// Sends a message. What is longer than any datagram was refused before.
    pub(crate) fn send(&mut self, to: &Party<A>, message: &Message) {
        let from = self.bytes.len();
        let written = match to.encapsulation() {
            None => encode(message, &mut self.bytes),
            Some(layer) => encode_wrapped(&layer, message, &mut self.bytes),
        };
        if written.is_ok() {
            count_sent(message, &mut self.counts);
            self.finish(Destination::To(to.address), from);
        }
    }
}

fn count_sent(message: &Message, counts: &mut Counts) {
    counts.add(match message {
        Message::ConnAck(_) => Metric::ConnackSent,
        Message::Register(_) => Metric::RegisterSent,
        Message::Publish(_) => Metric::PublishSent,
        Message::PubAck(_) => Metric::PubackSent,
        Message::PubRec(_) => Metric::PubrecSent,
        Message::PubRel(_) => Metric::PubrelSent,
        Message::PubComp(_) => Metric::PubcompSent,
        Message::SubAck(_) => Metric::SubackSent,
        Message::UnsubAck(_) => Metric::UnsubackSent,
        Message::PingResp => Metric::PingrespSent,
        Message::Disconnect(_) => Metric::DisconnectSent,
        _ => return,
    });
}
