//! What a pipeline says that its state takes, against what the system says that the process has.
//!
//! Each job runs in a process of its own, so that no other's memory is given to it. `STATED` is what docs/semantics.md
//! promises.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a test that talks to a copy of itself")]

use std::process::Command;
use streamcore::pipeline::Pipeline;
use streamcore::raw::{RawBatch, lane_id};
use streamcore::spec::Spec;

/// What the process has is so many times what is said, at least and at most.
const STATED: (f64, f64) = (0.7, 2.0);

const JOB: &str = "STREAMCORE_FOOTPRINT_JOB";
const PUSH_ROWS: usize = 20_000;
const ENOUGH_BYTES: u64 = 24 << 20;

fn window(kind: &str, aggregate: &str, rest: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"k","text":"k"}}],
        "aggregates":[{{"name":"a","text":"{aggregate}"}}]{rest}}}"#
    )
}

/// A join with an input whose rows never come; rows of a table are that input's.
fn join(kind: &str) -> String {
    format!(
        r#"{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"left","kind":{{{kind}}}}}"#
    )
}

/// Name, steps, and how many keys the rows have.
fn jobs() -> Vec<(&'static str, String, usize)> {
    let tumbling = r#""type":"tumbling","size_ms":1000000"#;
    let many = usize::MAX;
    vec![
        ("count", window(tumbling, "count()", ""), many),
        ("exact sum", window(tumbling, "sum(f)", ""), many),
        ("text", window(tumbling, "max(s)", ""), many),
        ("updates", window(tumbling, "count()", r#","emit":"updates""#), many),
        ("list", window(tumbling, "collect_list(s, 1000)", ""), 2_000),
        ("distinct", window(tumbling, "count_distinct(s)", ""), 500),
        ("top", window(tumbling, "top_k(s, 10)", ""), 500),
        ("sketch", window(tumbling, "approx_distinct(s)", ""), 100_000),
        ("quantile", window(tumbling, "quantile(f, 0.5)", ""), 100_000),
        ("session", window(r#""type":"session","gap_ms":10"#, "count()", ""), many),
        ("sessions", window(r#""type":"session","gap_ms":1"#, "count()", ""), 1_000),
        ("sliding", window(r#""type":"sliding","size_ms":100000"#, "count()", ""), many),
        ("join", join(r#""type":"interval","from_ms":0,"to_ms":0"#), many),
        ("join of few keys", join(r#""type":"interval","from_ms":0,"to_ms":0"#), 1_000),
        ("table", join(r#""type":"table","versioned":false"#), many),
        ("dedupe", r#"{"verb":"dedupe","field":"s","within_ms":1000000000}"#.to_owned(), many),
    ]
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn push(pipeline: &mut Pipeline, input: i32, first: usize, keys: usize) {
    let mut raw = RawBatch::new(0, "t".into(), PUSH_ROWS, PUSH_ROWS * 96);
    raw.input = input;
    for row in first..first + PUSH_ROWS {
        // Times that do not rise, so that nothing is over, and three apart for a key's sessions.
        let (key, time_ms) = (row % keys, 1_000 + (row / keys) as i64 * 3 % 900_000);
        let float = row as f64 / 7.0;
        let json = format!(r#"{{"t":{time_ms},"k":"key {key:09}","s":"some text {row:09}","f":{float}}}"#);
        raw.push(Some(json.as_bytes()), row as i64, Some(time_ms)).expect("small");
        raw.push_key(Some(format!("key {key:09}").as_bytes()));
    }
    pipeline.push(&[raw], 0).expect("a push");
}

/// Pushes until the state is large, and prints what is said and what there is.
fn measure(steps: &str, keys: usize) {
    let source = r#"{"event_time":"t","event_time_unit":"ms","keyed_by":"k","out_of_orderness_ms":100000000,
        "schema":{"k":"string","s":"string","f":"float64"}}"#;
    let inputs = if steps.contains("join") {
        format!(r#""inputs":[{{"name":"other","source":{source},"steps":[]}}],"#)
    } else {
        String::new()
    };
    let input = i32::from(steps.contains("table"));
    let text = format!(r#"{{"source":{source},{inputs}"steps":[{steps}],"limits":{{"threads_max":1}}}}"#);
    let spec = Spec::from_json(text.as_bytes()).expect("a description");
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    pipeline.assign(&[lane_id(input, 0)]);
    let mut first = 0;
    let mut commit = |pipeline: &mut Pipeline| {
        push(pipeline, input, first, keys);
        first += PUSH_ROWS;
        pipeline.seal().expect("balanced");
        pipeline.committed();
    };
    // The memory that a push takes for a while is there before.
    commit(&mut pipeline);
    let (resident, said) = (resident_bytes(), pipeline.state_bytes());
    while pipeline.state_bytes() < said + ENOUGH_BYTES {
        commit(&mut pipeline);
    }
    println!("said {} resident {}", pipeline.state_bytes() - said, resident_bytes() - resident);
}

#[test]
fn the_bytes_said_are_those_the_process_has() {
    if let Ok(job) = std::env::var(JOB) {
        let (_, steps, keys) = jobs().into_iter().find(|(name, ..)| *name == job).expect("a job");
        return measure(&steps, keys);
    }
    let mut wrong = Vec::new();
    for (job, ..) in jobs() {
        let this = std::env::current_exe().expect("a test");
        let arguments = ["--exact", "the_bytes_said_are_those_the_process_has", "--nocapture"];
        let done = Command::new(this).args(arguments).env(JOB, job).output().expect("a process");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let number = |after: &str| -> Option<f64> {
            let rest = text.split(after).nth(1)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let (said, resident) = (number("said ").unwrap_or_default(), number("resident ").unwrap_or_default());
        let ratio = resident / said;
        println!("{job}: {said} bytes said, {ratio:.2} times that resident");
        if !(STATED.0..=STATED.1).contains(&ratio) {
            wrong.push(format!("{job}: {ratio:.2} {}", String::from_utf8_lossy(&done.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
