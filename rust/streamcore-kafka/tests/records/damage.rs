//! What is damaged, forged or of another age is refused by name, and nothing of it is handed out.

use crate::encoder::{Batch, CODECS, Codec, Row, forge_checksum, varint, write_record};
use crate::walked::{ALL, Outcome, walk, walk_with};
use proptest::collection::vec;
use proptest::prelude::*;
use streamcore_kafka::error::{Fault, RecordFault};
use streamcore_kafka::records::{End, Settings};

fn rows(offsets: std::ops::Range<i64>) -> Vec<Row> {
    let row = |offset| Row {
        offset,
        time_ms: Some(1_000 + offset),
        key: Some(b"key".to_vec()),
        value: Some(format!("{{\"number\":{offset}}}").into_bytes()),
        headers: vec![("h".into(), Some(b"v".to_vec()))],
    };
    offsets.map(row).collect()
}

/// The fault of a walk that ended at a batch of this offset.
fn fault_at(walked: &Outcome, offset: i64) -> &Fault {
    match &walked.end {
        End::Refused(error) if error.offset == offset && (&*error.topic, error.partition) == ("clicks", 3) => {
            &error.fault
        }
        end => panic!("it ended otherwise: {end:?}"),
    }
}

fn fault_of(batch: &Batch) -> Fault {
    let walked = walk(&batch.write(), 0);
    assert_eq!((walked.rows.len(), walked.next_offset), (0, 0), "nothing is handed out");
    fault_at(&walked, batch.base_offset).clone()
}

/// A flipped bit of the second batch is found, but in what brokers write anew, which no checksum covers: its offset and the
/// leader's epoch.
#[test]
fn a_flipped_bit_is_found_wherever_a_checksum_is() {
    for codec in CODECS {
        let parts =
            [Batch::of(0, &rows(0..3), codec), Batch::of(3, &rows(3..6), codec), Batch::of(6, &rows(6..8), codec)];
        let [before, flipped, after] = parts.map(|batch| batch.write());
        for (at, bit) in (0..flipped.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = flipped.clone();
            flipped[at] ^= 1 << bit;
            let base = i64::from_be_bytes(*flipped.first_chunk().expect("a head"));
            let walked = walk(&[&before[..], &flipped, &after].concat(), 0);
            let place = format!("{codec:?}: bit {bit} of byte {at}");
            assert!(walked.rows.starts_with(&rows(0..3)), "{place}");
            let values = |rows: &[Row]| rows.iter().map(|row| row.value.clone()).collect::<Vec<_>>();
            match (at, &walked.end) {
                (0..8, End::Whole) => assert_eq!(values(&walked.rows), values(&rows(0..8)), "{place}"),
                (0..8, _) if base > 3 => assert!(matches!(fault_at(&walked, 6), Fault::NotBehind { .. }), "{place}"),
                (0..8, _) => assert!(
                    matches!(fault_at(&walked, base), Fault::NotBehind { .. } | Fault::Offsets { .. }),
                    "{place}"
                ),
                (8..12, End::Cut { bytes }) => assert!(*bytes > flipped.len() + after.len(), "{place}"),
                (8..12, _) => {
                    assert!(matches!(fault_at(&walked, 3), Fault::Checksum { .. } | Fault::Length { .. }), "{place}");
                }
                (12..16, _) => assert_eq!((&walked.rows, &walked.end), (&rows(0..8), &End::Whole), "{place}"),
                (16, _) => assert!(
                    matches!(fault_at(&walked, 3), Fault::OldFormat { .. } | Fault::NewFormat { .. }),
                    "{place}"
                ),
                _ => assert!(matches!(fault_at(&walked, 3), Fault::Checksum { .. }), "{place}"),
            }
            if at >= 16 {
                assert_eq!((walked.rows.len(), walked.next_offset), (3, 3), "{place}");
            }
        }
    }
}

