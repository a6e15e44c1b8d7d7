//! The part of a session's queue that is in the store alone.
//!
//! Whatever waits for a client that is away, or too slow, stays there; memory holds a beginning of it. A queue is one lane for each priority.
//! Always true: what a lane holds comes behind everything of its priority that is in memory, and has numbers from [`Lane::from`] on.

use headgate_model::Instant;
use headgate_model::store::LaneImage;

/// Nothing that expires.
pub(crate) const NO_EXPIRY: Instant = Instant(u64::MAX);

/// One priority's part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub priority: u8,
    pub count: usize,
    pub bytes: usize,
    /// No entry of the lane has a lower number.
    pub from: u64,
    /// The batch that makes its last entry durable.
    pub batch: u64,
    /// The fetch that is under way, and what was put behind since it was asked for.
    pub asked: Option<u64>,
    pub added: (usize, usize),
    /// The lowest number that what is put behind has. The fetch may find it too, if it was committed with what was asked for.
    pub added_from: u64,
    /// Nothing that it holds expires earlier; of what an earlier run left nothing is known.
    pub expires: Instant,
    /// It is being read for what has expired: which reading, and the earliest expiry of what stays so far.
    pub sweeping: Option<(u64, Instant)>,
}

/// The lanes of a session that hold something, highest priority first. Boxed at the first: most sessions have none.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Option<Box<Vec<Lane>>>);

impl Lanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn count(&self) -> usize {
        self.iter().map(|lane| lane.count).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(|lane| lane.bytes).sum()
    }

    /// The lane that goes first.
    pub(crate) fn first_mut(&mut self) -> Option<&mut Lane> {
        self.0.as_deref_mut()?.first_mut()
    }

    pub(crate) fn last(&self) -> Option<&Lane> {
        self.0.as_deref()?.last()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.as_deref().into_iter().flatten()
    }

    /// Whether what has this priority must wait behind a lane.
    pub(crate) fn precede(&self, priority: u8) -> bool {
        self.iter().next().is_some_and(|lane| lane.priority >= priority)
    }

    pub(crate) fn get_mut(&mut self, priority: u8) -> Option<&mut Lane> {
        self.iter_mut().find(|lane| lane.priority == priority)
    }

    /// Puts an entry behind the others of its priority.
    pub(crate) fn push(
        &mut self,
        priority: u8,
        seq: u64,
        bytes: usize,
        batch: u64,
        expires: Option<Instant>,
    ) {
        let lane = self.lane(priority, seq);
        lane.expires = lane.expires.min(expires.unwrap_or(NO_EXPIRY));
        lane.from = lane.from.min(seq);
        lane.count += 1;
        lane.bytes += bytes;
        lane.batch = lane.batch.max(batch);
        lane.added.0 += 1;
        lane.added.1 += bytes;
    }

    /// A lane as the store has it.
    pub(crate) fn load(&mut self, image: LaneImage) {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let lane = self.lane(image.lane, 0);
        (lane.count, lane.bytes) = (count(image.count), count(image.bytes));
        lane.expires = Instant::START;
    }

    /// Puts an entry back in front of the others of its priority. What was asked for does not count any more.
    pub(crate) fn put_back(
        &mut self,
        priority: u8,
        seq: u64,
        bytes: usize,
        batch: u64,
        expires: Option<Instant>,
    ) {
        self.push(priority, seq, bytes, batch, expires);
        self.lane(priority, seq).asked = None;
    }

    /// The oldest entry of a lane was dropped. What it counted for is not known: the average is taken.
    pub(crate) fn drop_one(&mut self, priority: u8) -> usize {
        let Some(lane) = self.get_mut(priority) else {
            return 0;
        };
        let bytes = lane.bytes / lane.count.max(1);
        self.take(priority, 1, bytes);
        bytes
    }

    /// Entries left the lane; an empty one goes.
    pub(crate) fn take(&mut self, priority: u8, count: usize, bytes: usize) {
        if let Some(lane) = self.get_mut(priority) {
            lane.count = lane.count.saturating_sub(count);
            lane.bytes = lane.bytes.saturating_sub(bytes);
        }
        if let Some(lanes) = &mut self.0 {
            lanes.retain(|lane| lane.count > 0);
        }
        self.0 = self.0.take().filter(|lanes| !lanes.is_empty());
    }

    /// What was asked for does not come any more.
    pub(crate) fn forget_asked(&mut self) {
        for lane in self.iter_mut() {
            lane.asked = None;
            if lane.sweeping.take().is_some() {
                lane.expires = Instant::START;
            }
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.as_deref_mut().into_iter().flatten()
    }

    fn lane(&mut self, priority: u8, seq: u64) -> &mut Lane {
        let lanes = self.0.get_or_insert_default();
        let at = lanes.partition_point(|lane| lane.priority > priority);
        if lanes.get(at).is_none_or(|lane| lane.priority != priority) {
            let lane = Lane {
                priority,
                count: 0,
                bytes: 0,
                from: seq,
                batch: 0,
                asked: None,
                added: (0, 0),
                added_from: 0,
                expires: NO_EXPIRY,
                sweeping: None,
            };
            lanes.insert(at, lane);
        }
        &mut lanes[at]
    }
}
