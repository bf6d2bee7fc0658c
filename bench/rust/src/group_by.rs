//! Rows in columns, their count, sum, least and most by key and minute, and the columns for others to do the same with.
//!
//! `benches/group_by.rs` runs it. Invariant: what is timed begins with the columns that decoding gives, without what
//! decoding knows of their groups, and ends with the rows.

use crate::clicks::{Click, Clicks, PIECE_BYTES, key_name};
use crate::run::OUT_OF_ORDERNESS_MS;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::FileWriter;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use streamcore::batch::Batch;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

const MINUTE_MS: i64 = 60_000;

/// Records that are decoded together: as many as the engine takes.
const RANGE_ROWS: usize = 4_096;

/// Events of one epoch, as in `run.rs`.
const EPOCH_EVENTS: usize = 1 << 20;

/// Rows of one Arrow batch of what others read.
const ARROW_ROWS: u64 = 1 << 20;

/// What the rows are called: the window's start, then what is computed of the values.
pub const COLUMNS: [&str; 6] = ["key", "window_start", "events", "total", "least", "most"];

/// Events, cut into one lane for each thread.
pub struct GroupBy {
    /// The records of each push: one batch a lane.
    pushes: Vec<Vec<RawBatch>>,
    /// Lanes, and threads.
    lanes: usize,
}

/// How long a pass took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// On a clock on the wall.
    pub wall: Duration,
    /// On processors, of all threads of the process.
    pub cpu: Duration,
}

impl GroupBy {
    /// The records of `clicks`. A key is always in the same lane, as in a topic keyed by it.
    ///
    /// # Panics
    ///
    /// When there are more lanes than numbers for them.
    #[must_use]
    pub fn new(clicks: &Clicks, lanes: usize) -> Self {
        let empty = || -> Vec<RawBatch> {
            let lanes = i32::try_from(lanes).expect("a number of processors");
            (0..lanes).map(|lane| RawBatch::new(lane, "events".into(), PIECE_BYTES / 45, PIECE_BYTES)).collect()
        };
        let (mut pushes, mut next, mut value) = (Vec::new(), empty(), Vec::new());
        for (number, click) in clicks.clicks().enumerate() {
            value.clear();
            write(click, &mut value);
            let batch = &mut next[click.key as usize % lanes];
            batch.push(Some(&value), number as i64, None).expect("small");
            batch.push_key(Some(&key_name(click.key)));
            if batch.byte_len() + 100 > PIECE_BYTES {
                pushes.push(std::mem::replace(&mut next, empty()));
            }
        }
        pushes.push(next);
        pushes.iter_mut().flatten().for_each(RawBatch::seal);
        Self { pushes, lanes }
    }

    /// One pass over all of them, and its rows.
    ///
    /// # Panics
    ///
    /// When the engine gives an error, or a record leaves before the end.
    #[must_use]
    pub fn pass(&self) -> (Vec<RecordBatch>, Taken) {
        let mut pipeline = self.pipeline();
        let columns: Vec<_> = self.pushes.iter().map(|raws| columns(&pipeline, raws)).collect();
        let start = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
        let (mut outputs, mut events) = (Vec::new(), 0);
        for (raws, columns) in self.pushes.iter().zip(columns) {
            outputs.extend(pipeline.push_decoded(raws, columns, 0.into(), self.lanes).expect("a push"));
            events += raws.iter().map(RawBatch::len).sum::<usize>();
            if events >= EPOCH_EVENTS {
                events = 0;
                outputs.extend(pipeline.seal().expect("a seal").outputs);
                pipeline.committed();
            }
        }
        outputs.extend(pipeline.end().expect("an end"));
        outputs.extend(pipeline.drain().expect("the rest"));
        let end = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
        let taken = Taken { wall: end[0].saturating_sub(start[0]), cpu: end[1].saturating_sub(start[1]) };
        (outputs.into_iter().map(rows).collect(), taken)
    }

    fn pipeline(&self) -> Pipeline {
        let spec = Spec::from_json(spec().to_string().as_bytes()).expect("a description");
        let mut pipeline = Pipeline::new(&spec, self.lanes).expect("a plan");
        pipeline.assign(&(0..self.lanes as i32).collect::<Vec<_>>());
        pipeline
    }
}

