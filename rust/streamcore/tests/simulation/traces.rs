//! What the simulator ran replays through a fresh machine, from its JSON.

use crate::run::{run, settings};
use streamcore::checkpoint::machine::trace::{Head, audit, replay};

/// A trace of the first life of the first worker, as an executor would write it.
fn recorded(seed: u64) -> String {
    let head = serde_json::to_string(&Head { settings: settings() }).expect("settings are plain data");
    let calls = run(seed, &settings(), false, true).trace;
    let lines = calls.iter().map(|call| serde_json::to_string(call).expect("calls are plain data"));
    [head].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_recorded_run_replays() {
    // The last ones are of lanes that meet.
    for seed in 0..24 {
        let text = recorded(seed);
        assert_eq!(replay(&text).unwrap() + 1, text.lines().count());
    }
}

#[test]
fn what_the_broker_says_in_a_run_agrees_with_itself() {
    let compared: usize = (0..30).map(|seed| audit(&recorded(seed)).unwrap()).sum();
    assert!(compared > 100, "only {compared} manifests were read back");
}

#[test]
fn an_epoch_that_is_read_back_as_another_is_noticed() {
    let is_read = |line: &&str| line.contains(r#""event":"state_read""#) && line.contains(r#""digest""#);
    let text = (0..30).map(recorded).find(|text| text.lines().any(|line| is_read(&line))).unwrap();
    let last = text.lines().rfind(is_read).unwrap();
    let digest = last.split(r#""digest":"#).nth(1).unwrap().split(',').next().unwrap();
    let error = audit(&text.replace(last, &last.replace(digest, "7"))).unwrap_err().to_string();
    assert!(error.contains("lane"), "{error}");
}

#[test]
fn a_changed_event_is_noticed() {
    let text = recorded(0);
    let changed = text.replacen(r#"{"event":"flushed"}"#, r#"{"event":"failed","error":"abortable","message":"x"}"#, 1);
    assert_ne!(text, changed);
    let error = replay(&changed).unwrap_err().to_string();
    assert!(error.contains("recorded") && error.contains("abort"), "{error}");
}
