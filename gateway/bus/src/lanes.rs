//! The part of a session's queue that is in the store alone.
//!
//! Whatever waits for a client that is away, or too slow, stays there; memory holds a beginning of it. A queue is one lane for each priority.
//! Always true: what a lane holds comes behind everything of its priority that is in memory, and has numbers from [`Lane::from`] on.

use crate::gauges::{Gauges, Load};
use headgate_model::Instant;
use headgate_model::store::LaneImage;

/// Nothing that expires.
pub(crate) const NO_EXPIRY: Instant = Instant(u64::MAX);

/// One priority's part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub priority: u8,
    load: Load,
    /// No entry of the lane has a lower number.
    pub from: u64,
    /// The batch that makes its last entry durable.
    pub batch: u64,
    /// The fetch that is under way, and what was put behind since it was asked for.
    pub asked: Option<u64>,
    pub added: Load,
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

impl Lane {
    /// How many it holds.
    pub(crate) fn len(&self) -> usize {
        self.load.entries
    }
}

impl Lanes {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn load(&self) -> Load {
        let mut load = Load::default();
        self.iter().for_each(|lane| load += lane.load);
        load
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

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.as_deref_mut().into_iter().flatten()
    }

    /// Whether what has this priority must wait behind a lane.
    pub(crate) fn precede(&self, priority: u8) -> bool {
        self.iter().next().is_some_and(|lane| lane.priority >= priority)
    }

    pub(crate) fn get(&self, priority: u8) -> Option<&Lane> {
        self.iter().find(|lane| lane.priority == priority)
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
        gauges: &mut Gauges,
    ) {
        let lane = self.lane(priority, seq);
        lane.expires = lane.expires.min(expires.unwrap_or(NO_EXPIRY));
        lane.from = lane.from.min(seq);
        lane.batch = lane.batch.max(batch);
        lane.load.add(bytes);
        lane.added.add(bytes);
        gauges.lanes.add(bytes);
    }

    /// A lane as the store has it.
    pub(crate) fn restore(&mut self, image: LaneImage, gauges: &mut Gauges) {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let lane = self.lane(image.lane, 0);
        lane.load = Load {
            entries: number(image.count),
            bytes: number(image.bytes),
        };
        lane.expires = Instant::START;
        gauges.lanes += lane.load;
    }

    /// Puts an entry back in front of the others of its priority. What was asked for does not count any more.
    pub(crate) fn put_back(
        &mut self,
        priority: u8,
        seq: u64,
        bytes: usize,
        batch: u64,
        expires: Option<Instant>,
        gauges: &mut Gauges,
    ) {
        self.push(priority, seq, bytes, batch, expires, gauges);
        self.lane(priority, seq).asked = None;
    }

    /// The oldest entry of a lane was dropped. What it counted for is not known: the average is taken.
    pub(crate) fn drop_one(&mut self, priority: u8, gauges: &mut Gauges) -> usize {
        let Some(lane) = self.get(priority) else {
            return 0;
        };
        let bytes = lane.load.bytes / lane.load.entries.max(1);
        self.take(priority, Load { entries: 1, bytes }, gauges);
        bytes
    }

    /// Entries left the lane; an empty one goes.
    pub(crate) fn take(&mut self, priority: u8, gone: Load, gauges: &mut Gauges) {
        if let Some(lane) = self.get(priority) {
            let left = Load {
                entries: lane.load.entries.saturating_sub(gone.entries),
                bytes: lane.load.bytes.saturating_sub(gone.bytes),
            };
            self.set(priority, left, gauges);
        }
    }

    /// A lane holds so much; an empty one goes.
    pub(crate) fn set(&mut self, priority: u8, load: Load, gauges: &mut Gauges) {
        let Some(lanes) = &mut self.0 else { return };
        if let Some(at) = lanes.iter().position(|lane| lane.priority == priority) {
            let before = std::mem::replace(&mut lanes[at].load, load);
            gauges.lanes.change(before, load);
            if load.entries == 0 {
                gauges.lanes.bytes -= load.bytes;
                lanes.remove(at);
            }
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

    fn lane(&mut self, priority: u8, seq: u64) -> &mut Lane {
        let lanes = self.0.get_or_insert_default();
        let at = lanes.partition_point(|lane| lane.priority > priority);
        if lanes.get(at).is_none_or(|lane| lane.priority != priority) {
            let lane = Lane {
                priority,
                load: Load::default(),
                from: seq,
                batch: 0,
                asked: None,
                added: Load::default(),
                added_from: 0,
                expires: NO_EXPIRY,
                sweeping: None,
            };
            lanes.insert(at, lane);
        }
        &mut lanes[at]
    }
}
