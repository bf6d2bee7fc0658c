//! What a join does, and what follows from it for single rows.
//!
//! `mod.rs` asks how a row is timed, how far the clocks must be for it to leave, and how long it is needed then.
//! Invariant: all of it depends on the plan and the row alone.

use super::table::DELETE_KEPT_MS;
use crate::batch::DataType;
use crate::group::key::KeyCodec;

/// One of the two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The pipeline's own rows.
    Left = 0,
    /// Those of the other input.
    Right = 1,
}

/// Which rows belong together, beside their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// `left time + from <= right time <= left time + to`, both ends included, ms.
    Interval {
        /// Often negative: how far back the right row may lie.
        from_ms: i64,
        /// How far ahead.
        to_ms: i64,
    },
    /// Both times lie in one tumbling window.
    Window {
        /// Length, ms.
        size_ms: i64,
        /// Shift of the alignment from the epoch, ms.
        offset_ms: i64,
    },
    /// The latest right row with `right time <= left time`.
    AsOf {
        /// How far back it may lie, ms; `None`: any distance.
        tolerance_ms: Option<i64>,
    },
    /// The right side is a table: a row replaces the one of its key, a delete removes it.
    Table {
        /// The table as of the left row's time; otherwise as it is when the left row comes.
        versioned: bool,
    },
}

/// Which rows leave without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    /// None.
    Inner,
    /// Those of the left side.
    Left,
    /// Those of both.
    Outer,
}

/// What a join does, fixed for a pipeline's life.
#[derive(Debug)]
pub struct JoinPlan {
    /// Which rows belong together.
    pub kind: JoinKind,
    /// Which leave alone.
    pub how: JoinType,
    /// The key's columns, of the same types on both sides. A null equals nothing.
    pub key: KeyCodec,
    /// Types of the columns carried along, left and right.
    pub types: [Vec<DataType>; 2],
    /// How far behind its input's watermark a row may be, ms.
    pub allowed_lateness_ms: i64,
}

impl JoinPlan {
    /// What is wrong with the plan, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let outer = self.how == JoinType::Outer;
        match self.kind {
            JoinKind::Interval { from_ms, to_ms } if from_ms > to_ms => {
                Some("the interval is empty: it ends before it begins")
            }
            JoinKind::Window { size_ms, .. } if size_ms <= 0 => Some("the window has no length"),
            JoinKind::AsOf { .. } if outer => Some("an as-of join is inner or left"),
            JoinKind::AsOf { tolerance_ms: Some(..0) } => Some("the tolerance is negative"),
            JoinKind::Table { .. } if outer => Some("a join with a table is inner or left"),
            _ if self.allowed_lateness_ms < 0 => Some("the allowed lateness is negative"),
            _ => None,
        }
    }

    /// True when rows wait for the clock; otherwise a left row is looked up when it comes.
    #[must_use]
    pub const fn waits(&self) -> bool {
        !matches!(self.kind, JoinKind::Table { versioned: false })
    }

    /// Length of the window that both rows are in, ms; 0 for other joins.
    #[must_use]
    pub const fn window_ms(&self) -> i64 {
        match self.kind {
            JoinKind::Window { size_ms, .. } => size_ms,
            _ => 0,
        }
    }

    /// Whether a row of `side` without a partner leaves.
    pub(super) fn keeps_alone(&self, side: Side) -> bool {
        match side {
            Side::Left => self.how != JoinType::Inner,
            Side::Right => self.how == JoinType::Outer,
        }
    }

    /// The time a row is joined at: its own, or that of its whole window.
    pub(super) fn join_time_ms(&self, event_time_ms: i64) -> i64 {
        let JoinKind::Window { size_ms, offset_ms } = self.kind else { return event_time_ms };
        let into = event_time_ms.wrapping_sub(offset_ms).rem_euclid(size_ms);
        event_time_ms.saturating_add(size_ms - into - 1)
    }

    /// How far the watermark of `side` must be past a time for everything that leaves at that time to be known.
    pub(super) fn margin_ms(&self, side: Side) -> i64 {
        let JoinKind::Interval { from_ms, to_ms } = self.kind else { return 0 };
        match side {
            Side::Right if self.how != JoinType::Inner => to_ms.max(0),
            Side::Left if self.how == JoinType::Outer => from_ms.saturating_neg().max(0),
            _ => 0,
        }
    }

    /// The watermark of each side that lets everything leave up to `time_ms`; none: rows do not wait for that side.
    #[must_use]
    pub fn asked_ms(&self, time_ms: i64) -> [Option<i64>; 2] {
        if !self.waits() {
            return [Some(time_ms), None];
        }
        let asked = |side| time_ms.saturating_add(self.allowed_lateness_ms).saturating_add(self.margin_ms(side));
        [Side::Left, Side::Right].map(|side| Some(asked(side)))
    }

    /// How long after its time a row of `side` is held at most, by its own lane's clock, ms; none: it is not held, or as
    /// long as it is the latest of its key.
    #[must_use]
    pub fn held_ms(&self, side: Side) -> Option<i64> {
        let needed_ms = self.needed_until_ms(side, 0, false).filter(|_| self.waits())?;
        Some(needed_ms.saturating_add(self.allowed_lateness_ms).saturating_add(self.margin_ms(side)))
    }

    /// The join's clock from which on a row of `side` that has left is not needed; `None`: as long as it is the latest.
    pub(super) fn needed_until_ms(&self, side: Side, time_ms: i64, is_delete: bool) -> Option<i64> {
        match (self.kind, side) {
            (JoinKind::Interval { to_ms, .. }, Side::Left) => Some(time_ms.saturating_add(to_ms.max(0))),
            (JoinKind::Interval { from_ms, .. }, Side::Right) => Some(time_ms.saturating_sub(from_ms.min(0))),
            (JoinKind::Window { .. }, _) | (_, Side::Left) => Some(time_ms),
            (JoinKind::AsOf { tolerance_ms }, Side::Right) => tolerance_ms.map(|it| time_ms.saturating_add(it)),
            (JoinKind::Table { .. }, Side::Right) => is_delete.then(|| time_ms.saturating_add(DELETE_KEPT_MS)),
        }
    }
}
