//! Sleeping clients and goodbyes. §6.12, §6.14
//!
//! While a client sleeps its session and its mailbox are the bus's, which also publishes its will when it does not come back: that must not depend
//! on whether this gateway is still the one that the client said good night to.

use crate::client::{Purpose, State};
use crate::counters::SnMetric;
use crate::gateway::{Out, SnGateway};
use crate::handshake::STALE;
use crate::outputs::Send;
use crate::party::Sender;
use headgate_model::access::Wanted;
use headgate_model::bus::OpenRefusal;
use headgate_model::datagram::Address;
use headgate_model::{BusCommand, CloseReason, Instant, Metric, OpenWill};
use headgate_mqttsn_codec::{Message, ReturnCode};
use std::time::Duration;

impl<A: Address> SnGateway<A> {
    /// PINGREQ of a client that is known here, in whatever state.
    pub(crate) fn on_ping_of_client(&mut self, index: u32, from: &Sender<A>, now: Instant, out: &mut Out<A>) {
        let client = self.client_mut(index);
        client.hear(now);
        match client.state {
            State::Active { .. } => out.send(&client.party, &Message::PingResp),
            State::Asleep { .. } => self.wake(index, Purpose::Wake, out),
            State::Disconnected { .. } => self.on_unknown(from, &Message::PingReq(None), out),
            // PINGRESP comes when everything is delivered.
            State::Opening(_) | State::Awake { .. } | State::FallingAsleep { .. } => {}
        }
        self.arm(index);
    }

    /// Anything else than a PINGREQ with its id that a sleeping client says.
    pub(crate) fn on_message_while_asleep(
        &mut self,
        index: u32,
        from: &Sender<A>,
        message: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match message {
            Message::PingReq(_) => self.on_ping_of_client(index, from, now, out),
            Message::Disconnect(Some(seconds @ 1..)) => {
                self.client_mut(index).sleep = *seconds;
                self.wake(index, Purpose::SleepOn, out);
            }
            Message::Disconnect(_) => self.wake(index, Purpose::Goodbye, out),
            // Late answers: what they answer is sent again when it wakes.
            Message::RegAck(_) | Message::PubAck(_) | Message::PubRec(_) | Message::PubComp(_) => {
                out.counts.add_own(SnMetric::Dropped);
            }
            Message::Publish(publish) if self.config.settings.publish_wakes => {
                self.hold_publish(index, Message::Publish(publish.clone()), out);
                self.wake(index, Purpose::Wake, out);
            }
            // It must be active for that; it sleeps on.
            message => self.on_unknown(from, message, out),
        }
    }

    /// A sleeping client is there for a moment.
    pub(crate) fn wake(&mut self, index: u32, purpose: Purpose, out: &mut Out<A>) {
        let open = self.open_of(index, false, self.config.settings.session_expiry, OpenWill::Awake);
        self.open(index, purpose, open, out);
    }

    /// The session of its client id is another's, or there is no room for one.
    pub(crate) fn on_open_refused(&mut self, index: u32, why: OpenRefusal, out: &mut Out<A>) {
        let code = match why {
            OpenRefusal::NotOwner => ReturnCode::NotSupported,
            OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser => ReturnCode::Congestion,
        };
        let answer = match self.client(index).state {
            State::Opening(Purpose::Connect) => Message::ConnAck(code),
            _ => Message::Disconnect(None),
        };
        out.counts.add(Metric::ConnectRefused);
        self.tell(index, || Wanted::Connect, || why.to_string().into(), out);
        out.send(&self.client(index).party, &answer);
        self.close(index, CloseReason::Normal, None, out);
        self.remove(index);
    }

