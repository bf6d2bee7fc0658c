//! What becomes of sets that come late, twice, or short, without threads.

use super::super::answer::{Told, TopicName};
use super::super::session::Answered;
use super::arrival::Scan;
use super::*;
use crate::config::Config;
use crate::records::{Counts, End};
use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::protocol::StrBytes;
use streamcore::raw::RawBatch;

fn place() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Partition 0 of `t`, led by broker `leader` in `epoch`.
fn view(view: &mut View, leader: i32, epoch: i32) {
    let broker = |id: i32| MetadataResponseBroker::default().with_node_id(id.into()).with_port(9092);
    let partition = MetadataResponsePartition::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
    let topic = MetadataResponseTopic::default().with_name(Some(StrBytes::from_static_str("t").into()));
    let topic = topic.with_partitions(vec![partition]);
    let answer = MetadataResponse::default().with_brokers(vec![broker(1), broker(2)]).with_topics(vec![topic]);
    view.apply(&answer);
}

fn lead(shared: &Shared, leader: i32, epoch: i32) {
    let mut known = View::default();
    view(&mut known, leader, epoch);
    shared.lead(&known, &[], |_, _| unreachable!("no fault"));
}

fn assigned(settings: Settings) -> Shared {
    let shared = Shared::new(settings, Backoff::new(&Config::default()));
    shared.assign(&[Assignment::new(place(), 5)]);
    lead(&shared, 1, 3);
    shared
}

fn asked(shared: &Shared, broker: i32) -> Option<Wanted> {
    shared.plan(broker).map(|plan| plan.wanted[0].clone())
}

fn answered(asked: &Wanted, bytes: usize) -> Answered {
    let told = Told {
        topic: TopicName::Name("t".into()),
        partition: 0,
        error: None,
        high_watermark: Some(50),
        last_stable_offset: None,
        log_start: None,
        aborted: Vec::new(),
        preferred_replica: None,
        diverging: None,
        leader: None,
        records: 0..bytes,
    };
    Answered { asked: asked.clone(), told }
}

fn arrive(shared: &Shared, broker: i32, answered: Answered, guess: i64) -> Option<Set> {
    shared.arrive(broker, "b", std::iter::empty(), vec![(answered, Scan { next_offset: guess, batch_bytes: 50 })]).pop()
}

fn outcome(offset: i64, next_offset: i64) -> Outcome {
    let mut batch = RawBatch::new(0, "t".into(), 1, 8);
    batch.push(Some(b"{}"), offset, None).expect("small");
    batch.seal();
    Outcome {
        batch: Some(batch),
        next_offset,
        leader_epoch: Some(3),
        counts: Counts::default(),
        end: End::Whole,
        whole_bytes: 100,
        rest: Rest::None,
    }
}

fn offsets(shared: &Shared) -> Vec<i64> {
    let taken = shared.take(Duration::ZERO, Limits::default());
    taken.batches.iter().map(|batch| batch.offset(0)).collect()
}

#[test]
fn the_next_request_is_planned_before_the_walk_and_corrected_behind_it() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    assert_eq!((first.offset, first.leader_epoch), (5, Some(3)));
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    let second = asked(&shared, 1).expect("wanted");
    assert_eq!(second.offset, 9, "as the heads say");
    // The walk came less far: what was asked for behind that is of no use.
    shared.settle(&set, outcome(5, 7));
    assert_eq!(arrive(&shared, 1, answered(&second, 100), 12), None);
    let third = asked(&shared, 1).expect("wanted");
    assert_eq!((third.offset, third.fetched_epoch), (7, Some(3)));
    assert_eq!(offsets(&shared), [5]);
}

#[test]
fn of_two_brokers_that_gave_the_same_one_counts() {
    let shared = assigned(Settings::default());
    let old = asked(&shared, 1).expect("wanted");
    lead(&shared, 2, 4);
    assert!(asked(&shared, 1).is_none());
    let new = asked(&shared, 2).expect("wanted");
    let sets = [(1, &old), (2, &new)].map(|(broker, asked)| arrive(&shared, broker, answered(asked, 100), 9));
    for set in sets.iter().flatten() {
        shared.settle(set, outcome(5, 9));
    }
    assert_eq!(offsets(&shared), [5]);
    assert_eq!(asked(&shared, 2).map(|wanted| wanted.offset), Some(9));
    lead(&shared, 1, 3);
    assert!(asked(&shared, 1).is_none(), "old news");
}

#[test]
fn a_guess_that_was_wrong_is_not_kept_where_nothing_is_walked() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    let guessed = asked(&shared, 1).expect("wanted");
    shared.drop_set(&set);
    let mut out_of_range = answered(&guessed, 0);
    out_of_range.told.error = Some(ResponseError::OffsetOutOfRange);
    assert_eq!(arrive(&shared, 1, out_of_range, 9), None);
    assert!(shared.take(Duration::ZERO, Limits::default()).is_empty(), "no trouble");
    assert_eq!(asked(&shared, 1).map(|wanted| wanted.offset), Some(5));
}

#[test]
fn a_token_ends_what_came_before() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    assert!(shared.seek(&place(), 5));
    assert!(!shared.wait_for_room(&set));
    shared.settle(&set, outcome(5, 9));
    assert_eq!(arrive(&shared, 1, answered(&first, 100), 9), None);
    assert!(offsets(&shared).is_empty());
    assert_eq!(asked(&shared, 1).map(|wanted| wanted.offset), Some(5));
}

