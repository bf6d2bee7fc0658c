//! Joins of each partition by itself: the rows are those of one join of everything, however lanes are spread over workers and
//! handed from one to another.

mod common;

use common::{Course, Job, course, json};
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::checkpoint::manifest::Facts;
use streamcore::checkpoint::recovery::Recovery;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::plan::analyse;
use streamcore::raw::{RawBatch, lane_id};
use streamcore::saving::{Extent, Loading, Saving};
use streamcore::spec::Spec;

const PARTITIONS: i32 = 3;
const WINDOW: &str = r#",{"verb":"window","kind":{"type":"tumbling","size_ms":25},"by":[{"name":"k","text":"k"}],
    "aggregates":[{"name":"n","text":"count()"},{"name":"s","text":"sum(v)"}]}"#;

#[derive(Debug, Clone, Copy)]
struct Event {
    input: i32,
    key: u8,
    time_ms: i64,
    value: i64,
}

impl Event {
    const fn partition(&self) -> i32 {
        self.key as i32 % PARTITIONS
    }
}

fn text(combine: &str, keyed_by: &str, kind: &str, how: &str, steps: &str) -> String {
    let source = format!(
        r#"{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":20,{keyed_by}
        "schema":{{"k":"string","v":"int64"}}}}"#
    );
    let join = format!(
        r#"{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"{how}",
        "kind":{{{kind}}}}}"#
    );
    format!(
        r#"{{"source":{source},"inputs":[{{"name":"other","source":{source},"steps":[
        {{"verb":"filter","condition":{{"text":"v != 7"}}}}]}}],"steps":[{join}{steps}],"combine":"{combine}"}}"#
    )
}

