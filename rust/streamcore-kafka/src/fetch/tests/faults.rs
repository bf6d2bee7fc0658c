//! Brokers that move, hang up, are silent, lie, and lose records.

use super::*;
use crate::scripted::Reply;

#[test]
fn a_leader_that_moved_is_followed() {
    for version in [11, 18] {
        let model = Model::start(2, 2);
        model.world().fetch_version_max = version;
        model.append(0, 3);
        let fetcher = fetcher(&model, quick());
        fetcher.assign(&[from(0, 0), from(1, 0)]);
        let mut reader = Reader::default();
        reader.until_next(&fetcher, 0, 3);
        let before = model.world().metadata_calls;
        {
            let mut world = model.world();
            let log = world.logs.get_mut(&0).expect("there");
            (log.leader, log.epoch) = (1, 2);
        }
        model.append(0, 2);
        reader.until_next(&fetcher, 0, 5);
        assert_eq!(reader.of(0), upto(5));
        assert!(model.seen().iter().any(|seen| seen.broker == 1 && seen.asked.contains(&(0, 3))));
        let looked = model.world().metadata_calls > before;
        assert!(looked || version >= 12, "who leads is told since version 12");
    }
}

#[test]
fn errors_that_pass_are_tried_again_and_seen_in_the_progress() {
    let model = Model::start(1, 1);
    let errors = [
        ResponseError::NotLeaderOrFollower,
        ResponseError::FencedLeaderEpoch,
        ResponseError::UnknownLeaderEpoch,
        ResponseError::UnknownTopicOrPartition,
        ResponseError::UnknownTopicId,
        ResponseError::LeaderNotAvailable,
        ResponseError::ReplicaNotAvailable,
        ResponseError::KafkaStorageError,
        ResponseError::OffsetNotAvailable,
        ResponseError::UnknownServerError,
    ];
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    for (end, error) in (1..).zip(errors) {
        // More than once, so that there is a pause.
        model.world().logs.get_mut(&0).expect("there").errors = vec![error; 3];
        until(|| model.world().logs[&0].errors.is_empty());
        model.append(0, 1);
        reader.until_next(&fetcher, 0, end);
    }
    assert_eq!(reader.of(0), upto(10));
    assert_eq!(fetcher.progress()[&at(0)].last_failure, None);
    model.world().logs.get_mut(&0).expect("there").errors = vec![ResponseError::KafkaStorageError; 10_000];
    until(|| fetcher.progress()[&at(0)].last_failure.is_some());
    let failure = fetcher.progress()[&at(0)].last_failure.clone().expect("one");
    assert!(
        failure.to_string().contains("fetching partition 0 of topic clicks failed: KafkaStorageError"),
        "{failure}"
    );
}

#[test]
fn a_connection_cut_within_an_answer_loses_nothing() {
    let model = Model::start(1, 1);
    (0..30).for_each(|_| model.append(0, 10));
    let mut number = 0;
    model.hook(move |_, bytes| {
        number += 1;
        match number {
            1..40 if number % 2 == 1 => Reply::SayAndClose(bytes[..bytes.len() * number / 40].to_vec()),
            _ => Reply::Say(bytes),
        }
    });
    let settings = Settings { partition_bytes_max: 300, ..quick() };
    let fetcher = fetcher(&model, settings);
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 300);
    assert_eq!(reader.of(0), upto(300));
}

#[test]
fn a_broker_that_never_answers_is_given_up_and_asked_again() {
    let model = Model::start(1, 1);
    model.append(0, 2);
    let mut is_first = true;
    model.hook(move |_, bytes| if std::mem::take(&mut is_first) { Reply::Nothing } else { Reply::Say(bytes) });
    let config = crate::config::Config { request_timeout: Duration::from_millis(200), ..model.config() };
    let fetcher = Fetcher::new(Dialer::new(config).expect("settings"), quick()).expect("a thread");
    fetcher.assign(&[from(0, 0)]);
    until(|| fetcher.progress()[&at(0)].silent_for.is_some_and(|silent| silent > Duration::from_millis(100)));
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 2);
    assert_eq!(reader.of(0), upto(2));
}

