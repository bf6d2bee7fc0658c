//! One lane from memory: records to the rows of windows, on one core.
//!
//! `make bench-decode` runs it too; see `bench/README.md`. Both jobs have their turn at the same records, round after
//! round. Invariant: no time is taken before the rows of both were those of an independent count.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use criterion::measurement::Measurement as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Duration;
use std::{fs, slice};
use streamcore::generate::{Generator, Settings};
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::{PADDING, RawBatch};
use streamcore::spec::Spec;
use streamcore_bench::cpu_time::CpuTime;
use streamcore_bench::turns::{Pass, Turns};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records, 94 MB of them: more than any cache holds.
const EVENTS: u64 = 400_000;

/// Records for each second of event time, where the reference job has 20,000: `EVENTS` of those are 20 s and would not
/// fill one window. So they are 400 s, and of 8 windows all but the last close while records still come.
const EVENTS_PER_SECOND: f64 = 1_000.0;

/// Share of records that are copies of an earlier one: that `dedupe` finds them shows in the counts.
const DUPLICATE_RATE: f64 = 0.01;

/// Event time of the first record, ms: as in `bench/python/clickstream.py`.
const START_MS: i64 = 1_790_000_000_000;

/// Most bytes of records in one push: a piece of the files source.
const PIECE_BYTES: usize = 1 << 20;

/// How long a window waits for records of its own, ms: longer than copies, which have their originals' times, lie back.
const OUT_OF_ORDERNESS_MS: i64 = 5_000;

/// How long ids are remembered, ms: there are 125,000 to 140,000 of them at once, and the oldest go as new ones come.
const WITHIN_MS: i64 = 120_000;

/// Views by page and start of the minute, as the records write it.
type Counts = BTreeMap<(String, String), i64>;

fn main() {
    let pieces = pieces();
    let mut jobs = [("decode + window", spec(false)), ("decode + dedupe + window", spec(true))];
    check(&jobs[0].1, &pieces, &count(&pieces, false));
    check(&jobs[1].1, &pieces, &count(&pieces, true));
    let mut turns = Turns::new(Duration::from_secs(2));
    let pass = Pass { events: records(&pieces).count(), bytes: records(&pieces).map(<[u8]>::len).sum() };
    let times = turns.measure("lane", pass, &mut jobs, |spec, passes| taken(spec, &pieces, passes));
    if let Some(folder) = turns.folder() {
        let about = json!({"events": pass.events, "bytes": pass.bytes, "ns": times});
        fs::write(folder.join("lane.json"), about.to_string()).expect("a folder to write to");
    }
    turns.finish();
}

/// Reference events in lines, cut as the files source cuts them.
fn pieces() -> Vec<RawBatch> {
    let settings = Settings {
        name: "clickstream".into(),
        seed: 1,
        lanes: 1,
        start_ms: START_MS,
        events_per_second: EVENTS_PER_SECOND,
        out_of_order_ms: 0,
        duplicate_rate: DUPLICATE_RATE,
    };
    let mut generator = Generator::new(settings, 0).expect("settings");
    let (mut pieces, mut lines, mut base) = (Vec::new(), Vec::new(), 0);
    while generator.position() < EVENTS {
        for record in records(&generator.read(1_000).expect("small")) {
            if lines.len() + record.len() + 1 > PIECE_BYTES {
                pieces.push(piece(&mut lines, &mut base));
            }
            lines.extend_from_slice(record);
            lines.push(b'\n');
        }
    }
    pieces.push(piece(&mut lines, &mut base));
    pieces
}

/// The batch of `lines`, which begin at byte `base`; both go on behind it.
fn piece(lines: &mut Vec<u8>, base: &mut i64) -> RawBatch {
    let (mut data, start) = (Vec::with_capacity(PIECE_BYTES + PADDING), *base);
    data.append(lines);
    *base += data.len() as i64;
    let mut batch = RawBatch::from_lines(0, "clicks.jsonl".into(), data.into(), start, None).expect("small");
    batch.seal();
    batch
}

fn records(batches: &[RawBatch]) -> impl Iterator<Item = &[u8]> {
    batches.iter().flat_map(|batch| (0..batch.len()).filter_map(|row| batch.value(row)))
}

