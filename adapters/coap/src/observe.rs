//! Observing: a client is notified of what is published. RFC 7641
//!
//! Always true: a client has at most one observation of a filter; a message of QoS 1 or 2 is settled when its notification was acknowledged, not when it was sent, and
//! one in blocks when its last block was fetched, too. Until then the observation notifies of nothing else.

use crate::client::Awaiting;
use crate::core::{Core, Effect, Out, Tag};
use crate::counters::CoapMetric;
use crate::observation::{Observation, Step, Transfer};
use crate::requests::{content_of, refusal_code};
use crate::settings::NotifyType;
use crate::{Outcome, Requester};
use bytes::Bytes;
use headgate_coap_codec::{Code, Kind, Message, number};
use headgate_model::access::Wanted;
use headgate_model::bus::{OpenRefusal, Presence, Refusal};
use headgate_model::datagram::Address;
use headgate_model::{
    AccessPolicy, AckToken, Admitted, BusCommand, BusEvent, ClientId, CloseReason, Delivery, DeliveryId,
    Instant, Metric, Open, Qos, RulesOf, SessionKey, Settlement, Subscription,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Deliveries of QoS 0 and 1 that an observation takes before one is acknowledged: those behind the first wait here for their turn.
const CREDIT: u32 = 8;
/// How often a client is notified of what it does not fetch, though it acknowledges that there is something.
const TRIES: u8 = 3;
/// Commands of an observation's session are answered in order: one token is enough.
const TOKEN: AckToken = AckToken(0);

impl<A: Address> Core<A> {
    /// A client may observe a filter: its session is opened. What it observed by this filter before ends, and what waits there goes on. RFC 7641 §3.1
    pub(crate) fn observe(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        filter: Bytes,
        subscription: Admitted<Subscription>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if let Some(key) = self.refreshed(index, &from, &request, &filter, &subscription) {
            return self.refresh(index, key, from, request, subscription, out);
        }
        let same = |known: &&Observation<A>| known.filter == filter || known.token == from.token;
        let before: Vec<(u32, bool)> = self
            .client(index)
            .observations
            .values()
            .filter(same)
            .map(|known| (known.seat.index, known.filter == filter))
            .collect();
        for (n, is_same) in before {
            let expiry = (!is_same).then_some(Duration::ZERO);
            self.end_observation(index, n, CloseReason::Normal, expiry, out);
        }
        if self.client(index).observations.len() >= self.settings.max_observations {
            out.counts.add(Metric::SubscribeRefused);
            let why = "too many observations (max_observations)";
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, why, out);
        }
        let seat = self.take_observation_seat(index);
        let kept = without_observe(request);
        let observation = Observation {
            seat,
            token: from.token,
            request: kept,
            has_wildcard: subscription.filter.has_wildcard(),
            qos: subscription.options.qos,
            step: Step::Opening(from, Box::new(subscription)),
            sequence: 0,
            reserved: None,
            granted: false,
            confirmed: now,
            transfer: None,
            waiting: VecDeque::new(),
            filter: filter.clone(),
        };
        self.client_mut(index)
            .observations
            .insert(seat.index, observation);
        let Some(open) = self.opening(index, seat, &filter) else {
            return self.refuse_observation(index, seat, Code::FORBIDDEN, "you may not come in", out);
        };
        out.bus.push((seat, BusCommand::Open(Box::new(open))));
    }

    /// The observation that a request only refreshes: it is the same, to the token. RFC 7641 §3.3.1
    fn refreshed(
        &self,
        index: u32,
        from: &Requester<A>,
        request: &Message,
        filter: &Bytes,
        subscription: &Subscription,
    ) -> Option<SessionKey> {
        let known = self.client(index).observations.values().find(|known| {
            known.filter == *filter && known.token == from.token && known.qos == subscription.options.qos
        })?;
        let is_active = matches!(known.step, Step::Active);
        let is_same = is_active && known.request.options == without_observe(request.clone()).options;
        is_same.then_some(known.seat)
    }

    /// An observation goes on as it is, with all that is under way: the client is answered as if it had begun.
    fn refresh(
        &mut self,
        index: u32,
        key: SessionKey,
        from: Requester<A>,
        request: Message,
        subscription: Admitted<Subscription>,
        out: &mut Out<A>,
    ) {
        let observation = self.observation(index, key);
        observation.request = without_observe(request);
        let subscription = Box::new(subscription);
        observation.step = Step::Subscribing(from, subscription.clone());
        let token = TOKEN;
        out.bus
            .push((key, BusCommand::SubscribeOnly { token, subscription }));
    }

    /// The session of an observation: by its name a client finds it again, wherever it is then. It reads by the client's rules.
    pub(crate) fn opening(&self, index: u32, seat: SessionKey, filter: &Bytes) -> Option<Open> {
        let client = self.client(index);
        let name = session_of(client.id.as_str(), filter);
        let who = client.who.as_ref()?;
        let expiry = match self.lasts(index, seat) {
            true => self.settings.observation_expiry,
            false => Duration::ZERO,
        };
        let presence = Presence {
            clean_start: expiry.is_zero(),
            ..(**who).clone()
        };
        let policy = client.identity.as_ref().map(|identity| {
            Arc::new(RulesOf {
                client: client.id.clone(),
                rules: Arc::clone(&identity.policy),
            }) as Arc<dyn AccessPolicy>
        });
        let entrant = self.naming.gate(&name, policy.as_ref()).enter_beside(presence)?;
        Some(Open {
            client: entrant,
            clean_start: expiry.is_zero(),
            expiry,
            will: None.into(),
            receive_maximum: u16::from(self.settings.transmission.nstart),
            // Nothing comes before the answer to its request.
            credit: 0,
            forgeable: A::FORGEABLE,
            wants_expired: false,
            link: None,
        })
    }

    /// Whether an observation outlives its client's silence. Who was given a client id because it had none does not come back under it.
    pub(crate) fn lasts(&self, index: u32, seat: SessionKey) -> bool {
        let client = self.client(index);
        let qos = client.observations[&seat.index].qos;
        !client.name.1.as_str().is_empty() && qos > Qos::AtMostOnce
    }

    /// The bus says something to the session of an observation.
    pub(crate) fn on_observation_event(
        &mut self,
        index: u32,
        key: SessionKey,
        event: BusEvent,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match event {
            BusEvent::Opened { present, .. } => {
                let observation = self.observation(index, key);
                let (next, subscription) = match &observation.step {
                    Step::Opening(from, subscription) => (
                        Step::Subscribing(*from, subscription.clone()),
                        subscription.clone(),
                    ),
                    Step::Reopening(subscription) => (Step::Resubscribing, subscription.clone()),
                    _ => return,
                };
                if matches!(next, Step::Resubscribing) && !present {
                    // It ended meanwhile.
                    let (reason, expiry) = (CloseReason::Normal, Some(Duration::ZERO));
                    return self.end_observation(index, key.index, reason, expiry, out);
                }
                observation.step = next;
                // Before what is answered: an observation that has begun goes on after a restart.
                self.note(index, key, out);
                let token = TOKEN;
                out.bus
                    .push((key, BusCommand::SubscribeOnly { token, subscription }));
            }
            BusEvent::OpenRefused(why) => {
                let code = match why {
                    OpenRefusal::NotOwner => Code::FORBIDDEN,
                    OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser => Code::SERVICE_UNAVAILABLE,
                };
                self.refuse_observation(index, key, code, &why.to_string(), out);
            }
            BusEvent::Subscribed { results, .. } => match results.first() {
                // Whatever is refused to one that goes on, it has its subscription.
                Some(_) if matches!(self.observation(index, key).step, Step::Resubscribing) => {
                    self.on_back(index, key, out);
                }
                Some(Ok(_)) => self.on_observed(index, key, now, out),
                Some(Err(why)) => self.on_observation_refused(index, key, *why, out),
                None => {}
            },
            BusEvent::Delivery(delivery) => {
                self.observation(index, key).waiting.push_back(delivery);
                self.notify_next(index, key, now, out);
            }
            // QoS 2: the client has it since it acknowledged the notification.
            BusEvent::Received(id) => out.bus.push((key, BusCommand::Settle(id, Settlement::Done))),
            BusEvent::TakenOver => self.end_observation(index, key.index, CloseReason::TakenOver, None, out),
            BusEvent::Kicked => self.end_observation(index, key.index, CloseReason::Kicked, None, out),
            _ => {}
        }
    }

    /// What was observed before a restart is observed again.
    fn on_back(&mut self, index: u32, key: SessionKey, out: &mut Out<A>) {
        self.observation(index, key).step = Step::Active;
        out.counts.add_own(CoapMetric::Restored);
        self.grant_credit(index, key, out);
    }

    /// Messages may come from now on.
    fn grant_credit(&mut self, index: u32, key: SessionKey, out: &mut Out<A>) {
        if !std::mem::replace(&mut self.observation(index, key).granted, true) {
            out.bus.push((key, BusCommand::credit(CREDIT)));
        }
    }

    /// The next notification's sequence number; more are reserved in time.
    fn take_sequence(&mut self, index: u32, key: SessionKey, out: &mut Out<A>) -> u32 {
        let observation = self.observation(index, key);
        let sequence = observation.next_sequence();
        if observation.reserves_more() {
            self.note(index, key, out);
        }
        sequence
    }

    pub(crate) fn observation(&mut self, index: u32, key: SessionKey) -> &mut Observation<A> {
        let observations = &mut self.client_mut(index).observations;
        observations.get_mut(&key.index).expect("its session has a seat")
    }

    /// It observes. Of a topic, the first answer says what is retained there.
    fn on_observed(&mut self, index: u32, key: SessionKey, now: Instant, out: &mut Out<A>) {
        let observation = self.observation(index, key);
        let step = std::mem::replace(&mut observation.step, Step::Active);
        let Step::Subscribing(from, subscription) = step else {
            return;
        };
        let request = observation.request.clone();
        let has_wildcard = observation.has_wildcard;
        out.counts.add_own(CoapMetric::Observed);
        if has_wildcard || subscription.share.is_some() {
            return self.first_value(index, from, request, key, None, now, out);
        }
        let seat = self.client(index).seat;
        let token = self.await_bus(index, Awaiting::FirstValue(from, request, key));
        let topic = subscription;
        out.bus.push((seat, BusCommand::Read { token, topic }));
    }

    /// The answer to the request that began an observation: what is there now, and that more will come. RFC 7641 §3.1
    pub(crate) fn first_value(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        key: SessionKey,
        message: Option<Arc<headgate_model::Message>>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let mut response = match message {
            Some(message) => content_of(&message, from.token, now),
            None => Message::of_stream(Code::CONTENT, from.token),
        };
        if self.observer(key) == Some(index) {
            let sequence = self.take_sequence(index, key, out);
            response.options.push_uint(number::OBSERVE, sequence);
            self.grant_credit(index, key, out);
        }
        self.respond(&from, &request, response, now, out);
    }

    /// What waits is notified, in order, up to the next one that goes in blocks.
    fn notify_next(&mut self, index: u32, key: SessionKey, now: Instant, out: &mut Out<A>) {
        loop {
            let observation = self.observation(index, key);
            if observation.transfer.is_some() {
                return;
            }
            let Some(delivery) = observation.waiting.pop_front() else {
                return;
            };
            self.notify(index, key, delivery, 1, now, out);
        }
    }

    /// A message for an observer, for the so many-th time. RFC 7641 §4.2
    fn notify(
        &mut self,
        index: u32,
        key: SessionKey,
        delivery: Delivery,
        tries: u8,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let (notify_type, interval) = (self.settings.notify_type, self.settings.confirm_interval);
        let topic = self.naming.mount.unmount(&delivery.message.topic).to_string();
        let max_whole = self.max_whole;
        let szx = self.block_szx();
        let sequence = self.take_sequence(index, key, out);
        let client = self.client_mut(index);
        let (at, spoke) = (client.at, client.spoke);
        let observation = client
            .observations
            .get_mut(&key.index)
            .expect("its session has a seat");
        let mut content = content_of(&delivery.message, observation.token, now);
        content.options.push_uint(number::OBSERVE, sequence);
        if observation.has_wildcard {
            // Which topic it was the client does not know otherwise. The option is elective: who does not expect it ignores it.
            for segment in topic.split('/') {
                content.options.push(number::LOCATION_PATH, segment.to_owned());
            }
        }
        let wanted = match notify_type {
            NotifyType::Qos => delivery.id.is_some(),
            NotifyType::Con => true,
            NotifyType::Non => false,
        };
        // Who has said nothing since a restart must first show that it is there.
        let confirmable = wanted || !spoke || observation.confirmed + interval <= now;
        let (token, request) = (observation.token, observation.request.clone());
        let fits = self.szx.is_none() || content.payload.len() <= (16 << szx).max(max_whole);
        let mut supersedes = false;
        if !fits {
            (content, supersedes) =
                self.downloads
                    .cut_notification(at, &request, content, szx, key, confirmable, now);
        }
        content.token = token;
        content.kind = if confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        out.counts.add_own(CoapMetric::Notifications);
        if supersedes && tries == 1 {
            // Nothing waits for those that want no acknowledgement: the newest counts. RFC 7641 §1.3
            out.counts.add_own(CoapMetric::NotificationsDropped);
        }
        if tries == 1 {
            out.counts.add(match delivery.qos {
                Qos::AtMostOnce => Metric::Qos0Sent,
                Qos::AtLeastOnce => Metric::Qos1Sent,
                Qos::ExactlyOnce => Metric::Qos2Sent,
            });
        }
        if !fits && confirmable {
            self.effects
                .push_back(Effect::Notify(at, content, Tag::FirstBlock(key)));
            self.observation(index, key).transfer = Some(Box::new(Transfer {
                delivery,
                tries,
                is_acknowledged: false,
                is_fetched: false,
                until: now,
                armed: None,
            }));
            return;
        }
        let size = size_of(&delivery);
        let tag = Tag::Notification(key, delivery.id, size);
        self.effects.push_back(Effect::Notify(at, content, tag));
        if !confirmable {
            self.settle(key, delivery.id, size, Settlement::Done, out);
        }
    }

    /// A message is done with, and another one may come.
    fn settle(
        &self,
        key: SessionKey,
        delivery: Option<DeliveryId>,
        size: u32,
        settlement: Settlement,
        out: &mut Out<A>,
    ) {
        if let Some(id) = delivery {
            out.bus.push((key, BusCommand::Settle(id, settlement)));
        }
        out.bus.push((key, BusCommand::credit_of(size as usize)));
    }

    /// What became of a notification.
    pub(crate) fn on_notified(
        &mut self,
        index: u32,
        key: SessionKey,
        delivery: Option<DeliveryId>,
        size: u32,
        outcome: Outcome<Tag>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match outcome {
            Outcome::Acknowledged(_) => {
                self.hear_of(index, now);
                self.observation(index, key).confirmed = now;
                self.settle(key, delivery, size, Settlement::Done, out);
            }
            outcome => self.on_unwanted(index, key, outcome, out),
        }
    }

    /// What became of a notification that was settled when it was sent.
    pub(crate) fn on_settled(
        &mut self,
        index: u32,
        key: SessionKey,
        outcome: Outcome<Tag>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if !matches!(outcome, Outcome::Acknowledged(_)) {
            return self.on_unwanted(index, key, outcome, out);
        }
        self.hear_of(index, now);
        self.observation(index, key).confirmed = now;
    }

    /// A notification was not acknowledged: the observation is over.
    fn on_unwanted(&mut self, index: u32, key: SessionKey, outcome: Outcome<Tag>, out: &mut Out<A>) {
        match outcome {
            Outcome::Acknowledged(_) => {}
            // RFC 7641 §3.6: the client does not want it any more.
            Outcome::Rejected(_) => {
                out.counts.add_own(CoapMetric::Cancelled);
                self.end_observation(index, key.index, CloseReason::Normal, Some(Duration::ZERO), out);
            }
            // RFC 7641 §4.5: nobody is there. What was not acknowledged waits until it observes again.
            Outcome::Lost(_) => {
                out.counts.add_own(CoapMetric::NotificationsDropped);
                self.end_observation(index, key.index, CloseReason::Lost, None, out);
            }
        }
    }

    fn hear_of(&mut self, index: u32, now: Instant) {
        let client = self.client_mut(index);
        (client.heard, client.spoke) = (now, true);
    }

    /// What became of the first block of a long notification.
    pub(crate) fn on_first_block(
        &mut self,
        index: u32,
        key: SessionKey,
        outcome: Outcome<Tag>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if !matches!(outcome, Outcome::Acknowledged(_)) {
            return self.on_unwanted(index, key, outcome, out);
        }
        self.hear_of(index, now);
        let until = now + self.settings.transmission.max_transmit_wait();
        let observation = self.observation(index, key);
        observation.confirmed = now;
        let Some(transfer) = &mut observation.transfer else {
            return;
        };
        transfer.is_acknowledged = true;
        (transfer.until, transfer.armed) = (until, Some(until));
        self.transfers.insert((until, key));
        self.end_transfer_if_done(index, key, now, out);
    }

    /// A client fetched a block of a long notification.
    pub(crate) fn on_fetched(&mut self, key: SessionKey, is_last: bool, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.observer(key) else { return };
        self.hear_of(index, now);
        let until = now + self.settings.transmission.max_transmit_wait();
        if let Some(transfer) = &mut self.observation(index, key).transfer {
            transfer.until = until;
            transfer.is_fetched |= is_last;
            self.end_transfer_if_done(index, key, now, out);
        }
    }

    /// A long notification that the client has from its first block to its last is done.
    fn end_transfer_if_done(&mut self, index: u32, key: SessionKey, now: Instant, out: &mut Out<A>) {
        let transfer = &mut self.observation(index, key).transfer;
        let done = transfer.take_if(|transfer| transfer.is_acknowledged && transfer.is_fetched);
        if let Some(transfer) = done {
            self.end_transfer(index, key, &transfer, Settlement::Done, now, out);
        }
    }

    fn end_transfer(
        &mut self,
        index: u32,
        key: SessionKey,
        transfer: &Transfer,
        settlement: Settlement,
        now: Instant,
        out: &mut Out<A>,
    ) {
        self.disarm(key, transfer);
        let (at, request) = (
            self.client(index).at,
            self.observation(index, key).request.clone(),
        );
        self.downloads.end_notification(at, &request, key, now);
        let delivery = &transfer.delivery;
        self.settle(key, delivery.id, size_of(delivery), settlement, out);
        self.notify_next(index, key, now, out);
    }

    fn disarm(&mut self, key: SessionKey, transfer: &Transfer) {
        if let Some(armed) = transfer.armed {
            self.transfers.remove(&(armed, key));
        }
    }

    /// A block of a long notification was to be fetched by now, unless another one was meanwhile. The client is notified of it again, some times. Then it is as lost
    /// as one that acknowledges nothing, and the message waits for it; of one that comes back and never fetches it then either, for good.
    pub(crate) fn on_transfer_due(&mut self, index: u32, key: SessionKey, now: Instant, out: &mut Out<A>) {
        let observation = self.observation(index, key);
        let Some(transfer) = &mut observation.transfer else {
            return;
        };
        if transfer.until > now {
            let until = transfer.until;
            transfer.armed = Some(until);
            self.transfers.insert((until, key));
            return;
        }
        transfer.armed = None;
        let request = observation.request.clone();
        let Some(transfer) = observation.transfer.take() else {
            return;
        };
        self.downloads
            .forget_notification(self.client(index).at, &request, key);
        if transfer.tries < TRIES {
            return self.notify(index, key, transfer.delivery, transfer.tries + 1, now, out);
        }
        out.counts.add_own(CoapMetric::NotificationsDropped);
        let delivery = &transfer.delivery;
        if delivery.id.is_some() && !delivery.redelivered {
            return self.end_observation(index, key.index, CloseReason::Lost, None, out);
        }
        self.end_transfer(index, key, &transfer, Settlement::Rejected, now, out);
    }

    /// GET with Observe 1. RFC 7641 §3.6
    pub(crate) fn on_cancel(
        &mut self,
        index: u32,
        from: &Requester<A>,
        request: &Message,
        filter: &Bytes,
        code: Code,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let observed = self.client(index).observations.values();
        let meant = observed.filter(|known| known.filter == *filter || known.token == from.token);
        let meant: Vec<u32> = meant.map(|known| known.seat.index).collect();
        for n in meant {
            out.counts.add_own(CoapMetric::Cancelled);
            self.end_observation(index, n, CloseReason::Normal, Some(Duration::ZERO), out);
        }
        self.respond(from, request, Message::of_stream(code, from.token), now, out);
    }

    /// All observations of a client end for good.
    pub(crate) fn end_all(&mut self, index: u32, out: &mut Out<A>) {
        let observed: Vec<u32> = self.client(index).observations.keys().copied().collect();
        for n in observed {
            self.end_observation(index, n, CloseReason::Normal, Some(Duration::ZERO), out);
        }
    }

    /// An observation is over. `expiry`: of its session, if that is not to stay as it was to.
    pub(crate) fn end_observation(
        &mut self,
        index: u32,
        n: u32,
        reason: CloseReason,
        expiry: Option<Duration>,
        out: &mut Out<A>,
    ) {
        let client = self.client_mut(index);
        let at = client.at;
        let Some(observation) = client.observations.remove(&n) else {
            return;
        };
        let key = observation.seat;
        if let Some(transfer) = &observation.transfer {
            self.disarm(key, transfer);
            self.downloads.forget_notification(at, &observation.request, key);
        }
        out.bus.push((key, BusCommand::Close { reason, expiry }));
        self.leave_observation_seat(key);
        self.effects.push_back(Effect::Forget(at, key));
        if let Step::Opening(from, _) | Step::Subscribing(from, _) = observation.step {
            self.refuse(
                &from,
                &observation.request,
                Code::SERVICE_UNAVAILABLE,
                "the observation is over",
                out,
            );
        }
    }

    fn on_observation_refused(&mut self, index: u32, key: SessionKey, why: Refusal, out: &mut Out<A>) {
        out.counts.add(Metric::SubscribeRefused);
        let filter = self.observation(index, key).filter.clone();
        self.tell(
            index,
            || Wanted::Subscribe(filter),
            || why.to_string().into(),
            out,
        );
        self.refuse_observation(index, key, refusal_code(why), &why.to_string(), out);
        let (reason, expiry) = (CloseReason::Normal, Some(Duration::ZERO));
        out.bus.push((key, BusCommand::Close { reason, expiry }));
    }

    /// An observation does not come about, and has no session.
    fn refuse_observation(&mut self, index: u32, key: SessionKey, code: Code, why: &str, out: &mut Out<A>) {
        let Some(observation) = self.client_mut(index).observations.remove(&key.index) else {
            return;
        };
        self.leave_observation_seat(key);
        if let Step::Opening(from, _) | Step::Subscribing(from, _) = observation.step {
            self.refuse(&from, &observation.request, code, why, out);
        }
    }
}

/// The request by which the rest of a notification is fetched. RFC 7959 §2.6
fn without_observe(request: Message) -> Message {
    let mut plain = Message {
        payload: Bytes::new(),
        ..request
    };
    plain.options.remove(number::OBSERVE);
    plain
}

/// The session of an observation.
pub(crate) fn session_of(client_id: &str, filter: &Bytes) -> ClientId {
    let escaped = client_id.replace('%', "%25").replace('/', "%2F");
    let name = format!("$coap/{escaped}/{}", String::from_utf8_lossy(filter));
    ClientId::from(name.as_str())
}

/// Bytes that a delivery takes of the credit.
fn size_of(delivery: &Delivery) -> u32 {
    u32::try_from(delivery.message.size()).unwrap_or(u32::MAX)
}
