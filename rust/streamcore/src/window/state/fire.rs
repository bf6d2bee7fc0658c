//! Windows that are over leave: window by window, each by key, in pieces of as many rows as there is room for.
//!
//! `window/state.rs` knows the slices that they are made of. How far a piece came is state, so an epoch may be cut
//! there. Invariant: the rows and their order are the same, however large the pieces are.

use super::blocks::Blocks;
use super::merge::{merge, parts, slots_of};
use super::order::KeyOrder;
use super::{AlignedWindows, Revisions, next_revision, window_bucket};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::TOGETHER;
use crate::state::{Buckets, StateTable};
use crate::window::WindowPlan;
use crate::window::aggregate::Accumulators;
use crate::window::assign::Aligned;
use crate::window::rows::{ResultRows, RowOf};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// How far windows have left of which some are still to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Whether they leave early, not for good.
    pub is_early: bool,
    /// The watermark they leave at.
    pub until_ms: i64,
    /// The windows before this one have left,
    pub name: i64,
    /// and of it the rows up to this key; without it none.
    pub key: Option<Vec<u8>>,
}

impl Cursor {
    /// Appends `cursor`.
    pub fn encode(cursor: Option<&Self>, out: &mut Vec<u8>) {
        let Some(Self { is_early, until_ms, name, key }) = cursor else { return out.put_u8(0) };
        out.put_u8(1 + u8::from(*is_early) + 2 * u8::from(key.is_some()));
        out.put_i64(*until_ms);
        out.put_i64(*name);
        key.iter().for_each(|key| out.put_bytes(key));
    }

    /// Reads what `encode` wrote.
    pub fn decode(saved: &mut Reader<'_>) -> Result<Option<Self>> {
        let flags = match saved.u8()? {
            0 => return Ok(None),
            flags @ 1..=4 => flags - 1,
            _ => return Err(Error::state("saved windows stand where none can; the state was overwritten")),
        };
        let (until_ms, name) = (saved.i64()?, saved.i64()?);
        let key = if flags & 2 != 0 { Some(saved.bytes()?.to_vec()) } else { None };
        Ok(Some(Self { is_early: flags & 1 != 0, until_ms, name, key }))
    }
}

/// A window on its way out; not state, for it follows from the slices and the cursor.
#[derive(Debug)]
pub(super) struct Leaving {
    name: i64,
    /// Its slices in one table, where it has several.
    merged: Option<StateTable<Accumulators>>,
    /// The slots of that table, or of the only slice's, as they leave.
    order: KeyOrder,
    /// How many of them have left.
    next: usize,
}

impl Leaving {
    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        let merged = self.merged.as_ref().map_or(0, |table| table.usage().bytes as usize);
        merged + self.order.byte_len()
    }
}

impl AlignedWindows {
    /// Fires at one watermark, which may pass several multiples of `emit_every` at once. False when `out` is full.
    pub(super) fn fire_at(&mut self, watermark_ms: i64, purge_ms: i64, out: &mut ResultRows) -> Result<bool> {
        let early = self.early_at(watermark_ms);
        if self.next_fire_ms.is_some_and(|next| next <= watermark_ms) {
            let (names, from) = (self.unfired(watermark_ms), self.cursor.take());
            self.cursor = self.leave_all(names, from, watermark_ms, out)?;
            if self.cursor.is_some() {
                return Ok(false);
            }
            self.fired_ms = watermark_ms;
            self.find_next_fire();
        }
        self.fired_ms = self.fired_ms.max(watermark_ms);
        if early && !self.emit_changed(out)? {
            return Ok(false);
        }
        self.purge(purge_ms);
        Ok(true)
    }

    /// See [`crate::window::Windows::fire_at_end`].
    pub fn fire_at_end(&mut self, out: &mut ResultRows) -> Result<bool> {
        let (names, from) = (self.unfired(i64::MAX), self.ending.take());
        self.ending = self.leave_all(names, from, i64::MAX, out)?;
        if self.ending.is_some() {
            return Ok(false);
        }
        self.forget_changed(|_| true);
        self.ends += 1;
        self.ended = true;
        Ok(true)
    }

    /// Names of the windows with rows that are over at `watermark_ms` and have not left.
    pub(super) fn unfired(&self, watermark_ms: i64) -> BTreeSet<i64> {
        let over = |name: &i64| self.windows.over_at(*name) <= watermark_ms;
        let left = |name: &i64| self.has_left(*name);
        self.slices.iter().flat_map(|(key, _)| self.windows.windows_of(key).skip_while(left).take_while(over)).collect()
    }

    /// Whether all rows of the window called `name` have left for good.
    fn has_left(&self, name: i64) -> bool {
        let before_cursor = self.cursor.as_ref().is_some_and(|cursor| !cursor.is_early && name < cursor.name);
        before_cursor || self.windows.over_at(name) <= self.fired_ms
    }

    /// Whether rows of the window called `name` have left for good, or are about to.
    pub(super) fn leaves(&self, name: i64) -> bool {
        let until_ms = self.cursor.as_ref().map_or(i64::MIN, |cursor| cursor.until_ms);
        self.windows.over_at(name) <= self.fired_ms.max(until_ms)
    }

    /// Whether the row of `key` of the window called `name` has left for good.
    pub(super) fn has_left_of(&self, name: i64, key: &[u8]) -> bool {
        let up_to = self.cursor.as_ref().filter(|cursor| !cursor.is_early && name == cursor.name);
        self.has_left(name) || up_to.is_some_and(|cursor| cursor.key.as_deref().is_some_and(|last| key <= last))
    }

