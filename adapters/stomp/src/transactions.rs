//! BEGIN, COMMIT and ABORT. STOMP 1.2, BEGIN
//!
//! Messages that are sent, and acknowledgements that are given, in a transaction are held until COMMIT. Then they are done one after the other; another
//! client may see some of them before the others, but ABORT, a lost connection and the time limit undo all.

use crate::counters::StompMetric;
use crate::endpoint::{Out, StompEndpoint};
use crate::frames::{receipt_of, shown};
use crate::subscriptions::AckId;
use headgate_model::access::Wanted;
use headgate_model::gate::is_own_state;
use headgate_model::{Admitted, CloseReason, Instant, Message, Metric};
use headgate_stomp_codec::{Frame, Text};
use std::collections::BTreeMap;

/// What is said of a transaction that is not there.
pub(crate) const NOT_OPEN: &str = "is not open";

/// Open transactions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: BTreeMap<Text, Transaction>,
    /// Of all of them.
    bytes: usize,
}

#[derive(Debug)]
struct Transaction {
    items: Vec<Item>,
    bytes: usize,
    /// It is dropped then.
    until: Instant,
}

/// One thing that is done at COMMIT.
#[derive(Debug)]
pub(crate) enum Item {
    Publish(Box<Admitted<Message>>),
    Ack(AckId),
    Nack(AckId),
}

impl Item {
    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Publish(message) => message.size(),
                Self::Ack(_) | Self::Nack(_) => 0,
            }
    }
}

impl Transactions {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.open.keys().any(|known| &**known == name)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first of them is dropped.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|transaction| transaction.until).min()
    }

    fn take(&mut self, name: &Text) -> Option<Vec<Item>> {
        let transaction = self.open.remove(name)?;
        self.bytes -= transaction.bytes;
        Some(transaction.items)
    }

    fn take_overdue(&mut self, now: Instant) -> Option<Text> {
        let mut all = self.open.iter();
        let name = all.find(|(_, transaction)| transaction.until <= now)?.0.clone();
        self.take(&name);
        Some(name)
    }
}

impl StompEndpoint {
    pub(crate) fn on_begin(&mut self, frame: &Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::BeginReceived);
        let receipt = receipt_of(frame);
        let Some(name) = self.required(frame, "transaction", out) else {
            return;
        };
        if self.transactions.contains(&name) {
            return self.complain_of_transaction(receipt, &name, "is open already", out);
        }
        if self.transactions.open.len() >= self.settings.max_transactions {
            let why = format!(
                "more than {} transactions (stomp.max_transactions)",
                self.settings.max_transactions
            );
            return self.complain_in(receipt, Some(&name), &why, out);
        }
        let (until, bytes) = (now + self.settings.transaction_timeout, name.len());
        self.transactions.bytes += bytes;
        let items = Vec::new();
        self.transactions
            .open
            .insert(name.compact(), Transaction { items, bytes, until });
        self.done(receipt);
    }

    /// Holds something until COMMIT. The client asked for no more than it may hold, or the transaction is dropped.
    pub(crate) fn hold(&mut self, name: &Text, item: Item, receipt: Option<Text>, out: &mut Out) {
        let size = item.size();
        let Some(transaction) = self.transactions.open.get_mut(name) else {
            return self.complain_of_transaction(receipt, name, NOT_OPEN, out);
        };
        if self.transactions.bytes + size > self.settings.max_transaction_bytes {
            self.transactions.take(name);
            out.counts.add_own(StompMetric::TransactionDropped);
            let most = self.settings.max_transaction_bytes;
            let why = format!("is dropped: more than {most} bytes (stomp.max_transaction_bytes)");
            return self.complain_of_transaction(receipt, name, &why, out);
        }
        transaction.bytes += size;
        self.transactions.bytes += size;
        transaction.items.push(item);
        self.done(receipt);
    }

    /// The RECEIPT leaves when all that was sent is durable, and all that was acknowledged durably settled.
    pub(crate) fn on_commit(&mut self, frame: &Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::CommitReceived);
        let receipt = receipt_of(frame);
        let Some(name) = self.required(frame, "transaction", out) else {
            return;
        };
        let Some(items) = self.transactions.take(&name) else {
            return self.complain_of_transaction(receipt, &name, NOT_OPEN, out);
        };
        if self.refuses_commit(&name, &items, receipt.clone(), out) {
            return;
        }
        let promised = receipt.is_some();
        let step = self.steps.open(receipt);
        for item in items {
            match item {
                Item::Publish(message) => self.publish(*message, Some(step), out),
                // What its subscription took with it needs no answer any more.
                Item::Ack(id) => {
                    self.acknowledge(id, promised.then_some(step), out);
                }
                Item::Nack(id) => {
                    self.refuse_messages(id, now, out);
                }
            }
        }
        self.steps.answered(step);
    }

    /// Rules may have changed since the SENDs were let through. What may not be sent any more takes the whole transaction with it. Who had to be asked then
    /// is not asked again.
    fn refuses_commit(&mut self, name: &Text, items: &[Item], receipt: Option<Text>, out: &mut Out) -> bool {
        let Some(rules) = self.rules() else { return false };
        let is_denied =
            |message: &&Message| !rules.may_still_publish(message) && !is_own_state(&self.client_id, message);
        let messages = items.iter().filter_map(|item| match item {
            Item::Publish(message) => Some(&***message),
            Item::Ack(_) | Item::Nack(_) => None,
        });
        let Some(denied) = messages.into_iter().find(is_denied) else {
            return false;
        };
        let topic = self.naming.mount.unmount(&denied.topic);
        let destination = self.settings.destination_of(topic.as_bytes());
        let destination = shown(&String::from_utf8_lossy(&destination));
        let wanted = Wanted::Publish(denied.topic.bytes().clone());
        out.counts.add(Metric::DroppedNotAuthorized);
        out.counts.add_own(StompMetric::TransactionDropped);
        self.tell(
            || wanted,
            || "the rules have changed since it was sent".into(),
            out,
        );
        let why = format!("is dropped: not authorized to send to {destination} any more");
        self.complain_of_transaction(receipt, name, &why, out);
        if self.policy().is_some_and(|policy| policy.disconnects()) {
            self.close(CloseReason::ProtocolError, out);
        }
        true
    }

    pub(crate) fn on_abort(&mut self, frame: &Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::AbortReceived);
        let receipt = receipt_of(frame);
        let Some(name) = self.required(frame, "transaction", out) else {
            return;
        };
        match self.transactions.take(&name) {
            Some(_) => self.done(receipt),
            None => self.complain_of_transaction(receipt, &name, NOT_OPEN, out),
        }
    }

    pub(crate) fn drop_overdue_transactions(&mut self, now: Instant, out: &mut Out) {
        while let Some(name) = self.transactions.take_overdue(now) {
            out.counts.add_own(StompMetric::TransactionDropped);
            self.complain_of_transaction(None, &name, "took too long and is dropped", out);
        }
    }
}
