//! The entrance of libFuzzer for what lanes hand over through a topic: any bytes as a frame, and changed parts with the right
//! checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use streamcore::error::ErrorKind;
use streamcore::lane::PartialsTopic;
use streamcore::partials::Parts;
use streamcore::partials::frame::{self, Content, EpochOf, Marker};
use streamcore::pipeline::Pipeline;
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// Windows of each kind that is handed over.
const KINDS: [&str; 4] = [
    r#""type":"tumbling","size_ms":50"#,
    r#""type":"hopping","size_ms":60,"slide_ms":20"#,
    r#""type":"session","gap_ms":12,"max_length_ms":30"#,
    r#""type":"whole""#,
];

/// What a pipeline hands over.
struct Known {
    kind: usize,
    epoch: EpochOf,
    marker: Marker,
    body: Vec<u8>,
}

fn pipeline(kind: usize, phase: &str) -> Pipeline {
    let text = format!(
        r#"{{"source":{{"event_time":"t","event_time_unit":"ms","out_of_orderness_ms":5,"schema":{{"k":"string","v":"int64","s":"string"}}}},
        "combine":"topic","phase":"{phase}","steps":[{{"verb":"window","kind":{{{}}},"by":[{{"name":"k","text":"k"}}],"aggregates":[
        {{"name":"n","text":"count()"}},{{"name":"sum","text":"sum(v)"}},{{"name":"list","text":"collect_list(s, 3)"}},
        {{"name":"kinds","text":"count_distinct(v)"}},{{"name":"about","text":"approx_distinct(s)"}},{{"name":"last","text":"last(s)"}},
        {{"name":"top","text":"top_k(s, 2)"}},{{"name":"median","text":"quantile(v, 0.5)"}},{{"name":"var","text":"var(v)"}}]}}]}}"#,
        KINDS[kind]
    );
    Pipeline::new(&Spec::from_json(text.as_bytes()).expect("a description"), 1).expect("a plan")
}

fn known(kind: usize) -> Known {
    let mut pipeline = pipeline(kind, "partial");
    pipeline.hand_over(PartialsTopic { partitions: 1, generation: 1, lanes: 1 }).expect("phase partial");
    pipeline.assign(&[0]);
    let mut raw = RawBatch::new(0, "t".into(), 8, 256);
    for number in 0..12_i64 {
        let text = format!(r#"{{"t":{},"k":"k{}","v":{number},"s":"text {number}"}}"#, number * 9, number % 3);
        raw.push(Some(text.as_bytes()), number, None).expect("small");
    }
    pipeline.push(&[raw], 0).expect("a push");
    pipeline.end().expect("an end");
    pipeline.seal().expect("balanced");
    let records = pipeline.partials(&[0], 1).expect("sealed").remove(0).1;
    let frames = records.iter().map(|(.., value)| frame::decode(value).expect("whole"));
    let (mut body, mut closed) = (Vec::new(), None);
    for frame in frames {
        match frame.content {
            Content::Partial(packed) => packed.unpack(&mut body).expect("whole"),
            Content::Marker(marker) => closed = Some((frame.epoch, marker)),
        }
    }
    let (epoch, marker) = closed.expect("a marker");
    Known { kind, epoch, marker, body }
}

/// Has phase final read `values`; gives how many rows left, or that they were refused.
fn read(pipeline: &mut Pipeline, values: &[Vec<u8>]) -> Option<usize> {
    let mut raw = RawBatch::new(0, "partials".into(), 8, 256);
    for (offset, value) in values.iter().enumerate() {
        raw.push(Some(value), offset as i64, None).expect("small");
    }
    let outcome = pipeline.push(&[raw], 0).and_then(|mut outputs| {
        outputs.extend(pipeline.drain()?);
        outputs.extend(pipeline.seal()?.outputs);
        Ok(outputs)
    });
    let rows = match outcome {
        Ok(outputs) => Some(outputs.iter().map(|output| output.batch.num_rows()).sum()),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::State, "{error}");
            None
        }
    };
    pipeline.rollback();
    rows
}

fuzz_target!(|bytes: &[u8]| {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    let all = KNOWN.get_or_init(|| (0..KINDS.len()).map(known).collect());
    let Some((first, rest)) = bytes.split_first() else { return };
    let known = &all[usize::from(*first) % all.len()];
    let mut pipeline = pipeline(known.kind, "final");
    pipeline.assign(&[0]);
    if first & 4 > 0 {
        pipeline.accept_gaps();
    }
    let _ = read(&mut pipeline, &[rest.to_vec()]);
    // Each three bytes change one place of the part, or cut it there.
    let mut body = known.body.clone();
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % (body.len() + 1);
        match body.get_mut(at) {
            Some(byte) => *byte = change[2],
            None => body.push(change[2]),
        }
    }
    let part_of = |body: &[u8]| {
        let mut parts = Parts::new(1);
        *parts.at(0) = streamcore::partials::Part { body: body.to_vec(), events: known.marker.events };
        parts.into_records(&known.epoch, known.marker.told).into_iter().map(|(.., value)| value).collect::<Vec<_>>()
    };
    let _ = read(&mut pipeline, &part_of(&body));
    assert!(read(&mut pipeline, &part_of(&known.body)).is_some_and(|rows| rows > 0), "what was not changed has rows");
});
