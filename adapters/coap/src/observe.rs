//! Observing: a client is notified of what is published. RFC 7641
//!
//! Always true: a client has at most one observation of a filter; a message of QoS 1 or 2 is settled when its notification was acknowledged, not when it was sent.

use crate::client::Awaiting;
use crate::core::{Core, Effect, Out, Tag};
use crate::counters::CoapMetric;
use crate::observation::{Observation, Step};
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
use std::sync::Arc;
use std::time::Duration;

/// Deliveries of QoS 0 and 1 that an observation takes before one is acknowledged: those behind the first wait here for their turn.
const CREDIT: u32 = 8;
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
        let mut kept = Message {
            payload: Bytes::new(),
            ..request
        };
        kept.options.remove(number::OBSERVE);
        let observation = Observation {
            seat,
            token: from.token,
            request: kept,
            has_wildcard: subscription.filter.has_wildcard(),
            qos: subscription.options.qos,
            step: Step::Opening(from, Box::new(subscription)),
            sequence: 0,
            confirmed: now,
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

    /// The session of an observation: by its name a client finds it again, wherever it is then. It reads by the client's rules.
    fn opening(&self, index: u32, seat: SessionKey, filter: &Bytes) -> Option<Open> {
        let client = self.client(index);
        let observation = &client.observations[&seat.index];
        let escaped = client.id.as_str().replace('%', "%25").replace('/', "%2F");
        let name = ClientId::from(format!("$coap/{escaped}/{}", String::from_utf8_lossy(filter)).as_str());
        let who = client.who.as_ref()?;
        // Who was given a client id because it had none does not come back under it.
        let lasts = !client.name.1.as_str().is_empty() && observation.qos > Qos::AtMostOnce;
        let expiry = if lasts {
            self.settings.observation_expiry
        } else {
            Duration::ZERO
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
            BusEvent::Opened { .. } => {
                let observation = self.observation(index, key);
                let Step::Opening(from, subscription) = &observation.step else {
                    return;
                };
                let (from, subscription) = (*from, subscription.clone());
                observation.step = Step::Subscribing(from, subscription.clone());
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
                Some(Ok(_)) => self.on_observed(index, key, now, out),
                Some(Err(why)) => self.on_observation_refused(index, key, *why, out),
                None => {}
            },
            BusEvent::Delivery(delivery) => self.notify(index, key, delivery, now, out),
            // QoS 2: the client has it since it acknowledged the notification.
            BusEvent::Received(id) => out.bus.push((key, BusCommand::Settle(id, Settlement::Done))),
            BusEvent::TakenOver => self.end_observation(index, key.index, CloseReason::TakenOver, None, out),
            BusEvent::Kicked => self.end_observation(index, key.index, CloseReason::Kicked, None, out),
            _ => {}
        }
    }

    fn observation(&mut self, index: u32, key: SessionKey) -> &mut Observation<A> {
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
        if let Some(observation) = self.client_mut(index).observations.get_mut(&key.index)
            && observation.seat == key
        {
            response
                .options
                .push_uint(number::OBSERVE, observation.next_sequence());
            out.bus.push((key, BusCommand::credit(CREDIT)));
        }
        self.respond(&from, &request, response, now, out);
    }

    /// A message for an observer. RFC 7641 §4.2
    fn notify(&mut self, index: u32, key: SessionKey, delivery: Delivery, now: Instant, out: &mut Out<A>) {
        let (notify_type, interval) = (self.settings.notify_type, self.settings.confirm_interval);
        let topic = self.naming.mount.unmount(&delivery.message.topic).to_string();
        let max_whole = self.max_whole;
        let szx = self.block_szx();
        let client = self.client_mut(index);
        let at = client.at;
        let observation = client
            .observations
            .get_mut(&key.index)
            .expect("its session has a seat");
        let mut content = content_of(&delivery.message, observation.token, now);
        content
            .options
            .push_uint(number::OBSERVE, observation.next_sequence());
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
        let confirmable = wanted || observation.confirmed + interval <= now;
        let (token, request) = (observation.token, observation.request.clone());
        let fits = self.szx.is_none() || content.payload.len() <= (16 << szx).max(max_whole);
        if !fits {
            content = self.downloads.cut_notification(at, &request, content, szx, now);
        }
        content.token = token;
        content.kind = if confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        out.counts.add(match delivery.qos {
            Qos::AtMostOnce => Metric::Qos0Sent,
            Qos::AtLeastOnce => Metric::Qos1Sent,
            Qos::ExactlyOnce => Metric::Qos2Sent,
        });
        out.counts.add_own(CoapMetric::Notifications);
        let size = u32::try_from(delivery.message.size()).unwrap_or(u32::MAX);
        let tag = Tag::Notification(key, delivery.id, size);
        self.effects.push_back(Effect::Notify(at, content, tag));
        if !confirmable {
            self.settle(key, delivery.id, size, out);
        }
    }

    /// The client has a message: it is done, and another one may come.
    fn settle(&self, key: SessionKey, delivery: Option<DeliveryId>, size: u32, out: &mut Out<A>) {
        if let Some(id) = delivery {
            out.bus.push((key, BusCommand::Settle(id, Settlement::Done)));
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
                self.client_mut(index).heard = now;
                self.observation(index, key).confirmed = now;
                self.settle(key, delivery, size, out);
            }
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
