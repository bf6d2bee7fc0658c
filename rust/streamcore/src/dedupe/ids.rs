//! The fingerprints remembered, each generation's in the order they came.
//!
//! `dedupe` names an id by its position, 32 of which in a row, a run, are of one generation. A generation takes run
//! after run and gives all of them back when it is forgotten. Invariant: after `rollback` it holds what it held at
//! the last `commit`, in the same order.

use super::index::POSITIONS_MAX;
use crate::codec::Write;
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::prefetch;
use std::collections::BTreeMap;

/// Ids of a run.
const RUN: usize = 32;
/// Ids of a page, which is what memory is asked for.
const PAGE: usize = 1024;
/// Runs below which those that nothing uses are not worth moving the others for.
const RUNS_MIN: usize = 2048;

/// What a rollback does to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came after the last commit.
    Forgotten,
    /// It was forgotten after the last commit.
    Remembered,
}

/// The ids of one stretch of event time.
#[derive(Debug, Clone, Default)]
struct Generation {
    number: i64,
    runs: Vec<u32>,
    len: usize,
    /// Ids at the last commit, and their digest.
    committed_len: usize,
    committed_digest: u64,
    /// How many of the ids `digest` is of: those at the last seal or commit.
    digested_len: usize,
    digest: u64,
}

impl Generation {
    fn position(&self, at: usize) -> u32 {
        self.runs[at / RUN] * RUN as u32 + (at % RUN) as u32
    }
}

/// Where the next ids of a generation go.
#[derive(Debug, Clone, Copy, Default)]
struct Next {
    generation: i64,
    /// Place of the generation.
    place: u32,
    position: u32,
    /// Ids for which there is room in the run.
    left: u32,
}

/// A digest of 128 bits in 64.
fn mix(bits: u128) -> u64 {
    let (low, high) = (bits as u64, (bits >> 64) as u64);
    let mixed = (low ^ high.rotate_left(23)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 32
}

/// Fingerprints by generation.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    pages: Vec<Box<[u128]>>,
    /// Place of the generation each run is of.
    owners: Vec<u32>,
    free_runs: Vec<u32>,
    generations: Vec<Generation>,
    free_places: Vec<u32>,
    /// Places of the generations remembered.
    live: BTreeMap<i64, u32>,
    /// Where the generation last added to goes on.
    next: Next,
    /// Places of those forgotten since the last commit.
    forgotten: Vec<u32>,
}

impl Ids {
    /// The fingerprint at `position`.
    #[inline]
    pub fn get(&self, position: u32) -> u128 {
        self.pages[position as usize / PAGE][position as usize % PAGE]
    }

    /// Has the fingerprint at `position` fetched.
    #[inline]
    pub fn prefetch(&self, position: u32) {
        prefetch(&self.pages[position as usize / PAGE][position as usize % PAGE]);
    }

    /// Number of the generation that the id at `position` is of.
    #[inline]
    pub fn generation_of(&self, position: u32) -> i64 {
        self.generations[self.owners[position as usize / RUN] as usize].number
    }

    /// Makes sure that `count` more ids can be added, of whatever generations.
    pub fn check_room(&self, count: usize) -> Result<()> {
        let free = self.free_runs.len() + (POSITIONS_MAX / RUN).saturating_sub(self.owners.len());
        if count <= free {
            return Ok(());
        }
        let message = "a dedupe step remembers nearly 2,147,483,648 ids of one lane, which is as many as it can; \
                       shorten its `within`, or spread the records over more partitions";
        Err(Error::new(ErrorKind::Limit, message))
    }

    /// Adds an id; gives its position. There is room.
    #[inline]
    pub fn push(&mut self, generation: i64, fingerprint: u128) -> u32 {
        let mut next = self.next;
        if next.generation != generation || next.left == 0 {
            next = self.next_of(generation);
        }
        self.generations[next.place as usize].len += 1;
        self.pages[next.position as usize / PAGE][next.position as usize % PAGE] = fingerprint;
        self.next = Next { position: next.position + 1, left: next.left - 1, ..next };
        next.position
    }

