//! Saving and loading tables: whole, what changed, or a part.
//!
//! Whole, a table is its keys and values in slot order. Else its rows have their slots, which is what later changes name
//! them by, and every save begins with a directory of the tables there are: a table that is dropped is one that the newest
//! directory lacks. Layout, numbers as varints but for the times:
//!
//! ```text
//! births  tables  { time  since  born  slots  rows } per table
//! per row: place << 1 | has key  [key]  value
//! ```
//!
//! where a place is the slot, less the one behind the slot before, folded to positive numbers, and keys and values have
//! their length before them. Invariant: a slot is the same key in every save of a table with one number of birth.

use super::{BucketKey, Buckets, Slots, StateTable, key_hash};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::TOGETHER;
use crate::saving::{Extent, Loading, PARTS, Piece, Saving};
use std::collections::BTreeMap;

/// Slots of a part that lie together.
const RUN: usize = 1024;
/// Bytes of a row, at least.
const ROW_BYTES_MIN: usize = 2;
/// Bytes of a directory's entry, at least.
const ENTRY_BYTES_MIN: usize = 19;

/// The part of a slot.
const fn part_of(slot: usize, born: u64) -> usize {
    (slot / RUN + born as usize) % PARTS
}

/// The slots below `len` of a part, run by run.
fn slots_of(part: usize, born: u64, len: usize) -> impl Iterator<Item = std::ops::Range<u32>> {
    let first = (part + PARTS - born as usize % PARTS) % PARTS;
    let runs = (first * RUN..len).step_by(PARTS * RUN);
    runs.map(move |start| start as u32..len.min(start + RUN) as u32)
}

/// A table as a directory has it.
struct Entry {
    key: BucketKey,
    born: u64,
    len: usize,
    /// Rows that follow.
    rows: usize,
}

/// The bytes of a row, the newest that were met.
type Row<'a> = (Option<&'a [u8]>, &'a [u8]);

impl<S: Slots> StateTable<S> {
    /// How many rows a save has.
    fn rows_of(&self, extent: Extent) -> usize {
        match extent {
            Extent::Changes if !self.unsaved => self.undo.len() + self.len() - self.committed_len,
            Extent::Part(part) => slots_of(part, self.born, self.len()).map(|run| run.len()).sum(),
            Extent::Whole | Extent::Changes => self.len(),
        }
    }

    fn save_rows(&self, saving: &mut Saving) {
        let mut next = 0;
        let committed = self.committed_len as u32;
        match saving.extent() {
            Extent::Changes if !self.unsaved => {
                // In the order of slots: their steps take fewer bytes, and what lies together is read together.
                let slots = self.touched.in_order(self.undo.iter().map(|undo| undo.slot), self.undo.len());
                for (at, slot) in slots.iter().enumerate() {
                    if let Some(ahead) = slots.get(at + TOGETHER) {
                        self.slots.prefetch(*ahead);
                    }
                    self.save_row(*slot, false, &mut next, saving);
                }
                (committed..self.len() as u32).for_each(|slot| self.save_row(slot, true, &mut next, saving));
            }
            Extent::Part(part) => slots_of(part, self.born, self.len())
                .flatten()
                .for_each(|slot| self.save_row(slot, true, &mut next, saving)),
            Extent::Whole | Extent::Changes => {
                (0..self.len() as u32).for_each(|slot| self.save_row(slot, true, &mut next, saving));
            }
        }
    }

    #[inline]
    fn save_row(&self, slot: u32, with_key: bool, next: &mut i64, saving: &mut Saving) {
        let step = i64::from(slot) - *next;
        *next = i64::from(slot) + 1;
        saving.out.put_varint(folded(step) << 1 | u64::from(with_key));
        if with_key {
            saving.out.put_bytes(self.key(slot));
        }
        saving.put_sized(|out| self.slots.encode(slot, out));
    }

    /// Fills this empty table with a row for each slot; the result counts as committed, and as saved.
    fn load_rows(&mut self, rows: &[Option<Row<'_>>]) -> Result<()> {
        for row in rows {
            let Some((Some(key), value)) = row else {
                return Err(Error::state("saved state lacks a row of a table; a part or changes are missing"));
            };
            let slot = self.load_key(key)?;
            let mut value = Reader::new(value);
            self.slots.decode(slot, &mut value)?;
            value.finish()?;
        }
        self.seal();
        self.commit();
        Ok(())
    }

    fn load_key(&mut self, key: &[u8]) -> Result<u32> {
        let hash = key_hash(key);
        if self.find(hash, key).is_some() {
            return Err(Error::state("saved state holds the same key twice; it was overwritten"));
        }
        Ok(self.insert_new(hash, key))
    }

    /// Appends keys and values, in slot order.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let live = || (0..self.len() as u32).filter(|slot| !self.slots.is_vacant(*slot));
        out.put_varint(live().count() as u64);
        for slot in live() {
            out.put_bytes(self.key(slot));
            self.slots.encode(slot, out);
        }
    }

    /// Fills this empty table with what `encode` wrote; the result counts as committed. Its slots are others than before.
    pub(super) fn decode(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(1)? {
            let slot = self.load_key(saved.bytes()?)?;
            self.slots.decode(slot, saved)?;
        }
        self.seal();
        self.commit();
        self.unsaved = true;
        Ok(())
    }
}

