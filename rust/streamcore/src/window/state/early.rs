//! Early rows of windows that the clock alone bounds: at multiples of time, or with the record that makes
//! a condition true.
//!
//! `window/state.rs` calls it while it counts and fires. A batch is cut where the clock passes such a multiple, or
//! where a window fires, so that early and final rows come in one order however the input is cut.
//! Invariant: a row leaves early only for a window that is not over at the clock.

use super::{
    AlignedWindows, BucketRows, Cursor, SlotCache, WindowKeys, merge, next_revision, parts, slots_of, window_bucket,
};
use crate::batch::Groups;
use crate::error::Result;
use crate::state::{BucketKey, Buckets, NoValue, Slots, StateTable, key_hash};
use crate::window::aggregate::Accumulators;
use crate::window::assign::{Aligned, Assigned, Assigner};
use crate::window::early::RowCondition;
use crate::window::rows::{ResultRows, RowOf};
use crate::window::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rows weighed before they are counted; each is in at least one window.
const WEIGHED_MAX: usize = 4096;

/// Changed keys that leave before it is asked whether there is room for more.
const KEYS_AT_ONCE: usize = 1024;

impl AlignedWindows {
    /// Windows that fire here, not elsewhere: the clock may call for early rows.
    #[must_use]
    pub fn firing(plan: Arc<WindowPlan>, windows: Aligned) -> Self {
        let changed = plan.early.every_ms.map(|_| Buckets::new(NoValue));
        Self { changed, admitted: None, ..Self::new(plan, windows) }
    }

    /// See [`crate::window::Windows::early_at`].
    #[must_use]
    pub fn early_at(&self, watermark_ms: i64) -> bool {
        self.changed.is_some() && self.plan.early.passes(self.fired_ms, watermark_ms)
    }

    /// See [`crate::window::Windows::apply`].
    pub fn apply_firing(&mut self, arrivals: &Arrivals<'_>, out: &mut ResultRows) -> Result<Outcomes> {
        if self.plan.early.at_commit() {
            return Ok(self.apply(arrivals));
        }
        let (mut outcomes, mut rest, plan) = (Outcomes::default(), arrivals.rows, self.plan.clone());
        while let Some(first) = rest.first() {
            let watermark_ms = arrivals.watermarks_ms[*first as usize];
            out.whole(|out| self.fire(watermark_ms, watermark_ms, out))?;
            let (rows, later) = rest.split_at(self.stretch(&Arrivals { rows: rest, ..*arrivals }));
            let stretch = Arrivals { rows, ..*arrivals };
            if let Some(condition) = plan.early.each_record() {
                self.weigh(&stretch, condition, out)?;
            }
            outcomes.extend(self.apply(&stretch));
            rest = later;
        }
        Ok(outcomes)
    }

