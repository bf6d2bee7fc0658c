//! What ends the fetching of a partition, for its owner to decide on.
//!
//! `partitions.rs` keeps one for a partition until all that was fetched before it is taken. Invariant: what passes by itself is none of
//! these; a message is one line that names the partition and what to do.

use super::TopicPartition;
use crate::error::RecordsError;
use crate::failure::Failure;
use uuid::Uuid;

/// A partition that is not fetched on until it is sought or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Trouble {
    /// Which partition.
    pub place: TopicPartition,
    /// What is wrong.
    pub fault: TroubleFault,
}

/// What is wrong with a partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TroubleFault {
    /// It has no such offset.
    #[error(
        "it has no offset {offset}{}; retention was faster than this reader, or the topic was emptied: seek to what is kept", first_kept(*.log_start)
    )]
    OutOfRange {
        /// The one that was asked for.
        offset: i64,
        /// The first record that is kept, where a broker told that before.
        log_start: Option<i64>,
    },
    /// It does not have the records that were read.
    #[error(
        "the records in front of offset {offset} are not those that were read: its log was cut to offset {end_offset} of epoch {epoch}, by a leader that had lost some; seek there, and expect what was read behind it to be gone"
    )]
    Truncated {
        /// The one that was asked for.
        offset: i64,
        /// The last epoch up to which the log is the one that was read.
        epoch: i32,
        /// Where that ends.
        end_offset: i64,
    },
    /// A batch cannot be read, and was fetched twice.
    #[error("{0}")]
    Refused(RecordsError),
    /// Its topic was deleted and made again.
    #[error(
        "its topic was made again: it has the id {found} and had {known}; offsets of the old one mean nothing in it"
    )]
    OtherTopic {
        /// The id that it had.
        known: Uuid,
        /// The id that it has.
        found: Uuid,
    },
    /// A batch is larger than an answer may be.
    #[error(
        "its batch at offset {offset} has {bytes} bytes, and an answer may have {bytes_max}; raise receive.message.max.bytes"
    )]
    TooLarge {
        /// Where it begins.
        offset: i64,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A broker refuses, and will go on to do so.
    #[error("{0}")]
    Failed(Failure),
    /// A thread of the fetcher broke down.
    #[error("its fetching broke down: {0}; that is a fault of this program")]
    Panicked(String),
}

fn first_kept(log_start: Option<i64>) -> String {
    log_start.map_or_else(String::new, |first| format!(" (its first was {first})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_partition() {
        let trouble = |fault| Trouble { place: TopicPartition::new("clicks", 3), fault }.to_string();
        let line = trouble(TroubleFault::OutOfRange { offset: 7, log_start: Some(9) });
        assert!(line.starts_with("clicks [3]: it has no offset 7 (its first was 9); "), "{line}");
        let line = trouble(TroubleFault::OutOfRange { offset: 7, log_start: None });
        assert!(line.contains("no offset 7; "), "{line}");
    }
}
