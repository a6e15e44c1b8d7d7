//! What is known of a bridge from outside: written by its endpoint and whoever connects it, read by those who watch.

use crate::reasons::{DeadReason, DropReason, EndReason};
use headgate_model::{DeliveryId, Instant, Qos, TopicFilter};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// How often in a row a message may be refused without a good reason, or be the first when the remote hangs up.
pub(crate) const MAX_DOUBTFUL: u32 = 5;

/// Texts of refused subscriptions that are kept; more are counted only.
const MAX_REFUSED: usize = 100;
/// Dead letters that are listed; the oldest gives way. All of them are on the dead letter topic.
const MAX_DEAD_LETTERS: usize = 100;
const MAX_TOPIC_CHARS: usize = 200;
/// What is kept of what went wrong: a remote may say 64 KiB about it.
const MAX_ERROR_CHARS: usize = 500;

/// What a bridge does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BridgeState {
    /// Nothing, for nothing is wanted: no message is there to carry, or it is not the time.
    #[default]
    Idle,
    /// It waits before it tries again.
    BackingOff,
    /// The clock is not set, and certificates cannot be judged without.
    WaitingForTime,
    /// An operator stopped it.
    Paused,
    /// A connection is being made.
    Connecting,
    /// The remote has answered what it was asked on this connection.
    Connected,
    /// It is connected, and the remote acknowledges nothing.
    Stalled,
}

impl BridgeState {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::BackingOff,
        Self::WaitingForTime,
        Self::Paused,
        Self::Connecting,
        Self::Connected,
        Self::Stalled,
    ];

    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::BackingOff => "backing_off",
            Self::WaitingForTime => "waiting_for_time",
            Self::Paused => "paused",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Stalled => "stalled",
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Later than anything: nothing was acknowledged yet.
const NOT_YET: u64 = u64::MAX;

/// The state of one bridge over all its connections. Shared; see the module's documentation.
#[derive(Debug)]
pub struct BridgeStatus {
    state: AtomicU8,
    since: AtomicU64,
    /// Messages sent to the remote, each time.
    pub sent: Counter,
    /// Of those, the ones sent with DUP.
    pub sent_again: Counter,
    /// Batches sent, each time. Their messages are counted in `sent`.
    pub batches: Counter,
    /// Messages that the remote has taken over: PUBACK, PUBCOMP.
    pub acknowledged: Counter,
    /// Messages that came from the remote.
    pub received: Counter,
    in_flight: AtomicU64,
    last_acknowledged: AtomicU64,
    dead_letters: [Counter; DeadReason::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
    private: AtomicU8,
    texts: Mutex<Texts>,
    observer: Observer,
}

/// See [`BridgeStatus::observe`].
#[derive(Default)]
struct Observer(OnceLock<Box<dyn Fn(BridgeState, BridgeState) + Send + Sync>>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

#[derive(Debug, Default)]
struct Texts {
    remote: String,
    way_out: Option<String>,
    last_error: String,
    /// Addresses that failed since it was connected, and why.
    failures: BTreeMap<String, String>,
    next_try: Option<Instant>,
    end: Option<EndReason>,
    refused_subscriptions: Vec<String>,
    /// The remote whose session holds subscriptions of ours, and which.
    subscribed: Option<(String, Vec<(TopicFilter, Qos)>)>,
    /// The remote is to send what it retains with the next SUBSCRIBE, whatever its session holds.
    wants_retained: bool,
    dead_letters: VecDeque<DeadLetter>,
    /// The delivery that the remote refused last without a good reason, and how often in a row.
    doubtful: Option<(DeliveryId, u32)>,
    /// The delivery that was the first when the remote hung up without having acknowledged anything, and how often in a row.
    suspect: Option<(DeliveryId, u32)>,
}

/// A message that the remote will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its topic here; a very long one is cut.
    pub topic: String,
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// Why.
    pub reason: DeadReason,
}

/// What is known of the remote and bit 0x80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Private {
    /// It may take it.
    Try,
    /// With it the remote hung up without a word: perhaps without it does not.
    Doubt,
    /// It does not take it.
    Refused,
}

impl Default for BridgeStatus {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(BridgeState::default() as u8),
            since: AtomicU64::new(0),
            sent: Counter::default(),
            sent_again: Counter::default(),
            batches: Counter::default(),
            acknowledged: Counter::default(),
            received: Counter::default(),
            in_flight: AtomicU64::new(0),
            last_acknowledged: AtomicU64::new(NOT_YET),
            dead_letters: Default::default(),
            dropped: Default::default(),
            private: AtomicU8::new(Private::Try as u8),
            texts: Mutex::default(),
            observer: Observer::default(),
        }
    }
}

