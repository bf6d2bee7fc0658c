//! Events on their way into sessions.
//!
//! Nearly every event starts a session, or makes one plain session longer: that happens in columns, and their aggregates
//! are updated together. Others are joined one by one (`session/mod.rs`). Invariant: which way an event goes changes no row.

use super::pieces::Pieces;
use super::slots::SessionSlots;
use super::slots::grow::Grown;
use super::slots::partials::Before;
use super::value::{Link, Session};
use super::{BUCKET, Gaps, SessionWindows};
use crate::room::Room;
use crate::window::slot_cache::SlotCache;
use crate::window::{Arrivals, Outcomes};

/// Sessions and the rows whose values are to be added to their aggregates.
#[derive(Debug, Default)]
struct Fed {
    ids: Vec<u32>,
    rows: Vec<u32>,
}

/// The sessions not over that an event reaches.
enum Reached {
    Nothing,
    One(u32),
    Several,
}

/// What an event at `time_ms` reaches of the sessions in `slot`.
#[inline]
fn reached(gaps: Gaps, slots: &SessionSlots, slot: u32, time_ms: i64, watermark_ms: i64) -> Reached {
    let from_ms = (time_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
    let Some(last) = slots.list(slot).last().copied() else { return Reached::Nothing };
    let node = slots.node(last);
    if node.last_ms < from_ms {
        return Reached::Nothing;
    }
    // Those not over never touch one another: what ends before this one begins does not reach the event either.
    if node.start_ms <= time_ms {
        return Reached::One(last);
    }
    // So by their last events is by their first.
    let lasting = slots.lasting(slot, from_ms);
    let touches = |id: &u32| {
        let node = slots.node(*id);
        gaps.touch((node.start_ms, node.last_ms), (time_ms, time_ms))
    };
    match lasting {
        [first, ..] if !touches(first) => Reached::Nothing,
        [_, second, ..] if touches(second) => Reached::Several,
        [first, ..] => Reached::One(*first),
        [] => Reached::Nothing,
    }
}

impl SessionWindows {
    /// Counts rows.
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let (mut outcomes, mut fed) = (Outcomes::default(), Fed::default());
        let room = self.tight_room(arrivals);
        let plain = if room.is_some() { Vec::new() } else { self.plain_rows(arrivals) };
        let slots = SlotCache::new(arrivals.groups).slots(self.sessions.bucket(BUCKET), &plain);
        let (mut rows, mut plain, mut slots) = (arrivals.rows, &plain[..], &slots[..]);
        while !rows.is_empty() {
            let counted = self.count_plain(rows, plain, slots, arrivals, &mut fed);
            outcomes.applied += counted as u64;
            (rows, plain, slots) = (&rows[counted..], &plain[counted..], &slots[counted..]);
            let Some((row, later)) = rows.split_first() else { break };
            if plain.first() == Some(row) {
                (plain, slots) = (&plain[1..], &slots[1..]);
            }
            rows = later;
            // Its aggregates may move.
            self.feed(&mut fed, arrivals);
            self.count_one(*row, room.as_ref(), arrivals, &mut outcomes);
        }
        self.feed(&mut fed, arrivals);
        outcomes
    }

    /// Rows that start a session, or belong to one that is not over, whatever there is.
    fn plain_rows(&self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        if self.plan.retracts() {
            return Vec::new();
        }
        let is_plain = |row: &u32| {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let watermark_ms = arrivals.watermarks_ms[*row as usize];
            self.gaps.min_start_ms.is_none_or(|floor_ms| time_ms >= floor_ms)
                && self.gaps.ahead(time_ms, watermark_ms)
                && self.gaps.is_whole(time_ms, watermark_ms)
        };
        arrivals.rows.iter().copied().filter(is_plain).collect()
    }

    /// Counts the first of `rows`, as long as they are the first of [`plain_rows`](Self::plain_rows), for which there are
    /// `slots`, and start a session or belong to one plain session, where that is. Their aggregates are still to be fed.
    /// How many; nothing was done for others.
    fn count_plain(
        &mut self,
        rows: &[u32],
        plain: &[u32],
        slots: &[u32],
        arrivals: &Arrivals<'_>,
        fed: &mut Fed,
    ) -> usize {
        let (gaps, lane) = (self.gaps, arrivals.order.partition);
        let table = self.sessions.bucket(BUCKET);
        for (at, ((row, plain), slot)) in rows.iter().zip(plain).zip(slots).enumerate() {
            if row != plain {
                return at;
            }
            table.slots().prefetch_ahead(&slots[at..]);
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let cell = gaps.cell(time_ms);
            let id = match reached(gaps, table.slots(), *slot, time_ms, arrivals.watermarks_ms[*row as usize]) {
                Reached::Nothing => {
                    let id = table.slots_mut().start(*slot, time_ms, cell, lane);
                    table.slots_mut().set_due(id, gaps.over_at(time_ms));
                    self.due.push(gaps.over_at(time_ms), id);
                    self.key_bytes += table.key(*slot).len() as u64;
                    id
                }
                Reached::One(id) if table.slots().node(id).is_plain_of(lane, cell) => {
                    table.slots_mut().extend(id, time_ms);
                    id
                }
                Reached::One(id) => {
                    let slots = table.slots_mut();
                    let Some(grown) = slots.grow(gaps, id, (time_ms, cell), lane) else { return at };
                    let is_fed = match grown {
                        Grown::First => false,
                        Grown::Later(values) => {
                            values.update(&[0], &[*row], arrivals.inputs, arrivals.order);
                            true
                        }
                    };
                    // Its first piece may be over before what it was is looked at.
                    let (node, (due_ms, _)) = (slots.node(id), gaps.due(slots.node(id), self.alone));
                    if due_ms < node.due_ms {
                        slots.set_due(id, due_ms);
                        self.due.push(due_ms, id);
                    }
                    if is_fed {
                        continue;
                    }
                    id
                }
                Reached::Several => return at,
            };
            fed.ids.push(id);
            fed.rows.push(*row);
        }
        rows.len().min(plain.len())
    }

    /// Counts a row by itself.
    fn count_one(&mut self, row: u32, room: Option<&Room>, arrivals: &Arrivals<'_>, outcomes: &mut Outcomes) {
        let time_ms = arrivals.order.event_times_ms[row as usize];
        if self.gaps.min_start_ms.is_some_and(|floor_ms| time_ms < floor_ms) {
            outcomes.no_window += 1;
            return;
        }
        let watermark_ms = arrivals.watermarks_ms[row as usize];
        let (key, event) = (arrivals.key(row), self.event(arrivals, row));
        if let Some(over_at_ms) = self.late(key, &event, watermark_ms) {
            outcomes.late.push((row, over_at_ms));
        } else if room.is_some_and(|room| self.is_full(room, key, time_ms, watermark_ms)) {
            outcomes.full.push(row);
        } else {
            self.count(key, event, watermark_ms);
            outcomes.applied += 1;
        }
    }

    /// Updates the aggregates of sessions by the rows that were counted for them.
    fn feed(&mut self, fed: &mut Fed, arrivals: &Arrivals<'_>) {
        if !fed.ids.is_empty() {
            let values = self.sessions.bucket(BUCKET).slots_mut().values_mut();
            values.update(&fed.ids, &fed.rows, arrivals.inputs, arrivals.order);
            fed.ids.clear();
            fed.rows.clear();
        }
    }

    /// `row` as a session of its own.
    fn event(&mut self, arrivals: &Arrivals<'_>, row: u32) -> Session {
        let (time_ms, lane) = (arrivals.order.event_times_ms[row as usize], arrivals.order.partition);
        let watermark_ms = arrivals.watermarks_ms[row as usize];
        let mut values = self.sessions.bucket(BUCKET).slots().empty_values();
        values.update(&[0], &[row], arrivals.inputs, arrivals.order);
        // Where no other lane's sessions are to join, nobody asks.
        let is_asked = !self.alone && !self.gaps.ahead(time_ms, watermark_ms);
        let clock_ms = if is_asked { watermark_ms } else { i64::MIN };
        let links = vec![Link { lane, first_ms: time_ms, last_ms: time_ms, clock_ms }];
        let pieces = Pieces::new(self.gaps.cell(time_ms), values);
        let (changed, before) = (self.plan.retracts(), Before::new_event());
        Session { start_ms: time_ms, last_ms: time_ms, links, pieces, changed, written: None, before }
    }

    /// Joins an event to the sessions of its key (with its hash) that it touches and that are not over at
    /// `watermark_ms`. It is not late.
    fn count(&mut self, (key, hash): (&[u8], u64), event: Session, watermark_ms: i64) {
        let gaps = self.gaps;
        let joined = |slots: &SessionSlots, slot: u32, piece: &Session| {
            let from_ms = (piece.start_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
            // Those not over never touch one another, so by their last events is by their first.
            let (id, node) = slots.lasting(slot, from_ms).first().map(|id| (*id, slots.node(*id)))?;
            gaps.touch((node.start_ms, node.last_ms), (piece.start_ms, piece.last_ms)).then_some(id)
        };
        self.join((key, hash), event, joined, |piece, session| {
            piece.absorb(session, |left, right| gaps.touch(left, right));
        });
    }

    /// The watermark from which on `event` is late, if that is at or before `watermark_ms`.
    fn late(&self, (key, hash): (&[u8], u64), event: &Session, watermark_ms: i64) -> Option<i64> {
        let (gaps, time_ms) = (self.gaps, event.last_ms);
        let over_at = gaps.over_at(time_ms);
        if over_at > watermark_ms && gaps.is_whole(time_ms, watermark_ms) {
            return None;
        }
        let reached = self.reached((key, hash), time_ms, watermark_ms);
        let Some(stretch) = reached else { return (over_at <= watermark_ms).then_some(over_at) };
        gaps.piece_over_at(time_ms, stretch).filter(|piece_over_at| *piece_over_at <= watermark_ms)
    }

    /// The first and last event of what an event becomes with the sessions not over that it touches; `None`
    /// where it touches none.
    pub(super) fn reached(&self, (key, hash): (&[u8], u64), time_ms: i64, watermark_ms: i64) -> Option<(i64, i64)> {
        let (gaps, table) = (self.gaps, self.table()?);
        let from_ms = (time_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
        let lasting = table.slots().lasting(table.find(hash, key)?, from_ms).iter();
        let sessions = lasting.map(|id| table.slots().node(*id)).map(|node| (node.start_ms, node.last_ms));
        // Those not over never touch one another, so by their last events is by their first.
        let touching = sessions.take_while(|session| gaps.touch(*session, (time_ms, time_ms)));
        let (start_ms, last_ms) = touching.reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)))?;
        Some((start_ms.min(time_ms), last_ms.max(time_ms)))
    }
}
