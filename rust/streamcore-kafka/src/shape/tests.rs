//! Every shape against the encoder of kafka-protocol, in every version; and counts that are lies.

use super::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, SupportedFeatureKey};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ApiVersionsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse, OffsetForLeaderEpochResponse,
    SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};

/// In each version: whole it passes, and is walked to its last byte; cut anywhere it does not.
fn check<R: Answered>(answer: impl Fn(i16) -> R::Response) {
    let versions = <R::Response as Message>::VERSIONS;
    for version in versions.min..=versions.max {
        let mut bytes = BytesMut::new();
        answer(version).encode(&mut bytes, version).expect("encoded");
        let whole = R::SHAPE.check(&bytes, version);
        assert_eq!(whole, Ok(()), "{} {version}", R::NAME);
        for length in 0..bytes.len() {
            assert!(R::SHAPE.check(&bytes[..length], version).is_err(), "{} {version} cut at {length}", R::NAME);
        }
        lie::<R>(&bytes, version);
    }
}

/// Each byte in turn becomes the largest: what passes must be decoded, or refused, without the memory that it asks for.
fn lie<R: Answered>(bytes: &[u8], version: i16) {
    for place in 0..bytes.len() {
        for width in [1, 2, 4] {
            let mut changed = bytes.to_vec();
            let end = (place + width).min(bytes.len());
            changed[place..end].fill(0x7f);
            if R::SHAPE.check(&changed, version).is_ok() {
                let _ = R::Response::decode(&mut Bytes::from(changed), version);
            }
        }
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[test]
fn api_versions() {
    check::<ApiVersionsRequest>(|version| {
        let answer = ApiVersionsResponse::default().with_api_keys(vec![ApiVersion::default(); 3]);
        let feature = SupportedFeatureKey::default().with_name(text("metadata.version")).with_max_version(7);
        if version >= 3 {
            answer.with_supported_features(vec![feature]).with_finalized_features_epoch(3)
        } else {
            answer
        }
    });
}

#[test]
fn logins() {
    check::<SaslHandshakeRequest>(|_| {
        SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("SCRAM-SHA-512")])
    });
    check::<SaslAuthenticateRequest>(|version| {
        let answer = SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from_static(b"r=abc"));
        if version >= 1 { answer.with_session_lifetime_ms(9) } else { answer }
    });
}

#[test]
fn metadata() {
    check::<MetadataRequest>(|version| {
        let broker = MetadataResponseBroker::default().with_host(text("kafka-1")).with_port(9092);
        let broker = if version >= 1 { broker.with_rack(Some(text("r"))) } else { broker };
        let partition = MetadataResponsePartition::default().with_replica_nodes(vec![1.into(), 2.into()]);
        let topic = MetadataResponseTopic::default().with_partitions(vec![partition; 2]);
        let topic = topic.with_name(Some(text("clicks").into()));
        MetadataResponse::default().with_brokers(vec![broker; 2]).with_topics(vec![topic; 2])
    });
}

#[test]
fn offsets() {
    check::<ListOffsetsRequest>(|_| {
        let partition = ListOffsetsPartitionResponse::default().with_offset(7);
        let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition; 2]);
        ListOffsetsResponse::default().with_topics(vec![topic.with_name(text("clicks").into())])
    });
    check::<OffsetForLeaderEpochRequest>(|_| {
        let topic = OffsetForLeaderTopicResult::default().with_partitions(vec![EpochEndOffset::default(); 2]);
        OffsetForLeaderEpochResponse::default().with_topics(vec![topic.with_topic(text("clicks").into())])
    });
}

#[test]
fn fetches() {
    check::<FetchRequest>(|version| {
        let aborted = Some(vec![AbortedTransaction::default()]);
        let partition = PartitionData::default().with_records(Some(Bytes::from_static(b"records")));
        let partition = if version >= 4 { partition.with_aborted_transactions(aborted) } else { partition };
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
        let topic = if version <= 12 { topic.with_topic(text("clicks").into()) } else { topic };
        let answer = FetchResponse::default().with_responses(vec![topic]);
        let node = NodeEndpoint::default().with_host(text("kafka-2"));
        if version >= 16 { answer.with_node_endpoints(vec![node]) } else { answer }
    });
}

#[test]
fn a_count_that_is_a_lie_is_found_before_memory_is_reserved() {
    // No topics are there, and 2^31 - 1 are counted.
    let answer = [&[0; 4][..], &[0; 4], &[0xff; 2], &[0; 4], &[0x7f, 0xff, 0xff, 0xff]].concat();
    assert!(MetadataRequest::SHAPE.check(&answer, 8).is_err());
    // The same inside of a tagged field.
    let answer = [&[0, 0][..], &[1], &[0; 4], &[1, 0, 5], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 4]].concat();
    assert!(ApiVersionsRequest::SHAPE.check(&answer, 3).is_err());
}