    /// See [`crate::window::Windows::fire`].
    pub fn fire(&mut self, watermark_ms: i64, purge_ms: i64, out: &mut ResultRows) -> Result<bool> {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.is_early) && !self.emit_changed(out)? {
            return Ok(false);
        }
        // What changed leaves at the first multiple, and nothing changes on the way to the others.
        let changed = self.changed.as_ref().is_some_and(|changed| !changed.is_empty());
        if let Some(stop_ms) = self.plan.early.stop_ms(self.fired_ms, watermark_ms).filter(|_| changed)
            && !self.fire_at(stop_ms, purge_ms.min(stop_ms), out)?
        {
            return Ok(false);
        }
        self.fire_at(watermark_ms, purge_ms, out)
    }

    /// How many rows can be counted before a row may have to leave.
    fn stretch(&self, arrivals: &Arrivals<'_>) -> usize {
        let weighs = self.plan.early.each_record().is_some();
        let (mut until_ms, mut weighed) = (self.plan.early.next_ms(self.fired_ms).unwrap_or(i64::MAX), 0);
        if weighs {
            until_ms = self.next_fire_ms.unwrap_or(i64::MAX);
        }
        let mut assigner = Assigner::new(&self.windows);
        for (number, row) in arrivals.rows.iter().enumerate() {
            let watermark_ms = arrivals.watermarks_ms[*row as usize];
            if number > 0 && (watermark_ms >= until_ms || weighed >= WEIGHED_MAX) {
                return number;
            }
            if weighs {
                let time_ms = arrivals.order.event_times_ms[*row as usize];
                if let Assigned::Bucket(bucket, _) = assigner.assign(time_ms, watermark_ms) {
                    until_ms = until_ms.min(self.windows.over_at(bucket.since));
                    weighed += self.windows.windows_of(bucket).count();
                }
            } else if self.fired_ms == i64::MIN && watermark_ms > i64::MIN {
                // The clock's first reading: from here on multiples count.
                return number.max(1);
            }
        }
        arrivals.rows.len()
    }

    /// Appends the rows of the windows for which a row of `arrivals` makes `condition` true, as of that row.
    fn weigh(&mut self, arrivals: &Arrivals<'_>, condition: &dyn RowCondition, out: &mut ResultRows) -> Result<()> {
        let plan = self.plan.clone();
        let mut weighed = Weighed::new(&plan);
        let mut assigner = Assigner::new(&self.windows);
        for row in arrivals.rows {
            let (time_ms, watermark_ms) =
                (arrivals.order.event_times_ms[*row as usize], arrivals.watermarks_ms[*row as usize]);
            let Assigned::Bucket(bucket, _) = assigner.assign(time_ms, watermark_ms) else { continue };
            for name in self.windows.windows_of(bucket) {
                let tables = parts(&self.slices, &self.windows, name);
                weighed.add(*row, (name, self.windows.bounds(name)), arrivals, tables)?;
            }
        }
        let holds = weighed.rows.holding(condition);
        for Change { name, group, before, after } in weighed.changes {
            if holds[after] && !before.is_some_and(|before| holds[before]) {
                let (key, _) = arrivals.groups.key(group);
                let revision = next_revision(self.revisions.bucket(window_bucket(name)), key) + i64::from(self.ends);
                out.push_row(&weighed.rows, after, revision);
            }
        }
        Ok(())
    }

    /// Notes which keys of which bucket have changed since rows left early.
    pub(super) fn note_changed(&mut self, groups: &Groups, buckets: &[BucketRows]) {
        let Some(changed) = &mut self.changed else { return };
        let mut slots = SlotCache::new(groups);
        for (bucket, rows) in buckets {
            slots.slots(changed.bucket(*bucket), rows);
        }
    }

    /// Notes the keys of a partial that goes into `bucket`.
    pub(super) fn note_keys_changed(&mut self, bucket: BucketKey, partial: &StateTable<Accumulators>) {
        let Some(changed) = &mut self.changed else { return };
        let table = changed.bucket(bucket);
        for slot in 0..partial.len() as u32 {
            let key = partial.key(slot);
            table.slot_for_update(key_hash(key), key);
        }
    }

    /// Drops what is noted of the buckets that are `gone`.
    pub(super) fn forget_changed(&mut self, gone: impl Fn(BucketKey) -> bool) {
        let Some(changed) = &mut self.changed else { return };
        let buckets: Vec<BucketKey> = changed.iter().map(|(key, _)| key).filter(|key| gone(*key)).collect();
        buckets.into_iter().for_each(|key| changed.drop_bucket(key));
    }

    /// Appends the rows changed since the last time, where the condition is true for them. False when `out` is full.
    pub(super) fn emit_changed(&mut self, out: &mut ResultRows) -> Result<bool> {
        let mut windows = match self.changing.take() {
            Some(windows) => windows,
            None => self.changed_windows(),
        };
        let (plan, mut cursor) = (self.plan.clone(), self.cursor.take());
        while let Some((name, mut keys)) = windows.pop_first() {
            if out.is_full() {
                let begun = || Cursor { is_early: true, until_ms: self.fired_ms, name, key: None };
                self.cursor = Some(cursor.filter(|cursor| cursor.name == name).unwrap_or_else(begun));
                windows.insert(name, keys);
                self.changing = Some(windows);
                return Ok(false);
            }
            let later = keys.iter().nth(out.room().min(KEYS_AT_ONCE)).cloned().map(|first| keys.split_off(&first));
            let key = keys.last().cloned();
            cursor = Some(Cursor { is_early: true, until_ms: self.fired_ms, name, key });
            if let Some(condition) = plan.early.when.as_deref() {
                let holds = self.rows_as_they_are(name, &keys)?.holding(condition);
                keys = keys.into_iter().zip(holds).filter(|(_, holds)| *holds).map(|(key, _)| key).collect();
            }
            if !keys.is_empty() {
                self.emit(name, &keys, false, out)?;
            }
            windows.extend(later.map(|keys| (name, keys)));
        }
        self.forget_changed(|_| true);
        Ok(true)
    }

    /// Changed keys by window, those that have left before the cursor excepted.
    fn changed_windows(&self) -> WindowKeys {
        let Some(changed) = &self.changed else { return WindowKeys::new() };
        let tables = changed.iter();
        let mut windows = self.of_open_windows(
            tables.map(|(bucket, table)| (bucket, (0..table.len() as u32).map(|slot| table.key(slot)).collect())),
        );
        if let Some(Cursor { name, key, .. }) = self.cursor.as_ref().filter(|cursor| cursor.is_early) {
            windows = windows.split_off(name);
            if let (Some(key), Some(keys)) = (key, windows.get_mut(name)) {
                keys.retain(|other| other > key);
            }
        }
        windows
    }

    /// The rows that `keys`, all of which it has, would have in the window called `name`.
    fn rows_as_they_are(&self, name: i64, keys: &BTreeSet<Vec<u8>>) -> Result<ResultRows> {
        let mut rows = ResultRows::new(&self.plan);
        let parts: Vec<_> = parts(&self.slices, &self.windows, name).collect();
        let merged = (parts.len() > 1).then(|| merge(&self.plan, &parts, Some(keys)));
        if let Some(table) = merged.as_ref().or(parts.first().copied()) {
            let row = RowOf { bounds: self.windows.bounds(name), revision: 0, is_final: false };
            for slot in slots_of(table, keys) {
                rows.push(&self.plan, table.key(slot), table.slots(), slot, row)?;
            }
        }
        Ok(rows)
    }
}

