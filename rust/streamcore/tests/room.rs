//! Bounds of the state: which rows are shed follows from each lane's records alone, and a run stops before it holds more.

mod common;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use common::{Course, Job, course, json, total};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use streamcore::error::ErrorKind;
use streamcore::metrics::Ledger;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    lane: i32,
    key: u8,
    time_ms: i64,
}

const BOUND_MS: i64 = 40;

/// A window step of one key column, and what follows it in the description.
fn window(kind: &str, rest: &str) -> String {
    let aggregates = r#"[{"name":"n","text":"count()"},{"name":"ks","text":"count_distinct(u)"}]"#;
    format!(r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"k"}}],"aggregates":{aggregates}{rest}}}"#)
}

fn spec(steps: &str, keyed: bool, limits: &str) -> Spec {
    let keyed = if keyed { r#","keyed_by":"k""# } else { "" };
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{BOUND_MS},
        "schema":{{"k":"string","u":"string"}}{keyed}}},"steps":[{steps}],"limits":{{{limits}}}}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

/// Every kind of step that keeps state, each with whether lanes' windows are their own.
fn jobs() -> Vec<(String, bool)> {
    let dedupe = r#"{"verb":"dedupe","field":"u","within_ms":80}"#;
    let tumbling = window(r#""type":"tumbling","size_ms":50"#, "");
    let both = |steps: String| [(steps.clone(), false), (steps, true)];
    let updates = r#","emit":"updates","emit_every_ms":30"#;
    let again = window(r#""type":"tumbling","size_ms":200"#, "").replace("count_distinct(u)", "sum(n)");
    let steps = [
        tumbling.clone(),
        window(r#""type":"hopping","size_ms":60,"slide_ms":25"#, r#","allowed_lateness_ms":30"#),
        window(r#""type":"cumulate","size_ms":80,"step_ms":20"#, ""),
        window(r#""type":"whole""#, ""),
        window(r#""type":"session","gap_ms":30"#, ""),
        window(r#""type":"session","gap_ms":30,"max_length_ms":70"#, ""),
        format!("{dedupe},{tumbling}"),
        format!("{tumbling},{again}"),
    ];
    let own = [
        (window(r#""type":"sliding","size_ms":60"#, ""), true),
        (window(r#""type":"tumbling","size_ms":50"#, updates), true),
        (window(r#""type":"session","gap_ms":30"#, updates), true),
    ];
    steps.into_iter().flat_map(both).chain(own).collect()
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for Event { lane, key, time_ms } in events {
        let batch = batches.entry(*lane).or_insert_with(|| RawBatch::new(*lane, "t".into(), 8, 256));
        let offset = offsets.entry(*lane).or_default();
        let user = time_ms % 7;
        let json = format!(r#"{{"t":{time_ms},"k":"k{key}","u":"{user}"}}"#);
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        batch.push_key(Some(format!("k{key}").as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

/// What left: rows that were refused by lane and offset, the others as JSON.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    shed: BTreeSet<(i64, i64)>,
    rows: Vec<String>,
}

impl Seen {
    fn take(&mut self, outputs: &[OutputBatch]) {
        for output in outputs {
            let OutputBatch { kind, batch, .. } = output;
            let number =
                |name: &str| batch.column_by_name(name).map(|column| column.as_primitive::<Int64Type>().clone());
            match (kind, number("_partition"), number("_offset")) {
                (OutputKind::Rejected, Some(lanes), Some(offsets))
                    if batch.column(0).as_string::<i32>().value(0) == "STATE_FULL" =>
                {
                    let topic = batch.column_by_name("_topic").expect("a column").as_string::<i32>();
                    // A stage behind a window numbers its rows beside the lanes' records.
                    let shift = |row: usize| if topic.value(row) == "t" { 0 } else { 1 << 40 };
                    let places = (0..batch.num_rows()).map(|row| (lanes.value(row), offsets.value(row) + shift(row)));
                    self.shed.extend(places);
                }
                (OutputKind::Rejected, ..) => panic!("only what is shed is refused here"),
                (OutputKind::Result, ..) => self.rows.extend(json(output)),
                _ => {}
            }
        }
    }
}

const WHOLE: usize = 10_000;

fn run(spec: &Spec, events: &[Event], course: &Course) -> (Seen, Ledger) {
    let mut seen = Seen::default();
    let (pipeline, _) = Job { spec, lanes: &[0, 1], raws }.run(events, course, |outputs| seen.take(outputs));
    seen.rows.sort_unstable();
    (seen, total(&pipeline))
}

fn events(count: usize, keys: u8) -> impl Strategy<Value = Vec<Event>> {
    let event = (0_i32..2, 0..keys, 0_i64..120);
    proptest::collection::vec(event, 1..count).prop_map(|events| {
        let timed =
            |(at, (lane, key, ahead)): (usize, (i32, u8, i64))| Event { lane, key, time_ms: at as i64 * 7 + ahead };
        events.into_iter().enumerate().map(timed).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_same_rows_are_shed_whatever_the_cuts_commits_restarts_and_rollbacks(
        few in events(250, 9), many in events(250, 250), course in course(), job in 0_usize..19, keys_max in 1_u64..9,
        bytes in proptest::bool::ANY,
    ) {
        // Keys without sessions stay for a while, a thousand of them however small the bound.
        let bytes = bytes && !jobs()[job].0.contains("session");
        let events = if bytes { many } else { few };
        let jobs = jobs();
        prop_assert_eq!(jobs.len(), 19);
        let (steps, keyed) = &jobs[job];
        let bound = if bytes {
            // Enough for what tables take that hold nothing.
            format!(r#""state_bytes_max":{}"#, 4_000 + 500 * keys_max)
        } else {
            format!(r#""keys_max":{keys_max}"#)
        };
        // What is held beside entries is not shed, so bytes are bounded for rows and not for the run.
        let limits = format!(r#"{bound},"on_full":"shed""#);
        let spec = spec(steps, *keyed, &limits);
        if !bytes || is_within(&spec, &events) {
            let whole = Course::smooth(WHOLE);
            let (expected, ledger) = run(&spec, &events, &whole);
            let (seen, disturbed) = run(&spec, &events, &course);
            prop_assert_eq!(&seen.shed, &expected.shed);
            if !steps.contains("updates") {
                prop_assert_eq!(&seen.rows, &expected.rows);
            }
            prop_assert_eq!(disturbed, ledger);
            let of_records = expected.shed.iter().filter(|(_, offset)| *offset < 1 << 40).count() as u64;
            prop_assert_eq!((ledger.shed, ledger.rejected), (of_records, of_records));
            prop_assert_eq!(ledger.read, events.len() as u64);
        }
    }

    #[test]
    fn rows_are_shed_that_add_a_key_to_a_full_lane(events in events(250, 9), keys_max in 1_usize..9, keyed in proptest::bool::ANY) {
        let steps = window(r#""type":"tumbling","size_ms":50"#, r#","allowed_lateness_ms":10"#);
        let spec = spec(&steps, keyed, &format!(r#""keys_max":{keys_max},"on_full":"shed""#));
        let whole = Course::smooth(WHOLE);
        prop_assert_eq!(run(&spec, &events, &whole).0.shed, naive(&events, keys_max));
    }
}

/// Whether what is beside entries leaves the run within the bound on bytes.
fn is_within(spec: &Spec, events: &[Event]) -> bool {
    let mut pipeline = Pipeline::new(spec, 2).expect("a plan");
    pipeline.assign(&[0, 1]);
    let mut offsets = BTreeMap::new();
    events.iter().all(|event| pipeline.push(&raws(&[*event], &mut offsets), 0).is_ok())
        && pipeline.push(&raws(events, &mut offsets), 0).is_ok()
}

/// Lane by lane and row by row: a set of (window, group) pairs that forgets what is over.
fn naive(events: &[Event], keys_max: usize) -> BTreeSet<(i64, i64)> {
    let mut shed = BTreeSet::new();
    for lane in [0, 1] {
        let (mut held, mut newest) = (BTreeSet::new(), None::<i64>);
        for (offset, event) in events.iter().filter(|event| event.lane == lane).enumerate() {
            let watermark = newest.map_or(i64::MIN, |newest| newest - BOUND_MS - 1);
            newest = newest.max(Some(event.time_ms));
            let over_at = |window: i64| window + 50 - 1 + 10;
            held.retain(|(window, _)| over_at(*window) > watermark);
            let entry = (event.time_ms.div_euclid(50) * 50, event.key);
            if over_at(entry.0) <= watermark || held.contains(&entry) {
                continue;
            }
            if held.len() < keys_max {
                held.insert(entry);
            } else {
                shed.insert((i64::from(lane), offset as i64));
            }
        }
    }
    shed
}

fn pushed(pipeline: &mut Pipeline, keys: std::ops::Range<u8>) -> streamcore::error::Result<Vec<OutputBatch>> {
    let events: Vec<Event> = keys.map(|key| Event { lane: i32::from(key % 2), key, time_ms: 5 }).collect();
    pipeline.push(&raws(&events, &mut BTreeMap::from([(0, 1000), (1, 1000)])), 0)
}

#[test]
fn a_run_stops_before_it_holds_more_and_can_be_taken_back() {
    for keyed in [false, true] {
        let spec = spec(&window(r#""type":"tumbling","size_ms":50"#, ""), keyed, r#""keys_max":10"#);
        let mut pipeline = Pipeline::new(&spec, 2).expect("a plan");
        pipeline.assign(&[0, 1]);
        pushed(&mut pipeline, 0..10).expect("as many as may be");
        // Again, which lanes have counted before they hand it over.
        pushed(&mut pipeline, 0..10).expect("the same keys");
        pipeline.seal().expect("balanced");
        pipeline.committed();
        let before = pipeline.save();
        let error = pushed(&mut pipeline, 4..13).expect_err("three too many");
        assert_eq!(error.kind, ErrorKind::Full);
        for part in ["steps[0] (window)", "limits.max_keys = 10", "13 keys", "raise the limit", "shed"] {
            assert!(error.message.contains(part), "{part} in {error}");
        }
        pipeline.rollback();
        assert_eq!(pipeline.save(), before);
        pushed(&mut pipeline, 3..10).expect("nothing new");
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_and_sheds() {
    for keyed in [false, true] {
        let window = window(r#""type":"tumbling","size_ms":50"#, "");
        let mut stopped = Pipeline::new(&spec(&window, keyed, r#""keys_max":10"#), 2).expect("a plan");
        stopped.assign(&[0, 1]);
        pushed(&mut stopped, 0..10).expect("as many as may be");
        stopped.seal().expect("balanced");
        stopped.committed();
        // Where lanes meet, each takes all of them for its own.
        let keys_max = if keyed { 5 } else { 10 };
        let limits = format!(r#""keys_max":{keys_max},"on_full":"shed""#);
        let mut pipeline = Pipeline::new(&spec(&window, keyed, &limits), 2).expect("a plan");
        pipeline.restore(&stopped.save()).expect("whole");
        let mut seen = Seen::default();
        seen.take(&pushed(&mut pipeline, 4..13).expect("a push"));
        assert_eq!(seen.shed, BTreeSet::from([(0, 1003), (0, 1004), (1, 1003)]), "k10 and k12, k11: {keyed}");
        assert_eq!(total(&pipeline).applied, 10 + 6);
    }
}

#[test]
fn the_bytes_of_all_steps_and_lanes_are_bounded() {
    let steps = format!(r#"{{"verb":"dedupe","field":"k","within_ms":80}},{}"#, window(r#""type":"whole""#, ""));
    let spec = spec(&steps, false, r#""state_bytes_max":100000"#);
    let mut pipeline = Pipeline::new(&spec, 2).expect("a plan");
    pipeline.assign(&[0, 1]);
    let mut offset = 0;
    let error = loop {
        let mut batch = RawBatch::new(0, "t".into(), 8, 256);
        batch
            .push(Some(format!(r#"{{"t":5,"k":"key {offset}","u":"u"}}"#).as_bytes()), offset, Some(5))
            .expect("small");
        offset += 1;
        match pipeline.push(&[batch], 0) {
            Ok(_) => assert!(pipeline.state_bytes() <= 100_000),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Full);
    assert!(
        error.message.contains("limits.max_state_bytes = 100000") && error.message.contains("steps[0] (dedupe)"),
        "{error}"
    );
    assert!(offset > 300, "{offset} keys are not that large");
}
