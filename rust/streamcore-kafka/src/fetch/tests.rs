//! The fetcher against brokers that have logs: what is handed out, once and in order, whatever happens on the way.

mod chaos;
mod faults;
mod flow;
mod model;

use super::*;
use crate::connection::Dialer;
use kafka_protocol::ResponseError;
use model::{Kind, Model, TOPIC};
use std::time::Instant;

/// What a test waits for at most.
const LONG: Duration = Duration::from_secs(20);

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

fn from(partition: i32, offset: i64) -> Assignment {
    Assignment::new(at(partition), offset)
}

fn quick() -> Settings {
    Settings { wait_max: Duration::from_millis(100), ..Settings::default() }
}

fn fetcher(model: &Model, settings: Settings) -> Fetcher {
    Fetcher::new(Dialer::new(model.config()).expect("settings"), settings).expect("a thread")
}

/// What was taken so far.
#[derive(Debug, Default)]
struct Reader {
    offsets: BTreeMap<i32, Vec<i64>>,
    next: BTreeMap<i32, i64>,
    troubles: Vec<Trouble>,
    counts: records::Counts,
}

impl Reader {
    fn take(&mut self, fetcher: &Fetcher, timeout: Duration) -> bool {
        self.add(fetcher.take(timeout, Limits::default()))
    }

    fn add(&mut self, taken: Taken) -> bool {
        let is_some = !taken.is_empty();
        for batch in &taken.batches {
            let offsets = self.offsets.entry(batch.lane).or_default();
            for row in 0..batch.len() {
                let (offset, value) = (batch.offset(row), batch.value(row).expect("a value"));
                assert_eq!(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()), Some(offset));
                offsets.push(offset);
            }
        }
        for moved in taken.moved {
            self.next.insert(moved.place.partition, moved.next_offset);
        }
        partitions::add(&mut self.counts, &taken.counts);
        self.troubles.extend(taken.troubles);
        is_some
    }

    /// Takes until `is_done`.
    fn until(&mut self, fetcher: &Fetcher, is_done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_done(self) {
            assert!(Instant::now() < deadline, "{self:?} {:?}", fetcher.progress());
            self.take(fetcher, Duration::from_millis(50));
        }
    }

    fn until_next(&mut self, fetcher: &Fetcher, partition: i32, next_offset: i64) {
        self.until(fetcher, |reader| reader.next.get(&partition) == Some(&next_offset));
    }

    fn until_trouble(&mut self, fetcher: &Fetcher) -> Trouble {
        self.until(fetcher, |reader| !reader.troubles.is_empty());
        self.troubles.remove(0)
    }

    fn of(&self, partition: i32) -> &[i64] {
        self.offsets.get(&partition).map_or(&[], Vec::as_slice)
    }
}

fn upto(end: i64) -> Vec<i64> {
    (0..end).collect()
}

fn until(is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_done() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn all_records_come_once_and_in_order_from_all_brokers() {
    let model = Model::start(3, 7);
    for partition in 0..7 {
        for count in [1, 5, 2] {
            model.append(partition, count);
        }
    }
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&(0..7).map(|partition| from(partition, i64::from(partition))).collect::<Vec<_>>());
    let mut reader = Reader::default();
    reader.until(&fetcher, |reader| reader.next.len() == 7 && reader.next.values().all(|next| *next == 8));
    model.append(4, 3);
    reader.until_next(&fetcher, 4, 11);
    for partition in 0..7_i32 {
        let end = if partition == 4 { 11 } else { 8 };
        assert_eq!(reader.of(partition), (i64::from(partition)..end).collect::<Vec<_>>());
    }
    let progress = &fetcher.progress()[&at(4)];
    assert_eq!((progress.next_offset, progress.high_watermark, progress.log_start), (11, Some(11), Some(0)));
    assert!(progress.silent_for.is_some_and(|silent| silent < LONG) && progress.last_failure.is_none());
}

#[test]
fn every_version_and_compression_reads_the_same() {
    use kafka_protocol::records::Compression;
    for version in 4..=18 {
        let model = Model::start(1, 2);
        model.world().fetch_version_max = version;
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            model.append_as(0, 20, Kind { compression, ..Kind::default() });
            model.append_as(1, 2, Kind { compression, ..Kind::default() });
        }
        let fetcher = fetcher(&model, quick());
        fetcher.assign(&[from(0, 3), from(1, 0)]);
        let mut reader = Reader::default();
        reader.until_next(&fetcher, 0, 60);
        reader.until_next(&fetcher, 1, 6);
        assert_eq!((reader.of(0), reader.of(1)), (&upto(60)[3..], &upto(6)[..]));
        until(|| model.seen().len() > 1);
        let seen = model.seen();
        assert!(seen.iter().all(|seen| seen.version == version));
        assert!(version < 7 || seen[1].session.1 == 1, "{seen:?}");
    }
}

