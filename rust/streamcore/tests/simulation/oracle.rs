//! What should be there: the inputs, each key's sum after each record, the sums of windows where lanes meet, and what a reader has
//! seen so far.
//!
//! It shares no code with the model engine. Invariant: the first thing found wrong is kept; a run with one is a failure.

use crate::broker::Broker;
use crate::disk::Published;
use crate::engine::{Sums, WINDOW};
use crate::requests::{Layout, MEETING, Record, Row};
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
    /// Windows of all lanes seen, by number.
    windows: Vec<bool>,
    /// Last offset of each lane and key.
    last: BTreeMap<(Lane, usize), i64>,
    /// What a reader of each state partition has gathered.
    views: BTreeMap<Lane, View>,
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
            windows: Vec::new(),
            last: BTreeMap::new(),
            views: layout.all().map(|lane| (lane, View::default())).collect(),
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
            Row::Window { number, .. } => (&mut self.windows, number as usize),
        };
        if seen.len() <= at {
            seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut seen[at], true) {
            self.fail(format!("A2: a reader saw {row:?} twice"));
        }
        if let Row::Window { sum, .. } = row {
            let expected = (at < self.windows_over()).then(|| self.window(at));
            if expected != Some(sum) {
                self.fail(format!("A3: a reader saw {row:?}, expected {expected:?}"));
            }
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

    /// How many windows every lane has passed, where lanes meet.
    fn windows_over(&self) -> usize {
        let slowest = self.inputs.iter().map(Vec::len).min().filter(|_| self.layout.meets);
        slowest.unwrap_or_default() / WINDOW
    }

    /// How many windows of all lanes a reader has seen.
    pub fn windows_seen(&self) -> usize {
        self.windows.iter().filter(|seen| **seen).count()
    }

    /// The sum of all that all lanes have for a window so far.
    fn window(&self, number: usize) -> i64 {
        let of_lane = |inputs: &Vec<Input>| {
            inputs.iter().skip(number * WINDOW).take(WINDOW).map(|input| input.value).sum::<i64>()
        };
        self.inputs.iter().map(of_lane).sum()
    }

    /// How many epochs of all lanes together are committed.
    pub fn epochs(&mut self, broker: &Broker) -> u64 {
        for (lane, view) in &mut self.views {
            let (next, records) = broker.logs[self.layout.state(*lane)].read(view.position);
            records.cloned().for_each(|record| view.add(record));
            view.position = next;
        }
        self.views.values().filter_map(View::newest).map(|newest| newest.manifest.epoch).sum()
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
        let (seen, over) = (self.windows_seen(), self.windows_over());
        if seen != over {
            return Some(format!("A2: {seen} windows of all lanes, of which {over} are over"));
        }
        None
    }

    /// At the end: A1 and A6 (state), A2 (nothing missing), files.
    pub fn check_end(&mut self, broker: &Broker, published: &Published) {
        self.epochs(broker);
        for lane in self.layout.all() {
            let Some(newest) = self.views[&lane].newest() else {
                self.fail(format!("A6: lane {lane} has no manifest"));
                continue;
            };
            let (state, expected) = (self.views[&lane].sums(newest), self.state(lane));
            if state.as_ref() != Some(&expected) || expected.digest() != newest.manifest.digest {
                self.fail(format!("A1, A6: the state of lane {lane} is {state:?}, expected {expected:?}"));
            }
            self.check_files(lane, published);
        }
        for lane in 0..self.layout.lanes {
            if self.timers[lane].contains(&false) {
                self.fail(format!("A2: a timer's row of lane {lane} is missing: {:?}", self.timers[lane]));
            }
        }
    }

    /// What a lane's state should be at the end; of what lanes share: the windows that are not over.
    fn state(&self, lane: Lane) -> Sums {
        if lane == MEETING {
            let over = self.windows_over();
            let longest = self.inputs.iter().map(Vec::len).max().unwrap_or_default();
            let open = (over..longest.div_ceil(WINDOW)).map(|number| (number, self.window(number)));
            return Sums { of_keys: open.collect(), next: 0, timers: over as u64 };
        }
        let (next, timers) = self.ends(lane);
        Sums { of_keys: self.sums[lane as usize].clone(), next, timers }
    }

    /// How many records a lane has, and how many timers have fired in it; of what lanes share: how many windows have left.
    fn ends(&self, lane: Lane) -> (i64, u64) {
        if lane == MEETING {
            return (0, self.windows_over() as u64);
        }
        (self.inputs[lane as usize].len() as i64, self.timers[lane as usize].len() as u64)
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
                    Row::Timer { number, .. } | Row::Window { number, .. } => {
                        std::mem::replace(&mut timer_next, number + 1) == *number
                    }
                };
                if !is_next {
                    return self.fail(format!("a file of lane {lane}, epoch {epoch}, has {row:?} out of order"));
                }
            }
        }
        let ends = self.ends(lane);
        if (offset_next, timer_next) != ends {
            self.fail(format!("files of lane {lane} end at {:?}, expected {ends:?}", (offset_next, timer_next)));
        }
    }
}

/// An oracle of two lanes that meet: 1 in each record of the first window, of lane 0 in one of the second, too.
fn two_lanes() -> Oracle {
    let mut oracle = Oracle::new(Layout { lanes: 2, outputs: 1, meets: true });
    for lane in [0; WINDOW + 1].into_iter().chain([1; WINDOW]) {
        oracle.input(lane, 0, 1);
    }
    oracle
}

#[test]
fn a_shared_window_that_is_whole_and_comes_once_is_right() {
    let mut oracle = two_lanes();
    oracle.see(Row::Window { number: 0, sum: 2 * WINDOW as i64 });
    assert_eq!((oracle.wrong, oracle.windows.as_slice()), (None, [true].as_slice()));
}

#[test]
fn what_a_shared_window_has_lost_or_twice_and_one_that_leaves_early_or_twice_is_noticed() {
    let whole = 2 * WINDOW as i64;
    let of_first = |sum| Row::Window { number: 0, sum };
    let cases = [
        (vec![of_first(whole - 1)], "A3"),
        (vec![of_first(whole + 1)], "A3"),
        (vec![Row::Window { number: 1, sum: 1 }], "A3"),
        (vec![of_first(whole), of_first(whole)], "A2"),
    ];
    for (rows, expected) in cases {
        let mut oracle = two_lanes();
        rows.iter().for_each(|row| oracle.see(*row));
        assert!(oracle.wrong.as_ref().is_some_and(|wrong| wrong.starts_with(expected)), "{rows:?}: {:?}", oracle.wrong);
    }
}
