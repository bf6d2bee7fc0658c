//! What the owner does while records are on their way: pause, seek, revoke, stop; and how much is queued at most.

use super::*;
use streamcore::raw::RawBatch;

#[test]
fn what_is_paused_is_kept_and_comes_once_it_goes_on() {
    let model = Model::start(1, 2);
    model.append(0, 3);
    model.append(1, 3);
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0), from(1, 0)]);
    until(|| fetcher.progress().values().all(|progress| progress.queued_bytes > 0));
    fetcher.pause(&[at(0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 1, 3);
    model.append(0, 2);
    model.append(1, 1);
    reader.until_next(&fetcher, 1, 4);
    assert!(reader.of(0).is_empty());
    assert_eq!(fetcher.progress()[&at(0)].silent_for, None);
    fetcher.resume(&[at(0)]);
    reader.until_next(&fetcher, 0, 5);
    assert_eq!(reader.of(0), upto(5));
}

#[test]
fn nothing_of_an_assignment_that_is_over_is_handed_out() {
    let model = Model::start(1, 2);
    (0..2).for_each(|partition| model.append(partition, 4));
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0), from(1, 0)]);
    until(|| fetcher.progress().values().all(|progress| progress.queued_bytes > 0));
    assert!(fetcher.seek(&at(0), 3));
    fetcher.revoke(&[at(1)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 4);
    assert_eq!((reader.of(0), reader.of(1)), (&[3][..], &[][..]));
    assert!(!fetcher.seek(&at(1), 0));
    fetcher.assign(&[from(1, 2)]);
    reader.until_next(&fetcher, 1, 4);
    assert_eq!(reader.of(1), [2, 3]);
}

#[test]
fn what_is_under_way_at_a_seek_is_dropped() {
    let model = Model::start(1, 1);
    model.append(0, 4);
    let fetcher = Arc::new(fetcher(&model, quick()));
    let seeker = Arc::downgrade(&fetcher);
    let mut is_first = true;
    // The answer has left the log, and is not with us yet.
    model.hook(move |_, bytes| {
        if std::mem::take(&mut is_first) {
            let fetcher = seeker.upgrade().expect("in use");
            assert!(fetcher.seek(&at(0), 2));
        }
        crate::scripted::Reply::Say(bytes)
    });
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 4);
    assert_eq!(reader.of(0), [2, 3]);
}

#[test]
fn records_from_the_stop_on_are_not_handed_out() {
    let model = Model::start(1, 2);
    for partition in 0..2 {
        model.append(partition, 5);
        model.append(partition, 5);
    }
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[Assignment { stop: Some(7), ..from(0, 0) }, Assignment { stop: Some(5), ..from(1, 1) }]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 7);
    reader.until_next(&fetcher, 1, 5);
    model.append(0, 5);
    assert!(!reader.take(&fetcher, Duration::from_millis(150)));
    assert_eq!((reader.of(0), reader.of(1)), (&upto(7)[..], &upto(5)[1..]));
    assert_eq!(fetcher.progress()[&at(0)].silent_for, None, "nothing is wanted");
}

#[test]
fn the_queue_is_bounded_and_one_partition_does_not_fill_it_for_others() {
    let model = Model::start(2, 4);
    let kind = Kind { value_bytes: 1_000, ..Kind::default() };
    // A megabyte of the first, and little of the others.
    (0..100).for_each(|_| model.append_as(0, 10, kind));
    (1..4).for_each(|partition| model.append_as(partition, 10, kind));
    let queued_bytes_max = 200_000;
    let settings = Settings { queued_bytes_max, partition_bytes_max: 30_000, ..quick() };
    let fetcher = fetcher(&model, settings);
    fetcher.assign(&(0..4).map(|partition| from(partition, 0)).collect::<Vec<_>>());
    let queued = || fetcher.progress().values().map(|progress| progress.queued_bytes).sum::<usize>();
    until(|| fetcher.progress().values().all(|progress| progress.queued_bytes > 0));
    std::thread::sleep(Duration::from_millis(300));
    assert!(queued() <= queued_bytes_max, "{}", queued());
    assert!(fetcher.progress()[&at(0)].queued_bytes <= 2 * queued_bytes_max / 4);
    let requests = model.seen().len();
    std::thread::sleep(Duration::from_millis(300));
    assert!(model.seen().len() - requests < 200, "a full queue asks for little");
    let mut reader = Reader::default();
    let limits = Limits { records_max: 15, bytes_max: 25_000 };
    while reader.next.get(&0) != Some(&1_000) {
        let taken = fetcher.take(LONG, limits);
        assert!(taken.batches.iter().map(RawBatch::byte_len).sum::<usize>() <= 25_000 || taken.batches.len() == 1);
        reader.add(taken);
        assert!(queued() <= queued_bytes_max, "{}", queued());
    }
    assert_eq!(reader.of(0), upto(1_000));
    (1..4).for_each(|partition| assert_eq!(reader.of(partition), upto(10)));
}