fn spec(combine: &str, kind: &str, how: &str, steps: &str) -> Spec {
    let text = text(combine, r#""keyed_by":"k","#, kind, how, steps);
    Spec::from_json(text.as_bytes()).expect("a description")
}

fn raws(events: &[Event], offsets: &mut BTreeMap<i32, i64>) -> Vec<RawBatch> {
    let mut batches: BTreeMap<i32, RawBatch> = BTreeMap::new();
    for event in events {
        let Event { input, key, time_ms, value } = event;
        let id = lane_id(*input, event.partition());
        let batch = batches.entry(id).or_insert_with(|| {
            let mut batch = RawBatch::new(event.partition(), "t".into(), 8, 256);
            batch.input = *input;
            batch
        });
        let json = format!(r#"{{"t":{time_ms},"k":"k{key}","v":{value}}}"#);
        let offset = offsets.entry(id).or_default();
        batch.push(Some(json.as_bytes()), *offset, Some(*time_ms)).expect("small");
        batch.push_key(Some(format!("k{key}").as_bytes()));
        *offset += 1;
    }
    batches.into_values().collect()
}

fn results(outputs: &[OutputBatch]) -> Vec<String> {
    outputs.iter().filter(|output| output.kind == OutputKind::Result).flat_map(json).collect()
}

fn lanes(partitions: &[i32]) -> Vec<i32> {
    [0, 1].iter().flat_map(|input| partitions.iter().map(|partition| lane_id(*input, *partition))).collect()
}

fn run(spec: &Spec, events: &[Event], course: &Course) -> Vec<String> {
    let mut rows = Vec::new();
    Job { spec, lanes: &lanes(&[0, 1, 2]), raws }.run(events, course, |outputs| rows.extend(results(outputs)));
    rows.sort();
    rows
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_i32..2, 0_u8..7, 0_i64..40, 0_i64..12).prop_map(|(input, key, time_ms, value)| Event {
        input,
        key,
        time_ms,
        value,
    });
    (proptest::collection::vec(event, 0..150), 0_i64..4).prop_map(|(events, step)| {
        let moved = |(number, event): (usize, Event)| Event { time_ms: event.time_ms + number as i64 * step, ..event };
        events.into_iter().enumerate().map(moved).collect()
    })
}

/// Two workers, of which the second takes partition 1 over in the middle.
fn handed_over(spec: &Spec, events: &[Event], at: usize) -> Vec<String> {
    let new = || Pipeline::new(spec, 1).expect("a plan");
    let (mut first, mut second) = (new(), new());
    // One of its lanes brings the other along.
    first.assign(&[0, lane_id(1, 1), 2]);
    let (before, after) = events.split_at(at.min(events.len()));
    let (mut rows, mut offsets) = (Vec::new(), BTreeMap::new());
    let commit = |pipeline: &mut Pipeline, rows: &mut Vec<String>| {
        rows.extend(results(&pipeline.drain().expect("rows")));
        rows.extend(results(&pipeline.seal().expect("balanced").outputs));
    };
    for part in before.chunks(11) {
        rows.extend(results(&first.push(&raws(part, &mut offsets), 0).expect("a push")));
    }
    commit(&mut first, &mut rows);
    let saved = first.save_lane(1, Saving::new(Extent::Whole)).out;
    first.committed();
    first.revoke(&[1]);
    second.restore_lane(1, Loading::whole(&saved)).expect("whole");
    second.restored();
    assert_eq!((first.saved_lanes(), second.saved_lanes()), (vec![0, 2], vec![1]));
    for part in after.chunks(13) {
        let (of_second, of_first): (Vec<RawBatch>, Vec<RawBatch>) =
            raws(part, &mut offsets).into_iter().partition(|raw| raw.lane == 1);
        rows.extend(results(&first.push(&of_first, 0).expect("a push")));
        rows.extend(results(&second.push(&of_second, 0).expect("a push")));
    }
    for pipeline in [&mut first, &mut second] {
        rows.extend(results(&pipeline.end().expect("an end")));
        commit(pipeline, &mut rows);
    }
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn partitions_joined_by_themselves_give_the_rows_of_one_join(
        events in events(),
        kind in prop_oneof![
            Just(r#""type":"interval","from_ms":-10,"to_ms":15"#),
            Just(r#""type":"window","size_ms":20"#),
            Just(r#""type":"as_of""#),
        ],
        how in prop_oneof![Just("inner"), Just("left")],
        steps in prop_oneof![Just(""), Just(WINDOW)],
        course in course(),
        at in 0_usize..150,
    ) {
        let apart = spec("none", kind, how, steps);
        let expected = run(&spec("auto", kind, how, steps), &events, &Course::smooth(events.len().max(1)));
        prop_assert_eq!(&run(&apart, &events, &course), &expected, "in one worker");
        prop_assert_eq!(&handed_over(&apart, &events, at), &expected, "handed over");
    }
}

#[test]
fn rows_leave_in_pieces_partition_by_partition() {
    let mut apart = spec("none", r#""type":"interval","from_ms":-10,"to_ms":15"#, "left", "");
    let events: Vec<Event> =
        (0..60).map(|number| Event { input: number % 2, key: (number / 2 % 6) as u8, time_ms: 10, value: 1 }).collect();
    let expected = run(&apart, &events, &Course::smooth(60));
    assert_eq!(expected.len(), 6 * 5 * 5, "pairs of each key");
    apart.limits.piece_rows = 5;
    let mut pipeline = Pipeline::new(&apart, 1).expect("a plan");
    pipeline.assign(&[0, 1, 2]);
    let mut rows = results(&pipeline.push(&raws(&events, &mut BTreeMap::new()), 0).expect("a push"));
    let mut piece = results(&pipeline.end().expect("an end"));
    while !piece.is_empty() || pipeline.has_more() {
        assert!(piece.len() <= 2 * 5, "{} rows at once", piece.len());
        rows.append(&mut piece);
        piece = results(&pipeline.go_on().expect("rows"));
    }
    rows.sort();
    assert_eq!(rows, expected);
}

#[test]
fn a_partition_waits_for_its_own_lanes_alone() {
    let mut apart = spec("none", r#""type":"interval","from_ms":-5,"to_ms":5"#, "inner", "");
    apart.source.max_lead_ms = Some(100);
    let mut pipeline = Pipeline::new(&apart, 1).expect("a plan");
    pipeline.assign(&lanes(&[0, 1]));
    let event = |input, key, time_ms| Event { input, key, time_ms, value: 1 };
    let all = [
        event(0, 0, 0),
        event(1, 0, 0),
        event(0, 0, 90),
        event(1, 0, 90),
        event(0, 1, 0),
        event(1, 1, 0),
        event(0, 1, 500),
    ];
    let rows = results(&pipeline.push(&raws(&all, &mut BTreeMap::new()), 0).expect("a push"));
    assert_eq!(rows, [r#"{"k":"k0","v":1,"v_right":1}"#], "partition 1 has heard nothing of its right side");
    assert_eq!(pipeline.paused(), [1], "far ahead of the other lane of its partition, not of partition 0");
    assert_eq!(pipeline.join_rows(), Some([3, 2]));
    assert_eq!(pipeline.saved_lanes(), [0, 1]);
}

#[test]
fn a_join_by_another_key_is_no_join_of_partitions() {
    let problems = |keyed_by: &str, steps: &str| {
        let text = text("none", keyed_by, r#""type":"interval","from_ms":0,"to_ms":5"#, "inner", steps);
        let found = analyse(&Spec::from_json(text.as_bytes()).expect("a description")).problems;
        found.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>()
    };
    let told = "combine: combine = \"none\" joins each partition by itself: that needs a join key that is the record key on both \
                sides, and behind the join windows and dedupes that go by it";
    assert_eq!(problems("", ""), [told]);
    assert_eq!(problems(r#""keyed_by":"k","#, WINDOW), Vec::<String>::new());
    let by_value = WINDOW.replace(r#""name":"k","text":"k""#, r#""name":"v","text":"v""#);
    assert_eq!(problems(r#""keyed_by":"k","#, &by_value), [told]);
    let other = spec("none", r#""type":"interval","from_ms":0,"to_ms":5"#, "inner", "");
    let one = spec("auto", r#""type":"interval","from_ms":0,"to_ms":5"#, "inner", "");
    let fingerprint = |spec: &Spec| Pipeline::new(spec, 1).expect("a plan").plan().fingerprint;
    assert_ne!(fingerprint(&one), fingerprint(&other), "state of one is none of the other");
}

/// The records of a partition's log.
type Topic = BTreeMap<Vec<u8>, Vec<u8>>;

/// Ends an epoch that is of these partitions, and keeps it.
fn write(pipeline: &mut Pipeline, partitions: &[i32], topics: &mut BTreeMap<i32, Topic>) {
    pipeline.seal().expect("balanced");
    let facts = partitions.iter().map(|id| (*id, Facts { pipeline: "p".into(), ..Facts::default() })).collect();
    for (id, records) in pipeline.seal_logs(&facts) {
        let topic = topics.entry(id).or_default();
        for (key, value) in records {
            match value {
                Some(value) => drop(topic.insert(key, value)),
                None => drop(topic.remove(&key)),
            }
        }
    }
    pipeline.committed();
}

fn recovered(spec: &Spec, topics: &BTreeMap<i32, Topic>) -> Pipeline {
    let mut pipeline = Pipeline::new(spec, 1).expect("a plan");
    for (id, topic) in topics {
        let mut recovery = Recovery::new(pipeline.log_owner(*id));
        topic.iter().for_each(|(key, value)| recovery.add(key, Some(value)));
        pipeline.recover_lane(&recovery, *id, false).expect("a whole state").expect("a state");
    }
    pipeline.restored();
    pipeline
}

/// A recovered partition has its rows in other places than its log, which is to be written whenever it moves next.
#[test]
fn a_recovered_partition_that_is_in_no_epoch_for_a_while_is_written_whole_in_its_next() {
    let apart = spec("none", r#""type":"interval","from_ms":-1000,"to_ms":1000"#, "inner", "");
    let mut offsets = BTreeMap::new();
    let mut events = |key: u8, count: i64| -> Vec<RawBatch> {
        let each = |value| [0, 1].map(|input| Event { input, key, time_ms: 10, value: 100 + value });
        raws(&(0..count).flat_map(each).collect::<Vec<_>>(), &mut offsets)
    };
    let (mut topics, mut pipeline) = (BTreeMap::new(), Pipeline::new(&apart, 1).expect("a plan"));
    pipeline.assign(&lanes(&[0, 1]));
    for key in [0, 1] {
        pipeline.push(&events(key, 20), 0).expect("a push");
    }
    write(&mut pipeline, &[0, 1], &mut topics);
    pipeline = recovered(&apart, &topics);
    for moved in [0, 0, 1, 1, 0] {
        pipeline.push(&events(moved, 3), 0).expect("a push");
        write(&mut pipeline, &[i32::from(moved)], &mut topics);
        let digest = pipeline.seal().expect("balanced").digest;
        assert_eq!(recovered(&apart, &topics).seal().expect("balanced").digest, digest);
    }
    // And what is taken back is what was not written.
    pipeline.push(&events(1, 3), 0).expect("a push");
    pipeline.push(&events(0, 3), 0).expect("a push");
    pipeline.rollback();
    let digest = pipeline.seal().expect("balanced").digest;
    assert_eq!(recovered(&apart, &topics).seal().expect("balanced").digest, digest);
}
