//! What one step of the gateway writes down: messages as datagrams, and what is counted of them.

use crate::counters::SnMetric;
use crate::party::Party;
use headgate_model::datagram::Address;
use headgate_model::{Counts, DatagramOutputs, Destination};
use headgate_mqttsn_codec::{Message, encode, encode_wrapped, encoded_len};

/// Everything that follows from some steps.
pub type SnOutputs<A> = DatagramOutputs<A>;

/// Messages go out as datagrams.
pub(crate) trait Send<A> {
    /// Sends a message, if the credit of its receiver allows it; it is counted otherwise. What is longer than any datagram was refused before.
    fn send(&mut self, to: &Party<A>, message: &Message);

    /// Sends a message to everybody.
    fn broadcast(&mut self, message: &Message);
}

impl<A: Address> Send<A> for SnOutputs<A> {
    fn send(&mut self, to: &Party<A>, message: &Message) {
        let credit = &to.credit;
        if credit.is_limited() && !credit.spend(to.overhead() + encoded_len(message)) {
            return self.counts.add_own(SnMetric::Unproved);
        }
        let written = self.datagram(Destination::To(to.address), |bytes| match to.encapsulation() {
            None => encode(message, bytes),
            Some(layer) => encode_wrapped(&layer, message, bytes),
        });
        if written.is_ok() {
            count_sent(message, &mut self.counts);
            self.counts.add_own(SnMetric::DatagramsSent);
        }
    }

    fn broadcast(&mut self, message: &Message) {
        self.datagram(Destination::Broadcast, |bytes| encode(message, bytes))
            .expect("what is broadcast is short");
        self.counts.add_own(SnMetric::DatagramsSent);
    }
}

fn count_sent(message: &Message, counts: &mut Counts) {
    counts.add_own(match message {
        Message::ConnAck(_) => SnMetric::ConnackSent,
        Message::Register(_) => SnMetric::RegisterSent,
        Message::Publish(_) => SnMetric::PublishSent,
        Message::PubAck(_) => SnMetric::PubackSent,
        Message::PubRec(_) => SnMetric::PubrecSent,
        Message::PubRel(_) => SnMetric::PubrelSent,
        Message::PubComp(_) => SnMetric::PubcompSent,
        Message::SubAck(_) => SnMetric::SubackSent,
        Message::UnsubAck(_) => SnMetric::UnsubackSent,
        Message::PingResp => SnMetric::PingrespSent,
        Message::Disconnect(_) => SnMetric::DisconnectSent,
        _ => return,
    });
}
