//! Sliding windows: the trailing window at each event, closed at both ends.
//!
//! For an event of a group at `t` one row tells what the group's events in `[t - size, t]` come to; events of one time
//! share it, as the peers of SQL's `RANGE` do. A row leaves when the clock has passed its time, so no event
//! that would count in it is still to come, and rows of a group leave in the order of their times: both ends of the
//! window only move forward, which `sliding/trail.rs` makes use of. An event is kept once, merged with those of
//! its group and time. Invariant: what is kept beside `events` follows from them and the clock.

mod trail;

#[cfg(test)]
mod tests;

use super::aggregate::Accumulators;
use super::ends::Ends;
use super::room::without_room;
use super::rows::{ResultRows, RowOf};
use super::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::state::{BucketKey, Buckets, Contents, Slots, StateTable, key_hash};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trail::Trail;
use xxhash_rust::xxh3::xxh3_64;

/// The trailing windows of a plan. All in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailing {
    /// How far before an event its window begins.
    pub size_ms: i64,
    /// How long past its time an event may come.
    pub allowed_lateness_ms: i64,
}

/// A window is divided into so many buckets, and one more is kept: events are forgotten a bucket at a time.
const BUCKETS_A_WINDOW: i64 = 8;

impl Trailing {
    /// The bucket of `time_ms`.
    const fn bucket(&self, time_ms: i64) -> BucketKey {
        let length_ms = self.size_ms / BUCKETS_A_WINDOW + 1;
        BucketKey { time: time_ms.div_euclid(length_ms) * length_ms, since: 0 }
    }

    /// The watermark from which on the row at `time_ms` leaves.
    const fn over_at(&self, time_ms: i64) -> i64 {
        time_ms + self.allowed_lateness_ms
    }

    /// The watermark from which on no row that leaves counts the events of `bucket`.
    const fn past_at(&self, bucket: BucketKey) -> i64 {
        let last_ms = bucket.time + self.size_ms / BUCKETS_A_WINDOW;
        self.over_at(last_ms).saturating_add(self.size_ms)
    }
}

/// Time and group of a row.
type RowAt = (i64, Box<[u8]>);

/// Rows of one lane that have not left, and the events they count.
#[derive(Debug)]
pub struct SlidingWindows {
    plan: Arc<WindowPlan>,
    trailing: Trailing,
    /// Aggregates by group and time, see [`event_key`].
    events: Buckets<Accumulators>,
    /// Time and group of the rows that have not left.
    due: BTreeSet<RowAt>,
    /// Bytes of the groups of `due` and `trails`, and of the trails.
    beside_bytes: usize,
    /// Times of each group whose rows have left and that later rows count.
    trails: HashMap<Vec<u8>, Trail>,
    /// The row that is leaving, in slot 0.
    total: Accumulators,
    /// Watermark of the last fire: rows over at it have left.
    fired_ms: i64,
    /// The last row that left of those over at the clock, by time and group, where some are still to leave.
    cursor: Option<RowAt>,
    /// What is still to leave at an end of the input.
    ending: Option<Ending>,
    /// Times the input ended.
    ends: u32,
    /// `fired_ms`, `ends` and `cursor` at the last commit.
    committed: (i64, u32, Option<RowAt>),
}

/// An end of the input under way: nothing of it is kept.
#[derive(Debug)]
struct Ending {
    /// Rows still to leave, the next one last.
    due: Vec<RowAt>,
    /// `trails` and `beside_bytes` as they were.
    trails: HashMap<Vec<u8>, Trail>,
    beside_bytes: usize,
}

/// Group and time as the key of a table: the time's eight bytes come last.
fn event_key(group: &[u8], time_ms: i64, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(group);
    key.extend_from_slice(&time_ms.to_be_bytes());
}

/// Group and time of an [`event_key`].
fn group_and_time(key: &[u8]) -> Option<(&[u8], i64)> {
    let (group, time) = key.split_last_chunk::<8>()?;
    Some((group, i64::from_be_bytes(*time)))
}

