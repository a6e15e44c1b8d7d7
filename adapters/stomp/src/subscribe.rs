//! SUBSCRIBE and UNSUBSCRIBE. STOMP 1.2, SUBSCRIBE, UNSUBSCRIBE

use crate::connect::opening;
use crate::counters::StompMetric;
use crate::endpoint::{Held, Out, Phase, StompEndpoint};
use crate::frames::{BadFrame, flag, header, qos_of, receipt_of, shown};
use crate::subscriptions::{AckMode, OWN, Seat, Subscription};
use bytes::Bytes;
use headgate_model::bus::{NEVER, Presence};
use headgate_model::gate::Waiting;
use headgate_model::{
    AccessPolicy, AckToken, Admitted, Answer, BusCommand, ClientId, CloseReason, Metric, Qos, Question,
    Refused, RetainHandling, RulesOf, SessionKey, Subscription as OnBus, SubscriptionOptions, Verdict,
};
use headgate_stomp_codec::{Frame, Text, Version};
use std::sync::Arc;
use std::time::Duration;

/// A SUBSCRIBE that waits for a decision on access.
#[derive(Debug)]
pub(crate) struct HeldSubscribe {
    waiting: Box<Waiting<OnBus>>,
    wish: Wish,
}

/// What a SUBSCRIBE asks for.
#[derive(Debug)]
struct Wish {
    number: u32,
    id: Option<Text>,
    name: Text,
    filter: Bytes,
    /// For errors, as the client wrote it.
    destination: String,
    options: SubscriptionOptions,
    ack: AckMode,
    durable: Option<Text>,
    /// Messages that may be under way.
    prefetch: u16,
    receipt: Option<Text>,
}

/// Headers that name a durable subscription, as in ActiveMQ 5 and Artemis.
const DURABLE_NAMES: [&str; 2] = ["activemq.subscriptionName", "durable-subscription-name"];

/// Headers that bound what is under way, as in RabbitMQ and ActiveMQ.
const PREFETCH: [&str; 2] = ["prefetch-count", "activemq.prefetchSize"];

