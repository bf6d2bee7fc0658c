//! Lanes that are idle, end, go on, are new, or miss: what the partitions of the topic make of what they are told.

use crate::common::json;
use crate::world::{raw_of, spec_of};
use streamcore::error::ErrorKind;
use streamcore::lane::PartialsTopic;
use streamcore::partials::frame::{self, Content, Told};
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::spec::{CombineSpec, PhaseSpec, Spec};

/// One window of 100 ms that counts, with clocks right behind the events.
pub fn spec(rest: &str) -> Spec {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":0,"idle_timeout_ms":1000,
        "schema":{{"k":"string","s":"string"}}}},"steps":[
        {{"verb":"window","kind":{{"type":"tumbling","size_ms":100}},"by":[{{"name":"k","text":"k"}}],
        "aggregates":[{{"name":"n","text":"count()"}}{rest}]}}]}}"#
    );
    Spec::from_json(text.as_bytes()).expect("a description")
}

/// Both phases with one partition between them.
pub struct Two {
    pub first: Pipeline,
    pub second: Pipeline,
    pub topic: Vec<Vec<u8>>,
    pub read: usize,
    offsets: Vec<usize>,
    seals: u64,
    pub lanes: u32,
}

impl Two {
    pub fn new(spec: &Spec, lanes: u32) -> Self {
        let started = |phase| Pipeline::new(&spec_of(spec, CombineSpec::Topic, Some(phase)), 1).expect("a plan");
        let (mut first, mut second) = (started(PhaseSpec::Partial), started(PhaseSpec::Final));
        first.hand_over(PartialsTopic { partitions: 1, generation: 1, lanes }).expect("phase partial");
        first.assign(&(0..lanes as i32).collect::<Vec<_>>());
        second.assign(&[0]);
        Self { first, second, topic: Vec::new(), read: 0, offsets: vec![0; lanes as usize], seals: 0, lanes }
    }

    /// Pushes events of key `a` to `lane`, at `times_ms`; it is `now_ms`.
    pub fn push(&mut self, lane: i32, times_ms: &[i64], now_ms: i64) {
        let texts: Vec<String> = times_ms.iter().map(|time_ms| format!(r#"{{"t":{time_ms},"k":"a"}}"#)).collect();
        self.push_texts(lane, &texts, now_ms);
    }

    pub fn push_texts(&mut self, lane: i32, texts: &[String], now_ms: i64) {
        let first = self.offsets[lane as usize];
        self.offsets[lane as usize] += texts.len();
        let raw = raw_of(lane, "t", first, texts.iter().map(String::as_bytes));
        self.first.push(&[raw], now_ms).expect("a push");
    }

    /// Commits the first phase. Gives how many lanes had something to tell.
    pub fn commit(&mut self) -> usize {
        self.seals += 1;
        self.first.seal().expect("balanced");
        let lanes: Vec<i32> = (0..self.lanes as i32).collect();
        let partials = self.first.partials(&lanes, self.seals).expect("sealed");
        self.first.committed();
        let told = partials.iter().filter(|(_, records)| !records.is_empty()).count();
        self.topic.extend(partials.into_iter().flat_map(|(_, records)| records).map(|(.., value)| value));
        told
    }

    /// Has the second phase read all there is.
    pub fn read(&mut self, now_ms: i64) -> Vec<String> {
        let raw = raw_of(0, "partials", self.read, self.topic[self.read..].iter().map(|value| &value[..]));
        self.read = self.topic.len();
        let mut outputs = self.second.push(&[raw], now_ms).expect("a push");
        outputs.extend(self.second.drain().expect("rows"));
        rows(&outputs)
    }

    pub fn commit_and_read(&mut self, now_ms: i64) -> Vec<String> {
        self.commit();
        self.read(now_ms)
    }

    /// Tells both the time; each has read all there is.
    pub fn advance(&mut self, now_ms: i64) -> Vec<String> {
        let lanes: Vec<i32> = (0..self.lanes as i32).collect();
        assert!(self.first.advance(now_ms, &lanes).expect("no rows").is_empty());
        rows(&self.second.advance(now_ms, &[0]).expect("rows"))
    }

    /// What a marker told last.
    pub fn last_told(&self, lane: i32) -> Told {
        let told = self.topic.iter().rev().find_map(|value| {
            let frame = frame::decode(value).expect("whole");
            match frame.content {
                Content::Marker(marker) if frame.epoch.lane == lane => Some(marker.told),
                _ => None,
            }
        });
        told.expect("the lane was told of")
    }
}

/// Rows as `start n revision is_final`.
pub fn rows(outputs: &[OutputBatch]) -> Vec<String> {
    let results = outputs.iter().filter(|output| output.kind == OutputKind::Result);
    let short = |row: String| {
        let row: serde_json::Value = serde_json::from_str(&row).expect("a row");
        format!("{} {} {} {}", row["window_start"], row["n"], row["revision"], row["is_final"])
    };
    results.flat_map(json).map(short).collect()
}

#[test]
fn every_lane_is_waited_for_until_it_was_heard_of() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10, 250], 0);
    assert_eq!(two.commit(), 2, "one that has seen nothing too");
    assert_eq!(two.read(0), Vec::<String>::new(), "a lane that has not spoken yet holds the minimum");
    assert_eq!(two.commit(), 0, "nothing is told twice");
    two.push(1, &[130], 0);
    assert_eq!(two.commit(), 1);
    assert_eq!(two.read(0), ["0 1 0 true"]);
    assert_eq!(two.first.told_numbers().collect::<Vec<_>>(), [(0, 1), (1, 2)]);
}