/// The row of a window and group before and after a row of the batch, by number.
struct Change {
    name: i64,
    group: u32,
    before: Option<usize>,
    after: usize,
}

/// The rows that windows would have after each row of a batch.
struct Weighed<'p> {
    plan: &'p WindowPlan,
    /// Those rows, and first of each window and group the row as it was before the batch.
    rows: ResultRows,
    changes: Vec<Change>,
    /// Slot and last row of each window and group.
    places: HashMap<(i64, u32), (u32, Option<usize>)>,
    values: Accumulators,
}

impl<'p> Weighed<'p> {
    fn new(plan: &'p WindowPlan) -> Self {
        let (rows, values) = (ResultRows::new(plan), no_accumulators(plan));
        Self { plan, rows, changes: Vec::new(), places: HashMap::new(), values }
    }

    /// Adds `row` of the batch to the window called `name`; `tables` are those of its slices.
    fn add<'t>(
        &mut self,
        row: u32,
        (name, bounds): (i64, Option<(i64, i64)>),
        arrivals: &Arrivals<'_>,
        tables: impl Iterator<Item = &'t StateTable<Accumulators>>,
    ) -> Result<()> {
        let group = arrivals.groups.of_row[row as usize];
        let (key, hash) = arrivals.groups.key(group);
        let of = RowOf { bounds, revision: 0, is_final: false };
        let (slot, before) = match self.places.entry((name, group)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let slot = self.values.len() as u32;
                self.values.push_empty();
                let mut before = None;
                for table in tables {
                    let Some(found) = table.find(hash, key) else { continue };
                    self.values.merge(slot, table.slots(), found);
                    before = Some(self.rows.len());
                }
                if before.is_some() {
                    self.rows.push(self.plan, key, &self.values, slot, of)?;
                }
                *place.insert((slot, before))
            }
        };
        self.values.update(&[slot], &[row], arrivals.inputs, arrivals.order);
        let after = self.rows.len();
        self.rows.push(self.plan, key, &self.values, slot, of)?;
        self.changes.push(Change { name, group, before, after });
        self.places.insert((name, group), (slot, Some(after)));
        Ok(())
    }
}
