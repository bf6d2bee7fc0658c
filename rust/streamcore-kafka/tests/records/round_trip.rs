//! Any records, in batches of any size and codec, come back as they were written, from whatever offset on.

use crate::encoder::{APPEND_TIME, Batch, CODECS, Codec, DELETE_HORIZON, Row};
use crate::walked::{ALL, walk, walk_pieces, walk_with};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;
use streamcore::raw::{Fault as RawFault, PADDING};
use streamcore_kafka::records::{Asked, Counts, End, Settings, Walker};

pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..40), 4 => vec(Just(b'x'), 0..200), 1 => vec(b'a'..b'e', 0..9_000)]
}

/// A record, and how many offsets before it were compacted away.
fn row() -> impl Strategy<Value = (Row, i64)> {
    let headers = prop_oneof![4 => Just(Vec::new()), 1 => vec(("[a-zé]{0,5}", option::of(bytes())), 0..4)];
    let time_ms = prop_oneof![6 => (0..100_000_i64).prop_map(Some), 1 => (0..i64::MAX).prop_map(Some), 1 => Just(None)];
    let gap = prop_oneof![8 => Just(0), 1 => 0..1_000_i64];
    (time_ms, option::of(bytes()), option::weighted(0.9, bytes()), headers, gap)
        .prop_map(|(time_ms, key, value, headers, gap)| (Row { offset: 0, time_ms, key, value, headers }, gap))
}

/// Batches, their records, and where the next one would begin.
fn batches() -> impl Strategy<Value = (Vec<Batch>, Vec<Row>, i64)> {
    let batch = (vec(row(), 0..12), prop::sample::select(CODECS.to_vec()), 0..3_i64, 0..3_u8);
    (0..1_000_i64, vec(batch, 0..8), any::<bool>()).prop_map(|(first, parts, packed)| {
        let (mut next, mut all, mut batches) = (first, Vec::new(), Vec::new());
        for (rows, codec, behind, flags) in parts {
            let (base, mut own) = (next, Vec::new());
            for (mut row, gap) in rows {
                row.offset = next + gap;
                next = row.offset + 1;
                own.push(row);
            }
            let mut batch = Batch::of(base, &own, if packed { codec } else { Codec::None });
            // Compaction took the last ones, or all of them.
            batch.last_offset = (next - 1).max(base) + behind;
            next = batch.last_offset + 1;
            if flags == 1 {
                batch.flags = APPEND_TIME;
                batch.max_time_ms = 77;
                own.iter_mut().for_each(|row| row.time_ms = Some(77));
            } else if flags == 2 {
                batch.flags = DELETE_HORIZON;
            }
            batch.leader_epoch = batches.len() as i32;
            batches.push(batch);
            all.extend(own);
        }
        (batches, all, next)
    })
}

proptest! {
    #[test]
    fn records_come_back_as_they_were_written(
        (batches, rows, next) in batches(), wanted in any::<prop::sample::Index>(), keys in any::<bool>(), headers in any::<bool>(),
    ) {
        let set: Vec<u8> = batches.iter().flat_map(Batch::write).collect();
        let base = batches.first().map_or(next, |batch| batch.base_offset);
        let offset = base + wanted.index((next - base) as usize + 1) as i64;
        let walked = walk_with(Settings { keys, headers, ..ALL }, &set, offset, None);
        let expected: Vec<Row> = rows.iter().filter(|row| row.offset >= offset).cloned().map(|mut row| {
            row.key = row.key.filter(|_| keys);
            row.headers.retain(|_| headers);
            row
        }).collect();
        prop_assert_eq!(&walked.rows, &expected);
        prop_assert_eq!(walked.next_offset, next);
        prop_assert_eq!(&walked.end, &End::Whole);
        prop_assert_eq!(walked.leader_epoch, batches.last().map(|batch| batch.leader_epoch));
        let refetched_records = (rows.len() - expected.len()) as u64;
        let records = expected.len() as u64;
        prop_assert_eq!(walked.counts, Counts { batches: batches.len() as u64, records, refetched_records, ..Counts::default() });
    }

    #[test]
    fn cut_anywhere_the_whole_batches_are_handed_out((batches, rows, _) in batches(), cut in any::<prop::sample::Index>()) {
        let written: Vec<Vec<u8>> = batches.iter().map(Batch::write).collect();
        let set = written.concat();
        let cut = cut.index(set.len() + 1);
        let (mut whole, mut taken) = (0, 0);
        while let Some(bytes) = written.get(taken).filter(|bytes| whole + bytes.len() <= cut) {
            whole += bytes.len();
            taken += 1;
        }
        let base = batches.first().map_or(0, |batch| batch.base_offset);
        let walked = walk(&set[..cut], base);
        let next = taken.checked_sub(1).map_or(base, |last| batches[last].last_offset + 1);
        prop_assert_eq!((walked.next_offset, walked.counts.batches), (next, taken as u64));
        let expected: Vec<&Row> = rows.iter().filter(|row| row.offset < next).collect();
        prop_assert_eq!(walked.rows.iter().collect::<Vec<_>>(), expected);
        let end = match cut - whole {
            0 => End::Whole,
            1..12 => End::Cut { bytes: 61 },
            _ => End::Cut { bytes: written[taken].len() },
        };
        prop_assert_eq!(walked.end, end);
    }
}

