//! A partition's log with transactions: control markers, the last stable offset, what a `read_committed` reader sees, and the
//! sequence numbers of idempotent producers.
//!
//! Invariant: below the last stable offset every record's fate is known and never changes.

use crate::requests::{Identity, Record};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
    Marker,
}

struct Entry {
    producer: u64,
    fate: Fate,
    record: Option<Record>,
}

/// One partition.
#[derive(Default)]
pub struct Log {
    entries: Vec<Entry>,
    /// First offset of each transaction that has no marker here yet.
    open: BTreeMap<u64, usize>,
    /// Newest epoch, next sequence of each producer.
    producers: BTreeMap<u64, (u16, u64)>,
}

/// What an append came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    Done,
    OldEpoch,
    Gap,
}

impl Log {
    pub fn high_watermark(&self) -> usize {
        self.entries.len()
    }

    pub fn last_stable(&self) -> usize {
        self.open.values().copied().min().unwrap_or(self.entries.len())
    }

    /// Appends records of a transaction; a batch that is there already is acknowledged again.
    pub fn append(&mut self, producer: Identity, sequence: u64, records: &[Record]) -> Appended {
        let known = self.producers.entry(producer.id).or_insert((producer.epoch, 0));
        if producer.epoch < known.0 {
            return Appended::OldEpoch;
        }
        if producer.epoch > known.0 {
            *known = (producer.epoch, 0);
        }
        if sequence < known.1 {
            return Appended::Done;
        }
        if sequence > known.1 {
            return Appended::Gap;
        }
        known.1 += records.len() as u64;
        self.open.entry(producer.id).or_insert(self.entries.len());
        for record in records {
            self.entries.push(Entry { producer: producer.id, fate: Fate::Open, record: Some(record.clone()) });
        }
        Appended::Done
    }

    /// Ends a producer's transaction here.
    pub fn mark(&mut self, producer: Identity, commit: bool) {
        let known = self.producers.entry(producer.id).or_insert((producer.epoch, 0));
        if producer.epoch > known.0 {
            *known = (producer.epoch, 0);
        }
        if let Some(first) = self.open.remove(&producer.id) {
            let fate = if commit { Fate::Committed } else { Fate::Aborted };
            for entry in &mut self.entries[first..] {
                if entry.producer == producer.id && entry.fate == Fate::Open {
                    entry.fate = fate;
                }
            }
        }
        self.entries.push(Entry { producer: producer.id, fate: Fate::Marker, record: None });
    }

    /// What a `read_committed` reader at `position` is given, and its next position.
    pub fn read(&self, position: usize) -> (usize, impl Iterator<Item = &Record>) {
        let end = self.last_stable().max(position);
        let seen = self.entries[position..end].iter().filter(|entry| entry.fate == Fate::Committed);
        (end, seen.filter_map(|entry| entry.record.as_ref()))
    }
}
