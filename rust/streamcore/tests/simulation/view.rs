//! What a reader of a state partition has gathered: blocks by epoch, manifests by slot.
//!
//! Invariant: a manifest is complete only if every block that it names is here.

use crate::engine::Sums;
use crate::requests::{ManifestRecord, Record};
use std::collections::BTreeMap;
use streamcore::checkpoint::machine::Manifest;

struct Block {
    sums: Vec<(usize, i64)>,
    timers: u64,
}

#[derive(Default)]
pub struct View {
    /// Where to read on.
    pub position: usize,
    blocks: BTreeMap<(u64, u64), Block>,
    slots: [Option<ManifestRecord>; 4],
}

impl View {
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Delta { owner_epoch, epoch, sums, timers } | Record::Base { owner_epoch, epoch, sums, timers } => {
                self.blocks.insert((owner_epoch, epoch), Block { sums, timers });
            }
            Record::Tombstones { before } => self.blocks.retain(|(_, epoch), _| *epoch >= before),
            Record::Manifest(record) => {
                let slot = record.manifest.epoch as usize % self.slots.len();
                self.slots[slot] = Some(*record);
            }
            Record::Row(_) => {}
        }
    }

    pub fn manifests(&self) -> Vec<Manifest> {
        let seen =
            |record: &ManifestRecord| Manifest { complete: self.sums(record).is_some(), ..record.manifest.clone() };
        self.slots.iter().flatten().map(seen).collect()
    }

    pub fn find(&self, owner_epoch: u64, epoch: u64) -> Option<&ManifestRecord> {
        let is_it = |one: &&ManifestRecord| (one.manifest.owner_epoch, one.manifest.epoch) == (owner_epoch, epoch);
        self.slots.iter().flatten().find(is_it)
    }

    pub fn newest(&self) -> Option<&ManifestRecord> {
        self.slots.iter().flatten().max_by_key(|one| (one.manifest.owner_epoch, one.manifest.epoch))
    }

    /// The state that a manifest names, unless a block is missing.
    pub fn sums(&self, record: &ManifestRecord) -> Option<Sums> {
        let mut state = Sums { next: record.manifest.offsets[0], ..Sums::default() };
        for name in record.base.iter().chain(&record.deltas) {
            let block = self.blocks.get(name)?;
            state.of_keys.extend(block.sums.iter().copied());
            state.timers = block.timers;
        }
        state.of_keys.retain(|_, sum| *sum != 0);
        Some(state)
    }
}
