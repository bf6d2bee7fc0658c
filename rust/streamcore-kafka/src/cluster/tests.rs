//! Requests to a scripted cluster: leaders that move, topics that are not there, brokers that are gone.

use super::*;
use crate::config::Config;
use crate::scripted::{Call, Reply, Scripted, all, versions};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiVersionsRequest, ListOffsetsRequest, ListOffsetsResponse, MetadataResponse};
use kafka_protocol::protocol::Request;
use std::sync::atomic::{AtomicUsize, Ordering};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(900)
}

/// One broker that leads two partitions of `clicks`; `fault` is asked for the error of its answers, by how many came before of the
/// same kind.
fn broker(fault: impl Fn(i16, usize) -> i16 + Send + Sync + 'static) -> Scripted {
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let port = std::sync::Arc::new(AtomicUsize::new(0));
    let told = std::sync::Arc::clone(&port);
    let scripted = Scripted::start(move |call| match call.key {
        ApiVersionsRequest::KEY => {
            call.answer::<ApiVersionsRequest>(&versions(&[all::<MetadataRequest>(), all::<ListOffsetsRequest>()]))
        }
        MetadataRequest::KEY => {
            let error = fault(call.key, counts[0].fetch_add(1, Ordering::Relaxed));
            metadata(call, told.load(Ordering::Relaxed), error)
        }
        _ => offsets(call, fault(call.key, counts[1].fetch_add(1, Ordering::Relaxed))),
    });
    port.store(usize::from(scripted.address.port), Ordering::Relaxed);
    scripted
}

fn metadata(call: &Call, port: usize, error: i16) -> Reply {
    let request = call.request::<MetadataRequest>();
    assert!(!request.allow_auto_topic_creation);
    let broker = MetadataResponseBroker::default().with_node_id(1.into()).with_port(port as i32);
    let broker = broker.with_host(StrBytes::from_static_str("127.0.0.1"));
    let partition = |index| MetadataResponsePartition::default().with_partition_index(index).with_leader_id(1.into());
    let topic = |asked: &MetadataRequestTopic| {
        let topic = MetadataResponseTopic::default().with_name(asked.name.clone()).with_error_code(error);
        topic.with_partitions(vec![partition(0).with_leader_epoch(5), partition(1).with_leader_epoch(6)])
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    call.answer::<MetadataRequest>(&MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics))
}

/// The offset of a partition tells what was asked for: 1000 for each partition, and the epoch.
fn offsets(call: &Call, error: i16) -> Reply {
    let request = call.request::<ListOffsetsRequest>();
    assert_eq!(request.isolation_level, 1);
    let topic = &request.topics[0];
    let partition = |asked: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
        let offset = i64::from(asked.partition_index * 1000 + asked.current_leader_epoch);
        let offset = if asked.timestamp > 100 { -1 } else { offset };
        let partition = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
        // Partition 0 is never wrong.
        partition.with_offset(offset).with_error_code(if asked.partition_index == 0 { 0 } else { error })
    };
    let answer = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
    let answer = answer.with_partitions(topic.partitions.iter().map(partition).collect());
    call.answer::<ListOffsetsRequest>(&ListOffsetsResponse::default().with_topics(vec![answer]))
}

fn cluster(config: Config) -> Cluster {
    Cluster::new(Dialer::new(config).expect("settings"))
}

fn found(cluster: &mut Cluster, at: At, deadline: Instant) -> Result<Vec<Option<i64>>> {
    let listed = cluster.list_offsets("clicks", &[0, 1], at, Isolation::Committed, deadline)?;
    Ok(listed.values().map(|listed| listed.offset).collect())
}

#[test]
fn offsets_come_from_leaders_by_one_request_over_one_connection() {
    let broker = broker(|_, _| 0);
    let mut cluster = cluster(broker.config());
    assert_eq!(found(&mut cluster, At::Latest, soon()), Ok(vec![Some(5), Some(1006)]));
    assert_eq!(found(&mut cluster, At::Time(101), soon()), Ok(vec![None, None]));
    let keys: Vec<_> = broker.calls().iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [ApiVersionsRequest::KEY, MetadataRequest::KEY, ListOffsetsRequest::KEY, ListOffsetsRequest::KEY]);
    assert!(found(&mut cluster, At::Time(-1), soon()).is_err());
}

