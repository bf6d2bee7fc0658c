//! The model engine of one worker: per lane, sums by key with a copy to go back to, rows in order, blocks and manifests. Where lanes
//! meet, each record adds to a window of all of them too, which leaves when the slowest has passed its end.
//!
//! Invariant: a lane's state is a function of its input up to `next` and its number of timer firings; what lanes share is one of the
//! inputs of all. As in the engine, what is kept and what is taken back is that of all lanes at once.

use crate::disk::Disk;
use crate::random::mix;
use crate::requests::{File, MEETING, ManifestRecord, Record, Row};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use streamcore::checkpoint::machine::{Lane, LaneEpoch, Manifest, SealedLane};

pub const KEYS: usize = 6;
/// So many records of each lane are one window of what lanes share.
pub const WINDOW: usize = 5;
/// Every so many epochs the whole state is written.
const BASE_EVERY: u64 = 4;

/// State of one lane; of what lanes share: the sum of each open window by its number, and how many have left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    pub of_keys: BTreeMap<usize, i64>,
    pub next: i64,
    pub timers: u64,
}

impl Sums {
    /// Digest of the rows, not of the position.
    pub fn digest(&self) -> u64 {
        let row = |(key, sum): (&usize, &i64)| mix(mix(*key as u64 + 1) ^ *sum as u64);
        let rows = self.of_keys.iter().map(row).fold(0_u64, u64::wrapping_add);
        rows.wrapping_add(mix(self.timers))
    }

    pub fn clock_ms(&self, lane: Lane) -> i64 {
        10 * if lane == MEETING { self.timers as i64 * WINDOW as i64 } else { self.next }
    }

    fn of(&self, key: usize) -> i64 {
        self.of_keys.get(&key).copied().unwrap_or_default()
    }
}

/// A block's owner epoch and epoch.
type Block = (u64, u64);

/// One lane in memory.
#[derive(Debug, Clone, Default)]
pub struct LaneState {
    pub now: Sums,
    pub kept: Sums,
    owner_epoch: u64,
    epoch: u64,
    /// Of the last seal.
    seal: u64,
    /// Rows of the epoch, and how many of them have gone to the producer.
    rows: Vec<Row>,
    sent: usize,
    base: Option<Block>,
    deltas: Vec<Block>,
    /// Files of kept epochs that are not published.
    files: Vec<File>,
}

/// All lanes in memory, and those kept as a cache.
#[derive(Default)]
pub struct Engine {
    pub lanes: BTreeMap<Lane, LaneState>,
    cache: BTreeMap<Lane, LaneState>,
}