impl SlidingWindows {
    /// Bytes an entry takes beside its key and values: when its row is due, and its time in the group's trail.
    pub const ENTRY_BYTES: usize = DUE_BYTES + 2 * size_of::<i64>();

    /// No rows yet.
    #[must_use]
    pub fn new(plan: Arc<WindowPlan>, trailing: Trailing) -> Self {
        let events = Buckets::new(no_accumulators(&plan));
        let (due, trails, total) = (BTreeSet::new(), HashMap::new(), no_accumulators(&plan));
        Self {
            plan,
            trailing,
            events,
            due,
            beside_bytes: 0,
            trails,
            total,
            fired_ms: i64::MIN,
            cursor: None,
            ending: None,
            ends: 0,
            committed: (i64::MIN, 0, None),
        }
    }

    /// See [`super::Windows::apply`].
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let mut buckets: BTreeMap<BucketKey, Vec<u32>> = BTreeMap::new();
        for row in arrivals.rows {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let over_at_ms = self.trailing.over_at(time_ms);
            if over_at_ms <= arrivals.watermarks_ms[*row as usize] {
                outcomes.late.push((*row, over_at_ms));
                continue;
            }
            outcomes.applied += 1;
            buckets.entry(self.trailing.bucket(time_ms)).or_default().push(*row);
        }
        for (bucket, rows) in buckets {
            self.count(bucket, arrivals, &rows);
        }
        outcomes
    }

    /// See [`super::Windows::full`].
    pub fn full(&mut self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        let Some(room) = self.plan.room else { return Vec::new() };
        let trailing = self.trailing;
        let entry = |row: u32, key: &mut Vec<u8>| {
            let time_ms = arrivals.order.event_times_ms[row as usize];
            event_key(arrivals.key(row).0, time_ms, key);
            let in_time = trailing.over_at(time_ms) > arrivals.watermarks_ms[row as usize];
            in_time.then(|| trailing.bucket(time_ms))
        };
        without_room(&mut self.events, &room, arrivals, |bucket| trailing.past_at(bucket), entry)
    }

    fn count(&mut self, bucket: BucketKey, arrivals: &Arrivals<'_>, rows: &[u32]) {
        let table = self.events.bucket(bucket);
        let (mut key, mut slots) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let (group, _) = arrivals.key(*row);
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            event_key(group, time_ms, &mut key);
            let (slot, new) = table.slot_for_update(key_hash(&key), &key);
            if new && self.due.insert((time_ms, group.into())) {
                self.beside_bytes += group.len() + DUE_BYTES;
            }
            slots.push(slot);
        }
        table.slots_mut().update(&slots, rows, arrivals.inputs, arrivals.order);
    }

    /// See [`super::Windows::next_fire_ms`].
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        self.due.first().map(|(time_ms, _)| self.trailing.over_at(*time_ms))
    }

    /// See [`super::Windows::fire`].
    pub fn fire(&mut self, watermark_ms: i64, out: &mut ResultRows) -> Result<bool> {
        while self.next_fire_ms().is_some_and(|over_at_ms| over_at_ms <= watermark_ms) {
            if out.is_full() {
                return Ok(false);
            }
            let Some((time_ms, group)) = self.due.pop_first() else { break };
            self.beside_bytes -= group.len() + DUE_BYTES;
            self.leave(time_ms, &group, out)?;
            self.cursor = Some((time_ms, group));
        }
        self.cursor = None;
        self.fired_ms = self.fired_ms.max(watermark_ms);
        self.forget();
        Ok(true)
    }

    /// Appends the row of `group` at `time_ms`, which is later than those that have left.
    fn leave(&mut self, time_ms: i64, group: &[u8], out: &mut ResultRows) -> Result<()> {
        let start_ms = time_ms - self.trailing.size_ms;
        let known = self.trails.get(group).map_or(0, |trail| trail_bytes(group, trail));
        let trail = self.trails.entry_ref(group).or_default();
        let events = EventsOf { events: &self.events, trailing: self.trailing, group };
        self.total.truncate(0);
        self.total.push_empty();
        trail.advance((start_ms, time_ms), &events, &self.plan, &mut self.total);
        self.beside_bytes = self.beside_bytes + trail_bytes(group, trail) - known;
        let row = RowOf { bounds: Some((start_ms, time_ms)), revision: i64::from(self.ends), is_final: true };
        out.push(&self.plan, group, &self.total, 0, row)
    }

    /// Drops the buckets of which no row is left to count them, and the ends of trails in them.
    fn forget(&mut self) {
        let (trailing, fired_ms) = (self.trailing, self.fired_ms);
        let past = self.events.iter().map(|(bucket, _)| bucket).take_while(|it| trailing.past_at(*it) <= fired_ms);
        for bucket in past.collect::<Vec<_>>() {
            let from_ms = bucket.time + trailing.size_ms / BUCKETS_A_WINDOW + 1;
            let keys = self.events.get(bucket).map(|table| (0..table.len() as u32).map(|slot| table.key(slot)));
            for (group, _) in keys.into_iter().flatten().filter_map(group_and_time) {
                let events = EventsOf { events: &self.events, trailing, group };
                let Some(trail) = self.trails.get_mut(group) else { continue };
                self.beside_bytes -= trail_bytes(group, trail);
                if trail.begin(from_ms, &events, &self.plan) {
                    self.trails.remove(group);
                } else {
                    self.beside_bytes += trail_bytes(group, trail);
                }
            }
            self.events.drop_bucket(bucket);
        }
    }

    /// See [`super::Windows::fire_at_end`].
    pub fn fire_at_end(&mut self, out: &mut ResultRows) -> Result<bool> {
        // The rows stay due: the clock did not move. Trails go on from where they are and come back here.
        let begin = |windows: &Self| Ending {
            due: windows.due.iter().rev().cloned().collect(),
            trails: windows.trails.clone(),
            beside_bytes: windows.beside_bytes,
        };
        let mut ending = self.ending.take().unwrap_or_else(|| begin(self));
        while let Some((time_ms, group)) = ending.due.pop() {
            if out.is_full() {
                ending.due.push((time_ms, group));
                self.ending = Some(ending);
                return Ok(false);
            }
            self.leave(time_ms, &group, out)?;
        }
        (self.trails, self.beside_bytes) = (ending.trails, ending.beside_bytes);
        self.ends += 1;
        Ok(true)
    }

    /// See [`super::Windows::ends`].
    #[must_use]
    pub const fn ends(&self) -> u32 {
        self.ends
    }

    /// Works out `due` and `trails` anew from the events.
    fn rebuild(&mut self) {
        self.due.clear();
        self.trails.clear();
        let mut left: BTreeSet<(i64, &[u8])> = BTreeSet::new();
        for (_, table) in self.events.iter() {
            for (group, time_ms) in (0..table.len() as u32).filter_map(|slot| group_and_time(table.key(slot))) {
                let has_left = self.trailing.over_at(time_ms) <= self.fired_ms || self.is_behind_cursor(time_ms, group);
                if has_left {
                    left.insert((time_ms, group));
                } else {
                    self.due.insert((time_ms, group.into()));
                }
            }
        }
        for (time_ms, group) in left {
            self.trails.entry_ref(group).or_default().note(time_ms);
        }
        let due = self.due.iter().map(|(_, group)| group.len() + DUE_BYTES);
        let trails = self.trails.iter().map(|(group, trail)| trail_bytes(group, trail));
        self.beside_bytes = due.chain(trails).sum();
    }

    /// Whether the row of `group` at `time_ms` is among those that have left of the ones over at the clock.
    fn is_behind_cursor(&self, time_ms: i64, group: &[u8]) -> bool {
        self.cursor.as_ref().is_some_and(|(last_ms, last)| (time_ms, group) <= (*last_ms, last))
    }

    fn encode_cursor(&self, out: &mut Vec<u8>) {
        let Some((time_ms, group)) = &self.cursor else { return out.put_u8(0) };
        out.put_u8(1);
        out.put_i64(*time_ms);
        out.put_bytes(group);
    }

    /// See [`super::Windows::seal`].
    pub fn seal(&mut self) -> u64 {
        let mut cursor = Vec::new();
        self.encode_cursor(&mut cursor);
        self.events.seal().wrapping_add(if self.cursor.is_some() { xxh3_64(&cursor) } else { 0 })
    }

    /// See [`super::Windows::commit`].
    pub fn commit(&mut self) {
        self.committed = (self.fired_ms, self.ends, self.cursor.clone());
        self.events.commit();
    }

    /// See [`super::Windows::rollback`].
    pub fn rollback(&mut self) {
        (self.fired_ms, self.ends, self.cursor) = self.committed.clone();
        self.ending = None;
        self.events.rollback();
        self.rebuild();
    }

    /// See [`super::Windows::save`].
    pub fn save(&self, saving: &mut Saving) {
        saving.out.put_i64(self.fired_ms);
        saving.out.put_varint(u64::from(self.ends));
        self.encode_cursor(&mut saving.out);
        self.events.save(saving);
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.fired_ms = saved.newest(Reader::i64)?;
        self.ends = saved.newest(Reader::varint)? as u32;
        self.cursor = saved.newest(|saved| match saved.u8()? {
            0 => Ok(None),
            _ => Ok(Some((saved.i64()?, saved.bytes()?.into()))),
        })?;
        self.committed = (self.fired_ms, self.ends, self.cursor.clone());
        self.events.load(saved)?;
        for (bucket, table) in self.events.iter() {
            let is_sound = |(group, time_ms): (&[u8], i64)| {
                self.plan.key.is_valid(group) && self.trailing.bucket(time_ms) == bucket
            };
            if !(0..table.len() as u32).all(|slot| group_and_time(table.key(slot)).is_some_and(is_sound)) {
                return Err(Error::state(
                    "saved windows hold a key of other columns; the state is of another pipeline",
                ));
            }
        }
        self.rebuild();
        Ok(())
    }

    /// What the events come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.events.contents(5)
    }

    /// See [`super::Windows::open_windows`].
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.due.len()
    }

    /// See [`super::Windows::see_open`].
    pub fn see_open(&self, ends: &mut Ends) {
        for (time_ms, group) in &self.due {
            let bounds = (time_ms - self.trailing.size_ms, *time_ms);
            ends.see(bounds, self.trailing.over_at(*time_ms), |keys| keys(group));
        }
    }

    /// See [`super::Windows::usage`].
    pub fn usage(&mut self) -> Usage {
        self.events.usage() + Usage::bytes(self.beside_bytes)
    }
}

/// Bytes of an entry of `due` beside its group, in nodes three quarters full.
const DUE_BYTES: usize = size_of::<RowAt>() * 4 / 3;

fn trail_bytes(group: &[u8], trail: &Trail) -> usize {
    // A place in the map, of which half are used.
    2 * size_of::<(Vec<u8>, Trail)>() + group.len() + trail.byte_len()
}

/// The events of a group.
struct EventsOf<'e> {
    events: &'e Buckets<Accumulators>,
    trailing: Trailing,
    group: &'e [u8],
}

impl EventsOf<'_> {
    /// Adds the events at `time_ms` to slot `slot` of `values`.
    fn merge(&self, time_ms: i64, values: &mut Accumulators, slot: u32, key: &mut Vec<u8>) {
        event_key(self.group, time_ms, key);
        let table: Option<&StateTable<Accumulators>> = self.events.get(self.trailing.bucket(time_ms));
        if let Some((table, found)) = table.and_then(|table| Some((table, table.find(key_hash(key), key)?))) {
            values.merge(slot, table.slots(), found);
        }
    }
}
