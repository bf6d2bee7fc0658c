//! How rows leave a join: moment by moment of event time, in pieces.
//!
//! `mod.rs` holds what is buffered, `matching.rs` lines up what leaves at a moment. A piece may end inside a moment: how
//! many of its rows have left is state then, and what is lined up is kept only for speed. A moment that is finished is
//! settled: rows that nothing needs any more go. Invariant: which rows leave, and their order, do not depend on the
//! pieces.

use super::joined::Joined;
use super::keys::Entry;
use super::matching::Moment;
use super::pending::Pending;
use super::rows::RowId;
use super::{Join, JoinKind, SIDES, Side};

/// A moment of which some rows have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The time, ms.
    pub time_ms: i64,
    /// How many have left.
    pub rows: u64,
}

impl Cursor {
    const fn of(moment: &Moment) -> Self {
        Self { time_ms: moment.time_ms, rows: moment.given }
    }
}

/// How far the end of the input has been given.
#[derive(Debug, Default)]
pub struct Ending {
    /// The moment whose turn it is; none: it has not begun.
    cursor: Option<Cursor>,
    /// Rows of later moments, the earliest last: time, side and place. None: to be gathered.
    waiting: Option<Vec<(i64, Side, RowId)>>,
    /// The moment itself, if rows of it have been given.
    moment: Option<Moment>,
}

impl Ending {
    /// Forgets where rows lie, and stays where it stands.
    pub fn forget_places(&mut self) {
        (self.waiting, self.moment) = (None, None);
    }
}

impl Join {
    /// Lets everything leave that both watermarks have passed; an idle input's is [`i64::MAX`]. After `rows_max` rows
    /// of this call it stops, be it inside a moment of event time: true when it did, and must be called again before
    /// more is applied.
    pub fn fire(&mut self, left_ms: i64, right_ms: i64, rows_max: usize, out: &mut Joined) -> bool {
        if !self.plan.waits() {
            return false;
        }
        let until_ms = self.known_until_ms(left_ms, right_ms);
        let (len_max, mut superseded) = (out.len().saturating_add(rows_max.max(1)), Vec::new());
        let mut is_begun = self.moment.is_some();
        let mut moment = self.moment.take().unwrap_or_default();
        let more = loop {
            if !is_begun {
                // One that is begun is known to the end, wherever the watermarks stand now.
                let is_known = |time_ms: &i64| *time_ms <= until_ms || self.cursor.is_some();
                let Some(time_ms) = self.next_ms().filter(is_known) else { break false };
                if out.is_full(len_max) {
                    break true;
                }
                self.begin(time_ms, &mut moment);
                is_begun = true;
            }
            if self.give(&mut moment, len_max, out) {
                break true;
            }
            self.settle(&moment, &mut superseded);
            (self.clock_ms, self.cursor) = (moment.time_ms, None);
            is_begun = false;
        };
        if is_begun {
            (self.cursor, self.moment) = (Some(Cursor::of(&moment)), Some(moment.kept()));
        }
        if !more {
            self.clock_ms = self.clock_ms.max(until_ms);
        }
        out.copy(&self.rows);
        self.free(&superseded);
        more
    }

    /// The time up to which all rows are known.
    fn known_until_ms(&self, left_ms: i64, right_ms: i64) -> i64 {
        let known = |watermark_ms: i64, side| {
            watermark_ms.saturating_sub(self.plan.allowed_lateness_ms).saturating_sub(self.plan.margin_ms(side))
        };
        known(left_ms, Side::Left).min(known(right_ms, Side::Right))
    }

