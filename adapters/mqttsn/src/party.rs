//! Where clients are: an address of the transport, and for those behind a forwarder the wireless node. §5.5

use bytes::Bytes;
use headgate_model::datagram::Address;
use headgate_mqttsn_codec::Encapsulation;
use std::hash::{Hash, Hasher};

/// One place where a client can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party<A> {
    pub address: A,
    pub node: Option<Box<[u8]>>,
}

/// The sender of a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Sender<A> {
    pub address: A,
    pub node: Option<Bytes>,
    /// Bytes of its datagram: an answer to somebody unknown has no more.
    pub len: usize,
}

impl<A: Address> Party<A> {
    pub fn encapsulation(&self) -> Option<Encapsulation> {
        self.node.as_ref().map(|node| Encapsulation {
            radius: 0,
            node: Bytes::copy_from_slice(node),
        })
    }

    pub fn is(&self, sender: &Sender<A>) -> bool {
        self.address == sender.address && self.node.as_deref() == sender.node.as_deref()
    }

    /// Bytes that go around each message.
    pub fn overhead(&self) -> usize {
        self.node.as_ref().map_or(0, |node| 3 + node.len())
    }
}

impl<A: Address> Hash for Party<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.node.as_deref()).hash(state);
    }
}

impl<A: Address> Hash for Sender<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.node.as_deref()).hash(state);
    }
}

impl<A: Address> Sender<A> {
    pub fn party(&self) -> Party<A> {
        Party {
            address: self.address,
            node: self.node.as_deref().map(Box::from),
        }
    }
}
