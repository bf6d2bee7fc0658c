//! Session windows: runs of a key's events no further apart than a gap.
//!
//! A session `[start, last]` has the window `[start, last + gap)` and is over by the same
//! inequality as any window, judged on the merged session. Sessions live in one state table, a
//! short list a key. Invariant: the sessions of a key never touch each other, except that one that
//! was already over when the next event came is not extended by it.

use super::aggregate::Accumulators;
use super::rows::{ResultRows, RowOf};
use super::{Arrivals, Outcome, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use std::collections::BTreeSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What makes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// Longest silence inside a session, ms.
    pub gap_ms: i64,
    /// Two events exactly `gap_ms` apart are one session.
    pub inclusive: bool,
    /// How long past its end a session takes records, ms.
    pub allowed_lateness_ms: i64,
}

impl Gaps {
    /// The watermark from which on a session whose last event was at `last_ms` is over.
    const fn over_at(&self, last_ms: i64) -> i64 {
        last_ms + self.gap_ms - 1 + self.allowed_lateness_ms
    }

    /// Whether events of `[start, last]` and of `session` belong together.
    const fn joins(&self, session: &Session, start_ms: i64, last_ms: i64) -> bool {
        let reach = if self.inclusive { self.gap_ms } else { self.gap_ms - 1 };
        start_ms - session.last_ms <= reach && session.start_ms - last_ms <= reach
    }
}

/// One session of a key.
#[derive(Debug, Clone)]
struct Session {
    /// Event time of the first event.
    start_ms: i64,
    /// Event time of the last event.
    last_ms: i64,
    /// Events in it.
    rows: u64,
    /// Its aggregates, in slot 0.
    values: Accumulators,
}

impl Session {
    fn absorb(&mut self, other: &Self) {
        self.start_ms = self.start_ms.min(other.start_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.rows += other.rows;
        self.values.merge(0, &other.values, 0);
    }
}

/// A list of sessions per key.
#[derive(Debug, Clone)]
struct SessionSlots {
    lists: Vec<Vec<Session>>,
    /// Accumulators with one empty slot, to start a session from.
    empty: Accumulators,
}

impl Slots for SessionSlots {
    fn push_empty(&mut self) {
        self.lists.push(Vec::new());
    }
    fn truncate(&mut self, len: usize) {
        self.lists.truncate(len);
    }
    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.encode(slot, out);
    }
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.lists[slot as usize].clear();
        self.decode(slot, mark).expect("a mark holds what encode wrote");
    }
    fn digest(&self, slot: u32) -> u64 {
        self.lists[slot as usize].iter().fold(0, |sum, session| {
            let bounds = [session.start_ms.to_le_bytes(), session.last_ms.to_le_bytes()].concat();
            let values = session.values.digest(0) ^ session.rows;
            sum.wrapping_add(xxh3_64_with_seed(&bounds, values))
        })
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let list = &self.lists[slot as usize];
        out.put_varint(list.len() as u64);
        for session in list {
            out.put_i64(session.start_ms);
            out.put_i64(session.last_ms);
            out.put_varint(session.rows);
            session.values.encode(0, out);
        }
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(17)? {
            let (start_ms, last_ms, rows) = (saved.i64()?, saved.i64()?, saved.varint()?);
            let mut values = self.empty.clone();
            values.decode(0, saved)?;
            self.lists[slot as usize].push(Session { start_ms, last_ms, rows, values });
        }
        Ok(())
    }
    fn byte_len(&self) -> usize {
        let sessions: usize = self.lists.iter().map(Vec::len).sum();
        self.lists.len() * size_of::<Vec<Session>>() + sessions * (size_of::<Session>() + self.empty.byte_len().max(16))
    }
    fn is_vacant(&self, slot: u32) -> bool {
        self.lists[slot as usize].is_empty()
    }
}

/// The one bucket sessions live in.
const BUCKET: BucketKey = BucketKey { time: 0, since: 0 };

/// A session that is over, on its way out.
struct Over {
    end_ms: i64,
    key: Vec<u8>,
    session: Session,
}