impl BridgeStatus {
    /// What it does, and since when.
    pub fn state(&self) -> (BridgeState, Instant) {
        let number = usize::from(self.state.load(Ordering::Relaxed));
        let since = self.since.load(Ordering::Relaxed);
        (BridgeState::ALL[number], Instant(since))
    }

    /// Says what it does from now on. Who is connected has no error any more.
    pub fn set_state(&self, state: BridgeState, now: Instant) {
        let before = BridgeState::ALL[usize::from(self.state.swap(state as u8, Ordering::Relaxed))];
        if before == state {
            return;
        }
        self.since.store(now.0, Ordering::Relaxed);
        if state == BridgeState::Connected {
            let mut texts = self.texts();
            texts.last_error.clear();
            texts.failures.clear();
        }
        if let Some(observer) = self.observer.0.get() {
            observer(before, state);
        }
    }

    /// Who is told of each change of the state, with what it was before. There is one at most: a second is not taken.
    pub fn observe(&self, observer: impl Fn(BridgeState, BridgeState) + Send + Sync + 'static) {
        let _ = self.observer.0.set(Box::new(observer));
    }

    /// Where the remote is, for operators and for the session's peer name.
    pub fn remote(&self) -> String {
        self.texts().remote.clone()
    }

    /// Says where the remote is that is connected to.
    pub fn set_remote(&self, remote: &str) {
        remote.clone_into(&mut self.texts().remote);
    }

    /// The name of the WAN that the connection leaves by; `None` where none was chosen, or there is no connection.
    pub fn way_out(&self) -> Option<String> {
        self.texts().way_out.clone()
    }

    /// Says which WAN the connection leaves by.
    pub fn set_way_out(&self, name: Option<&str>) {
        self.texts().way_out = name.map(str::to_owned);
    }

    /// What went wrong last; empty when nothing did, or when it has been connected since.
    pub fn last_error(&self) -> String {
        self.texts().last_error.clone()
    }

    /// Says what went wrong; very long words are cut.
    pub fn set_error(&self, error: &str) {
        self.texts().last_error = shortened(error);
    }

    /// Says what went wrong at one of its addresses.
    pub fn set_failure(&self, address: &str, error: &str) {
        let error = shortened(error);
        let mut texts = self.texts();
        texts.last_error.clone_from(&error);
        texts.failures.insert(address.to_owned(), error);
    }

