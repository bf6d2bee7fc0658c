//! Which events are one session, and when it is over.
//!
//! `session/mod.rs` asks for each event and each session. Invariant: all follow from the gap, `max_length` and the clock
//! alone.

use super::Closed;
use super::slots::Node;
use super::slots::partials::Before;
use super::value::{Link, Session};
use crate::decode::time::TIME_MAX_MS;

/// What makes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// Longest silence inside a session, ms.
    pub gap_ms: i64,
    /// Two events exactly `gap_ms` apart are one session.
    pub inclusive: bool,
    /// How long past its end a session takes records, ms.
    pub allowed_lateness_ms: i64,
    /// The longest window, ms, not shorter than `gap_ms`: longer sessions are cut.
    pub max_length_ms: Option<i64>,
    /// Events before it are in no session, ms.
    pub min_start_ms: Option<i64>,
}

impl Gaps {
    /// The cell of `time_ms`; see `pieces.rs`.
    pub(super) fn cell(&self, time_ms: i64) -> i64 {
        self.max_length_ms.map_or(0, |length_ms| time_ms.div_euclid(length_ms))
    }

    /// `max_length` of a session that is longer.
    pub(super) fn cut(&self, start_ms: i64, last_ms: i64) -> Option<i64> {
        self.max_length_ms.filter(|length_ms| last_ms + self.gap_ms - start_ms > *length_ms)
    }

    /// The watermark from which on a session is to be looked at, and whether only its first piece is over then: where it
    /// is `alone`, pieces leave one by one.
    pub(super) fn due(&self, node: &Node, alone: bool) -> (i64, bool) {
        if alone { self.first_over_at(node) } else { (self.over_at(node.last_ms), false) }
    }

    /// The watermark from which on the first piece of a session is over, and whether others come after it.
    fn first_over_at(&self, node: &Node) -> (i64, bool) {
        let over_at = self.over_at(node.last_ms);
        let Some(length_ms) = self.cut(node.start_ms, node.last_ms) else { return (over_at, false) };
        let cut_ms = (node.cell + 1) * length_ms;
        if node.last_ms < cut_ms { (over_at, false) } else { (cut_ms - 1 + self.allowed_lateness_ms, true) }
    }

    /// For an event of the session `[start_ms, last_ms]`: the watermark from which on its piece is over, where
    /// the session is cut behind it.
    pub(super) fn piece_over_at(&self, time_ms: i64, (start_ms, last_ms): (i64, i64)) -> Option<i64> {
        let cut_ms = (self.cell(time_ms) + 1) * self.cut(start_ms, last_ms)?;
        (last_ms >= cut_ms).then_some(cut_ms - 1 + self.allowed_lateness_ms)
    }

    /// The watermark from which on a session whose last event was at `last_ms` is over.
    pub(super) const fn over_at(&self, last_ms: i64) -> i64 {
        last_ms + self.gap_ms - 1 + self.allowed_lateness_ms
    }

    /// The earliest last event of a session that is not over at `watermark_ms`.
    pub(super) const fn open_from(&self, watermark_ms: i64) -> i64 {
        watermark_ms.saturating_sub(self.gap_ms - 1 + self.allowed_lateness_ms).saturating_add(1)
    }

    /// Whether an event at `time_ms` is so far ahead of the clock that nothing it touches could be over: nothing is over
    /// earlier than a session that ended just within reach.
    pub(super) const fn ahead(&self, time_ms: i64, watermark_ms: i64) -> bool {
        self.over_at(time_ms - self.reach_ms()) > watermark_ms
    }

    /// Whether no piece that an event at `time_ms` may be in is over.
    pub(super) fn is_whole(&self, time_ms: i64, watermark_ms: i64) -> bool {
        self.max_length_ms.is_none_or(|length_ms| {
            let cut_ms = (self.cell(time_ms) + 1) * length_ms;
            cut_ms - 1 + self.allowed_lateness_ms > watermark_ms
        })
    }

    /// A session without its first piece, and that.
    pub(super) fn split_first(&self, mut whole: Closed) -> (Closed, Option<Closed>) {
        let first = whole.session.pieces.take_first().map(|pieces| {
            let cut_ms = self.max_length_ms.map_or(i64::MAX, |length_ms| (pieces.first_cell() + 1) * length_ms);
            let written = whole.session.written.as_mut().map(|written| Box::new(written.split_before(cut_ms)));
            let (start_ms, last_ms, changed) = (whole.session.start_ms, whole.session.last_ms, whole.session.changed);
            let before = Before::default();
            let session = Session { start_ms, last_ms, links: Vec::new(), pieces, changed, written, before };
            Closed { key: whole.key.clone(), session }
        });
        (whole, first)
    }

    /// Whether events can make such a session.
    pub(super) fn can_be(&self, session: &Session) -> bool {
        let (start_ms, last_ms) = (session.start_ms, session.last_ms);
        let is_within = |(first_ms, to_ms): (i64, i64)| start_ms <= first_ms && first_ms <= to_ms && to_ms <= last_ms;
        let cells: Vec<i64> = session.pieces.iter().map(|(cell, _)| cell).collect();
        let possible = self.cell(start_ms)..=self.cell(last_ms);
        (-TIME_MAX_MS..=TIME_MAX_MS).contains(&start_ms)
            && (-TIME_MAX_MS..=TIME_MAX_MS).contains(&last_ms)
            && session.links.iter().all(|link| is_within((link.first_ms, link.last_ms)))
            && cells.iter().all(|cell| possible.contains(cell))
            && cells.is_sorted_by(|left, right| left < right)
    }

    /// The furthest apart that two events of a session may be, ms.
    pub(super) const fn reach_ms(&self) -> i64 {
        if self.inclusive { self.gap_ms } else { self.gap_ms - 1 }
    }

    /// Whether events of two stretches of time belong together.
    pub(super) const fn touch(&self, left: (i64, i64), right: (i64, i64)) -> bool {
        left.0 - right.1 <= self.reach_ms() && right.0 - left.1 <= self.reach_ms()
    }

    /// Whether sessions of different lanes become one.
    pub(super) fn linked(&self, mut left: impl Iterator<Item = Link>, right: &[Link]) -> bool {
        let joins = |mine: &Link, other: &Link| {
            mine.lane != other.lane
                && self.touch((mine.first_ms, mine.last_ms), (other.first_ms, other.last_ms))
                && self.over_at(mine.last_ms) > other.clock_ms
                && self.over_at(other.last_ms) > mine.clock_ms
        };
        left.any(|mine| right.iter().any(|other| joins(&mine, other)))
    }

    /// The last piece of a session whose first cell is all that is left of it, as its row has it.
    pub(super) fn bounds(&self, node: &Node) -> (i64, i64) {
        let (start_ms, end_ms) = (node.start_ms, node.last_ms + self.gap_ms);
        self.cut(start_ms, node.last_ms).map_or((start_ms, end_ms), |length_ms| {
            let (from_ms, to_ms) = (node.cell * length_ms, (node.cell + 1) * length_ms);
            (start_ms.max(from_ms), end_ms.min(to_ms))
        })
    }
}
