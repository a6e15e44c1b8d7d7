//! Which of several WANs is the way out: the first that works, in the order of the configuration. What comes back must hold for a while before it is trusted
//! again, and longer each time that it did not. It knows no clock and no network but what it is told.

use super::settings::WanSettings;
use std::time::Duration;
use tokio::time::Instant;

/// How soon one is asked again that did not answer, or its `interval` if that is less.
const AGAIN: Duration = Duration::from_secs(3);
/// The longest that one which comes and goes must hold before it is trusted again.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Whether its interface has a link and an address.
    Link { wan: usize, up: bool },
    /// Whether what it was to reach answered.
    Probed { wan: usize, answered: bool },
    /// A bridge lost its remote, or did not reach it.
    Doubted,
    /// The deadline has come.
    Timeout,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask what it is to reach: [`Input::Probed`] answers.
    Probe(usize),
    /// It is the way out from now on.
    Use(usize),
    /// It works now, or does not.
    Tell { wan: usize, works: bool },
}

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It was never trusted: it is taken for good until nobody answers, and from its first answer on.
    Unknown,
    Works,
    /// It does not work, or not for long enough.
    Fails,
}

/// One of them.
#[derive(Debug)]
struct Wan {
    settings: WanSettings,
    link: bool,
    health: Health,
    /// How often in a row nobody answered.
    failures: u32,
    /// While it is not trusted: since when all is well.
    well_since: Option<Instant>,
    /// How long all must be well before it is trusted.
    patience: Duration,
    /// When it was trusted again.
    back_at: Option<Instant>,
    /// It is being asked.
    asked: bool,
    /// What is being asked was asked before its link was lost.
    stale: bool,
    /// When it is asked next.
    ask_at: Instant,
    asked_at: Option<Instant>,
}

impl Wan {
    fn new(settings: WanSettings, now: Instant) -> Self {
        Self {
            link: false,
            health: Health::Unknown,
            failures: 0,
            well_since: None,
            patience: settings.back_after,
            back_at: None,
            asked: false,
            stale: false,
            ask_at: now,
            asked_at: None,
            settings,
        }
    }

    fn is_usable(&self) -> bool {
        self.link
            && match self.health {
                Health::Unknown => self.failures == 0,
                Health::Works => true,
                Health::Fails => false,
            }
    }

    /// All is well, and has not been for long enough.
    fn is_on_probation(&self) -> bool {
        self.link && self.well_since.is_some()
    }

    fn has_probes(&self) -> bool {
        !self.settings.probe.is_empty()
    }

    /// Whether it just stopped to work.
    fn fail(&mut self, now: Instant) -> bool {
        let failed = self.health != Health::Fails;
        if failed {
            let comes_and_goes = self
                .back_at
                .is_some_and(|at| now.duration_since(at) < self.patience);
            self.patience = match comes_and_goes {
                true => self
                    .patience
                    .saturating_mul(2)
                    .min(LONGEST.max(self.settings.back_after)),
                false => self.settings.back_after,
            };
        }
        self.health = Health::Fails;
        self.well_since = None;
        failed
    }

    /// Whether it is just trusted again.
    fn succeed(&mut self, now: Instant) -> bool {
        self.failures = 0;
        match self.health {
            Health::Works => return false,
            Health::Unknown => {}
            Health::Fails => {
                let since = *self.well_since.get_or_insert(now);
                if now.duration_since(since) < self.patience {
                    return false;
                }
                self.back_at = Some(now);
            }
        }
        self.health = Health::Works;
        self.well_since = None;
        true
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Choice {
    wans: Vec<Wan>,
    active: Option<usize>,
}

impl Choice {
    /// None is the way out before one has a link.
    pub(super) fn new(settings: &[WanSettings], now: Instant) -> Self {
        let wans = settings.iter().cloned();
        Self {
            wans: wans.map(|settings| Wan::new(settings, now)).collect(),
            active: None,
        }
    }

    /// Of other settings: what is known of a WAN stays, unless it leaves by another interface or is to reach something else.
    pub(super) fn with(self, settings: &[WanSettings], now: Instant) -> Self {
        let active = self.active.map(|active| self.wans[active].settings.clone());
        let mut known = self.wans;
        let of = |settings: &WanSettings| {
            let same = known.iter().position(|wan| wan.settings.is_same(settings));
            let wan = same.map(|at| known.swap_remove(at));
            Wan {
                settings: settings.clone(),
                // Nobody answers for it any more.
                asked: false,
                stale: false,
                ask_at: now,
                ..wan.unwrap_or_else(|| Wan::new(settings.clone(), now))
            }
        };
        Self {
            active: active.and_then(|active| settings.iter().position(|wan| wan.is_same(&active))),
            wans: settings.iter().map(of).collect(),
        }
    }

    pub(super) fn active(&self) -> Option<usize> {
        self.active
    }

    /// What is known of it, and whether all is well with one that is not trusted yet.
    pub(super) fn health(&self, wan: usize) -> (Health, bool) {
        (self.wans[wan].health, self.wans[wan].is_on_probation())
    }

    /// How long until it is trusted again, if all stays well.
    pub(super) fn trusted_in(&self, wan: usize, now: Instant) -> Option<Duration> {
        let wan = &self.wans[wan];
        let since = wan.well_since?;
        Some(wan.patience.saturating_sub(now.duration_since(since)))
    }

    /// When [`Input::Timeout`] is wanted next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = |wan: &Wan| match (wan.link, wan.has_probes()) {
            (true, true) if !wan.asked => Some(wan.ask_at),
            (true, false) => Some(wan.well_since? + wan.patience),
            _ => None,
        };
        self.wans.iter().filter_map(next).min()
    }