    /// The time of the earliest row whose moment has not begun.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.pending.iter().filter_map(Pending::next_ms).min()
    }

    /// Takes the rows of the earliest moment, and lines up those that did not leave yet.
    fn begin(&mut self, time_ms: i64, moment: &mut Moment) {
        self.ending = Ending::default();
        SIDES.into_iter().for_each(|side| self.pending[side as usize].take(time_ms, &mut moment.due[side as usize]));
        self.line_up(time_ms, self.cursor.map_or(0, |cursor| cursor.rows), moment);
    }

    /// Notes how long the rows that were due are needed, and which others no longer are.
    fn settle(&mut self, moment: &Moment, superseded: &mut Vec<Entry>) {
        for side in SIDES {
            for id in &moment.due[side as usize] {
                let head = self.rows[side as usize].head(*id);
                let entry = Entry::new(&head, *id);
                if self.plan.needed_until_ms(side, moment.time_ms, head.is_delete).is_some() {
                    self.departed[side as usize].push_back(entry);
                }
                if side == Side::Right && self.looks_back() {
                    // The one before it; those before that have gone with it.
                    let entries = self.keys.entries(head.key, side);
                    let place = entries.partition_point(|other| *other < entry);
                    superseded.extend(place.checked_sub(1).map(|place| entries[place]));
                }
            }
        }
    }

    /// True when of the right rows of a key only the latest counts.
    fn looks_back(&self) -> bool {
        matches!(self.plan.kind, JoinKind::AsOf { .. } | JoinKind::Table { .. })
    }

    /// Frees rows that nothing can need any more.
    fn free(&mut self, superseded: &[Entry]) {
        superseded.iter().for_each(|entry| self.free_row(Side::Right, *entry));
        for side in SIDES {
            while let Some(entry) = self.departed[side as usize].front().copied() {
                self.fetch_departed(side);
                let alive = self.rows[side as usize].is_alive(entry.id);
                let is_delete = alive && self.rows[side as usize].head(entry.id).is_delete;
                let until_ms = self.plan.needed_until_ms(side, entry.time_ms, is_delete);
                if alive && until_ms.is_none_or(|until_ms| until_ms > self.clock_ms) {
                    break;
                }
                self.departed[side as usize].pop_front();
                if alive {
                    self.free_row(side, entry);
                }
            }
        }
        self.keys.forget_new();
    }

    /// Has the keys of rows fetched that are soon the first of those that left.
    fn fetch_departed(&self, side: Side) {
        let key = |place: usize| {
            let entry = self.departed[side as usize].get(place)?;
            self.rows[side as usize].is_alive(entry.id).then(|| self.rows[side as usize].head(entry.id).key)
        };
        if let Some(slot) = key(16) {
            self.keys.fetch_slot(slot);
        }
        if let Some(slot) = key(8) {
            self.keys.fetch_entries(slot, side);
        }
    }

    pub(super) fn free_row(&mut self, side: Side, entry: Entry) {
        let key = self.rows[side as usize].head(entry.id).key;
        self.keys.remove(key, side, entry);
        self.rows[side as usize].free(entry.id);
    }

    /// Gives what is left at the end of the input; nothing else changes: a later run goes on where this one stood. After
    /// `rows_max` rows of this call it stops: true when it did, and goes on there when it is called again. Where it
    /// stands is in memory only: rows that come or leave, and an epoch taken back, have it start anew.
    pub fn end(&mut self, rows_max: usize, out: &mut Joined) -> bool {
        let len_max = out.len().saturating_add(rows_max.max(1));
        let mut ending = std::mem::take(&mut self.ending);
        let from = ending.cursor.or(self.cursor);
        let mut waiting = ending.waiting.take().unwrap_or_else(|| self.waiting(from));
        let mut is_begun = ending.moment.is_some();
        let mut moment = ending.moment.take().unwrap_or_default();
        let more = loop {
            if !is_begun {
                let Some((time_ms, ..)) = waiting.last().copied() else { break false };
                if out.is_full(len_max) {
                    ending.cursor = Some(Cursor { time_ms, rows: 0 });
                    break true;
                }
                moment.due.iter_mut().for_each(Vec::clear);
                while let Some((_, side, id)) = waiting.pop_if(|(at_ms, ..)| *at_ms == time_ms) {
                    moment.due[side as usize].push(id);
                }
                let given = from.filter(|from| from.time_ms == time_ms).map_or(0, |from| from.rows);
                self.line_up(time_ms, given, &mut moment);
                is_begun = true;
            }
            if self.give(&mut moment, len_max, out) {
                ending.cursor = Some(Cursor::of(&moment));
                break true;
            }
            is_begun = false;
        };
        out.copy(&self.rows);
        if more {
            (ending.waiting, ending.moment) = (Some(waiting), is_begun.then(|| moment.kept()));
            self.ending = ending;
        }
        more
    }

    /// The rows that did not leave yet, but those of moments before `from`, the earliest last: time, side and place.
    fn waiting(&self, from: Option<Cursor>) -> Vec<(i64, Side, RowId)> {
        let mut waiting = Vec::new();
        for side in SIDES {
            waiting.extend(self.pending[side as usize].iter().map(|(time_ms, id)| (time_ms, side, id)));
            if let Some(moment) = &self.moment {
                waiting.extend(moment.due[side as usize].iter().map(|id| (moment.time_ms, side, *id)));
            }
        }
        waiting.retain(|(time_ms, ..)| from.is_none_or(|from| *time_ms >= from.time_ms));
        waiting.sort_unstable_by_key(|(time_ms, ..)| std::cmp::Reverse(*time_ms));
        waiting
    }
}
