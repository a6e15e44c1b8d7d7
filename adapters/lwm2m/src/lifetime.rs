//! How long a client is there: when it was heard of, where it is, what is due, and its end. LwM2M Core 1.1 §6.2.2, §6.2.3

use crate::core::{Core, Effect, NOBODY, Occupant, Out, TIMERS_PER_TURN};
use crate::counters::Lwm2mMetric;
use crate::device::State;
use headgate_coap_codec::Code;
use headgate_model::datagram::Address;
use headgate_model::{BusCommand, CloseReason, Instant};
use serde_json::json;
use std::time::Duration;

/// The place of a client is written down at most so often.
const PLACE_INTERVAL: Duration = Duration::from_secs(5);

impl<A: Address> Core<A> {
    /// A client said something: if it sleeps at times, it listens now.
    pub(crate) fn hear(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.devices[index as usize]
            .as_mut()
            .expect("the index of a client");
        device.is_silent = false;
        if device.registration.queue_mode {
            let window = self.settings.window_of(&device.registration.endpoint);
            device.awake_until = Some(now + window);
        }
        // What was asked for where the client was before waits again.
        self.go_on(index, now, out);
        self.rearm(index, now);
    }

    /// A client comes from somewhere else, with what it must know for that.
    pub(crate) fn move_to(&mut self, index: u32, at: A, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        let before = std::mem::replace(&mut device.at, at);
        let seat = device.seat;
        if self.by_address.get(&before) == Some(&index) {
            self.by_address.remove(&before);
        }
        self.by_address.insert(at, index);
        self.effects.push_back(Effect::Forget(before, seat));
        self.effects.push_back(Effect::Expect(at));
        out.counts.add_own(Lwm2mMetric::Moved);
        // Who moves with each message does not have each place written down.
        let device = self.device_mut(index);
        match device.place_due {
            Some(due) if due > now => device.place_is_old = true,
            _ => {
                device.place_due = Some(now + PLACE_INTERVAL);
                self.keep_note(index, out);
            }
        }
    }

    /// A place that was not written down is.
    fn keep_place(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if device.place_is_old && device.place_due.is_none_or(|due| due <= now) {
            device.place_is_old = false;
            device.place_due = Some(now + PLACE_INTERVAL);
            self.keep_note(index, out);
        }
    }

    /// Does what is due.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        self.go_on_restoring(out);
        for _ in 0..TIMERS_PER_TURN {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, index) = self.timers.pop_first().expect("just looked at");
            self.device_mut(index).armed = None;
            self.on_due(index, now, out);
        }
        self.on_bootstrap_timeout(now, out);
    }

    pub(crate) fn on_due(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let seat = self.device(index).seat;
        let state = self.device(index).state;
        if self.ends(index) <= now && state == State::Restored {
            return self.ask_about(index, now, out);
        }
        if self.ends(index) <= now && state == State::Open {
            out.counts.add_own(Lwm2mMetric::RegistrationsExpired);
            self.leave(index, "lifetime", CloseReason::KeepAlive, now, out);
        }
        self.expire_commands(index, now, out);
        self.expire_exchange(index, now, out);
        self.firmware_due(index, now, out);
        if self.seats.occupant(seat) == Some(Occupant::Device(index)) {
            self.keep_place(index, now, out);
            self.go_on(index, now, out);
            self.rearm(index, now);
        }
    }

    /// When its registration is over. LwM2M Core 1.1 §6.2.1
    pub(crate) fn ends(&self, index: u32) -> Instant {
        let device = self.device(index);
        let lifetime = Duration::from_secs(device.registration.lifetime);
        let ends = device.renewed + lifetime + self.settings.lifetime_grace;
        device.ends_by.map_or(ends, |by| by.min(ends))
    }

    /// Its timer is set to what is due first, and what it holds is weighed.
    pub(crate) fn rearm(&mut self, index: u32, now: Instant) {
        let ends = self.ends(index);
        let device = self.device_mut(index);
        let weighed = device.held();
        let before = std::mem::replace(&mut device.weighed, weighed);
        let end = device.state.can_end().then_some(ends);
        let commands = device.commands.iter().map(|pending| pending.expires);
        let running = device.exchange.iter().map(|running| running.until);
        let is_free = device.state == State::Open && device.exchange.is_none();
        let can_go_on = is_free && device.listens(now);
        let firmware = device.firmware.iter().map(|firmware| firmware.due(can_go_on));
        let place = device.place_due.filter(|_| device.place_is_old);
        let due = commands
            .chain(running)
            .chain(firmware)
            .chain(end)
            .chain(place)
            .min();
        let due = due.map(|due| due.max(now));
        let known = std::mem::replace(&mut device.armed, due);
        self.weight = self.weight + weighed - before;
        if known != due {
            if let Some(at) = known {
                self.timers.remove(&(at, index));
            }
            if let Some(at) = due {
                self.timers.insert((at, index));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        own.into_iter().chain(self.bootstraps.deadline()).min()
    }

    /// A registration is over: commands that wait are answered so, and then its session ends.
    pub(crate) fn leave(
        &mut self,
        index: u32,
        why: &str,
        reason: CloseReason,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let data = json!({"ep": self.device(index).registration.endpoint, "reason": why});
        self.tell(index, "deregister", data, out);
        let device = self.device_mut(index);
        device.state = State::Leaving;
        device.leaving = reason;
        let seat = device.seat;
        self.forget(index);
        self.fail_all(index, "the client is not registered any more", out);
        // What is published from now on is for nobody: it would go with the session, unanswered.
        let device = self.device(index);
        let (filter, options) = self.commands_of(device);
        if let Ok(subscription) = self.naming.gate(&device.id, None).unsubscribe(&filter, options) {
            let (token, subscriptions) = (NOBODY, vec![subscription]);
            out.bus
                .push((seat, BusCommand::Unsubscribe { token, subscriptions }));
        }
        out.bus.push((seat, BusCommand::TellWhenDrained));
        self.rearm(index, now);
    }

    pub(crate) fn on_drained(&mut self, index: u32, out: &mut Out<A>) {
        self.device_mut(index).is_drained = true;
        self.end_if_done(index, out);
    }

    /// The session of a client that leaves ends when nothing waits for it, and all that is told of it was.
    pub(crate) fn end_if_done(&mut self, index: u32, out: &mut Out<A>) {
        let device = self.device(index);
        let asks = device.asking.is_some() || !device.to_ask.is_empty();
        if device.state == State::Leaving && device.is_drained && !asks {
            self.close(index, device.leaving, Some(Duration::ZERO), out);
        }
    }

    /// Its session is let go.
    pub(crate) fn close(
        &mut self,
        index: u32,
        reason: CloseReason,
        expiry: Option<Duration>,
        out: &mut Out<A>,
    ) {
        let device = self.device_mut(index);
        let waiting = device.awaiting.drain().map(|(_, waiting)| waiting);
        let waiting: Vec<_> = waiting.chain(device.requester.take()).collect();
        let seat = device.seat;
        for (from, request) in waiting {
            self.refuse(
                &from,
                &request,
                Code::SERVICE_UNAVAILABLE,
                "the client is gone",
                out,
            );
        }
        out.bus.push((seat, BusCommand::Close { reason, expiry }));
        self.remove(index);
    }
}