#[test]
fn a_lane_that_others_tell_of_is_waited_for() {
    let mut two = Two::new(&spec(""), 1);
    two.push(0, &[10, 250], 0);
    let over = PartialsTopic { partitions: 1, generation: 1, lanes: 2 };
    two.first.hand_over(over).expect("phase partial");
    assert_eq!(two.commit_and_read(0), Vec::<String>::new());
    assert!(!two.second.merging().all(|merging| merging.facts().is_complete()));
    two.first.assign(&[1]);
    two.lanes = 2;
    two.offsets.push(0);
    two.push(1, &[130], 0);
    assert_eq!(two.commit_and_read(0), ["0 1 0 true"]);
}

#[test]
fn an_idle_lane_holds_nobody_up_and_reopens_windows_when_it_comes_back() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10], 0);
    two.push(1, &[20], 0);
    assert_eq!(two.commit_and_read(0), Vec::<String>::new());
    two.push(1, &[250], 900);
    assert_eq!(two.commit_and_read(900), Vec::<String>::new(), "lane 0 is at 10");
    assert_eq!(two.advance(1_500), Vec::<String>::new());
    assert_eq!(two.commit(), 1, "lane 0 is idle");
    assert!(two.last_told(0).is_idle());
    assert_eq!(two.read(1_500), ["0 2 0 true"]);
    two.push(0, &[30], 1_600);
    assert_eq!(two.commit_and_read(1_600), ["0 3 1 true"]);
    two.push(0, &[260], 1_700);
    two.push(1, &[450], 1_700);
    assert_eq!(two.commit_and_read(1_700), Vec::<String>::new(), "200 is open for lane 0");
    two.push(0, &[460], 1_700);
    assert_eq!(two.commit_and_read(1_700), ["200 2 0 true"]);
    two.first.ledgers().for_each(|(lane, ledger)| assert_eq!(ledger.late, 0, "lane {lane}"));
}

#[test]
fn while_all_lanes_are_idle_the_clock_runs_on_where_they_meet_once_all_was_read() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10], 0);
    two.push(1, &[20], 0);
    two.commit_and_read(0);
    two.advance(1_000);
    assert_eq!(two.commit(), 2);
    assert_eq!(two.last_told(0).quiet_ms, Some(1_000));
    assert_eq!(two.last_told(0).watermark_ms, 9, "a lane's clock never runs on");
    assert_eq!(two.read(1_000), Vec::<String>::new(), "there may be more to read");
    assert_eq!(two.advance(1_000), ["0 2 0 true"], "1,000 ms of silence are behind the lanes");
    // The lane itself is on time, as its clock stood.
    two.push(1, &[30], 1_100);
    assert_eq!(two.commit_and_read(1_100), ["0 3 1 true"]);
}

