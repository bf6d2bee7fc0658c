//! What should be there: the inputs, each key's sum after each record, and what a reader has seen so far.
//!
//! It shares no code with the model engine. Invariant: the first thing found wrong is kept; a run with one is a failure.

use crate::broker::Broker;
use crate::engine::Published;
use crate::requests::{Layout, Record, Row};
use crate::view::View;
use std::collections::BTreeMap;
use streamcore::checkpoint::machine::Lane;

/// One input record and the answer to it.
pub struct Input {
    pub key: usize,
    pub value: i64,
    /// Sum of its key in its lane up to here.
    sum: i64,
}

pub struct Oracle {
    layout: Layout,
    pub inputs: Vec<Vec<Input>>,
    sums: Vec<BTreeMap<usize, i64>>,
    /// Where the reader of each output partition is.
    positions: Vec<usize>,
    /// Updates seen of each lane, by offset; timer firings seen of each lane, by number.
    updates: Vec<Vec<bool>>,
    timers: Vec<Vec<bool>>,
    /// Last offset of each lane and key.
    last: BTreeMap<(Lane, usize), i64>,
    /// What a reader of each state partition has gathered.
    views: Vec<View>,
    pub wrong: Option<String>,
}

impl Oracle {
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            inputs: (0..layout.lanes).map(|_| Vec::new()).collect(),
            sums: vec![BTreeMap::new(); layout.lanes],
            positions: vec![0; layout.outputs],
            updates: vec![Vec::new(); layout.lanes],
            timers: vec![Vec::new(); layout.lanes],
            last: BTreeMap::new(),
            views: (0..layout.lanes).map(|_| View::default()).collect(),
            wrong: None,
        }
    }

    pub fn fail(&mut self, what: impl Into<String>) {
        self.wrong.get_or_insert(what.into());
    }

    pub fn input(&mut self, lane: usize, key: usize, value: i64) {
        let sum = self.sums[lane].entry(key).or_default();
        *sum += value;
        self.inputs[lane].push(Input { key, value, sum: *sum });
    }

    /// A reader comes by, also while things go wrong: A2 (no row twice), A3 (every value is that of its position, and
    /// positions of a key rise).
    pub fn read(&mut self, broker: &Broker) {
        for output in 0..self.layout.outputs {
            let (next, records) = broker.logs[self.layout.lanes + output].read(self.positions[output]);
            let rows = records.filter_map(|record| if let Record::Row(row) = record { Some(*row) } else { None });
            let rows: Vec<Row> = rows.collect();
            self.positions[output] = next;
            for row in rows {
                self.see(row);
            }
        }
    }

    fn see(&mut self, row: Row) {
        let (seen, at) = match row {
            Row::Update { lane, offset, .. } => (&mut self.updates[lane as usize], offset as usize),
            Row::Timer { lane, number } => (&mut self.timers[lane as usize], number as usize),
        };
        if seen.len() <= at {
            seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut seen[at], true) {
            self.fail(format!("A2: a reader saw {row:?} twice"));
        }
        let Row::Update { lane, offset, key, sum } = row else { return };
        let expected = self.inputs[lane as usize].get(at).map(|input| (input.key, input.sum));
        if expected != Some((key, sum)) {
            self.fail(format!("A3: a reader saw {row:?}, expected {expected:?}"));
        }
        let last = self.last.insert((lane, key), offset);
        if last.is_some_and(|last| last >= offset) {
            self.fail(format!("A3: a reader saw {row:?} after offset {last:?}"));
        }
    }

    /// How many epochs of all lanes together are committed.
    pub fn epochs(&mut self, broker: &Broker) -> u64 {
        for (lane, view) in self.views.iter_mut().enumerate() {
            let (next, records) = broker.logs[self.layout.state(lane as Lane)].read(view.position);
            records.cloned().for_each(|record| view.add(record));
            view.position = next;
        }
        self.views.iter().filter_map(View::newest).map(|newest| newest.manifest.epoch).sum()
    }

    /// Whether everything has been read and committed; if not, what is missing. Asked until it is so (A7).
    pub fn missing(&self, broker: &Broker) -> Option<String> {
        let lanes: Vec<Lane> = (0..self.layout.lanes as Lane).collect();
        for (place, log) in broker.logs.iter().enumerate() {
            if log.last_stable() != log.high_watermark() {
                return Some(format!("A7: partition {place} is open from {} on", log.last_stable()));
            }
        }
        if broker.transactions.unfinished() > 0 {
            return Some("A7: a transaction hangs".to_owned());
        }
        let offsets = broker.group.fetch(&lanes, true).unwrap_or_default();
        for (lane, inputs) in lanes.iter().zip(&self.inputs) {
            let end = inputs.len() as i64;
            let group = offsets.iter().find(|(one, _)| one == lane).and_then(|(_, offset)| *offset);
            if group != Some(end) {
                return Some(format!("A7: the group has {group:?} for lane {lane}, whose end is {end}"));
            }
            let seen = self.updates[*lane as usize].iter().filter(|seen| **seen).count();
            if seen != inputs.len() {
                return Some(format!("A2: {seen} updates of lane {lane} for {end} records"));
            }
        }
        None
    }

    /// At the end: A1 and A6 (state), A2 (nothing missing), files.
    pub fn check_end(&mut self, broker: &Broker, published: &Published) {
        self.epochs(broker);
        for lane in 0..self.layout.lanes {
            let view = &self.views[lane];
            let Some(newest) = view.newest() else {
                self.fail(format!("A6: lane {lane} has no manifest"));
                continue;
            };
            let state = view.sums(newest);
            let expected: Vec<i64> =
                (0..crate::engine::KEYS).map(|key| *self.sums[lane].get(&key).unwrap_or(&0)).collect();
            let end = self.inputs[lane].len() as i64;
            let timers = self.timers[lane].len() as u64;
            let is_right = state.is_some_and(|state| {
                state.of_keys[..] == expected[..]
                    && (state.next, state.timers) == (end, timers)
                    && state.digest() == newest.manifest.digest
            });
            if !is_right {
                self.fail(format!(
                    "A1, A6: the state of lane {lane} is {state:?}, expected {expected:?}, {end}, {timers}"
                ));
            }
            if self.timers[lane].contains(&false) {
                self.fail(format!("A2: a timer's row of lane {lane} is missing: {:?}", self.timers[lane]));
            }
            self.check_files(lane as Lane, published);
        }
    }

    /// The published files of a lane, in order of epoch, hold every row once.
    fn check_files(&mut self, lane: Lane, published: &Published) {
        let (mut offset_next, mut timer_next) = (0, 0);
        for ((_, epoch), versions) in published.range((lane, 0)..(lane + 1, 0)) {
            if versions.iter().any(|one| one != &versions[0]) {
                return self.fail(format!("a file of lane {lane}, epoch {epoch}, was published twice with other rows"));
            }
            for row in versions[0].iter() {
                let is_next = match row {
                    Row::Update { offset, .. } => std::mem::replace(&mut offset_next, offset + 1) == *offset,
                    Row::Timer { number, .. } => std::mem::replace(&mut timer_next, number + 1) == *number,
                };
                if !is_next {
                    return self.fail(format!("a file of lane {lane}, epoch {epoch}, has {row:?} out of order"));
                }
            }
        }
        let ends = (self.inputs[lane as usize].len() as i64, self.timers[lane as usize].len() as u64);
        if (offset_next, timer_next) != ends {
            self.fail(format!("files of lane {lane} end at {:?}, expected {ends:?}", (offset_next, timer_next)));
        }
    }
}