    pub(super) fn handle(&mut self, input: Input, now: Instant, out: &mut Vec<Action>) {
        match input {
            Input::Link { wan, up } => self.link(wan, up, now, out),
            Input::Probed { wan, answered } => self.probed(wan, answered, now, out),
            Input::Doubted => {
                if let Some(active) = self.active {
                    // A miss is one however many bridges tell of it.
                    let asked_at = self.wans[active].asked_at;
                    let soon = asked_at.map_or(now, |at| now.max(at + AGAIN));
                    self.ask_soon(active, soon);
                }
            }
            Input::Timeout => {}
        }
        self.trust_links(now, out);
        self.choose(out);
        self.ask(now, out);
    }

    fn link(&mut self, at: usize, up: bool, now: Instant, out: &mut Vec<Action>) {
        let wan = &mut self.wans[at];
        if std::mem::replace(&mut wan.link, up) == up {
            return;
        }
        wan.stale = wan.asked;
        if up {
            wan.ask_at = now;
            // Where nothing is asked the link is all there is.
            if !wan.has_probes() && wan.health == Health::Fails {
                wan.well_since = Some(now);
            }
        } else if wan.health == Health::Unknown {
            wan.failures = 0;
        } else if wan.fail(now) {
            out.push(Action::Tell {
                wan: at,
                works: false,
            });
        }
    }

    fn probed(&mut self, at: usize, answered: bool, now: Instant, out: &mut Vec<Action>) {
        let (is_active, pause) = (self.active == Some(at), self.pause(at));
        let wan = &mut self.wans[at];
        wan.asked = false;
        if std::mem::take(&mut wan.stale) {
            wan.ask_at = now;
            return;
        }
        if answered {
            if wan.succeed(now) {
                out.push(Action::Tell { wan: at, works: true });
            }
            // When it has been well for long enough somebody looks.
            let trusted_at = wan.well_since.map(|since| since + wan.patience);
            wan.ask_at = trusted_at.map_or(now + pause, |at| at.min(now + pause));
            return;
        }
        wan.failures += 1;
        wan.well_since = None;
        let enough = wan.failures >= wan.settings.failures;
        wan.ask_at = now + AGAIN.min(wan.settings.interval);
        if enough {
            wan.ask_at = now + pause;
            if wan.fail(now) {
                out.push(Action::Tell {
                    wan: at,
                    works: false,
                });
            }
        }
        // The others may be wanted soon: what is known of them should be new.
        if is_active {
            for other in 0..self.wans.len() {
                let recent = AGAIN.max(self.wans[other].settings.interval);
                let asked_at = self.wans[other].asked_at;
                if other != at && asked_at.is_none_or(|asked| now.duration_since(asked) >= recent) {
                    self.ask_soon(other, now);
                }
            }
        }
    }

    /// Where nothing is asked a link is trusted when it has held.
    fn trust_links(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (at, wan) in self.wans.iter_mut().enumerate() {
            if wan.link && !wan.has_probes() && wan.succeed(now) {
                out.push(Action::Tell { wan: at, works: true });
            }
        }
    }

