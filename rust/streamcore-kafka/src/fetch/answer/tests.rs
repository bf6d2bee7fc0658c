//! Answers in every version, whole and damaged, against the decoder of kafka-protocol.

use super::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction as Aborted, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use proptest::prelude::*;

/// What comes in front of the body.
const BEGIN: usize = 5;

fn encoded(answer: &FetchResponse, version: i16) -> Vec<u8> {
    let mut bytes = BytesMut::from(&[0xee; BEGIN][..]);
    answer.encode(&mut bytes, version).expect("encoded");
    bytes.to_vec()
}

/// The same answer, as kafka-protocol reads it.
fn by_decoder(frame: &[u8], version: i16) -> Answer {
    let answer = FetchResponse::decode(&mut Bytes::copy_from_slice(&frame[BEGIN..]), version).expect("decoded");
    let mut partitions = Vec::new();
    for topic in &answer.responses {
        for told in &topic.partitions {
            let name = || TopicName::Name(topic.topic.as_str().into());
            let topic = if version >= 13 { TopicName::Id(topic.topic_id) } else { name() };
            partitions.push(of_decoded(topic, told));
        }
    }
    Answer {
        throttle: Duration::from_millis(answer.throttle_time_ms.try_into().unwrap_or(0)),
        error: ResponseError::try_from_code(answer.error_code),
        session_id: answer.session_id,
        partitions,
    }
}

fn of_decoded(topic: TopicName, told: &PartitionData) -> Told {
    let there = |offset: i64| Some(offset).filter(|offset| *offset >= 0);
    let (diverging, leader) = (&told.diverging_epoch, &told.current_leader);
    Told {
        topic,
        partition: told.partition_index,
        error: ResponseError::try_from_code(told.error_code),
        high_watermark: there(told.high_watermark),
        last_stable_offset: there(told.last_stable_offset),
        log_start: there(told.log_start_offset),
        aborted: told
            .aborted_transactions
            .iter()
            .flatten()
            .map(|aborted| AbortedTransaction {
                producer_id: aborted.producer_id.0,
                first_offset: aborted.first_offset,
            })
            .collect(),
        preferred_replica: Some(told.preferred_read_replica.0).filter(|id| *id >= 0),
        diverging: Some((diverging.epoch, diverging.end_offset)).filter(|(epoch, _)| *epoch >= 0),
        leader: Some((leader.leader_id.0, leader.leader_epoch)).filter(|(id, epoch)| *id >= 0 && *epoch >= 0),
        // Compared by its bytes.
        records: 0..0,
    }
}

fn small() -> impl Strategy<Value = i64> {
    prop_oneof![-2_i64..5, any::<i64>()]
}

fn partition() -> impl Strategy<Value = PartitionData> {
    let offsets = (small(), small(), small(), any::<i16>());
    let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let aborted = proptest::option::of(proptest::collection::vec((small(), small()), 0..4));
    let tagged = (-1_i32..3, small(), -1_i32..3, -1_i32..3);
    (any::<i32>(), offsets, records, aborted, tagged, -1_i32..4).prop_map(
        |(index, (high, stable, start, error), records, aborted, (epoch, end, leader, leader_epoch), preferred)| {
            let aborted = aborted.map(|aborted| {
                let one =
                    |(id, first): (i64, i64)| Aborted::default().with_producer_id(id.into()).with_first_offset(first);
                aborted.into_iter().map(one).collect()
            });
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_high_watermark(high)
                .with_last_stable_offset(stable)
                .with_log_start_offset(start)
                .with_aborted_transactions(aborted)
                .with_preferred_read_replica(preferred.into())
                .with_diverging_epoch(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end))
                .with_current_leader(
                    LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(leader_epoch),
                )
                .with_records(records.map(Bytes::from))
        },
    )
}

fn answer() -> impl Strategy<Value = FetchResponse> {
    let topic = ("[a-z.]{0,9}", any::<u128>(), proptest::collection::vec(partition(), 0..4));
    let topics = proptest::collection::vec(topic, 0..4);
    (any::<i32>(), any::<i16>(), any::<i32>(), topics, any::<bool>()).prop_map(
        |(throttle, error, session, topics, has_node)| {
            let topic = |(name, id, partitions)| {
                let topic = FetchableTopicResponse::default().with_topic(StrBytes::from_string(name).into());
                topic.with_topic_id(Uuid::from_u128(id)).with_partitions(partitions)
            };
            let node = NodeEndpoint::default().with_host(StrBytes::from_static_str("kafka-9")).with_port(9092);
            FetchResponse::default()
                .with_throttle_time_ms(throttle)
                .with_error_code(error)
                .with_session_id(session)
                .with_responses(topics.into_iter().map(topic).collect())
                .with_node_endpoints(if has_node { vec![node] } else { Vec::new() })
        },
    )
}

