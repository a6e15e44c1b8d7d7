//! SUBSCRIBE and UNSUBSCRIBE. MQTT 5 §3.8 to §3.11

use crate::convert;
use crate::counters::PacketMetric;
use crate::endpoint::{Held, MqttEndpoint, Out};
use bytes::Bytes;
use headgate_model::access::{DenyCode, Wanted};
use headgate_model::bus::Refusal;
use headgate_model::gate::Waiting;
use headgate_model::{
    AckToken, Admitted, Answer, BusCommand, Metric, NameError, Qos, Question, Refused, Subscription,
    SubscriptionOptions, TopicError, Verdict,
};
use headgate_mqtt_codec::{PacketId, ReasonCode, SubAck, Subscribe, UnsubAck, Unsubscribe, Version};

/// A SUBSCRIBE or UNSUBSCRIBE on its way: what is refused already has its code, what the bus will answer has none.
#[derive(Debug)]
pub(crate) struct HeldSubscribe {
    packet_id: PacketId,
    codes: Vec<Option<ReasonCode>>,
    /// Not refused so far, with their places in `codes`.
    wanted: Vec<(usize, Admitted<Subscription>)>,
    /// What is being asked for, with its places, in the order of the question.
    asked: Vec<(usize, Waiting<Subscription>)>,
}

impl MqttEndpoint {
    pub(crate) fn on_subscribe(&mut self, subscribe: Subscribe, out: &mut Out) {
        if subscribe.identifier.is_some() && !self.settings.identifiers_available {
            // MQTT 5 §3.2.2.3.12
            return self.fail(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "no subscription identifiers here",
                out,
            );
        }
        let mut held = HeldSubscribe {
            packet_id: subscribe.packet_id,
            codes: vec![None; subscribe.filters.len()],
            wanted: Vec::with_capacity(subscribe.filters.len()),
            asked: Vec::new(),
        };
        let mut requests = Vec::new();
        for (place, wish) in subscribe.filters.into_iter().enumerate() {
            let mut options = convert::subscription_options(wish.options, subscribe.identifier.unwrap_or(0));
            options.qos = options
                .qos
                .min(Qos::from_u8(self.settings.max_qos).unwrap_or_default());
            options.no_local |=
                self.version != Version::V5 && (self.bridge || self.settings.ignore_loop_deliver);
            options.retain_as_published |= self.version != Version::V5 && self.bridge;
            let raw = wish.filter.into_bytes();
            held.codes[place] = match self.gate().subscribe(&raw, options) {
                Verdict::Admitted(subscription) => match self.unavailable(&subscription) {
                    None => {
                        held.wanted.push((place, subscription));
                        None
                    }
                    code => code,
                },
                Verdict::Ask(waiting) => match self.unavailable(waiting.value()) {
                    None => {
                        requests.push(waiting.request());
                        held.asked.push((place, *waiting));
                        None
                    }
                    code => code,
                },
                Verdict::Refused(refused) => match refused.name_error().map(BadFilter::from) {
                    Some(BadFilter::Malformed) => return self.fail_malformed_filter(out),
                    Some(BadFilter::Refused(code)) => Some(code),
                    None => Some(self.deny_subscribe(&refused, out)),
                },
            };
        }
        if requests.is_empty() {
            self.subscribe(held, out);
        } else {
            self.ask(
                Held::Subscribe(Box::new(held)),
                Question::Authorize(requests),
                out,
            );
        }
    }

    pub(crate) fn on_subscribe_decided(&mut self, mut held: HeldSubscribe, answer: &Answer, out: &mut Out) {
        for (at, (place, waiting)) in std::mem::take(&mut held.asked).into_iter().enumerate() {
            match waiting.decide(answer.decision(at)) {
                Ok(subscription) => held.wanted.push((place, subscription)),
                Err(refused) => held.codes[place] = Some(self.deny_subscribe(&refused, out)),
            }
        }
        held.wanted.sort_by_key(|(place, _)| *place);
        self.subscribe(held, out);
    }