#[test]
fn old_formats_are_named() {
    for magic in [0, 1] {
        let error = match walk(&Batch { magic, ..Batch::of(7, &rows(7..8), Codec::None) }.write(), 0).end {
            End::Refused(error) => error.to_string(),
            end => panic!("{end:?}"),
        };
        let start =
            format!("the batch of clicks [3] at offset 7 is of message format {magic}, which Kafka 0.11 replaced");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn heads_that_cannot_be_are_refused() {
    let batch = || Batch::of(5, &rows(5..7), Codec::None);
    assert_eq!(fault_of(&Batch { last_offset: 3, ..batch() }), Fault::Offsets { last_delta: -2 });
    assert_eq!(
        fault_of(&Batch { base_offset: i64::MAX - 1, last_offset: i64::MAX, ..batch() }),
        Fault::Offsets { last_delta: 1 }
    );
    assert_eq!(fault_of(&Batch { base_offset: -2, last_offset: -1, ..batch() }), Fault::Offsets { last_delta: 1 });
    assert!(matches!(fault_of(&Batch { count: -1, ..batch() }), Fault::Count { count: -1, .. }));
    assert!(matches!(fault_of(&Batch { count: i32::MAX, ..batch() }), Fault::Count { count: i32::MAX, .. }));
    assert!(matches!(fault_of(&Batch { count: 1, ..batch() }), Fault::Left { .. }));
    let mut longer = batch();
    longer.body.push(0);
    assert_eq!(fault_of(&longer), Fault::Left { bytes: 1 });
    assert_eq!(fault_of(&Batch { count: 3, ..batch() }), Fault::Record { number: 3, fault: RecordFault::Cut });
    let beyond = Batch { last_offset: 5, ..batch() };
    assert_eq!(fault_of(&beyond), Fault::Record { number: 2, fault: RecordFault::Offset });
    assert_eq!(fault_of(&Batch { flags: 6, ..batch() }), Fault::Codec { codec: 6 });
    for codec in [1, 2, 3, 4] {
        assert!(matches!(fault_of(&Batch { flags: codec, ..batch() }), Fault::Packed { .. }), "codec {codec}");
    }
}

#[test]
fn records_that_cannot_be_are_refused() {
    let row = Row { value: Some(b"{}".to_vec()), ..Row::default() };
    let fault = |deltas: &[(i64, i64)], base_time_ms| {
        let mut batch =
            Batch { last_offset: 9, count: deltas.len() as i32, base_time_ms, ..Batch::of(0, &[], Codec::None) };
        for (time_delta_ms, offset_delta) in deltas {
            write_record(&mut batch.body, &row, *time_delta_ms, *offset_delta);
        }
        fault_of(&batch)
    };
    assert_eq!(fault(&[(0, 1), (0, 1)], 0), Fault::Record { number: 2, fault: RecordFault::Offset });
    assert_eq!(fault(&[(0, -1)], 0), Fault::Record { number: 1, fault: RecordFault::Offset });
    assert_eq!(fault(&[(0, 1 << 31)], 0), Fault::Record { number: 1, fault: RecordFault::Length });
    assert_eq!(fault(&[(0, 0), (1, 1)], i64::MAX), Fault::Record { number: 2, fault: RecordFault::Time });
    assert_eq!(fault(&[(i64::MIN, 0)], -1), Fault::Record { number: 1, fault: RecordFault::Time });
}

#[test]
fn a_batch_behind_its_own_successor_is_refused() {
    let set = [Batch::of(4, &rows(4..6), Codec::None).write(), Batch::of(5, &rows(5..7), Codec::None).write()].concat();
    let walked = walk(&set, 0);
    assert_eq!((&walked.rows, walked.next_offset), (&rows(4..6), 6));
    assert_eq!(fault_at(&walked, 5), &Fault::NotBehind { last_offset: 5 });
}

/// A million zeros are a thousand bytes, or fewer.
#[test]
fn a_batch_that_grows_beyond_its_limit_is_refused() {
    let row = Row { value: Some(vec![0; 1 << 20]), ..Row::default() };
    // What is not compressed was fetched as it is: nothing grows.
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::None) {
        let set = [Batch::of(0, &rows(0..2), codec), Batch::of(2, &[Row { offset: 2, ..row.clone() }], codec)];
        let set: Vec<u8> = set.iter().flat_map(Batch::write).collect();
        let walked = walk_with(Settings { batch_bytes_max: 100_000, ..ALL }, &set, 0, None);
        assert_eq!(walked.rows, rows(0..2));
        assert_eq!(fault_at(&walked, 2), &Fault::TooLarge { bytes_max: 100_000 }, "{codec:?}");
        let held = walked.raw.expect("records of the first").byte_len();
        assert!(held < 1_000, "{codec:?}: {held} bytes are held");
    }
}

/// Bytes of one batch, and what some of them are changed to.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (prop::sample::select(CODECS.to_vec()), changes, any::<bool>()).prop_map(|(codec, changes, packed)| {
        let mut batch = Batch::of(0, &rows(0..4), codec);
        if packed {
            for (at, byte) in &changes {
                let at = at.index(batch.body.len());
                batch.body[at] = *byte;
            }
            return batch.write();
        }
        let mut bytes = batch.write();
        for (at, byte) in changes {
            let at = 21 + at.index(bytes.len() - 21);
            bytes[at] = byte;
        }
        forge_checksum(&mut bytes);
        bytes
    })
}

proptest! {
    /// The outcome itself is held to what is always so, in `walk`.
    #[test]
    fn a_forged_batch_is_handed_out_whole_or_not_at_all(bytes in changed(), offset in 0..6_i64) {
        let set = [&Batch::of(0, &[], Codec::None).write()[..], &bytes].concat();
        for set in [&bytes[..], &set] {
            let walked = walk(set, offset);
            if let End::Refused(error) = &walked.end {
                prop_assert!(walked.rows.is_empty());
                prop_assert!(error.to_string().starts_with("the batch of clicks [3] at offset 0 "));
            }
        }
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(set in vec(any::<u8>(), 0..200), offset in any::<i64>()) {
        let offset = offset.max(0);
        let walked = walk(&set, offset);
        prop_assert!(walked.rows.is_empty());
        prop_assert_eq!(walked.next_offset, offset);
    }
}

#[test]
fn numbers_of_eleven_bytes_are_no_lengths() {
    let mut batch = Batch { count: 1, ..Batch::of(0, &[], Codec::None) };
    batch.body = vec![0xff; 11];
    assert_eq!(fault_of(&batch), Fault::Record { number: 1, fault: RecordFault::Cut });
    batch.body.clear();
    varint(&mut batch.body, -5);
    batch.body.extend_from_slice(&[0; 9]);
    assert_eq!(fault_of(&batch), Fault::Record { number: 1, fault: RecordFault::Length });
}