#[test]
fn what_holds_its_share_is_left_out_and_the_broker_is_hurried() {
    let settings = Settings { queued_bytes_max: 1_000, ..Settings::default() };
    let shared = assigned(settings);
    shared.assign(&[Assignment::new(TopicPartition::new("t", 1), 0)]);
    let first = asked(&shared, 1).expect("wanted");
    // Partition 1 has no leader here: it only takes its share.
    arrive(&shared, 1, answered(&first, 499), 9).expect("records");
    assert!(asked(&shared, 1).is_some());
    let shared = assigned(settings);
    let first = asked(&shared, 1).expect("wanted");
    arrive(&shared, 1, answered(&first, 500), 9).expect("records");
    assert!(shared.plan(1).is_none(), "half of the queue is for answers");
    shared.pause(&[place()], true);
    assert!(shared.lock().has_room(&shared.settings), "what is paused takes no room from others");
}

#[test]
fn a_thread_that_breaks_down_is_a_trouble_behind_what_is_queued() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    shared.settle(&set, outcome(5, 9));
    shared.panicked(Some(1), "index out of bounds");
    let taken = shared.take(Duration::ZERO, Limits::default());
    assert_eq!((taken.batches.len(), taken.moved[0].next_offset), (1, 9));
    assert_eq!(taken.troubles[0].fault, TroubleFault::Panicked("index out of bounds".into()));
    assert!(asked(&shared, 1).is_none());
    assert!(shared.seek(&place(), 9));
    assert_eq!(shared.wait_for_errand(Instant::now() + LINGER), Errand::Look(vec!["t".into()]));
    lead(&shared, 1, 3);
    assert_eq!(shared.wait_for_errand(Instant::now() + LINGER), Errand::Start(vec![1]));
    assert!(asked(&shared, 1).is_some());
}

#[test]
fn an_error_is_no_answer_of_where_a_partition_ends() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let refused = |error| {
        let answered = answered(&first, 0);
        Answered { told: Told { error, ..answered.told }, ..answered }
    };
    let told = |shared: &Shared, error| {
        shared.arrive(1, "b", std::iter::once(&first), vec![(refused(error), Scan { next_offset: 5, batch_bytes: 0 })]);
        shared.progress().remove(&place()).expect("assigned").answered_for
    };
    assert_eq!(told(&shared, Some(ResponseError::KafkaStorageError)), None);
    let shared = assigned(Settings::default());
    assert!(told(&shared, None).is_some());
}

#[test]
fn a_replica_that_nobody_knows_is_not_asked_for_again() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let answered = answered(&first, 0);
    let near = Answered { told: Told { preferred_replica: Some(7), ..answered.told }, ..answered };
    assert_eq!(arrive(&shared, 1, near, 5), None);
    let plan = shared.plan(1).expect("the leader is asked");
    assert!(plan.avoids_replicas, "or it would name it again, at once");
}

#[test]
fn what_is_asked_for_has_room_once_it_is_decompressed_and_is_no_less_than_a_batch() {
    let shared = assigned(Settings { queued_bytes_max: 10_000, ..Settings::default() });
    let sizes = |shared: &Shared| asked(shared, 1).map(|wanted| wanted.bytes_max);
    assert_eq!(sizes(&shared), Some(1 << 20), "nobody knows");
    let first = asked(&shared, 1).expect("wanted");
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    assert_eq!(sizes(&shared), Some((1 << 20) - 100));
    // A record of two bytes, 64 behind it and 24 beside, of one byte.
    shared.settle(&set, Outcome { whole_bytes: 1, ..outcome(5, 9) });
    assert_eq!(sizes(&shared), Some((10_000 - 90) / 90));
    let second = asked(&shared, 1).expect("wanted");
    let scan = Scan { next_offset: 12, batch_bytes: 700 };
    shared.arrive(1, "b", std::iter::empty(), vec![(answered(&second, 300), scan)]);
    assert_eq!(sizes(&shared), Some(700), "of smaller pieces nothing would come");
}

#[test]
fn a_batch_that_is_cut_is_asked_for_whole_and_then_waits_for_its_turn() {
    let shared = assigned(Settings::default());
    let cut = |shared: &Shared, wanted: &Wanted| {
        let set = arrive(shared, 1, answered(wanted, 100), 5).expect("records");
        let end = End::Cut { bytes: 9_000_000 };
        shared.settle(&set, Outcome { batch: None, next_offset: 5, end, whole_bytes: 0, ..outcome(5, 5) });
    };
    cut(&shared, &asked(&shared, 1).expect("wanted"));
    let whole = asked(&shared, 1).expect("at once");
    assert_eq!((whole.offset, whole.bytes_max), (5, 9_000_000));
    cut(&shared, &whole);
    assert!(asked(&shared, 1).is_none(), "not before a pause");
}

#[test]
fn who_leads_now_is_not_asked_before_what_came_from_another_was_walked() {
    let shared = assigned(Settings::default());
    let first = asked(&shared, 1).expect("wanted");
    let set = arrive(&shared, 1, answered(&first, 100), 9).expect("records");
    lead(&shared, 2, 4);
    assert!(asked(&shared, 2).is_none(), "what it gave would be of no use");
    shared.settle(&set, outcome(5, 9));
    assert_eq!(asked(&shared, 2).map(|wanted| wanted.offset), Some(9));
}
