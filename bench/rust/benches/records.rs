//! Record batches as they were fetched to batches of the engine, on one core: what there is before decoding.
//!
//! `cargo bench --manifest-path bench/rust/Cargo.toml --bench records` runs it; see `bench/README.md`. Invariant: no time is taken before
//! the values were those that were written, and behind every time is the right number of records.

use criterion::measurement::Measurement as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch};
use streamcore_bench::cpu_time::CpuTime;
use streamcore_bench::record_sets::{Codec, RecordSet};
use streamcore_bench::turns::{Pass, Turns};
use streamcore_kafka::records::{Asked, End, Settings, Walked, Walker};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records of a set: 4 MB, about what a fetch of several partitions has of each.
const RECORDS: usize = 16_000;

/// How far a contestant goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Checksums, and where each value is.
    Walk,
    /// And the batch, from which every value is taken, and which then is dropped.
    Batch,
    /// The same with keys.
    Keys,
}

fn main() {
    let mut turns = Turns::new(Duration::from_secs(2));
    for (title, codec) in [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)] {
        let set = RecordSet::of(RECORDS, codec);
        check(&set);
        let pass = Pass { events: set.records, bytes: set.values.len() };
        let mut contestants = [("walk", How::Walk), ("walk + batch", How::Batch), ("walk + batch + keys", How::Keys)];
        turns.measure(&format!("records/{title}"), pass, &mut contestants, |how, passes| taken(&set, *how, passes));
    }
    turns.finish();
}

/// The set with padding behind it, as whoever fetches has it: in a buffer that was used before.
fn frame(set: &RecordSet) -> Buffer {
    let mut frame = Buffer::with_capacity(set.bytes.len() + PADDING);
    frame.push_bytes(&set.bytes);
    frame.push_bytes(&[b' '; PADDING]);
    frame
}

fn walk(walker: &mut Walker, frame: &mut Buffer, topic: &Arc<str>) -> Walked {
    let set = 0..frame.len() - PADDING;
    walker.walk(frame, set, &Asked { topic, partition: 0, offset: 0, aborted: Some(&[]) })
}

fn check(set: &RecordSet) {
    let (mut frame, mut walker) = (frame(set), Walker::new(Settings::default()));
    let batches = walk(&mut walker, &mut frame, &"clicks".into());
    assert_eq!((&batches.end, batches.next_offset), (&End::Whole, set.records as i64));
    let raw = batches.into_raw(&frame.into()).expect("padded").expect("records");
    let values: Vec<u8> = (0..raw.len()).flat_map(|row| raw.value(row).unwrap_or_default()).copied().collect();
    assert!(raw.len() == set.records && values == set.values, "values that were not written");
}

/// Processor time of `passes` walks, each of a frame that has just come.
fn taken(set: &RecordSet, how: How, passes: u64) -> Duration {
    let mut walker = Walker::new(Settings { keys: how == How::Keys, ..Settings::default() });
    let topic = "clicks".into();
    let mut one = |_| {
        let mut frame = frame(set);
        let start = CpuTime.start();
        let batches = walk(&mut walker, &mut frame, &topic);
        assert_eq!(batches.counts.records, set.records as u64);
        if how != How::Walk {
            let raw = batches.into_raw(&frame.into()).expect("padded").expect("records");
            assert_eq!(value_bytes(&raw), set.values.len());
        }
        CpuTime.end(start)
    };
    (0..passes).map(&mut one).sum()
}

fn value_bytes(raw: &RawBatch) -> usize {
    (0..raw.len()).map(|row| black_box(raw.value(row)).map_or(0, <[u8]>::len)).sum()
}
