//! What another producer writes, with other codecs than ours, is read; and what ours writes, it reads.

use crate::encoder::{Batch, CODECS, Row};
use crate::walked::walk;
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use streamcore_kafka::records::End;

const COMPRESSIONS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Three hundred rows with all that a record may have, 150 KB of them.
fn rows() -> Vec<Row> {
    let row = |offset: i64| Row {
        offset,
        time_ms: Some(1_790_000_000_000 + offset * 7 % 50),
        key: (offset % 3 > 0).then(|| format!("key {offset}").into_bytes()),
        value: (offset % 7 > 0)
            .then(|| format!("{{\"n\":{offset},\"text\":\"{}\"}}", "é".repeat(offset as usize)).into_bytes()),
        headers: if offset % 5 > 0 { Vec::new() } else { vec![("a".into(), None), ("b".into(), Some(vec![0, 255]))] },
    };
    (100..400).map(row).collect()
}

fn record_of(row: &Row) -> Record {
    let bytes = |bytes: &Vec<u8>| Bytes::from(bytes.clone());
    let headers = row.headers.iter().map(|(name, value)| (name.clone().into(), value.as_ref().map(bytes)));
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 6,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: row.offset,
        sequence: row.offset as i32,
        timestamp: row.time_ms.expect("one is drawn"),
        key: row.key.as_ref().map(bytes),
        value: row.value.as_ref().map(bytes),
        headers: headers.collect(),
    }
}

#[test]
fn what_it_writes_is_read() {
    for compression in COMPRESSIONS {
        let (rows, mut set) = (rows(), BytesMut::new());
        for part in rows.chunks(120) {
            let records: Vec<Record> = part.iter().map(record_of).collect();
            let options = RecordEncodeOptions { version: 2, compression };
            RecordBatchEncoder::encode(&mut set, &records, &options).expect("small");
        }
        let walked = walk(&set, 100);
        assert_eq!(
            (walked.end, walked.counts.batches, walked.leader_epoch),
            (End::Whole, 3, Some(6)),
            "{compression:?}"
        );
        assert_eq!(walked.rows, rows, "{compression:?}");
    }
}

/// Else the encoder of these tests and the walk could agree on something that nobody else writes.
#[test]
fn what_these_tests_write_it_reads() {
    for codec in CODECS {
        let rows = rows();
        let mut set = Bytes::from(Batch::of(100, &rows, codec).write());
        let found = RecordBatchDecoder::decode(&mut set).expect("a batch").records;
        let expected: Vec<Record> = rows.iter().map(record_of).collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((found.offset, found.timestamp), (expected.offset, expected.timestamp), "{codec:?}");
            assert_eq!((&found.key, &found.value, &found.headers), (&expected.key, &expected.value, &expected.headers));
        }
    }
}
