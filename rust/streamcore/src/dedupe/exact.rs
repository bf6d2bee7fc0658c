//! The ids themselves, as 76-bit fingerprints.
//!
//! They lie in one table (`table`), each with the number of its generation; forgetting a generation makes its entries
//! room for others. Invariant: a record is a copy only if the whole fingerprint is remembered, by a generation that is
//! not over.

mod saved;
#[cfg(test)]
mod tests;

use super::generations::{Generation, Generations, mix};
use super::line::{Entry, TAGS_MAX, cut};
use super::part::Tried;
use super::table::Table;
use super::{Arrival, Horizon, Judged, Remembered, has_room};
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::TOGETHER;
use crate::room::Room;

/// Entries of a block of those added.
const ADDED_BLOCK: usize = 4096;
/// As many ids as are left for later before they are judged: their home lines should still be in the cache.
const LATER_MAX: usize = 1024;
/// Blocks that wait for the next epoch take this part of what the table takes, at most.
const SPARE_PART: usize = 32;
/// Parts of the table whose strays are swept when a generation has ended, so that none lies in the way for long after its own.
const PARTS_SWEPT: usize = 16;

/// The ids one lane remembers.
#[derive(Debug)]
pub struct Exact {
    table: Table,
    generations: Generations,
    /// Entries added since the last commit, in blocks of `ADDED_BLOCK`: what a rollback takes out. Blocks never move.
    added: Vec<Vec<Entry>>,
    /// Blocks of epochs before, to be used again: fresh memory is dearer than all that is done with it.
    spare: Vec<Vec<Entry>>,
    /// Hashes of a batch; kept for its memory alone.
    hashes: Vec<u64>,
    /// Which of a batch are left for later; empty between batches.
    later: Vec<usize>,
    /// No save of parts or changes has the ids, whatever was committed.
    unsaved: bool,
}

impl Exact {
    /// Remembers nothing yet.
    pub fn new(horizon: Horizon) -> Self {
        let (table, generations) = (Table::new(), Generations::new(horizon));
        Self {
            table,
            generations,
            added: Vec::new(),
            spare: Vec::new(),
            hashes: Vec::new(),
            later: Vec::new(),
            unsaved: false,
        }
    }

