//! When a bridge connects, and where: timelines on a virtual clock.

use headgate_bridge::{
    BridgeState, EndReason, RestartSettings, Start, Uplink, UplinkAction, UplinkInput, UplinkSettings, Window,
};
use headgate_model::{Instant, WallTime};
use headgate_mqtt_codec::ReasonCode;
use std::time::Duration;

/// 2026-01-01 00:00 UTC.
const NEW_YEAR: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;

struct Timeline {
    uplink: Uplink,
    now: Instant,
    /// Wall time at the start.
    epoch: u64,
    seen: Vec<UplinkAction>,
    states: Vec<BridgeState>,
}

impl Timeline {
    fn new(addresses: usize, change: impl FnOnce(&mut UplinkSettings)) -> Self {
        let mut timeline = Self::stopped(addresses, change);
        timeline.tell(UplinkInput::Started);
        timeline
    }

    fn stopped(addresses: usize, change: impl FnOnce(&mut UplinkSettings)) -> Self {
        let mut settings = UplinkSettings::default();
        change(&mut settings);
        Self {
            uplink: Uplink::new(settings, addresses, true, 1).unwrap(),
            now: Instant(1_000),
            epoch: NEW_YEAR,
            seen: Vec::new(),
            states: Vec::new(),
        }
    }

    fn tell(&mut self, input: UplinkInput) {
        let mut actions = Vec::new();
        let wall = WallTime(self.epoch + self.now.0);
        self.uplink.handle(input, self.now, wall, &mut actions);
        for action in actions {
            match action {
                UplinkAction::SetState(state) => self.states.push(state),
                action => self.seen.push(action),
            }
        }
    }

    fn fails(&mut self) {
        self.tell(UplinkInput::Dialed(false));
    }

    fn works(&mut self) {
        self.tell(UplinkInput::Dialed(true));
    }

    fn ends(&mut self) {
        self.tell(UplinkInput::Ended(EndReason::Lost));
    }

    /// Lets time pass until something is to do; how long that was.
    fn until_action(&mut self) -> u64 {
        let before = self.now;
        while self.seen.is_empty() {
            self.now = self
                .uplink
                .deadline()
                .expect("something is to do some time")
                .max(self.now);
            self.tell(UplinkInput::Timeout);
        }
        self.now.0 - before.0
    }

    fn advance(&mut self, ms: u64) {
        let until = Instant(self.now.0 + ms);
        while let Some(at) = self.uplink.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(UplinkInput::Timeout);
            assert!(
                self.uplink.deadline().is_none_or(|at| at > self.now),
                "a deadline is met"
            );
        }
        self.now = until;
    }

    fn actions(&mut self) -> Vec<UplinkAction> {
        std::mem::take(&mut self.seen)
    }

    fn state(&self) -> Option<BridgeState> {
        self.states.last().copied()
    }
}

use UplinkAction::{Close, Dial, ProbePrimary};

const NOTHING: [UplinkAction; 0] = [];

#[test]
fn it_connects_when_the_gateway_starts_and_not_before() {
    let mut timeline = Timeline::stopped(1, |_| {});
    timeline.tell(UplinkInput::QueueLength(100));
    assert_eq!(timeline.actions(), NOTHING);
    timeline.tell(UplinkInput::Started);
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![Dial(0)], Some(BridgeState::Connecting))
    );
}

/// Decorrelated jitter: from the base to three times the last pause, the cap at most. `restart_timeout` in mosquitto.conf(5).
#[test]
fn pauses_grow_with_jitter_up_to_the_cap() {
    let mut timeline = Timeline::new(1, |_| {});
    let mut pauses = Vec::new();
    for _ in 0..200 {
        assert_eq!(timeline.actions(), [Dial(0)]);
        timeline.fails();
        assert_eq!(timeline.state(), Some(BridgeState::BackingOff));
        pauses.push(timeline.until_action());
    }
    let mut last = 5_000;
    for pause in &pauses {
        assert!(
            (5_000..=30_000).contains(pause) && *pause <= last * 3,
            "{pause} after {last}"
        );
        last = *pause;
    }
    assert!(pauses.contains(&30_000) && pauses.iter().any(|pause| *pause < 15_000));
    assert!(pauses.windows(2).any(|two| two[0] != two[1]), "jitter");
}

#[test]
fn a_connection_that_held_as_long_as_the_cap_makes_the_pause_short_again() {
    let grown = |up_ms| {
        let mut timeline = Timeline::new(1, |s| {
            s.restart_timeout = RestartSettings {
                base: Duration::from_secs(1),
                cap: Duration::from_secs(1_000),
            };
        });
        for _ in 0..50 {
            timeline.actions();
            timeline.fails();
            timeline.until_action();
        }
        timeline.actions();
        timeline.works();
        timeline.advance(up_ms);
        timeline.ends();
        timeline.until_action()
    };
    assert!(grown(999_999) > 3_000, "the pauses had grown far");
    assert!(grown(1_000_000) <= 3_000);
}

