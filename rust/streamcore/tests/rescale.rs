//! State of lanes that is moved to other numbers of lanes: every window leaves once and right, whatever the clocks of the lanes
//! showed, and where no clock has moved, the state is that of a run with the last number from the beginning.

mod common;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use common::commit;
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::checkpoint::manifest::Facts;
use streamcore::checkpoint::recovery::Recovery;
use streamcore::partition::Partitioner;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline, Rescaled};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

const BOUND_MS: i64 = 40;
const TUMBLING: &str = r#""type":"tumbling","size_ms":100"#;
const HOPPING: &str = r#""type":"hopping","size_ms":120,"slide_ms":40"#;
const SESSION: &str = r#""type":"session","gap_ms":60"#;
const SLIDING: &str = r#""type":"sliding","size_ms":60"#;
const DEDUPE: &str = r#"{"verb":"dedupe","field":"id","within_ms":10000}"#;
const CHAINED: &str = r#"{"verb":"window","kind":{"type":"tumbling","size_ms":300},"by":[{"name":"k","text":"k"}],
    "aggregates":[{"name":"n","text":"sum(n)"},{"name":"s","text":"sum(s)"}]}"#;

/// Counts and sums of the rows of a key and window, in the order they left.
type Rows = BTreeMap<(String, Option<i64>), Vec<(i64, i64)>>;

#[derive(Debug, Clone, Copy)]
struct Event {
    key: u64,
    time_ms: i64,
    value: i64,
}

fn window(kind: &str, by: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"{by}"}}],
        "aggregates":[{{"name":"n","text":"count()"}},{{"name":"s","text":"sum(v)"}}]}}"#
    )
}