    fn choose(&mut self, out: &mut Vec<Action>) {
        let first = |is: fn(&Wan) -> bool| self.wans.iter().position(is);
        let active_if = |is: fn(&Wan) -> bool| self.active.filter(|active| is(&self.wans[*active]));
        // One that was never trusted takes no other's place before it has answered. Where none works the one that may is better than none, and what is there stays.
        let works = |at: usize| self.wans[at].link && self.wans[at].health == Health::Works;
        // What carries traffic again is not left for one that is wanted less.
        let carries = |wan: &Wan| wan.is_usable() || wan.is_on_probation();
        let stays = |at: usize| self.active == Some(at) && carries(&self.wans[at]);
        let chosen = (0..self.wans.len())
            .find(|at| works(*at) || stays(*at))
            .or_else(|| first(Wan::is_usable))
            .or_else(|| active_if(Wan::is_on_probation))
            .or_else(|| first(Wan::is_on_probation))
            .or_else(|| active_if(|wan| wan.link))
            .or_else(|| first(|wan| wan.link))
            .or(self.active);
        if chosen != self.active {
            self.active = chosen;
            out.extend(chosen.map(Action::Use));
            // Those behind it rest longer than those before it, which are wanted back.
            for at in 0..self.wans.len() {
                let pause = self.pause(at);
                let wan = &mut self.wans[at];
                if let Some(asked_at) = wan.asked_at {
                    wan.ask_at = wan.ask_at.min(asked_at + pause);
                }
            }
        }
    }

    /// How long until one is asked again that answered.
    fn pause(&self, at: usize) -> Duration {
        let settings = &self.wans[at].settings;
        match self.active {
            Some(active) if at > active => settings.standby_interval.max(settings.interval),
            _ => settings.interval,
        }
    }