#[test]
fn the_end_of_the_input_lets_all_leave_and_a_later_run_goes_on() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10], 0);
    two.push(1, &[20, 130], 0);
    two.commit_and_read(0);
    two.first.end().expect("an end");
    assert_eq!(two.commit(), 2);
    assert!(two.last_told(1).ended);
    assert_eq!(two.read(0), ["0 2 0 true", "100 1 0 true"]);
    assert!(two.second.merging().all(|merging| merging.facts().has_ended()));
    let watermark_ms = two.second.merging().map(streamcore::merging::Merging::watermark_ms).collect::<Vec<_>>();
    assert_eq!(watermark_ms, [9], "the end is not kept as a clock");
    assert_eq!(two.commit(), 0, "an end is told once");
    assert_eq!((two.second.seal().expect("balanced").outputs.len(), two.read(0)), (0, Vec::new()));
    two.second.committed();

    let saved = two.first.save();
    let mut later = Two::new(&spec(""), 2);
    later.first.restore(&saved).expect("whole");
    later.second.restore(&two.second.save()).expect("whole");
    later.offsets.clone_from(&two.offsets);
    (later.topic, later.read, later.seals) = (two.topic.clone(), two.read, two.seals);
    later.push(0, &[140], 0);
    assert_eq!(later.commit(), 2);
    assert!(!later.last_told(1).ended);
    assert_eq!(later.read(0), ["0 2 1 true"], "it was over at the clocks that go on");
    later.first.end().expect("an end");
    assert_eq!(later.commit_and_read(0), ["100 2 1 true"]);
}

#[test]
fn an_end_of_an_earlier_run_is_no_end_of_rows_that_wait_for_a_lane_to_tell_its_next_one() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10], 0);
    two.push(1, &[20], 0);
    two.first.end().expect("an end");
    assert_eq!(two.commit_and_read(0), ["0 2 0 true"]);
    let is_over = |two: &Two| two.second.merging().all(|merging| merging.facts().is_over());
    assert!(is_over(&two));
    // Another worker has lane 1 now, and has committed nothing yet.
    let mut other = Two::new(&spec(""), 2);
    other.first.restore(&two.first.save()).expect("whole");
    other.offsets.clone_from(&two.offsets);
    let mut one = Two::new(&spec(""), 2);
    one.first.restore(&two.first.save()).expect("whole");
    one.first.revoke(&[1]);
    one.offsets.clone_from(&two.offsets);
    other.first.revoke(&[0]);
    one.push(0, &[30], 0);
    one.first.end().expect("an end");
    one.commit();
    two.topic.append(&mut one.topic);
    assert_eq!(two.read(0), Vec::<String>::new());
    assert!(two.second.merging().all(|merging| merging.facts().has_ended()), "lane 1 has, as far as is known");
    assert!(!is_over(&two), "its row waits for lane 1");
    other.first.end().expect("an end");
    other.commit();
    two.topic.append(&mut other.topic);
    assert_eq!(two.read(0), ["0 3 1 true"]);
    assert!(is_over(&two));
}

#[test]
fn open_windows_can_be_looked_at_without_an_end() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10, 130], 0);
    assert_eq!(two.commit_and_read(0), Vec::<String>::new());
    let mut outputs = two.second.end_partials().expect("rows");
    outputs.extend(two.second.drain().expect("rows"));
    assert_eq!(rows(&outputs), ["0 1 0 true", "100 1 0 true"]);
    two.second.rollback();
}

#[test]
fn an_end_that_is_taken_back_is_not_told() {
    let mut two = Two::new(&spec(""), 1);
    two.push(0, &[10], 0);
    two.commit_and_read(0);
    two.first.end().expect("an end");
    two.first.seal().expect("balanced");
    two.first.rollback();
    assert_eq!(two.commit(), 0);
    two.first.end().expect("an end");
    two.first.seal().expect("balanced");
    assert!(!two.first.partials(&[0], 1).expect("sealed")[0].1.is_empty());
    two.first.rollback();
    two.push(0, &[20], 0);
    assert_eq!(two.commit_and_read(0), Vec::<String>::new());
    assert!(!two.last_told(0).ended);
}

#[test]
fn a_missing_epoch_is_an_error_unless_gaps_are_accepted() {
    let run = |accepts: bool| {
        let mut two = Two::new(&spec(""), 1);
        if accepts {
            two.second.accept_gaps();
        }
        two.push(0, &[10], 0);
        two.commit_and_read(0);
        two.push(0, &[20], 0);
        two.commit();
        // Two epochs are deleted before they are read.
        two.read = two.topic.len();
        two.push(0, &[30], 0);
        two.commit();
        two.read = two.topic.len();
        two.push(0, &[140], 0);
        two.commit();
        let raw = raw_of(0, "partials", two.read, two.topic[two.read..].iter().map(|value| &value[..]));
        let outputs = two.second.push(&[raw], 0)?;
        let missing = two.second.merging().map(|merging| merging.counts().missing).sum::<u64>();
        Ok::<_, streamcore::error::Error>((rows(&outputs), missing))
    };
    let error = run(false).expect_err("a gap");
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("partition 0 of partials at offset 7"), "{error}");
    assert!(error.message.contains("epochs 2 to 3 of lane 0 are missing"), "{error}");
    assert_eq!(run(true).expect("accepted"), (vec!["0 1 0 true".to_owned()], 2));
}

