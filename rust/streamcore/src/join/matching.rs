//! Which rows belong together at one moment of event time.
//!
//! `mod.rs` calls with the rows of both sides that are due at a time, in order of time; nothing is changed here, so
//! that the end of the input can be looked at without going there. Invariant: a pair is found at the later of its
//! two times, once.

use super::joined::Pair;
use super::keys::Entries;
use super::rows::RowId;
use super::{Join, JoinKind, JoinType, Side};

/// Rows that are due at one time, rising.
#[derive(Debug, Default)]
pub struct Due {
    pub left: Vec<RowId>,
    pub right: Vec<RowId>,
}

impl Join {
    /// The rows that leave at `time_ms`: by key, then by partition and offset of their records, the left side first. A row
    /// without a partner comes before those with one.
    pub(super) fn matches(&self, time_ms: i64, due: &Due) -> Vec<Pair> {
        let mut found: Vec<(u32, Pair)> = Vec::new();
        match self.plan.kind {
            JoinKind::Interval { from_ms, to_ms } => self.interval(time_ms, due, (from_ms, to_ms), &mut found),
            JoinKind::Window { .. } => self.interval(time_ms, due, (0, 0), &mut found),
            JoinKind::AsOf { tolerance_ms } => self.as_of(time_ms, due, tolerance_ms, &mut found),
            JoinKind::Table { .. } => self.as_of(time_ms, due, None, &mut found),
        }
        found.sort_unstable_by(|(one_key, one), (other_key, other)| {
            let by_key = || self.keys.bytes(*one_key).cmp(self.keys.bytes(*other_key));
            let order = if one_key == other_key { std::cmp::Ordering::Equal } else { by_key() };
            order.then_with(|| self.places(one).cmp(&self.places(other)))
        });
        found.into_iter().map(|(_, pair)| pair).collect()
    }

    /// Where the records of a pair are.
    fn places(&self, pair: &Pair) -> [Option<(i32, i64)>; 2] {
        [pair.left.map(|id| self.rows[0].head(id).at), pair.right.map(|id| self.rows[1].head(id).at)]
    }

    /// Right rows from `t + from` to `t + to` for a left row of time `t`.
    fn interval(&self, time_ms: i64, due: &Due, (from_ms, to_ms): (i64, i64), found: &mut Vec<(u32, Pair)>) {
        for left in &due.left {
            let head = self.rows[0].head(*left);
            let (first_ms, last_ms) = (time_ms.saturating_add(from_ms), time_ms.saturating_add(to_ms));
            let mut alone = true;
            if !head.has_null_key {
                let entries = self.keys.entries(head.key, Side::Right);
                for entry in between(entries, first_ms, last_ms) {
                    alone = false;
                    // A later one finds this row when its own time has come.
                    if entry.time_ms <= time_ms {
                        found.push((head.key, Pair { left: Some(*left), right: Some(entry.id) }));
                    }
                }
            }
            if alone && self.plan.how != JoinType::Inner {
                found.push((head.key, Pair { left: Some(*left), right: None }));
            }
        }
        for right in &due.right {
            let head = self.rows[1].head(*right);
            let (first_ms, last_ms) = (time_ms.saturating_sub(to_ms), time_ms.saturating_sub(from_ms));
            let mut alone = true;
            if !head.has_null_key {
                let entries = self.keys.entries(head.key, Side::Left);
                for entry in between(entries, first_ms, last_ms) {
                    alone = false;
                    if entry.time_ms < time_ms {
                        found.push((head.key, Pair { left: Some(entry.id), right: Some(*right) }));
                    }
                }
            }
            if alone && self.plan.how == JoinType::Outer {
                found.push((head.key, Pair { left: None, right: Some(*right) }));
            }
        }
    }

    /// The latest right row not after `time_ms`.
    fn as_of(&self, time_ms: i64, due: &Due, tolerance_ms: Option<i64>, found: &mut Vec<(u32, Pair)>) {
        for left in &due.left {
            let head = self.rows[0].head(*left);
            let entries = self.keys.entries(head.key, Side::Right);
            let latest = entries.partition_point(|entry| entry.time_ms <= time_ms).checked_sub(1);
            let right = latest.filter(|_| !head.has_null_key).and_then(|latest| {
                let entry = entries[latest];
                let is_near =
                    tolerance_ms.is_none_or(|tolerance_ms| entry.time_ms >= time_ms.saturating_sub(tolerance_ms));
                (is_near && !self.rows[1].head(entry.id).is_delete).then_some(entry.id)
            });
            if right.is_some() || self.plan.how != JoinType::Inner {
                found.push((head.key, Pair { left: Some(*left), right }));
            }
        }
    }
}

/// Entries with a time from `first_ms` to `last_ms`.
fn between(entries: &Entries, first_ms: i64, last_ms: i64) -> impl Iterator<Item = super::keys::Entry> {
    let start = entries.partition_point(|entry| entry.time_ms < first_ms);
    entries.range(start..).copied().take_while(move |entry| entry.time_ms <= last_ms)
}
