//! BEGIN, COMMIT and ABORT. STOMP 1.2, BEGIN
//!
//! Messages that are sent, and acknowledgements that are given, in a transaction are held until COMMIT. Then they are done one after the other; another
//! client may see some of them before the others, but ABORT, a lost connection and the time limit undo all.

use crate::counters::StompMetric;
use crate::endpoint::{Out, StompEndpoint};
use crate::frames::receipt_of;
use crate::subscriptions::AckId;
use headgate_model::{Admitted, Instant, Message};
use headgate_stomp_codec::{Frame, Text};
use std::collections::BTreeMap;

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
            return self.fail(receipt, "this transaction is open already", out);
        }
        if self.transactions.open.len() >= self.settings.max_transactions {
            let why = format!(
                "more than {} transactions (stomp.max_transactions)",
                self.settings.max_transactions
            );
            return self.complain(receipt, &why, out);
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
            return self.complain(receipt, "no such transaction", out);
        };
        if self.transactions.bytes + size > self.settings.max_transaction_bytes {
            self.transactions.take(name);
            out.counts.add_own(StompMetric::TransactionDropped);
            let most = self.settings.max_transaction_bytes;
            let why =
                format!("the transaction is dropped: more than {most} bytes (stomp.max_transaction_bytes)");
            return self.complain(receipt, &why, out);
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
            return self.complain(receipt, "no such transaction", out);
        };
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

    pub(crate) fn on_abort(&mut self, frame: &Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::AbortReceived);
        let receipt = receipt_of(frame);
        let Some(name) = self.required(frame, "transaction", out) else {
            return;
        };
        match self.transactions.take(&name) {
            Some(_) => self.done(receipt),
            None => self.complain(receipt, "no such transaction", out),
        }
    }

    pub(crate) fn drop_overdue_transactions(&mut self, now: Instant, out: &mut Out) {
        while let Some(name) = self.transactions.take_overdue(now) {
            out.counts.add_own(StompMetric::TransactionDropped);
            let why = format!("transaction {} took too long and is dropped", &*name);
            self.complain(None, &why, out);
        }
    }
}
