//! Subscribing, unsubscribing, and the retained messages that a new subscription wants.

use crate::bus::{Bus, BusOutputs, Needs};
use crate::index::{Entry, Slot};
use crate::memory;
use crate::retained::Scanned;
use crate::routing::{Shared, Target, identifiers};
use crate::session::{Queued, Scan};
use crate::turns;
use headgate_model::bus::Refusal;
use headgate_model::memory::Want;
use headgate_model::{Instant, Qos, RetainHandling, StoreOp, Subscription};
use std::ops::ControlFlow;

/// Retained topics looked at in one turn of one session: a search through a million of them must not hold up live traffic.
const SCAN_BUDGET: usize = 256;
/// Retained messages delivered in one turn of one session.
const SCAN_DELIVERIES: usize = 64;

impl Bus {
    /// Adds or replaces one subscription. \[MQTT-3.8.4-3\]
    pub(crate) fn add_subscription(
        &mut self,
        slot: Slot,
        subscription: Subscription,
    ) -> Result<Qos, Refusal> {
        self.work += turns::SUBSCRIPTION;
        let subscription = subscription.compact(); // it stays for long
        if subscription.exclusive
            && self
                .exclusive
                .get(&subscription.filter)
                .is_some_and(|holder| *holder != slot)
        {
            return Err(Refusal::ExclusiveTaken);
        }
        let limit = self.settings.max_subscriptions;
        let session = self.session_mut(slot);
        let known = session
            .subscriptions
            .get(&subscription.filter, subscription.share.as_ref())
            .cloned();
        if known.is_none() && limit > 0 && session.subscriptions.len() >= limit {
            return Err(Refusal::QuotaExceeded);
        }
        let durable = session.durable;
        let size = memory::of_subscription(&subscription);
        if known.is_none() && self.store_is_full && durable {
            return Err(Refusal::StoreFull);
        }
        if known.is_none() && !self.has_memory(Want::ToKeep, size + memory::of_trie(&subscription)) {
            return Err(Refusal::NoMemory);
        }
        if subscription.exclusive {
            self.exclusive.insert(subscription.filter.clone(), slot);
        }
        let session = self.session_mut(slot);
        let options = subscription.options;
        let wants_retained = subscription.share.is_none()
            && match options.retain_handling {
                RetainHandling::Send => true,                 // [MQTT-3.3.1-9]
                RetainHandling::SendIfNew => known.is_none(), // [MQTT-3.3.1-10]
                RetainHandling::DoNotSend => false,           // [MQTT-3.3.1-11]
            };
        if wants_retained {
            let scan = Scan { options, after: None };
            session.scans.insert(subscription.filter.clone(), scan);
        }
        let (id, durable) = (session.id, session.durable);
        if durable && known.as_ref() != Some(&subscription) {
            // `$local/t` and `t` are one subscription: the text it was stored under may differ.
            if let Some(text) = known
                .as_ref()
                .map(Subscription::to_text)
                .filter(|t| *t != subscription.to_text())
            {
                self.pending.push(StoreOp::DeleteSubscription(id, text));
            }
            self.pending
                .push(StoreOp::PutSubscription(id, Box::new(subscription.clone())));
        }
        self.index.insert(
            &subscription.filter,
            subscription.share.as_ref(),
            Entry::new(slot, &options),
            known.is_some(),
        );
        if known
            .as_ref()
            .is_some_and(|k| k.exclusive && !subscription.exclusive)
        {
            self.exclusive.remove(&subscription.filter);
        }
        if known.is_none() {
            self.memory.subscriptions += size;
        }
        let session = self.session_mut(slot);
        session.narrowed |= session.presence.rules.narrow(&subscription.filter);
        session.subscriptions.insert(subscription);
        Ok(options.qos)
    }

    pub(crate) fn remove_subscription(
        &mut self,
        slot: Slot,
        subscription: Subscription,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        self.work += turns::SUBSCRIPTION;
        let filter = subscription.filter;
        let session = self.session_mut(slot);
        let Some(held) = session.subscriptions.remove(&filter, subscription.share.as_ref()) else {
            return false;
        };
        session.scans.forget(&filter);
        self.memory.subscriptions -= memory::of_subscription(&held);
        let session = self.session_mut(slot);
        if session.durable {
            let op = StoreOp::DeleteSubscription(session.id, held.to_text());
            self.pending.push(op);
        }
        if held.exclusive {
            self.exclusive.remove(&filter);
        }
        let group = held
            .share
            .as_ref()
            .and_then(|share| self.index.find_group(&filter, share));
        self.index.remove(&filter, held.share.as_ref(), slot);
        if let Some(group) = group {
            // It has left the group: what it was not yet sent goes to those who stay.
            let unsent = |_: &Self, queued: &Queued| queued.group == group && !queued.sent;
            self.hand_on_queued(slot, unsent, now, out);
        }
        true
    }

    /// What an answer needs that promises what was written since the open batch had `written` operations.
    pub(crate) fn disk_if_more_than(&self, written: usize) -> Needs {
        if self.pending.len() > written {
            Needs::Disk
        } else {
            Needs::Nothing
        }
    }

    /// Goes one step on with the searches of a session, if it has nothing else to send. When more is to do, the next turn goes on.
    pub(crate) fn scan_retained(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        let limits = self.send_limits();
        let session = self.session_mut(slot);
        let Some(endpoint) = session.endpoint.filter(|_| session.takes(limits)) else {
            return;
        };
        if session.scans.is_empty() || self.is_waiting(endpoint) {
            return;
        }
        let session = self.session_mut(slot);
        let (filter, scan) = session.scans.pop_first().expect("just looked at");
        let room = SCAN_DELIVERIES.min(session.credit as usize);
        let (session_id, is_link) = (session.id, session.link.is_some());
        let split = is_link && !self.settings.links.transit;
        let links = &self.links.ids;
        let mut found = Vec::new();
        let step = self
            .retained
            .scan(&filter, scan.after.as_ref(), SCAN_BUDGET, now, |kept| {
                let publisher = kept.message.publisher;
                if (scan.options.no_local || is_link) && publisher == Some(session_id) {
                    return ControlFlow::Continue(()); // [MQTT-3.8.3-3]
                }
                if split && publisher.is_some_and(|publisher| links.contains(&publisher)) {
                    return ControlFlow::Continue(());
                }
                found.push(kept.clone());
                if found.len() == room {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        if let Scanned::Until(topic) = step {
            let after = Some(topic);
            self.session_mut(slot)
                .scans
                .insert(filter, Scan { after, ..scan });
        }
        let session = self.session_mut(slot);
        if !session.scans.is_empty() && !std::mem::replace(&mut session.scan_listed, true) {
            self.scanning.push_back(slot);
        }
        for kept in found {
            let qos = kept.message.qos.min(scan.options.qos);
            // RETAIN is set whatever Retain As Published says. [MQTT-3.3.1-8]
            let target = Target {
                slot,
                qos,
                retain: true,
                group: 0,
                identifiers: identifiers(scan.options.identifier),
            };
            self.count_out(slot, &kept.message, now);
            let mut shared = Shared::of_kept(&kept);
            self.deliver(&kept.message, target, &mut shared, now, out);
        }
    }
}
