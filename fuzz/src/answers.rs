//! The entrance of libFuzzer for the answers of brokers: any bytes, in every version of each request that is made.
//!
//! What must hold: nothing panics, and no memory is taken that the bytes do not back (libFuzzer is told how much is too much); what was
//! read and is written again is read again, to the last byte; and what kafka-protocol reads of a fetch is what is read of it in place.
#![no_main]

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Encodable, Message};
use libfuzzer_sys::fuzz_target;
use streamcore_kafka::fetch::answer::{self, Told, TopicName};
use streamcore_kafka::shape::Answered;
use streamcore_kafka::wire;

fuzz_target!(|input: &[u8]| {
    let [which, version, body @ ..] = input else { return };
    match which % 8 {
        0 => decode::<ApiVersionsRequest>(*version, body),
        1 => decode::<MetadataRequest>(*version, body),
        2 => decode::<ListOffsetsRequest>(*version, body),
        3 => decode::<OffsetForLeaderEpochRequest>(*version, body),
        4 => decode::<SaslHandshakeRequest>(*version, body),
        5 => decode::<SaslAuthenticateRequest>(*version, body),
        _ => fetch(*version, body),
    }
});

/// One of the versions of both the request and its answer.
fn version_of<R: Answered>(number: u8) -> i16 {
    let versions = <R as Message>::VERSIONS;
    versions.min + i16::from(number) % (versions.max - versions.min + 1)
}

fn decode<R: Answered>(version: u8, body: &[u8]) {
    let version = version_of::<R>(version);
    let _ = wire::header_bytes::<R>(body, version);
    match wire::decode::<R>(&mut Bytes::copy_from_slice(body), version) {
        Ok(answer) => again::<R>(&answer, version),
        Err(cause) => assert!(!cause.to_string().contains('\n'), "one line"),
    }
}

/// What was decoded is an answer too, unless a field says what this version has no word for.
fn again<R: Answered>(answer: &R::Response, version: i16) {
    let Some(bytes) = encoded::<R>(answer, version) else { return };
    let mut rest = bytes.clone();
    let decoded = wire::decode::<R>(&mut rest, version).expect("an answer like any other");
    assert!(rest.is_empty(), "read to its end");
    assert_eq!(encoded::<R>(&decoded, version), Some(bytes));
}

/// None too where the encoder counts fields that it leaves out: those whose tags are more than its numbers hold.
fn encoded<R: Answered>(answer: &R::Response, version: i16) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).ok()?;
    let is_whole = answer.compute_size(version).ok()? == bytes.len();
    is_whole.then(|| bytes.freeze())
}

fn fetch(version: u8, body: &[u8]) {
    decode::<FetchRequest>(version, body);
    let version = version_of::<FetchRequest>(version);
    let read = answer::read(body, 0, version);
    if let Ok(read) = &read {
        assert!(read.partitions.iter().all(|told| told.records.end <= body.len()));
    }
    let Ok(decoded) = wire::decode::<FetchRequest>(&mut Bytes::copy_from_slice(body), version) else { return };
    let read = read.expect("it is less exact than the decoder");
    assert_eq!(read.session_id, decoded.session_id);
    assert_eq!(read.error, ResponseError::try_from_code(decoded.error_code));
    let partitions: Vec<_> =
        decoded.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |one| (topic, one))).collect();
    assert_eq!(read.partitions.len(), partitions.len());
    for (told, (topic, decoded)) in read.partitions.iter().zip(partitions) {
        assert_eq!(&body[told.records.clone()], &decoded.records.clone().unwrap_or_default()[..]);
        compare(told, topic, decoded);
    }
}

fn compare(told: &Told, topic: &FetchableTopicResponse, decoded: &PartitionData) {
    match &told.topic {
        TopicName::Name(name) => assert_eq!(**name, *topic.topic.0),
        TopicName::Id(id) => assert_eq!(*id, topic.topic_id),
    }
    let known = |offset: i64| Some(offset).filter(|offset| *offset >= 0);
    assert_eq!(told.partition, decoded.partition_index);
    assert_eq!(told.error, ResponseError::try_from_code(decoded.error_code));
    assert_eq!(told.high_watermark, known(decoded.high_watermark));
    assert_eq!(told.last_stable_offset, known(decoded.last_stable_offset));
    assert_eq!(told.log_start, known(decoded.log_start_offset));
    assert_eq!(told.preferred_replica, Some(decoded.preferred_read_replica.0).filter(|id| *id >= 0));
    let diverging = &decoded.diverging_epoch;
    assert_eq!(told.diverging, (diverging.epoch >= 0).then_some((diverging.epoch, diverging.end_offset)));
    let leader = (decoded.current_leader.leader_id.0, decoded.current_leader.leader_epoch);
    assert_eq!(told.leader, Some(leader).filter(|(id, epoch)| *id >= 0 && *epoch >= 0));
    let aborted = decoded.aborted_transactions.iter().flatten().map(|one| (one.producer_id.0, one.first_offset));
    assert!(told.aborted.iter().map(|one| (one.producer_id, one.first_offset)).eq(aborted));
}