    /// Where the next id of a generation goes, in a new run if need be.
    #[inline(never)]
    fn next_of(&mut self, number: i64) -> Next {
        let place = self.place(number);
        if self.generations[place as usize].len.is_multiple_of(RUN) {
            let run = self.run(place);
            self.generations[place as usize].runs.push(run);
        }
        let generation = &self.generations[place as usize];
        let left = (RUN - generation.len % RUN) as u32;
        Next { generation: number, place, position: generation.position(generation.len), left }
    }

    /// Place of a generation, made if there is none.
    fn place(&mut self, number: i64) -> u32 {
        match self.live.get(&number) {
            Some(place) => *place,
            None => self.make(number),
        }
    }

    fn make(&mut self, number: i64) -> u32 {
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.generations.push(Generation::default());
            self.generations.len() as u32 - 1
        });
        self.generations[place as usize] = Generation { number, ..Generation::default() };
        self.live.insert(number, place);
        place
    }

    /// A run that nothing uses, from now on of the generation at `place`.
    fn run(&mut self, place: u32) -> u32 {
        let run = self.free_runs.pop().unwrap_or_else(|| self.new_page());
        self.owners[run as usize] = place;
        run
    }

    fn new_page(&mut self) -> u32 {
        self.pages.push(vec![0; PAGE].into_boxed_slice());
        let first = self.owners.len() as u32;
        self.owners.resize(self.owners.len() + PAGE / RUN, 0);
        self.free_runs.extend((first + 1..self.owners.len() as u32).rev());
        first
    }

    /// Generations remembered, oldest first.
    pub fn generations(&self) -> impl DoubleEndedIterator<Item = i64> {
        self.live.keys().copied()
    }

    /// Positions of a generation's ids, in the order they came.
    pub fn positions(&self, generation: i64) -> Vec<u32> {
        self.live.get(&generation).map_or_else(Vec::new, |place| self.positions_from(*place, 0))
    }

    fn positions_from(&self, place: u32, first: usize) -> Vec<u32> {
        let generation = &self.generations[place as usize];
        (first..generation.len).map(|at| generation.position(at)).collect()
    }

    /// Forgets a generation; until the next commit it can come back.
    pub fn forget(&mut self, generation: i64) {
        self.next = Next::default();
        self.forgotten.extend(self.live.remove(&generation));
    }

    fn release(&mut self, place: u32) {
        let generation = std::mem::take(&mut self.generations[place as usize]);
        self.free_runs.extend(generation.runs.into_iter().rev());
        self.free_places.push(place);
    }

    /// Digest of the ids remembered, whatever order they came in.
    pub fn seal(&mut self) -> u64 {
        let mut sum = 0_u64;
        for (number, place) in &self.live {
            let generation = &mut self.generations[*place as usize];
            let new = (generation.digested_len..generation.len).map(|at| {
                let position = generation.position(at) as usize;
                mix(self.pages[position / PAGE][position % PAGE])
            });
            generation.digest = new.fold(generation.digest, u64::wrapping_add);
            generation.digested_len = generation.len;
            sum = sum.wrapping_add(mix(u128::from(generation.digest) << 64 | u128::from(*number as u64)));
        }
        sum
    }

    /// Everything since the last commit is kept for good.
    pub fn commit(&mut self) {
        self.seal();
        for place in std::mem::take(&mut self.forgotten) {
            self.release(place);
        }
        for place in self.live.values() {
            let generation = &mut self.generations[*place as usize];
            (generation.committed_len, generation.committed_digest) = (generation.len, generation.digest);
        }
    }

    /// Everything since the last commit is taken back. `change` is told the positions of ids that are forgotten, and
    /// then of those that are remembered again; what is forgotten can still be read.
    pub fn rollback(&mut self, mut change: impl FnMut(&Self, u32, Change)) {
        self.next = Next::default();
        let live: Vec<u32> = self.live.values().copied().collect();
        for place in live {
            let committed_len = self.generations[place as usize].committed_len;
            for position in self.positions_from(place, committed_len) {
                change(self, position, Change::Forgotten);
            }
            self.cut(place);
        }
        for place in std::mem::take(&mut self.forgotten) {
            self.live.insert(self.generations[place as usize].number, place);
            self.cut(place);
            for position in self.positions_from(place, 0) {
                change(self, position, Change::Remembered);
            }
        }
    }

    /// Takes the ids since the last commit from the generation at `place`, and the generation if that is all.
    fn cut(&mut self, place: u32) {
        let generation = &mut self.generations[place as usize];
        generation.len = generation.committed_len;
        (generation.digested_len, generation.digest) = (generation.committed_len, generation.committed_digest);
        let freed = generation.runs.split_off(generation.len.div_ceil(RUN));
        self.free_runs.extend(freed.into_iter().rev());
        if self.generations[place as usize].len == 0 {
            self.live.remove(&self.generations[place as usize].number);
            self.release(place);
        }
    }

    /// True when most runs are used by nothing, so that a copy would be much smaller. Only between epochs.
    pub fn is_sparse(&self) -> bool {
        self.owners.len() > RUNS_MIN && self.free_runs.len() * 4 > self.owners.len() * 3
    }

    /// The same ids in as little memory as they take, at other positions. Only between epochs.
    pub fn compacted(&self) -> Self {
        let mut compacted = Self::default();
        for number in self.live.keys() {
            for position in self.positions(*number) {
                compacted.push(*number, self.get(position));
            }
        }
        compacted.commit();
        compacted
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.live.values().map(|place| self.generations[*place as usize].len).sum()
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        let runs: usize = self.generations.iter().map(|generation| generation.runs.capacity() * 4).sum();
        self.pages.len() * PAGE * size_of::<u128>()
            + (self.owners.capacity() + self.free_runs.capacity()) * 4
            + self.generations.capacity() * size_of::<Generation>()
            + runs
    }

    /// Appends the ids, generation by generation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.live.len() as u64);
        for number in self.live.keys() {
            let positions = self.positions(*number);
            out.put_i64(*number);
            out.put_varint(positions.len() as u64);
            out.reserve(positions.len() * size_of::<u128>());
            positions.into_iter().for_each(|position| out.extend_from_slice(&self.get(position).to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is remembered, and the positions it has.
    fn held(ids: &Ids) -> Vec<(i64, u32, u128)> {
        let of = |generation| ids.positions(generation).into_iter().map(move |at| (generation, at, ids.get(at)));
        ids.generations().flat_map(of).collect()
    }

    #[test]
    fn a_rollback_tells_what_it_changes_and_leaves_what_was_committed() {
        let mut ids = Ids::default();
        for id in 0..100 {
            ids.push(i64::from(id % 3), u128::from(id as u32));
        }
        let digest = ids.seal();
        ids.commit();
        let before = held(&ids);
        let gone: Vec<u32> = ids.positions(1);
        ids.forget(1);
        let new: Vec<u32> = (200..300).map(|id| ids.push(i64::from(id % 2) * 7, u128::from(id as u32))).collect();
        let mut changes = (Vec::new(), Vec::new());
        ids.rollback(|ids, position, change| match change {
            Change::Forgotten => changes.0.push(ids.get(position)),
            Change::Remembered => changes.1.push(position),
        });
        changes.0.sort_unstable();
        assert_eq!(changes.0, (200..300).collect::<Vec<u128>>());
        assert_eq!(new.len(), changes.0.len());
        assert_eq!(changes.1, gone);
        assert_eq!((held(&ids), ids.seal()), (before, digest));
    }

    #[test]
    fn runs_of_what_was_forgotten_are_used_again() {
        let mut ids = Ids::default();
        let mut bytes = 0;
        for generation in 0..50 {
            for id in 0..3000 {
                ids.push(generation, id);
            }
            ids.forget(generation - 1);
            ids.commit();
            if generation == 2 {
                bytes = ids.byte_len();
            }
        }
        assert!(ids.byte_len() <= bytes * 5 / 4, "{bytes} bytes became {}", ids.byte_len());
        let compacted = ids.compacted();
        assert_eq!(compacted.positions(49).len(), 3000);
        assert!(compacted.byte_len() <= ids.byte_len());
    }
}
