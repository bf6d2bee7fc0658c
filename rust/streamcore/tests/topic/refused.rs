//! What is refused: frames that are broken or of somebody else, and pipelines whose lanes cannot meet through a topic.

use crate::lanes::{Two, spec};
use crate::same;
use crate::world::{raw_of, spec_of};
use proptest::prelude::*;
use streamcore::error::ErrorKind;
use streamcore::partials::Parts;
use streamcore::partials::frame::{self, EpochOf};
use streamcore::pipeline::Pipeline;
use streamcore::plan::analyse;
use streamcore::spec::{CombineSpec, PhaseSpec, Spec};

/// Both phases, with some epochs in the topic that were not read.
fn written(spec: &Spec) -> Two {
    let mut two = Two::new(spec, 2);
    for epoch in 0..3 {
        let texts = |lane: i64| -> Vec<String> {
            (0..6).map(|n| format!(r#"{{"t":{},"k":"k{n}","v":{n},"f":0.5,"s":"s"}}"#, epoch * 40 + lane + n)).collect()
        };
        two.push_texts(0, &texts(0), 0);
        two.push_texts(1, &texts(3), 0);
        two.commit();
    }
    two
}

/// Why the topic is refused; what was read of it is taken back.
fn refused(two: &mut Two, topic: &[Vec<u8>]) -> String {
    let raw = raw_of(0, "partials", 0, topic.iter().map(|value| &value[..]));
    let error = two.second.push(&[raw], 0).and_then(|_| two.second.drain()).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::State, "{error}");
    assert!(error.message.starts_with("partition 0 of partials at offset "), "{error}");
    two.second.rollback();
    error.message
}

fn sessions() -> Spec {
    same::spec(r#""type":"session","gap_ms":12"#, "", "", 100)
}

#[test]
fn what_is_broken_or_of_somebody_else_is_refused_with_its_place_and_no_harm_is_done() {
    for spec in [spec(""), sessions()] {
        let mut two = written(&spec);
        let topic = two.topic.clone();
        for (at, value) in topic.iter().enumerate() {
            for byte in (0..value.len()).step_by(7) {
                let mut broken = topic.clone();
                broken[at][byte] ^= 4;
                assert!(refused(&mut two, &broken).contains(&format!("at offset {at}:")), "byte {byte}");
            }
        }
        let mut cut = topic.clone();
        cut[2].truncate(30);
        assert!(refused(&mut two, &cut).contains("it was cut"));
        let other = written(&same::spec(r#""type":"tumbling","size_ms":50"#, "", "", 100));
        assert!(refused(&mut two, &other.topic).contains("another pipeline"));
        let expected = written(&spec).read(0);
        two.read = 0;
        assert_eq!(two.read(0), expected, "all of it is read after what was refused");
    }
}

#[test]
fn frames_that_are_missing_or_out_of_order_are_refused() {
    for spec in [spec(""), sessions()] {
        let mut two = written(&spec);
        let topic = two.topic.clone();
        let without = |at: usize| {
            let mut topic = topic.clone();
            topic.remove(at);
            topic
        };
        assert!(refused(&mut two, &without(0)).contains("the marker closes 1 frames"));
        assert!(refused(&mut two, &without(1)).contains("no marker before the next one"));
        assert!(refused(&mut two, &topic[4..]).contains("epochs 1 to 1 of lane 0 are missing"));
        let frame = frame::decode(&topic[0]).expect("whole");
        let elsewhere = |epoch: EpochOf, partition| vec![frame::encode_partial(&epoch, partition, b"")];
        let three = EpochOf { partitions: 3, ..frame.epoch };
        assert!(refused(&mut two, &elsewhere(three, 1)).contains("it is for partition 1 of 3"));
        let mut mixed = topic.clone();
        mixed.push(elsewhere(EpochOf { number: 9, ..three }, 0).remove(0));
        assert!(refused(&mut two, &mixed).contains("group keys would part"));
        let forged = EpochOf { seal: 99, ..frame.epoch };
        let mut twice = topic.clone();
        twice.insert(2, elsewhere(forged, 0).remove(0));
        assert!(refused(&mut two, &twice).contains("handed over before, as another"));
    }
}

/// What a part says is not believed, though its checksum is right.
fn forged(two: &mut Two, spec: &Spec, body: &[u8]) -> Result<(), String> {
    let frame = frame::decode(&two.topic[0]).expect("whole");
    let told = two.last_told(0);
    let mut parts = Parts::new(1);
    parts.at(0).body.extend_from_slice(body);
    let records = parts.into_records(&frame.epoch, told);
    let raw = raw_of(0, "partials", 0, records.iter().map(|(.., value)| &value[..]));
    let pushed = two.second.push(&[raw], 0).map(drop).map_err(|error| error.to_string());
    two.second.rollback();
    // One that accepts gaps may take it in, and goes on.
    let mut lenient = Two::new(spec, 1).second;
    lenient.accept_gaps();
    let raw = raw_of(0, "partials", 0, records.iter().map(|(.., value)| &value[..]));
    if lenient.push(&[raw], 0).is_ok() {
        lenient.seal().expect("balanced");
    }
    pushed
}

#[test]
fn a_session_that_goes_on_with_one_that_is_not_there_is_refused() {
    let spec = sessions();
    let mut two = Two::new(&spec, 1);
    for time_ms in [10, 15] {
        two.push_texts(0, &[format!(r#"{{"t":{time_ms},"k":"a","v":1,"f":0.5,"s":"s"}}"#)], 0);
        two.commit();
    }
    let body = |value: &[u8]| {
        let frame::Content::Partial(packed) = frame::decode(value).expect("whole").content else { panic!("a partial") };
        let mut body = Vec::new();
        packed.unpack(&mut body).expect("whole");
        body
    };
    let (first, second) = (body(&two.topic[0]), body(&two.topic[2]));
    forged(&mut two, &spec, &first).expect("what it was");
    let error = forged(&mut two, &spec, &second).expect_err("refused");
    assert!(error.contains("it goes on with a session that is not there"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_part_makes_the_engine_fail_otherwise(
        body in proptest::collection::vec(any::<u8>(), 0..200), is_session in any::<bool>(),
        at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>(),
    ) {
        let spec = if is_session { sessions() } else { same::spec(r#""type":"hopping","size_ms":60,"slide_ms":20"#, "", "", 100) };
        let mut two = written(&spec);
        let _ = forged(&mut two, &spec, &body);
        let frame = frame::decode(&two.topic[0]).expect("whole");
        let frame::Content::Partial(packed) = frame.content else { panic!("a partial") };
        let mut changed = Vec::new();
        packed.unpack(&mut changed).expect("whole");
        let at = at.index(changed.len());
        if cut { changed.truncate(at) } else { changed[at] = to }
        let _ = forged(&mut two, &spec, &changed);
    }
}

fn problems(steps: &str, source: &str) -> Vec<String> {
    let text = format!(
        r#"{{"source":{{"event_time":"t","out_of_orderness_ms":0,"schema":{{"k":"string","j":"string","v":"int64"}}{source}}},
        "combine":"topic","steps":[{steps}]}}"#
    );
    let analysis = analyse(&Spec::from_json(text.as_bytes()).expect("a description"));
    let told = |problems: &[streamcore::error::Problem]| {
        problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect()
    };
    let (problems, why): (Vec<String>, Vec<String>) = (told(&analysis.problems), told(&analysis.topic_problems));
    assert_eq!(problems, why, "whether or not it is asked for");
    problems
}

fn window(kind: &str, by: &str, rest: &str) -> String {
    format!(r#"{{"verb":"window","kind":{kind},"by":[{by}],"aggregates":[{{"name":"n","text":"count()"}}]{rest}}}"#)
}

const TUMBLING: &str = r#"{"type":"tumbling","size_ms":100}"#;
const K: &str = r#"{"name":"k","text":"k"}"#;
const K_AND_J: &str = r#"{"name":"k","text":"k"},{"name":"j","text":"j"}"#;

#[test]
fn a_pipeline_whose_lanes_cannot_meet_through_a_topic_is_refused_by_name() {
    let first = window(TUMBLING, K_AND_J, "");
    let after = |step: &str| problems(&format!("{first},{step}"), "");
    assert_eq!(after(&window(TUMBLING, K_AND_J, "")), Vec::<String>::new());
    let renamed =
        r#"{"verb":"select","columns":[{"name":"a","text":"k"},{"name":"b","text":"j"},{"name":"n","text":"n"}]}"#;
    let by_renamed =
        window(TUMBLING, r#"{"name":"b","text":"b"},{"name":"a","text":"a"},{"name":"n2","text":"n"}"#, "");
    assert_eq!(after(&format!("{renamed},{by_renamed}")), Vec::<String>::new());
    assert!(after(&window(TUMBLING, K, ""))[0].starts_with("steps[1].by: this window counts groups"));
    assert!(after(&window(TUMBLING, "", ""))[0].starts_with("steps[1].by"));
    let of_all = window(TUMBLING, "", "");
    assert_eq!(problems(&format!("{of_all},{of_all}"), ""), Vec::<String>::new(), "all rows are of one group");
    assert!(after(r#"{"verb":"dedupe","field":"k","within_ms":1000}"#)[0].starts_with("steps[1].dedupe"));
    assert!(
        problems(r#"{"verb":"filter","condition":{"text":"v > 1"}}"#, "")[0].starts_with("combine: there is no window")
    );
    assert!(problems(&window(r#"{"type":"sliding","size_ms":100}"#, K, ""), "")[0].contains("sliding"));
    let session = r#"{"type":"session","gap_ms":100,"max_length_ms":1000}"#;
    assert!(problems(&window(session, K, r#","emit":"updates""#), "")[0].contains("sessions"));
    let behind_parts = format!("{},{}", window(session, K, ""), window(TUMBLING, K, ""));
    assert!(problems(&behind_parts, "")[0].starts_with("steps[1]: the parts of a session"));
    let when = r#","emit":"updates","emit_when":{"text":"n > 3"}"#;
    assert!(problems(&window(TUMBLING, K, when), "")[0].contains("emit_when"));
}

#[test]
fn phases_have_state_of_their_own_and_are_named() {
    let spec = spec("");
    let unnamed = Pipeline::new(&spec_of(&spec, CombineSpec::Topic, None), 1).expect_err("no phase");
    assert!(unnamed.problems[0].message.contains("two phases"), "{unnamed}");
    let without = Pipeline::new(&spec_of(&spec, CombineSpec::Local, Some(PhaseSpec::Final)), 1).expect_err("no topic");
    assert!(without.problems[0].message.contains("phases only where"), "{without}");
    let plan = |combine, phase| {
        let plan = analyse(&spec_of(&spec, combine, phase)).plan.expect("a plan");
        (plan.fingerprint, plan.topic)
    };
    let phases = [None, Some(PhaseSpec::Partial), Some(PhaseSpec::Final)].map(|phase| plan(CombineSpec::Topic, phase));
    let local = plan(CombineSpec::Local, None);
    let mut fingerprints: Vec<u64> = phases.iter().chain([&local]).map(|(fingerprint, _)| *fingerprint).collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 4);
    assert!(phases.iter().all(|(_, topic)| *topic == Some(phases[0].0)) && local.1.is_none());
    let mut two = written(&spec);
    let error = two.second.restore(&two.first.save()).expect_err("of the other phase");
    assert!(error.message.contains("saved by another pipeline"), "{error}");
}
