//! The same rows, ledgers and late records as with `combine = "local"`.

use crate::common::json;
use crate::world::{Event, Shape, World, raw_of, spec_of};
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::metrics::Ledger;
use streamcore::pipeline::{OutputKind, Pipeline};
use streamcore::spec::{CombineSpec, Spec};

/// All aggregates.
const AGGREGATES: &str = r#"
    {"name":"n","text":"count()"},{"name":"known","text":"count(v)"},{"name":"total","text":"sum(v)"},{"name":"exact","text":"sum(f)"},
    {"name":"least","text":"min(v)"},{"name":"most","text":"max(s)"},{"name":"middle","text":"mean(f)"},{"name":"spread","text":"stddev(f)"},
    {"name":"var","text":"var(v)"},{"name":"first","text":"first(s)"},{"name":"last","text":"last(v)"},{"name":"at_least","text":"arg_min(s, f)"},
    {"name":"at_most","text":"arg_max(s, v)"},{"name":"all","text":"collect_list(s, 50)"},{"name":"kinds","text":"count_distinct(s)"},
    {"name":"about","text":"approx_distinct(v)"},{"name":"median","text":"quantile(f, 0.5)"},{"name":"top","text":"top_k(s, 3)"},
    {"name":"any","text":"any(v > 2)"},{"name":"every","text":"all(v > 2)"}"#;

/// A pipeline with one window, and steps behind it.
pub fn spec(kind: &str, rest: &str, behind: &str, piece_rows: usize) -> Spec {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":20,
        "schema":{{"k":"string","v":"int64","f":"float64","s":"string"}}}},"steps":[
        {{"verb":"filter","condition":{{"text":"f > 0.05"}}}},
        {{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"k"}}],"aggregates":[{AGGREGATES}]{rest}}}{behind}],
        "limits":{{"piece_rows":{piece_rows}}}}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

prop_compose! {
    /// Events whose time goes on by and by, with some far behind.
    pub fn events()(
        parts in proptest::collection::vec(
            (0_i32..4, proptest::option::weighted(0.9, 0_u8..6), 0_i64..90, 0_i64..5, 0_u8..4, any::<bool>()), 0..160,
        ),
        pace in 0_i64..9,
    ) -> Vec<Event> {
        let made = parts.into_iter().enumerate().map(|(number, (lane, key, jitter, value, text, has_value))| {
            let time = number as i64 * pace + jitter;
            let key = key.map_or("null".to_owned(), |key| format!("\"k{key}\""));
            let v = if has_value { (value - 1).to_string() } else { "null".to_owned() };
            Event { lane, json: format!(r#"{{"t":{time},"k":{key},"v":{v},"f":{}.{value},"s":"s{text}"}}"#, value * 7 % 3) }
        });
        made.collect()
    }
}

prop_compose! {
    pub fn shape()(lanes in 4_i32..6, partitions in 1_u32..5, first in 1_usize..4, second in 1_usize..4) -> Shape {
        Shape { lanes, partitions, workers: [first, second] }
    }
}

/// What a pipeline gives whose lanes meet in one process: rows, late records and ledgers.
fn local(spec: &Spec, events: &[Event], lanes: i32) -> (Vec<String>, Vec<String>, BTreeMap<i32, Ledger>) {
    let mut pipeline = Pipeline::new(&spec_of(spec, CombineSpec::Local, None), 1).expect("a plan");
    pipeline.assign(&(0..lanes).collect::<Vec<_>>());
    let (mut offsets, mut outputs) = (BTreeMap::<i32, usize>::new(), Vec::new());
    for event in events {
        let offset = offsets.entry(event.lane).or_default();
        let raw = raw_of(event.lane, "t", *offset, [event.json.as_bytes()].into_iter());
        *offset += 1;
        outputs.extend(pipeline.push(&[raw], 0).expect("a push"));
        outputs.extend(pipeline.drain().expect("rows"));
    }
    outputs.extend(pipeline.end().expect("an end"));
    outputs.extend(pipeline.drain().expect("rows"));
    outputs.extend(pipeline.seal().expect("balanced").outputs);
    let of_kind = |kind| {
        let mut rows: Vec<String> = outputs.iter().filter(|output| output.kind == kind).flat_map(json).collect();
        rows.sort();
        rows
    };
    let ledgers = pipeline.ledgers().map(|(lane, ledger)| (lane, *ledger)).collect();
    (of_kind(OutputKind::Result), of_kind(OutputKind::Late), ledgers)
}

/// Runs `events` both ways and compares; `rows` says what of the rows is to be the same.
fn compare(spec: &Spec, events: &[Event], shape: Shape, seed: u64, rows: impl Fn(Vec<String>) -> Vec<String>) {
    let (expected, expected_late, ledgers) = local(spec, events, shape.lanes);
    let mut found = World::new(spec, events, shape, seed).run();
    found.rows.sort();
    found.late.sort();
    assert_eq!(rows(found.rows), rows(expected), "rows");
    assert_eq!(found.late, expected_late, "late records");
    assert_eq!(found.ledgers, ledgers, "ledgers");
    let applied: u64 = ledgers.values().map(|ledger| ledger.applied).sum();
    let [partials, merged, late] = found.partials;
    assert_eq!((partials, merged + late), (applied, applied), "every record that was counted is merged, or too late");
    assert_eq!(late, 0, "no lane was idle");
}

fn as_they_are(rows: Vec<String>) -> Vec<String> {
    rows
}

/// The last row of each key and window, whatever its number: how often rows leave early is a matter of commits.
fn last_ones(rows: Vec<String>) -> Vec<String> {
    let last = rows.into_iter().filter(|row| row.contains("\"is_final\":true"));
    let parsed = last.map(|row| {
        let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&row).expect("a row");
        row.remove("revision");
        serde_json::to_string(&row).expect("a row")
    });
    parsed.collect()
}

const TUMBLING: &str = r#""type":"tumbling","size_ms":50"#;
const HOPPING: &str = r#""type":"hopping","size_ms":60,"slide_ms":20"#;
const MANY_SLICES: &str = r#""type":"hopping","size_ms":100,"slide_ms":5"#;
const GAPS: &str = r#""type":"hopping","size_ms":20,"slide_ms":30"#;
const CUMULATE: &str = r#""type":"cumulate","size_ms":80,"step_ms":20"#;
const CALENDAR: &str = r#""type":"calendar","size_ms":86400000,"timezone":"Europe/Berlin""#;
const WHOLE: &str = r#""type":"whole""#;
const SESSION: &str = r#""type":"session","gap_ms":12"#;
const SESSION_CUT: &str = r#""type":"session","gap_ms":15,"max_length_ms":60"#;
const SESSION_OPEN: &str = r#""type":"session","gap_ms":10,"gap_inclusive":false"#;
const LATENESS: &str = r#","allowed_lateness_ms":15"#;

fn aligned() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![TUMBLING, HOPPING, MANY_SLICES, GAPS, CUMULATE, CALENDAR, WHOLE])
}