#[test]
fn a_leader_that_moved_is_looked_up_and_asked_again_for_what_is_missing() {
    let moved = |error: ResponseError| {
        let broker =
            broker(move |key, before| if key == ListOffsetsRequest::KEY && before < 2 { error.code() } else { 0 });
        let mut cluster = cluster(broker.config());
        assert_eq!(found(&mut cluster, At::Earliest, soon()), Ok(vec![Some(5), Some(1006)]), "{error:?}");
        assert_eq!(broker.calls().iter().filter(|(key, _)| *key == MetadataRequest::KEY).count(), 3);
    };
    moved(ResponseError::NotLeaderOrFollower);
    moved(ResponseError::FencedLeaderEpoch);
}

#[test]
fn what_does_not_pass_is_one_error() {
    let line = |key: i16, error: ResponseError| {
        let broker = broker(move |of, _| if of == key { error.code() } else { 0 });
        let failure = found(&mut cluster(broker.config()), At::Latest, at_once()).expect_err("an error");
        failure.to_string()
    };
    let denied = line(ListOffsetsRequest::KEY, ResponseError::TopicAuthorizationFailed);
    assert!(denied.contains("topic clicks partition 1 is not allowed to this user; grant it: DESCRIBE on"), "{denied}");
    let unknown = line(MetadataRequest::KEY, ResponseError::UnknownTopicOrPartition);
    assert!(unknown.contains("topic clicks does not exist"), "{unknown}");
    let broken = line(ListOffsetsRequest::KEY, ResponseError::OffsetNotAvailable);
    assert!(broken.contains("OffsetNotAvailable"), "{broken}");
    let mut cluster = cluster(broker(|_, _| 0).config());
    let failure = cluster.list_offsets("clicks", &[9], At::Latest, Isolation::Committed, soon()).expect_err("none");
    assert!(failure.to_string().ends_with("topic clicks has no partition 9"), "{failure}");
}

#[test]
fn a_new_topic_is_waited_for() {
    let broker = broker(|key, before| if key == MetadataRequest::KEY && before < 3 { 3 } else { 0 });
    let mut cluster = cluster(broker.config());
    let view = cluster.refresh(&["clicks"], soon()).expect("there at last");
    assert_eq!(view.leader("clicks", 1).map(|(broker, epoch)| (broker.id, epoch)), Some((1, Some(6))));
}

#[test]
fn the_next_broker_is_asked_where_one_is_gone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound").port();
    let gone = Address::new("127.0.0.1", free);
    let broker = broker(|_, _| 0);
    let config = Config { bootstrap: vec![gone.clone(), broker.address.clone()], ..broker.config() };
    assert!(cluster(config).refresh(&["clicks"], soon()).is_ok());
    let alone = Config { bootstrap: vec![gone.clone()], ..broker.config() };
    let failure = cluster(alone).refresh(&["clicks"], at_once()).map(|_| ()).expect_err("nobody");
    assert_eq!(failure, Failure::new(gone, Cause::Refused));
}

#[test]
fn a_connection_that_was_closed_while_idle_is_opened_anew() {
    // Each connection is closed behind its second answer.
    let broker = Scripted::start(|call| match call.key {
        ApiVersionsRequest::KEY => call.answer::<ApiVersionsRequest>(&versions(&[all::<MetadataRequest>()])),
        _ => match metadata(call, 1, 0) {
            Reply::Say(bytes) => Reply::SayAndClose(bytes),
            other => other,
        },
    });
    let config = Config { backoff_min: Duration::from_mins(1), backoff_max: Duration::from_mins(1), ..broker.config() };
    let mut cluster = cluster(config);
    let ask = |cluster: &mut Cluster| {
        let request = |version| metadata_request(&["clicks"], version);
        cluster.call(&broker.address, request, soon()).map(|(answer, _)| answer.topics.len())
    };
    assert_eq!(ask(&mut cluster), Ok(1));
    assert_eq!(ask(&mut cluster), Ok(1), "without a pause");
}
