//! Where partitions begin and end, and where a time is in them.
//!
//! Asked of the leader of each partition. Invariant: an answer has all partitions that were asked for, or there is an error.

use super::{Cluster, later};
use crate::config::Address;
use crate::failure::{Cause, Failure, Result, may_pass};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Where in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first record that is kept.
    Earliest,
    /// Behind the last one that can be read.
    Latest,
    /// The first one of that time or later, in ms.
    Time(i64),
}

/// Which records can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All that are replicated.
    Uncommitted,
    /// Those in front of the first transaction that is not over.
    Committed,
}

/// Where a partition is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The offset; none where no record is as late as the time asked for.
    pub offset: Option<i64>,
    /// The leader's epoch at that record, where it is told.
    pub leader_epoch: Option<i32>,
    /// The time of that record, where a time was asked for, in ms.
    pub timestamp_ms: Option<i64>,
}

impl At {
    const fn code(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Time(time_ms) => time_ms,
        }
    }
}

/// A partition, and the epoch in which we think that it is led.
type Led = (i32, Option<i32>);

/// A question to one leader.
struct Asked<'a> {
    topic: &'a str,
    at: At,
    isolation: Isolation,
    /// What it leads of what is asked for.
    partitions: Vec<Led>,
}

impl Cluster {
    /// Asks the leaders of `partitions` where they are at.
    ///
    /// # Errors
    /// A leader that does not answer by the deadline; a partition that is not there; a time before 1970; a missing right.
    pub fn list_offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        at: At,
        isolation: Isolation,
        deadline: Instant,
    ) -> Result<BTreeMap<i32, Listed>> {
        if matches!(at, At::Time(..0)) {
            return Err(self.failure(Cause::Setting { name: "time", fault: "it is before 1970".to_owned() }));
        }
        let mut missing: BTreeSet<i32> = partitions.iter().copied().collect();
        let mut listed = BTreeMap::new();
        if missing.iter().any(|partition| self.view().leader(topic, *partition).is_none()) {
            self.refresh(&[topic], deadline)?;
        }
        let mut last = None;
        loop {
            for (address, partitions) in self.by_leader(topic, &missing, &mut last)? {
                let asked = Asked { topic, at, isolation, partitions };
                match self.ask_leader(&address, &asked, deadline) {
                    Ok(answer) => {
                        let cause = take(&asked, &answer, &mut missing, &mut listed);
                        last = cause.map(|cause| Failure::new(&address, cause)).or(last);
                    }
                    Err(failure) if failure.is_passing() => last = later(last, failure, deadline),
                    Err(failure) => return Err(failure),
                }
            }
            let Some(partition) = missing.first().copied() else {
                self.backoff.reset();
                return Ok(listed);
            };
            let no_leader = || self.failure(Cause::NoLeader { topic: topic.to_owned(), partition });
            let failure = last.take().unwrap_or_else(no_leader);
            if !failure.is_passing() || !self.pause_until(deadline) {
                return Err(failure);
            }
            // Without a broker that answers, what is wrong with the leader says more.
            if let Err(other) = self.refresh(&[topic], deadline) {
                return Err(if other.is_passing() { failure } else { other });
            }
            last = Some(failure);
        }
    }

    /// The missing partitions by where their leaders are.
    fn by_leader(
        &self,
        topic: &str,
        missing: &BTreeSet<i32>,
        last: &mut Option<Failure>,
    ) -> Result<BTreeMap<Address, Vec<Led>>> {
        let mut leaders: BTreeMap<Address, Vec<_>> = BTreeMap::new();
        for &partition in missing {
            let known = self.view().topics.get(topic).is_some_and(|topic| topic.leaders.contains_key(&partition));
            match self.view().leader(topic, partition) {
                Some((broker, epoch)) => leaders.entry(broker.address.clone()).or_default().push((partition, epoch)),
                None if known => {
                    *last = Some(self.failure(Cause::NoLeader { topic: topic.to_owned(), partition }));
                }
                None => return Err(self.failure(Cause::NoPartition { topic: topic.to_owned(), partition })),
            }
        }
        Ok(leaders)
    }

    fn ask_leader(&mut self, address: &Address, asked: &Asked<'_>, deadline: Instant) -> Result<ListOffsetsResponse> {
        let timeout_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
        self.call(address, |version| request(asked, version, timeout_ms), deadline).map(|(answer, _)| answer)
    }
}

/// The request in a version: fields that it does not have stay as they are by default.
fn request(asked: &Asked<'_>, version: i16, timeout_ms: i32) -> ListOffsetsRequest {
    let partition = |(partition, epoch): &Led| {
        let epoch = epoch.filter(|_| version >= 4).unwrap_or(-1);
        ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_current_leader_epoch(epoch)
            .with_timestamp(asked.at.code())
    };
    let topic = ListOffsetsTopic::default()
        .with_name(StrBytes::from_string(asked.topic.to_owned()).into())
        .with_partitions(asked.partitions.iter().map(partition).collect());
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    // Version 1 knows nothing of transactions, and the encoder refuses to leave out what was asked for.
    let request = request.with_isolation_level(i8::from(asked.isolation == Isolation::Committed));
    if version >= 10 { request.with_timeout_ms(timeout_ms) } else { request }
}

/// Takes over what a leader answered; gives what is wrong with a partition that stays missing.
fn take(
    asked: &Asked<'_>,
    answer: &ListOffsetsResponse,
    missing: &mut BTreeSet<i32>,
    listed: &mut BTreeMap<i32, Listed>,
) -> Option<Cause> {
    let mut last = None;
    let topics = answer.topics.iter().filter(|topic| topic.name.as_str() == asked.topic);
    for told in topics.flat_map(|topic| &topic.partitions) {
        let partition = told.partition_index;
        match (ResponseError::try_from_code(told.error_code), read(asked.at, told)) {
            (None, Some(found)) if missing.remove(&partition) => drop(listed.insert(partition, found)),
            (None, Some(_)) => {}
            (None, None) => last = Some(Cause::NoLeader { topic: asked.topic.to_owned(), partition }),
            (Some(error), _) => {
                let what = format!("listing offsets of topic {} partition {partition}", asked.topic);
                last = Some(Cause::of_answer(what, format!("DESCRIBE on topic {}", asked.topic), error));
                if !may_pass(error) {
                    return last;
                }
            }
        }
    }
    last
}

/// A beginning or an end is always somewhere; a time may be behind the last record.
fn read(at: At, told: &ListOffsetsPartitionResponse) -> Option<Listed> {
    let there = |number: i64| Some(number).filter(|number| *number >= 0);
    let offset = there(told.offset);
    if offset.is_none() && !matches!(at, At::Time(_)) {
        return None;
    }
    let leader_epoch = Some(told.leader_epoch).filter(|epoch| *epoch >= 0);
    Some(Listed { offset, leader_epoch, timestamp_ms: there(told.timestamp) })
}
