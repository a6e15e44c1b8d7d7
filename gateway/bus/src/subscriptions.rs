//! Subscribing and unsubscribing. MQTT 5 §3.8, §3.10

use crate::bus::{Bus, BusOutputs};
use crate::gauges::Gauges;
use crate::index::Entry;
use crate::memory;
use crate::queue::Queued;
use crate::retention::Scan;
use crate::sessions::Slot;
use crate::turns;
use headgate_model::bus::Refusal;
use headgate_model::memory::Want;
use headgate_model::{
    AckToken, BusEvent, EndpointId, Instant, Qos, RetainHandling, StoreOp, Subscription, SubscriptionName,
};

/// What a session is subscribed to, by name. A sorted list, for most sessions have few.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Box<Subscription>>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter().map(|held| &**held)
    }

    pub(crate) fn get(&self, name: SubscriptionName<'_>) -> Option<&Subscription> {
        let at = self.find(name).ok()?;
        Some(&*self.0[at])
    }

    /// How many come before what is behind this one, which need not be there.
    pub(crate) fn behind(&self, name: SubscriptionName<'_>) -> usize {
        self.find(name).map_or_else(|at| at, |at| at + 1)
    }

    /// Adds one, or puts it in the place of the one with its name.
    pub(crate) fn insert(&mut self, subscription: Subscription, gauges: &mut Gauges) {
        let subscription = Box::new(subscription);
        match self.find(subscription.name()) {
            Ok(at) => self.0[at] = subscription,
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                gauges.subscriptions += 1;
                gauges.subscription_bytes += memory::of_subscription(&subscription);
                self.0.insert(at, subscription);
            }
        }
    }

    pub(crate) fn remove(
        &mut self,
        name: SubscriptionName<'_>,
        gauges: &mut Gauges,
    ) -> Option<Box<Subscription>> {
        let at = self.find(name).ok()?;
        let gone = self.0.remove(at);
        gauges.subscriptions -= 1;
        gauges.subscription_bytes -= memory::of_subscription(&gone);
        Some(gone)
    }

    fn find(&self, name: SubscriptionName<'_>) -> Result<usize, usize> {
        self.0.binary_search_by(|held| held.name().cmp(&name))
    }
}

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
                .index
                .exclusive_holder(&subscription.filter)
                .is_some_and(|holder| holder != slot)
        {
            return Err(Refusal::ExclusiveTaken);
        }
        let limit = self.settings.max_subscriptions;
        let session = &mut self.sessions[slot];
        let known = session.subscriptions.get(subscription.name()).cloned();
        if known.is_none() && limit > 0 && session.subscriptions.len() >= limit {
            return Err(Refusal::QuotaExceeded);
        }
        let durable = session.is_durable();
        let size = memory::of_subscription(&subscription);
        if known.is_none() && self.store.is_full && durable {
            return Err(Refusal::StoreFull);
        }
        if known.is_none() && !self.has_memory(Want::ToKeep, size + memory::of_trie(&subscription)) {
            return Err(Refusal::NoMemory);
        }
        if subscription.exclusive {
            self.index.hold_exclusively(&subscription.filter, slot);
        }
        let session = &mut self.sessions[slot];
        let options = subscription.options;
        let wants_retained = subscription.share.is_none()
            && match options.retain_handling {
                RetainHandling::Send => true,                 // [MQTT-3.3.1-9]
                RetainHandling::SendIfNew => known.is_none(), // [MQTT-3.3.1-10]
                RetainHandling::DoNotSend => false,           // [MQTT-3.3.1-11]
            };
        if wants_retained {
            let scan = Scan { options, after: None };
            session
                .scans
                .insert((subscription.filter.clone(), options.label()), scan);
        }
        let (id, durable) = (session.id, session.is_durable());
        if durable && known.as_ref() != Some(&subscription) {
            // `$local/t` and `t` are one subscription: the text it was stored under may differ.
            if let Some(text) = known
                .as_ref()
                .map(Subscription::stored_name)
                .filter(|t| *t != subscription.stored_name())
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
            self.index.free_exclusive(&subscription.filter);
        }
        let session = &mut self.sessions[slot];
        session.narrowed |= session.presence.rules.narrow(&subscription.filter);
        session.hold(subscription, &mut self.gauges);
        Ok(options.qos)
    }

    /// The session has this subscription and no other from now on. All of it is in one batch.
    pub(crate) fn subscribe_only(
        &mut self,
        from: EndpointId,
        slot: Slot,
        token: AckToken,
        subscription: Subscription,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let written = self.pending.len();
        let held = self.sessions[slot].subscriptions.iter();
        let others = held.filter(|held| held.name() != subscription.name());
        let others: Vec<_> = others.cloned().collect();
        let granted = self.add_subscription(slot, subscription);
        if granted.is_ok() {
            for other in others {
                self.remove_subscription(slot, other, now, out);
            }
        }
        let (results, needs) = (vec![granted], self.disk_if_more_than(written));
        if self.answer(from, BusEvent::Subscribed { token, results }, needs, out) {
            self.pump(slot, now, out);
        }
    }

    pub(crate) fn remove_subscription(
        &mut self,
        slot: Slot,
        subscription: Subscription,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        self.work += turns::SUBSCRIPTION;
        let session = &mut self.sessions[slot];
        let Some(held) = session
            .subscriptions
            .remove(subscription.name(), &mut self.gauges)
        else {
            return false;
        };
        let (filter, label) = (subscription.filter, held.options.label());
        session.scans.forget(&(filter.clone(), label));
        if session.is_durable() {
            let op = StoreOp::DeleteSubscription(session.id, held.stored_name());
            self.pending.push(op);
            self.gauges.durable_subscriptions -= 1;
        }
        if held.exclusive {
            self.index.free_exclusive(&filter);
        }
        let group = held
            .share
            .as_ref()
            .and_then(|share| self.index.find_group(&filter, share));
        self.index.remove(held.name(), slot);
        if let Some(group) = group {
            // It has left the group: what it was not yet sent goes to those who stay, of its own session too.
            let unsent = |_: &Self, queued: &Queued| {
                let ids = queued.subscription_ids.as_deref();
                let is_of_it = label == 0 || ids.is_some_and(|ids| ids.contains(&label));
                queued.group == group && !queued.sent && is_of_it
            };
            self.redistribute_queued(slot, None, unsent, now, out);
        }
        true
    }
}
