//! What the machine knows of each lane it owns.
//!
//! Before it: assignments, manifests, sealed epochs. After it: `recovery` and `commit`, which move lanes between stages.
//! Invariant: a lane is fed only while [`Stage::Live`], and then `kept` is what a rollback of it leads to.

use super::event::{Lane, Manifest};
use std::collections::BTreeMap;

/// How far a lane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The group's offsets are to be fetched.
    Offsets,
    /// The state partition is to be read, or read on.
    Reading,
    /// What was chosen is being put in place.
    Restoring,
    /// It may be fed, and belongs to the epoch.
    Live,
}

/// One lane.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    /// Where it stands.
    pub(super) stage: Stage,
    /// The epoch that memory goes back to by a rollback; none: memory holds nothing of it.
    pub(super) kept: Option<Manifest>,
    /// The epoch that was sealed on top of it and is not known to be committed.
    pub(super) sealed: Option<Manifest>,
    /// What the group had when it was last asked.
    pub(super) group: Vec<Option<i64>>,
    /// How often the state was read again because the group was ahead of it.
    pub(super) rereads: u32,
    /// When recovery began.
    pub(super) since_ms: u64,
    /// What the next epochs are written under, after a repair more than the manifest says.
    pub(super) repaired: Option<u64>,
}

impl Owned {
    /// A lane that has just come.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            stage: Stage::Offsets,
            kept: None,
            sealed: None,
            group: Vec::new(),
            rereads: 0,
            since_ms: now_ms,
            repaired: None,
        }
    }

    /// Its last committed epoch is to be found out again.
    pub(super) fn recover(&mut self, now_ms: u64) {
        self.stage = Stage::Offsets;
        self.rereads = 0;
        self.since_ms = now_ms;
    }
}

/// Whether a lane is none of the input, but where those of the input meet: what they share is its state.
pub(super) const fn is_meeting(lane: Lane) -> bool {
    lane < 0
}

/// All lanes of the worker.
pub(super) type Lanes = BTreeMap<Lane, Owned>;

/// Those in one stage, in order.
pub(super) fn in_stage(lanes: &Lanes, stage: Stage) -> Vec<Lane> {
    lanes.iter().filter(|(_, owned)| owned.stage == stage).map(|(lane, _)| *lane).collect()
}