/// Without the fields that a version does not have: the encoder refuses to leave out some of them.
fn in_version(mut answer: FetchResponse, version: i16) -> FetchResponse {
    if version < 16 {
        answer.node_endpoints.clear();
    }
    if version < 7 {
        (answer.error_code, answer.session_id) = (0, 0);
    }
    for topic in &mut answer.responses {
        if version < 13 {
            topic.topic_id = Uuid::nil();
        }
        for told in &mut topic.partitions {
            if version < 12 {
                told.diverging_epoch = EpochEndOffset::default();
                told.current_leader = LeaderIdAndEpoch::default();
            }
            if version < 11 {
                told.preferred_read_replica = (-1).into();
            }
            if version < 5 {
                told.log_start_offset = -1;
            }
        }
    }
    answer
}

fn versions() -> std::ops::RangeInclusive<i16> {
    let versions = <FetchResponse as Message>::VERSIONS;
    versions.min..=versions.max
}

/// Bytes of memory that an answer takes beyond its frame.
fn memory(answer: &Answer) -> usize {
    let aborted = answer.partitions.iter().map(|told| told.aborted.capacity() * size_of::<AbortedTransaction>());
    answer.partitions.capacity() * size_of::<Told>() + aborted.sum::<usize>()
}

proptest! {
    #[test]
    fn what_is_read_is_what_the_decoder_reads(answer in answer(), version in versions()) {
        let answer = in_version(answer, version);
        let frame = encoded(&answer, version);
        let mut read = read(&frame, BEGIN, version).expect("read");
        let records = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|told| told.records.clone());
        for (told, records) in read.partitions.iter_mut().zip(records) {
            prop_assert_eq!(&frame[std::mem::take(&mut told.records)], &records.unwrap_or_default()[..]);
        }
        prop_assert_eq!(read, by_decoder(&frame, version));
        for length in BEGIN..frame.len() {
            prop_assert!(super::read(&frame[..length], BEGIN, version).is_err(), "cut at {}", length);
        }
    }

    #[test]
    fn whatever_the_bytes_are_memory_is_bounded_by_them(
        answer in answer(),
        version in versions(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1_usize..5), 1..6),
    ) {
        let mut frame = encoded(&in_version(answer, version), version);
        for (place, byte, width) in changes {
            let place = BEGIN + place.index(frame.len() - BEGIN);
            let end = (place + width).min(frame.len());
            frame[place..end].fill(byte);
        }
        if let Ok(read) = read(&frame, BEGIN, version) {
            // At least 18 bytes of a partition, and capacity doubles.
            prop_assert!(memory(&read) <= frame.len() * 32 + 1024);
            prop_assert!(read.partitions.iter().all(|told| told.records.end <= frame.len()));
        }
    }
}

#[test]
fn a_count_that_is_a_lie_is_an_error() {
    let lie = [&[0; 4][..], &[0; 2], &[0; 4], &[0x7f, 0xff, 0xff, 0xff]].concat();
    assert_eq!(read(&lie, 0, 11), Err("it ends in the middle"));
    assert!(read(&[0; 3], 9, 11).is_err(), "no body at all");
}

#[test]
fn a_tagged_field_may_have_more_than_is_known() {
    let told = PartitionData::default().with_current_leader(
        LeaderIdAndEpoch::default()
            .with_leader_id(3.into())
            .with_leader_epoch(4)
            .with_unknown_tagged_fields([(9, Bytes::from_static(b"new"))].into()),
    );
    let told = told.with_unknown_tagged_fields([(7, Bytes::from_static(b"newer"))].into());
    let topic = FetchableTopicResponse::default().with_partitions(vec![told]);
    let frame = encoded(&FetchResponse::default().with_responses(vec![topic]), 18);
    assert_eq!(read(&frame, BEGIN, 18).expect("read").partitions[0].leader, Some((3, 4)));
}
