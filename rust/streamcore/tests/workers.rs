//! Pushing in the background against pushing in the foreground: nobody can tell them apart by rows or state.

use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use streamcore::error::ErrorKind;
use streamcore::pipeline::workers::{BYTES_UNDER_WAY_MAX, Workers};
use streamcore::pipeline::{OutputBatch, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

const NOW_MS: i64 = 1_000_000;

fn pipeline(threads: usize) -> Pipeline {
    let spec = br#"{"source":{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":5,"schema":{"k":"string"}},
        "steps":[{"verb":"window","kind":{"type":"tumbling","size_ms":10},"by":[{"name":"k","text":"k"}],
        "aggregates":[{"name":"n","text":"count()"}]}]}"#;
    let mut pipeline = Pipeline::new(&Spec::from_json(spec).expect("a description"), threads).expect("a plan");
    pipeline.assign(&[0]);
    pipeline
}

/// Records of these times, one key for every third; a negative time is no JSON.
fn raw(lane: i32, first_offset: i64, times_ms: &[i64]) -> RawBatch {
    let mut batch = RawBatch::new(lane, "t".into(), times_ms.len(), 0);
    for (offset, time_ms) in (first_offset..).zip(times_ms) {
        let json = if *time_ms < 0 { "{".to_owned() } else { format!(r#"{{"t":{time_ms},"k":"k{}"}}"#, time_ms % 3) };
        batch.push(Some(json.as_bytes()), offset, None).expect("small");
    }
    batch.seal();
    batch
}

/// What a row says, in text.
fn rows(outputs: &[OutputBatch]) -> Vec<String> {
    let row = |output: &OutputBatch, row| format!("{:?} {:?}", output.kind, output.batch.slice(row, 1));
    outputs.iter().flat_map(|output| (0..output.batch.num_rows()).map(move |at| row(output, at))).collect()
}

/// What is done between two pushes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    Take,
    Settle,
    Commit,
    Rollback,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        6 => Just(Between::Nothing),
        3 => Just(Between::Take),
        2 => Just(Between::Settle),
        2 => Just(Between::Commit),
        1 => Just(Between::Rollback),
    ]
}

/// Ends the epoch; its rows and the digest.
fn seal(pipeline: &mut Pipeline) -> (Vec<String>, u64) {
    let sealed = pipeline.seal().expect("balanced");
    pipeline.committed();
    (rows(&sealed.outputs), sealed.digest)
}

proptest! {
    #[test]
    fn rows_and_state_are_those_of_pushing_in_the_foreground(
        steps in proptest::collection::vec((proptest::collection::vec(-1_i64..200, 0..30), between()), 1..20),
        threads in 1_usize..5,
    ) {
        let (mut plain, mut workers) = (pipeline(1), Workers::new(pipeline(threads)));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for (times_ms, between) in &steps {
            expected.extend(rows(&plain.push(&[raw(0, offset, times_ms)], NOW_MS).expect("a push")));
            workers.push(vec![raw(0, offset, times_ms)], NOW_MS).expect("a push");
            offset += times_ms.len() as i64;
            match between {
                Between::Nothing => {}
                Between::Take => {
                    let (outputs, under_way) = workers.take().expect("rows");
                    found.extend(rows(&outputs));
                    prop_assert!(under_way <= 64);
                    prop_assert_eq!(&found[..], &expected[..found.len()]);
                }
                Between::Settle | Between::Commit => {
                    drop(workers.settled().expect("no failure"));
                    let (outputs, under_way) = workers.take().expect("rows");
                    found.extend(rows(&outputs));
                    prop_assert_eq!(under_way, 0);
                    prop_assert_eq!(&found, &expected);
                    if *between == Between::Commit {
                        let sealed = seal(&mut workers.settled().expect("no failure"));
                        prop_assert_eq!(sealed, seal(&mut plain));
                    }
                }
                Between::Rollback => {
                    plain.rollback();
                    workers.rollback().expect("whole");
                    (expected, found) = (Vec::new(), Vec::new());
                }
            }
        }
        drop(workers.settled().expect("no failure"));
        found.extend(rows(&workers.take().expect("rows").0));
        prop_assert_eq!(found, expected);
        let sealed = seal(&mut workers.settled().expect("no failure"));
        prop_assert_eq!(sealed, seal(&mut plain));
    }
}

#[test]
fn nothing_is_applied_after_a_push_that_failed_until_a_rollback() {
    let mut workers = Workers::new(pipeline(2));
    workers.push(vec![raw(0, 0, &[1])], NOW_MS).expect("a push");
    drop(workers.settled().expect("no failure"));
    workers.push(vec![raw(5, 0, &[1])], NOW_MS).expect("nobody knows yet");
    let error = workers.settled().map(drop).expect_err("lane 5 is not assigned");
    assert!(error.message.contains("lane 5"), "{error}");
    let later = [
        workers.push(vec![raw(0, 1, &[2])], NOW_MS).expect_err("refused"),
        workers.settled().map(drop).expect_err("refused"),
        workers.take().map(drop).expect_err("refused"),
    ];
    assert!(later.iter().all(|error| error.message.contains("an earlier push failed")), "{later:?}");
    let read = |workers: &Workers| workers.pipeline().expect("whole").ledgers().map(|(_, it)| it.read).sum::<u64>();
    assert_eq!(read(&workers), 1);
    workers.rollback().expect("whole");
    assert_eq!(read(&workers), 0);
    workers.push(vec![raw(0, 0, &[1, 2])], NOW_MS).expect("a push");
    drop(workers.settled().expect("no failure"));
    assert_eq!(read(&workers), 2);
}

