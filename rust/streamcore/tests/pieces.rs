//! Rows that leave in pieces are those that would leave at once, wherever between two pieces the epoch ends, the
//! pipeline starts again or goes back.

mod common;

use common::json;
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

#[derive(Debug, Clone, Copy)]
struct Event {
    lane: i32,
    key: u8,
    time_ms: i64,
}

/// A window that counts the events of a key.
fn count(kind: &str, rest: &str) -> String {
    window(kind, r#"{"name":"k","text":"k"}"#, "count()", rest)
}

fn window(kind: &str, by: &str, aggregate: &str, rest: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{by}],"aggregates":[{{"name":"n","text":"{aggregate}"}}]{rest}}}"#
    )
}

const TUMBLING: &str = r#""type":"tumbling","size_ms":30"#;
const UPDATES: &str = r#","emit":"updates","emit_every_ms":20"#;

/// Every way rows leave a window: the name of it, and the steps.
fn jobs() -> Vec<(&'static str, String)> {
    let late = r#","allowed_lateness_ms":25"#;
    let few = r#","emit":"updates","emit_every_ms":20,"emit_when":{"text":"n >= 2"}"#;
    let chain = |second: String| format!("{},{second}", count(TUMBLING, ""));
    vec![
        ("tumbling", count(TUMBLING, late)),
        ("hopping", count(r#""type":"hopping","size_ms":60,"slide_ms":10"#, late)),
        ("many slices", count(r#""type":"hopping","size_ms":100,"slide_ms":5"#, "")),
        ("cumulate", count(r#""type":"cumulate","size_ms":60,"step_ms":20"#, "")),
        ("whole", count(r#""type":"whole""#, "")),
        ("session", count(r#""type":"session","gap_ms":15"#, late)),
        ("cut session", count(r#""type":"session","gap_ms":15,"max_length_ms":40"#, "")),
        ("sliding", count(r#""type":"sliding","size_ms":40"#, late)),
        ("updates", count(TUMBLING, UPDATES)),
        ("updates of few", count(TUMBLING, few)),
        ("updates of sessions", count(r#""type":"session","gap_ms":15"#, UPDATES)),
        ("with each record", count(TUMBLING, r#","emit":"updates","emit_when":{"text":"n >= 2"}"#)),
        ("two windows", chain(window(r#""type":"tumbling","size_ms":90"#, r#"{"name":"k","text":"k"}"#, "sum(n)", ""))),
        (
            "updates behind",
            chain(window(r#""type":"tumbling","size_ms":90"#, r#"{"name":"k","text":"k"}"#, "sum(n)", UPDATES)),
        ),
        (
            "a session behind",
            chain(window(r#""type":"session","gap_ms":40"#, r#"{"name":"k","text":"k"}"#, "sum(n)", "")),
        ),
        ("three windows", {
            let second = window(r#""type":"tumbling","size_ms":60"#, r#"{"name":"k","text":"k"}"#, "sum(n)", "");
            let third = window(r#""type":"sliding","size_ms":200"#, r#"{"name":"k","text":"k"}"#, "sum(n)", "");
            chain(format!("{second},{third}"))
        }),
        ("a filter behind", chain(r#"{"verb":"filter","condition":{"text":"n >= 2"}}"#.to_owned())),
    ]
}

fn spec(steps: &str, keyed: bool, piece_rows: usize) -> Spec {
    let keyed = if keyed { r#","keyed_by":"k""# } else { "" };
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":40,
        "schema":{{"k":"string"}}{keyed}}},"steps":[{steps}],"limits":{{"piece_rows":{piece_rows},"key_bytes_max":2000000}}}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for Event { lane, key, time_ms } in events {
        let batch = batches.entry(*lane).or_insert_with(|| RawBatch::new(*lane, "t".into(), 8, 256));
        let offset = offsets.entry(*lane).or_default();
        batch
            .push(Some(format!(r#"{{"t":{time_ms},"k":"k{key}"}}"#).as_bytes()), *offset, Some(*time_ms))
            .expect("small");
        batch.push_key(Some(format!("k{key}").as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

/// What happens between two pieces.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Commit,
    Restart,
    /// The epoch ends; one that began behind it, with so many pieces, is taken back.
    Back(usize),
}

#[derive(Debug, Clone)]
struct Course {
    cuts: Vec<usize>,
    piece_rows: usize,
    between: Vec<Between>,
}

fn course() -> impl Strategy<Value = Course> {
    let between = prop_oneof![
        3 => Just(Between::Nothing),
        2 => Just(Between::Commit),
        1 => Just(Between::Restart),
        1 => (0_usize..3).prop_map(Between::Back),
    ];
    let cuts = proptest::collection::vec(1_usize..40, 1..8);
    let all = (cuts, 1_usize..5, proptest::collection::vec(between, 1..20));
    all.prop_map(|(cuts, piece_rows, between)| Course { cuts, piece_rows, between })
}

/// A pipeline and the rows that left it.
struct Driver<'s> {
    spec: &'s Spec,
    pipeline: Pipeline,
    log: common::Log,
    rows: Vec<String>,
    piece_rows_max: usize,
}

impl<'s> Driver<'s> {
    fn new(spec: &'s Spec) -> Self {
        let mut pipeline = Pipeline::new(spec, 2).expect("a plan");
        pipeline.assign(&[0, 1, 2]);
        Self { spec, pipeline, log: common::Log::default(), rows: Vec::new(), piece_rows_max: 0 }
    }

    fn take(&mut self, outputs: &[OutputBatch]) {
        let rows = texts(outputs);
        self.piece_rows_max = self.piece_rows_max.max(rows.len());
        self.rows.extend(rows);
    }

    fn commit(&mut self) -> u64 {
        let mut outputs = Vec::new();
        let digest = self.log.commit(&mut self.pipeline, &mut |left| outputs.extend_from_slice(left));
        self.take(&outputs);
        digest
    }

    /// Lets the pieces leave that are still to leave.
    fn go_on(&mut self, between: &mut impl Iterator<Item = Between>) {
        while self.pipeline.has_more() {
            match between.next().unwrap_or(Between::Nothing) {
                Between::Nothing => {}
                Between::Commit => drop(self.commit()),
                Between::Restart => {
                    let digest = self.commit();
                    let mut fresh = Pipeline::new(self.spec, 2).expect("a plan");
                    self.log.load(&mut fresh);
                    self.pipeline = fresh;
                    assert_eq!(self.commit(), digest, "loaded state is the saved state: {:?}", self.spec.steps);
                }
                Between::Back(pieces) => {
                    self.commit();
                    let before = self.pipeline.save();
                    for _ in 0..pieces {
                        self.pipeline.go_on().expect("a piece");
                    }
                    self.pipeline.rollback();
                    assert!(self.pipeline.save() == before, "undo is the identity");
                }
            }
            let outputs = self.pipeline.go_on().expect("a piece");
            self.take(&outputs);
        }
    }

    /// The rows, and the digest of the state after the end.
    fn run(mut self, events: &[Event], course: &Course) -> (Vec<String>, u64, usize) {
        let (mut offsets, mut rest) = (BTreeMap::new(), events);
        let mut between = course.between.iter().copied().cycle();
        for cut in course.cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            let outputs = self.pipeline.push(&raws(part, &mut offsets), 0).expect("a push");
            self.take(&outputs);
            self.go_on(&mut between);
        }
        let outputs = self.pipeline.end().expect("an end");
        self.take(&outputs);
        self.go_on(&mut std::iter::empty());
        let digest = self.commit();
        (self.rows, digest, self.piece_rows_max)
    }
}

/// Result rows as JSON, in the order they left.
fn texts(outputs: &[OutputBatch]) -> Vec<String> {
    outputs.iter().filter(|output| output.kind == OutputKind::Result).flat_map(json).collect()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3_i32, 0..9_u8, 0..400_i64).prop_map(|(lane, key, time_ms)| Event { lane, key, time_ms });
    proptest::collection::vec((event, 0..60_i64), 0..120).prop_map(|mut events| {
        events.sort_by_key(|(event, delay)| event.time_ms + delay);
        events.into_iter().map(|(event, _)| event).collect()
    })
}

/// All rows at once, and in the pieces of `course`.
fn compare(steps: &str, keyed: bool, events: &[Event], course: &Course) -> [(Vec<String>, u64); 2] {
    let whole = Course { piece_rows: usize::MAX, between: vec![Between::Nothing], ..course.clone() };
    [&whole, course].map(|course| {
        let spec = spec(steps, keyed, course.piece_rows);
        let (rows, digest, _) = Driver::new(&spec).run(events, course);
        (rows, digest)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_one_lane_rows_are_the_same_in_the_same_order(events in events(), course in course()) {
        let events: Vec<Event> = events.into_iter().map(|event| Event { lane: 0, ..event }).collect();
        for (name, steps) in jobs() {
            let [whole, pieces] = compare(&steps, true, &events, &course);
            prop_assert_eq!(whole, pieces, "{}", name);
        }
    }

    #[test]
    fn of_lanes_side_by_side_rows_are_the_same(events in events(), course in course()) {
        let events: Vec<Event> =
            events.into_iter().map(|event| Event { lane: i32::from(event.key % 3), ..event }).collect();
        for (name, steps) in jobs() {
            // Lanes take turns with their pieces.
            let [whole, pieces] = compare(&steps, true, &events, &course).map(|(mut rows, digest)| {
                rows.sort();
                (rows, digest)
            });
            prop_assert_eq!(whole, pieces, "{}", name);
        }
    }

    #[test]
    fn where_lanes_meet_rows_are_the_same_in_the_same_order(events in events(), course in course()) {
        for (name, steps) in jobs().into_iter().filter(|(name, _)| !["sliding", "with each record", "updates of few", "updates of sessions"].contains(name)) {
            let [whole, pieces] = compare(&steps, false, &events, &course);
            prop_assert_eq!(whole, pieces, "{}", name);
        }
    }
}

#[test]
fn no_piece_is_larger_than_it_may_be() {
    let events: Vec<Event> = (0..200).map(|key| Event { lane: 0, key, time_ms: 5 }).collect();
    let course = Course { cuts: vec![200], piece_rows: 7, between: vec![Between::Nothing] };
    for (name, steps) in jobs() {
        if name == "updates of sessions" {
            continue;
        }
        let spec = spec(&steps, true, course.piece_rows);
        let (rows, _, largest) = Driver::new(&spec).run(&events, &course);
        let expected = if name == "a filter behind" || name == "cumulate" { largest } else { 7 };
        assert_eq!(largest, expected, "{name}: {} rows", rows.len());
        assert!(largest <= 7, "{name}");
    }
}

/// Rows of one push and of the end, piece by piece; keys are a mebibyte long.
fn pieces_of_long_keys(piece_rows: usize) -> Vec<Vec<String>> {
    let hopping = count(r#""type":"hopping","size_ms":100,"slide_ms":50"#, UPDATES);
    let mut pipeline = Pipeline::new(&spec(&hopping, true, piece_rows), 1).expect("a plan");
    pipeline.assign(&[0]);
    let (mut raw, long) = (RawBatch::new(0, "t".into(), 8, 256), "k".repeat(1 << 20));
    // All keys change in two windows, then one of them again between two multiples of `emit_every`.
    let times = [(0..40, 60), (0..1, 85), (1..2, 60), (0..1, 105), (2..3, 60), (0..1, 500)];
    let events = times.iter().flat_map(|(keys, time_ms)| keys.clone().map(move |number| (number, *time_ms)));
    for (offset, (number, time_ms)) in events.enumerate() {
        let key = format!("{number:02}{long}");
        let value = format!(r#"{{"t":{time_ms},"k":"{key}"}}"#);
        raw.push(Some(value.as_bytes()), offset as i64, Some(time_ms)).expect("small");
        raw.push_key(Some(key.as_bytes()));
    }
    let short = |outputs: Vec<OutputBatch>| texts(&outputs).iter().map(|row| row.replace(&long, "")).collect();
    let mut pieces = vec![short(pipeline.push(&[raw], 0).expect("a push"))];
    while pipeline.has_more() {
        pieces.push(short(pipeline.go_on().expect("a piece")));
    }
    pieces.push(short(pipeline.end().expect("an end")));
    pieces.push(short(pipeline.drain().expect("the rest")));
    pieces
}

#[test]
fn long_keys_end_a_piece_but_not_what_leaves_while_records_are_counted() {
    let (whole, pieces) = (pieces_of_long_keys(usize::MAX), pieces_of_long_keys(1 << 16));
    assert_eq!((whole.len(), pieces.len() > 3), (3, true), "{} pieces", pieces.len());
    assert_eq!(whole.concat(), pieces.concat());
}

#[test]
fn long_values_end_a_piece_at_the_row_that_fills_it() {
    let spec = Spec::from_json(
        br#"{"source":{"event_time":"t","event_time_unit":"ms","schema":{"k":"string","x":"string"},"keyed_by":"k"},
        "steps":[{"verb":"window","kind":{"type":"tumbling","size_ms":60},"by":[{"name":"k","text":"k"}],
        "aggregates":[{"name":"n","text":"max(x)"}]}]}"#,
    );
    let mut pipeline = Pipeline::new(&spec.expect("a description"), 1).expect("a plan");
    pipeline.assign(&[0]);
    let (mut raw, long) = (RawBatch::new(0, "t".into(), 8, 256), "x".repeat(1 << 20));
    for key in 0..70 {
        raw.push(Some(format!(r#"{{"t":1,"k":"k{key}","x":"{long}"}}"#).as_bytes()), key, Some(1)).expect("small");
        raw.push_key(Some(format!("k{key}").as_bytes()));
    }
    pipeline.push(&[raw], 0).expect("a push");
    let rows = |outputs: Vec<OutputBatch>| outputs.iter().map(|output| output.batch.num_rows()).sum::<usize>();
    let mut pieces = vec![rows(pipeline.end().expect("an end"))];
    while pipeline.has_more() {
        pieces.push(rows(pipeline.go_on().expect("a piece")));
    }
    assert_eq!(pieces, [32, 32, 6], "32 values of a mebibyte fill a piece");
}
