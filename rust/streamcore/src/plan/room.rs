//! Which steps keep state, what an entry of theirs takes, and how many fit where rows are shed.
//!
//! `steps.rs` gives each its [`Room`]; `pipeline` names them in errors. What is shed must follow from a lane's records
//! alone, so each lane has the whole bound, and its steps have equal shares of it: what one holds cannot depend on what
//! another does. Invariant: the same description gives the same rooms.

use crate::batch::DataType;
use crate::dedupe::DedupePlan;
use crate::join::{Join, JoinPlan};
use crate::room::Room;
use crate::spec::{EmitSpec, OnFullSpec, Spec, StepSpec, WindowKindSpec, WindowSpec};
use crate::state::SLOT_BYTES;
use crate::window::aggregate::AggregatePlan;
use crate::window::{WindowKind, WindowPlan};
use std::fmt::{self, Display, Formatter};

/// Bytes of a count of rows written.
const REVISION_BYTES: u64 = 4;

/// What a step keeps state for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatefulKind {
    /// Ids that were seen.
    Dedupe,
    /// Aggregates of groups.
    Window,
    /// Rows of either side.
    Join,
}

impl Display for StatefulKind {
    /// Its verb in the description.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dedupe => "dedupe",
            Self::Window => "window",
            Self::Join => "join",
        })
    }
}

impl StatefulKind {
    const fn of(step: &StepSpec) -> Option<Self> {
        match step {
            StepSpec::Dedupe { .. } => Some(Self::Dedupe),
            StepSpec::Window(_) => Some(Self::Window),
            StepSpec::Join(_) => Some(Self::Join),
            StepSpec::Filter { .. } | StepSpec::Select { .. } | StepSpec::MapBatches { .. } => None,
        }
    }

    /// What a row can add to it.
    #[must_use]
    pub const fn entries(self) -> &'static str {
        match self {
            Self::Join => "rows",
            Self::Dedupe => "ids",
            Self::Window => "keys",
        }
    }
}

/// A step that keeps state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatefulStep {
    /// Its place in the description, as `steps[0]`.
    pub at: String,
    /// What it keeps.
    pub kind: StatefulKind,
}

impl Display for StatefulStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.at, self.kind)
    }
}

/// The steps that keep state, in the order rows meet them: those of an input that is joined before its join.
pub fn stateful_steps(spec: &Spec) -> Vec<StatefulStep> {
    let mut stateful = Vec::new();
    for (number, step) in spec.steps.iter().enumerate() {
        if let StepSpec::Join(join) = step {
            for input in spec.inputs.iter().filter(|input| input.name == join.input) {
                let of_input = input.steps.iter().enumerate();
                stateful.extend(of_input.filter_map(|(number, step)| {
                    let at = format!("sources.{}.steps[{number}]", input.name);
                    Some(StatefulStep { at, kind: StatefulKind::of(step)? })
                }));
            }
        }
        stateful.extend(StatefulKind::of(step).map(|kind| StatefulStep { at: format!("steps[{number}]"), kind }));
    }
    stateful
}

/// One step's share of the bytes of a lane, where rows are shed.
fn share(spec: &Spec) -> Option<u64> {
    let shed = spec.limits.on_full == OnFullSpec::Shed;
    shed.then(|| spec.limits.state_bytes_max / stateful_steps(spec).len().max(1) as u64)
}

/// The room of a `dedupe` step. `max_keys` is about groups.
pub fn dedupe_room(spec: &Spec, plan: &DedupePlan) -> Option<Room> {
    Some(Room { entries_max: None, bytes_max: share(spec)?, entry_bytes: plan.entry_bytes(), key_copies: 1 })
}

/// The room of a window step. `is_merged`: its windows are merged with those of other lanes elsewhere, so that a key is
/// in the lane, among those let in, and there.
pub fn window_room(spec: &Spec, window: &WindowSpec, plan: &WindowPlan, is_merged: bool) -> Option<Room> {
    let (mut entry_bytes, mut key_copies) = (plan.entry_bytes(), plan.key_copies());
    if is_merged {
        (entry_bytes, key_copies) = (2 * entry_bytes + SLOT_BYTES, 2 * key_copies + 1);
    }
    if matches!(&plan.kind, WindowKind::Aligned(windows) if windows.slicing().is_some_and(|(size_ms, slice_ms, _)| size_ms > slice_ms))
    {
        // Slices merged in blocks hold what they are of once more.
        (entry_bytes, key_copies) = (2 * entry_bytes, 2 * key_copies);
    }
    if matches!(plan.kind, WindowKind::Session(_)) {
        // Keys whose sessions are over stay until they are the majority.
        (entry_bytes, key_copies) = (2 * entry_bytes, 2 * key_copies);
    }
    let written = if window.emit == EmitSpec::Updates { windows_per_entry(&window.kind) } else { 0 };
    let changed = u64::from(window.emit_every_ms.is_some());
    entry_bytes += written * (SLOT_BYTES + REVISION_BYTES) + changed * SLOT_BYTES;
    // What values grow to is not known when their entry is made.
    let grow = !plan.aggregates.iter().all(AggregatePlan::is_of_one_size);
    let bytes_max = share(spec)? / if grow { 2 } else { 1 };
    let key_copies = key_copies + written + changed;
    Some(Room { entries_max: spec.limits.keys_max, bytes_max, entry_bytes, key_copies })
}

/// The room of either side of a join. Rows that have gone stay until they are the majority.
pub fn join_rooms(spec: &Spec, plan: &JoinPlan) -> [Option<Room>; 2] {
    let room = |types: &Vec<DataType>| {
        let entry_bytes = 2 * Join::row_bytes(types) as u64;
        Some(Room { entries_max: spec.limits.keys_max, bytes_max: share(spec)?, entry_bytes, key_copies: 2 })
    };
    plan.types.each_ref().map(room)
}

/// The windows that count an entry.
fn windows_per_entry(kind: &WindowKindSpec) -> u64 {
    match kind {
        WindowKindSpec::Hopping { size_ms, slide_ms, .. } => (size_ms / (*slide_ms).max(1) + 1).max(1) as u64,
        WindowKindSpec::Cumulate { size_ms, step_ms, .. } => (size_ms / (*step_ms).max(1)).max(1) as u64,
        WindowKindSpec::Session { .. } => 0,
        _ => 1,
    }
}
