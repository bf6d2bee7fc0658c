//! The plan cut into stages: the steps up to a window, and those behind it.
//!
//! `steps.rs` compiles them; `lane` runs the first stage and `stage` the others. Invariant: every stage but the last
//! ends in a window whose rows are final.

use super::{Output, Plan, Step};
use crate::error::Problem;
use crate::results::OutputType;
use crate::spec::PhaseSpec;
use crate::window::rows::ResultRows;
use crate::window::{WindowKind, WindowPlan};
use std::sync::Arc;

/// The steps behind a window, up to the next or to the end.
#[derive(Debug)]
pub struct StagePlan {
    /// The steps; a window can only be the last.
    pub steps: Vec<Step>,
    /// Its first step in the description, as `steps[2]`: what its rows are called where they leave as records.
    pub name: String,
    /// The columns that come in.
    pub input: Vec<(String, OutputType)>,
    /// What makes them.
    pub before: Before,
    /// For each column behind the last step the one that comes in whose lists it is.
    pub lists: Vec<Option<usize>>,
    /// Longest group key, bytes.
    pub key_bytes_max: usize,
    /// The last stage: its rows are the result.
    pub is_last: bool,
}

/// What stands before a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// A window.
    Window {
        /// The column of its end.
        end: usize,
        /// The column that counts the rows of one key and window.
        revision: usize,
        /// How long before its end the last instant in it is, ms: 0 for one that is closed at its end.
        open_end_ms: i64,
        /// How long after its last instant it fires, ms.
        behind_ms: i64,
    },
    /// A join, whose rows have times of their own.
    Join,
}

impl Before {
    /// How long after an instant its rows come, ms.
    #[must_use]
    pub const fn behind_ms(self) -> i64 {
        match self {
            Self::Window { behind_ms, .. } => behind_ms,
            Self::Join => 0,
        }
    }
}

impl StagePlan {
    /// The window it ends in.
    #[must_use]
    pub fn window(&self) -> Option<&Arc<WindowPlan>> {
        window_of(&self.steps)
    }

    /// None yet of the window it ends in.
    #[must_use]
    pub fn result_rows(&self) -> Option<ResultRows> {
        self.window().map(|plan| ResultRows::new(plan))
    }

    /// How long after the rows of an instant it is told of it, ms: a session that a row one gap later is to join must
    /// not be over when that row comes.
    #[must_use]
    pub fn lag_ms(&self) -> i64 {
        match self.window().map(|plan| &plan.kind) {
            Some(WindowKind::Session(gaps)) => i64::from(gaps.inclusive),
            _ => 0,
        }
    }

    /// How far a row's time is ahead of the watermark before it, ms, at most: rows come in the order of their times,
    /// and that watermark is the instant before, less what the window it ends in may ask for.
    pub const AHEAD_MAX_MS: i64 = 2;

    /// Whether a step remembers rows, so that none can be taken back.
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        self.steps.iter().any(Step::keeps_state)
    }
}

impl Plan {
    /// The first window.
    #[must_use]
    pub fn window(&self) -> Option<&Arc<WindowPlan>> {
        window_of(&self.own().steps)
    }

    /// No rows yet of the first window.
    #[must_use]
    pub fn result_rows(&self) -> Option<ResultRows> {
        self.window().map(|plan| ResultRows::new(plan))
    }

    /// The `dedupe` steps by name: input by input, then those behind.
    pub fn dedupe_names(&self) -> impl Iterator<Item = &str> {
        let of_inputs = self.inputs.iter().flat_map(|input| &input.steps);
        let steps = of_inputs.chain(self.stages.iter().flat_map(|stage| &stage.steps));
        steps.filter_map(|step| match step {
            Step::Dedupe { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// The window whose rows are the result, if they are.
    #[must_use]
    pub fn result_window(&self) -> Option<&Arc<WindowPlan>> {
        let window = self.stages.last().map_or_else(|| self.window(), StagePlan::window);
        window.filter(|_| matches!(self.output, Output::Windows(_)))
    }

    /// Whether lanes meet in this process, behind their windows or in a join.
    #[must_use]
    pub fn meets(&self) -> bool {
        self.combine && self.topic.is_none() || self.join.is_some() && !self.apart
    }

    /// Whether lanes hand over their windows through a topic.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.phase == Some(PhaseSpec::Partial)
    }

    /// Whether lanes are partitions of such a topic.
    #[must_use]
    pub fn merges(&self) -> bool {
        self.phase == Some(PhaseSpec::Final)
    }

    /// The stages that each lane runs by itself.
    #[must_use]
    pub fn lane_stages(&self) -> &[StagePlan] {
        if self.combine || self.join.is_some() { &[] } else { &self.stages }
    }

    /// The stages behind merged windows.
    #[must_use]
    pub fn combined_stages(&self) -> &[StagePlan] {
        if self.combine { &self.stages } else { &[] }
    }

    /// The stages behind a join.
    #[must_use]
    pub fn joined_stages(&self) -> &[StagePlan] {
        if self.join.is_some() { &self.stages } else { &[] }
    }
}

/// Where lanes meet, a session that is cut leaves all its parts when it is over: long after their ends, so a step that
/// goes by time would find them late.
pub fn check_parts(steps: &[Step], stages: &[StagePlan], problems: &mut Vec<Problem>) {
    let Some(WindowKind::Session(gaps)) = window_of(steps).map(|plan| &plan.kind) else { return };
    let counted = stages.first().filter(|stage| stage.keeps_state());
    if let (Some(_), Some(stage)) = (gaps.max_length_ms, counted) {
        let message = "the parts of a session that is cut leave together where lanes meet, and come late for this step";
        let hint =
            "leave max_length out of the session, or group by the record key (keyed_by), so that lanes need not meet";
        problems.push(Problem::new(&stage.name, message).hint(hint));
    }
}

fn window_of(steps: &[Step]) -> Option<&Arc<WindowPlan>> {
    match steps.last() {
        Some(Step::Window(window)) => Some(&window.plan),
        _ => None,
    }
}