#[test]
fn a_broker_that_is_gone_is_waited_for() {
    let model = Model::start(2, 2);
    {
        // Told of with a port where nobody listens.
        let mut world = model.world();
        world.listed = vec![0];
    }
    model.append(1, 2);
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(1, 0)]);
    until(|| fetcher.progress()[&at(1)].last_failure.is_some());
    let failure = fetcher.progress()[&at(1)].last_failure.clone().expect("one");
    assert!(
        failure.to_string().ends_with("partition 1 of topic clicks has no leader; look whether its brokers are up")
    );
    model.world().listed = vec![0, 1];
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 1, 2);
}

#[test]
fn an_offset_that_is_not_there_is_a_trouble_until_it_is_sought() {
    let model = Model::start(1, 2);
    (0..2).for_each(|partition| model.append(partition, 3));
    model.world().logs.get_mut(&0).expect("there").start = 2;
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[Assignment { leader_epoch: Some(1), ..from(0, 0) }, from(1, 9)]);
    let mut reader = Reader::default();
    reader.until(&fetcher, |reader| reader.troubles.len() == 2);
    reader.troubles.sort_by_key(|trouble| trouble.place.clone());
    let fault = |offset| TroubleFault::OutOfRange { offset, log_start: None };
    assert_eq!(reader.troubles[0].fault, fault(0));
    assert_eq!(reader.troubles[1].fault, fault(9));
    assert!(!reader.take(&fetcher, Duration::from_millis(100)), "said once");
    assert!(fetcher.seek(&at(0), 2) && fetcher.seek(&at(1), 1));
    reader.until_next(&fetcher, 0, 3);
    reader.until_next(&fetcher, 1, 3);
    assert_eq!((reader.of(0), reader.of(1)), (&[2][..], &[1, 2][..]));
}

#[test]
fn a_log_that_was_cut_is_a_trouble() {
    let model = Model::start(1, 1);
    model.append(0, 5);
    let fetcher = fetcher(&model, quick());
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 5);
    {
        let mut world = model.world();
        let log = world.logs.get_mut(&0).expect("there");
        (log.diverging, log.epoch) = (Some((1, 3)), 2);
    }
    let trouble = reader.until_trouble(&fetcher);
    assert_eq!(trouble.fault, TroubleFault::Truncated { offset: 5, epoch: 1, end_offset: 3 });
}

#[test]
fn a_missing_right_and_a_topic_made_again_are_troubles() {
    let model = Model::start(1, 1);
    model.append(0, 1);
    let fetcher = fetcher(&model, Settings { metadata_age_max: Duration::from_millis(50), ..quick() });
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 1);
    model.world().logs.get_mut(&0).expect("there").errors = vec![ResponseError::TopicAuthorizationFailed];
    let trouble = reader.until_trouble(&fetcher);
    assert!(trouble.to_string().contains("is not allowed to this user; grant it: READ on topic clicks"), "{trouble}");
    assert!(fetcher.seek(&at(0), 0));
    reader.until(&fetcher, |reader| reader.of(0) == [0, 0]);
    let known = std::mem::replace(&mut model.world().id, uuid::Uuid::from_u128(9));
    let trouble = reader.until_trouble(&fetcher);
    assert_eq!(trouble.fault, TroubleFault::OtherTopic { known, found: uuid::Uuid::from_u128(9) });
    assert!(fetcher.seek(&at(0), 0));
    until(|| fetcher.progress()[&at(0)].queued_bytes > 0);
}