impl StompEndpoint {
    pub(crate) fn on_subscribe(&mut self, frame: &Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::SubscribeReceived);
        let wish = match self.read_wish(frame) {
            Ok(wish) => wish,
            Err(error) => return self.fail(receipt_of(frame), error.as_str(), out),
        };
        match self.gate().subscribe(&wish.filter, wish.options) {
            Verdict::Admitted(subscription) => self.subscribe(wish, subscription, out),
            Verdict::Refused(refused) => self.refuse_subscribe(&refused, wish, out),
            Verdict::Ask(waiting) => {
                let question = Question::Authorize(vec![waiting.request()]);
                self.ask(
                    Held::Subscribe(Box::new(HeldSubscribe { waiting, wish })),
                    question,
                    out,
                );
            }
        }
    }

    pub(crate) fn on_subscribe_decided(&mut self, held: HeldSubscribe, answer: &Answer, out: &mut Out) {
        match held.waiting.decide(answer.decision(0)) {
            Ok(subscription) => self.subscribe(held.wish, subscription, out),
            Err(refused) => self.refuse_subscribe(&refused, held.wish, out),
        }
    }

    /// What the frame asks for.
    fn read_wish(&mut self, frame: &Frame) -> Result<Wish, BadFrame> {
        let name = self.subscription_name(frame)?;
        let destination = header(frame, "destination")?;
        let filter = self
            .settings
            .name_of(&destination)
            .ok_or_else(|| self.settings.bad_prefix("destination", &destination))?;
        let (ack, prefetch) = (AckMode::parse(frame.get("ack")), self.prefetch_of(frame));
        let ack = ack.ok_or_else(|| {
            let ack = shown(frame.get("ack").unwrap_or_default());
            format!("ack is {ack}, allowed are auto, client and client-individual")
        })?;
        let prefetch = prefetch.ok_or("prefetch-count is a number from 1 to 65535")?;
        let qos = qos_of(
            frame,
            self.default_qos.unwrap_or(self.settings.default_subscribe_qos()),
        )?;
        if self.subscriptions.number_of(&name).is_some() {
            return Err(format!("the subscription {} is there already", shown(&name)).into());
        }
        let most = self.settings.max_subscriptions;
        if self.subscriptions.len() >= most {
            return Err(format!("more than {most} subscriptions (stomp.max_subscriptions)").into());
        }
        let durable = self.durable_name(frame, &name)?;
        if let Some(name) = &durable
            && self.subscriptions.durable(name).is_some()
        {
            let name = shown(name);
            return Err(format!("the durable subscription {name} is in use on this connection").into());
        }
        let number = self
            .subscriptions
            .next_number()
            .ok_or("too many subscriptions so far")?;
        let options = match (&durable, ack) {
            (None, AckMode::Auto) => SubscriptionOptions {
                qos,
                identifier: number,
                by_identifier: true,
                ..SubscriptionOptions::default()
            },
            // What is acknowledged, and what is to wait for its client, is not worth less than QoS 1.
            (None, _) => SubscriptionOptions {
                qos: qos.max(Qos::AtLeastOnce),
                identifier: number,
                ..SubscriptionOptions::default()
            },
            (Some(_), _) => SubscriptionOptions {
                qos: qos.max(Qos::AtLeastOnce),
                identifier: fingerprint(&filter),
                retain_handling: RetainHandling::SendIfNew,
                ..SubscriptionOptions::default()
            },
        };
        Ok(Wish {
            number,
            id: frame.headers.get("id").map(Text::compact),
            name: name.compact(),
            filter: Bytes::copy_from_slice(&filter),
            destination: shown(&destination),
            options,
            ack,
            durable,
            prefetch,
            receipt: receipt_of(frame),
        })
    }

    /// What a subscription is unsubscribed by. STOMP 1.0, UNSUBSCRIBE: its id, or else its destination. Later versions: its id.
    fn subscription_name(&self, frame: &Frame) -> Result<Text, BadFrame> {
        let by_destination = self.version == Version::V10 && frame.headers.get("id").is_none();
        header(frame, if by_destination { "destination" } else { "id" })
    }

    /// The name of a durable subscription; `None` if it ends with the connection.
    fn durable_name(&self, frame: &Frame, id: &Text) -> Result<Option<Text>, BadFrame> {
        let name = DURABLE_NAMES.iter().find_map(|name| frame.headers.get(name));
        let says_so = flag(frame, "durable")? | flag(frame, "persistent")?;
        if name.is_none() && !says_so {
            return Ok(None);
        }
        if !self.is_named {
            return Err("a durable subscription needs a client-id in CONNECT".into());
        }
        let (name, longest) = (name.unwrap_or(id), self.settings.max_client_id_bytes);
        if name.is_empty() || (longest > 0 && name.len() > longest) {
            return Err("no name for a durable subscription".into());
        }
        Ok(Some(name.compact()))
    }

    fn prefetch_of(&self, frame: &Frame) -> Option<u16> {
        let wished = PREFETCH.iter().find_map(|name| frame.get(name));
        match wished {
            None => Some(self.settings.prefetch),
            Some(text) => text.parse().ok().filter(|prefetch| *prefetch > 0),
        }
    }

    fn refuse_subscribe(&mut self, refused: &Refused, wish: Wish, out: &mut Out) {
        let Wish {
            receipt, destination, ..
        } = wish;
        if let Some(error) = refused.name_error() {
            let why = format!("{destination} is no destination to subscribe to: {error}");
            return self.fail(receipt, &why, out);
        }
        out.counts.add(Metric::SubscribeNotAuthorized);
        self.tell_refused(refused, out);
        self.fail(
            receipt,
            &format!("not authorized to subscribe to {destination}"),
            out,
        );
    }

    fn subscribe(&mut self, wish: Wish, on_bus: Admitted<OnBus>, out: &mut Out) {
        let step = self.steps.open(wish.receipt);
        let mut subscription = Subscription {
            id: wish.id,
            name: wish.name,
            session: OWN,
            identifier: wish.options.identifier,
            filter: wish.filter,
            ack: wish.ack,
            durable: wish.durable,
            opening: None,
            unsettled: Default::default(),
            next: 0,
        };
        if wish.options.by_identifier {
            self.subscriptions.insert(wish.number, subscription);
            let (token, subscriptions) = (step, vec![on_bus]);
            return out.bus(OWN, BusCommand::Subscribe { token, subscriptions });
        }
        subscription.session = self.subscriptions.take_seat(Seat::Subscription(wish.number));
        subscription.opening = Some((step, Box::new(on_bus)));
        let (session, durable) = (subscription.session, subscription.durable.clone());
        self.subscriptions.insert(wish.number, subscription);
        let expiry = match durable {
            None => Duration::ZERO,
            Some(_) if self.settings.durable_expiry.is_zero() => NEVER,
            Some(_) => self.settings.durable_expiry,
        };
        self.open_seat(session, durable.as_ref(), expiry, wish.prefetch, out);
    }

    /// Opens a session beside the connection's own: a durable one goes on where it was, if it is to stay.
    fn open_seat(
        &self,
        key: SessionKey,
        durable: Option<&Text>,
        expiry: Duration,
        prefetch: u16,
        out: &mut Out,
    ) {
        let Phase::Open(who) = &self.phase else { return };
        let client = self.client_id.as_str().replace('%', "%25").replace('/', "%2F");
        let name = match durable {
            Some(name) => format!("$stomp/{client}/durable/{}", &**name),
            None => format!("$stomp/{client}/{}", key.index),
        };
        let clean_start = durable.is_none() || expiry.is_zero();
        let presence = Presence {
            clean_start,
            ..(**who).clone()
        };
        let name = ClientId::from(&*name);
        let policy = who.rules.policy().map(|rules| {
            let (client, rules) = (self.client_id.clone(), Arc::clone(rules));
            Arc::new(RulesOf { client, rules }) as Arc<dyn AccessPolicy>
        });
        let gate = self.naming.gate(&name, policy.as_ref());
        let client = gate.enter_beside(presence).expect("it has such a name");
        let open = opening(client, clean_start, expiry, prefetch.into());
        out.bus(key, BusCommand::Open(Box::new(open)));
    }

    /// A session beside the connection's own is there: it gets its subscription, or is thrown away.
    pub(crate) fn on_seat_opened(&mut self, session: SessionKey, out: &mut Out) {
        match self.subscriptions.seat(session) {
            Some(Seat::Subscription(number)) => {
                let subscription = self.subscriptions.get_mut(number);
                let Some((token, subscription)) = subscription.and_then(|found| found.opening.take()) else {
                    return;
                };
                // What the client called by this name before, it does not want any more.
                out.bus(session, BusCommand::SubscribeOnly { token, subscription });
            }
            Some(Seat::Ending(step)) => {
                self.subscriptions.awaited = None;
                self.steps.answered(step);
                self.close_seat(session, out);
            }
            Some(Seat::Leaving) | None => {}
        }
    }

    /// Closes a session, once all is answered that the client has acknowledged.
    pub(crate) fn close_seat(&mut self, session: SessionKey, out: &mut Out) {
        if self.settling.waits_for(session) {
            return self.subscriptions.change_seat(session, Seat::Leaving);
        }
        self.subscriptions.leave_seat(session);
        let (reason, expiry) = (CloseReason::Normal, None);
        out.bus(session, BusCommand::Close { reason, expiry });
    }

    /// STOMP 1.2, UNSUBSCRIBE. With `durable:true` a durable subscription ends, whether this connection has it or not; without, it waits for its client.
    pub(crate) fn on_unsubscribe(&mut self, frame: &Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::UnsubscribeReceived);
        let receipt = receipt_of(frame);
        let name = self.subscription_name(frame);
        let named = name.and_then(|name| Ok((self.durable_name(frame, &name)?, name)));
        let (ending, name) = match named {
            Ok(named) => named,
            Err(error) => return self.fail(receipt, error.as_str(), out),
        };
        let found = self.subscriptions.number_of(&name);
        let number = found.or_else(|| self.subscriptions.durable(ending.as_ref()?));
        if number.is_none() && ending.is_none() {
            return self.fail(
                receipt,
                &format!("there is no subscription {}", shown(&name)),
                out,
            );
        }
        let step = self.steps.open(receipt);
        // It has its name from when it was made.
        let mut durable = ending.clone();
        if let Some(number) = number {
            let own_name = self.end_subscription(number, step, out);
            durable = ending.map(|name| own_name.unwrap_or(name));
        }
        if let Some(durable) = durable {
            self.steps.add(step);
            let session = self.subscriptions.take_seat(Seat::Ending(step));
            self.open_seat(session, Some(&durable), Duration::ZERO, 1, out);
        }
        self.steps.answered(step);
    }

    /// Ends one for this connection. What is not acknowledged goes to the others of a shared subscription, or waits with a durable one, whose name is given back.
    fn end_subscription(&mut self, number: u32, step: AckToken, out: &mut Out) -> Option<Text> {
        let subscription = self.subscriptions.get(number)?;
        if subscription.session != OWN {
            let subscription = self.subscriptions.remove(number)?;
            self.close_seat(subscription.session, out);
            return subscription.durable;
        }
        let options = SubscriptionOptions {
            identifier: number,
            by_identifier: true,
            ..SubscriptionOptions::default()
        };
        let (name, filter) = (subscription.name.clone(), subscription.filter.clone());
        if let Ok(subscription) = self.gate().unsubscribe(&filter, options) {
            // Until the bus has done it, messages may come.
            self.subscriptions.forget_name(&name, number);
            self.steps.add(step);
            self.subscriptions.ending.insert(step.0, number);
            let (token, subscriptions) = (step, vec![subscription]);
            out.bus(OWN, BusCommand::Unsubscribe { token, subscriptions });
        }
        None
    }

    pub(crate) fn on_unsubscribed(&mut self, token: AckToken) {
        if let Some(number) = self.subscriptions.ending.remove(&token.0) {
            self.subscriptions.remove(number);
        }
        self.steps.answered(token);
    }
}

/// A number that stands for a durable subscription's filter, with which its messages are marked: what was queued for another one of the same name is known by
/// it. FNV-1a, of 28 bits.
fn fingerprint(filter: &[u8]) -> u32 {
    let hash = filter.iter().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash % 268_435_455) + 1
}