    /// The session of its client id is open, or is not there any more.
    pub(crate) fn on_opened(&mut self, index: u32, present: bool, now: Instant, out: &mut Out<A>) {
        let State::Opening(purpose) = self.client(index).state else {
            return;
        };
        if purpose != Purpose::Connect && !present {
            // Nobody remembers it: it has to connect.
            self.close(index, CloseReason::Normal, Some(Duration::ZERO), out);
            return self.forget_waking(index, out);
        }
        self.take_place_awake(index, out);
        let client = self.client_mut(index);
        match purpose {
            Purpose::Connect => {
                client.state = State::Active {
                    heard: now,
                    copies_until: Some(now + STALE),
                };
                out.send(&client.party, &Message::ConnAck(ReturnCode::Accepted));
            }
            Purpose::Wake => {
                client.state = State::Awake {
                    heard: now,
                    drained: false,
                };
                self.take_held(index, now, out);
                self.bus(index, BusCommand::TellWhenDrained, out);
            }
            Purpose::SleepOn => self.ask_for_sleep(index, false, now, out),
            Purpose::Goodbye => self.say_goodbye(index, now, out),
        }
    }

    /// DISCONNECT of a client that is connected.
    pub(crate) fn on_disconnect(
        &mut self,
        index: u32,
        duration: Option<u16>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let Some(seconds @ 1..) = duration else {
            return self.say_goodbye(index, now, out);
        };
        self.client_mut(index).sleep = seconds;
        self.ask_for_sleep(index, false, now, out);
    }

    /// The client wants to sleep, for the first time or again: it is told so when that is durable. What is under way to it waits for its next wake.
    fn ask_for_sleep(&mut self, index: u32, again: bool, now: Instant, out: &mut Out<A>) {
        let (patience, expiry) = self.patience_and_expiry(index);
        let client = self.client_mut(index);
        client.drop_outbound(out);
        client.state = State::FallingAsleep { heard: now, again };
        self.bus(index, BusCommand::FallAsleep { patience, expiry }, out);
    }

    /// It is durable that the client sleeps.
    pub(crate) fn on_asleep(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let client = self.client(index);
        if let State::FallingAsleep { heard, again } = client.state {
            let answer = if again {
                Message::PingResp
            } else {
                Message::Disconnect(None)
            };
            out.send(&client.party, &answer);
            self.fall_asleep(index, heard, now, out);
        }
    }

    /// How long it may be silent while it sleeps, if it said so; and how long its session lasts, if that is another matter now than before: that of a client
    /// that starts anew each time lasts as long as its sleep.
    fn patience_and_expiry(&self, index: u32) -> (Option<Duration>, Option<Duration>) {
        let client = self.client(index);
        let patience = client.sleep_patience();
        (patience, patience.filter(|_| client.clean))
    }

    /// Everything that waited was delivered and settled.
    pub(crate) fn on_drained(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        if let State::Awake { drained, .. } = &mut self.client_mut(index).state {
            *drained = true;
        }
        self.sleep_again_if_done(index, now, out);
    }

    /// PINGRESP ends the time awake, once nothing is under way in either direction.
    pub(crate) fn sleep_again_if_done(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let client = self.client(index);
        let drained = matches!(client.state, State::Awake { drained: true, .. });
        if drained && client.outbound.is_none() && client.inbound.is_none() {
            self.ask_for_sleep(index, true, now, out);
        }
    }

    /// The client sleeps from now on. What is under way to it goes back to its mailbox. It was last heard of at `heard`.
    pub(crate) fn fall_asleep(&mut self, index: u32, heard: Instant, now: Instant, out: &mut Out<A>) {
        let (patience, expiry) = self.patience_and_expiry(index);
        let left = patience.map(|patience| (heard + patience).since(now));
        let until = heard + patience.unwrap_or(self.config.settings.max_silence);
        self.close(index, CloseReason::Asleep(left), expiry, out);
        self.client_mut(index).state = State::Asleep { until };
    }

    /// Its will is kept if its session is, and not published. §6.3
    fn say_goodbye(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let settings = &self.config.settings;
        let until = now + settings.retry_interval * (u32::from(settings.retries) + 1);
        let expiry = self.client(index).clean.then_some(Duration::ZERO);
        self.close(index, CloseReason::KeepingWill, expiry, out);
        let client = self.client_mut(index);
        client.state = State::Disconnected { until };
        out.send(&client.party, &Message::Disconnect(None));
    }
}
