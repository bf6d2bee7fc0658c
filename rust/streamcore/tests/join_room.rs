//! Bounds of the state where inputs are joined: a run stops before it holds more, or sheds rows that follow from each
//! lane's records alone.

mod common;

use arrow_array::cast::AsArray;
use common::{Course, Job, course, json, total};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use streamcore::error::{ErrorKind, Result};
use streamcore::metrics::Ledger;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::plan::StatefulKind;
use streamcore::raw::{RawBatch, lane_id};
use streamcore::spec::Spec;

const BOUND_MS: i64 = 20;
const INTERVAL: &str = r#""type":"interval","from_ms":-32,"to_ms":16"#;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    input: i32,
    lane: i32,
    key: Option<u8>,
    time_ms: i64,
}

fn spec(kind: &str, how: &str, steps: &str, limits: &str) -> Spec {
    let source = format!(
        r#"{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{BOUND_MS},"schema":{{"k":"string","v":"string"}}}}"#
    );
    let join = format!(
        r#"{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"{how}","kind":{{{kind}}}}}"#
    );
    let text = format!(
        r#"{{"source":{source},"inputs":[{{"name":"other","source":{source},
        "steps":[{{"verb":"dedupe","field":"v","within_ms":1000}}]}}],"steps":[{join}{steps}],"limits":{{{limits}}}}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for Event { input, lane, key, time_ms } in events {
        let id = lane_id(*input, *lane);
        let batch = batches.entry(id).or_insert_with(|| {
            let mut batch = RawBatch::new(*lane, "t".into(), 8, 256);
            batch.input = *input;
            batch
        });
        let offset = offsets.entry(id).or_default();
        let key = key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
        let json = format!(r#"{{"t":{time_ms},"k":{key},"v":"{id} {offset}"}}"#);
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        *offset += 1;
    }
    batches.into_values().collect()
}

fn lanes() -> Vec<i32> {
    [0, 1].iter().flat_map(|input| [0, 1].map(|lane| lane_id(*input, lane))).collect()
}

/// What left: the values of refused records, which name their lane and offset, and rows as JSON, in their order.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    shed: BTreeSet<String>,
    rows: Vec<String>,
}

impl Seen {
    fn take(&mut self, outputs: &[OutputBatch]) {
        for output in outputs {
            let OutputBatch { kind, batch, .. } = output;
            match kind {
                OutputKind::Rejected => {
                    let reasons = batch.column(0).as_string::<i32>();
                    assert!(reasons.iter().all(|reason| reason == Some("STATE_FULL")));
                    let values = batch.column_by_name("_value").expect("a column").as_binary::<i32>();
                    self.shed.extend(values.iter().flatten().map(|value| String::from_utf8_lossy(value).into_owned()));
                }
                OutputKind::Result => self.rows.extend(json(output)),
                _ => {}
            }
        }
    }
}

fn run(spec: &Spec, events: &[Event], course: &Course) -> (Seen, Ledger) {
    let mut seen = Seen::default();
    let (pipeline, _) = Job { spec, lanes: &lanes(), raws }.run(events, course, |outputs| seen.take(outputs));
    (seen, total(&pipeline))
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_i32..2, 0_i32..2, proptest::option::weighted(0.9, 0_u8..4), 0_i64..60);
    proptest::collection::vec(event, 1..200).prop_map(|events| {
        let timed = |(at, (input, lane, key, ahead)): (usize, (i32, i32, Option<u8>, i64))| {
            // A key of a table is in one partition.
            let lane = if input == 1 { i32::from(key.unwrap_or(0) % 2) } else { lane };
            Event { input, lane, key, time_ms: at as i64 * 3 + ahead }
        };
        events.into_iter().enumerate().map(timed).collect()
    })
}