impl Engine {
    pub fn apply(&mut self, lane: Lane, offset: i64, key: usize, value: i64) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        *state.now.of_keys.entry(key).or_default() += value;
        state.rows.push(Row::Update { lane, offset, key, sum: state.now.of(key) });
        state.now.next = offset + 1;
        if let Some(shared) = self.lanes.get_mut(&MEETING) {
            *shared.now.of_keys.entry(offset as usize / WINDOW).or_default() += value;
        }
    }

    /// Windows leave that every lane there is has passed.
    pub fn let_windows_leave(&mut self) {
        let slowest = self.lanes.range(0..).map(|(_, state)| state.now.next).min();
        let (Some(slowest), Some(shared)) = (slowest, self.lanes.get_mut(&MEETING)) else { return };
        for number in shared.now.timers..slowest as u64 / WINDOW as u64 {
            let sum = shared.now.of_keys.remove(&(number as usize)).unwrap_or_default();
            shared.rows.push(Row::Window { number, sum });
            shared.now.timers = number + 1;
        }
    }

    /// Whether lanes have committed epochs, and what they share has none.
    pub fn lacks_shared(&self) -> bool {
        let has_state = |(_, state): (&Lane, &LaneState)| state.epoch > 0;
        self.lanes.get(&MEETING).is_some_and(|shared| shared.epoch == 0) && self.lanes.iter().any(has_state)
    }

    pub fn fire_timer(&mut self, lane: Lane) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.rows.push(Row::Timer { lane, number: state.now.timers });
        state.now.timers += 1;
    }

    /// Where lanes share state (`meets`), offsets of all fence its epoch, so all have a manifest from the first one on.
    pub fn seal(&mut self, lanes: &[Lane], seal: u64, meets: bool) -> Vec<SealedLane> {
        let sealed = |lane: &Lane| {
            let state = self.lanes.get_mut(lane)?;
            state.seal = seal;
            let is_first = meets && state.epoch == 0;
            let (offsets, outputs) = (vec![state.now.next], state.rows.len() as u64 + u64::from(is_first));
            Some(SealedLane {
                lane: *lane,
                offsets,
                clock_ms: state.now.clock_ms(*lane),
                digest: state.now.digest(),
                outputs,
                seal,
            })
        };
        lanes.iter().filter_map(sealed).collect()
    }

    /// Rows that have not gone to the producer yet.
    pub fn take_rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for state in self.lanes.values_mut() {
            rows.extend_from_slice(&state.rows[state.sent..]);
            state.sent = state.rows.len();
        }
        rows
    }

    /// Deltas, or a base and what it makes obsolete.
    pub fn blocks(&self, of: &LaneEpoch) -> Vec<Record> {
        let state = &self.lanes[&of.lane];
        let (owner_epoch, epoch, timers) = (of.owner_epoch, of.epoch, state.now.timers);
        if epoch.is_multiple_of(BASE_EVERY) {
            let sums = state.now.of_keys.iter().map(|(key, sum)| (*key, *sum)).collect();
            let before = epoch.saturating_sub(2 * BASE_EVERY);
            return vec![Record::Base { owner_epoch, epoch, sums, timers }, Record::Tombstones { before }];
        }
        let keys: BTreeSet<usize> = state.now.of_keys.keys().chain(state.kept.of_keys.keys()).copied().collect();
        let changed = |key| (state.now.of(key) != state.kept.of(key)).then(|| (key, state.now.of(key)));
        let sums = keys.into_iter().filter_map(changed).collect();
        vec![Record::Delta { owner_epoch, epoch, sums, timers }]
    }

    pub fn manifest(&self, of: &LaneEpoch) -> ManifestRecord {
        let state = &self.lanes[&of.lane];
        let (base, deltas) = state.chain(of);
        let mut files = state.files.clone();
        files.push(state.file(of.lane, of.epoch));
        let manifest = Manifest {
            owner_epoch: of.owner_epoch,
            epoch: of.epoch,
            offsets: vec![state.now.next],
            clock_ms: state.now.clock_ms(of.lane),
            digest: state.now.digest(),
            seal: state.seal,
            complete: true,
        };
        ManifestRecord { manifest, base, deltas, files }
    }

    /// The epoch of these lanes is kept. There is one way back for all lanes, and it is given up.
    pub fn keep(&mut self, epochs: &[LaneEpoch]) {
        for of in epochs {
            let Some(state) = self.lanes.get_mut(&of.lane) else { continue };
            let file = state.file(of.lane, of.epoch);
            (state.base, state.deltas) = state.chain(of);
            state.files.push(file);
            (state.owner_epoch, state.epoch) = (of.owner_epoch, of.epoch);
        }
        for state in self.lanes.values_mut() {
            state.kept = state.now.clone();
            state.rows.clear();
            state.sent = 0;
        }
    }

    /// All lanes go back to what is kept.
    pub fn roll_back(&mut self) {
        for state in self.lanes.values_mut() {
            state.now = state.kept.clone();
            state.rows.clear();
            state.sent = 0;
        }
    }

    /// Gives the lane's files their names; false where one is gone.
    pub fn publish(&mut self, of: &LaneEpoch, disk: &mut Disk) -> bool {
        let Some(state) = self.lanes.get_mut(&of.lane) else { return true };
        let are_there = std::mem::take(&mut state.files).into_iter().all(|file| disk.publish(file));
        if of.epoch > state.epoch {
            disk.publish_early(state.file(of.lane, of.epoch));
        }
        are_there
    }

    /// The number of the lane's last seal.
    pub fn seal_of(&self, lane: Lane) -> u64 {
        self.lanes[&lane].seal
    }

    pub fn forget(&mut self, lane: Lane, keep_cache: bool) {
        match self.lanes.remove(&lane) {
            Some(state) if keep_cache => self.cache.insert(lane, state),
            _ => self.cache.remove(&lane),
        };
    }

    /// Puts a lane in place: from memory where it is the same epoch, else from the state partition.
    pub fn restore(&mut self, lane: Lane, manifest: Option<&Manifest>, trust_cache: bool, view: &View) -> Option<()> {
        let cached = self.cache.remove(&lane);
        let Some(manifest) = manifest else {
            self.lanes.insert(lane, LaneState::default());
            return Some(());
        };
        let same = |state: &LaneState| {
            let at = (state.owner_epoch, state.epoch, state.kept.digest());
            trust_cache || at == (manifest.owner_epoch, manifest.epoch, manifest.digest)
        };
        if let Some(state) = cached.filter(same) {
            self.lanes.insert(lane, state);
            return Some(());
        }
        let record = view.find(manifest.owner_epoch, manifest.epoch)?;
        let sums = view.sums(record)?;
        let state = LaneState {
            now: sums.clone(),
            kept: sums,
            owner_epoch: manifest.owner_epoch,
            epoch: manifest.epoch,
            base: record.base,
            deltas: record.deltas.clone(),
            files: record.files.clone(),
            ..LaneState::default()
        };
        self.lanes.insert(lane, state);
        Some(())
    }
}

impl LaneState {
    /// The blocks that a manifest of this epoch names.
    fn chain(&self, of: &LaneEpoch) -> (Option<Block>, Vec<Block>) {
        let own = (of.owner_epoch, of.epoch);
        if of.epoch.is_multiple_of(BASE_EVERY) {
            return (Some(own), Vec::new());
        }
        let mut deltas = self.deltas.clone();
        deltas.push(own);
        (self.base, deltas)
    }

    fn file(&self, lane: Lane, epoch: u64) -> File {
        File { lane, epoch, seal: self.seal, rows: Rc::new(self.rows.clone()) }
    }
}