#[test]
fn damage_is_a_trouble_once_it_was_fetched_twice() {
    let damage = |times: usize| {
        let model = Model::start(1, 1);
        model.append(0, 2);
        model.append(0, 2);
        let mut left = times;
        model.hook(move |seen, mut bytes| {
            if seen.asked.first().is_some_and(|(_, offset)| *offset < 4) && left > 0 && bytes.len() > 150 {
                left -= 1;
                // The last value of the last batch; behind it are no headers, and three tags.
                let place = bytes.len() - 8;
                bytes[place] ^= 1;
            }
            Reply::Say(bytes)
        });
        (fetcher(&model, quick()), model)
    };
    let (passing, _model) = damage(1);
    passing.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&passing, 0, 4);
    assert_eq!((reader.of(0), reader.troubles.len()), (&upto(4)[..], 0));
    let (lasting, _model) = damage(100);
    lasting.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    let trouble = reader.until_trouble(&lasting);
    assert!(trouble.to_string().contains("clicks [0] at offset 2 has the checksum"), "{trouble}");
    assert_eq!(reader.of(0), upto(2), "what is in front comes first");
}

#[test]
fn answers_that_cannot_be_are_troubles_once_they_came_twice() {
    let failing = |change: fn(&mut Vec<u8>), times: usize| {
        let model = Model::start(1, 1);
        model.append(0, 2);
        let mut left = times;
        model.hook(move |_, mut bytes| {
            if left > 0 {
                left -= 1;
                change(&mut bytes);
            }
            Reply::Say(bytes)
        });
        let fetcher = fetcher(&model, quick());
        fetcher.assign(&[from(0, 0)]);
        (fetcher, model)
    };
    let huge: fn(&mut Vec<u8>) = |bytes| bytes[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    // The count of topics, behind length, number, tags, throttle, error and session.
    let lie: fn(&mut Vec<u8>) = |bytes| bytes[19..23].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    for (change, words) in [(huge, "more than the 1048576 allowed"), (lie, "answer to Fetch cannot be read")] {
        let (passing, _model) = failing(change, 1);
        let mut reader = Reader::default();
        reader.until_next(&passing, 0, 2);
        let (lasting, _model) = failing(change, 100);
        let trouble = Reader::default().until_trouble(&lasting);
        assert!(trouble.to_string().contains(words), "{trouble}");
    }
}

#[test]
fn a_replica_that_is_nearer_is_read_and_left_where_it_fails() {
    let model = Model::start(2, 1);
    model.append(0, 3);
    model.world().logs.get_mut(&0).expect("there").preferred = Some(1);
    let config = crate::config::Config { rack: Some("a".into()), ..model.config() };
    let fetcher = Fetcher::new(Dialer::new(config).expect("settings"), quick()).expect("a thread");
    fetcher.assign(&[from(0, 0)]);
    let mut reader = Reader::default();
    reader.until_next(&fetcher, 0, 3);
    let records = |seen: &model::Seen| seen.asked.contains(&(0, 3));
    assert!(model.seen().iter().any(|seen| seen.broker == 1 && seen.rack == "a"));
    model.hook(|seen, bytes| if seen.broker == 1 { Reply::SayAndClose(Vec::new()) } else { Reply::Say(bytes) });
    model.append(0, 2);
    reader.until_next(&fetcher, 0, 5);
    assert!(model.seen().iter().any(|seen| seen.broker == 0 && seen.rack.is_empty() && records(seen)));
    assert_eq!(reader.of(0), upto(5));
}

#[test]
fn the_end_is_prompt_whatever_is_waited_for() {
    let quickly_dropped = |model: &Model, wait: Duration| {
        let fetcher = fetcher(model, Settings { wait_max: wait, ..quick() });
        fetcher.assign(&[from(0, 0)]);
        std::thread::sleep(Duration::from_millis(150));
        let started = Instant::now();
        drop(fetcher);
        assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    };
    // In a fetch that waits for records, in one without an answer, and in a pause.
    let model = Model::start(1, 1);
    quickly_dropped(&model, Duration::from_secs(30));
    model.append(0, 1);
    model.hook(|_, _| Reply::Nothing);
    quickly_dropped(&model, Duration::from_secs(30));
    model.world().listed.clear();
    quickly_dropped(&model, Duration::from_secs(30));
}