#[test]
fn a_session_says_what_changed_and_forgets_what_is_not_wanted() {
    let model = Model::start(1, 3);
    for partition in 0..3 {
        model.append(partition, 2);
    }
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0), from(1, 0), from(2, 0)]);
    let mut reader = Reader::default();
    for partition in 0..3 {
        reader.until_next(&fetcher, partition, 2);
    }
    until(|| model.seen().len() > 4);
    fetcher.revoke(&[at(1)]);
    until(|| model.seen().iter().any(|seen| seen.forgotten == [1]));
    model.append(2, 1);
    reader.until_next(&fetcher, 2, 3);
    // Of the two that are left, one goes on.
    until(|| model.seen().iter().any(|seen| seen.asked == [(2, 3)]));
    let seen = model.seen();
    assert_eq!((seen[0].session, seen[0].asked.len()), ((0, 0), 3));
    assert!(seen[1..].iter().all(|seen| seen.session.0 == 1), "one session: {seen:?}");
    assert!(seen.iter().any(|seen| seen.asked.is_empty()), "nothing changed, nothing is said");
}

#[test]
fn a_session_that_is_lost_is_begun_anew_and_nothing_is_lost_with_it() {
    let model = Model::start(1, 2);
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0), from(1, 0)]);
    let mut reader = Reader::default();
    let errors = [
        ResponseError::FetchSessionIdNotFound,
        ResponseError::InvalidFetchSessionEpoch,
        ResponseError::FetchSessionTopicIdError,
        ResponseError::InconsistentTopicId,
    ];
    for (end, error) in (1..).zip(errors) {
        model.append(0, 1);
        reader.until_next(&fetcher, 0, end);
        model.world().top_errors.push(error);
        until(|| model.world().top_errors.is_empty());
        let failed_at = model.world().failed_at;
        until(|| model.seen().len() > failed_at);
        let next = model.seen()[failed_at].clone();
        assert_eq!((next.session.1, next.asked.len()), (0, 2), "{error:?}");
        assert_eq!(next.session.0 == 0, error == ResponseError::FetchSessionIdNotFound);
    }
    model.append(1, 5);
    reader.until_next(&fetcher, 1, 5);
    assert_eq!((reader.of(0), reader.of(1)), (&upto(4)[..], &upto(5)[..]));
}

#[test]
fn brokers_without_sessions_are_asked_for_everything() {
    let model = Model::start(1, 3);
    model.world().has_sessions = false;
    (0..3).for_each(|partition| model.append(partition, 1));
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0), from(1, 0), from(2, 0)]);
    let mut reader = Reader::default();
    (0..3).for_each(|partition| reader.until_next(&fetcher, partition, 1));
    model.append(1, 1);
    reader.until_next(&fetcher, 1, 2);
    let after = model.seen().len();
    until(|| model.seen().len() > after + 1);
    let last = model.seen().pop().expect("some");
    assert_eq!((last.session, last.asked.len()), ((0, 0), 3));
    assert_eq!(last.asked.last(), Some(&(1, 2)), "what gave records goes to the end");
}

#[test]
fn aborted_records_and_markers_are_passed_over() {
    let model = Model::start(1, 1);
    let of = |producer, control| Kind { producer: Some(producer), control, ..Kind::default() };
    model.append_as(0, 3, of(7, None));
    model.append_as(0, 2, of(8, None));
    model.append_as(0, 1, of(7, Some(0)));
    model.append_as(0, 1, of(8, Some(1)));
    model.world().logs.get_mut(&0).expect("there").aborted = vec![(7, 0)];
    let committed = fetcher(&model, quick());
    committed.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&committed, 0, 7);
    assert_eq!(reader.of(0), [3, 4]);
    assert_eq!((reader.counts.aborted_records, reader.counts.control_batches), (3, 2));
    let all = fetcher(&model, Settings { isolation: Isolation::Uncommitted, ..quick() });
    all.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&all, 0, 7);
    assert_eq!(reader.of(0), upto(5));
    // Nothing but a marker.
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 5)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 7);
    assert!(reader.of(0).is_empty());
}

#[test]
fn a_wait_ends_by_wake_or_by_what_comes() {
    let model = Model::start(1, 1);
    let fetcher = fetcher(&model, quick());
    let started = Instant::now();
    assert!(fetcher.take(Duration::from_millis(30), Limits::default()).is_empty());
    assert!(started.elapsed() >= Duration::from_millis(30));
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| fetcher.take(LONG, Limits::default()).is_empty());
        fetcher.wake();
        assert!(taken.join().expect("no panic"));
    });
    fetcher.assign(&[from(0, 0)]);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| fetcher.take(LONG, Limits::default()).batches.len());
        model.append(0, 1);
        assert_eq!(taken.join().expect("no panic"), 1);
    });
    assert!(started.elapsed() < LONG / 2);
}
