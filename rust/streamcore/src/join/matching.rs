//! Which rows belong together at one moment of event time.
//!
//! `mod.rs` calls with the rows of both sides that are due at a time, in order of time; nothing is changed here, so
//! that the end of the input can be looked at without going there. Invariant: a pair is found at the later of its
//! two times, once.

use super::joined::Pair;
use super::keys::Entries;
use super::rows::RowId;
use super::{Join, JoinKind, JoinType, Side};
use std::cmp::Ordering;

/// Rows that are due at one time, in no order.
#[derive(Debug, Default)]
pub struct Due {
    pub left: Vec<RowId>,
    pub right: Vec<RowId>,
}

/// Partition and offset of a record.
type At = (i32, i64);

/// A pair with what it is sorted by.
struct Found {
    key: u32,
    /// Bytes of the key, as a number: where two differ, the keys are in the same order.
    word: u64,
    /// Where its records are.
    places: [Option<At>; 2],
    pair: Pair,
}

impl Found {
    fn pair(key: u32, left: (RowId, At), right: (RowId, At)) -> Self {
        let pair = Pair { left: Some(left.0), right: Some(right.0) };
        Self { key, word: 0, places: [Some(left.1), Some(right.1)], pair }
    }

    fn left(key: u32, (id, at): (RowId, At)) -> Self {
        Self { key, word: 0, places: [Some(at), None], pair: Pair { left: Some(id), right: None } }
    }

    fn right(key: u32, (id, at): (RowId, At)) -> Self {
        Self { key, word: 0, places: [None, Some(at)], pair: Pair { left: None, right: Some(id) } }
    }
}

impl Join {
    /// The rows that leave at `time_ms`: by key, then by partition and offset of their records, the left side first. A row
    /// without a partner comes before those with one.
    pub(super) fn matches(&self, time_ms: i64, due: &Due) -> Vec<Pair> {
        let mut found: Vec<Found> = Vec::with_capacity(due.left.len() + due.right.len());
        self.fetch_partners(due);
        match self.plan.kind {
            JoinKind::Interval { from_ms, to_ms } => self.interval(time_ms, due, (from_ms, to_ms), &mut found),
            JoinKind::Window { .. } => self.interval(time_ms, due, (0, 0), &mut found),
            JoinKind::AsOf { tolerance_ms } => self.as_of(time_ms, due, tolerance_ms, &mut found),
            JoinKind::Table { .. } => self.as_of(time_ms, due, None, &mut found),
        }
        self.tell_words(&mut found);
        found.sort_unstable_by(|one, other| {
            let by_key = || self.keys.bytes(one.key).cmp(self.keys.bytes(other.key));
            let order = one.word.cmp(&other.word);
            let order = order.then_with(|| if one.key == other.key { Ordering::Equal } else { by_key() });
            order.then_with(|| one.places.cmp(&other.places))
        });
        found.into_iter().map(|found| found.pair).collect()
    }

    /// Notes of each key what comes behind the bytes that all of them begin with: with many rows of one moment, as a
    /// window has them, most are told apart by it, without a look at keys far away.
    fn tell_words(&self, found: &mut [Found]) {
        let Some(first) = found.first().map(|found| self.keys.bytes(found.key)) else { return };
        let mut common = first.len();
        for found in &*found {
            let same = first[..common].iter().zip(self.keys.bytes(found.key)).take_while(|(one, other)| one == other);
            common = same.count();
        }
        for found in found {
            let (mut word, rest) = ([0; 8], &self.keys.bytes(found.key)[common..]);
            let len = rest.len().min(word.len());
            word[..len].copy_from_slice(&rest[..len]);
            found.word = u64::from_be_bytes(word);
        }
    }

    /// Has the rows fetched that those of `due` may belong together with.
    fn fetch_partners(&self, due: &Due) {
        let of_side = |side: Side, ids: &[RowId]| -> Vec<u32> {
            ids.iter().map(|id| self.rows[side as usize].head(*id).key).collect()
        };
        let keys = [of_side(Side::Left, &due.left), of_side(Side::Right, &due.right)];
        keys.iter().flatten().for_each(|slot| self.keys.fetch_slot(*slot));
        keys[0].iter().for_each(|slot| self.keys.fetch_entries(*slot, Side::Right));
        keys[1].iter().for_each(|slot| self.keys.fetch_entries(*slot, Side::Left));
    }

    /// Right rows from `t + from` to `t + to` for a left row of time `t`.
    fn interval(&self, time_ms: i64, due: &Due, (from_ms, to_ms): (i64, i64), found: &mut Vec<Found>) {
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
                        found.push(Found::pair(head.key, (*left, head.at), (entry.id, entry.at)));
                    }
                }
            }
            if alone && self.plan.how != JoinType::Inner {
                found.push(Found::left(head.key, (*left, head.at)));
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
                        found.push(Found::pair(head.key, (entry.id, entry.at), (*right, head.at)));
                    }
                }
            }
            if alone && self.plan.how == JoinType::Outer {
                found.push(Found::right(head.key, (*right, head.at)));
            }
        }
    }

    /// The latest right row not after `time_ms`.
    fn as_of(&self, time_ms: i64, due: &Due, tolerance_ms: Option<i64>, found: &mut Vec<Found>) {
        for left in &due.left {
            let head = self.rows[0].head(*left);
            let entries = self.keys.entries(head.key, Side::Right);
            let latest = entries.partition_point(|entry| entry.time_ms <= time_ms).checked_sub(1);
            let right = latest.filter(|_| !head.has_null_key).and_then(|latest| {
                let entry = entries[latest];
                let is_near =
                    tolerance_ms.is_none_or(|tolerance_ms| entry.time_ms >= time_ms.saturating_sub(tolerance_ms));
                (is_near && !self.rows[1].head(entry.id).is_delete).then_some((entry.id, entry.at))
            });
            match right {
                Some(right) => found.push(Found::pair(head.key, (*left, head.at), right)),
                None if self.plan.how != JoinType::Inner => found.push(Found::left(head.key, (*left, head.at))),
                None => {}
            }
        }
    }
}

/// Entries with a time from `first_ms` to `last_ms`.
fn between(entries: &Entries, first_ms: i64, last_ms: i64) -> impl Iterator<Item = super::keys::Entry> {
    let start = entries.partition_point(|entry| entry.time_ms < first_ms);
    entries.range(start..).copied().take_while(move |entry| entry.time_ms <= last_ms)
}