#[test]
fn the_next_address_is_tried_at_once_and_after_the_last_there_is_a_pause() {
    let mut timeline = Timeline::new(3, |_| {});
    timeline.fails();
    timeline.fails();
    assert_eq!(timeline.actions(), [Dial(0), Dial(1), Dial(2)]);
    timeline.fails();
    assert_eq!(timeline.actions(), NOTHING);
    assert!(timeline.until_action() >= 5_000);
    assert_eq!(timeline.actions(), [Dial(0)], "the primary first");
}

/// An address whose broker says no is as good as one that does not answer.
#[test]
fn an_address_that_refuses_makes_room_for_the_next() {
    let mut timeline = Timeline::new(2, |_| {});
    timeline.works();
    timeline.tell(UplinkInput::Ended(EndReason::Refused(
        ReasonCode::ServerUnavailable,
    )));
    assert_eq!(timeline.actions(), [Dial(0), Dial(1)]);
}

#[test]
fn the_primary_is_probed_and_returned_to_when_it_answers() {
    let mut timeline = Timeline::new(2, |_| {});
    timeline.fails();
    timeline.works();
    assert_eq!(timeline.actions(), [Dial(0), Dial(1)]);
    assert_eq!(timeline.until_action(), 30_000);
    assert_eq!(timeline.actions(), [ProbePrimary]);
    timeline.tell(UplinkInput::PrimaryAnswers(false));
    assert_eq!(timeline.until_action(), 30_000);
    timeline.actions();
    timeline.tell(UplinkInput::PrimaryAnswers(true));
    assert_eq!(timeline.actions(), [Close]);
    timeline.tell(UplinkInput::Ended(EndReason::Asked));
    assert_eq!(timeline.actions(), [Dial(0)], "at once");
    timeline.works();
    timeline.advance(10 * HOUR);
    assert_eq!(timeline.actions(), NOTHING, "on the primary nothing is probed");
}

/// `round_robin true` in mosquitto.conf(5).
#[test]
fn round_robin_goes_on_with_the_next_address_and_never_returns() {
    let mut timeline = Timeline::new(3, |s| s.round_robin = true);
    timeline.fails();
    timeline.works();
    timeline.advance(10 * HOUR);
    assert_eq!(timeline.actions(), [Dial(0), Dial(1)]);
    timeline.ends();
    timeline.until_action();
    assert_eq!(timeline.actions(), [Dial(2)]);
    timeline.works();
    timeline.advance(HOUR);
    timeline.ends();
    timeline.until_action();
    assert_eq!(timeline.actions(), [Dial(0)]);
}

/// The bit was refused, not we: the same address at once, but not for ever.
#[test]
fn a_refused_bridge_bit_costs_no_pause() {
    let mut timeline = Timeline::new(2, |_| {});
    timeline.works();
    timeline.tell(UplinkInput::Ended(EndReason::PrivateRefused));
    assert_eq!(timeline.actions(), [Dial(0), Dial(0)]);
    timeline.works();
    timeline.tell(UplinkInput::Ended(EndReason::PrivateRefused));
    assert_eq!(timeline.actions(), [Dial(1)]);
}

/// `start_type lazy`, `threshold`, `idle_timeout` in mosquitto.conf(5).
#[test]
fn a_lazy_bridge_comes_for_enough_messages_and_leaves_when_there_are_none() {
    let mut timeline = Timeline::new(1, |s| s.start = Start::Lazy);
    timeline.tell(UplinkInput::QueueLength(9));
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![], Some(BridgeState::Idle))
    );
    timeline.tell(UplinkInput::QueueLength(10));
    assert_eq!(timeline.actions(), [Dial(0)]);
    timeline.works();
    timeline.advance(HOUR);
    assert_eq!(timeline.actions(), NOTHING, "something waits still");
    timeline.tell(UplinkInput::QueueLength(0));
    timeline.advance(59_000);
    timeline.tell(UplinkInput::QueueLength(1));
    timeline.tell(UplinkInput::QueueLength(0));
    timeline.advance(59_999);
    assert_eq!(timeline.actions(), NOTHING);
    timeline.advance(1);
    assert_eq!(timeline.actions(), [Close]);
    timeline.tell(UplinkInput::Ended(EndReason::Asked));
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![], Some(BridgeState::Idle))
    );
    timeline.tell(UplinkInput::QueueLength(10));
    assert_eq!(timeline.actions(), [Dial(0)]);
}

#[test]
fn a_lazy_bridge_goes_on_trying_while_the_remote_is_away() {
    let mut timeline = Timeline::new(1, |s| s.start = Start::Lazy);
    timeline.tell(UplinkInput::QueueLength(10));
    timeline.actions();
    timeline.fails();
    timeline.until_action();
    assert_eq!(timeline.actions(), [Dial(0)]);
}