fn session() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![SESSION, SESSION_CUT, SESSION_OPEN])
}

fn lateness() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", LATENESS])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn windows_that_the_clock_bounds_have_the_same_rows(
        kind in aligned(), lateness in lateness(), events in events(), shape in shape(), piece_rows in 1_usize..9, seed in any::<u64>(),
    ) {
        // Nothing is late for the whole window.
        let lateness = if kind == WHOLE { "" } else { lateness };
        compare(&spec(kind, lateness, "", piece_rows), &events, shape, seed, as_they_are);
    }

    #[test]
    fn sessions_have_the_same_rows(
        kind in session(), lateness in lateness(), events in events(), shape in shape(), piece_rows in 1_usize..9, seed in any::<u64>(),
    ) {
        compare(&spec(kind, lateness, "", piece_rows), &events, shape, seed, as_they_are);
    }

    #[test]
    fn windows_with_updates_have_the_same_last_rows(
        kind in aligned(), every in prop::sample::select(vec!["", r#","emit_every_ms":30"#]), events in events(), shape in shape(),
        piece_rows in 1_usize..9, seed in any::<u64>(),
    ) {
        let spec = spec(kind, &format!(r#","emit":"updates"{every}"#), "", piece_rows);
        compare(&spec, &events, shape, seed, last_ones);
    }

    #[test]
    fn steps_behind_a_window_have_the_same_rows(
        kind in prop::sample::select(vec![TUMBLING, HOPPING, SESSION]), events in events(), shape in shape(),
        piece_rows in 1_usize..9, seed in any::<u64>(),
    ) {
        let behind = r#",{"verb":"filter","condition":{"text":"n > 1"}},
            {"verb":"select","columns":[{"name":"key","text":"k"},{"name":"n","text":"n"},{"name":"total","text":"total"}]},
            {"verb":"window","kind":{"type":"tumbling","size_ms":100},"by":[{"name":"key","text":"key"}],
            "aggregates":[{"name":"windows","text":"count()"},{"name":"n","text":"sum(n)"},{"name":"most","text":"max(total)"}]}"#;
        compare(&spec(kind, "", behind, piece_rows), &events, shape, seed, as_they_are);
    }
}
