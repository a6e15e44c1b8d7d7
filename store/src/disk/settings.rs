//! How the store on disk works.

/// What a finished commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut.
    PowerLoss,
    /// A crash of the gateway, not of the machine.
    ProcessCrash,
}

/// How the store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// What a finished commit survives.
    pub durability: Durability,
    /// Bytes that it may have on the disk before [`has_room`](headgate_model::Store::has_room) says no; 0 for no limit but the disk's own.
    pub max_bytes: u64,
    /// Bytes of a segment of the journal; the frame that reaches them is its last.
    pub segment_bytes: u64,
    /// Bytes of journal between two checkpoints.
    pub checkpoint_bytes: u64,
    /// Bytes kept back on the disk, so that it can still delete when the disk is full.
    pub ballast_bytes: u64,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            durability: Durability::PowerLoss,
            max_bytes: 0,
            segment_bytes: 8 << 20,
            checkpoint_bytes: 32 << 20,
            ballast_bytes: 4 << 20,
        }
    }
}

impl DiskSettings {
    /// With segments and checkpoints that are small parts of a quota, for they are what it takes to get space back.
    pub(super) fn fitted(self) -> Self {
        let part = |bytes: u64, part: u64| match self.max_bytes {
            0 => bytes,
            max => bytes.min((max / part).max(LEAST_SEGMENT)),
        };
        Self {
            segment_bytes: part(self.segment_bytes, 16),
            checkpoint_bytes: part(self.checkpoint_bytes, 8),
            ..self
        }
    }
}

/// A quota does not make segments smaller than this.
const LEAST_SEGMENT: u64 = 64 << 10;
