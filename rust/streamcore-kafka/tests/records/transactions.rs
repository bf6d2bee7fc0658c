//! Of transactions one among another, whole and cut, exactly the records of those that were not aborted are handed out, as a naive
//! reading of the whole log says.

use crate::encoder::{Batch, CODECS, Codec, Row, TRANSACTIONAL};
use crate::walked::{ALL, walk_pieces, walk_with};
use proptest::collection::vec;
use proptest::prelude::*;
use streamcore_kafka::aborted::AbortedTransaction;
use streamcore_kafka::records::{Counts, End, Settings};

const PRODUCERS: i64 = 4;

/// What comes next in the log.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// So many records of a producer in a transaction.
    Write { producer_id: i64, count: i64 },
    /// Of a producer with an id, outside any.
    Idempotent { producer_id: i64, count: i64 },
    /// Of one without.
    Plain { count: i64 },
    /// The end of a transaction, if one is open.
    End { producer_id: i64, commit: bool },
}

fn event() -> impl Strategy<Value = Event> {
    let (producer_id, count) = (0..PRODUCERS, 1..4_i64);
    prop_oneof![
        5 => (producer_id.clone(), count.clone()).prop_map(|(producer_id, count)| Event::Write { producer_id, count }),
        // An idempotent producer has an id of its own: ids of transactions have no other records while one is open.
        1 => count.clone().prop_map(|count| Event::Idempotent { producer_id: PRODUCERS, count }),
        1 => count.prop_map(|count| Event::Plain { count }),
        3 => (producer_id, any::<bool>()).prop_map(|(producer_id, commit)| Event::End { producer_id, commit }),
    ]
}

/// A log, its batches, and which of its records belong to what was aborted.
#[derive(Debug, Default)]
struct Log {
    batches: Vec<Batch>,
    records: Vec<(Row, bool)>,
    /// Those that were aborted, and the offsets of their markers.
    aborted: Vec<(AbortedTransaction, i64)>,
    next: i64,
}

impl Log {
    fn of(events: &[Event], codec: Codec) -> Self {
        let mut log = Self::default();
        let mut open: [Option<(i64, Vec<usize>)>; PRODUCERS as usize] = Default::default();
        let ends = (0..PRODUCERS).map(|producer_id| Event::End { producer_id, commit: producer_id % 2 == 0 });
        for event in events.iter().copied().chain(ends) {
            match event {
                Event::Write { producer_id, count } => {
                    let first = log.next;
                    let written = log.write(count, producer_id, TRANSACTIONAL, codec);
                    open[producer_id as usize].get_or_insert_with(|| (first, Vec::new())).1.extend(written);
                }
                Event::Idempotent { producer_id, count } => drop(log.write(count, producer_id, 0, codec)),
                Event::Plain { count } => drop(log.write(count, -1, 0, codec)),
                Event::End { producer_id, commit } => {
                    let Some((first_offset, records)) = open[producer_id as usize].take() else { continue };
                    log.batches.push(Batch::marker(log.next, producer_id, commit));
                    if !commit {
                        records.iter().for_each(|place| log.records[*place].1 = true);
                        log.aborted.push((AbortedTransaction { producer_id, first_offset }, log.next));
                    }
                    log.next += 1;
                }
            }
        }
        log
    }