/// Open sessions of one plan.
#[derive(Debug)]
pub struct SessionWindows {
    plan: Arc<WindowPlan>,
    gaps: Gaps,
    sessions: Buckets<SessionSlots>,
    /// When to look at which slot: at least one entry a slot with sessions, no later than its first
    /// is over. Rebuilt from the sessions after a rollback or load.
    due: BTreeSet<(i64, u32)>,
    /// Watermark of the last fire.
    fired_ms: i64,
    /// Times the input ended.
    ends: u32,
    /// `fired_ms` and `ends` at the last commit.
    committed: (i64, u32),
}

impl SessionWindows {
    /// No sessions yet.
    #[must_use]
    pub fn new(plan: Arc<WindowPlan>, gaps: Gaps) -> Self {
        let mut empty = no_accumulators(&plan);
        empty.push_empty();
        Self {
            sessions: Buckets::new(SessionSlots { lists: Vec::new(), empty }),
            plan,
            gaps,
            due: BTreeSet::new(),
            fired_ms: i64::MIN,
            ends: 0,
            committed: (i64::MIN, 0),
        }
    }

    /// See [`super::Windows::apply`].
    pub fn apply(&mut self, arrivals: &Arrivals<'_>, outcomes: &mut Vec<Outcome>) {
        for (place, (row, watermark_ms)) in arrivals.rows.iter().zip(arrivals.watermarks_ms).enumerate() {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let key = arrivals.keys.get(place);
            let mut values = self.empty_values();
            values.update(&[0], &[*row], arrivals.inputs, arrivals.order);
            let event = Session { start_ms: time_ms, last_ms: time_ms, rows: 1, values };
            outcomes.push(self.join(key, event, *watermark_ms));
        }
    }

    fn empty_values(&self) -> Accumulators {
        let mut values = no_accumulators(&self.plan);
        values.push_empty();
        values
    }

    /// Merges `piece` with the sessions of `key` it touches and that are not over at `watermark_ms`.
    fn join(&mut self, key: &[u8], mut piece: Session, watermark_ms: i64) -> Outcome {
        let gaps = self.gaps;
        let hash = key_hash(key);
        let touches = |session: &Session, piece: &Session| {
            gaps.over_at(session.last_ms) > watermark_ms && gaps.joins(session, piece.start_ms, piece.last_ms)
        };
        let table = self.sessions.bucket(BUCKET);
        let known = table.find(hash, key);
        let alone =
            known.is_none_or(|slot| !table.slots().lists[slot as usize].iter().any(|session| touches(session, &piece)));
        if alone && gaps.over_at(piece.last_ms) <= watermark_ms {
            return Outcome::Late(gaps.over_at(piece.last_ms));
        }
        let (slot, _) = table.slot_for_update(hash, key);
        let list = &mut table.slots_mut().lists[slot as usize];
        // A grown session may touch a further one, so look until nothing joins any more.
        while let Some(place) = list.iter().position(|session| touches(session, &piece)) {
            piece.absorb(&list.remove(place));
        }
        let over_at = gaps.over_at(piece.last_ms);
        let place =
            list.partition_point(|session| (session.start_ms, session.last_ms) < (piece.start_ms, piece.last_ms));
        list.insert(place, piece);
        if alone {
            self.due.insert((over_at, slot));
        }
        Outcome::Applied(0)
    }