#[test]
fn a_pipeline_that_a_panic_left_half_changed_is_refused() {
    let mut workers = Workers::new(pipeline(1));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _half_changed = workers.pipeline().expect("whole");
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    workers.push(vec![raw(0, 0, &[1])], NOW_MS).expect("nobody knows yet");
    for error in [workers.settled().map(drop), workers.pipeline().map(drop), workers.rollback()] {
        let error = error.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.message.contains("start again from the last checkpoint"), "{error}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the engine never waits, but for its threads to end this must")]
fn the_threads_end_behind_what_they_work_on() {
    let pipeline = pipeline(3);
    let decoders = pipeline.decoders();
    let mut workers = Workers::new(pipeline);
    for push in 0..20 {
        workers.push(vec![raw(0, push * 1000, &vec![7; 1000])], NOW_MS).expect("a push");
    }
    assert!(Arc::strong_count(&decoders) > 1);
    drop(workers);
    let end = Instant::now() + Duration::from_mins(1);
    while Arc::strong_count(&decoders) > 1 {
        assert!(Instant::now() < end, "a thread goes on");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn pushes_of_more_bytes_than_may_be_under_way_go_one_by_one() {
    let mut workers = Workers::new(pipeline(4));
    let large = |offset| {
        let mut batch = RawBatch::new(0, "t".into(), 1, BYTES_UNDER_WAY_MAX);
        batch.push(Some(&vec![b' '; BYTES_UNDER_WAY_MAX]), offset, None).expect("small enough");
        batch
    };
    let mut refused = 0;
    for offset in 0..3 {
        workers.push(vec![large(offset)], NOW_MS).expect("a push");
        let (outputs, under_way) = workers.take().expect("rows");
        refused += outputs.len();
        assert!(under_way <= 1);
    }
    drop(workers.settled().expect("no failure"));
    assert_eq!(refused + workers.take().expect("rows").0.len(), 3);
}

/// Three lanes of records with copies and garbage, in pushes large enough to be shared out.
fn lanes(push: i64) -> Vec<RawBatch> {
    let record = |lane: i64, row: i64| {
        if (lane + row) % 97 == 0 {
            return "garbage".to_owned();
        }
        let id = if row % 10 == 0 { row / 2 } else { row };
        let time_ms = push * 20 + row / 250 - row % 3;
        format!(r#"{{"t":{time_ms},"k":"k{}","id":"{lane}-{push}-{id}"}}"#, row * 7 % 300)
    };
    let lane = |lane: i64| {
        let mut batch = RawBatch::new(lane as i32, "t".into(), 5000, 0);
        for row in 0..5000 {
            batch.push(Some(record(lane, row).as_bytes()), push * 5000 + row, None).expect("small");
        }
        batch.seal();
        batch
    };
    (0..3).map(lane).collect()
}

/// Rows, ledgers and digest of three such pushes.
fn outcome(threads: usize, in_background: bool) -> (Vec<String>, String, u64) {
    let spec = br#"{"source":{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":2,"schema":{"k":"string"}},
        "steps":[{"verb":"dedupe","field":"id","within_ms":1000},
        {"verb":"window","kind":{"type":"tumbling","size_ms":10},"by":[{"name":"k","text":"k"}],
        "aggregates":[{"name":"n","text":"count()"}]}]}"#;
    let mut pipeline = Pipeline::new(&Spec::from_json(spec).expect("a description"), threads).expect("a plan");
    pipeline.assign(&[0, 1, 2]);
    if in_background {
        let mut workers = Workers::new(pipeline);
        (0..3).for_each(|push| workers.push(lanes(push), NOW_MS).expect("a push"));
        drop(workers.settled().expect("no failure"));
        let found = rows(&workers.take().expect("rows").0);
        return sealed(&mut workers.settled().expect("no failure"), found);
    }
    let found = (0..3).flat_map(|push| rows(&pipeline.push(&lanes(push), NOW_MS).expect("a push"))).collect();
    sealed(&mut pipeline, found)
}

fn sealed(pipeline: &mut Pipeline, mut found: Vec<String>) -> (Vec<String>, String, u64) {
    let ledgers = format!("{:?}", pipeline.ledgers().collect::<Vec<_>>());
    let (more, digest) = seal(pipeline);
    found.extend(more);
    (found, ledgers, digest)
}

#[test]
fn rows_ledgers_and_state_do_not_depend_on_the_number_of_threads() {
    let expected = outcome(1, false);
    assert!(expected.0.len() > 1000);
    for threads in [2, 5] {
        assert!(outcome(threads, false) == expected, "{threads} threads in one call");
    }
    for threads in [1, 2, 5] {
        assert!(outcome(threads, true) == expected, "{threads} threads in the background");
    }
}