fn spec(source: &str, steps: &[&str]) -> Spec {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms",{source},
        "schema":{{"k":"string","v":"int64","id":"string","f":"float64"}}}},"steps":[{}]}}"#,
        steps.join(",")
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn keyed(bound_ms: Option<i64>, steps: &[&str]) -> Spec {
    let bound = bound_ms.map_or("null".to_owned(), |bound| bound.to_string());
    spec(&format!(r#""out_of_orderness_ms":{bound},"keyed_by":"k""#), steps)
}

/// Time goes on, back by less than the bound, and never in all lanes alike.
fn events(count: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = (0_u64..14, 0..BOUND_MS, -9_i64..9);
    proptest::collection::vec(event, 1..count).prop_map(|events| {
        let at = |(number, (key, back_ms, value)): (usize, (u64, i64, i64))| Event {
            key,
            time_ms: 1_000 + number as i64 * 7 - back_ms,
            value,
        };
        events.into_iter().enumerate().map(at).collect()
    })
}

/// A topic and who reads it.
struct Run {
    spec: Spec,
    pipeline: Pipeline,
    lanes: u32,
    partitioner: Partitioner,
    sent: i64,
    rows: Rows,
}

impl Run {
    fn new(spec: &Spec, lanes: u32, partitioner: Partitioner) -> Self {
        let mut pipeline = Pipeline::new(spec, 1).expect("a plan");
        pipeline.assign(&(0..lanes as i32).collect::<Vec<_>>());
        Self { spec: spec.clone(), pipeline, lanes, partitioner, sent: 0, rows: BTreeMap::new() }
    }

    fn take(rows: &mut Rows, outputs: &[OutputBatch]) {
        for output in outputs.iter().filter(|output| output.kind == OutputKind::Result) {
            let batch = &output.batch;
            let column = |name| batch.column_by_name(name).expect(name);
            let starts = column("window_start").as_primitive::<TimestampMillisecondType>();
            let (counts, sums) = (column("n").as_primitive::<Int64Type>(), column("s").as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let start = starts.is_valid(row).then(|| starts.value(row));
                let key = column("k").as_string::<i32>().value(row).to_owned();
                rows.entry((key, start)).or_default().push((counts.value(row), sums.value(row)));
            }
        }
    }

    /// Sends `events` where the producer does, and reads them; twice the same id in each, if `copies`.
    fn send(&mut self, events: &[Event], cut: usize, copies: bool) {
        for part in events.chunks(cut) {
            let mut raws: BTreeMap<i32, RawBatch> = BTreeMap::new();
            for event in part {
                let key = format!("key {}", event.key);
                let lane = self.partitioner.partition(key.as_bytes(), self.lanes).expect("a place") as i32;
                let raw = raws.entry(lane).or_insert_with(|| RawBatch::new(lane, "t".into(), 8, 256));
                let id = self.sent;
                let json = format!(r#"{{"t":{},"k":"{key}","v":{},"id":"{id}","f":0.5}}"#, event.time_ms, event.value);
                for _ in 0..=i32::from(copies) {
                    raw.push(Some(json.as_bytes()), self.sent, Some(event.time_ms)).expect("small");
                    raw.push_key(Some(key.as_bytes()));
                }
                self.sent += 1;
            }
            let raws: Vec<RawBatch> = raws.into_values().collect();
            let outputs = self.pipeline.push(&raws, 0).expect("a push");
            Self::take(&mut self.rows, &outputs);
        }
        let rows = &mut self.rows;
        commit(&mut self.pipeline, &mut |outputs: &[OutputBatch]| Self::take(rows, outputs));
    }

    fn rescale(&mut self, lanes: u32) -> Rescaled {
        let ledger = common::total(&self.pipeline);
        let before = self.pipeline.contents();
        let moved = self.pipeline.rescale(lanes, Some(self.partitioner)).expect("movable");
        let after = self.pipeline.contents();
        assert_eq!(common::total(&self.pipeline), ledger);
        assert_eq!((moved.rows, moved.digest), (after.rows, after.digest));
        assert_eq!(moved.rows + moved.merged, before.rows);
        assert!(moved.merged + moved.cut > 0 || moved.digest == before.digest, "the same rows");
        self.lanes = lanes;
        self.write_and_read();
        assert_eq!(self.pipeline.contents(), after);
        moved
    }

    /// Goes on with what is read of the records that the state is written as, behind epoch 7.
    fn write_and_read(&mut self) {
        let mut fresh = Pipeline::new(&self.spec, 1).expect("a plan");
        for lane in self.pipeline.saved_lanes() {
            let mut before = Recovery::new(self.pipeline.log_owner(lane));
            before.write_behind(7);
            let records = self.pipeline.rewrite_lane(lane, &before, Facts::default()).expect("written");
            let mut topic = Recovery::new(fresh.log_owner(lane));
            records.iter().for_each(|(key, value)| topic.add(key, value.as_deref()));
            let manifest = fresh.recover_lane(&topic, lane, false).expect("whole").expect("state");
            assert_eq!(manifest.epoch, 8);
            assert!(manifest.changes.iter().all(|saved| saved.rows == 0), "each row is written once");
        }
        fresh.restored();
        self.pipeline = fresh;
    }

    fn end(&mut self) {
        let outputs = self.pipeline.end().expect("an end");
        Self::take(&mut self.rows, &outputs);
        let rows = &mut self.rows;
        commit(&mut self.pipeline, &mut |outputs: &[OutputBatch]| Self::take(rows, outputs));
    }
}

/// All that one lane with all keys has to say.
fn expected(spec: &Spec, parts: [&[Event]; 3]) -> Rows {
    let mut run = Run::new(spec, 1, Partitioner::Murmur2);
    parts.iter().for_each(|part| run.send(part, usize::MAX, false));
    run.end();
    run.rows
}

fn steps() -> impl Strategy<Value = Vec<String>> {
    let kinds = prop_oneof![Just(TUMBLING), Just(HOPPING), Just(SESSION)];
    (kinds, any::<bool>(), any::<bool>()).prop_map(|(kind, dedupes, chains)| {
        let first = dedupes.then(|| DEDUPE.to_owned());
        let last = (chains && kind == TUMBLING).then(|| CHAINED.to_owned());
        first.into_iter().chain([window(kind, "k")]).chain(last).collect()
    })
}

fn partitioners() -> impl Strategy<Value = Partitioner> {
    prop_oneof![Just(Partitioner::Murmur2), Just(Partitioner::Consistent)]
}

proptest! {
    #[test]
    fn windows_leave_once_and_right_over_3_8_and_5_lanes(
        steps in steps(), partitioner in partitioners(), events in events(400), cuts in (0_usize..400, 0_usize..400),
        cut in 1_usize..60,
    ) {
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let spec = keyed(Some(BOUND_MS), &steps);
        let copies = steps[0] == DEDUPE;
        let (first, rest) = events.split_at(cuts.0.min(events.len()));
        let (second, third) = rest.split_at(cuts.1.min(rest.len()));
        let mut run = Run::new(&spec, 3, partitioner);
        run.send(first, cut, copies);
        let moved = run.rescale(8);
        prop_assert_eq!(moved.merged, 0);
        prop_assert!(moved.cut == 0 || steps.iter().any(|step| step.contains("hopping")), "only where windows overlap");
        run.send(second, cut, copies);
        prop_assert_eq!(run.rescale(5).early, 0);
        run.send(third, cut, copies);
        run.end();
        let ledger = common::total(&run.pipeline);
        prop_assert_eq!((ledger.late, ledger.rejected), (0, 0));
        prop_assert_eq!(ledger.duplicate, if copies { events.len() as u64 } else { 0 });
        prop_assert_eq!(&run.rows, &expected(&spec, [first, second, third]));
        prop_assert!(run.rows.values().all(|rows| rows.len() == 1), "none leaves twice");
    }

    #[test]
    fn where_no_clock_moves_the_state_is_that_of_the_last_number_of_lanes(
        steps in steps(), partitioner in partitioners(), events in events(300), at in (0_usize..300, 0_usize..300),
    ) {
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let spec = keyed(None, &steps);
        let (first, rest) = events.split_at(at.0.min(events.len()));
        let (second, third) = rest.split_at(at.1.min(rest.len()));
        let mut run = Run::new(&spec, 3, partitioner);
        let mut other = Run::new(&spec, 5, partitioner);
        run.send(first, 50, false);
        run.rescale(8);
        run.send(second, 50, false);
        run.rescale(5);
        run.send(third, 50, false);
        [first, second, third].iter().for_each(|part| other.send(part, 50, false));
        prop_assert_eq!(run.pipeline.contents(), other.pipeline.contents());
    }

    #[test]
    fn rows_of_a_key_that_was_in_two_lanes_become_one(
        session in any::<bool>(), partitioner in partitioners(), events in events(200), at in 0_usize..200,
    ) {
        // Producers know of the growth before the worker does.
        let spec = keyed(None, &[&window(if session { SESSION } else { TUMBLING }, "k")]);
        let (first, second) = events.split_at(at.min(events.len()));
        let mut run = Run::new(&spec, 3, partitioner);
        run.send(first, 50, false);
        run.pipeline.assign(&(0..8).collect::<Vec<_>>());
        let reads = |event: &&Event| {
            let key = format!("key {}", event.key);
            partitioner.partition(key.as_bytes(), 8).is_some_and(|lane| lane < 3)
        };
        let second: Vec<Event> = second.iter().filter(reads).copied().collect();
        run.lanes = 8;
        run.send(&second, 50, false);
        run.pipeline.revoke(&[3, 4, 5, 6, 7]);
        let moved = run.rescale(8);
        let early = moved.early;
        run.end();
        prop_assert_eq!(&run.rows, &expected(&spec, [first, &second, &[]]));
        prop_assert!(early > 0 || moved.merged == 0);
    }
}

/// What a pipeline of two lanes, with one event of each of five keys, says to being rescaled.
fn refused(spec: &Spec, partitioner: Option<Partitioner>) -> String {
    let mut run = Run::new(spec, 2, Partitioner::Murmur2);
    let event = |key| Event { key, time_ms: 1_000, value: 1 };
    run.send(&(0..5).map(event).collect::<Vec<_>>(), 50, false);
    let before = (run.pipeline.contents(), common::total(&run.pipeline));
    let refused = run.pipeline.rescale(3, partitioner).expect_err("refused").message;
    assert_eq!((run.pipeline.contents(), common::total(&run.pipeline)), before, "nothing was changed");
    refused
}

#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    let murmur2 = Some(Partitioner::Murmur2);
    let tumbling = window(TUMBLING, "k");
    let of = |steps: &[&str], partitioner| refused(&keyed(Some(BOUND_MS), steps), partitioner);
    assert!(of(&[&tumbling], None).contains("murmur2_random, murmur2, consistent_random, consistent"));
    let other = of(&[&tumbling], Some(Partitioner::Consistent));
    assert!(other.contains("rows are not in the partition where consistent puts their key among 2"), "{other}");
    assert!(of(&[&window(SLIDING, "k")], murmur2).contains("sliding"));
    let bloom = r#"{"verb":"dedupe","field":"id","within_ms":10000,"bloom":{"capacity":1000,"false_drop_rate":0.01}}"#;
    assert!(of(&[bloom, &tumbling], murmur2).contains("bloom"));
    let unkeyed = spec(r#""out_of_orderness_ms":40"#, &[&window(SESSION, "k")]);
    assert!(refused(&unkeyed, murmur2).contains("merged from several partitions"));
}

#[test]
fn windows_that_lanes_share_stay_and_the_lanes_begin_where_they_have_left() {
    let spec = spec(r#""out_of_orderness_ms":0"#, &[&window(TUMBLING, "k")]);
    let mut run = Run::new(&spec, 3, Partitioner::Murmur2);
    let event = |key, time_ms| Event { key, time_ms, value: 1 };
    let at = |time_ms| (0..14).map(|key| event(key, time_ms)).collect::<Vec<_>>();
    run.send(&at(1_010), 50, false);
    run.send(&at(1_150), 50, false);
    assert_eq!(run.rows.len(), 14);
    run.rescale(8);
    assert!(run.pipeline.lanes().all(|lane| lane.clock.watermark_ms() == 1_149));
    run.send(&at(1_160), 50, false);
    run.rescale(2);
    run.send(&at(1_170), 50, false);
    run.end();
    assert_eq!(run.rows.len(), 28);
    let counts = |start| run.rows.iter().filter(move |((_, at), _)| *at == Some(start)).map(|(_, rows)| &rows[..]);
    assert!(counts(1_000).all(|rows| rows == [(1, 1)]) && counts(1_100).all(|rows| rows == [(3, 3)]));
}
