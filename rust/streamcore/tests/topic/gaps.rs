//! Partials that were deleted before they were read: at any record of the topic, in the middle of an epoch as well.

use crate::lanes::Two;
use crate::same;
use crate::world::raw_of;
use std::collections::{BTreeMap, BTreeSet};
use streamcore::error::{Error, ErrorKind};
use streamcore::partials::frame::{self, Content, EpochOf, Frame, Marker};
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::spec::Spec;

/// Frames of a part, about.
const FRAMES: usize = 3;

/// Lane and number of an epoch.
type Named = (i32, u64);

/// Epochs of two lanes, each with what was read in it, by key.
struct Written {
    two: Two,
    /// The records, and which of them begin the end of the input.
    topic: Vec<Vec<u8>>,
    end: usize,
    read: BTreeMap<Named, Vec<(String, i64)>>,
}

/// The same records with frames of few bytes.
fn in_small_frames(topic: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut small, mut bodies): (Vec<Vec<u8>>, BTreeMap<Named, Vec<u8>>) = (Vec::new(), BTreeMap::new());
    for value in topic {
        let Frame { epoch, partition, content } = frame::decode(value).expect("whole");
        let body = bodies.entry((epoch.lane, epoch.number)).or_default();
        match content {
            Content::Partial(packed) => packed.unpack(body).expect("whole"),
            Content::Marker(marker) => {
                let chunks = body.chunks(body.len() / FRAMES + 1);
                let frames = chunks.len() as u32;
                small.extend(chunks.map(|chunk| frame::encode_partial(&epoch, partition, chunk)));
                small.push(frame::encode_marker(&epoch, partition, &Marker { frames, ..marker }));
            }
        }
    }
    small
}

/// Records of both lanes among one another, as workers that commit at the same time write them.
fn interleaved(records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let lane_of = |value: &Vec<u8>| frame::decode(value).expect("whole").epoch.lane;
    let (first, second): (Vec<_>, Vec<_>) = records.into_iter().partition(|value| lane_of(value) == 0);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let (left, right) = (first.next(), second.next());
        if left.is_none() && right.is_none() {
            return mixed;
        }
        mixed.extend(left.into_iter().chain(right));
    }
}

