//! What can be wrong with records that were fetched, in words for whoever runs the job.
//!
//! Every other file here uses this one. Invariant: a message names the topic, the partition and the offset at which the batch
//! begins, and quotes no record.

use std::sync::Arc;

/// A batch that cannot be read, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch of {topic} [{partition}] at offset {offset} {fault}")]
pub struct RecordsError {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// The offset at which it begins, as it says itself.
    pub offset: i64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is of before Kafka 0.11.
    #[error(
        "is of message format {magic}, which Kafka 0.11 replaced: copy the topic with a producer of today, or read it through librdkafka"
    )]
    OldFormat {
        /// The number of its format.
        magic: u8,
    },
    /// It is of a format to come.
    #[error("is of message format {magic}, which this version does not know: use a newer one")]
    NewFormat {
        /// The number of its format.
        magic: u8,
    },
    /// It is shorter than its own head.
    #[error("says that it has {bytes} bytes, which is less than its head takes: it is damaged, or what was fetched is")]
    Length {
        /// What it says.
        bytes: i32,
    },
    /// Its bytes are not those that were written.
    #[error(
        "has the checksum {computed:08x} instead of {written:08x}: it was damaged on the broker's disk or on the way (`kafka-dump-log.sh --deep-iteration` tells which)"
    )]
    Checksum {
        /// The one that was written with it.
        written: u32,
        /// The one its bytes have.
        computed: u32,
    },
    /// Its offsets are none.
    #[error("has offsets that cannot be ({last_delta} behind its first)")]
    Offsets {
        /// How far its last offset is said to be behind its first.
        last_delta: i32,
    },
    /// It begins before the batch in front of it ends.
    #[error("is not behind the one in front of it, which ends at offset {last_offset}")]
    NotBehind {
        /// The last offset of the batch in front.
        last_offset: i64,
    },
    /// It is compressed in an unknown way.
    #[error("is compressed by codec {codec}, which this version does not know: use a newer one")]
    Codec {
        /// The number of the codec.
        codec: u8,
    },
    /// It says that it is compressed, and its bytes cannot be decompressed.
    #[error("cannot be decompressed as {codec}: {reason}")]
    Packed {
        /// The codec's name.
        codec: &'static str,
        /// What the codec says.
        reason: String,
    },
    /// It would take more memory than it may.
    #[error("has more than {bytes_max} bytes once it is decompressed, which is more than a batch may have")]
    TooLarge {
        /// Most bytes of a batch.
        bytes_max: usize,
    },
    /// It cannot have so many records.
    #[error("says that it has {count} records, which its {bytes} bytes cannot hold")]
    Count {
        /// What it says.
        count: i32,
        /// Bytes of its records.
        bytes: usize,
    },
    /// One of its records cannot be read.
    #[error("has a record that {fault}: the {number}. of it")]
    Record {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// It goes on behind its records.
    #[error("has {bytes} bytes behind its last record")]
    Left {
        /// How many.
        bytes: usize,
    },
    /// It ends a transaction, and does not say how.
    #[error("should say how a transaction ended and does not")]
    Marker,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It ends in the middle, or is longer than the batch.
    #[error("is longer than its batch")]
    Cut,
    /// It is longer or shorter than its parts.
    #[error("is not as long as its parts")]
    Length,
    /// Its offset is not behind that of the one in front of it, or not within the batch.
    #[error("has an offset out of order")]
    Offset,
    /// Its time is none.
    #[error("has a time that no number holds")]
    Time,
    /// Its headers cannot be read.
    #[error("has headers that cannot be read")]
    Headers,
}
