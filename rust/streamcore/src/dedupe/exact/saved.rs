//! Saving and loading the ids themselves.
//!
//! Whole, ids lie generation by generation. Else a directory of the generations comes first, then ids, each with its
//! generation's place in it: those added since the last commit, or those of one part of the table, which the highest bits
//! of a fingerprint choose. Ids of generations that the newest directory lacks are forgotten. Invariant: a generation
//! has as many ids as were counted.

use super::{Exact, too_many};
use crate::codec::{Reader, Write};
use crate::dedupe::line::{Entry, FINGERPRINT_BITS, cut, part_of};
use crate::dedupe::spread;
use crate::error::{Error, Result};
use crate::saving::{Extent, Loading, PARTS, Piece, Saving};
use hashbrown::HashMap;
use std::collections::BTreeMap;

const ID_BYTES: usize = FINGERPRINT_BITS.div_ceil(8) as usize;
const _: () = assert!(PARTS == spread::PARTS, "a part of the table is a part of what is saved");

impl Exact {
    /// See [`super::super::Dedupe::save`].
    pub fn save(&self, saving: &mut Saving) {
        match saving.extent() {
            Extent::Whole => self.save_whole(&mut saving.out),
            Extent::Changes if self.generations.reuses && !self.unsaved => {
                let added = self.added_and_there();
                self.save_ids(saving, || added.iter().copied());
            }
            Extent::Changes if !self.unsaved => self.save_ids(saving, || self.added.iter().flatten().copied()),
            Extent::Changes => self.save_ids(saving, || self.table.iter()),
            Extent::Part(part) => self.save_ids(saving, || self.table.part(part)),
        }
    }

    /// The entries added since the commit, each once and without those that made room for others: where a tag was two
    /// generations' in the epoch, theirs look as if they were of the later one.
    fn added_and_there(&self) -> Vec<Entry> {
        let mut added: Vec<Entry> = self.added.iter().flatten().copied().collect();
        added.sort_unstable();
        added.dedup();
        added.retain(|entry| self.table.holds(*entry));
        added
    }

    fn save_whole(&self, out: &mut Vec<u8>) {
        out.put_varint(self.generations.live.len() as u64);
        // Where the next id of each tag goes, and where they end.
        let mut places = vec![None; self.generations.all.len()];
        for (tag, generation) in self.generations.remembered() {
            out.put_i64(generation.number);
            out.put_varint(generation.entries);
            let end = out.len() + generation.entries as usize * size_of::<u128>();
            places[tag as usize] = Some((out.len(), end));
            out.resize(end, 0);
        }
        for entry in self.table.iter() {
            if let Some((place, _)) = &mut places[entry.tag() as usize] {
                out[*place..*place + size_of::<u128>()].copy_from_slice(&entry.fingerprint().to_le_bytes());
                *place += size_of::<u128>();
            }
        }
        let is_filled = |(place, end): &(usize, usize)| place == end;
        assert!(places.iter().flatten().all(is_filled), "a generation has as many ids in the table as it has counted");
    }

    fn save_ids<E: Iterator<Item = Entry>>(&self, saving: &mut Saving, entries: impl Fn() -> E) {
        let out = &mut saving.out;
        out.put_varint(self.generations.live.len() as u64);
        let mut places = vec![None; self.generations.all.len()];
        for (place, (tag, generation)) in self.generations.remembered().enumerate() {
            out.put_i64(generation.number);
            out.put_varint(generation.entries);
            places[tag as usize] = Some(place as u64);
        }
        let remembered = || entries().filter_map(|entry| Some((entry, places[entry.tag() as usize]?)));
        let count = remembered().count() as u64;
        out.put_varint(count);
        for (entry, place) in remembered() {
            out.extend_from_slice(&entry.fingerprint().to_le_bytes()[..ID_BYTES]);
            out.put_varint(place);
        }
        saving.count(count);
    }

    /// See [`super::super::Dedupe::load`].
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        match saved.as_whole() {
            Some(whole) => self.load_whole(whole)?,
            None => self.load_pieces(saved)?,
        }
        let is_whole = saved.as_whole().is_some();
        self.commit();
        self.unsaved = is_whole;
        Ok(())
    }

    fn load_whole(&mut self, whole: &mut Reader<'_>) -> Result<()> {
        for _ in 0..whole.count(9)? {
            let number = whole.i64()?;
            for _ in 0..whole.count(size_of::<u128>())? {
                self.load_id(number, whole.i128()? as u128)?;
            }
        }
        Ok(())
    }

    fn load_pieces(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        let (pieces, based) = saved.pieces();
        let directories = pieces.iter_mut().map(|piece| read_directory(&mut piece.reader));
        let directories = directories.collect::<Result<Vec<_>>>()?;
        let newest: BTreeMap<i64, u64> = directories.last().expect("a load has pieces").iter().copied().collect();
        let mut counts = HashMap::<i64, u64>::new();
        for (piece, directory) in pieces.iter_mut().zip(&directories) {
            for _ in 0..piece.reader.count(ID_BYTES + 1)? {
                let (number, fingerprint) = read_id(piece, directory)?;
                if newest.contains_key(&number) && piece.counts_for(part_of(fingerprint), based) {
                    self.load_id(number, fingerprint)?;
                    *counts.entry(number).or_default() += 1;
                }
            }
        }
        if newest.iter().any(|(number, count)| counts.get(number).copied().unwrap_or_default() != *count) {
            return Err(Error::state("saved state lacks ids of a dedupe step; a part or changes are missing"));
        }
        Ok(())
    }

    fn load_id(&mut self, number: i64, fingerprint: u128) -> Result<()> {
        let twice = || Error::state("saved state remembers an id twice; it was overwritten");
        self.put_id(number, fingerprint)?.then_some(()).ok_or_else(twice)
    }

    /// Remembers an id as of a generation; false where it is.
    fn put_id(&mut self, number: i64, fingerprint: u128) -> Result<bool> {
        let fingerprint = cut(fingerprint);
        let tag = self.generations.tag(number).ok_or_else(too_many)?;
        let hash = self.table.hash(fingerprint);
        let is_it = |_: &_, other| other == tag;
        let added = self.table.insert((hash, fingerprint), &mut self.generations, is_it, |_| Ok::<_, Error>(tag))?;
        added.into_iter().for_each(|entry| self.generations.add(entry));
        Ok(added.is_some())
    }

    /// See [`super::super::Dedupe::learn`].
    pub fn learn(&mut self, other: &Self) -> Result<()> {
        let numbers: HashMap<u16, i64> =
            other.generations.remembered().map(|(tag, generation)| (tag, generation.number)).collect();
        for entry in other.table.iter() {
            if let Some(number) = numbers.get(&entry.tag()) {
                self.put_id(*number, entry.fingerprint())?;
            }
        }
        self.commit();
        Ok(())
    }
}

fn read_directory(reader: &mut Reader<'_>) -> Result<Vec<(i64, u64)>> {
    (0..reader.count(9)?).map(|_| Ok((reader.i64()?, reader.varint()?))).collect()
}

fn read_id(piece: &mut Piece<'_>, directory: &[(i64, u64)]) -> Result<(i64, u128)> {
    let mut fingerprint = [0; 16];
    fingerprint[..ID_BYTES].copy_from_slice(piece.reader.take(ID_BYTES)?);
    let place = usize::try_from(piece.reader.varint()?).ok().and_then(|place| directory.get(place));
    let Some((number, _)) = place else {
        return Err(Error::state("saved state has an id of a generation that it does not name; it was overwritten"));
    };
    Ok((*number, cut(u128::from_le_bytes(fingerprint))))
}
