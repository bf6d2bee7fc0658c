//! Which rows belong together at one moment of event time.
//!
//! `firing.rs` calls with the rows of both sides that are due at a time, in order of time, and takes the pairs one after
//! the other; nothing of the join is changed here, so that the end of the input can be looked at without going there. All
//! rows of a key, a side and a time have the same partners: what leaves of a key is two products, never multiplied out.
//! Invariant: a pair is found at the later of its two times, once.

use super::joined::{Joined, Pair};
use super::rows::RowId;
use super::{Join, JoinKind, Side};
use std::cmp::Ordering;

/// Partition and offset of a record.
type At = (i32, i64);

/// A row that is due and leaves now, alone or with others, with what it is sorted by.
#[derive(Debug)]
struct Leaving {
    /// Bytes of the key, as a number: where two differ, the keys are in the same order.
    word: u64,
    key: u32,
    is_right: bool,
    has_null_key: bool,
    /// With which rows, as [`Join::partners`] says.
    partners: Option<(u32, u32)>,
    /// Where its record is.
    at: At,
    id: RowId,
}

/// What leaves at one time, and how far that is.
#[derive(Debug, Default)]
pub struct Moment {
    /// The time, ms.
    pub time_ms: i64,
    /// All rows that are due, left and right, in no order; some leave with a later one, or never.
    pub due: [Vec<RowId>; 2],
    /// Rows given so far.
    pub given: u64,
    /// Those of `due` that leave: by key, the left side first, then by partition and offset.
    leaving: Vec<Leaving>,
    /// The first of `leaving` whose key's turn has not come.
    next: usize,
    /// Rows were freed since it began, so that partners are to be looked for anew.
    is_resumed: bool,
    /// What leaves of the key whose turn it is.
    pairs: Pairs,
}

/// What leaves of one key at a moment: each left row with each row of one of two lists.
#[derive(Debug, Default)]
struct Pairs {
    /// Left rows, rising, `None` for none; with each, which of `rights` it leaves with.
    lefts: Vec<(Option<(At, RowId)>, usize)>,
    /// Right rows, rising, `None` for none: those that left rows which are due leave with, and those that are due.
    rights: [Vec<(At, Option<RowId>)>; 2],
    /// Place of the next pair in `lefts`, and of its right row in its list.
    at: (usize, usize),
}

impl Moment {
    /// Keeps it for the next piece.
    pub fn kept(mut self) -> Self {
        self.is_resumed = true;
        self
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        let ids: usize = self.due.iter().map(Vec::capacity).sum();
        ids * size_of::<RowId>() + self.leaving.capacity() * size_of::<Leaving>() + self.pairs.byte_len()
    }
}

impl Pairs {
    fn clear(&mut self) {
        self.lefts.clear();
        self.rights.iter_mut().for_each(Vec::clear);
        self.at = (0, 0);
    }

    /// The next pair, if there is one.
    fn peek(&mut self) -> Option<Pair> {
        while let Some((left, rights)) = self.lefts.get(self.at.0) {
            if let Some((_, right)) = self.rights[*rights].get(self.at.1) {
                return Some(Pair { left: left.map(|(_, id)| id), right: *right });
            }
            self.at = (self.at.0 + 1, 0);
        }
        None
    }

    /// Passes over the first `count` pairs, or all. Gives how many are to be passed over still.
    fn skip(&mut self, mut count: u64) -> u64 {
        while let Some((_, rights)) = self.lefts.get(self.at.0) {
            let here = self.rights[*rights].len() as u64;
            if count < here {
                self.at.1 = count as usize;
                return 0;
            }
            count -= here;
            self.at.0 += 1;
        }
        count
    }

    fn byte_len(&self) -> usize {
        let rights: usize = self.rights.iter().map(Vec::capacity).sum();
        self.lefts.capacity() * size_of::<(Option<(At, RowId)>, usize)>() + rights * size_of::<(At, Option<RowId>)>()
    }
}