fn spec() -> Value {
    let aggregate = |name, text| json!({"name": name, "text": text});
    json!({
        "source": {
            "event_time": "t", "event_time_unit": "ms", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS, "keyed_by": "k",
            "schema": {"k": "string", "v": "int64"},
        },
        "steps": [{
            "verb": "window",
            "kind": {"type": "tumbling", "size_ms": MINUTE_MS},
            "by": [{"name": "key", "text": "k"}],
            "aggregates": [
                aggregate("events", "count()"), aggregate("total", "sum(v)"), aggregate("least", "min(v)"),
                aggregate("most", "max(v)"),
            ],
        }],
        "limits": {"state_bytes_max": 1_u64 << 40},
    })
}

/// The event as JSON of nothing but the three columns.
fn write(click: Click, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"k":""#);
    out.extend_from_slice(&key_name(click.key));
    write!(out, "\",\"t\":{},\"v\":{}}}", click.time_ms, click.dwell_ms()).expect("a Vec takes every write");
}

/// What decoding gives, but for the groups it has found: they are a part of grouping.
fn columns(pipeline: &Pipeline, raws: &[RawBatch]) -> Vec<Vec<Batch>> {
    let decoders = pipeline.decoders();
    let of_one = |raw: &RawBatch| {
        let starts = (0..raw.len()).step_by(RANGE_ROWS);
        let ranges = starts.map(|start| start..(start + RANGE_ROWS).min(raw.len()));
        ranges.map(|rows| Batch { groups: None, ..decoders[0].decode(raw, rows) }).collect()
    };
    raws.iter().map(of_one).collect()
}

/// The rows of an output, with the columns called [`COLUMNS`].
fn rows(OutputBatch { kind, batch, .. }: OutputBatch) -> RecordBatch {
    assert_eq!(kind, OutputKind::Result, "records left before the end: {:?}", batch.slice(0, 1));
    let places: Vec<_> = COLUMNS.iter().map(|name| batch.schema().index_of(name).expect("a column")).collect();
    batch.project(&places).expect("columns that are there")
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The columns of `clicks`, for others: `key`, `time` (ms) and `value`.
///
/// # Panics
///
/// When they cannot be written to `path`.
pub fn leave_columns(clicks: &Clicks, path: &Path) {
    let batches = (0..clicks.events).step_by(ARROW_ROWS as usize).map(|start| {
        let range = || (start..(start + ARROW_ROWS).min(clicks.events)).map(|number| clicks.click(number));
        batch(vec![
            ("key", Arc::new(range().map(|click| Some(key_text(click.key))).collect::<StringArray>())),
            ("time", Arc::new(range().map(|click| click.time_ms).collect::<Int64Array>())),
            ("value", Arc::new(range().map(|click| click.dwell_ms()).collect::<Int64Array>())),
        ])
    });
    leave(batches, path);
}

/// The rows that must come out, in any order: counted from the numbers drawn.
///
/// # Panics
///
/// When they cannot be written to `path`.
pub fn leave_answer(clicks: &Clicks, path: &Path) {
    let mut groups = HashMap::<(u64, i64), [i64; 4]>::new();
    for click in clicks.clicks() {
        let value = click.dwell_ms();
        let group = groups.entry((click.key, click.time_ms.div_euclid(MINUTE_MS) * MINUTE_MS));
        let known = group.or_insert([0, 0, i64::MAX, i64::MIN]);
        *known = [known[0] + 1, known[1] + value, known[2].min(value), known[3].max(value)];
    }
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(groups.keys().map(|(key, _)| Some(key_text(*key))).collect::<StringArray>())),
        ("window_start", Arc::new(groups.keys().map(|(_, start)| *start).collect::<Int64Array>())),
    ];
    for (place, name) in COLUMNS[2..].iter().enumerate() {
        columns.push((name, Arc::new(groups.values().map(|values| values[place]).collect::<Int64Array>())));
    }
    leave([batch(columns)].into_iter(), path);
}

fn key_text(key: u64) -> String {
    key_name(key).map(char::from).iter().collect()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// Writes an Arrow file.
///
/// # Panics
///
/// When it cannot be written, or there is no batch.
pub fn leave(batches: impl Iterator<Item = RecordBatch>, path: &Path) {
    let mut batches = batches.peekable();
    let schema = batches.peek().expect("a batch").schema();
    let file = File::create(path).expect("a folder to write to");
    let mut writer = FileWriter::try_new(file, &schema).expect("a file");
    batches.for_each(|batch| writer.write(&batch).expect("room in the file"));
    writer.finish().expect("room in the file");
}
