//! The folder of the file sink, which every worker reaches: files without a name, and what was published under one.
//!
//! Invariant: a file that a committed manifest lists is there, with a name or without, whichever workers have died or left.

use crate::requests::{File, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use streamcore::checkpoint::machine::{Lane, LaneEpoch};

/// Names a file was published under, and what was in it.
pub type Published = BTreeMap<(Lane, u64), Vec<Rc<Vec<Row>>>>;

/// A file without a name: its lane, its epoch, and the seal of that.
pub type Unnamed = (Lane, u64, u64);

#[derive(Default)]
pub struct Disk {
    unnamed: BTreeSet<Unnamed>,
    pub published: Published,
}

impl Disk {
    /// Writes files of epochs that are being committed; gives them.
    pub fn write(&mut self, epochs: &[LaneEpoch], seal_of: impl Fn(Lane) -> u64) -> Vec<Unnamed> {
        let files: Vec<Unnamed> = epochs.iter().map(|of| (of.lane, of.epoch, seal_of(of.lane))).collect();
        self.unnamed.extend(&files);
        files
    }

    pub fn remove(&mut self, files: &[Unnamed]) {
        for file in files {
            self.unnamed.remove(file);
        }
    }

    /// Gives a file its name; false where it is gone.
    pub fn publish(&mut self, file: File) -> bool {
        let is_there = self.unnamed.remove(&file.unnamed()) || self.published.contains_key(&(file.lane, file.epoch));
        self.publish_early(file);
        is_there
    }

    /// A seeded bug: the same, of one that is not written yet.
    pub fn publish_early(&mut self, file: File) {
        self.published.entry((file.lane, file.epoch)).or_default().push(file.rows);
    }

    /// Whether files of the lane have names that are of later epochs than this one: whoever has just read of it was too slow.
    pub fn is_behind(&self, lane: Lane, epoch: u64) -> bool {
        self.published.range((lane, epoch + 1)..(lane + 1, 0)).next().is_some()
    }

    /// A lane is at an epoch: removes what is of that or one before, and not listed. What is of later ones may be another worker's
    /// who is about to commit it.
    pub fn sweep(&mut self, lane: Lane, epoch: u64, listed: &[File]) {
        let listed: BTreeSet<Unnamed> = listed.iter().map(File::unnamed).collect();
        self.unnamed.retain(|file| file.0 != lane || file.1 > epoch || listed.contains(file));
    }

    /// Which of the files that are listed is gone.
    pub fn gone(&self, listed: &[File]) -> Option<Unnamed> {
        let listed: BTreeSet<Unnamed> = listed.iter().map(File::unnamed).collect();
        let is_gone =
            |file: &&Unnamed| !self.unnamed.contains(*file) && !self.published.contains_key(&(file.0, file.1));
        listed.iter().find(is_gone).copied()
    }
}

impl File {
    const fn unnamed(&self) -> Unnamed {
        (self.lane, self.epoch, self.seal)
    }
}
