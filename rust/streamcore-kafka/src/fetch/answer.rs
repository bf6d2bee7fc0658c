//! The answer to a fetch, read where it is.
//!
//! `broker.rs` has the frame; [`crate::records`] then walks each record set in it. kafka-protocol's decoder would copy none of the records
//! either, but takes the frame away from whoever wants to write spaces between values. Invariant: a record set is within the frame,
//! and memory is taken only for what was found in it, never because a count says so.

use crate::aborted::AbortedTransaction;
use crate::shape::Walk;
use kafka_protocol::ResponseError;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The first version with compact lengths and tagged fields.
const FLEXIBLE_FROM: i16 = 12;

/// The first version that has topics by their ids.
const IDS_FROM: i16 = 13;

/// What is wrong with an answer.
type Result<T> = std::result::Result<T, &'static str>;

/// An answer without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How long the broker wants to be left alone.
    pub throttle: Duration,
    /// What is wrong with the whole request.
    pub error: Option<ResponseError>,
    /// The fetch session; 0 for none.
    pub session_id: i32,
    /// What it says of partitions, in its order.
    pub partitions: Vec<Told>,
}

/// A topic as an answer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicName {
    /// By its name, up to version 12.
    Name(Arc<str>),
    /// By its id, since then.
    Id(Uuid),
}

/// What an answer says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The topic.
    pub topic: TopicName,
    /// The number of the partition.
    pub partition: i32,
    /// What is wrong with it.
    pub error: Option<ResponseError>,
    /// Behind the last record that is replicated.
    pub high_watermark: Option<i64>,
    /// The first record of a transaction that is not over; the high watermark where there is none.
    pub last_stable_offset: Option<i64>,
    /// The first record that is kept.
    pub log_start: Option<i64>,
    /// Transactions in what was fetched that were aborted.
    pub aborted: Vec<AbortedTransaction>,
    /// The broker that is nearer and has the same.
    pub preferred_replica: Option<i32>,
    /// The log has other records than those that were fetched before: the last epoch that is the same, and where it ends.
    pub diverging: Option<(i32, i64)>,
    /// The broker that leads now, and its epoch.
    pub leader: Option<(i32, i32)>,
    /// Where in the frame the records are.
    pub records: Range<usize>,
}

/// Reads the answer in `frame`, of which the body begins at `begin`. What is behind the answer is left alone.
///
/// # Errors
/// What is not as the protocol has it.
pub fn read(frame: &[u8], begin: usize, version: i16) -> Result<Answer> {
    let rest = frame.get(begin..).unwrap_or_default();
    let walk = Walk { rest, version, is_flexible: version >= FLEXIBLE_FROM };
    Reader { walk, frame_bytes: frame.len() }.answer()
}

/// How far an answer was read.
struct Reader<'a> {
    walk: Walk<'a>,
    /// Bytes of the whole frame, from which places in it are counted.
    frame_bytes: usize,
}

impl Reader<'_> {
    fn answer(&mut self) -> Result<Answer> {
        let throttle_ms = self.i32()?;
        let has_session = self.walk.version >= 7;
        let error = if has_session { self.error()? } else { None };
        let session_id = if has_session { self.i32()? } else { 0 };
        let mut partitions = Vec::new();
        for _ in 0..self.walk.count()? {
            self.topic(&mut partitions)?;
        }
        // Where brokers listen, since version 16: the cluster is asked for that.
        self.tags(|_, _| Ok(()))?;
        let throttle = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0));
        Ok(Answer { throttle, error, session_id, partitions })
    }

    fn topic(&mut self, partitions: &mut Vec<Told>) -> Result<()> {
        let topic = if self.walk.version >= IDS_FROM {
            TopicName::Id(Uuid::from_bytes(self.walk.number()?))
        } else {
            TopicName::Name(
                std::str::from_utf8(self.walk.text()?).map_err(|_| "the name of a topic is no text")?.into(),
            )
        };
        for _ in 0..self.walk.count()? {
            partitions.push(self.partition(topic.clone())?);
        }
        self.tags(|_, _| Ok(()))
    }

    fn partition(&mut self, topic: TopicName) -> Result<Told> {
        let partition = self.i32()?;
        let error = self.error()?;
        let high_watermark = self.offset()?;
        let last_stable_offset = self.offset()?;
        let log_start = if self.walk.version >= 5 { self.offset()? } else { None };
        let mut aborted = Vec::new();
        for _ in 0..self.walk.count()? {
            aborted.push(AbortedTransaction { producer_id: self.i64()?, first_offset: self.i64()? });
            self.tags(|_, _| Ok(()))?;
        }
        let preferred = if self.walk.version >= 11 { self.i32()? } else { -1 };
        let bytes = self.walk.octets()?.len();
        let end = self.frame_bytes - self.walk.rest.len();
        let mut told = Told {
            topic,
            partition,
            error,
            high_watermark,
            last_stable_offset,
            log_start,
            aborted,
            preferred_replica: Some(preferred).filter(|id| *id >= 0),
            diverging: None,
            leader: None,
            records: end - bytes..end,
        };
        self.tags(|tag, field| told.tagged(tag, field))?;
        Ok(told)
    }

    /// Has `read` look at each tagged field, by its tag; versions that are not flexible have none.
    fn tags(&mut self, mut read: impl FnMut(u32, &mut Self) -> Result<()>) -> Result<()> {
        if !self.walk.is_flexible {
            return Ok(());
        }
        for _ in 0..self.walk.varint()? {
            let (tag, bytes) = (self.walk.varint()?, self.walk.varint()?);
            let rest = self.walk.take(bytes as usize)?;
            // Of a field nothing is read beyond it, and what newer brokers have at its end is left alone.
            read(tag, &mut Self { walk: Walk { rest, ..self.walk }, frame_bytes: self.frame_bytes })?;
        }
        Ok(())
    }

    fn error(&mut self) -> Result<Option<ResponseError>> {
        Ok(ResponseError::try_from_code(i16::from_be_bytes(self.walk.number()?)))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.walk.number()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.walk.number()?))
    }

    /// An offset, which is negative where the broker does not know it.
    fn offset(&mut self) -> Result<Option<i64>> {
        Ok(Some(self.i64()?).filter(|offset| *offset >= 0))
    }
}

impl Told {
    fn tagged(&mut self, tag: u32, field: &mut Reader<'_>) -> Result<()> {
        match tag {
            0 => {
                let (epoch, end_offset) = (field.i32()?, field.i64()?);
                self.diverging = (epoch >= 0).then_some((epoch, end_offset));
            }
            1 => {
                let (broker, epoch) = (field.i32()?, field.i32()?);
                self.leader = (broker >= 0 && epoch >= 0).then_some((broker, epoch));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