const KINDS: [(&str, &str); 5] = [
    (INTERVAL, "inner"),
    (INTERVAL, "outer"),
    (r#""type":"window","size_ms":40"#, "left"),
    (r#""type":"as_of","tolerance_ms":48"#, "left"),
    (r#""type":"table","versioned":true"#, "left"),
];

/// The same events with one input as far behind the other as can be: the records of each lane stay in their order.
fn apart(events: &[Event]) -> Vec<Event> {
    let of_input = |input| events.iter().copied().filter(move |event| event.input == input);
    of_input(1).chain(of_input(0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_rows_are_shed_whatever_the_cuts_and_whichever_input_is_read_first(
        events in events(), course in course(), kind in 0..KINDS.len(), keys_max in 1_u64..12, bytes in proptest::bool::ANY,
    ) {
        let ((kind, how), is_table) = (KINDS[kind], KINDS[kind].0.contains("table"));
        // What waits for the other input, and a table, is not shed: it is bounded for rows and not for the run.
        let limits = if bytes {
            format!(r#""state_bytes_max":{},"on_full":"shed""#, 60_000 + 1_000 * keys_max)
        } else if is_table {
            format!(r#""keys_max":{},"on_full":"shed""#, 200 + keys_max)
        } else {
            format!(r#""keys_max":{keys_max},"on_full":"shed""#)
        };
        let steps = r#",{"verb":"filter","condition":{"text":"k != 'k3'"}}"#;
        let spec = spec(kind, how, steps, &limits);
        let whole = Course::smooth(10_000);
        let (expected, ledger) = run(&spec, &events, &whole);
        for (events, course) in [(&events, &course), (&apart(&events), &whole), (&apart(&events), &course)] {
            let (seen, disturbed) = run(&spec, events, course);
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(disturbed, ledger);
        }
        prop_assert_eq!((ledger.shed, ledger.rejected), (expected.shed.len() as u64, expected.shed.len() as u64));
    }

    #[test]
    fn rows_are_shed_that_come_to_a_full_lane(events in events(), keys_max in 1_u64..12, outer in proptest::bool::ANY) {
        let how = if outer { "outer" } else { "inner" };
        let spec = spec(INTERVAL, how, "", &format!(r#""keys_max":{keys_max},"on_full":"shed""#));
        let (seen, _) = run(&spec, &events, &Course::smooth(10_000));
        prop_assert_eq!(seen.shed, naive(&events, keys_max, outer));
    }
}

/// Lane by lane and row by row: the times at which the rows held go, in sixteenths of how long they are held.
fn naive(events: &[Event], keys_max: u64, outer: bool) -> BTreeSet<String> {
    let mut shed = BTreeSet::new();
    for id in lanes() {
        let (mut held, mut newest) = (Vec::new(), None::<i64>);
        let of_lane = events.iter().filter(|event| lane_id(event.input, event.lane) == id);
        for (offset, event) in of_lane.enumerate() {
            let watermark_ms = newest.map_or(i64::MIN, |newest| newest - BOUND_MS - 1);
            newest = newest.max(Some(event.time_ms));
            held.retain(|due_ms| *due_ms > watermark_ms);
            if event.time_ms <= watermark_ms || event.key.is_none() && !outer {
                continue;
            }
            // Matched with right rows up to 16 ms later, with left ones up to 32; an outer join waits as long before.
            let reach_ms = match (event.input, outer) {
                (0, false) => 16,
                (_, false) => 32,
                (_, true) => 32 + 16,
            };
            let stretch_ms = reach_ms / 16;
            let due_ms = (event.time_ms + reach_ms + stretch_ms - 1) / stretch_ms * stretch_ms;
            if (held.len() as u64) < keys_max {
                held.push(due_ms);
            } else {
                let key = event.key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
                shed.insert(format!(r#"{{"t":{},"k":{key},"v":"{id} {offset}"}}"#, event.time_ms));
            }
        }
    }
    shed
}

/// Pushes rows of distinct keys at one time to lane 0 of `input`.
fn pushed(pipeline: &mut Pipeline, input: i32, keys: std::ops::Range<u8>) -> Result<Vec<OutputBatch>> {
    let events: Vec<Event> = keys.map(|key| Event { input, lane: 0, key: Some(key), time_ms: 5 }).collect();
    pipeline.push(&raws(&events, &mut BTreeMap::from([(lane_id(input, 0), i64::from(input) * 1000)])), 0)
}

#[test]
fn a_run_stops_before_it_holds_more_and_can_be_taken_back() {
    for (kind, how) in KINDS {
        let mut pipeline = Pipeline::new(&spec(kind, how, "", r#""keys_max":10"#), 2).expect("a plan");
        pipeline.assign(&lanes());
        pushed(&mut pipeline, 0, 0..4).expect("room");
        pushed(&mut pipeline, 1, 0..6).expect("as many as may be");
        pipeline.seal().expect("balanced");
        pipeline.committed();
        let before = pipeline.save();
        let error = pushed(&mut pipeline, 0, 4..6).expect_err("two too many");
        assert_eq!(error.kind, ErrorKind::Full);
        for part in [
            "steps[0] (join) would hold more than limits.max_keys = 10 rows",
            "sources.other.steps[0] (dedupe): 6 ids",
            "6 rows of the left side of the join and 6 of the right one",
            "raise the limit, let the join reach less far",
        ] {
            assert!(error.message.contains(part), "{part} in {error}");
        }
        pipeline.rollback();
        assert_eq!(pipeline.save(), before);
    }
}

#[test]
fn a_table_counts_its_rows_and_stops_the_run_also_where_others_are_shed() {
    for versioned in [false, true] {
        let table = format!(r#""type":"table","versioned":{versioned}"#);
        let kept = "limits.max_keys = 5 rows of the right side for each of its 2 lanes (";
        let bounds =
            [(r#""keys_max":10"#, 10, "limits.max_keys = 10 rows ("), (r#""keys_max":5,"on_full":"shed""#, 10, kept)];
        for (limits, most, what) in bounds {
            let mut pipeline = Pipeline::new(&spec(&table, "left", "", limits), 2).expect("a plan");
            pipeline.assign(&lanes());
            pushed(&mut pipeline, 1, 0..most).expect("as many as may be: two lanes");
            let error = pushed(&mut pipeline, 1, 0..most + 1).map(|_| pipeline.usages());
            if !versioned {
                // The same keys again are no more.
                pipeline.rollback();
                pushed(&mut pipeline, 1, 0..most).expect("room");
            }
            let error = error.expect_err("one too many");
            assert_eq!(error.kind, ErrorKind::Full);
            let told = format!("steps[0] (join) would hold more than {what}");
            assert!(error.message.contains(&told), "{told} in {error}");
        }
    }
}

#[test]
fn the_bytes_of_a_join_are_bounded_and_go_with_its_rows() {
    let spec = spec(INTERVAL, "inner", "", r#""state_bytes_max":2000000"#);
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    pipeline.assign(&lanes());
    let event = |input, lane, number: i64| Event { input, lane, key: Some(number as u8), time_ms: number };
    let mut offsets = BTreeMap::new();
    // As long as both inputs go on, it holds what lies within its reach.
    for first in (0..20_000).step_by(100) {
        let both = [0, 1].into_iter().flat_map(|input| [0, 1].map(|lane| (input, lane)));
        let events: Vec<Event> =
            both.flat_map(|(input, lane)| (first..first + 100).map(move |at| event(input, lane, at))).collect();
        pipeline.push(&raws(&events, &mut offsets), 0).expect("room");
        pipeline.seal().expect("balanced");
        pipeline.committed();
    }
    assert!(pipeline.state_bytes() > 10_000);
    // One that runs ahead fills it.
    let mut more = (20_000..).step_by(100);
    let error = loop {
        let first = more.next().expect("enough");
        let events: Vec<Event> = (first..first + 100).map(|at| event(0, 0, at)).collect();
        match pipeline.push(&raws(&events, &mut offsets), 0) {
            Ok(_) => assert!(pipeline.state_bytes() <= 2_000_000),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Full);
    assert!(error.message.contains("limits.max_state_bytes = 2000000"), "{error}");
    let (_, join) = pipeline.usages().into_iter().find(|(step, _)| step.kind == StatefulKind::Join).expect("a join");
    assert!((2_000..40_000).contains(&join.entries), "{join:?}");
}

#[test]
fn what_waits_for_a_slower_input_stops_a_run_that_sheds() {
    let spec = spec(INTERVAL, "left", "", r#""state_bytes_max":100000,"on_full":"shed""#);
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    pipeline.assign(&lanes());
    let mut offsets = BTreeMap::new();
    let mut seen = Seen::default();
    let error = (0..).find_map(|first: i64| {
        let row = |at: i64| Event { input: 0, lane: 0, key: Some(1), time_ms: first * 1_000 + at };
        let events: Vec<Event> = (0..100).map(row).collect();
        pipeline.push(&raws(&events, &mut offsets), 0).map(|outputs| seen.take(&outputs)).err()
    });
    let error = error.expect("the right side never comes");
    assert_eq!(error.kind, ErrorKind::Full);
    assert!(error.message.contains("for each of 4 lanes, and as much again"), "{error}");
    assert!(error.message.contains("make max_lead shorter"), "{error}");
}
