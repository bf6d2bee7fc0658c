//! Pipelines of two inputs against a naive model that looks at every pair: the engine must agree however the inputs are
//! cut, interleaved, spread over lanes, restarted and rolled back.

mod common;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use common::{Course, Job, course, json};
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::plan::analyse;
use streamcore::raw::{RawBatch, lane_id};
use streamcore::spec::Spec;

const BOUND_MS: i64 = 20;

#[derive(Debug, Clone, Copy)]
struct Event {
    input: i32,
    lane: i32,
    key: Option<u8>,
    time_ms: i64,
    value: i64,
}

fn spec(kind: &str, how: &str, steps: &str) -> Spec {
    let source = format!(
        r#"{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{BOUND_MS},
        "schema":{{"k":"string","v":"int64"}}}}"#
    );
    let join = format!(
        r#"{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"{how}",
        "kind":{{{kind}}}}}"#
    );
    let text = format!(
        r#"{{"source":{source},"inputs":[{{"name":"other","source":{source},"steps":[
        {{"verb":"filter","condition":{{"text":"v != 7"}}}}]}}],"steps":[{join}{steps}]}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for Event { input, lane, key, time_ms, value } in events {
        let id = lane_id(*input, *lane);
        let batch = batches.entry(id).or_insert_with(|| {
            let mut batch = RawBatch::new(*lane, "t".into(), 8, 256);
            batch.input = *input;
            batch
        });
        let key = key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
        let json = format!(r#"{{"t":{time_ms},"k":{key},"v":{value}}}"#);
        let offset = offsets.entry(id).or_default();
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        *offset += 1;
    }
    batches.into_values().collect()
}

fn results(outputs: &[OutputBatch]) -> Vec<String> {
    outputs.iter().filter(|output| output.kind == OutputKind::Result).flat_map(json).collect()
}

fn lanes() -> Vec<i32> {
    [0, 1].iter().flat_map(|input| [0, 1].map(|lane| lane_id(*input, lane))).collect()
}

fn run(spec: &Spec, events: &[Event], course: &Course) -> Vec<String> {
    let mut rows = Vec::new();
    Job { spec, lanes: &lanes(), raws }.run(events, course, |outputs| rows.extend(results(outputs)));
    rows
}

/// Those that are not late by the clock of their own lane, and of the right side those that its filter keeps.
fn on_time(events: &[Event]) -> Vec<(usize, Event)> {
    let mut clocks: BTreeMap<(i32, i32), i64> = BTreeMap::new();
    let mut taken = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let clock = clocks.entry((event.input, event.lane)).or_insert(i64::MIN);
        if event.time_ms > *clock && !(event.input == 1 && event.value == 7) {
            taken.push((number, *event));
        }
        *clock = (*clock).max(event.time_ms - BOUND_MS - 1);
    }
    taken
}

/// Time, key, and the numbers of both sides.
type Joined = (i64, Option<u8>, Option<i64>, Option<i64>);

/// `(time, key, value, value_right)` of the interval join `left + from <= right <= left + to`.
fn joined(events: &[Event], from_ms: i64, to_ms: i64, how: &str) -> Vec<Joined> {
    let taken = on_time(events);
    let side = |input| taken.iter().filter(move |(_, event)| event.input == input).map(|(_, event)| event);
    let belong = |left: &Event, right: &Event| {
        let near = (left.time_ms + from_ms..=left.time_ms + to_ms).contains(&right.time_ms);
        near && left.key.is_some() && left.key == right.key
    };
    let mut rows = Vec::new();
    for left in side(0) {
        let partners: Vec<&Event> = side(1).filter(|right| belong(left, right)).collect();
        let pairs = partners
            .iter()
            .map(|right| (left.time_ms.max(right.time_ms), left.key, Some(left.value), Some(right.value)));
        rows.extend(pairs);
        if partners.is_empty() && how != "inner" {
            rows.push((left.time_ms, left.key, Some(left.value), None));
        }
    }
    if how == "outer" {
        let alone = side(1).filter(|right| !side(0).any(|left| belong(left, right)));
        rows.extend(alone.map(|right| (right.time_ms, right.key, None, Some(right.value))));
    }
    rows.sort_by_key(|row| row.0);
    rows
}