/// `start_type once`: started with the gateway, and not restarted.
#[test]
fn once_is_once() {
    let mut timeline = Timeline::new(1, |s| s.start = Start::Once);
    timeline.works();
    timeline.actions();
    timeline.advance(HOUR);
    timeline.ends();
    timeline.advance(HOUR);
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![], Some(BridgeState::Idle))
    );
    let mut timeline = Timeline::new(2, |s| s.start = Start::Once);
    timeline.fails();
    timeline.fails();
    timeline.advance(HOUR);
    assert_eq!(timeline.actions(), [Dial(0), Dial(1)], "each address once");
    timeline.tell(UplinkInput::Paused);
    timeline.tell(UplinkInput::Resumed);
    assert_eq!(timeline.actions(), [Dial(0)], "an operator may start it again");
}

#[test]
fn a_window_opens_and_closes_every_day() {
    let mut timeline = Timeline::new(1, |s| {
        s.start = Start::Window;
        s.windows = vec!["22:00-02:00".parse().unwrap(), "12:00-12:30".parse().unwrap()];
    });
    assert_eq!(timeline.actions(), [Dial(0)], "it is just after midnight");
    timeline.works();
    assert_eq!(timeline.until_action(), 2 * HOUR - 1_000);
    assert_eq!(timeline.actions(), [Close]);
    timeline.tell(UplinkInput::Ended(EndReason::Asked));
    assert_eq!(timeline.state(), Some(BridgeState::Idle));
    assert_eq!(timeline.until_action(), 10 * HOUR);
    assert_eq!(timeline.actions(), [Dial(0)]);
    timeline.fails();
    timeline.until_action();
    timeline.actions();
    timeline.works();
    timeline.advance(HOUR);
    assert_eq!(timeline.actions(), [Close]);
}

#[test]
fn windows_are_written_as_times_of_the_day() {
    for good in ["22:00-06:00", "00:00-23:59"] {
        assert_eq!(good.parse::<Window>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "22:00",
        "22:00-22:00",
        "24:00-01:00",
        "1:00-02:00",
        "22:60-23:00",
        "22:00-06:00-07:00",
        "é2:00-03:00",
    ] {
        assert!(bad.parse::<Window>().is_err(), "{bad}");
    }
}

/// No battery keeps the clock: at boot it is 1970, and every certificate is "not yet valid".
#[test]
fn certificates_wait_for_the_clock() {
    let mut timeline = Timeline::stopped(1, |_| {});
    timeline.epoch = 0;
    timeline.tell(UplinkInput::Started);
    timeline.advance(HOUR);
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![], Some(BridgeState::WaitingForTime))
    );
    timeline.epoch = NEW_YEAR;
    assert!(timeline.until_action() <= 1_000);
    assert_eq!(timeline.actions(), [Dial(0)]);
    let settings = UplinkSettings::default();
    let mut plain = Uplink::new(settings, 1, false, 1).unwrap();
    let mut actions = Vec::new();
    plain.handle(UplinkInput::Started, Instant(0), WallTime(0), &mut actions);
    assert!(
        actions.contains(&Dial(0)),
        "without certificates the clock does not matter"
    );
}

#[test]
fn an_operator_stops_it_and_lets_it_go_on_at_once() {
    let mut timeline = Timeline::new(1, |_| {});
    timeline.works();
    timeline.actions();
    timeline.tell(UplinkInput::Paused);
    assert_eq!(timeline.actions(), [Close]);
    timeline.tell(UplinkInput::Ended(EndReason::Asked));
    timeline.advance(HOUR);
    assert_eq!(
        (timeline.actions(), timeline.state()),
        (vec![], Some(BridgeState::Paused))
    );
    timeline.tell(UplinkInput::Resumed);
    assert_eq!(timeline.actions(), [Dial(0)]);
    timeline.tell(UplinkInput::Paused);
    timeline.works();
    assert_eq!(
        timeline.actions(),
        [Close],
        "what was being dialed is closed when it is there"
    );
}

#[test]
fn settings_of_when_to_connect_are_checked() {
    let windowless = UplinkSettings {
        start: Start::Window,
        ..UplinkSettings::default()
    };
    let error = windowless.check().unwrap_err().to_string();
    assert_eq!(error, "windows: 0 is out of range, allowed is 1 to 100 windows");
    assert!(Uplink::new(UplinkSettings::default(), 0, false, 1).is_err());
}

/// A time is told as it was written, with what is allowed.
#[test]
fn a_time_out_of_range_is_told_as_written() {
    let mut settings = UplinkSettings::default();
    settings.restart_timeout.base = Duration::from_millis(500);
    let error = settings.check().unwrap_err().to_string();
    assert_eq!(
        error,
        "restart_timeout.base: 500ms is out of range, allowed is 1s to 1day"
    );
}