impl Join {
    /// Begins `moment`, whose rows are due at `time_ms` and of which `given` have left before. Rows leave by key, then by
    /// partition and offset of their records, the left side first; one without a partner before those with one.
    pub(super) fn line_up(&self, time_ms: i64, given: u64, moment: &mut Moment) {
        (moment.time_ms, moment.given, moment.next, moment.is_resumed) = (time_ms, given, 0, false);
        moment.pairs.clear();
        moment.leaving.clear();
        self.fetch_partners(&moment.due);
        self.add_leaving(Side::Left, time_ms, &moment.due[0], &mut moment.leaving);
        if matches!(self.plan.kind, JoinKind::Interval { .. } | JoinKind::Window { .. }) {
            self.add_leaving(Side::Right, time_ms, &moment.due[1], &mut moment.leaving);
        }
        self.sort(&mut moment.leaving);
        let mut before = given;
        while before > 0 && self.next_key(moment) {
            before = moment.pairs.skip(before);
        }
    }

    /// Gives rows of `moment` until `out` has `len_max`: true when there are more.
    pub(super) fn give(&self, moment: &mut Moment, len_max: usize, out: &mut Joined) -> bool {
        loop {
            while let Some(pair) = moment.pairs.peek() {
                if out.is_full(len_max) {
                    return true;
                }
                out.push(moment.time_ms, pair, &self.rows);
                moment.pairs.at.1 += 1;
                moment.given += 1;
            }
            if !self.next_key(moment) {
                return false;
            }
        }
    }

    /// Adds those of `ids`, rows of `side`, that leave.
    fn add_leaving(&self, side: Side, time_ms: i64, ids: &[RowId], leaving: &mut Vec<Leaving>) {
        for id in ids {
            let head = self.rows[side as usize].head(*id);
            let partners = self.partners(side, head.key, head.has_null_key, time_ms);
            let leaves = partners.map_or_else(|| self.plan.keeps_alone(side), |(start, end)| start < end);
            if leaves {
                leaving.push(Leaving {
                    word: 0,
                    key: head.key,
                    is_right: side == Side::Right,
                    has_null_key: head.has_null_key,
                    partners,
                    at: head.at,
                    id: *id,
                });
            }
        }
    }

    fn sort(&self, leaving: &mut [Leaving]) {
        self.tell_words(leaving);
        leaving.sort_unstable_by(|one, other| {
            let by_key = || self.keys.bytes(one.key).cmp(self.keys.bytes(other.key));
            let order = one.word.cmp(&other.word);
            let order = order.then_with(|| if one.key == other.key { Ordering::Equal } else { by_key() });
            order.then_with(|| (one.is_right, one.at, one.id).cmp(&(other.is_right, other.at, other.id)))
        });
    }

    /// Notes of each key what comes behind the bytes that all of them begin with: with many rows of one moment, as a
    /// window has them, most are told apart by it, without a look at keys far away.
    fn tell_words(&self, leaving: &mut [Leaving]) {
        let [first, _, ..] = leaving else { return };
        let first = self.keys.bytes(first.key);
        let mut common = first.len();
        for row in &*leaving {
            let same = first[..common].iter().zip(self.keys.bytes(row.key)).take_while(|(one, other)| one == other);
            common = same.count();
        }
        for row in leaving {
            let (mut word, rest) = ([0; 8], &self.keys.bytes(row.key)[common..]);
            let len = rest.len().min(word.len());
            word[..len].copy_from_slice(&rest[..len]);
            row.word = u64::from_be_bytes(word);
        }
    }

    /// Has the rows fetched that those of `due` may belong together with.
    fn fetch_partners(&self, due: &[Vec<RowId>; 2]) {
        let keys = [Side::Left, Side::Right].map(|side| -> Vec<u32> {
            due[side as usize].iter().map(|id| self.rows[side as usize].head(*id).key).collect()
        });
        keys.iter().flatten().for_each(|slot| self.keys.fetch_slot(*slot));
        keys[0].iter().for_each(|slot| self.keys.fetch_entries(*slot, Side::Right));
        keys[1].iter().for_each(|slot| self.keys.fetch_entries(*slot, Side::Left));
    }