impl<S: Slots + Clone> Buckets<S> {
    /// Appends the tables.
    pub fn save(&self, saving: &mut Saving) {
        if saving.extent() == Extent::Whole {
            saving.out.put_varint(self.live.len() as u64);
            for (key, table) in &self.live {
                saving.out.put_i64(key.time);
                saving.out.put_i64(key.since);
                table.encode(&mut saving.out);
            }
            return;
        }
        saving.out.put_varint(self.births);
        saving.out.put_varint(self.live.len() as u64);
        for (key, table) in &self.live {
            let rows = table.rows_of(saving.extent());
            saving.out.put_i64(key.time);
            saving.out.put_i64(key.since);
            for number in [table.born, table.len() as u64, rows as u64] {
                saving.out.put_varint(number);
            }
            saving.count(rows as u64);
        }
        self.live.values().for_each(|table| table.save_rows(saving));
    }

    /// Fills these empty buckets; the result counts as committed.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        let tables = match saved.as_whole() {
            Some(whole) => self.load_whole(whole)?,
            None => self.load_pieces(saved)?,
        };
        for (key, table) in tables {
            if self.live.insert(key, table).is_some() {
                return Err(Error::state("saved state holds the same bucket twice; it was overwritten"));
            }
        }
        self.count_all();
        Ok(())
    }

    fn load_whole(&mut self, whole: &mut Reader<'_>) -> Result<Vec<(BucketKey, StateTable<S>)>> {
        let mut tables = Vec::new();
        for _ in 0..whole.count(17)? {
            let key = BucketKey { time: whole.i64()?, since: whole.i64()? };
            let mut table = self.new_table();
            table.decode(whole)?;
            tables.push((key, table));
        }
        Ok(tables)
    }

    fn load_pieces(&mut self, saved: &mut Loading<'_>) -> Result<Vec<(BucketKey, StateTable<S>)>> {
        let (pieces, based) = saved.pieces();
        let directories = pieces.iter_mut().map(|piece| read_directory(&mut piece.reader));
        let directories = directories.collect::<Result<Vec<_>>>()?;
        let (births, newest) = directories.last().expect("a load has pieces");
        self.births = *births;
        let mut rows_max = BTreeMap::<u64, usize>::new();
        for entry in directories.iter().flat_map(|(_, entries)| entries) {
            *rows_max.entry(entry.born).or_default() += entry.rows;
        }
        let mut gathered = BTreeMap::<u64, Vec<Option<Row<'_>>>>::new();
        for Entry { born, len, .. } in newest {
            // Each slot has had a row with its key.
            if *len > rows_max[born] {
                return Err(Error::state("saved state lacks rows of a table; a part or changes are missing"));
            }
            if gathered.insert(*born, vec![None; *len]).is_some() {
                return Err(Error::state("saved state holds a table twice; it was overwritten"));
            }
        }
        for (piece, (_, entries)) in pieces.iter_mut().zip(&directories) {
            for entry in entries {
                read_rows(piece, entry, based, gathered.get_mut(&entry.born))?;
            }
        }
        let mut tables = Vec::new();
        for Entry { key, born, .. } in newest {
            let mut table = StateTable::new(self.empty.clone());
            table.born = *born;
            table.load_rows(&gathered[born])?;
            tables.push((*key, table));
        }
        Ok(tables)
    }
}

fn read_directory(reader: &mut Reader<'_>) -> Result<(u64, Vec<Entry>)> {
    let births = reader.varint()?;
    let mut entries = Vec::new();
    let mut rows = 0_usize;
    for _ in 0..reader.count(ENTRY_BYTES_MIN)? {
        let key = BucketKey { time: reader.i64()?, since: reader.i64()? };
        let (born, len) = (reader.varint()?, reader.varint()?);
        if u32::try_from(len).is_err() || born > births {
            return Err(Error::state("saved state has a table of more slots than there are, or not born yet"));
        }
        entries.push(Entry { key, born, len: len as usize, rows: reader.count(ROW_BYTES_MIN)? });
        rows += entries.last().map_or(0, |entry| entry.rows);
    }
    if rows > reader.remaining() / ROW_BYTES_MIN {
        return Err(Error::state(format!("saved state claims {rows} rows, more than its bytes can hold")));
    }
    Ok((births, entries))
}

/// Reads the rows of a table, which go to `gathered` where the table is still there.
fn read_rows<'a>(
    piece: &mut Piece<'a>,
    entry: &Entry,
    based: &[u64; PARTS],
    mut gathered: Option<&mut Vec<Option<Row<'a>>>>,
) -> Result<()> {
    let mut next = 0_i64;
    for _ in 0..entry.rows {
        let place = piece.reader.varint()?;
        let key = if place & 1 == 1 { Some(piece.reader.bytes()?) } else { None };
        let value = piece.reader.bytes()?;
        let slot = next.wrapping_add(unfolded(place >> 1));
        next = slot.wrapping_add(1);
        let Some(gathered) = &mut gathered else { continue };
        let Some(row) = usize::try_from(slot).ok().and_then(|slot| gathered.get_mut(slot)) else {
            return Err(Error::state("saved state has a row that its table has no slot for; it was overwritten"));
        };
        if piece.counts_for(part_of(slot as usize, entry.born), based) {
            let known = row.and_then(|(known, _)| known);
            *row = Some((key.or(known), value));
        }
    }
    Ok(())
}

/// A number of either sign as one that is small where it is.
const fn folded(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

const fn unfolded(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