    fn ask_soon(&mut self, at: usize, soon: Instant) {
        let wan = &mut self.wans[at];
        wan.ask_at = wan.ask_at.min(soon);
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (at, wan) in self.wans.iter_mut().enumerate() {
            if wan.link && wan.has_probes() && !wan.asked && wan.ask_at <= now {
                wan.asked = true;
                wan.asked_at = Some(now);
                out.push(Action::Probe(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A world of WANs whose links and far ends are switched, second by second.
    struct World {
        choice: Choice,
        now: Instant,
        start: Instant,
        links: Vec<bool>,
        /// What is behind them answers.
        answers: Vec<bool>,
        /// How often each was asked.
        asked: Vec<u32>,
        /// What was chosen, and after how many seconds.
        used: Vec<(u64, usize)>,
    }

    impl World {
        fn new(wans: &[WanSettings]) -> Self {
            let now = Instant::now();
            Self {
                choice: Choice::new(wans, now),
                now,
                start: now,
                links: vec![true; wans.len()],
                answers: vec![true; wans.len()],
                asked: vec![0; wans.len()],
                used: Vec::new(),
            }
        }

        fn tell(&mut self, input: Input) {
            let mut actions = Vec::new();
            self.choice.handle(input, self.now, &mut actions);
            for action in actions {
                match action {
                    Action::Probe(wan) => {
                        assert!(self.links[wan], "nothing is asked without a link");
                        self.asked[wan] += 1;
                        let answered = self.answers[wan];
                        self.tell(Input::Probed { wan, answered });
                    }
                    Action::Use(wan) => {
                        let seconds = self.now.duration_since(self.start).as_secs();
                        self.used.push((seconds, wan));
                    }
                    Action::Tell { .. } => {}
                }
            }
        }

        fn seconds(&mut self, seconds: u64) -> &mut Self {
            for _ in 0..seconds {
                for wan in 0..self.links.len() {
                    self.tell(Input::Link {
                        wan,
                        up: self.links[wan],
                    });
                }
                if self.choice.deadline().is_some_and(|at| at <= self.now) {
                    self.tell(Input::Timeout);
                }
                self.now += SECOND;
            }
            self
        }
    }

    fn wan(name: &str) -> WanSettings {
        WanSettings {
            name: name.to_owned(),
            interface: name.to_owned(),
            probe: vec!["cloud.plant:8883".to_owned()],
            interval: 10 * SECOND,
            standby_interval: 100 * SECOND,
            failures: 3,
            back_after: 60 * SECOND,
            ..WanSettings::default()
        }
    }

    fn two() -> World {
        World::new(&[wan("ethernet"), wan("cellular")])
    }

    #[test]
    fn the_first_that_works_is_the_way_out_and_a_dead_one_gives_way() {
        let mut world = two();
        world.seconds(100);
        assert_eq!(world.used, [(0, 0)]);
        // Behind the link nothing answers any more: 10 s until that is seen, and twice 3 until it is believed.
        world.answers[0] = false;
        world.seconds(30);
        assert_eq!(world.used, [(0, 0), (106, 1)]);
        assert_eq!(world.choice.health(0).0, Health::Fails);
    }

    #[test]
    fn what_comes_back_must_hold_and_longer_each_time_that_it_did_not() {
        let mut world = two();
        world.seconds(5);
        world.answers[0] = false;
        world.seconds(60);
        assert_eq!(world.choice.active(), Some(1));
        world.answers[0] = true;
        world.seconds(50);
        assert_eq!(world.choice.active(), Some(1), "not trusted yet");
        world.seconds(30);
        assert_eq!(world.choice.active(), Some(0), "all was well for a minute");
        // It fails again at once: now it must hold for two minutes.
        world.answers[0] = false;
        world.seconds(30);
        assert_eq!(world.choice.active(), Some(1));
        world.answers[0] = true;
        world.seconds(110);
        assert_eq!(world.choice.active(), Some(1));
        world.seconds(40);
        assert_eq!(world.choice.active(), Some(0));
        // One failure in between begins anew.
        world.answers[0] = false;
        world.seconds(30);
        world.answers[0] = true;
        world.seconds(200);
        world.answers[0] = false;
        world.seconds(12);
        world.answers[0] = true;
        world.seconds(200);
        assert_eq!(world.choice.active(), Some(1));
        world.seconds(60);
        assert_eq!(world.choice.active(), Some(0));
    }

    #[test]
    fn one_that_flaps_for_a_day_is_seldom_the_way_out() {
        let mut world = two();
        for _ in 0..480 {
            world.answers[0] = true;
            world.seconds(90);
            world.answers[0] = false;
            world.seconds(90);
        }
        // Half a minute less than it holds is what it must hold at first; after that, it never does.
        assert!(world.used.len() <= 5, "{:?}", world.used);
        assert_eq!(world.choice.active(), Some(1));
    }

    #[test]
    fn a_lost_link_counts_at_once() {
        let mut world = two();
        world.seconds(10);
        world.links[0] = false;
        world.seconds(2);
        assert_eq!(world.used, [(0, 0), (10, 1)]);
        world.links[0] = true;
        world.seconds(59);
        assert_eq!(world.choice.active(), Some(1));
        world.seconds(15);
        assert_eq!(world.choice.active(), Some(0));
    }

    #[test]
    fn where_nothing_is_asked_the_link_is_all_there_is() {
        let plain = |name: &str| WanSettings {
            probe: Vec::new(),
            ..wan(name)
        };
        let mut world = World::new(&[plain("ethernet"), plain("cellular")]);
        world.seconds(10);
        world.links[0] = false;
        world.seconds(10);
        world.links[0] = true;
        world.seconds(59);
        assert_eq!(world.used, [(0, 0), (10, 1)]);
        world.seconds(5);
        assert_eq!(world.used, [(0, 0), (10, 1), (80, 0)]);
        assert_eq!(world.asked, [0, 0]);
    }

    #[test]
    fn where_none_works_nothing_changes_until_one_answers() {
        let mut world = two();
        world.seconds(20);
        world.answers = vec![false, false];
        world.seconds(300);
        assert_eq!(
            world.choice.active(),
            Some(1),
            "it was taken for good until it was asked"
        );
        let before = world.used.len();
        world.seconds(600);
        assert_eq!(world.used.len(), before, "none is better than the other");
        // It need not hold: there is nothing better.
        world.answers[0] = true;
        world.seconds(11);
        assert_eq!(world.choice.active(), Some(0));
        // And it stays when the other answers, too.
        world.answers[1] = true;
        world.seconds(300);
        assert_eq!(world.used.len(), before + 1);
    }

    /// It carries traffic again, and would be left for one that is wanted less and was trusted a second before.
    #[test]
    fn where_all_failed_the_first_that_carries_again_is_not_left_for_a_later_one() {
        let mut world = two();
        // Each failed twice soon, so each must hold for longer; the first for longest.
        world.seconds(5);
        for _ in 0..2 {
            world.answers = vec![false, false];
            world.seconds(130);
            world.answers = vec![true, false];
            world.seconds(70);
        }
        world.answers = vec![false, false];
        world.seconds(130);
        world.answers = vec![true, true];
        let before = world.used.len();
        world.seconds(600);
        assert_eq!(world.choice.active(), Some(0));
        assert!(
            world.used[before..].iter().all(|(_, wan)| *wan == 0),
            "{:?}",
            world.used
        );
        // It misses one answer, and the other one is trusted.
        world.choice.wans[0].health = Health::Fails;
        world.choice.wans[0].well_since = Some(world.now);
        world.answers[0] = false;
        world.seconds(30);
        assert_eq!(world.choice.active(), Some(1));
    }

    #[test]
    fn at_the_start_the_first_is_taken_for_good_until_it_is_found_not_to_be() {
        let mut world = two();
        world.answers[0] = false;
        world.seconds(1);
        assert_eq!(
            world.used,
            [(0, 0), (0, 1)],
            "one silence is enough of one that never answered"
        );
        let mut world = two();
        world.links = vec![false, false];
        world.seconds(5);
        assert_eq!((world.choice.active(), &*world.asked), (None, &[0, 0][..]));
        world.links[1] = true;
        world.seconds(1);
        assert_eq!(world.choice.active(), Some(1));
    }

    /// At a start what is behind a WAN may come later than its link: its first answer is enough.
    #[test]
    fn one_that_was_never_trusted_need_not_hold() {
        let mut world = two();
        world.answers[0] = false;
        world.seconds(5);
        assert_eq!(world.used, [(0, 0), (0, 1)]);
        world.links[0] = false;
        world.seconds(1);
        world.links[0] = true;
        world.answers[0] = true;
        world.seconds(1);
        assert_eq!(world.choice.active(), Some(0));
        assert_eq!(world.choice.health(0), (Health::Works, false));
    }

    #[test]
    fn other_settings_leave_what_is_known() {
        let mut world = two();
        world.answers[0] = false;
        world.seconds(60);
        assert_eq!(world.choice.active(), Some(1));
        let mut changed = [wan("cellular"), wan("ethernet"), wan("wifi")];
        changed[0].standby_interval = 50 * SECOND;
        let choice = std::mem::replace(&mut world.choice, Choice::new(&[], world.now));
        world.choice = choice.with(&changed, world.now);
        assert_eq!(world.choice.active(), Some(0));
        assert_eq!(world.choice.health(1).0, Health::Fails);
        assert_eq!(world.choice.health(2).0, Health::Unknown);
        // By another interface it is another one.
        changed[0].interface = "wwan1".into();
        let choice = std::mem::replace(&mut world.choice, Choice::new(&[], world.now));
        world.choice = choice.with(&changed, world.now);
        assert_eq!(world.choice.active(), None);
        assert_eq!(world.choice.health(0).0, Health::Unknown);
    }

    /// What is behind is paid by the byte, perhaps: it is asked when it may be wanted.
    #[test]
    fn those_behind_the_way_out_are_asked_seldom_and_those_before_it_often() {
        let mut world = two();
        world.seconds(1_050);
        assert!(
            world.asked[0] >= 104 && (10..=11).contains(&world.asked[1]),
            "{:?}",
            world.asked
        );
        let before = world.asked[1];
        world.answers[0] = false;
        world.seconds(5);
        assert_eq!(world.asked[1], before + 1, "the way out is in doubt");
        world.seconds(1_000);
        assert!(world.asked[0] >= 203, "{:?}", world.asked);
    }

    #[test]
    fn a_bridge_that_lost_its_remote_makes_the_gateway_look() {
        let mut world = two();
        world.seconds(5);
        let before = world.asked[0];
        world.answers[0] = false;
        // However many bridges: misses are three seconds apart.
        for _ in 0..100 {
            world.tell(Input::Doubted);
        }
        assert_eq!((world.asked[0], world.choice.active()), (before + 1, Some(0)));
        world.answers[0] = true;
        world.seconds(60);
        assert_eq!(
            world.used.len(),
            1,
            "a broker that was started anew is no reason to change"
        );
        world.answers[0] = false;
        world.tell(Input::Doubted);
        world.seconds(12);
        assert_eq!(world.choice.active(), Some(1));
    }

    /// A cable into a dead switch is no reason to leave what works.
    #[test]
    fn one_whose_link_comes_later_is_asked_before_it_is_taken() {
        let mut world = two();
        (world.links[0], world.answers[0]) = (false, false);
        world.seconds(10);
        world.links[0] = true;
        world.seconds(30);
        assert_eq!(world.used, [(0, 1)]);
        world.answers[0] = true;
        world.seconds(80);
        assert_eq!(world.choice.active(), Some(0));
    }

    #[test]
    fn what_was_asked_before_a_link_was_lost_says_nothing() {
        let now = Instant::now();
        let mut choice = Choice::new(&[wan("ethernet"), wan("cellular")], now);
        let mut out = Vec::new();
        choice.handle(Input::Link { wan: 0, up: true }, now, &mut out);
        assert_eq!(out, [Action::Use(0), Action::Probe(0)]);
        choice.handle(Input::Link { wan: 0, up: false }, now, &mut out);
        choice.handle(Input::Link { wan: 0, up: true }, now, &mut out);
        out.clear();
        choice.handle(
            Input::Probed {
                wan: 0,
                answered: true,
            },
            now,
            &mut out,
        );
        assert_eq!(out, [Action::Probe(0)]);
        assert_eq!(choice.health(0).0, Health::Unknown);
    }
}