#[test]
fn lanes_of_a_new_generation_replace_those_that_there_are_no_longer() {
    let mut two = Two::new(&spec(""), 3);
    for lane in 0..3 {
        two.push(lane, &[10], 0);
    }
    two.commit_and_read(0);
    let mut fewer = Two::new(&spec(""), 2);
    fewer.first.hand_over(PartialsTopic { partitions: 1, generation: 2, lanes: 2 }).expect("phase partial");
    fewer.push(0, &[120], 0);
    fewer.commit();
    two.topic.append(&mut fewer.topic);
    assert_eq!(two.read(0), Vec::<String>::new(), "lane 1 of the new generation has seen nothing");
    fewer.push(1, &[130], 0);
    fewer.commit();
    two.topic.append(&mut fewer.topic);
    assert_eq!(two.read(0), ["0 3 0 true"]);
    assert_eq!(two.second.merging().map(|merging| merging.facts().inputs.len()).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_part_of_many_frames_is_put_together() {
    let mut two = Two::new(&spec(r#",{"name":"all","text":"collect_list(s, 100)"}"#), 1);
    let texts: Vec<String> = (0..40_u64)
        .map(|number| {
            let text: String =
                (0..40_000_u64).map(|at| char::from(b'a' + (at * (number + 7) * 31 % 1_009 % 26) as u8)).collect();
            format!(r#"{{"t":10,"k":"a","s":"{text}"}}"#)
        })
        .collect();
    two.push_texts(0, &texts, 0);
    two.commit();
    assert!(two.topic.len() > 3 && two.topic.iter().all(|value| value.len() < 600 << 10), "{} frames", two.topic.len());
    // An epoch ends between any two of them.
    for at in 0..two.topic.len() {
        let raw = raw_of(0, "partials", at, [&two.topic[at][..]].into_iter());
        two.second.push(&[raw], 0).expect("a push");
        let digest = two.second.seal().expect("balanced").digest;
        two.second.committed();
        let mut fresh = Two::new(&spec(r#",{"name":"all","text":"collect_list(s, 100)"}"#), 1).second;
        fresh.restore(&two.second.save()).expect("whole");
        assert_eq!(fresh.seal().expect("balanced").digest, digest);
        fresh.rollback();
        two.second = fresh;
    }
    two.read = two.topic.len();
    two.first.end().expect("an end");
    assert_eq!(two.commit_and_read(0), ["0 40 0 true"]);
}

#[test]
fn partials_that_nobody_asked_for_are_noticed() {
    let mut two = Two::new(&spec(""), 1);
    two.push(0, &[10], 0);
    two.first.seal().expect("balanced");
    two.first.committed();
    let error = two.first.seal().expect_err("partials are lost");
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.message.contains("lane 0 had partials that nobody asked for"), "{error}");
}

#[test]
fn a_lane_that_is_not_in_the_epoch_tells_nothing_and_its_number_stays() {
    let mut two = Two::new(&spec(""), 2);
    two.push(0, &[10], 0);
    // Lane 1 is new, which would be news: it is being recovered while the other goes on.
    for _ in 0..3 {
        two.push(0, &[20], 0);
        two.first.seal_of(Some(&[0])).expect("balanced");
        let partials = two.first.partials(&[0], 1).expect("sealed");
        assert!(!partials[0].1.is_empty());
        two.first.committed();
    }
    assert_eq!(two.first.told_numbers().collect::<Vec<_>>(), [(0, 3), (1, 0)]);
    assert_eq!(two.commit(), 1, "it tells when it is in an epoch");
    assert_eq!(two.first.told_numbers().collect::<Vec<_>>(), [(0, 3), (1, 1)]);
}

#[test]
fn what_lanes_gathered_makes_the_epoch_end() {
    let text = serde_json::to_string(&spec(""))
        .expect("plain data")
        .replace(r#""state_bytes_max":4294967296"#, r#""state_bytes_max":200000"#);
    let mut two = Two::new(&Spec::from_json(text.as_bytes()).expect("a description"), 1);
    two.push(0, &[10], 0);
    assert!(!two.first.is_due());
    let texts: Vec<String> = (0..1_500).map(|key| format!(r#"{{"t":10,"k":"key {key}"}}"#)).collect();
    two.push_texts(0, &texts, 0);
    assert!(two.first.is_due());
    two.commit();
    assert!(!two.first.is_due());
}
