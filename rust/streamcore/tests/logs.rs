//! Pipelines whose state is kept as logs of records: recovered at any epoch they are what they were, an epoch writes in
//! proportion to what changed, and what was removed or changed is noticed.

mod common;

use common::commit;
use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::checkpoint::manifest::{Facts, Manifest, hex};
use streamcore::checkpoint::recovery::Recovery;
use streamcore::pipeline::Pipeline;
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// A lane's topic, compacted.
type Topic = BTreeMap<Vec<u8>, Vec<u8>>;

fn spec(size_ms: i64) -> Spec {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":0,"keyed_by":"k",
        "schema":{{"k":"string","v":"int64"}}}},"steps":[
        {{"verb":"dedupe","field":"id","within_ms":{size_ms}}},
        {{"verb":"window","kind":{{"type":"tumbling","size_ms":{size_ms}}},"by":[{{"name":"k","text":"k"}}],
        "aggregates":[{{"name":"n","text":"count()"}},{{"name":"s","text":"sum(v)"}}]}}]}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

/// A pipeline with what it committed.
struct Run {
    spec: Spec,
    pipeline: Pipeline,
    topics: BTreeMap<i32, Topic>,
    /// Of lanes 0 and 1.
    offsets: [i64; 2],
    /// Where lanes were at their last commit, with their digests and clocks.
    kept: BTreeMap<i32, (i64, (u64, i64))>,
    /// Bytes of keys and values that the last epoch wrote, and of these those of changes.
    written: usize,
    changed: usize,
}

impl Run {
    fn new(size_ms: i64) -> Self {
        let spec = spec(size_ms);
        let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
        pipeline.assign(&[0, 1]);
        Self { spec, pipeline, topics: BTreeMap::new(), offsets: [0; 2], kept: BTreeMap::new(), written: 0, changed: 0 }
    }

    /// Pushes one event for each of `keys` at `time_ms` to lane 0.
    fn push(&mut self, keys: impl Iterator<Item = u64>, time_ms: i64) {
        self.push_to(0, keys, time_ms);
    }