    fn write(&mut self, count: i64, producer_id: i64, flags: u16, codec: Codec) -> std::ops::Range<usize> {
        let row = |offset: i64| Row { offset, time_ms: Some(offset), value: Some(vec![b'v'; 5]), ..Row::default() };
        let rows: Vec<Row> = (self.next..self.next + count).map(row).collect();
        self.batches.push(Batch { flags, producer_id, ..Batch::of(self.next, &rows, codec) });
        let first = self.records.len();
        self.next += count;
        self.records.extend(rows.into_iter().map(|row| (row, false)));
        first..self.records.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn exactly_what_was_not_aborted_is_handed_out(
        events in vec(event(), 0..24),
        codec in prop::sample::select(vec![Codec::None, Codec::None, Codec::Lz4]),
        from in any::<prop::sample::Index>(),
        until in any::<prop::sample::Index>(),
        order in any::<bool>(),
        piece_bytes_max in any::<prop::sample::Index>(),
    ) {
        let log = Log::of(&events, codec);
        // As brokers do: from the batch with the wanted offset on, up to the end of some batch.
        let offset = from.index(log.next as usize + 1) as i64;
        let first = log.batches.iter().position(|batch| batch.last_offset >= offset).unwrap_or(log.batches.len());
        let taken = &log.batches[first..][..until.index(log.batches.len() - first + 1)];
        let end = taken.last().map_or(offset, |batch| batch.last_offset + 1);
        let overlaps = |(transaction, marker): &&(AbortedTransaction, i64)| *marker >= offset && transaction.first_offset < end;
        let mut listed: Vec<AbortedTransaction> = log.aborted.iter().filter(overlaps).map(|(listed, _)| *listed).collect();
        if order {
            listed.reverse();
        }
        let set: Vec<u8> = taken.iter().flat_map(Batch::write).collect();
        let read = |aborted: Option<&[AbortedTransaction]>| walk_with(ALL, &set, offset, aborted);
        let within = |row: &Row| (offset..end).contains(&row.offset);
        let expected = |all: bool| -> Vec<Row> {
            log.records.iter().filter(|(row, aborted)| within(row) && (all || !aborted)).map(|(row, _)| row.clone()).collect()
        };
        let committed = read(Some(&listed));
        prop_assert_eq!(&committed.rows, &expected(false));
        prop_assert_eq!((committed.next_offset, &committed.end), (end, &End::Whole));
        let markers = taken.iter().filter(|batch| batch.flags != 0 && batch.flags != TRANSACTIONAL).count() as u64;
        prop_assert_eq!(committed.counts.control_batches, markers);
        // A record takes some fourteen bytes.
        let settings = Settings { piece_bytes_max: 1 + piece_bytes_max.index(60), ..ALL };
        let pieces = walk_pieces(settings, &set, offset, Some(&listed));
        let rows: Vec<Row> = pieces.iter().flat_map(|piece| piece.rows.clone()).collect();
        prop_assert_eq!((&rows, pieces.last().map(|last| last.next_offset)), (&committed.rows, Some(end)));
        let total = |count: fn(&Counts) -> u64| pieces.iter().map(|piece| count(&piece.counts)).sum::<u64>();
        prop_assert_eq!(total(|counts| counts.aborted_records), committed.counts.aborted_records);
        prop_assert_eq!(total(|counts| counts.batches), committed.counts.batches);
        let uncommitted = read(None);
        prop_assert_eq!((&uncommitted.rows, uncommitted.next_offset), (&expected(true), end));
        prop_assert_eq!(uncommitted.counts.aborted_records, 0);
        // A batch of an aborted transaction counts whole, though its first records may be in front of the wanted offset.
        let gone = (uncommitted.rows.len() - committed.rows.len()) as u64;
        prop_assert!((gone..gone + 3).contains(&committed.counts.aborted_records));
    }
}

#[test]
fn what_follows_the_marker_of_an_abort_is_another_transaction() {
    let row = |offset| Row { offset, time_ms: Some(1), value: Some(b"{}".to_vec()), ..Row::default() };
    for codec in CODECS {
        let write = |offset| Batch { producer_id: 9, flags: TRANSACTIONAL, ..Batch::of(offset, &[row(offset)], codec) };
        // The marker of the abort is compressed, which no broker does and every consumer reads.
        let marker = Batch { codec, ..Batch::marker(11, 9, false) };
        let batches = [write(10), marker, write(12), Batch::marker(13, 9, true)];
        let set: Vec<u8> = batches.iter().flat_map(Batch::write).collect();
        // Begun before what was fetched.
        let listed = [AbortedTransaction { producer_id: 9, first_offset: 2 }];
        let walked = walk_with(ALL, &set, 10, Some(&listed));
        assert_eq!((walked.rows, walked.next_offset), (vec![row(12)], 14), "{codec:?}");
        assert_eq!((walked.counts.aborted_records, walked.counts.control_batches), (1, 2));
    }
}

#[test]
fn what_an_aborting_producer_writes_outside_its_transaction_is_handed_out() {
    let row = Row { offset: 4, time_ms: Some(1), value: Some(b"{}".to_vec()), ..Row::default() };
    let batch = Batch { producer_id: 9, ..Batch::of(4, std::slice::from_ref(&row), Codec::None) };
    let listed = [AbortedTransaction { producer_id: 9, first_offset: 2 }];
    let read = |batch: &Batch| walk_with(ALL, &batch.write(), 0, Some(&listed)).rows;
    assert_eq!(read(&batch), [row]);
    assert_eq!(read(&Batch { flags: TRANSACTIONAL, ..batch }), []);
}

#[test]
fn a_marker_that_says_nothing_is_refused_and_an_empty_one_is_none() {
    let marker = Batch::marker(3, 9, false);
    let empty = Batch { body: Vec::new(), count: 0, ..marker.clone() };
    let silent = Batch { body: vec![12, 0, 0, 0, 1, 1, 0], ..marker };
    let listed = Some(&[][..]);
    let walked = walk_with(ALL, &empty.write(), 0, listed);
    assert_eq!((walked.end, walked.next_offset), (End::Whole, 4));
    let End::Refused(error) = walk_with(ALL, &silent.write(), 0, listed).end else { panic!("it was taken") };
    assert_eq!(
        error.to_string(),
        "the batch of clicks [3] at offset 3 should say how a transaction ended and does not"
    );
}