    fn deny_subscribe(&self, refused: &Refused, out: &mut Out) -> ReasonCode {
        out.counts.add(Metric::SubscribeNotAuthorized);
        self.tell_refused(refused, out);
        match refused.code() {
            DenyCode::Unspecified => ReasonCode::UnspecifiedError,
            DenyCode::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }

    fn subscribe(&mut self, mut held: HeldSubscribe, out: &mut Out) {
        let subscriptions = held
            .wanted
            .drain(..)
            .map(|(_, subscription)| subscription)
            .collect();
        let token = AckToken(held.packet_id.get().into());
        self.subscribes.get_or_insert_default().push(held);
        out.bus(BusCommand::Subscribe { token, subscriptions });
    }

    /// Why a kind of subscription is not to be had here.
    fn unavailable(&self, subscription: &Subscription) -> Option<ReasonCode> {
        if subscription.share.is_some() && !self.settings.shared_available {
            Some(ReasonCode::SharedSubscriptionsNotSupported)
        } else if subscription.filter.has_wildcard() && !self.settings.wildcard_available {
            Some(ReasonCode::WildcardSubscriptionsNotSupported)
        } else {
            None
        }
    }

    /// What is no topic filter at all is a protocol error; table 3-8 has 0x8F for those that are correctly formed and not allowed. \[MQTT-4.7.1-1\]
    /// \[MQTT-4.7.1-2\] \[MQTT-4.8.2-1\] \[MQTT-4.8.2-2\] \[MQTT-4.13.1-1\] \[3.1.1 MQTT-4.8.0-1\]
    fn fail_malformed_filter(&mut self, out: &mut Out) {
        self.fail(ReasonCode::ProtocolError, "malformed topic filter", out);
    }

    /// SUBACK: one code for each filter, in order, under the same packet identifier.
    /// \[MQTT-3.8.4-1\] \[MQTT-3.8.4-2\] \[MQTT-3.8.4-6\] \[MQTT-3.9.3-1\]
    pub(crate) fn on_subscribed(&mut self, token: AckToken, results: &[Result<Qos, Refusal>], out: &mut Out) {
        let Some(held) = self.take_held(token) else { return };
        let refused = results.iter().filter(|result| result.is_err()).count();
        out.counts.add_n(
            Metric::SubscribeRefused,
            u32::try_from(refused).unwrap_or(u32::MAX),
        );
        if let Some(Err(why)) = results.iter().find(|result| result.is_err()) {
            self.tell(|| Wanted::Subscribe(Bytes::new()), || why.to_string().into(), out);
        }
        let mut results = results.iter();
        let codes = held.codes.into_iter().map(|code| {
            code.or_else(|| results.next().map(result_code))
                .unwrap_or(ReasonCode::UnspecifiedError)
        });
        // Before version 5 there is one failure code. [3.1.1 MQTT-3.9.3-2]
        let v5 = self.version == Version::V5;
        let codes = codes.map(|code| {
            if v5 || !code.is_error() {
                code
            } else {
                ReasonCode::UnspecifiedError
            }
        });
        out.counts.add_own(PacketMetric::SubackSent);
        let suback = SubAck {
            packet_id: held.packet_id,
            codes: codes.collect(),
            reason_string: None,
            user_properties: Vec::new(),
        };
        self.reply(suback, out);
    }

    pub(crate) fn on_unsubscribe(&mut self, unsubscribe: Unsubscribe, out: &mut Out) {
        let mut codes = vec![None; unsubscribe.filters.len()];
        let mut subscriptions = Vec::with_capacity(codes.len());
        for (code, filter) in codes.iter_mut().zip(unsubscribe.filters) {
            match self
                .gate()
                .unsubscribe(&filter.into_bytes(), SubscriptionOptions::default())
            {
                Ok(subscription) => subscriptions.push(subscription),
                Err(error) => match BadFilter::from(&error) {
                    BadFilter::Malformed => return self.fail_malformed_filter(out),
                    BadFilter::Refused(reason) => *code = Some(reason),
                },
            }
        }
        let packet_id = unsubscribe.packet_id;
        self.subscribes.get_or_insert_default().push(HeldSubscribe {
            packet_id,
            codes,
            wanted: Vec::new(),
            asked: Vec::new(),
        });
        out.bus(BusCommand::Unsubscribe {
            token: AckToken(packet_id.get().into()),
            subscriptions,
        });
    }

    /// UNSUBACK. \[MQTT-3.10.4-4\] \[MQTT-3.10.4-5\] \[MQTT-3.11.3-1\]
    pub(crate) fn on_unsubscribed(&mut self, token: AckToken, existed: &[bool], out: &mut Out) {
        let Some(held) = self.take_held(token) else { return };
        let mut existed = existed.iter();
        let mut answer = || match existed.next() {
            Some(true) => ReasonCode::Success,
            Some(false) | None => ReasonCode::NoSubscriptionExisted,
        };
        let codes = held
            .codes
            .into_iter()
            .map(|code| code.unwrap_or_else(&mut answer))
            .collect();
        out.counts.add_own(PacketMetric::UnsubackSent);
        let unsuback = UnsubAck {
            packet_id: held.packet_id,
            codes,
            reason_string: None,
            user_properties: Vec::new(),
        };
        self.reply(unsuback, out);
    }

    /// Answers come in the order of the requests.
    fn take_held(&mut self, token: AckToken) -> Option<HeldSubscribe> {
        let all = self.subscribes.as_mut()?;
        let at = all
            .iter()
            .position(|held| u32::from(held.packet_id.get()) == token.0)?;
        let held = all.remove(at);
        if all.is_empty() {
            self.subscribes = None;
        }
        Some(held)
    }
}

/// What is wrong with a filter.
enum BadFilter {
    /// It is none.
    Malformed,
    /// It is one, and is not taken here.
    Refused(ReasonCode),
}

impl From<&NameError> for BadFilter {
    fn from(error: &NameError) -> Self {
        match error {
            // Too long with its mount point, or prefixes of our own that do not fit together.
            NameError::Malformed(TopicError::TooLong(_) | TopicError::Prefix)
            | NameError::Rewritten(_)
            | NameError::TooManyBytes(_)
            | NameError::TooManyLevels(_) => Self::Refused(ReasonCode::TopicFilterInvalid),
            NameError::Malformed(_) => Self::Malformed,
        }
    }
}

fn result_code(result: &Result<Qos, Refusal>) -> ReasonCode {
    match result {
        Ok(qos) => convert::granted(*qos),
        Err(Refusal::TopicInvalid) => ReasonCode::TopicFilterInvalid,
        Err(why) => convert::refusal(*why),
    }
}