    fn push_to(&mut self, lane: usize, keys: impl Iterator<Item = u64>, time_ms: i64) {
        let mut raw = RawBatch::new(lane as i32, "t".into(), 8, 256);
        for key in keys {
            let offset = self.offsets[lane];
            let json = format!(r#"{{"t":{time_ms},"k":"key {key}","v":{key},"id":"{offset}"}}"#);
            raw.push(Some(json.as_bytes()), offset, Some(time_ms)).expect("small");
            raw.push_key(Some(format!("key {key}").as_bytes()));
            self.offsets[lane] += 1;
        }
        self.pipeline.push(&[raw], 0).expect("a push");
        assert_eq!(common::total(&self.pipeline).rejected, 0);
    }

    fn facts(&self) -> BTreeMap<i32, Facts> {
        let of_lane = |lane| {
            let next = self.offsets[lane as usize];
            (lane, Facts { pipeline: "p".into(), positions: [("t".to_owned(), next)].into(), ..Facts::default() })
        };
        [0, 1].map(of_lane).into()
    }

    /// The same of lanes that moved in the sealed epoch: whoever commits writes no others.
    fn moved(&mut self) -> BTreeMap<i32, Facts> {
        let mut facts = self.facts();
        facts.retain(|lane, _| {
            let now = (self.offsets[*lane as usize], self.pipeline.sealed_facts(*lane));
            self.kept.insert(*lane, now) != Some(now)
        });
        facts
    }

    /// Commits the epoch. Gives the digest.
    fn commit(&mut self) -> u64 {
        let sealed = self.pipeline.seal().expect("balanced");
        (self.written, self.changed) = (0, 0);
        let moved = self.moved();
        for (lane, records) in self.pipeline.seal_logs(&moved) {
            let topic = self.topics.entry(lane).or_default();
            for (key, value) in records {
                let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
                self.written += bytes;
                self.changed += if key.starts_with(b"D") && value.is_some() { bytes } else { 0 };
                match value {
                    Some(value) => drop(topic.insert(key, value)),
                    None => assert!(topic.remove(&key).is_some(), "what is deleted was there"),
                }
            }
        }
        self.pipeline.committed();
        sealed.digest
    }

    fn recovered(&self) -> Pipeline {
        let mut pipeline = Pipeline::new(&self.spec, 1).expect("a plan");
        pipeline.assign(&[0, 1]);
        for lane in self.topics.keys() {
            recover(&mut pipeline, &self.topics[lane], *lane, false).expect("whole").expect("state");
        }
        pipeline.restored();
        pipeline
    }

    fn bytes(&self) -> usize {
        self.topics.values().flatten().map(|(key, value)| key.len() + value.len()).sum()
    }
}

fn recover(pipeline: &mut Pipeline, topic: &Topic, lane: i32, repair: bool) -> Result<Option<Manifest>, String> {
    let mut recovery = Recovery::new(pipeline.log_owner(lane));
    topic.iter().for_each(|(key, value)| recovery.add(key, Some(value)));
    pipeline.recover_lane(&recovery, lane, repair).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_pipeline_goes_on_from_its_log_as_if_nothing_had_been(
        epochs in proptest::collection::vec((0_u64..400, 1_u64..3000, 0_i64..4, any::<bool>(), any::<bool>(), 0..2_usize), 1..100),
    ) {
        let (mut run, mut time_ms) = (Run::new(10_000), 0);
        for (first, count, step, restarts, is_taken_back, lane) in epochs {
            time_ms += step * 1_000;
            if is_taken_back {
                let before = run.pipeline.seal().expect("balanced").digest;
                let offsets = run.offsets;
                run.push_to(lane, first..first + count, time_ms);
                run.pipeline.seal().expect("balanced");
                run.pipeline.seal_logs(&run.facts());
                run.pipeline.rollback();
                run.offsets = offsets;
                prop_assert_eq!(run.pipeline.seal().expect("balanced").digest, before);
            }
            run.push_to(lane, (first..first + count).map(|key| key % 1_000), time_ms);
            let digest = run.commit();
            let mut recovered = run.recovered();
            prop_assert_eq!(commit(&mut recovered, &mut |_| {}), digest);
            if restarts {
                run.pipeline = run.recovered();
            }
        }
    }
}

#[test]
fn an_epoch_writes_in_proportion_to_what_changed() {
    let mut run = Run::new(3_600_000);
    for first in (0..200_000).step_by(20_000) {
        run.push(first..first + 20_000, 0);
        run.commit();
    }
    let whole: usize = run.pipeline.save().iter().map(|(_, state)| state.len()).sum();
    let (mut most, mut written, mut changed) = (0, 0, 0);
    for epoch in 0..400 {
        run.push((0..1_000).map(|key| epoch * 131 % 199_000 + key), 0);
        run.commit();
        most = most.max(run.written);
        (written, changed) = (written + run.written, changed + run.changed);
    }
    assert!(changed < 400 * 1_000 * 50, "400 epochs of 1,000 keys and ids have {changed} bytes of changes");
    assert!(most < whole / 20, "an epoch of 1,000 of 200,000 keys writes {most} bytes, all of them are {whole}");
    // As much again in parts, and manifests that name up to 400 epochs, with parts for them.
    assert!(written < changed * 3, "400 such epochs write {written} bytes for {changed} of changes");
    let whole: usize = run.pipeline.save().iter().map(|(_, state)| state.len()).sum();
    assert!(run.bytes() < 2 * whole, "the log has {} bytes, the state {whole}", run.bytes());
}

#[test]
fn what_an_epoch_changes_is_counted_and_what_comes_or_goes_with_lanes_is_not() {
    let mut run = Run::new(3_600_000);
    run.push(0..1_000, 0);
    run.push_to(1, 0..1_000, 0);
    let added = run.pipeline.changed_bytes();
    assert!(added as usize > run.bytes() && added > 2_000 * 40, "{added}");
    run.commit();
    assert_eq!(run.pipeline.changed_bytes(), 0);
    run.push(0..500, 1);
    let changed = run.pipeline.changed_bytes();
    assert!(500 * 20 < changed && changed < added / 2, "{changed} of {added}");
    run.pipeline.revoke(&[1]);
    assert_eq!(run.pipeline.changed_bytes(), changed);
    run.pipeline.rollback();
    assert_eq!(run.pipeline.changed_bytes(), 0);
    let mut recovered = run.recovered();
    assert_eq!(recovered.changed_bytes(), 0);
    assert!(recovered.state_bytes() > run.pipeline.state_bytes());
}

#[test]
fn the_log_of_short_windows_stays_as_small_as_they_are() {
    let mut run = Run::new(10_000);
    let mut most = 0;
    for second in 0..2_000 {
        run.push((0..500).map(|key| second as u64 * 7_919 + key), second * 1_000);
        run.commit();
        most = most.max(run.bytes());
    }
    let whole: usize = run.pipeline.save().iter().map(|(_, state)| state.len()).sum();
    assert!(most < 4 * whole + (1 << 20), "the log had {most} bytes, the state has {whole}");
    run.recovered();
}

#[test]
fn what_was_removed_or_changed_is_noticed_and_repair_goes_back_an_epoch() {
    let mut run = Run::new(3_600_000);
    let mut digests = BTreeMap::new();
    for epoch in 1..=6 {
        run.push(0..1_000, 0);
        digests.insert(epoch, run.commit());
    }
    let topic = &run.topics[&0];
    let refused = |change: &dyn Fn(&mut Topic)| {
        let (mut topic, mut pipeline) = (topic.clone(), Pipeline::new(&run.spec, 1).expect("a plan"));
        change(&mut topic);
        let found = recover(&mut pipeline, &topic, 0, true).map(|manifest| manifest.map(|manifest| manifest.epoch));
        (recover(&mut pipeline, &topic, 0, false).expect_err("refused"), found)
    };
    let (message, repaired) = refused(&|topic| drop(topic.remove(&b"D/6/0"[..])));
    assert!(message.contains("manifest of epoch 6 names 1 records that are not there (D/6/0)"), "{message}");
    assert_eq!(repaired, Ok(Some(5)));
    let (message, repaired) = refused(&|topic| drop(topic.remove(&b"M/2"[..])));
    assert!(message.contains("blocks of epoch 6 and no manifest of an epoch after 5"), "{message}");
    assert_eq!(repaired, Ok(Some(5)));
    let (message, _) = refused(&|topic| topic.retain(|key, _| !key.starts_with(b"M")));
    assert!(message.contains("blocks and no manifest"), "{message}");
    let (message, _) = refused(&|topic| drop(topic.insert(b"greetings".to_vec(), b"from elsewhere".to_vec())));
    assert!(message.contains(r#"a record "greetings" that streamcore did not write"#), "{message}");
    for (key, value) in topic {
        for place in [0, value.len() / 2, value.len() - 1] {
            let damaged = |topic: &mut Topic| topic.get_mut(key).expect("there")[place] ^= 1;
            let (message, _) = refused(&damaged);
            assert!(
                ["damaged", "not those", "other bytes", "somebody else"].iter().any(|word| message.contains(word)),
                "{message}"
            );
        }
    }
    let mut other = Pipeline::new(&spec(5_000), 1).expect("a plan");
    let message = recover(&mut other, topic, 0, false).expect_err("of another pipeline");
    assert!(message.contains("the source, schema or steps have changed"), "{message}");
    let message = recover(&mut run.pipeline, topic, 1, false).expect_err("of another lane");
    assert!(message.contains("of lane 0 of a pipeline"), "{message}");
}

#[test]
fn a_state_that_is_written_anew_is_the_same_behind_all_there_was() {
    let mut run = Run::new(3_600_000);
    let mut digests = BTreeMap::new();
    for epoch in 1..=6 {
        run.push(0..1_000, 0);
        digests.insert(epoch, run.commit());
    }
    let whole = run.topics[&0].clone();
    let mut topic = whole.clone();
    topic.remove(&b"D/6/0"[..]).expect("there");
    topic.insert(b"greetings".to_vec(), b"from elsewhere".to_vec());
    topic.get_mut(&b"M/3"[..]).expect("there")[20] ^= 1;
    let mut records = Recovery::new(run.pipeline.log_owner(0));
    topic.iter().for_each(|(key, value)| records.add(key, Some(value)));
    let found = records.inspect();
    let problem =
        |epoch| found.manifests.iter().find(|(one, _)| one.epoch == epoch).map(|(_, problem)| problem.clone());
    assert!(problem(6).flatten().is_some_and(|text| text.contains("names 1 records that are not there")));
    assert_eq!((problem(5), problem(3), found.records), (Some(None), None, topic.len() as u64));
    assert!(found.problems.iter().any(|text| text.contains("greetings")) && found.problems.len() == 2);
    assert_eq!(records.keys().count(), topic.len());

    let mut repaired = Pipeline::new(&run.spec, 1).expect("a plan");
    repaired.recover_lane(&records, 0, true).expect("an older epoch").expect("state");
    let facts = Facts { owner: 1, ..run.facts()[&0].clone() };
    for (key, value) in repaired.rewrite_lane(0, &records, facts).expect("restored") {
        match value {
            Some(value) => drop(topic.insert(key, value)),
            None => drop(topic.remove(&key).expect("what is deleted was there")),
        }
    }
    run.topics.insert(0, topic);
    let mut pipeline = Pipeline::new(&run.spec, 1).expect("a plan");
    let manifest = recover(&mut pipeline, &run.topics[&0], 0, false).expect("whole").expect("state");
    assert_eq!((manifest.epoch, manifest.facts.owner), (7, 1));
    let (mut at_five, kept) = (Pipeline::new(&run.spec, 1).expect("a plan"), |key: &[u8]| !key.starts_with(b"D/6/"));
    let five: Topic = whole.into_iter().filter(|(key, _)| kept(key)).collect();
    recover(&mut at_five, &five, 0, true).expect("whole").expect("state");
    assert_eq!(pipeline.sealed_facts(0), at_five.sealed_facts(0));
    assert_eq!(hex(pipeline.sealed_facts(0).0), manifest.digest);

    run.pipeline = run.recovered();
    for _ in 0..6 {
        run.push(0..10, 0);
        run.commit();
    }
    let of_before = |key: &&Vec<u8>| {
        let text = String::from_utf8_lossy(key);
        let mut numbers = text.split('/').rev().skip(1).filter_map(|number| number.parse::<u64>().ok());
        !text.starts_with('M') && numbers.next().is_some_and(|epoch| epoch < 7)
    };
    assert_eq!(run.topics[&0].keys().find(of_before), None, "what was there before is deleted in time");
    run.recovered();
}

#[test]
fn marks_are_no_state_and_one_says_that_it_has_gone_elsewhere() {
    let mut run = Run::new(3_600_000);
    run.push(0..10, 0);
    run.commit();
    let mut topic = run.topics[&0].clone();
    topic.insert(b"G/begin".to_vec(), br#"{"layout":2}"#.to_vec());
    let recovery = |topic: &Topic| {
        let mut recovery = Recovery::new(run.pipeline.log_owner(0));
        topic.iter().for_each(|(key, value)| recovery.add(key, Some(value)));
        recovery
    };
    let found = recovery(&topic);
    assert_eq!(found.mark(b"G/begin"), Some(&br#"{"layout":2}"#[..]));
    assert!(found.inspect().problems.is_empty());
    assert!(found.keys().all(|key| !key.starts_with(b"G")), "they stay when state is discarded");
    let mut pipeline = Pipeline::new(&run.spec, 1).expect("a plan");
    assert!(recover(&mut pipeline, &topic, 0, false).expect("whole").is_some());
    topic.insert(b"G/next".to_vec(), br#"{"layout":3}"#.to_vec());
    for repair in [false, true] {
        let message = recover(&mut pipeline, &topic, 0, repair).expect_err("gone");
        assert!(message.contains(r#"it has gone to another topic ({"layout":3}); start again"#), "{message}");
    }
    let gone = recovery(&topic);
    gone.manifests().expect_err("gone");
    assert!(gone.inspect().problems[0].contains("gone to another topic"));
}