/// Views of each page in each minute, with or without the copies. As in the reference job the group key is not the
/// record key, so counts go through the combine stage, though there is one lane.
fn spec(dedupe: bool) -> Spec {
    let mut schema = json!({"payload.page_id": "string"});
    let mut steps = vec![json!({
        "verb": "window",
        "kind": {"type": "tumbling", "size_ms": 60_000},
        "by": [{"name": "page_id", "text": "payload.page_id"}],
        "aggregates": [{"name": "views", "text": "count()"}],
    })];
    if dedupe {
        schema["event_id"] = "string".into();
        steps.insert(0, json!({"verb": "dedupe", "field": "event_id", "within_ms": WITHIN_MS}));
    }
    let source = json!({"event_time": "timestamp", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS, "schema": schema});
    Spec::from_json(json!({"source": source, "steps": steps}).to_string().as_bytes()).expect("a description")
}

fn pipeline(spec: &Spec) -> Pipeline {
    let mut pipeline = Pipeline::new(spec, 1).expect("a plan");
    pipeline.assign(&[0]);
    pipeline
}

/// All that comes out: the part that is measured.
fn run(pipeline: &mut Pipeline, pieces: &[RawBatch]) -> Vec<OutputBatch> {
    let mut outputs = Vec::new();
    for piece in pieces {
        outputs.extend(pipeline.push(slice::from_ref(piece), START_MS).expect("a push"));
    }
    outputs.extend(pipeline.end().expect("an end"));
    outputs.extend(pipeline.drain().expect("the rest"));
    outputs
}

/// Processor time of `passes` runs, each of a new pipeline, which is made before and dropped after.
fn taken(spec: &Spec, pieces: &[RawBatch], passes: u64) -> Duration {
    let one = |_| {
        let mut pipeline = pipeline(spec);
        let start = CpuTime.start();
        let outputs = run(&mut pipeline, pieces);
        let taken = CpuTime.end(start);
        black_box(outputs);
        taken
    };
    (0..passes).map(one).sum()
}

/// What must come out, read by another parser. No copy is so far behind its original that it would be forgotten.
fn count(pieces: &[RawBatch], distinct: bool) -> Counts {
    let (mut counts, mut seen) = (Counts::new(), BTreeSet::new());
    for record in records(pieces) {
        let event: Value = serde_json::from_slice(record).expect("JSON");
        let text = |path| event.pointer(path).and_then(Value::as_str).expect("a text").to_owned();
        if distinct && !seen.insert(text("/event_id")) {
            continue;
        }
        let minute = text("/timestamp")[.."2026-09-21T14:13".len()].to_owned();
        *counts.entry((text("/payload/page_id"), minute + ":00")).or_default() += 1;
    }
    counts
}

/// A run gives these counts, each once and nothing else, and only the last window waits for the end.
fn check(spec: &Spec, pieces: &[RawBatch], expected: &Counts) {
    let mut counts = Counts::new();
    let outputs = run(&mut pipeline(spec), pieces);
    for OutputBatch { kind, batch, .. } in &outputs {
        assert_eq!(*kind, OutputKind::Result, "{} records left before the end", batch.num_rows());
        let column = |name| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
        let (pages, views) = (column("page_id").as_string::<i32>(), column("views").as_primitive::<Int64Type>());
        let starts = column("window_start").as_primitive::<TimestampMillisecondType>();
        for row in 0..batch.num_rows() {
            let start = starts.value_as_datetime(row).expect("a time").format("%Y-%m-%dT%H:%M:%S%.f").to_string();
            let before = counts.insert((pages.value(row).to_owned(), start), views.value(row));
            assert_eq!(before, None, "a window of {} twice", pages.value(row));
        }
    }
    let wrong = counts.iter().find(|(place, views)| expected.get(place) != Some(views));
    assert_eq!((wrong, counts.len()), (None, expected.len()), "a row that is wrong, and how many there are");
    let windows: BTreeSet<_> = expected.keys().map(|(_, minute)| minute).collect();
    assert!(outputs.len() == windows.len(), "{} windows in {} batches of rows", windows.len(), outputs.len());
}
