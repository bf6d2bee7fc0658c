//! Lanes whose input has ended and that another worker takes over: the rows of their end have left, and do not leave again,
//! at whatever clock and however often an input ends, until records come.

mod common;

use common::json;
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::pipeline::{OutputBatch, Pipeline};
use streamcore::raw::{RawBatch, lane_id};
use streamcore::saving::{Extent, Loading, Saving};
use streamcore::spec::Spec;

const LANES: [i32; 3] = [0, 1, 2];
const LONG_MS: i64 = 3_600_000;

#[derive(Debug, Clone, Copy)]
struct Event {
    input: i32,
    key: u8,
    time_ms: i64,
}

impl Event {
    const fn lane(&self) -> i32 {
        self.key as i32 % 3
    }
}

const SOURCE: &str = r#"{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":40,"idle_timeout_ms":1000,
    "on_idle":"advance","keyed_by":"k","schema":{"k":"string"}}"#;

fn window(kind: &str, aggregate: &str, rest: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"k"}}],
        "aggregates":[{{"name":"n","text":"{aggregate}"}}]{rest}}}"#
    )
}

fn windowed(steps: &str) -> String {
    format!(r#"{{"source":{SOURCE},"steps":[{steps}]}}"#)
}

fn joined(kind: &str, steps: &str) -> String {
    format!(
        r#"{{"source":{SOURCE},"inputs":[{{"name":"other","source":{SOURCE}}}],"combine":"none",
        "steps":[{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"left",
        "kind":{{{kind}}}}}{steps}]}}"#
    )
}

