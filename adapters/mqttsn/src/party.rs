//! Where clients are: an address of the transport, and for those behind a forwarder the wireless node. §5.5

use bytes::Bytes;
use headgate_model::datagram::{Address, Credit};
use headgate_mqttsn_codec::Encapsulation;
use std::hash::{Hash, Hasher};

/// One place where a client can be.
#[derive(Clone, Debug)]
pub(crate) struct Party<A> {
    pub address: A,
    pub node: Option<Box<[u8]>>,
    /// What may be sent there. Not a part of its name.
    pub credit: Credit,
}

impl<A: Address> PartialEq for Party<A> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.node == other.node
    }
}

/// The sender of a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Sender<A> {
    pub address: A,
    pub node: Option<Bytes>,
    /// What its datagram allows to be sent there.
    pub credit: Credit,
    /// Bytes of its datagram.
    pub bytes: usize,
}

impl<A: Address> Party<A> {
    pub(crate) fn encapsulation(&self) -> Option<Encapsulation> {
        self.node.as_ref().map(|node| Encapsulation {
            radius: 0,
            node: Bytes::copy_from_slice(node),
        })
    }

    pub(crate) fn is(&self, sender: &Sender<A>) -> bool {
        self.address == sender.address && self.node.as_deref() == sender.node.as_deref()
    }

    /// Bytes that go around each message.
    pub(crate) fn overhead(&self) -> usize {
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
    pub(crate) fn party(&self) -> Party<A> {
        Party {
            address: self.address,
            node: self.node.as_deref().map(Box::from),
            credit: self.credit.clone(),
        }
    }
}