    /// See [`super::Windows::next_fire_ms`].
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        self.due.first().map(|(over_at, _)| *over_at)
    }

    /// See [`super::Windows::fire`]. Fired sessions are gone: a later piece of one is a session of
    /// its own, or too late.
    pub fn fire(&mut self, watermark_ms: i64, _purge_ms: i64, out: &mut ResultRows) -> Result<()> {
        let over = self.take_over(watermark_ms);
        self.emit(over, out)
    }

    /// Drops the sessions that are over, writing nothing; for sessions kept only to judge lateness.
    pub fn forget(&mut self, watermark_ms: i64) {
        self.take_over(watermark_ms);
    }

    fn take_over(&mut self, watermark_ms: i64) -> Vec<Over> {
        let mut over = Vec::new();
        while let Some((over_at, slot)) = self.due.first().copied().filter(|(over_at, _)| *over_at <= watermark_ms) {
            self.due.remove(&(over_at, slot));
            let table = self.sessions.bucket(BUCKET);
            let is_over = |session: &Session| self.gaps.over_at(session.last_ms) <= watermark_ms;
            if table.slots().lists[slot as usize].iter().any(is_over) {
                table.touch(slot);
                let key = table.key(slot).to_vec();
                let list = &mut table.slots_mut().lists[slot as usize];
                for session in list.extract_if(.., |session| is_over(session)) {
                    over.push(Over { end_ms: session.last_ms + self.gaps.gap_ms, key: key.clone(), session });
                }
            }
            let left = table.slots().lists[slot as usize].iter().map(|session| self.gaps.over_at(session.last_ms));
            if let Some(next) = left.min() {
                self.due.insert((next, slot));
            }
        }
        self.fired_ms = self.fired_ms.max(watermark_ms);
        over
    }

    fn emit(&self, mut over: Vec<Over>, out: &mut ResultRows) -> Result<()> {
        over.sort_by(|left, right| {
            let order = |over: &Over| (over.end_ms, over.session.start_ms);
            (left.end_ms, &left.key, order(left)).cmp(&(right.end_ms, &right.key, order(right)))
        });
        for Over { end_ms, key, session } in over {
            let row = RowOf { start_ms: session.start_ms, end_ms, revision: i64::from(self.ends), is_final: true };
            out.push(&self.plan, &key, &session.values, 0, row)?;
        }
        Ok(())
    }

    /// See [`super::Windows::fire_at_end`].
    pub fn fire_at_end(&mut self, out: &mut ResultRows) -> Result<()> {
        let mut over = Vec::new();
        if let Some(table) = self.sessions.get(BUCKET) {
            for slot in 0..table.len() as u32 {
                for session in &table.slots().lists[slot as usize] {
                    let end_ms = session.last_ms + self.gaps.gap_ms;
                    over.push(Over { end_ms, key: table.key(slot).to_vec(), session: session.clone() });
                }
            }
        }
        self.emit(over, out)?;
        self.ends += 1;
        Ok(())
    }

    /// See [`super::Windows::absorb`].
    pub fn absorb(&mut self, other: &mut Self, _out: &mut ResultRows) -> Result<u64> {
        let mut too_late = 0;
        other.due.clear();
        for table in other.sessions.take().into_values() {
            for slot in 0..table.len() as u32 {
                for session in &table.slots().lists[slot as usize] {
                    let rows = session.rows;
                    if let Outcome::Late(_) = self.join(table.key(slot), session.clone(), self.fired_ms) {
                        too_late += rows;
                    }
                }
            }
        }
        Ok(too_late)
    }

    fn table(&self) -> Option<&StateTable<SessionSlots>> {
        self.sessions.get(BUCKET)
    }

    fn rebuild_due(&mut self) {
        let mut due = BTreeSet::new();
        if let Some(table) = self.table() {
            for (slot, list) in table.slots().lists.iter().enumerate() {
                if let Some(over_at) = list.iter().map(|session| self.gaps.over_at(session.last_ms)).min() {
                    due.insert((over_at, slot as u32));
                }
            }
        }
        self.due = due;
    }

    /// See [`super::Windows::seal`].
    pub fn seal(&mut self) -> u64 {
        self.sessions.seal()
    }

    /// See [`super::Windows::commit`].
    pub fn commit(&mut self) {
        self.committed = (self.fired_ms, self.ends);
        if self.sessions.commit() {
            self.rebuild_due();
        }
    }

    /// See [`super::Windows::rollback`].
    pub fn rollback(&mut self) {
        (self.fired_ms, self.ends) = self.committed;
        self.sessions.rollback();
        self.rebuild_due();
    }

    /// See [`super::Windows::save`].
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.fired_ms);
        out.put_varint(u64::from(self.ends));
        self.sessions.encode(out);
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.fired_ms = saved.i64()?;
        self.ends = saved.varint()? as u32;
        self.committed = (self.fired_ms, self.ends);
        self.sessions.decode(saved)?;
        let valid = self
            .table()
            .is_none_or(|table| (0..table.len() as u32).all(|slot| self.plan.key.is_valid(table.key(slot))));
        if !valid {
            return Err(Error::state("saved sessions hold a key of other columns; the state is of another pipeline"));
        }
        self.rebuild_due();
        Ok(())
    }

    /// See [`super::Windows::open_windows`].
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.table().map_or(0, |table| table.slots().lists.iter().map(Vec::len).sum())
    }

    /// See [`super::Windows::byte_len`].
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.sessions.byte_len() + self.due.len() * 16
    }
}