    /// See [`super::Dedupe::judge`].
    pub fn judge(&mut self, arrivals: &[Arrival], room: Option<&Room>, judged: &mut Vec<Judged>) -> Result<()> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(arrivals.iter().map(|arrival| self.table.hash(cut(arrival.fingerprint))));
        let judged_before = judged.len();
        // Where a batch before ended in an error.
        self.later.clear();
        // The lines of each stretch are on their way while the one before is judged.
        self.table.prefetch(&hashes[..TOGETHER.min(hashes.len())]);
        for first in (0..hashes.len()).step_by(TOGETHER) {
            let end = hashes.len().min(first + TOGETHER);
            self.table.prefetch(&hashes[end..hashes.len().min(end + TOGETHER)]);
            for at in first..end {
                let verdict = match room {
                    None => self.judge_at_home(hashes[at], &arrivals[at]),
                    Some(_) => Ok(Some(self.judge_one(hashes[at], &arrivals[at], room)?)),
                };
                let verdict = match verdict {
                    Ok(Some(verdict)) => verdict,
                    Ok(None) => self.put_off(at),
                    Err(NoTag) => {
                        self.judge_later(&hashes, arrivals, &mut judged[judged_before..])?;
                        self.judge_one(hashes[at], &arrivals[at], None)?
                    }
                };
                judged.push(verdict);
            }
            if self.later.len() >= LATER_MAX {
                self.judge_later(&hashes, arrivals, &mut judged[judged_before..])?;
            }
        }
        self.judge_later(&hashes, arrivals, &mut judged[judged_before..])?;
        self.hashes = hashes;
        Ok(())
    }

    /// Leaves record `at` of the batch for later; the verdict given does not count.
    #[inline]
    fn put_off(&mut self, at: usize) -> Judged {
        self.later.push(at);
        Judged::Full
    }

    /// Judges those that were left for later, for which the home line is not enough: their lines, too, are asked for by
    /// the stretch. Of two records with one id the first is judged first all the same: where it has to wait so has the
    /// other, as nothing on which that depends becomes better until here (see [`Table::insert_at_home`]), and the clock
    /// of the other is no earlier.
    fn judge_later(&mut self, hashes: &[u64], arrivals: &[Arrival], judged: &mut [Judged]) -> Result<()> {
        let mut later = std::mem::take(&mut self.later);
        let lines = |table: &Table, later: &[usize]| {
            table.prefetch_further(later.iter().take(TOGETHER).map(|at| hashes[*at]));
        };
        lines(&self.table, &later);
        for first in (0..later.len()).step_by(TOGETHER) {
            let end = later.len().min(first + TOGETHER);
            lines(&self.table, &later[end..]);
            for at in &later[first..end] {
                judged[*at] = self.judge_one(hashes[*at], &arrivals[*at], None)?;
            }
        }
        later.clear();
        self.later = later;
        Ok(())
    }

    /// The verdict, if the home line is enough for one.
    #[inline]
    fn judge_at_home(&mut self, hash: u64, arrival: &Arrival) -> std::result::Result<Option<Judged>, NoTag> {
        let Arrival { event_time_ms, watermark_ms, .. } = *arrival;
        if self.generations.is_over(event_time_ms, watermark_ms) {
            return Ok(Some(Judged::BeyondHorizon));
        }
        let is_copy = |generations: &Generations, tag| generations.remembers(tag, watermark_ms);
        let tag = |generations: &mut Generations| generations.tag_at(event_time_ms).ok_or(NoTag);
        let key = (hash, cut(arrival.fingerprint));
        Ok(match self.table.insert_at_home(key, &mut self.generations, is_copy, tag)? {
            Tried::Held => Some(Judged::Duplicate),
            Tried::Added(entry) => {
                self.note(entry);
                Some(Judged::New)
            }
            Tried::Later => None,
        })
    }

    fn judge_one(&mut self, hash: u64, arrival: &Arrival, room: Option<&Room>) -> Result<Judged> {
        let Arrival { event_time_ms, watermark_ms, .. } = *arrival;
        if self.generations.is_over(event_time_ms, watermark_ms) {
            return Ok(Judged::BeyondHorizon);
        }
        let fingerprint = cut(arrival.fingerprint);
        let is_copy = |generations: &Generations, tag| generations.remembers(tag, watermark_ms);
        let tag = |generations: &mut Generations| {
            if !has_room(room, || generations.ids_at(watermark_ms)) {
                return Err(Refused::Full);
            }
            generations.tag_at(event_time_ms).ok_or(Refused::NoTag)
        };
        let mut inserted = self.table.insert((hash, fingerprint), &mut self.generations, is_copy, tag);
        if matches!(inserted, Err(Refused::NoTag)) {
            // Entries that nobody has overwritten yet may hold up the tags of generations that are gone.
            self.table.sweep(&mut self.generations);
            inserted = self.table.insert((hash, fingerprint), &mut self.generations, is_copy, tag);
        }
        let entry = match inserted {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Judged::Duplicate),
            Err(Refused::Full) => return Ok(Judged::Full),
            Err(Refused::NoTag) => return Err(too_many()),
        };
        self.note(entry);
        Ok(Judged::New)
    }

    /// Counts an entry that was added, and keeps it for undo.
    #[inline]
    fn note(&mut self, entry: Entry) {
        self.generations.add(entry);
        match self.added.last_mut() {
            Some(block) if block.len() < ADDED_BLOCK => block.push(entry),
            _ => self.add_block(entry),
        }
    }

    /// Begins a block of those added with `entry`.
    #[cold]
    fn add_block(&mut self, entry: Entry) {
        let mut block = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(ADDED_BLOCK));
        block.push(entry);
        self.added.push(block);
    }

    /// See [`super::Dedupe::forget`].
    pub fn forget(&mut self, watermark_ms: i64) {
        self.generations.forget(watermark_ms);
    }

    /// Digest of the ids remembered.
    pub fn seal(&self) -> u64 {
        self.generations.remembered().fold(0, |sum, (_, generation)| {
            sum.wrapping_add(mix(u128::from(generation.digest) << 64 | u128::from(generation.number as u64)))
        })
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.unsaved = false;
        self.generations.commit();
        self.table.sweep_strays(self.generations.take_ended() * PARTS_SWEPT, &mut self.generations);
        self.spare.append(&mut self.added);
        self.table.shrink(self.generations.ids() as usize, &mut self.generations);
        if self.generations.held_up() * 2 > TAGS_MAX {
            self.table.sweep(&mut self.generations);
        }
        self.generations.trim();
        self.spare.truncate(self.table.byte_len() / SPARE_PART / (ADDED_BLOCK * size_of::<Entry>()));
        self.spare.iter_mut().for_each(Vec::clear);
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        for entry in std::mem::take(&mut self.added).into_iter().flatten() {
            // One of a generation that was over within the epoch may have made room for another.
            if self.table.remove(entry) {
                self.generations.subtract(entry);
            }
        }
        self.generations.rollback();
    }

    /// See [`super::Dedupe::byte_len`].
    pub fn byte_len(&self) -> usize {
        let generations = self.generations.all.capacity() * size_of::<Generation>();
        self.table.byte_len() + self.undo_len() + block_bytes(&self.spare) + generations
    }

    /// Of those bytes, those of the undo list. A commit keeps its blocks for the next epoch, up to a part of the table's bytes.
    pub fn undo_len(&self) -> usize {
        block_bytes(&self.added)
    }

    /// See [`super::Dedupe::remembered`].
    pub fn remembered(&self) -> Remembered {
        let (ids, generations) = (self.generations.ids(), self.generations.live.len() as u64);
        Remembered { ids, generations, bytes: self.byte_len() as u64, ..Remembered::default() }
    }
}

/// Why an id is not remembered.
enum Refused {
    /// There is no room for another.
    Full,
    /// Its generation would be one too many.
    NoTag,
}

const fn block_bytes(blocks: &[Vec<Entry>]) -> usize {
    blocks.len() * ADDED_BLOCK * size_of::<Entry>()
}

/// No tag is left for a generation.
struct NoTag;

fn too_many() -> Error {
    let message = "a dedupe step remembers ids of 1,023 eighths of its `within`, which is as many as it can: event times \
                   lie too far apart; set `max_future_skew`, or a longer `within`";
    Error::new(ErrorKind::Limit, message)
}
