//! The entrance of libFuzzer for the answers of brokers: any bytes, in every version of each request that is made.
//!
//! What must hold: nothing panics, and no memory is taken that the bytes do not back (libFuzzer is told how much is too much); and what
//! kafka-protocol reads of a fetch is what is read of it in place.
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::Message;
use libfuzzer_sys::fuzz_target;
use streamcore_kafka::fetch::answer;
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
    if let Err(cause) = wire::decode::<R>(&mut Bytes::copy_from_slice(body), version) {
        assert!(!cause.to_string().contains('\n'), "one line");
    }
}

fn fetch(version: u8, body: &[u8]) {
    let version = version_of::<FetchRequest>(version);
    let read = answer::read(body, 0, version);
    if let Ok(read) = &read {
        assert!(read.partitions.iter().all(|told| told.records.end <= body.len()));
    }
    let Ok(decoded) = wire::decode::<FetchRequest>(&mut Bytes::copy_from_slice(body), version) else { return };
    let read = read.expect("it is less exact than the decoder");
    let partitions = decoded.responses.iter().flat_map(|topic| &topic.partitions);
    assert_eq!(read.partitions.len(), partitions.clone().count());
    for (told, decoded) in read.partitions.iter().zip(partitions) {
        assert_eq!(told.partition, decoded.partition_index);
        assert_eq!(&body[told.records.clone()], &decoded.records.clone().unwrap_or_default()[..]);
        assert_eq!(told.aborted.len(), decoded.aborted_transactions.as_ref().map_or(0, Vec::len));
    }
}