#[test]
fn values_stay_where_they_were_fetched() {
    let row = Row { offset: 5, value: Some(b"{\"a\":1}".to_vec()), ..Row::default() };
    let mut frame = streamcore::buffer::Buffer::from(Batch::of(5, &[row], Codec::None).write());
    let (set, at) = (0..frame.len(), frame.len() - 8);
    frame.push_bytes(&[b' '; PADDING]);
    let topic = Arc::from("t");
    let asked = Asked { topic: &topic, partition: 0, offset: 0, aborted: None };
    let walked = Walker::new(Settings::default()).walk(&mut frame, set, &asked);
    let frame: bytes::Bytes = frame.into();
    let raw = walked.into_raw(&frame).expect("padded").expect("a record");
    assert_eq!(raw.value(0).map(<[u8]>::as_ptr), Some(frame[at..].as_ptr()));
}

/// The head of the next batch would make the decoder look at the last records one by one.
#[test]
fn what_is_read_behind_the_last_value_is_spaces_as_far_as_it_is_the_sets() {
    let row = Row { offset: 5, value: Some(b"{}".to_vec()), headers: vec![("h".into(), None)], ..Row::default() };
    for codec in [Codec::None, Codec::Lz4] {
        let mut set = Batch::of(5, std::slice::from_ref(&row), codec).write();
        set.extend_from_slice(&Batch::of(6, &[row.clone(), row.clone()], codec).write()[..70]);
        let raw = walk(&set, 0).raw.expect("a record");
        let (bytes, _) = raw.padded_bytes(0..1).expect("padded");
        assert_eq!(bytes, [&b"{}"[..], &[b' '; PADDING]].concat(), "{codec:?}");
    }
}

#[test]
fn a_frame_without_padding_is_refused() {
    let row = Row { offset: 5, value: Some(b"{}".to_vec()), ..Row::default() };
    let mut frame = Batch::of(5, &[row], Codec::None).write();
    let (len, topic) = (frame.len(), Arc::from("t"));
    frame.resize(len + PADDING - 2, b' ');
    let asked = Asked { topic: &topic, partition: 0, offset: 0, aborted: None };
    let walked = Walker::new(Settings::default()).walk(&mut frame, 0..len, &asked);
    walked.into_raw(&frame.into()).expect_err("wide loads would leave the frame");
}

#[test]
fn a_value_over_the_limit_is_a_fault_and_its_neighbours_are_whole() {
    for codec in [Codec::None, Codec::Lz4] {
        let values = ["{}", "a value over the limit", "[]"];
        let row = |(offset, value): (usize, &str)| Row {
            offset: offset as i64,
            value: Some(value.as_bytes().to_vec()),
            ..Row::default()
        };
        let rows: Vec<Row> = values.into_iter().enumerate().map(row).collect();
        let set = Batch::of(0, &rows, codec).write();
        let raw = walk_with(Settings { record_bytes_max: Some(8), ..ALL }, &set, 0, None).raw.expect("records");
        assert_eq!([0, 1, 2].map(|row| raw.fault(row)), [None, Some(RawFault::TooLong(22)), None]);
        assert_eq!((raw.value(1), raw.value(2)), (Some(&b"a value "[..]), Some(&b"[]"[..])));
    }
}

#[test]
fn a_set_is_walked_in_pieces_of_what_may_be_decompressed_at_once() {
    let row = |offset| Row { offset, value: Some(vec![b'x'; 1_000]), ..Row::default() };
    let set: Vec<u8> = (0..10).flat_map(|offset| Batch::of(offset, &[row(offset)], Codec::Zstd).write()).collect();
    let settings = Settings { piece_bytes_max: 2_500, ..ALL };
    let pieces = walk_pieces(settings, &set, 1, None);
    let ends: Vec<_> = pieces.iter().map(|piece| (piece.next_offset, piece.end.clone())).collect();
    assert_eq!(ends, [(4, End::Full), (7, End::Full), (10, End::Whole)]);
    assert_eq!(
        pieces.iter().flat_map(|piece| &piece.rows).map(|row| row.offset).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    let counts: Vec<_> = pieces.iter().map(|piece| (piece.counts.batches, piece.counts.refetched_records)).collect();
    assert_eq!(counts, [(4, 1), (3, 0), (3, 0)]);
}