    /// What went wrong at which of its addresses since it was connected.
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.texts().failures.clone()
    }

    /// Says when it tries again.
    pub fn set_next_try(&self, at: Option<Instant>) {
        self.texts().next_try = at;
    }

    /// When it tries again, if it waits for that.
    pub fn next_try(&self) -> Option<Instant> {
        self.texts().next_try
    }

    /// Why the connection ended, once; `None` while it is there.
    pub fn take_end(&self) -> Option<EndReason> {
        self.texts().end.take()
    }

    /// Filters that the remote refused or granted less for, with what it said: on this connection, the first of them.
    pub fn refused_subscriptions(&self) -> Vec<String> {
        self.texts().refused_subscriptions.clone()
    }

    /// QoS 1 and 2 messages that the remote has yet to acknowledge.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// When the remote acknowledged something for the last time.
    pub fn last_acknowledged(&self) -> Option<Instant> {
        let at = self.last_acknowledged.load(Ordering::Relaxed);
        (at != NOT_YET).then_some(Instant(at))
    }

    /// Messages that became dead letters.
    pub fn dead_letters(&self, reason: DeadReason) -> u64 {
        self.dead_letters[reason as usize].get()
    }

    /// The last dead letters, oldest first.
    pub fn dead_letter_list(&self) -> Vec<DeadLetter> {
        self.texts().dead_letters.iter().cloned().collect()
    }

    /// Messages that were dropped.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].get()
    }

    /// Whether the next connection is to use bit 0x80, if the operator wants it.
    pub fn may_be_private(&self) -> bool {
        self.private.load(Ordering::Relaxed) == Private::Try as u8
    }

    pub(crate) fn private_refused(&self) {
        self.private.store(Private::Refused as u8, Ordering::Relaxed);
    }

    /// The remote hung up before CONNACK, as some do at a protocol level that they do not know: the bit and its absence take turns.
    pub(crate) fn private_doubted(&self) {
        let next = match self.may_be_private() {
            true => Private::Doubt,
            false => Private::Try,
        };
        let settled = self.private.load(Ordering::Relaxed) == Private::Refused as u8;
        if !settled {
            self.private.store(next as u8, Ordering::Relaxed);
        }
    }

    /// The remote let us in: without the bit that it hung up at, if it did.
    pub(crate) fn private_settled(&self) {
        if self.private.load(Ordering::Relaxed) == Private::Doubt as u8 {
            self.private_refused();
        }
    }

    pub(crate) fn note_dead_letter(&self, topic: &str, payload_bytes: usize, reason: DeadReason) {
        self.dead_letters[reason as usize].add();
        let list = &mut self.texts().dead_letters;
        if list.len() == MAX_DEAD_LETTERS {
            list.pop_front();
        }
        list.push_back(DeadLetter {
            topic: topic.chars().take(MAX_TOPIC_CHARS).collect(),
            payload_bytes,
            reason,
        });
    }

    pub(crate) fn count_sent(&self, again: bool) {
        self.sent.add();
        if again {
            self.sent_again.add();
        }
    }

    pub(crate) fn count_drop(&self, reason: DropReason) {
        self.dropped[reason as usize].add();
    }

    pub(crate) fn set_in_flight(&self, n: usize) {
        self.in_flight.store(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged_at(&self, now: Instant) {
        self.last_acknowledged.store(now.0, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self) {
        let mut texts = self.texts();
        texts.end = None;
        texts.refused_subscriptions.clear();
    }

    /// Whether the session that this remote keeps holds these subscriptions and no others.
    pub(crate) fn is_subscribed(&self, remote: &str, filters: &[(TopicFilter, Qos)]) -> bool {
        let texts = self.texts();
        let held = texts.subscribed.as_ref();
        held.is_some_and(|(at, held)| at == remote && held == filters)
    }

    /// What the remote's session holds is not known any more, until the remote has answered.
    pub(crate) fn forget_subscribed(&self) {
        self.texts().subscribed = None;
    }

    pub(crate) fn wants_retained(&self) -> bool {
        self.texts().wants_retained
    }

    pub(crate) fn set_wants_retained(&self, wants: bool) {
        self.texts().wants_retained = wants;
    }

    /// The remote that is connected to granted all of these.
    pub(crate) fn set_subscribed(&self, filters: Vec<(TopicFilter, Qos)>) {
        let mut texts = self.texts();
        let all = texts.refused_subscriptions.is_empty();
        texts.subscribed = all.then(|| (texts.remote.clone(), filters));
    }

    pub(crate) fn end(&self, reason: EndReason) {
        self.set_in_flight(0);
        let mut texts = self.texts();
        if reason != EndReason::Asked {
            texts.last_error = reason.to_string();
        }
        texts.end = Some(reason);
    }

    pub(crate) fn refuse_subscription(&self, text: String) {
        let refused = &mut self.texts().refused_subscriptions;
        if refused.len() < MAX_REFUSED {
            refused.push(text);
        }
    }

    /// How often in a row the remote refused this delivery, this time included.
    pub(crate) fn refused_again(&self, id: DeliveryId) -> u32 {
        once_more(&mut self.texts().doubtful, id)
    }

    /// The remote hung up before it acknowledged anything, and this was sent first.
    pub(crate) fn suspect(&self, id: DeliveryId) {
        once_more(&mut self.texts().suspect, id);
    }

    pub(crate) fn clear_suspect(&self) {
        self.texts().suspect = None;
    }

    /// Whether the remote may have hung up at the first delivery, or refused it among others.
    pub(crate) fn suspects(&self) -> bool {
        self.texts().suspect.is_some()
    }

    /// Whether the first delivery shall go alone.
    pub(crate) fn is_suspicious(&self) -> bool {
        self.texts()
            .suspect
            .is_some_and(|(_, times)| times >= MAX_DOUBTFUL)
    }

    /// The delivery that the remote hung up at even when it was alone.
    pub(crate) fn poison(&self) -> Option<DeliveryId> {
        let suspect = self.texts().suspect;
        suspect
            .filter(|(_, times)| *times > MAX_DOUBTFUL)
            .map(|(id, _)| id)
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shortened(error: &str) -> String {
    match error.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}

/// Counts how often in a row it was this delivery.
fn once_more(last: &mut Option<(DeliveryId, u32)>, id: DeliveryId) -> u32 {
    let times = match *last {
        Some((known, times)) if known == id => times + 1,
        _ => 1,
    };
    *last = Some((id, times));
    times
}