#[test]
fn what_is_decompressed_waits_for_room_too() {
    let model = Model::start(1, 1);
    let compression = kafka_protocol::records::Compression::Zstd;
    (0..40).for_each(|_| model.append_as(0, 100, Kind { compression, value_bytes: 1_000, ..Kind::default() }));
    let queued_bytes_max = 400_000;
    let fetcher = fetcher(&model, Settings { queued_bytes_max, ..quick() });
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    while reader.next.get(&0) != Some(&4_000) {
        reader.add(fetcher.take(LONG, Limits { records_max: 1, ..Limits::default() }));
        let queued = fetcher.progress()[&at(0)].queued_bytes;
        // What was begun when there was room: a quarter of the queue, and the batch that went beyond it.
        assert!(queued <= queued_bytes_max + queued_bytes_max / 4 + 120_000, "{queued}");
    }
    assert_eq!(reader.of(0), upto(4_000));
    assert_eq!((reader.counts.records, reader.counts.batches, reader.counts.refetched_records), (4_000, 40, 0));
    let mut asked: Vec<_> = model.seen().into_iter().flat_map(|seen| seen.asked).collect();
    // Once with the epoch of the last record, which is known behind the walk.
    asked.dedup();
    assert_eq!(asked, [(0, 0), (0, 4_000)], "one answer is walked piece by piece");
}

/// Batches of 100 kB which take a hundredth of that in an answer.
const DENSE: Kind =
    Kind { producer: None, control: None, compression: kafka_protocol::records::Compression::Zstd, value_bytes: 1_000 };

#[test]
fn partitions_of_an_answer_come_in_turn_however_much_the_first_has_once_it_is_decompressed() {
    let model = Model::start(1, 3);
    (0..40).for_each(|_| model.append_as(0, 100, DENSE));
    model.append_as(1, 100, DENSE);
    model.append(2, 3);
    let fetcher = fetcher(&model, Settings { queued_bytes_max: 400_000, ..quick() });
    fetcher.assign(&[from(0, 0), from(1, 0), from(2, 0)]);
    let mut reader = Reader::default();
    while reader.next.get(&1) != Some(&100) {
        assert!(reader.add(fetcher.take(LONG, Limits { records_max: 10, ..Limits::default() })), "{reader:?}");
    }
    assert_eq!(model.seen()[0].asked, [(0, 0), (1, 0), (2, 0)]);
    assert!(reader.of(0).len() < 2_000, "{} records of the first came before", reader.of(0).len());
    reader.until_next(&fetcher, 0, 4_000);
    assert_eq!((reader.of(0), reader.of(1), reader.of(2)), (&upto(4_000)[..], &upto(100)[..], &upto(3)[..]));
}

#[test]
fn what_is_new_of_one_partition_does_not_wait_for_the_backlog_of_another() {
    let model = Model::start(1, 2);
    (0..1_500).for_each(|_| model.append_as(0, 100, DENSE));
    let queued_bytes_max = 4_000_000;
    let fetcher = fetcher(&model, Settings { queued_bytes_max, partition_bytes_max: 500_000, ..quick() });
    fetcher.assign(&[from(0, 0), from(1, 0)]);
    let mut reader = Reader::default();
    let mut take_until = |is_done: &dyn Fn(&Reader) -> bool| {
        while !is_done(&reader) {
            assert!(
                reader.add(fetcher.take(LONG, Limits { records_max: 50, ..Limits::default() })),
                "nothing comes: {:?}",
                fetcher.progress()
            );
        }
        reader.next[&0]
    };
    // By then it is known how far that is compressed.
    let begun = take_until(&|reader| reader.next.get(&0).is_some_and(|next| *next >= 100_000));
    model.append(1, 1);
    let seen = take_until(&|reader| reader.next.get(&1) == Some(&1));
    let taken_bytes = (seen - begun) * 1_000;
    // What is queued, what arrived, and what was under way; as they come an answer has 70 million.
    assert!(taken_bytes <= 3 * queued_bytes_max as i64, "{taken_bytes} bytes of the other came first");
}

