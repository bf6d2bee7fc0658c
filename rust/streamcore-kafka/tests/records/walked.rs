//! One walk of a set among other bytes of a frame, and what came of it as rows.

use crate::encoder::Row;
use std::sync::Arc;
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch};
use streamcore_kafka::aborted::AbortedTransaction;
use streamcore_kafka::records::{Asked, Counts, Course, End, Settings, Walked, Walker};

/// Bytes of other partitions, of all values.
const OTHERS: usize = 300;

/// Everything is wanted.
pub const ALL: Settings =
    Settings { keys: true, headers: true, record_bytes_max: None, batch_bytes_max: 1 << 20, piece_bytes_max: 4 << 20 };

/// What came of a walk.
#[derive(Debug)]
pub struct Outcome {
    pub rows: Vec<Row>,
    pub next_offset: i64,
    pub leader_epoch: Option<i32>,
    pub counts: Counts,
    pub end: End,
    pub raw: Option<RawBatch>,
}

/// Walks `set` from `offset` on, with everything wanted; uncommitted records too.
pub fn walk(set: &[u8], offset: i64) -> Outcome {
    walk_with(ALL, set, offset, None)
}

pub fn walk_with(settings: Settings, set: &[u8], offset: i64, aborted: Option<&[AbortedTransaction]>) -> Outcome {
    let mut pieces = walk_pieces(settings, set, offset, aborted);
    assert_eq!(pieces.len(), 1, "in one piece");
    pieces.remove(0)
}

/// The same in pieces.
pub fn walk_pieces(
    settings: Settings,
    set: &[u8],
    offset: i64,
    aborted: Option<&[AbortedTransaction]>,
) -> Vec<Outcome> {
    let others: Vec<u8> = (0..OTHERS).map(|at| (at * 37) as u8).collect();
    let mut frame = Buffer::default();
    for bytes in [&others[..], set, &others[..]] {
        frame.push_bytes(bytes);
    }
    let place = OTHERS..OTHERS + set.len();
    let topic = Arc::from("clicks");
    let asked = Asked { topic: &topic, partition: 3, offset, aborted };
    let (mut walker, mut course, mut pieces) = (Walker::new(settings), Course::new(&asked), Vec::new());
    loop {
        let walked = walker.walk_on(&mut frame, place.clone(), &asked, &mut course);
        assert_eq!((&frame[..OTHERS], &frame[place.end..]), (&others[..], &others[..]), "bytes of others");
        if walked.end != End::Full {
            pieces.push(outcome(settings, offset, walked, &frame.into()));
            return pieces;
        }
        assert!(walked.is_unpacked() && walked.next_offset > offset, "a piece that is full has something");
        pieces.push(outcome(settings, offset, walked, &bytes::Bytes::new()));
    }
}

fn outcome(settings: Settings, offset: i64, walked: Walked, frame: &bytes::Bytes) -> Outcome {
    let (next_offset, leader_epoch, counts) = (walked.next_offset, walked.leader_epoch, walked.counts);
    let end = walked.end.clone();
    let raw = walked.into_raw(frame).expect("there is padding");
    let rows: Vec<Row> = raw.iter().flat_map(|raw| (0..raw.len()).map(|row| row_of(raw, row))).collect();
    if let Some(raw) = &raw {
        assert_eq!((raw.lane, &*raw.topic), (3, "clicks"));
        // What is not handed out of a value over the limit stays behind its beginning, as in files.
        if settings.record_bytes_max.is_none() {
            check_gaps(raw);
        }
    }
    assert_eq!(rows.len() as u64, counts.records);
    assert!(rows.is_sorted_by(|left, right| left.offset < right.offset), "offsets rise");
    assert!(next_offset >= offset && rows.iter().all(|row| row.offset >= offset && row.offset < next_offset));
    Outcome { rows, next_offset, leader_epoch, counts, end, raw }
}

fn row_of(raw: &RawBatch, row: usize) -> Row {
    Row {
        offset: raw.offset(row),
        time_ms: raw.timestamp_ms(row),
        key: raw.key(row).map(<[u8]>::to_vec),
        value: raw.value(row).map(<[u8]>::to_vec),
        headers: raw.headers(row).to_vec(),
    }
}

/// Between two values, and as far behind the last as is read at once, there is text alone: the decoder looks at both.
fn check_gaps(raw: &RawBatch) {
    let places: Vec<_> = raw.places(0..raw.len()).flatten().collect();
    let Some(first) = places.first() else { return };
    let (bytes, start) = raw.padded_bytes(0..raw.len()).expect("padded");
    for two in places.windows(2) {
        let gap = &bytes[two[0].end - start..two[1].start - start];
        assert!(gap.iter().all(|byte| *byte == b' '), "between values: {gap:?}");
    }
    assert_eq!((start, bytes.len()), (first.start, places[places.len() - 1].end - start + PADDING));
}