/// Every way rows leave at an end: the name of it, and the description.
fn jobs() -> Vec<(&'static str, String)> {
    let (tumbling, wide) = (r#""type":"tumbling","size_ms":30"#, r#""type":"tumbling","size_ms":90"#);
    let chain = |kind: &str| windowed(&format!("{},{}", window(tumbling, "count()", ""), window(kind, "sum(n)", "")));
    let one = |kind: &str, rest: &str| windowed(&window(kind, "count()", rest));
    let behind = format!(",{}", window(wide, "count()", ""));
    vec![
        ("tumbling", one(tumbling, r#","allowed_lateness_ms":25"#)),
        ("hopping", one(r#""type":"hopping","size_ms":60,"slide_ms":10"#, "")),
        ("cumulate", one(r#""type":"cumulate","size_ms":60,"step_ms":20"#, "")),
        ("whole", one(r#""type":"whole""#, "")),
        ("session", one(r#""type":"session","gap_ms":15"#, "")),
        ("sliding", one(r#""type":"sliding","size_ms":40"#, "")),
        ("two windows", chain(wide)),
        ("a session behind", chain(r#""type":"session","gap_ms":40"#)),
        ("interval", joined(r#""type":"interval","from_ms":-10,"to_ms":15"#, "")),
        ("joined windows", joined(r#""type":"window","size_ms":20"#, "")),
        ("as of", joined(r#""type":"as_of""#, "")),
        ("a window behind", joined(r#""type":"interval","from_ms":-10,"to_ms":15"#, &behind)),
        // Rows before the last depend on where epochs end.
        ("updates", one(tumbling, r#","emit":"updates","emit_every_ms":20,"emit_when":{"text":"n >= 2"}"#)),
        ("updates with commits", one(tumbling, r#","emit":"updates""#)),
    ]
}

fn pipeline(text: &str, lanes: &[i32]) -> Pipeline {
    let spec = Spec::from_json(text.as_bytes()).expect("a description");
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    pipeline.assign(lanes);
    pipeline
}

fn is_joined(text: &str) -> bool {
    text.contains(r#""verb":"join""#)
}

/// Lanes of all inputs.
fn of_inputs(text: &str, lanes: &[i32]) -> Vec<i32> {
    (0..=i32::from(is_joined(text))).flat_map(|input| lanes.iter().map(move |lane| lane_id(input, *lane))).collect()
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for event in events {
        let id = lane_id(event.input, event.lane());
        let batch = batches.entry(id).or_insert_with(|| {
            let mut batch = RawBatch::new(event.lane(), "t".into(), 8, 256);
            batch.input = event.input;
            batch
        });
        let json = format!(r#"{{"t":{},"k":"k{}"}}"#, event.time_ms, event.key);
        let offset = offsets.entry(id).or_default();
        batch.push(Some(json.as_bytes()), *offset, Some(event.time_ms)).expect("small");
        batch.push_key(Some(format!("k{}", event.key).as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

/// A worker, and what has left it.
struct Worker {
    pipeline: Pipeline,
    offsets: BTreeMap<i32, i64>,
    rows: Vec<String>,
}

impl Worker {
    fn new(text: &str, lanes: &[i32]) -> Self {
        Self { pipeline: pipeline(text, lanes), offsets: BTreeMap::new(), rows: Vec::new() }
    }

    fn take(&mut self, outputs: &[OutputBatch]) {
        self.rows.extend(outputs.iter().flat_map(json));
    }

    fn push(&mut self, events: &[Event]) {
        for part in events.chunks(7) {
            let outputs = self.pipeline.push(&raws(part, &mut self.offsets), 0).expect("a push");
            self.take(&outputs);
        }
    }

    fn end(&mut self) {
        let outputs = self.pipeline.end().expect("an end");
        self.take(&outputs);
        let outputs = self.pipeline.drain().expect("rows");
        self.take(&outputs);
    }

    fn commit(&mut self) {
        let outputs = self.pipeline.drain().expect("rows");
        self.take(&outputs);
        let outputs = self.pipeline.seal().expect("balanced").outputs;
        self.take(&outputs);
        self.pipeline.committed();
    }

    /// Long after, all these lanes being read to their end, of some inputs for good.
    fn wait(&mut self, lanes: &[i32], finished: &[i32]) {
        self.pipeline.finish(finished);
        for now_ms in [0, LONG_MS, 2 * LONG_MS] {
            let outputs = self.pipeline.advance(now_ms, lanes).expect("rows");
            self.take(&outputs);
        }
        self.pipeline.finish(&[]);
    }

    /// Hands `lanes`, whose input has ended, over to `other`.
    fn hand_over(&self, lanes: &[i32], other: &mut Self) {
        for lane in lanes {
            let saved = self.pipeline.save_lane(*lane, Saving::new(Extent::Whole)).out;
            other.pipeline.restore_lane(*lane, Loading::whole(&saved)).expect("whole");
        }
        other.pipeline.restored();
        other.pipeline.note_ended(lanes, true);
    }
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_i32..2, 0_u8..9, 0_i64..40).prop_map(|(input, key, time_ms)| Event { input, key, time_ms });
    (proptest::collection::vec(event, 1..120), 0_i64..4).prop_map(|(events, step)| {
        let moved = |(number, event): (usize, Event)| Event { time_ms: event.time_ms + number as i64 * step, ..event };
        events.into_iter().enumerate().map(moved).collect()
    })
}

/// Those of a job, and of some lanes.
fn of_lanes(text: &str, events: &[Event], lanes: &[i32]) -> Vec<Event> {
    let is_there = |event: &&Event| lanes.contains(&event.lane()) && (event.input == 0 || is_joined(text));
    events.iter().filter(is_there).copied().collect()
}

/// Two workers, one of which ends with lanes 0 and 2 while the other is in the middle of lane 1 and takes them over.
fn of_two(text: &str, events: &[Event], at: usize) -> Vec<String> {
    let (mut first, mut second) = (Worker::new(text, &[0, 2]), Worker::new(text, &[1]));
    let (of_first, of_second) = (of_lanes(text, events, &[0, 2]), of_lanes(text, events, &[1]));
    let (before, after) = of_second.split_at(at.min(of_second.len()));
    second.push(before);
    second.commit();
    first.push(&of_first);
    first.end();
    first.commit();
    first.hand_over(&[0, 2], &mut second);
    // The other is not told that its own lane has more for it.
    second.wait(&of_inputs(text, &[0, 2]), &[lane_id(1, 0), lane_id(1, 2)]);
    second.push(after);
    second.commit();
    assert_eq!(second.pipeline.ended_lanes(), [0, 2]);
    second.wait(&of_inputs(text, &LANES), &[]);
    second.end();
    second.commit();
    first.rows.append(&mut second.rows);
    sorted(first.rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn two_workers_give_the_rows_of_one(events in events(), at in 0_usize..40) {
        for (name, text) in jobs().into_iter().filter(|(name, _)| !name.starts_with("updates")) {
            let mut one = Worker::new(&text, &LANES);
            one.push(&of_lanes(&text, &events, &LANES));
            one.end();
            prop_assert_eq!(of_two(&text, &events, at), sorted(one.rows), "{}", name);
        }
    }

    #[test]
    fn nothing_leaves_lanes_that_have_ended_until_records_come(events in events()) {
        for (name, text) in jobs() {
            let (mut first, mut second) = (Worker::new(&text, &LANES), Worker::new(&text, &[]));
            first.push(&of_lanes(&text, &events, &LANES));
            first.end();
            first.commit();
            first.hand_over(&LANES, &mut second);
            second.wait(&of_inputs(&text, &LANES), &of_inputs(&text, &[1]));
            second.end();
            second.commit();
            second.end();
            prop_assert_eq!(&second.rows, &Vec::<String>::new(), "{}", name);
        }
    }

    #[test]
    fn a_lane_that_goes_on_gives_its_rows_as_if_it_had_not_moved_and_the_others_none(events in events(), key in 0_u8..9) {
        let time_ms = events.iter().map(|event| event.time_ms).max().unwrap_or_default();
        let more = [Event { input: 0, key, time_ms }];
        let goes_on = more[0].lane();
        for (name, text) in jobs() {
            let (mut first, mut second) = (Worker::new(&text, &LANES), Worker::new(&text, &[]));
            first.push(&of_lanes(&text, &events, &LANES));
            first.end();
            first.commit();
            first.hand_over(&LANES, &mut second);
            // What is taken back has not come.
            second.push(&more);
            second.pipeline.rollback();
            prop_assert_eq!(second.pipeline.ended_lanes(), LANES);
            second.rows.clear();
            second.push(&more);
            second.commit();
            let others: Vec<i32> = LANES.into_iter().filter(|lane| *lane != goes_on).collect();
            prop_assert_eq!(second.pipeline.ended_lanes(), others);
            second.end();
            second.commit();
            let mut alone = Worker::new(&text, &[goes_on]);
            alone.push(&of_lanes(&text, &events, &[goes_on]));
            alone.end();
            alone.commit();
            alone.rows.clear();
            alone.push(&more);
            alone.commit();
            alone.end();
            alone.commit();
            prop_assert!(!alone.rows.is_empty(), "{}: the end has rows again", name);
            prop_assert_eq!(sorted(second.rows), sorted(alone.rows), "{}", name);
        }
    }
}

#[test]
fn in_a_run_without_an_end_clocks_let_leave_what_the_end_of_an_earlier_one_gave() {
    let text = &jobs()[0].1;
    let (mut first, mut second) = (Worker::new(text, &[0]), Worker::new(text, &[]));
    first.push(&[Event { input: 0, key: 0, time_ms: 10 }]);
    first.end();
    first.commit();
    first.hand_over(&[0], &mut second);
    second.pipeline.note_ended(&[0], false);
    second.wait(&[0], &[]);
    assert_eq!(second.rows.len(), 1, "{:?}", second.rows);
    second.end();
    assert_eq!(second.rows.len(), 1, "no end gives it again");
}

#[test]
fn lanes_that_meet_end_together() {
    let text = jobs()[0].1.replace(r#""keyed_by":"k","#, "");
    let (mut first, mut second) = (Worker::new(&text, &[0, 1]), Worker::new(&text, &[]));
    first.push(&[Event { input: 0, key: 0, time_ms: 10 }]);
    first.end();
    first.commit();
    first.hand_over(&[0, 1, -1], &mut second);
    assert_eq!(second.pipeline.ended_lanes(), Vec::<i32>::new());
    second.push(&[Event { input: 0, key: 1, time_ms: 12 }]);
    second.end();
    assert_eq!(second.rows.len(), 2, "the window of the lane that had ended is written again: {:?}", second.rows);
}