fn text(value: Option<i64>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

fn event() -> impl Strategy<Value = Event> {
    let key = proptest::option::weighted(0.9, 0_u8..3);
    (0_i32..2, 0_i32..2, key, 0_i64..40, 0_i64..12).prop_map(|(input, lane, key, time_ms, value)| Event {
        input,
        lane,
        key,
        time_ms,
        value,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let drift = |(events, step): (Vec<Event>, i64)| {
        let moved = |(number, event): (usize, Event)| Event { time_ms: event.time_ms + number as i64 * step, ..event };
        events.into_iter().enumerate().map(moved).collect()
    };
    (proptest::collection::vec(event(), 0..120), 0_i64..4).prop_map(drift)
}

/// The same events of each lane in the same order, the lanes interleaved in another way.
fn interleaved(events: &[Event], order: &[usize]) -> Vec<Event> {
    let mut lanes: Vec<std::collections::VecDeque<Event>> = vec![std::collections::VecDeque::new(); 4];
    events.iter().for_each(|event| lanes[(event.input * 2 + event.lane) as usize].push_back(*event));
    let mut out = Vec::new();
    for pick in order.iter().cycle() {
        let Some(lane) = (0..4).map(|step| (pick + step) % 4).find(|lane| !lanes[*lane].is_empty()) else { break };
        out.extend(lanes[lane].pop_front());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn joined_rows_are_those_of_all_pairs_in_order_of_time(
        events in events(),
        (from_ms, length_ms) in (-30_i64..20, 0_i64..40),
        how in prop_oneof![Just("inner"), Just("left"), Just("outer")],
        course in course(),
        order in proptest::collection::vec(0_usize..4, 1..40),
    ) {
        let to_ms = from_ms + length_ms;
        let spec = spec(&format!(r#""type":"interval","from_ms":{from_ms},"to_ms":{to_ms}"#), how, "");
        let rows = run(&spec, &events, &course);
        let key = |key: Option<u8>| key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
        let mut expected: Vec<String> = joined(&events, from_ms, to_ms, how)
            .into_iter()
            .map(|(_, of, left, right)| {
                format!(r#"{{"k":{},"v":{},"v_right":{}}}"#, key(of), text(left), text(right))
            })
            .collect();
        let again = run(&spec, &interleaved(&events, &order), &Course::smooth(events.len().max(1)));
        prop_assert_eq!(&rows, &again, "rows and their order do not depend on what was read first");
        let mut rows = rows;
        rows.sort();
        expected.sort();
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn a_window_behind_a_join_counts_every_joined_row(
        events in events(),
        how in prop_oneof![Just("inner"), Just("left"), Just("outer")],
        course in course(),
    ) {
        let window = r#",{"verb":"filter","condition":{"text":"k is not null"}},
            {"verb":"window","kind":{"type":"tumbling","size_ms":25},"by":[{"name":"k","text":"k"}],
            "aggregates":[{"name":"n","text":"count()"},{"name":"s","text":"sum(v)"}]}"#;
        let spec = spec(r#""type":"interval","from_ms":-10,"to_ms":15"#, how, window);
        let mut expected: BTreeMap<(i64, u8), (u64, Option<i64>)> = BTreeMap::new();
        for (time_ms, key, left, _) in joined(&events, -10, 15, how) {
            let Some(key) = key else { continue };
            let (count, sum) = expected.entry((time_ms.div_euclid(25) * 25, key)).or_default();
            *count += 1;
            *sum = left.map_or(*sum, |left| Some(sum.unwrap_or(0) + left));
        }
        let row = |((start, key), (count, sum)): ((i64, u8), (u64, Option<i64>))| {
            let (end, sum) = (start + 25, text(sum));
            format!(r#"{{"k":"k{key}","window_start":{start},"window_end":{end},"n":{count},"s":{sum},"revision":0,"is_final":true}}"#)
        };
        let expected: Vec<String> = expected.into_iter().map(row).collect();
        prop_assert_eq!(run(&spec, &events, &course), expected);
    }
}

fn problems(spec: &str) -> Vec<String> {
    let spec = Spec::from_json(spec.as_bytes()).expect("a description");
    analyse(&spec).problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn what_a_join_cannot_do_is_told_with_its_place() {
    let source = |schema: &str| format!(r#"{{"event_time":"t","schema":{{{schema}}}}}"#);
    let (left, right) = (source(r#""k":"string","v":"int64""#), source(r#""k":"int64""#));
    let window = r#"{"verb":"window","kind":{"type":"tumbling","size_ms":5},"by":[],"aggregates":[{"name":"n","text":"count()"}]}"#;
    let join = |kind: &str| {
        format!(r#"{{"verb":"join","input":"b","left_on":["k"],"right_on":["k"],"suffix":"_right","kind":{{{kind}}}}}"#)
    };
    let interval = join(r#""type":"interval","from_ms":0,"to_ms":5"#);
    let case =
        |inputs: &str, steps: &str| problems(&format!(r#"{{"source":{left},"inputs":[{inputs}],"steps":[{steps}]}}"#));
    let other = |source: &str, steps: &str| format!(r#"{{"name":"b","source":{source},"steps":[{steps}]}}"#);
    assert_eq!(
        case(&other(&right, ""), &interval),
        ["steps[0].left_on: k is string, and k of b is int64: they are never equal"]
    );
    assert_eq!(case("", &interval), ["steps[0].join: there is no input called b"]);
    assert_eq!(case(&other(&left, ""), ""), ["sources.b: no step joins this input"]);
    assert_eq!(
        case(&other(&left, window), &interval),
        ["sources.b.steps[0].window: an input that is joined cannot have a window of its own"]
    );
    assert_eq!(
        case(&other(&left, ""), &format!("{window},{interval}"))[0],
        "steps[0].window: a join stands before the first window, and this window is before it"
    );
    assert_eq!(
        case(&other(&left, ""), &format!("{interval},{interval}"))[0],
        "steps[1].join: a pipeline has one join, and this is another"
    );
    let twice = other(&source(r#""k":"string","v_right":"int64","v":"int64""#), "");
    assert_eq!(case(&twice, &interval), ["steps[0].join: two columns are called v_right"]);
    assert_eq!(
        case(&other(&left, ""), &join(r#""type":"window","size_ms":0"#)),
        ["steps[0].join: the window has no length"]
    );
}

#[test]
fn an_input_that_ended_is_not_waited_for_and_one_far_ahead_is_paused() {
    let mut description = spec(r#""type":"interval","from_ms":-5,"to_ms":5"#, "left", "");
    description.source.max_lead_ms = Some(100);
    let mut pipeline = Pipeline::new(&description, 1).expect("a plan");
    pipeline.assign(&[0, lane_id(1, 0)]);
    let event = |input, time_ms| Event { input, lane: 0, key: Some(0), time_ms, value: 1 };
    let mut offsets = BTreeMap::new();
    let pushed = pipeline.push(&raws(&[event(0, 0), event(1, 0), event(0, 200)], &mut offsets), 0).expect("a push");
    assert_eq!(results(&pushed), Vec::<String>::new(), "the right side may still bring rows");
    assert_eq!(pipeline.paused(), [0]);
    pipeline.finish(&[lane_id(1, 0)]);
    let advanced = pipeline.advance(0, &[]).expect("rows");
    assert_eq!(results(&advanced), [r#"{"k":"k0","v":1,"v_right":1}"#]);
    assert_eq!(pipeline.paused(), Vec::<i32>::new());
}

#[test]
fn an_idle_input_is_not_waited_for_and_its_late_rows_are_told() {
    let mut pipeline =
        Pipeline::new(&spec(r#""type":"interval","from_ms":-5,"to_ms":5"#, "left", ""), 1).expect("a plan");
    pipeline.assign(&[0, lane_id(1, 0)]);
    let event = |input, time_ms| Event { input, lane: 0, key: Some(0), time_ms, value: 1 };
    let mut offsets = BTreeMap::new();
    pipeline.push(&raws(&[event(1, 0), event(0, 100), event(0, 200)], &mut offsets), 0).expect("a push");
    let caught_up = [lane_id(1, 0)];
    assert_eq!(results(&pipeline.advance(29_999, &caught_up).expect("rows")), Vec::<String>::new());
    let left = results(&pipeline.advance(30_000, &caught_up).expect("rows"));
    assert_eq!(left, [r#"{"k":"k0","v":1,"v_right":null}"#], "the clock stands at 179");
    let outputs = pipeline.push(&raws(&[event(1, 101), event(1, 300)], &mut offsets), 30_001).expect("a push");
    let late: usize =
        outputs.iter().filter(|output| output.kind == OutputKind::Late).map(|output| output.batch.num_rows()).sum();
    assert_eq!(late, 1, "what the join took for complete is complete");
    pipeline.seal().expect("balanced");
}

#[test]
fn a_buffer_over_the_bound_ends_with_its_size() {
    let mut description = spec(r#""type":"interval","from_ms":-5,"to_ms":5"#, "inner", "");
    description.limits.state_bytes_max = 2000;
    let mut pipeline = Pipeline::new(&description, 1).expect("a plan");
    pipeline.assign(&lanes());
    let events: Vec<Event> =
        (0..100).map(|value| Event { input: 0, lane: 0, key: Some(1), time_ms: 5, value }).collect();
    let error = pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect_err("too many");
    assert!(error.message.contains("100 rows of the left side of the join and 0 of the right one"), "{error}");
}

#[test]
fn a_delete_from_the_future_leaves_where_a_table_asks_for_its_time() {
    for (versioned, expected) in [(true, (1, 1, 2)), (false, (2, 0, 1))] {
        let kind = format!(r#""type":"table","versioned":{versioned}"#);
        let mut description = spec(&kind, "left", "");
        description.inputs[0].source.max_future_skew_ms = Some(1_000);
        description.inputs[0].source.keyed_by = Some("k".into());
        let mut pipeline = Pipeline::new(&description, 1).expect("a plan");
        let lane = lane_id(1, 0);
        pipeline.assign(&[lane]);
        let mut raw = RawBatch::new(0, "t".into(), 8, 256);
        raw.input = 1;
        for (offset, (value, time_ms)) in
            [(Some(&br#"{"t":5,"k":"k0","v":1}"#[..]), 5), (None, 1_007), (None, 1_008)].into_iter().enumerate()
        {
            raw.push(value, offset as i64, Some(time_ms)).expect("small");
            raw.push_key(Some(format!("k{offset}").as_bytes()));
        }
        let outputs = pipeline.push(&[raw], 7).expect("a push");
        let future = outputs.iter().filter(|output| output.kind == OutputKind::Future);
        let offsets: Vec<i64> = future
            .flat_map(|output| {
                output.batch.column_by_name("_offset").expect("there").as_primitive::<Int64Type>().values().to_vec()
            })
            .collect();
        pipeline.seal().expect("balanced");
        let ledger = *pipeline.ledgers().next().expect("a lane").1;
        let rows = pipeline.join_rows().expect("a join")[1];
        assert_eq!((ledger.tombstone, ledger.future, rows), expected, "versioned: {versioned}");
        assert_eq!(offsets, if versioned { vec![2] } else { Vec::new() });
    }
}