    /// Appends the last rows of the windows called `names`, behind those up to `from`; gives where it stopped.
    fn leave_all(
        &mut self,
        names: BTreeSet<i64>,
        from: Option<Cursor>,
        until_ms: i64,
        out: &mut ResultRows,
    ) -> Result<Option<Cursor>> {
        let first = from.as_ref().map_or(i64::MIN, |cursor| cursor.name);
        let mut key = from.and_then(|cursor| cursor.key);
        for name in names.into_iter().filter(|name| *name >= first) {
            let mut leaving = match self.leaving.take().filter(|leaving| leaving.name == name) {
                Some(leaving) => leaving,
                None => match self.begin(name, key.take().filter(|_| name == first)) {
                    Some(leaving) => leaving,
                    None => continue,
                },
            };
            let stopped = self.leave(&mut leaving, until_ms, out)?;
            if stopped.is_some() {
                self.leaving = Some(leaving);
                return Ok(stopped);
            }
        }
        Ok(None)
    }

    /// The window called `name`, if there is anything in it, and where to begin.
    fn begin(&mut self, name: i64, after: Option<Vec<u8>>) -> Option<Leaving> {
        if let Some(blocks) = &mut self.blocks {
            blocks.make(self.windows.slices_of(name), &self.slices, |parts| merge(&self.plan, parts, None));
        }
        let tables = tables(self.blocks.as_ref(), &self.slices, &self.windows, name);
        let merged = (tables.len() > 1).then(|| merge(&self.plan, &tables, None));
        let table = merged.as_ref().or(tables.first().copied())?;
        let order = KeyOrder::new(table);
        let next = after.map_or(0, |after| order.partition_point(|slot| table.key(slot) <= &after[..]));
        Some(Leaving { name, merged, order, next })
    }

    /// Appends the next rows of `leaving`; gives where it stopped if there are more.
    fn leave(&mut self, leaving: &mut Leaving, until_ms: i64, out: &mut ResultRows) -> Result<Option<Cursor>> {
        let (name, order) = (leaving.name, &leaving.order);
        let tables = match &leaving.merged {
            Some(merged) => vec![merged],
            None => tables(self.blocks.as_ref(), &self.slices, &self.windows, name),
        };
        let Some(table) = tables.first() else { return Ok(None) };
        let counted = self.plan.updates || self.revisions.get(window_bucket(name)).is_some();
        let mut revisions = (counted && !out.is_full()).then(|| self.revisions.bucket(window_bucket(name)));
        let row = RowOf { bounds: self.windows.bounds(name), revision: i64::from(self.ends), is_final: true };
        out.reserve(out.room().min(order.len() - leaving.next));
        let block = |from: usize| order.slots(from, TOGETHER).collect::<SmallVec<[u32; TOGETHER]>>();
        let mut ahead = block(leaving.next);
        table.prefetch_all(&ahead);
        while leaving.next < order.len() && !out.is_full() {
            let next = block(leaving.next + TOGETHER);
            table.prefetch_all(&next);
            let mut rows = std::mem::replace(&mut ahead, next);
            rows.truncate(out.room());
            table.prefetch_long(&rows);
            for rows in rows.chunks(if out.has_long() { 1 } else { TOGETHER }) {
                if out.is_full() {
                    break;
                }
                match &mut revisions {
                    None => out.push_all(&self.plan, table, rows, row)?,
                    Some(revisions) => {
                        rows.iter()
                            .try_for_each(|slot| push_row(&self.plan, table, *slot, Some(revisions), row, out))?;
                    }
                }
                leaving.next += rows.len();
            }
        }
        let key = leaving.next.checked_sub(1).map(|last| table.key(order.slot(last)).to_vec());
        Ok((leaving.next < order.len()).then_some(Cursor { is_early: false, until_ms, name, key }))
    }

    /// Appends the rows of `keys` of the window called `name`, in key order, whether or not there is room.
    pub(super) fn emit(
        &mut self,
        name: i64,
        keys: &BTreeSet<Vec<u8>>,
        is_final: bool,
        out: &mut ResultRows,
    ) -> Result<()> {
        let parts: Vec<_> = parts(&self.slices, &self.windows, name).collect();
        let merged = (parts.len() > 1).then(|| merge(&self.plan, &parts, Some(keys)));
        let Some(table) = merged.as_ref().or(parts.first().copied()) else { return Ok(()) };
        let revisions = self.revisions.bucket(window_bucket(name));
        let row = RowOf { bounds: self.windows.bounds(name), revision: i64::from(self.ends), is_final };
        for slot in slots_of(table, keys) {
            push_row(&self.plan, table, slot, Some(revisions), row, out)?;
        }
        Ok(())
    }
}

/// Tables whose rows are those of the window called `name`.
fn tables<'a>(
    blocks: Option<&'a Blocks>,
    slices: &'a Buckets<Accumulators>,
    windows: &Aligned,
    name: i64,
) -> Vec<&'a StateTable<Accumulators>> {
    match blocks {
        Some(blocks) => blocks.parts(name, windows.slices_of(name), slices),
        None => parts(slices, windows, name).collect(),
    }
}

/// Appends the row in `slot` of `table`, as the one behind those that `revisions` knows of.
fn push_row(
    plan: &WindowPlan,
    table: &StateTable<Accumulators>,
    slot: u32,
    revisions: Option<&mut StateTable<Revisions>>,
    mut row: RowOf,
    out: &mut ResultRows,
) -> Result<()> {
    let key = table.key(slot);
    row.revision += revisions.map_or(0, |revisions| next_revision(revisions, key));
    out.push(plan, key, table.slots(), slot, row)
}