fn written(spec: &Spec) -> Written {
    let mut two = Two::new(spec, 2);
    let (mut topic, mut read, mut numbers) = (Vec::new(), BTreeMap::<Named, Vec<(String, i64)>>::new(), [0_u64; 2]);
    for epoch in 0..6_i64 {
        for lane in 0..2_i64 {
            // Sessions of some keys go on from epoch to epoch, those of others are over in between.
            let keys = (0..5).filter(|key| (epoch + lane + key) % 3 > 0 || *key == 0);
            let events: Vec<(String, i64)> = keys
                .flat_map(|key| (0..2).map(move |n| (format!("k{key}"), epoch * 10 + lane + key + n * 7)))
                .collect();
            let texts = events
                .iter()
                .map(|(key, time_ms)| format!(r#"{{"t":{time_ms},"k":"{key}","v":{time_ms},"f":0.5,"s":"s"}}"#));
            two.push_texts(lane as i32, &texts.collect::<Vec<_>>(), 0);
            numbers[lane as usize] += 1;
            read.insert((lane as i32, numbers[lane as usize]), events);
        }
        two.commit();
        topic.extend(interleaved(in_small_frames(&std::mem::take(&mut two.topic))));
    }
    let end = topic.len();
    two.first.end().expect("an end");
    two.commit();
    topic.extend(in_small_frames(&std::mem::take(&mut two.topic)));
    assert!(two.first.ledgers().all(|(_, ledger)| ledger.late == 0), "nothing is late");
    Written { two, topic, end, read }
}

/// Reads the topic up to `from` and from `to` on, saved and loaded in between. Gives what left, and what was counted.
fn read_around(
    written: &Written,
    spec: &Spec,
    (from, to): (usize, usize),
    accepts: bool,
) -> Result<(Vec<OutputBatch>, u64), Error> {
    let fresh = || {
        let mut second = Two::new(spec, 2).second;
        if accepts {
            second.accept_gaps();
        }
        second
    };
    let raw = |part: &[Vec<u8>], first| raw_of(0, "partials", first, part.iter().map(|value| &value[..]));
    let mut second = fresh();
    let mut outputs = second.push(&[raw(&written.topic[..from], 0)], 0)?;
    outputs.extend(second.drain()?);
    outputs.extend(second.seal()?.outputs);
    second.committed();
    let mut later: Pipeline = fresh();
    later.restore(&second.save())?;
    outputs.extend(later.push(&[raw(&written.topic[to..], to)], 0)?);
    outputs.extend(later.drain()?);
    outputs.extend(later.seal()?.outputs);
    later.committed();
    let mut missing = 0;
    for merging in later.merging() {
        assert!(merging.facts().has_ended() && merging.facts().waiting.is_empty(), "{:?}", merging.facts());
        missing += merging.counts().missing;
    }
    Ok((outputs, missing))
}

/// Epochs of which a record lies in `from..to`.
fn cut(topic: &[Vec<u8>], (from, to): (usize, usize)) -> BTreeSet<Named> {
    let of_record = |value: &Vec<u8>| {
        let EpochOf { lane, number, .. } = frame::decode(value).expect("whole").epoch;
        (lane, number)
    };
    topic[from..to].iter().map(of_record).collect()
}

/// Rows, each with its key, start and count.
fn rows(outputs: &[OutputBatch]) -> Vec<(String, i64, u64)> {
    let results = outputs.iter().filter(|output| output.kind == OutputKind::Result);
    let short = |row: String| {
        let row: serde_json::Value = serde_json::from_str(&row).expect("a row");
        let (key, start, n) = (row["k"].as_str(), row["window_start"].as_i64(), row["n"].as_u64());
        (key.expect("a key").to_owned(), start.expect("a start"), n.expect("a count"))
    };
    results.flat_map(crate::common::json).map(short).collect()
}

/// Compares what comes of the topic without any of its stretches; `windows` says what is counted together.
fn every_cut(spec: &Spec, is_session: bool) {
    let written = written(spec);
    assert!(written.topic.len() > 30, "{} records", written.topic.len());
    assert!(written.two.first.ledgers().count() == 2);
    let mut refused = 0;
    for from in 0..=written.end {
        for to in from..=written.end {
            let gone = cut(&written.topic, (from, to));
            let found = read_around(&written, spec, (from, to), true);
            let (outputs, missing) = found.unwrap_or_else(|error| panic!("without {from}..{to}: {error}"));
            assert_eq!(missing, gone.len() as u64, "without {from}..{to}");
            let mut expected: BTreeMap<(String, i64), u64> = BTreeMap::new();
            let whole = written.read.iter().filter(|(epoch, _)| !gone.contains(epoch));
            for (key, time_ms) in whole.flat_map(|(_, events)| events) {
                let start = if is_session { 0 } else { time_ms.div_euclid(20) * 20 };
                *expected.entry((key.clone(), start)).or_default() += 1;
            }
            let mut counted: BTreeMap<(String, i64), u64> = BTreeMap::new();
            for (key, start, n) in rows(&outputs) {
                if is_session {
                    *counted.entry((key, 0)).or_default() += n;
                } else {
                    counted.insert((key, start), n);
                }
            }
            assert_eq!(counted, expected, "without {from}..{to}");
            match read_around(&written, spec, (from, to), false) {
                Ok(_) => assert!(gone.is_empty(), "without {from}..{to}"),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::State);
                    assert!(error.message.contains("--accept-gap goes on without them"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(refused, written.end * (written.end + 1) / 2, "whatever is missing is refused");
}

#[test]
fn windows_go_on_without_what_was_cut_off_at_any_record() {
    every_cut(&same::spec(r#""type":"tumbling","size_ms":20"#, "", "", 2), false);
}

#[test]
fn sessions_go_on_without_what_was_cut_off_at_any_record() {
    every_cut(&same::spec(r#""type":"session","gap_ms":12"#, "", "", 100), true);
}

#[test]
fn cut_sessions_with_updates_go_on_without_what_was_cut_off_at_any_record() {
    every_cut(&same::spec(r#""type":"session","gap_ms":8,"max_length_ms":20"#, "", "", 3), true);
}
