//! The whole engine against a naive model: however the input is cut into pushes and lanes, saved,
//! restored or rolled back, the last row of every window is what counting all events by hand gives.

mod common;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use common::{Course, Job, commit, course, total};
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// An event as the tests see it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    lane: i32,
    key: u8,
    time_ms: i64,
    value: i64,
    id: u8,
}

/// Last row of each (key, start, end): count, sum and revision.
type Rows = BTreeMap<(String, i64, i64), (i64, i64, i64)>;

fn spec(steps: &str, out_of_orderness: &str, extra: &str) -> Spec {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{out_of_orderness},
        "schema":{{"k":"string","v":"int64"}}{extra}}},"steps":[{steps}]}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn window(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"k"}}],
        "aggregates":[{{"name":"n","text":"count()"}},{{"name":"s","text":"sum(v)"}}]{rest}}}"#
    )
}

/// Builds one raw batch a lane; offsets go on from `offsets`.
fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for event in events {
        let batch = batches.entry(event.lane).or_insert_with(|| RawBatch::new(event.lane, "t".into(), 8, 256));
        let Event { key, time_ms, value, id, .. } = event;
        let json = format!(r#"{{"t":{time_ms},"k":"k{key}","v":{value},"id":"{id}","x":[{{}},null]}}"#);
        let offset = offsets.entry(event.lane).or_default();
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        batch.push_key(Some(format!("k{key}").as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

fn collect(outputs: &[OutputBatch], rows: &mut Rows) {
    for output in outputs.iter().filter(|output| output.kind == OutputKind::Result) {
        let batch = &output.batch;
        let keys = batch.column_by_name("k").expect("k").as_string::<i32>();
        let time = |name| batch.column_by_name(name).expect("bound").as_primitive::<TimestampMillisecondType>();
        let number = |name| batch.column_by_name(name).expect("number").as_primitive::<Int64Type>();
        let (starts, ends) = (time("window_start"), time("window_end"));
        let (counts, sums, revisions) = (number("n"), number("s"), number("revision"));
        for row in 0..batch.num_rows() {
            let mut key = (keys.value(row).to_owned(), starts.value(row), ends.value(row));
            let value = (counts.value(row), sums.value(row), revisions.value(row));
            // A row that does not replace the one before is another row, under a name that no other window has.
            while rows.get(&key).is_some_and(|before| before.2 >= value.2) {
                key.0.push('\'');
            }
            rows.insert(key, value);
        }
    }
}

const LANES: [i32; 3] = [0, 1, 2];

fn start(spec: &Spec, threads: usize) -> Pipeline {
    Job { spec, lanes: &LANES, raws }.start(threads)
}

fn run(spec: &Spec, events: &[Event], course: &Course) -> (Rows, Vec<u64>) {
    let mut rows = Rows::new();
    let (pipeline, _) = Job { spec, lanes: &LANES, raws }.run(events, course, |outputs| collect(outputs, &mut rows));
    let ledger = total(&pipeline);
    (rows, vec![ledger.applied, ledger.late, ledger.late_windows, ledger.duplicate])
}

/// Start and end of the windows that hold a time, by their ends.
type Spans<'s> = &'s dyn Fn(i64) -> Vec<(i64, i64)>;

/// Windows by hand whose bounds the events do not decide.
fn aligned_by_hand(events: &[Event], spans: Spans<'_>, bound: i64, lateness: i64) -> (Rows, Vec<u64>) {
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut rows = Rows::new();
    let mut ledger = [0; 4];
    for event in events {
        let watermark = clocks.get(&event.lane).map_or(i64::MIN, |max| max - bound - 1);
        let all = spans(event.time_ms);
        let open: Vec<_> = all.iter().copied().filter(|(_, end)| end - 1 + lateness > watermark).collect();
        for (start, end) in &open {
            let row = rows.entry((format!("k{}", event.key), *start, *end)).or_default();
            row.0 += 1;
            row.1 += event.value;
        }
        if !open.is_empty() {
            ledger[0] += 1;
            ledger[2] += (all.len() - open.len()) as u64;
        } else if !all.is_empty() {
            ledger[1] += 1;
        }
        let max = clocks.entry(event.lane).or_insert(event.time_ms);
        *max = (*max).max(event.time_ms);
    }
    (rows, ledger.to_vec())
}

fn hopping(size: i64, slide: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |time| {
        let starts = (time - size + 1..=time).filter(|start| start % slide == 0);
        starts.map(|start| (start, start + size)).collect()
    }
}

fn cumulating(step: i64, steps: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |time| {
        let start = time.div_euclid(step * steps) * step * steps;
        (1..=steps).map(|n| (start, start + n * step)).filter(|(_, end)| time < *end).collect()
    }
}

/// Sessions by hand; those longer than `longest` are cut at its multiples.
fn sessions_by_hand(events: &[Event], gap: i64, longest: i64) -> Rows {
    let mut keys: BTreeMap<u8, Vec<Event>> = BTreeMap::new();
    for event in events {
        keys.entry(event.key).or_default().push(*event);
    }
    let mut rows = Rows::new();
    for (key, mut events) in keys {
        events.sort_by_key(|event| event.time_ms);
        for session in events.chunk_by(|left, right| right.time_ms - left.time_ms < gap) {
            let (first, end) = (session[0].time_ms, session[session.len() - 1].time_ms + gap);
            let cell = |time: i64| if end - first > longest { time.div_euclid(longest) } else { 0 };
            for piece in session.chunk_by(|left, right| cell(left.time_ms) == cell(right.time_ms)) {
                let (mut from, mut to) = (first, end);
                if end - first > longest {
                    let cell = cell(piece[0].time_ms);
                    (from, to) = (first.max(cell * longest), end.min((cell + 1) * longest));
                }
                let sum = piece.iter().map(|event| event.value).sum();
                rows.insert((format!("k{key}"), from, to), (piece.len() as i64, sum, 0));
            }
        }
    }
    rows
}

fn without_revisions(rows: &Rows) -> BTreeMap<(String, i64, i64), (i64, i64)> {
    rows.iter().map(|(key, row)| (key.clone(), (row.0, row.1))).collect()
}

/// The record key is the group key, so that each lane closes its own windows.
const KEYED: &str = r#","keyed_by":"k""#;

/// The same events, all of a key in one lane.
fn by_key(events: Vec<Event>) -> Vec<Event> {
    events.into_iter().map(|event| Event { lane: i32::from(event.key) % 3, ..event }).collect()
}

/// Events of three lanes whose times drift on, some of them far behind.
fn events(behind_max: i64) -> impl Strategy<Value = Vec<Event>> {
    let event = (0_i32..3, 0_u8..4, 0_i64..4, 0_i64..=behind_max, -5_i64..6, 0_u8..40);
    proptest::collection::vec(event, 0..150).prop_map(|raw| {
        let mut now = 0;
        let place = |(lane, key, step, behind, value, id): (i32, u8, i64, i64, i64, u8)| {
            now += step;
            Event { lane, key, time_ms: now - behind, value, id }
        };
        raw.into_iter().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn aligned_windows_agree_with_counting_by_hand(
        events in events(40), course in course(), size in 1_i64..25, slide in 1_i64..25,
        bound in 0_i64..15, lateness in 0_i64..12, updates in any::<bool>(),
    ) {
        let emit = if updates { "updates" } else { "final" };
        let rest = format!(r#","allowed_lateness_ms":{lateness},"emit":"{emit}""#);
        let kind = format!(r#""type":"hopping","size_ms":{size},"slide_ms":{slide}"#);
        let spec = spec(&window(&kind, &rest), &bound.to_string(), "");
        let (rows, ledger) = run(&spec, &events, &course);
        let (expected, expected_ledger) = aligned_by_hand(&events, &hopping(size, slide), bound, lateness);
        prop_assert_eq!(without_revisions(&rows), without_revisions(&expected));
        prop_assert_eq!(ledger, expected_ledger);
    }

    #[test]
    fn keyed_lanes_agree_with_counting_by_hand(
        events in events(40), course in course(), size in 1_i64..25, slide in 1_i64..25,
        bound in 0_i64..15, updates in any::<bool>(),
    ) {
        // Keyed by k: a key lives in one lane, which closes its windows by itself.
        let events = by_key(events);
        let emit = if updates { "updates" } else { "final" };
        let kind = format!(r#""type":"hopping","size_ms":{size},"slide_ms":{slide}"#);
        let steps = window(&kind, &format!(r#","emit":"{emit}""#));
        let spec = spec(&steps, &bound.to_string(), KEYED);
        prop_assert!(!Pipeline::new(&spec, 1).expect("a plan").plan().combine);
        let (rows, ledger) = run(&spec, &events, &course);
        let (expected, expected_ledger) = aligned_by_hand(&events, &hopping(size, slide), bound, 0);
        prop_assert_eq!(without_revisions(&rows), without_revisions(&expected));
        prop_assert_eq!(ledger, expected_ledger);
    }

    #[test]
    fn cumulating_windows_agree_with_counting_by_hand(
        events in events(40), course in course(), step in 1_i64..12, steps in 1_i64..6,
        bound in 0_i64..15, lateness in 0_i64..12, updates in any::<bool>(), keyed in any::<bool>(),
    ) {
        let events = if keyed { by_key(events) } else { events };
        let emit = if updates { "updates" } else { "final" };
        let rest = format!(r#","allowed_lateness_ms":{lateness},"emit":"{emit}""#);
        let kind = format!(r#""type":"cumulate","size_ms":{},"step_ms":{step}"#, step * steps);
        let spec = spec(&window(&kind, &rest), &bound.to_string(), if keyed { KEYED } else { "" });
        let (rows, ledger) = run(&spec, &events, &course);
        let (expected, expected_ledger) = aligned_by_hand(&events, &cumulating(step, steps), bound, lateness);
        prop_assert_eq!(without_revisions(&rows), without_revisions(&expected));
        prop_assert_eq!(ledger, expected_ledger);
    }

    #[test]
    fn the_whole_window_counts_all(
        events in events(40), course in course(), bound in 0_i64..15, updates in any::<bool>(), keyed in any::<bool>(),
    ) {
        let events = if keyed { by_key(events) } else { events };
        let emit = format!(r#","emit":"{}""#, if updates { "updates" } else { "final" });
        let steps = window(r#""type":"whole""#, &emit);
        let (rows, ledger) = run(&spec(&steps, &bound.to_string(), if keyed { KEYED } else { "" }), &events, &course);
        // Null bounds read as 0; nothing is late for what never ends.
        let (mut expected, expected_ledger) = aligned_by_hand(&events, &|_| vec![(0, i64::MAX)], bound, 0);
        expected = expected.into_iter().map(|((key, ..), row)| ((key, 0, 0), row)).collect();
        prop_assert_eq!(without_revisions(&rows), without_revisions(&expected));
        prop_assert_eq!(ledger, expected_ledger);
    }

    #[test]
    fn sessions_do_not_depend_on_order_within_the_bound(
        events in events(10), course in course(), gap in 1_i64..15, keyed in any::<bool>(), more in 0_i64..80,
    ) {
        let events = if keyed { by_key(events) } else { events };
        let longest = gap + more;
        let kind = format!(r#""type":"session","gap_ms":{gap},"gap_inclusive":false,"max_length_ms":{longest}"#);
        let spec = spec(&window(&kind, ""), "10", if keyed { KEYED } else { "" });
        let (rows, ledger) = run(&spec, &events, &course);
        prop_assert_eq!(without_revisions(&rows), without_revisions(&sessions_by_hand(&events, gap, longest)));
        prop_assert_eq!(ledger[0], events.len() as u64);
    }

    #[test]
    fn sessions_do_not_depend_on_cuts_even_beyond_the_bound(
        events in events(40), left in course(), right in course(), gap in 1_i64..15, inclusive in any::<bool>(),
        bound in 0_i64..15, lateness in 0_i64..6, more in proptest::option::of(0_i64..40), keyed in any::<bool>(),
    ) {
        let events = if keyed { by_key(events) } else { events };
        let most = more.map_or_else(String::new, |more| format!(r#","max_length_ms":{}"#, gap + more));
        let kind = format!(r#""type":"session","gap_ms":{gap},"gap_inclusive":{inclusive}{most}"#);
        let rest = format!(r#","allowed_lateness_ms":{lateness}"#);
        let spec = spec(&window(&kind, &rest), &bound.to_string(), if keyed { KEYED } else { "" });
        let (left, right) = (run(&spec, &events, &left), run(&spec, &events, &right));
        prop_assert_eq!(&left.0, &right.0);
        prop_assert_eq!(left.1, right.1);
    }

    #[test]
    fn duplicates_are_dropped_once_per_lane_within_the_horizon(events in events(10), course in course()) {
        let dedupe = r#"{"verb":"dedupe","field":"id","within_ms":100000},"#;
        let steps = format!("{dedupe}{}", window(r#""type":"tumbling","size_ms":10"#, ""));
        let (rows, ledger) = run(&spec(&steps, "10", ""), &events, &course);
        let mut seen = std::collections::BTreeSet::new();
        let fresh: Vec<Event> = events.iter().copied().filter(|event| seen.insert((event.lane, event.id))).collect();
        // The clock also moves for duplicates, but within the bound nothing is late either way.
        let (expected, _) = aligned_by_hand(&fresh, &hopping(10, 10), 10, 0);
        prop_assert_eq!(without_revisions(&rows), without_revisions(&expected));
        prop_assert_eq!(ledger[3], (events.len() - fresh.len()) as u64);
    }

    #[test]
    fn lanes_do_not_change_the_result_of_input_within_the_bound(
        events in events(10), left in course(), right in course(), size in 1_i64..25, slide in 1_i64..25,
    ) {
        let kind = format!(r#""type":"hopping","size_ms":{size},"slide_ms":{slide}"#);
        let spec = spec(&window(&kind, ""), "10", "");
        let one: Vec<Event> = events.iter().map(|event| Event { lane: 0, ..*event }).collect();
        let (left, right) = (run(&spec, &one, &left).0, run(&spec, &events, &right).0);
        prop_assert_eq!(without_revisions(&left), without_revisions(&right));
    }
}

#[test]
fn beyond_the_bound_a_session_may_have_the_bounds_of_one_that_is_over() {
    let kind = r#""type":"session","gap_ms":9,"gap_inclusive":false,"max_length_ms":20"#;
    let spec = spec(&window(kind, r#","allowed_lateness_ms":2"#), "2", KEYED);
    // The session of k6 is over with 7 and 11 when the clock stands at 23; its next session comes to begin at 7 too, and is cut at 20.
    let events = [(3, 23), (6, 11), (6, 7), (3, 26), (6, 18), (3, 30), (6, 15), (6, 7), (6, 26)]
        .map(|(key, time_ms)| Event { lane: 0, key, time_ms, value: 1, id: 0 });
    for course in [Course::smooth(1), Course::smooth(9)] {
        let (rows, ledger) = run(&spec, &events, &course);
        let of_key: Vec<_> = rows.iter().filter(|(key, _)| key.0.starts_with("k6")).collect();
        let named = |name: &str, start, end| (name.to_owned(), start, end);
        assert_eq!(
            of_key,
            [(&named("k6", 7, 20), &(2, 2, 0)), (&named("k6", 20, 35), &(1, 1, 0)), (&named("k6'", 7, 20), &(3, 3, 0)),]
        );
        assert_eq!(ledger[0], 9);
    }
}

#[test]
fn a_returning_idle_lane_reopens_a_fired_window() {
    let spec = spec(&window(r#""type":"tumbling","size_ms":10"#, ""), "0", r#","idle_timeout_ms":100"#);
    let mut pipeline = start(&spec, 1);
    let mut offsets = BTreeMap::new();
    let event = |lane, time_ms| Event { lane, key: 0, time_ms, value: 1, id: 0 };
    let mut rows = Rows::new();
    collect(&pipeline.push(&raws(&[event(0, 1), event(1, 2)], &mut offsets), 0).expect("a push"), &mut rows);
    collect(&pipeline.advance(0, &[2]).expect("time"), &mut rows);
    collect(&pipeline.advance(50, &[1, 2]).expect("time"), &mut rows);
    collect(&pipeline.push(&raws(&[event(0, 25)], &mut offsets), 120).expect("a push"), &mut rows);
    collect(&pipeline.advance(130, &[1, 2]).expect("time"), &mut rows);
    assert_eq!(rows.get(&("k0".into(), 0, 10)), Some(&(2, 2, 0)), "lanes 1 and 2 are idle: the window fires");
    collect(&pipeline.push(&raws(&[event(1, 3)], &mut offsets), 140).expect("a push"), &mut rows);
    collect(&pipeline.push(&raws(&[event(1, 30)], &mut offsets), 150).expect("a push"), &mut rows);
    assert_eq!(rows.get(&("k0".into(), 0, 10)), Some(&(3, 3, 1)), "lane 1 came back in time for its own clock");
    assert_eq!(pipeline.combine().expect("merged").late_after_combine(), 0);
}

#[test]
fn all_idle_clocks_run_with_the_wall_clock_and_close_windows() {
    let spec = spec(&window(r#""type":"tumbling","size_ms":1000"#, ""), "0", r#","idle_timeout_ms":100"#);
    let mut pipeline = start(&spec, 1);
    let event = Event { lane: 0, key: 0, time_ms: 10, value: 1, id: 0 };
    let mut rows = Rows::new();
    collect(&pipeline.push(&raws(&[event], &mut BTreeMap::new()), 5_000).expect("a push"), &mut rows);
    for now in [5_001, 5_500, 5_980] {
        collect(&pipeline.advance(now, &[0, 1, 2]).expect("time"), &mut rows);
        assert!(rows.is_empty(), "not over at {now}");
    }
    // The clock stood at 9 when the record came at 5,000; the window is over at 999.
    collect(&pipeline.advance(5_990, &[0, 1, 2]).expect("time"), &mut rows);
    assert_eq!(rows.len(), 1);
}

#[test]
fn state_of_another_pipeline_is_refused_and_damage_is_noticed() {
    let tumbling = spec(&window(r#""type":"tumbling","size_ms":10"#, ""), "0", "");
    let hopping = spec(&window(r#""type":"hopping","size_ms":10,"slide_ms":5"#, ""), "0", "");
    let mut pipeline = start(&tumbling, 1);
    let event = Event { lane: 0, key: 0, time_ms: 10, value: 1, id: 0 };
    pipeline.push(&raws(&[event], &mut BTreeMap::new()), 0).expect("a push");
    commit(&mut pipeline, &mut |_| {});
    let saved = pipeline.save();
    let error = Pipeline::new(&hopping, 1).expect("a plan").restore(&saved).expect_err("another plan");
    assert!(error.message.contains("another pipeline"), "{error}");
    for (id, bytes) in &saved {
        for len in 0..bytes.len() {
            let cut = vec![(*id, bytes[..len].to_vec())];
            Pipeline::new(&tumbling, 1).expect("a plan").restore(&cut).expect_err("cut short");
        }
    }
}

#[test]
fn bad_records_leave_and_the_next_good_one_is_counted() {
    let spec = spec(&window(r#""type":"tumbling","size_ms":10"#, ""), "0", r#","max_future_skew_ms":1000"#);
    let mut pipeline = start(&spec, 1);
    let deep = format!(r#"{{"t":1,"k":"a","v":1,"x":{}}}"#, "[".repeat(100_000));
    let values: Vec<(Option<&[u8]>, &str)> = vec![
        (Some(b"nonsense"), "DECODE_SYNTAX"),
        (Some(b"{\"t\":1,\"k\":\"\xff\"}"), "DECODE_UTF8"),
        (Some(deep.as_bytes()), "DEPTH_LIMIT"),
        (Some(br#"{"k":"a","v":1}"#), "MISSING_FIELD"),
        (Some(br#"{"t":"yesterday","k":"a","v":1}"#), "BAD_TIMESTAMP"),
        (Some(br#"{"t":1,"k":7,"v":1}"#), "TYPE_MISMATCH"),
        (Some(br#"{"t":1,"k":"a","v":9223372036854775808}"#), "NUMBER_RANGE"),
        (Some(br#"{"t":1,"k":"a","k":"b","v":1}"#), "DUP_FIELD"),
        (None, "tombstone"),
        (Some(br#"{"t":5000,"k":"a","v":1}"#), "future"),
        (Some(br#"{"t":"1970-01-01T00:00:00.001\u002b00:00","k":"a","v":1}"#), "applied"), // the sign escaped, as .NET does
    ];
    let mut raw = RawBatch::new(0, "t".into(), 16, 1024);
    for (offset, (value, _)) in values.iter().enumerate() {
        raw.push(*value, offset as i64, Some(0)).expect("small");
    }
    let outputs = pipeline.push(&[raw], 0).expect("a push");
    let rejected = outputs.iter().find(|output| output.kind == OutputKind::Rejected).expect("dead letters");
    let reasons = rejected.batch.column_by_name("reason").expect("reason").as_string::<i32>();
    let found: Vec<&str> = reasons.iter().flatten().collect();
    let expected: Vec<&str> = values[..8].iter().map(|(_, reason)| *reason).collect();
    assert_eq!(found, expected);
    let ledger = *pipeline.ledgers().next().expect("lane 0").1;
    assert_eq!((ledger.read, ledger.rejected, ledger.tombstone, ledger.future, ledger.applied), (11, 8, 1, 1, 1));
    pipeline.seal().expect("the ledger balances");
}
