//! Several windows in a row against a naive model: each stage recounts whole lists of the rows of the one before,
//! and the engine must agree however the input is cut into pushes, lanes, restarts and rollbacks.

mod common;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use common::{Course, Job, commit, course, json};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    lane: i32,
    key: u8,
    time_ms: i64,
    value: i64,
}

const BOUND_MS: i64 = 40;

fn tumbling(size_ms: i64) -> String {
    format!(r#""type":"tumbling","size_ms":{size_ms}"#)
}

fn window(kind: &str, by: &[&str], aggregates: &[(&str, &str)], rest: &str) -> String {
    let named = |(name, text): (&str, &str)| format!(r#"{{"name":"{name}","text":"{text}"}}"#);
    let by: Vec<String> = by.iter().map(|name| named((name, name))).collect();
    let aggregates: Vec<String> = aggregates.iter().map(|each| named(*each)).collect();
    let (by, aggregates) = (by.join(","), aggregates.join(","));
    format!(r#"{{"verb":"window","kind":{{{kind}}},"by":[{by}],"aggregates":[{aggregates}]{rest}}}"#)
}

fn filter(text: &str) -> String {
    format!(r#"{{"verb":"filter","condition":{{"text":"{text}"}}}}"#)
}

fn spec(steps: &[String], rest: &str) -> Spec {
    let steps = steps.join(",");
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{BOUND_MS},
        "schema":{{"k":"string","v":"int64"}}{rest}}},"steps":[{steps}]}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

/// The users who did something at least twice in 30 ms, how many of them in 100 ms, and how often that in a session.
fn three_windows(lateness_ms: i64) -> Vec<String> {
    vec![
        window(&tumbling(30), &["k"], &[("n", "count()"), ("s", "sum(v)")], &lateness(lateness_ms)),
        filter("n >= 2"),
        r#"{"verb":"select","columns":[{"name":"k","text":"k"},{"name":"s","text":"s"}]}"#.to_owned(),
        window(&tumbling(100), &["k"], &[("hot", "count()"), ("s", "sum(s)"), ("last", "last(s)")], &lateness(0)),
        window(r#""type":"session","gap_ms":100"#, &[], &[("keys", "count_distinct(k)"), ("s", "sum(s)")], ""),
    ]
}

fn lateness(lateness_ms: i64) -> String {
    format!(r#","allowed_lateness_ms":{lateness_ms}"#)
}

/// Rows of the result as JSON, in the order they left.
fn results(outputs: &[OutputBatch]) -> Vec<String> {
    of_kind(outputs, OutputKind::Result).flat_map(json).collect()
}

fn of_kind(outputs: &[OutputBatch], kind: OutputKind) -> impl Iterator<Item = &OutputBatch> {
    outputs.iter().filter(move |output| output.kind == kind)
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for Event { lane, key, time_ms, value } in events {
        let batch = batches.entry(*lane).or_insert_with(|| RawBatch::new(*lane, "t".into(), 8, 256));
        let offset = offsets.entry(*lane).or_default();
        let json = format!(r#"{{"t":{time_ms},"k":"k{key}","v":{value}}}"#);
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        batch.push_key(Some(format!("k{key}").as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

/// The rows, and the digest of the state after the end.
fn run(spec: &Spec, events: &[Event], course: &Course) -> (Vec<String>, u64) {
    let mut rows = Vec::new();
    let job = Job { spec, lanes: &[0, 1, 2], raws };
    let (_, digest) = job.run(events, course, |outputs| rows.extend(results(outputs)));
    (rows, digest)
}

/// `three_windows` by hand, over the events that are in time for their lane.
fn recount(events: &[Event], lateness_ms: i64) -> Vec<String> {
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut first: BTreeMap<(i64, u8), (i64, i64)> = BTreeMap::new();
    for Event { lane, key, time_ms, value } in events {
        let clock = clocks.entry(*lane).or_insert(i64::MIN);
        let end = (time_ms.div_euclid(30) + 1) * 30;
        if end - 1 + lateness_ms > *clock {
            let counted = first.entry((end, *key)).or_default();
            *counted = (counted.0 + 1, counted.1 + value);
        }
        *clock = (*clock).max(time_ms - BOUND_MS - 1);
    }
    let mut second: BTreeMap<(i64, u8), i64> = BTreeMap::new();
    for ((end, key), (count, sum)) in first {
        if count >= 2 {
            *second.entry((((end - 1).div_euclid(100) + 1) * 100, key)).or_default() += sum;
        }
    }
    let mut sessions: Vec<(i64, i64, BTreeSet<u8>, i64)> = Vec::new();
    for ((end, key), sum) in second {
        match sessions.last_mut().filter(|session| end - 1 - session.1 <= 100) {
            Some(session) => {
                session.1 = end - 1;
                session.2.insert(key);
                session.3 += sum;
            }
            None => sessions.push((end - 1, end - 1, BTreeSet::from([key]), sum)),
        }
    }
    let row = |(start, last, keys, sum): &(i64, i64, BTreeSet<u8>, i64)| {
        let (end, keys) = (last + 100, keys.len());
        format!(r#"{{"window_start":{start},"window_end":{end},"keys":{keys},"s":{sum},"revision":0,"is_final":true}}"#)
    };
    sessions.iter().map(row).collect()
}

fn events(max: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3_i32, 0..4_u8, 0..1_500_i64, -5..20_i64).prop_map(|(lane, key, time_ms, value)| Event {
        lane,
        key,
        time_ms,
        value,
    });
    let sorted = proptest::collection::vec((event, 0..60_i64), 0..max).prop_map(|mut events| {
        events.sort_by_key(|(event, delay)| event.time_ms + delay);
        events.into_iter().map(|(event, _)| event).collect::<Vec<Event>>()
    });
    sorted.boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn three_windows_in_a_row_give_what_counting_by_hand_gives(
        events in events(160), lateness_ms in prop_oneof![Just(0_i64), Just(25)], course in course(),
    ) {
        let spec = spec(&three_windows(lateness_ms), "");
        let smooth = Course::smooth(1);
        let (rows, digest) = run(&spec, &events, &course);
        prop_assert_eq!(&rows, &recount(&events, lateness_ms));
        let (smooth_rows, smooth_digest) = run(&spec, &events, &smooth);
        prop_assert_eq!(rows, smooth_rows);
        prop_assert_eq!(digest, smooth_digest);
    }

    #[test]
    fn early_rows_behind_a_window_go_by_its_rows(events in events(120), course in course(), keyed in any::<bool>()) {
        for early in [r#""emit_every_ms":50"#, r#""emit_when":{"text":"n >= 3"}"#] {
            let early = format!(r#","emit":"updates",{early}"#);
            let steps = [
                window(&tumbling(10), &["k"], &[("n", "count()")], ""),
                window(&tumbling(200), &["k"], &[("n", "sum(n)"), ("rows", "count()")], &early),
            ];
            let spec = spec(&steps, if keyed { r#","keyed_by":"k""# } else { "" });
            // A lane of its own where rows must come in one order.
            let events: Vec<Event> =
                events.iter().map(|event| Event { lane: if keyed { 0 } else { event.lane }, ..*event }).collect();
            let smooth = Course::smooth(1);
            prop_assert_eq!(run(&spec, &events, &course), run(&spec, &events, &smooth));
        }
    }

    #[test]
    fn lanes_run_all_stages_where_every_key_is_the_record_key(events in events(120), course in course()) {
        let steps = [
            window(&tumbling(30), &["k"], &[("n", "count()"), ("s", "sum(v)")], ""),
            r#"{"verb":"select","columns":[{"name":"user","text":"k"},{"name":"s","text":"s"}]}"#.to_owned(),
            window(&tumbling(100), &["user"], &[("n", "count()"), ("s", "sum(s)")], ""),
        ];
        let keyed = spec(&steps, r#","keyed_by":"k""#);
        prop_assert!(!Pipeline::new(&keyed, 1).expect("a plan").plan().combine);
        // One lane a key, as a topic keyed by it has.
        let events: Vec<Event> =
            events.into_iter().map(|event| Event { lane: i32::from(event.key % 3), ..event }).collect();
        let (mut rows, _) = run(&keyed, &events, &course);
        let (mut combined, _) = run(&spec(&steps, ""), &events, &course);
        rows.sort();
        combined.sort();
        prop_assert_eq!(rows, combined);
    }
}

#[test]
fn rows_of_a_window_can_be_told_apart_chosen_and_compared_by_id() {
    let steps = [
        window(&tumbling(10), &["k"], &[("n", "count()"), ("all", "collect_list(v)")], ""),
        r#"{"verb":"dedupe","field":"k","within_ms":100}"#.to_owned(),
        filter("n > 1"),
        r#"{"verb":"select","columns":[{"name":"user","text":"k"},{"name":"values","text":"all"},
           {"name":"day","text":"window_end"}]}"#
            .to_owned(),
    ];
    let at = |key, time_ms, value| Event { lane: 0, key, time_ms, value };
    let events = [at(1, 0, 5), at(1, 1, 6), at(2, 3, 7), at(1, 15, 8), at(1, 16, 8), at(2, 300, 1), at(2, 301, 2)];
    let mut pipeline = Pipeline::new(&spec(&steps, ""), 1).expect("a plan");
    pipeline.assign(&[0]);
    let mut rows = results(&pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect("a push"));
    rows.extend(results(&pipeline.end().expect("an end")));
    // k1 at 20 is a copy of k1 at 10, k2 at 10 has one event, and at 310 its id is forgotten.
    let expected = [r#"{"user":"k1","values":[5,6],"day":10}"#, r#"{"user":"k2","values":[1,2],"day":310}"#];
    assert_eq!(rows, expected);
    let ledgers = pipeline.stage_ledgers();
    let (name, ledger) = &ledgers[0];
    assert_eq!((*name, ledger.read, ledger.applied), ("steps[1]", 4, 2));
    assert_eq!((ledger.duplicate, ledger.filtered), (1, 1));
}

#[test]
fn rows_that_a_step_behind_a_window_refuses_are_dead_letters() {
    let steps = [window(&tumbling(10), &["k"], &[("most", "max(v)")], ""), filter("most * most > 0")];
    let events = [(1, i64::MAX), (2, 3)].map(|(key, value)| Event { lane: 0, key, time_ms: 1, value });
    let mut pipeline = Pipeline::new(&spec(&steps, ""), 1).expect("a plan");
    pipeline.assign(&[0]);
    pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect("a push");
    let outputs = pipeline.end().expect("an end");
    assert_eq!(results(&outputs).len(), 1);
    let rejected = of_kind(&outputs, OutputKind::Rejected).next().expect("a dead letter");
    let text = |name: &str| rejected.batch.column_by_name(name).expect("there").clone();
    assert_eq!(text("reason").as_string::<i32>().value(0), "NUMBER_RANGE");
    assert_eq!(text("_topic").as_string::<i32>().value(0), "steps[1]");
    assert_eq!(text("_partition").as_primitive::<Int64Type>().value(0), -1);
    assert_eq!(text("_offset").as_primitive::<Int64Type>().value(0), 0);
    assert!(text("_key").is_null(0));
    let value = text("_value");
    let value = std::str::from_utf8(value.as_binary::<i32>().value(0)).expect("text");
    assert!(value.starts_with(r#"{"k":"k1","window_start":"1970-01-01T00:00:00.000Z","#), "{value}");
    assert_eq!(pipeline.stage_ledgers()[0].1.rejected, 1);
}

#[test]
fn what_replaces_a_row_is_late_where_the_row_was_counted_and_passes_where_nothing_was() {
    let first = window(&tumbling(10), &["k"], &[("n", "count()")], "");
    let at = |lane, key, time_ms| Event { lane, key, time_ms, value: 1 };
    let outputs_of = |steps: &[String]| {
        let mut pipeline = Pipeline::new(&spec(steps, ""), 1).expect("a plan");
        pipeline.assign(&[0, 1]);
        let mut offsets = BTreeMap::new();
        pipeline.push(&raws(&[at(0, 1, 1), at(1, 1, 2)], &mut offsets), 0).expect("a push");
        // Lane 1 is idle: what it holds of the window at 10 leaves when lane 0 goes on alone.
        pipeline.advance(0, &[1]).expect("time");
        pipeline.advance(60_000, &[1]).expect("time");
        let mut outputs = pipeline.push(&raws(&[at(0, 1, 500)], &mut offsets), 60_000).expect("a push");
        // It comes back with an event of that window, in time by its own clock.
        outputs.extend(pipeline.push(&raws(&[at(1, 1, 3), at(1, 2, 4)], &mut offsets), 60_001).expect("a push"));
        outputs.extend(pipeline.seal().expect("balanced").outputs);
        let ledger = pipeline.stage_ledgers()[0].1;
        (outputs, ledger)
    };
    let (outputs, ledger) = outputs_of(&[first.clone(), filter("n > 0")]);
    let rows = results(&outputs);
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[1].contains(r#""n":3,"revision":1"#), "{rows:?}");
    assert_eq!((ledger.read, ledger.applied, ledger.late), (3, 3, 0));
    let (outputs, ledger) = outputs_of(&[first.clone(), window(&tumbling(100), &[], &[("n", "sum(n)")], "")]);
    assert_eq!((ledger.read, ledger.applied, ledger.late), (3, 1, 2));
    let late: Vec<String> = of_kind(&outputs, OutputKind::Late).flat_map(json).collect();
    assert!(late[0].contains("\"reason\":\"REVISION\""), "{late:?}");
    assert!(late[1].contains("\"reason\":\"WINDOW\""), "{late:?}");
    assert!(results(&outputs)[0].contains(r#""n":2"#));
    // A longer window behind is still open for the key that is new, and not for the row that was replaced.
    let (_, ledger) = outputs_of(&[first, window(&tumbling(1_000), &[], &[("n", "sum(n)")], "")]);
    assert_eq!((ledger.read, ledger.applied, ledger.late), (3, 2, 1));
}

#[test]
fn a_later_run_goes_on_where_the_end_found_it() {
    let steps = [
        window(&tumbling(10), &[], &[("n", "count()")], ""),
        window(&tumbling(100), &[], &[("n", "sum(n)"), ("parts", "count()")], ""),
    ];
    let at = |time_ms| Event { lane: 0, key: 1, time_ms, value: 1 };
    let mut pipeline = Pipeline::new(&spec(&steps, ""), 1).expect("a plan");
    pipeline.assign(&[0]);
    let mut offsets = BTreeMap::new();
    let mut push = |pipeline: &mut Pipeline, events: &[Event]| {
        let mut rows = results(&pipeline.push(&raws(events, &mut offsets), 0).expect("a push"));
        rows.extend(results(&pipeline.end().expect("an end")));
        commit(pipeline, &mut |outputs| rows.extend(results(outputs)));
        rows
    };
    let rows = push(&mut pipeline, &[at(1), at(2), at(31)]);
    assert_eq!(
        rows,
        [r#"{"window_start":0,"window_end":100,"n":3,"parts":2,"revision":0,"is_final":true}"#],
        "the window at 40 was not over, and came at the end"
    );
    assert_eq!(pipeline.stage_ledgers()[0].1.read, 2);
    let rows = push(&mut pipeline, &[at(3), at(32), at(99)]);
    let expected = r#"{"window_start":0,"window_end":100,"n":6,"parts":3,"revision":1,"is_final":true}"#;
    assert_eq!(rows, [expected], "each window counts once, with what came since");
}

/// All rows of one key's events in one push, and of the end.
fn rows_of_times(steps: &[String], times: &[i64]) -> Vec<String> {
    let mut pipeline = Pipeline::new(&spec(steps, r#","keyed_by":"k""#), 1).expect("a plan");
    pipeline.assign(&[0]);
    let events: Vec<Event> =
        times.iter().map(|time_ms| Event { lane: 0, key: 1, time_ms: *time_ms, value: 1 }).collect();
    let mut rows = results(&pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect("a push"));
    rows.extend(results(&pipeline.end().expect("an end")));
    rows
}

#[test]
fn a_row_leaves_early_when_rows_behind_it_have_passed() {
    let updates = r#","emit":"updates","emit_every_ms":50"#;
    let steps = [
        window(&tumbling(10), &["k"], &[("n", "count()")], ""),
        window(&tumbling(200), &["k"], &[("n", "sum(n)")], updates),
    ];
    let row = |n, revision, is_final| {
        format!(r#"{{"k":"k1","window_start":0,"window_end":200,"n":{n},"revision":{revision},"is_final":{is_final}}}"#)
    };
    // The clock stands at 50 when the input ends: the windows at 60 and 100 are in the last row alone.
    assert_eq!(rows_of_times(&steps, &[1, 2, 41, 55, 91]), [row(3, 0, false), row(5, 1, true)]);
}

#[test]
fn a_sliding_window_can_stand_before_and_behind_another() {
    let sliding = |size_ms, aggregate| {
        window(&format!(r#""type":"sliding","size_ms":{size_ms}"#), &["k"], &[("n", aggregate)], "")
    };
    let row = |start, end, n| {
        format!(r#"{{"k":"k1","window_start":{start},"window_end":{end},"n":{n},"revision":0,"is_final":true}}"#)
    };
    let behind = [window(&tumbling(10), &["k"], &[("n", "count()")], ""), sliding(10, "sum(n)")];
    let times = [0, 1, 12, 35, 200];
    assert_eq!(
        rows_of_times(&behind, &times),
        [row(-1, 9, 2), row(9, 19, 3), row(29, 39, 1), row(199, 209, 1)],
        "the rows at 9 and 19 are exactly one size apart"
    );
    let before = [sliding(5, "count()"), window(&tumbling(10), &["k"], &[("n", "sum(n)")], "")];
    assert_eq!(
        rows_of_times(&before, &times),
        [row(0, 10, 3), row(10, 20, 1), row(30, 40, 1), row(200, 210, 1)],
        "a row of a sliding window has the time of its event"
    );
    assert_eq!(problems(&behind, ""), [""; 0], "the rows of all lanes meet behind the first window");
    assert!(problems(&before, "")[0].starts_with("steps[0].window: a sliding window needs all events of its group"));
}

fn problems(steps: &[String], rest: &str) -> Vec<String> {
    let analysis = streamcore::plan::analyse(&spec(steps, rest));
    analysis.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn mistakes_behind_a_window_are_told() {
    let first = |rest: &str| window(&tumbling(10), &["k"], &[("n", "count()"), ("all", "collect_list(v)")], rest);
    let updates = problems(&[first(r#","emit":"updates""#), filter("n > 1")], "");
    assert_eq!(
        updates,
        ["steps[0].emit: a step behind a window takes only rows that are final\n  \
          hint: use emit = \"final\", or make the window the last step"]
    );
    let talk = window(r#""type":"session","gap_ms":10"#, &["k"], &[("m", "sum(n)")], r#","emit":"updates""#);
    let taken_back = problems(&[first(""), talk], r#","keyed_by":"k""#);
    assert!(taken_back[0].starts_with("steps[1].emit: sessions behind a window leave final rows"), "{taken_back:?}");
    let unknown = problems(&[first(""), filter("m > 1")], "");
    assert!(unknown[0].contains("after `window` there is no column m"), "{unknown:?}");
    let lists = problems(&[first(""), filter("all is null")], "");
    assert!(lists[0].contains("all is a list(int64): `select` can pass it on"), "{lists:?}");
    let cut = window(r#""type":"session","gap_ms":10,"max_length_ms":50"#, &["k"], &[("n", "count()")], "");
    let behind = window(&tumbling(100), &["k"], &[("n", "sum(n)")], "");
    let parts = problems(&[cut.clone(), behind.clone()], "");
    assert!(parts[0].starts_with("steps[1]: the parts of a session that is cut leave together"), "{parts:?}");
    assert_eq!(problems(&[cut.clone(), behind], r#","keyed_by":"k""#), [""; 0]);
    assert_eq!(problems(&[cut, filter("n > 1")], ""), [""; 0]);
    let whole = window(r#""type":"whole""#, &["k"], &[("n", "count()")], "");
    let timeless = problems(&[whole.clone(), filter("n > 1"), first("").replace("(v)", "(n)")], "");
    assert!(timeless[0].starts_with("steps[2].window: window goes by time, and the rows of a whole window have none"));
    let mut pipeline =
        Pipeline::new(&spec(&[whole.clone(), window(r#""type":"whole""#, &[], &[("n", "sum(n)")], "")], ""), 1)
            .expect("a whole window can follow");
    pipeline.assign(&[0]);
    let events = [1, 2, 2].map(|key| Event { lane: 0, key, time_ms: 1, value: 1 });
    pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect("a push");
    assert!(results(&pipeline.end().expect("an end"))[0].contains(r#""n":3"#));
}

#[test]
fn the_plan_tells_the_stages() {
    let spec = spec(&three_windows(0), "");
    let plan = streamcore::plan::analyse(&spec).plan.expect("a plan");
    let told = plan.explain(&spec).to_string();
    let lines: Vec<&str> = told.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(
        lines,
        [
            "decode", "clock", "window", "holds", "combine", "filter", "select", "window", "holds", "window", "holds",
            "state", "result"
        ],
        "{told}"
    );
}
