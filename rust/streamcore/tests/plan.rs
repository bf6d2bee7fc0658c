//! What a plan decides: where windows meet, whose state it can use, which lengths of time it takes.

use streamcore::plan::analyse;
use streamcore::spec::Spec;

fn spec(steps: &str, rest: &str) -> Spec {
    let schema = r#"{"user":"string","page":"string"}"#;
    let source = format!(
        r#"{{"event_time":"t","event_time_unit":"ms","max_future_skew_ms":60000,"keyed_by":"user","schema":{schema}}}"#
    );
    Spec::from_json(format!(r#"{{"source":{source},"steps":[{steps}]{rest}}}"#).as_bytes()).expect("a description")
}

fn window(by: &str, kind: &str) -> String {
    format!(
        r#"{{"verb":"window","kind":{{{kind}}},"by":[{{"name":"key","text":"{by}"}}],
        "aggregates":[{{"name":"n","text":"count()"}}]}}"#
    )
}

const TUMBLING: &str = r#""type":"tumbling","size_ms":10"#;

fn select(name: &str, text: &str) -> String {
    format!(r#"{{"verb":"select","columns":[{{"name":"{name}","text":"{text}"}}]}},"#)
}

#[test]
fn lanes_are_combined_unless_the_group_key_is_the_record_key_under_whatever_name() {
    let combined = |steps: String| analyse(&spec(&steps, "")).plan.expect("no mistake").combine;
    assert!(!combined(window("user", TUMBLING)));
    assert!(combined(window("page", TUMBLING)));
    assert!(combined(select("user", "page") + &window("user", TUMBLING)), "another column took the name");
    assert!(!combined(select("who", "user") + &window("who", TUMBLING)));
    assert!(!combined(select("who", "_key") + &select("key", "who") + &window("key", TUMBLING)));
}

#[test]
fn state_is_of_a_plan_that_merges_in_the_same_place() {
    let fingerprint = |rest| analyse(&spec(&window("user", TUMBLING), rest)).plan.expect("no mistake").fingerprint;
    assert_eq!(fingerprint(""), fingerprint(r#","combine":"none""#));
    assert_ne!(fingerprint(""), fingerprint(r#","combine":"local""#), "its windows lie elsewhere");
}

#[test]
fn bounds_of_windows_that_no_time_can_reach_are_refused() {
    for (bound, at) in [("offset_ms", "steps[0].offset"), ("min_start_ms", "steps[0].min_start")] {
        for value in [i64::MIN, i64::MAX] {
            let problems = analyse(&spec(&window("page", &format!(r#"{TUMBLING},"{bound}":{value}"#)), "")).problems;
            let places: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert_eq!(places, [at], "{value}");
        }
    }
}

#[test]
fn what_a_kind_of_window_cannot_have_is_refused_with_its_place() {
    let whole =
        window("page", r#""type":"whole""#).replace("\"aggregates\"", "\"allowed_lateness_ms\":1,\"aggregates\"");
    let calendar = |rest| window("page", &format!(r#""type":"calendar",{rest}"#));
    let cumulate = |size, step| window("page", &format!(r#""type":"cumulate","size_ms":{size},"step_ms":{step}"#));
    for (step, at, hint) in [
        (whole, "steps[0].allowed_lateness", "leave allowed_lateness out: no event is late for it"),
        (cumulate(100, 30), "steps[0].size", "the nearest: 90ms or 120ms"),
        (cumulate(10, 30), "steps[0].size", "the nearest: 30ms"),
        (cumulate(20_000, 1), "steps[0].step", "make step longer"),
        (
            window("page", r#""type":"session","gap_ms":10,"max_length_ms":9"#),
            "steps[0].max_length",
            "a session of one event is as long as the gap: make max_length longer",
        ),
        (
            calendar(r#""size_ms":86400000,"timezone":"Europe/Berlni""#),
            "steps[0].timezone",
            "did you mean \"Europe/Berlin\"?",
        ),
        (
            calendar(r#""size_ms":86400000,"timezone":"x""#),
            "steps[0].timezone",
            "use an IANA name, as \"Europe/Berlin\"",
        ),
        (
            calendar(r#""size_ms":5400000,"timezone":"UTC""#),
            "steps[0].size",
            "leave timezone out; offset moves shorter windows",
        ),
        (calendar(r#""size_months":1"#), "steps[0].size", "add timezone = \"UTC\", or the IANA name of another zone"),
        (
            calendar(r#""size_ms":604800000,"week_start":"sunday""#),
            "steps[0].week_start",
            "add timezone = \"UTC\", or the IANA name of another zone",
        ),
        (
            calendar(r#""size_ms":86400000,"timezone":"UTC","week_start":"sunday""#),
            "steps[0].week_start",
            "make size whole weeks, as \"1w\", or leave week_start out",
        ),
    ] {
        let problems = analyse(&spec(&step, "")).problems;
        let told: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.hint.as_deref())).collect();
        assert_eq!(told, [(at, Some(hint))]);
    }
}

#[test]
fn a_sum_of_an_undeclared_field_is_undeclared_and_no_mistake() {
    let text = r#"{"source":{"event_time":"t"},"steps":[{"verb":"window","kind":{"type":"tumbling","size_ms":10},
        "by":[{"name":"k","text":"k"}],"aggregates":[{"name":"s","text":"sum(n)"}]}]}"#;
    let analysis = analyse(&Spec::from_json(text.as_bytes()).expect("a description"));
    assert_eq!(analysis.problems, []);
    let paths: Vec<&str> = analysis.undeclared.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["k", "n"]);
    let numbers: Vec<bool> = analysis.undeclared.iter().map(|field| field.takes_number).collect();
    assert_eq!(numbers, [false, true]);
}

#[test]
fn an_unknown_aggregate_is_pointed_at_by_its_name_and_an_argument_by_itself() {
    let text = r#"{"source":{"event_time":"t","schema":{"s":"string"}},"steps":[{"verb":"window",
        "kind":{"type":"tumbling","size_ms":10},"by":[],"aggregates":[{"name":"m","text":"median(s)"},
        {"name":"t","text":"sum(s)"},{"name":"u","text":"sum(n)"}]}]}"#;
    let analysis = analyse(&Spec::from_json(text.as_bytes()).expect("a description"));
    let carets: Vec<_> = analysis
        .problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.caret.as_ref().map(|caret| caret.start)))
        .collect();
    assert_eq!(carets, [("steps[0].aggregate.m", Some(0)), ("steps[0].aggregate.t", Some(4))]);
    assert_eq!(analysis.undeclared[0].used_at, "steps[0].aggregate.u");
}

#[test]
fn what_cannot_be_said_of_early_rows_is_refused_with_its_place() {
    let early = |by, keys: &str| window(by, TUMBLING).replace("\"aggregates\"", &format!("{keys},\"aggregates\""));
    let when = |text: &str| format!(r#""emit":"updates","emit_when":{{"text":"{text}"}}"#);
    let cases = [
        (early("user", r#""emit_every_ms":10"#), "steps[0].emit_every: emit_every is about early rows"),
        (early("user", r#""emit_when":{"text":"n > 1"}"#), "steps[0].emit_when: emit_when is about early rows"),
        (early("user", r#""emit":"updates","emit_every_ms":0"#), "steps[0].emit_every: emit_every must be longer"),
        (early("user", &when("m > 1")), "steps[0].emit_when: the result has no column m"),
        (early("user", &when("user > 'a'")), "steps[0].emit_when: the result has no column user"),
        (early("user", &when("n")), "steps[0].emit_when: "),
        (early("page", &when("n > 1")), "steps[0].emit_when: emit_when looks at every record"),
    ];
    for (steps, expected) in cases {
        let problems = analyse(&spec(&steps, "")).problems;
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(matches!(&texts[..], [text] if text.starts_with(expected)), "{expected}: {texts:?}");
    }
    for keys in [when("n >= 2 and key == 'a' or window_end is null"), format!("{},\"emit_every_ms\":5", when("n > 1"))]
    {
        assert!(analyse(&spec(&early("user", &keys), "")).problems.is_empty(), "{keys}");
    }
}

#[test]
fn explain_says_when_rows_leave_early() {
    let explained = |keys: &str| {
        let step = window("user", TUMBLING).replace("\"aggregates\"", &format!("{keys},\"aggregates\""));
        let spec = spec(&step, "");
        analyse(&spec).plan.expect("no mistake").explain(&spec).to_string()
    };
    let cases = [
        (r#""emit":"final""#, "one final row a window"),
        (r#""emit":"updates""#, "updates at each commit"),
        (r#""emit":"updates","emit_every_ms":10000"#, "updates every 10s of event time"),
        (r#""emit":"updates","emit_when":{"text":"n > 1"}"#, "an early row when it becomes true that n > 1"),
        (
            r#""emit":"updates","emit_every_ms":10000,"emit_when":{"text":"n > 1"}"#,
            "updates every 10s of event time where n > 1",
        ),
    ];
    for (keys, expected) in cases {
        assert!(explained(keys).contains(&format!("{expected}; n = count()")), "{}", explained(keys));
    }
}

#[test]
fn what_needs_a_group_in_one_lane_is_refused_where_lanes_meet() {
    let with = |by, kind, keys: &str| window(by, kind).replace("\"aggregates\"", &format!("{keys}\"aggregates\""));
    let (session, sliding) = (r#""type":"session","gap_ms":10"#, r#""type":"sliding","size_ms":10"#);
    let updates = r#""emit":"updates","#;
    let cases = [
        (with("page", sliding, ""), "steps[0].window: a sliding window needs"),
        (with("user", sliding, updates), "steps[0].emit: each event has a row of its own"),
        (with("user", r#""type":"sliding","size_ms":0"#, ""), "steps[0].size: size must be longer"),
        (with("page", session, updates), "steps[0].emit: sessions leave their lanes when they are over"),
        (
            with("user", session, r#""emit":"updates","emit_when":{"text":"n > 1"},"#),
            "steps[0].emit_when: sessions are looked at every emit_every",
        ),
        (with("user", session, updates).replace(r#""name":"n""#, r#""name":"retracted""#), "steps[0]: two columns"),
    ];
    for (steps, expected) in cases {
        let problems = analyse(&spec(&steps, "")).problems;
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(matches!(&texts[..], [text] if text.starts_with(expected)), "{expected}: {texts:?}");
    }
    for steps in [with("user", sliding, ""), with("user", session, updates), with("page", session, "")] {
        let spec = spec(&steps, "");
        let plan = analyse(&spec).plan.expect("no mistake");
        let last = plan.explain(&spec).to_string();
        assert_eq!(last.ends_with("retracted bool"), steps.contains("updates"), "{last}");
    }
}