#[test]
fn a_batch_larger_than_a_fetch_comes_all_the_same() {
    let model = Model::start(1, 2);
    for partition in 0..2 {
        model.append(partition, 1);
        model.append_as(partition, 20, Kind { value_bytes: 5_000, ..Kind::default() });
        model.append(partition, 1);
    }
    let settings = Settings { partition_bytes_max: 1_000, ..quick() };
    let large = fetcher(&model, settings);
    large.assign(&[from(0, 0), from(1, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&large, 0, 22);
    reader.until_next(&large, 1, 22);
    assert_eq!((reader.of(0), reader.of(1)), (&upto(22)[..], &upto(22)[..]));
}

#[test]
fn a_batch_beyond_all_bounds_is_a_trouble() {
    let model = Model::start(1, 1);
    model.append(0, 2);
    model.append_as(0, 20, Kind { value_bytes: 5_000, ..Kind::default() });
    // A broker that cuts, as one of before Kafka 0.10.1 does: here, the bytes of the answer's end.
    model.hook(|_, mut bytes| {
        cut_records(&mut bytes);
        crate::scripted::Reply::Say(bytes)
    });
    model.world().fetch_version_max = 4;
    let fetcher = fetcher(&model, Settings { batch_bytes_max: 50_000, ..quick() });
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    let trouble = reader.until_trouble(&fetcher);
    assert!(
        matches!(trouble.fault, TroubleFault::TooLarge { offset: 2, bytes: 100_000.., bytes_max: 50_000 }),
        "{trouble}"
    );
    assert_eq!(reader.of(0), [0, 1]);
    assert_eq!(fetcher.progress()[&at(0)].silent_for, None);
}

#[test]
fn a_take_has_one_piece_of_each_partition_and_no_more_records_than_wanted() {
    let model = Model::start(1, 2);
    for partition in 0..2 {
        (0..3).for_each(|_| model.append(partition, 10));
    }
    // An answer has a batch of each: what is queued has several pieces.
    let fetcher = fetcher(&model, Settings { partition_bytes_max: 1, ..quick() });
    fetcher.assign(&[from(0, 0), from(1, 0)]);
    let mut reader = Reader::default();
    let limits = Limits { records_max: 7, ..Limits::default() };
    while reader.next.values().sum::<i64>() < 60 {
        let taken = fetcher.take(LONG, limits);
        assert!(!taken.is_empty());
        assert!(taken.batches.iter().map(RawBatch::len).sum::<usize>() <= 7);
        let lanes: Vec<_> = taken.batches.iter().map(|batch| batch.lane).collect();
        assert!(lanes.len() < 2 || lanes[0] != lanes[1]);
        for moved in &taken.moved {
            let last = taken.batches.iter().rfind(|batch| batch.lane == moved.place.partition).expect("records");
            assert_eq!(last.offset(last.len() - 1) + 1, moved.next_offset);
        }
        reader.add(taken);
    }
    assert_eq!((reader.of(0), reader.of(1)), (&upto(30)[..], &upto(30)[..]));
    assert_eq!((reader.counts.records, reader.counts.batches), (60, 6));
    assert_eq!(fetcher.progress()[&at(0)].queued_bytes, 0);
}

#[test]
fn a_stop_that_is_told_later_holds_for_what_is_queued_too() {
    let model = Model::start(1, 1);
    model.append(0, 10);
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[Assignment { is_paused: true, ..from(0, 2) }]);
    std::thread::sleep(Duration::from_millis(150));
    assert!(fetcher.take(Duration::ZERO, Limits::default()).is_empty(), "it waits until it is resumed");
    fetcher.resume(&[at(0)]);
    until(|| fetcher.progress()[&at(0)].queued_bytes > 0);
    assert!(fetcher.progress()[&at(0)].answered_for.is_some_and(|age| age < LONG));
    assert!(fetcher.stop_at(&at(0), Some(6)));
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 6);
    assert!(!reader.take(&fetcher, Duration::from_millis(150)));
    assert!(fetcher.stop_at(&at(0), None));
    reader.until_next(&fetcher, 0, 10);
    assert_eq!(reader.of(0), &upto(10)[2..]);
    assert!(!fetcher.stop_at(&at(1), Some(6)));
}

/// Leaves 20 kB of the only record set, of an answer in version 4.
fn cut_records(bytes: &mut Vec<u8>) {
    // Length, number, throttle, topics, name, partitions; index, error, two offsets, aborted: none.
    let length_at = 4 + 4 + 4 + 4 + 2 + TOPIC.len() + 4 + 4 + 2 + 8 + 8 + 4;
    if bytes.len() > 20_000 {
        bytes.truncate(20_000);
        let records = (bytes.len() - length_at - 4) as i32;
        bytes[length_at..length_at + 4].copy_from_slice(&records.to_be_bytes());
        let frame = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&frame.to_be_bytes());
    }
}