    /// Lines up what leaves of the next key; false: there is none.
    fn next_key(&self, moment: &mut Moment) -> bool {
        let rest = &moment.leaving[moment.next..];
        let Some(first) = rest.first() else { return false };
        let count = rest.iter().take_while(|row| row.key == first.key).count();
        let (left, right) = rest[..count].split_at(rest[..count].partition_point(|row| !row.is_right));
        let pairs = &mut moment.pairs;
        let partners = |side, row: &Leaving| {
            if moment.is_resumed {
                return self.partners(side, row.key, row.has_null_key, moment.time_ms);
            }
            row.partners
        };
        pairs.clear();
        if let Some(first) = left.first() {
            match partners(Side::Left, first) {
                Some((start, end)) => {
                    let partners = self.keys.entries(first.key, Side::Right).range(start as usize..end as usize);
                    pairs.rights[0].extend(partners.map(|entry| (entry.at, Some(entry.id))));
                    pairs.rights[0].sort_unstable();
                }
                None => pairs.rights[0].push(((0, 0), None)),
            }
            pairs.lefts.extend(left.iter().map(|row| (Some((row.at, row.id)), 0)));
        }
        if let Some(first) = right.first() {
            match partners(Side::Right, first) {
                Some((start, end)) => {
                    let partners = self.keys.entries(first.key, Side::Left).range(start as usize..end as usize);
                    pairs.lefts.extend(partners.map(|entry| (Some((entry.at, entry.id)), 1)));
                }
                None => pairs.lefts.push((None, 1)),
            }
            pairs.rights[1].extend(right.iter().map(|row| (row.at, Some(row.id))));
            pairs.lefts.sort_unstable();
        }
        moment.next += count;
        true
    }

    /// Those rows of the other side that a row of `side` due at `time_ms` leaves with, by their place among the ones of
    /// its key: the first, and the one after the last. None: it has no partner, not at another time either.
    fn partners(&self, side: Side, key: u32, has_null_key: bool, time_ms: i64) -> Option<(u32, u32)> {
        if has_null_key {
            return None;
        }
        match self.plan.kind {
            JoinKind::Interval { from_ms, to_ms } => self.in_interval(side, key, time_ms, (from_ms, to_ms)),
            JoinKind::Window { .. } => self.in_interval(side, key, time_ms, (0, 0)),
            JoinKind::AsOf { tolerance_ms } => self.as_of(key, time_ms, tolerance_ms),
            JoinKind::Table { .. } => self.as_of(key, time_ms, None),
        }
    }

    /// Right rows from `t + from` to `t + to` for a left row of time `t`, and the left rows of which a right one is such.
    fn in_interval(&self, side: Side, key: u32, time_ms: i64, (from_ms, to_ms): (i64, i64)) -> Option<(u32, u32)> {
        let (other, first_ms, last_ms) = match side {
            Side::Left => (Side::Right, time_ms.saturating_add(from_ms), time_ms.saturating_add(to_ms)),
            Side::Right => (Side::Left, time_ms.saturating_sub(to_ms), time_ms.saturating_sub(from_ms)),
        };
        let entries = self.keys.entries(key, other);
        let start = entries.partition_point(|entry| entry.time_ms < first_ms);
        entries.get(start).filter(|entry| entry.time_ms <= last_ms)?;
        // A later one finds this row when its own time has come, and of two at once the left one the right one.
        let is_now = |at_ms: i64| at_ms < time_ms || at_ms == time_ms && side == Side::Left;
        let end = entries.partition_point(|entry| entry.time_ms <= last_ms && is_now(entry.time_ms));
        Some((start as u32, end.max(start) as u32))
    }

    /// The latest right row not after `time_ms`.
    fn as_of(&self, key: u32, time_ms: i64, tolerance_ms: Option<i64>) -> Option<(u32, u32)> {
        let entries = self.keys.entries(key, Side::Right);
        let latest = entries.partition_point(|entry| entry.time_ms <= time_ms).checked_sub(1)?;
        let entry = entries[latest];
        let is_near = tolerance_ms.is_none_or(|tolerance_ms| entry.time_ms >= time_ms.saturating_sub(tolerance_ms));
        (is_near && !self.rows[1].head(entry.id).is_delete).then_some((latest as u32, latest as u32 + 1))
    }
}
