//! The clock that an open window is said to wait for is the one at which it leaves, for every kind and behind others.

use std::collections::BTreeMap;
use streamcore::pipeline::Pipeline;
use streamcore::raw::{RawBatch, lane_id};
use streamcore::spec::Spec;

const BOUND_MS: i64 = 50;
const LANES: [i32; 2] = [0, 1];

fn window(kind: &str, by: &str, aggregate: &str, lateness_ms: i64) -> String {
    let by = if by.is_empty() { String::new() } else { format!(r#"{{"name":"{by}","text":"{by}"}}"#) };
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{by}],"allowed_lateness_ms":{lateness_ms},
        "aggregates":[{{"name":"n","text":"{aggregate}"}}]}}"#
    )
}

fn jobs() -> Vec<(String, bool)> {
    let tumbling = |size_ms: i64| format!(r#""type":"tumbling","size_ms":{size_ms}"#);
    let session = |rest: &str| window(&format!(r#""type":"session","gap_ms":15{rest}"#), "k", "count()", 7);
    let first = window(&tumbling(20), "k", "count()", 13);
    let both = |steps: String| [(steps.clone(), true), (steps, false)];
    let steps = [
        first.clone(),
        window(r#""type":"hopping","size_ms":50,"slide_ms":20"#, "k", "count()", 0),
        window(r#""type":"cumulate","size_ms":60,"step_ms":20"#, "k", "count()", 5),
        session(""),
        session(r#","max_length_ms":30"#),
        format!("{first},{}", window(&tumbling(60), "k", "sum(n)", 11)),
        format!("{first},{}", window(r#""type":"session","gap_ms":40"#, "k", "sum(n)", 0)),
        format!("{first},{},{}", window(&tumbling(60), "k", "sum(n)", 11), window(&tumbling(120), "", "sum(n)", 0)),
    ];
    let sliding = window(r#""type":"sliding","size_ms":30"#, "k", "count()", 9);
    steps.into_iter().flat_map(both).chain([(sliding, true)]).collect()
}

fn pipeline(steps: &str, keyed: bool) -> Pipeline {
    let keyed = if keyed { r#","keyed_by":"k""# } else { "" };
    let source = format!(
        r#"{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{BOUND_MS},"idle_timeout_ms":0,
        "schema":{{"k":"string"}}{keyed}}}"#
    );
    let text = format!(r#"{{"source":{source},"steps":[{steps}]}}"#);
    let mut pipeline = Pipeline::new(&Spec::from_json(text.as_bytes()).expect("a description"), 1).expect("a plan");
    pipeline.assign(&LANES);
    for lane in LANES {
        let mut raw = RawBatch::new(lane, "t".into(), 8, 256);
        for (offset, time_ms) in [3, 5, 12, 21, 33, 38, 47, 48].into_iter().enumerate() {
            let key = offset % 3;
            let json = format!(r#"{{"t":{time_ms},"k":"k{key}"}}"#);
            raw.push(Some(json.as_bytes()), offset as i64, Some(time_ms)).expect("small");
            raw.push_key(Some(format!("k{key}").as_bytes()));
        }
        pipeline.push(&[raw], 0).expect("a push");
    }
    pipeline
}

/// Open windows by step, lane and end, and the clock that each is said to wait for.
fn open(pipeline: &Pipeline) -> BTreeMap<(String, Option<i32>, i64), i64> {
    let mut open = BTreeMap::new();
    for end_ms in 0..260 {
        for window in pipeline.open_at(end_ms) {
            if let Some(found) = window.found {
                assert!(found.start_ms < end_ms && found.keys > 0);
                assert_eq!(window.inputs_ms, [Some(found.over_at_ms)]);
                open.insert((window.step.at, window.lane, end_ms), found.over_at_ms);
            }
        }
    }
    open
}

#[test]
fn a_window_leaves_at_the_clock_it_is_said_to_wait_for() {
    for (steps, keyed) in jobs() {
        let mut pipeline = pipeline(&steps, keyed);
        let (mut before, mut left) = (open(&pipeline), 0);
        assert!(!before.is_empty(), "{steps}");
        // Lanes are idle from the beginning, so their clocks run with this one.
        for now_ms in 1..400 {
            pipeline.advance(now_ms, &LANES).expect("told");
            let clock_ms = pipeline.lanes().map(|lane| lane.clock.watermark_ms()).min().expect("lanes");
            let after = open(&pipeline);
            for (window, over_at_ms) in &before {
                let gone = !after.contains_key(window);
                if gone && *over_at_ms > clock_ms {
                    // A row of the window before has made a longer session of it.
                    let (step, lane, end_ms) = window;
                    let grown = after.keys().any(|(at, of, end)| (at, of) == (step, lane) && end > end_ms);
                    assert!(
                        step != "steps[0]" && steps.contains("session") && grown,
                        "{window:?} is gone at {clock_ms}: {steps}"
                    );
                    continue;
                }
                assert_eq!(gone, *over_at_ms <= clock_ms, "{window:?} over at {over_at_ms}, clock {clock_ms}: {steps}");
                left += usize::from(gone);
            }
            before = after;
        }
        assert!(before.is_empty() && left > 1, "{before:?} {steps}");
    }
}

#[test]
fn the_nearest_other_ends_are_told_and_groups_that_lanes_share_counted_once() {
    let pipeline = pipeline(&window(r#""type":"tumbling","size_ms":20"#, "k", "count()", 0), false);
    let [window] = &pipeline.open_at(40)[..] else { panic!("one step") };
    assert_eq!(
        (window.lane, window.found.map(|open| (open.start_ms, open.over_at_ms, open.keys))),
        (None, Some((20, 39, 3)))
    );
    assert_eq!(window.nearest_ms, [20, 60]);
    assert!(pipeline.open_at(41)[0].found.is_none());
}

/// A window behind a join of inputs whose clocks differ, and the lanes of both.
fn behind_join(kind: &str, how: &str) -> (Pipeline, [i32; 3]) {
    let source = |bound_ms: i64| {
        format!(
            r#"{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":{bound_ms},"idle_timeout_ms":0,
            "schema":{{"k":"string"}}}}"#
        )
    };
    let join = format!(
        r#"{{"verb":"join","input":"other","left_on":["k"],"right_on":["k"],"suffix":"_right","how":"{how}","allowed_lateness_ms":4,
        "kind":{{{kind}}}}}"#
    );
    let windows = [
        window(r#""type":"tumbling","size_ms":20"#, "k", "count()", 13),
        window(r#""type":"tumbling","size_ms":60"#, "", "sum(n)", 0),
    ];
    let (own, other, windows) = (source(BOUND_MS), source(20), windows.join(","));
    let text = format!(
        r#"{{"source":{own},"inputs":[{{"name":"other","source":{other},"steps":[]}}],"steps":[{join},{windows}]}}"#
    );
    let mut pipeline = Pipeline::new(&Spec::from_json(text.as_bytes()).expect("a description"), 1).expect("a plan");
    let lanes = [0, 1, lane_id(1, 0)];
    pipeline.assign(&lanes);
    for (input, lane) in [(1, 0), (0, 0), (0, 1)] {
        let mut raw = RawBatch::new(lane, "t".into(), 8, 256);
        raw.input = input;
        for (offset, time_ms) in [83, 85, 92, 101, 113, 118, 127, 128].into_iter().enumerate() {
            let json = format!(r#"{{"t":{},"k":"k{}"}}"#, time_ms + i64::from(lane), offset % 3);
            raw.push(Some(json.as_bytes()), offset as i64, Some(time_ms)).expect("small");
        }
        pipeline.push(&[raw], 0).expect("a push");
    }
    (pipeline, lanes)
}

#[test]
fn behind_a_join_a_window_waits_for_the_lanes_of_both_inputs() {
    let interval = r#""type":"interval","from_ms":-9,"to_ms":6"#;
    let kinds = [
        (interval, "inner"),
        (interval, "left"),
        (interval, "outer"),
        (r#""type":"as_of","tolerance_ms":30"#, "left"),
        (r#""type":"table","versioned":true"#, "left"),
        (r#""type":"table","versioned":false"#, "left"),
    ];
    for (kind, how) in kinds {
        let (mut pipeline, lanes) = behind_join(kind, how);
        let seen = |pipeline: &Pipeline| {
            let at = |end_ms| pipeline.open_at(end_ms).into_iter().map(move |window| (end_ms, window));
            let open = (0..260).flat_map(at).filter(|(_, window)| window.found.is_some() && window.lane.is_none());
            open.map(|(end_ms, window)| ((window.step.at, end_ms), window.inputs_ms)).collect::<BTreeMap<_, _>>()
        };
        let (mut before, mut left) = (seen(&pipeline), 0);
        // The two inputs' clocks run 30 ms apart, so it is now one's and now the other's that is waited for.
        for now_ms in 1..400 {
            pipeline.advance(now_ms, &lanes).expect("told");
            let clocks: Vec<(usize, i64)> =
                pipeline.lanes().map(|lane| (usize::from(lane.id >= lanes[2]), lane.clock.watermark_ms())).collect();
            let after = seen(&pipeline);
            for (window, inputs_ms) in &before {
                let passed = clocks.iter().all(|(input, clock_ms)| inputs_ms[*input].is_none_or(|ms| ms <= *clock_ms));
                assert_eq!(!after.contains_key(window), passed, "{window:?} {inputs_ms:?} {clocks:?} {kind} {how}");
                left += usize::from(passed);
            }
            before = after;
        }
        assert!(before.is_empty() && left > 2, "{before:?} {kind} {how}");
    }
}
