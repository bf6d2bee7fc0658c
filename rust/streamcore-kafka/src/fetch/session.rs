//! What one broker is asked for, and what of it has to be said again: a fetch session (KIP-227).
//!
//! `broker.rs` says which partitions are wanted now, sends the request that is made of them and gives the answer back. Nothing here waits
//! or talks. Invariant: `asked` is what the broker takes the last request for, also of partitions that it did not name; so each
//! answer is matched with the offset that it was asked for.

use super::TopicPartition;
use super::answer::{Answer, Told, TopicName};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Versions from which on a request has sessions, the leader's epoch, the rack, the last fetched epoch, and topics by id.
const SESSIONS_FROM: i16 = 7;
const LEADER_EPOCH_FROM: i16 = 9;
const RACK_FROM: i16 = 11;
const FETCHED_EPOCH_FROM: i16 = 12;
const IDS_FROM: i16 = 13;

/// The newest version in which topics go by their names.
const NAMES_UPTO: i16 = IDS_FROM - 1;

/// A partition that is wanted, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub place: TopicPartition,
    /// The topic's id, where the cluster tells it.
    pub topic_id: Option<Uuid>,
    /// The assignment that it is of.
    pub token: u64,
    /// The first record that is wanted.
    pub offset: i64,
    /// The epoch in which we think that it is led.
    pub leader_epoch: Option<i32>,
    /// The epoch of the record in front, by which the broker sees whether its log is the one that we read.
    pub fetched_epoch: Option<i32>,
    /// Most bytes of it in an answer, unless its first batch has more.
    pub bytes_max: i32,
}

/// What holds for all partitions of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long the broker waits for records where there are none.
    pub wait_max: Duration,
    /// Most bytes of an answer, unless its first batch has more.
    pub bytes_max: i32,
    /// Whether only committed records are wanted.
    pub committed: bool,
    /// Where we are.
    pub rack: String,
}

/// A fetch session with one broker, over one connection.
#[derive(Debug, Default)]
pub struct Session {
    /// The broker's number for it; 0 while there is none.
    id: i32,
    /// The number of the next request in it; 0 begins one anew.
    epoch: i32,
    /// Whether its topics go by their ids.
    by_id: bool,
    /// What the broker takes the last request for.
    asked: BTreeMap<TopicPartition, Wanted>,
    /// The number of the request whose answer last had records of a partition.
    gave: BTreeMap<TopicPartition, u64>,
    /// Requests so far.
    requests: u64,
}

/// A partition of an answer with what was asked of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked for.
    pub asked: Wanted,
    /// What is told of it.
    pub told: Told,
}

/// What an answer is worth.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// Partitions of which something is told. Of all others that were asked for there is nothing new.
    Partitions(Vec<Answered>),
    /// Nothing: the session is over by that error, and to be begun anew at once.
    Anew(ResponseError),
    /// The whole request failed.
    Failed(ResponseError),
}

impl Session {
    /// The newest version that a request for `wanted` may have: topics go by their ids where all have one.
    #[must_use]
    pub fn version_max(wanted: &[Wanted]) -> i16 {
        if wanted.iter().all(|one| one.topic_id.is_some()) { i16::MAX } else { NAMES_UPTO }
    }

    /// What the last request was for.
    pub fn asked(&self) -> impl Iterator<Item = &Wanted> {
        self.asked.values()
    }

    /// The next request, for `wanted` and nothing else.
    pub fn request(&mut self, wanted: Vec<Wanted>, terms: &Terms, version: i16) -> FetchRequest {
        self.requests += 1;
        let by_id = version >= IDS_FROM;
        if by_id != self.by_id || version < SESSIONS_FROM {
            // A session stays with the kind of names that it began with.
            self.epoch = 0;
        }
        self.by_id = by_id;
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(i32::try_from(terms.wait_max.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(terms.bytes_max)
            .with_isolation_level(i8::from(terms.committed));
        let request = if version >= RACK_FROM {
            request.with_rack_id(StrBytes::from_string(terms.rack.clone()))
        } else {
            request
        };
        if version < SESSIONS_FROM {
            return request.with_topics(self.all(wanted, version));
        }
        if wanted.iter().any(|one| self.asked.get(&one.place).is_some_and(|known| known.token != one.token)) {
            // A broker leaves out what it has told already, also to who has forgotten it: where a quiet partition ends.
            self.epoch = 0;
        }
        let request = request.with_session_id(self.id).with_session_epoch(self.epoch);
        if self.epoch == 0 {
            return request.with_topics(self.all(wanted, version));
        }
        let forgotten = self.forget(&wanted, version);
        request.with_topics(self.changed(wanted, version)).with_forgotten_topics_data(forgotten)
    }

    /// All of `wanted`, those first that gave no records for the longest time: a broker fills an answer from the front.
    fn all(&mut self, mut wanted: Vec<Wanted>, version: i16) -> Vec<FetchTopic> {
        self.gave.retain(|place, _| wanted.iter().any(|one| one.place == *place));
        wanted.sort_by_cached_key(|one| (self.gave.get(&one.place).copied(), one.place.clone()));
        let topics = topics(&wanted, version);
        self.asked = wanted.into_iter().map(|one| (one.place.clone(), one)).collect();
        topics
    }

    /// Those of `wanted` that the broker does not know so. It keeps the order of all of them itself.
    fn changed(&mut self, wanted: Vec<Wanted>, version: i16) -> Vec<FetchTopic> {
        let changed = wanted.into_iter().filter(|one| {
            let known = self.asked.get(&one.place);
            known.is_none_or(|known| !is_said_alike(known, one))
        });
        let changed: Vec<_> = changed.collect();
        let topics = topics(&changed, version);
        self.asked.extend(changed.into_iter().map(|one| (one.place.clone(), one)));
        topics
    }

    /// Forgets what is not wanted any more, and what goes by another id now.
    fn forget(&mut self, wanted: &[Wanted], version: i16) -> Vec<ForgottenTopic> {
        let wanted: BTreeMap<_, _> = wanted.iter().map(|one| (&one.place, one)).collect();
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        self.asked.retain(|place, known| match wanted.get(place) {
            Some(one) if one.topic_id == known.topic_id => true,
            _ => {
                forget(&mut forgotten, known, version);
                false
            }
        });
        self.gave.retain(|place, _| wanted.contains_key(place));
        forgotten
    }

    /// Takes the answer to the last request.
    pub fn apply(&mut self, answer: Answer, version: i16) -> Applied {
        use ResponseError as Error;
        match answer.error {
            None => {}
            Some(error @ Error::FetchSessionIdNotFound) => {
                (self.id, self.epoch) = (0, 0);
                return Applied::Anew(error);
            }
            Some(
                error
                @ (Error::InvalidFetchSessionEpoch | Error::FetchSessionTopicIdError | Error::InconsistentTopicId),
            ) => {
                // The broker closes the old one.
                self.epoch = 0;
                return Applied::Anew(error);
            }
            Some(error) => {
                self.epoch = 0;
                return Applied::Failed(error);
            }
        }
        if version >= SESSIONS_FROM {
            self.go_on(answer.session_id);
        }
        let ids = self.asked.values().filter_map(|one| Some((one.topic_id?, &one.place.topic)));
        let ids: BTreeMap<_, _> = ids.collect();
        let partitions = answer.partitions.into_iter().filter_map(|told| self.matched(told, &ids));
        let partitions: Vec<_> = partitions.collect();
        for one in partitions.iter().filter(|one| !one.told.records.is_empty()) {
            self.gave.insert(one.asked.place.clone(), self.requests);
        }
        if partitions.iter().any(|one| one.told.error == Some(Error::InconsistentTopicId)) {
            self.epoch = 0;
        }
        Applied::Partitions(partitions)
    }

    /// The broker has a session, or none.
    const fn go_on(&mut self, session_id: i32) {
        self.id = session_id;
        self.epoch = match (session_id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
    }

    /// What is told with what was asked; nothing where that was not asked for.
    fn matched(&self, told: Told, ids: &BTreeMap<Uuid, &Arc<str>>) -> Option<Answered> {
        let topic = match &told.topic {
            TopicName::Name(topic) => topic,
            TopicName::Id(id) => ids.get(id)?,
        };
        let place = TopicPartition { topic: Arc::clone(topic), partition: told.partition };
        Some(Answered { asked: self.asked.get(&place)?.clone(), told })
    }
}

/// Whether two are the same on the wire.
fn is_said_alike(known: &Wanted, one: &Wanted) -> bool {
    *known == Wanted { token: known.token, ..one.clone() }
}

/// The partitions in their order, by their topics.
fn topics(wanted: &[Wanted], version: i16) -> Vec<FetchTopic> {
    let mut topics = Vec::new();
    for same in wanted.chunk_by(|one, next| one.place.topic == next.place.topic) {
        let Some(first) = same.first() else { continue };
        let topic = FetchTopic::default().with_partitions(same.iter().map(|one| partition(one, version)).collect());
        topics.push(match first.topic_id.filter(|_| version >= IDS_FROM) {
            Some(id) => topic.with_topic_id(id),
            None => topic.with_topic(StrBytes::from_string(first.place.topic.to_string()).into()),
        });
    }
    topics
}

fn partition(wanted: &Wanted, version: i16) -> FetchPartition {
    let since = |from, epoch: Option<i32>| epoch.filter(|_| version >= from).unwrap_or(-1);
    FetchPartition::default()
        .with_partition(wanted.place.partition)
        .with_current_leader_epoch(since(LEADER_EPOCH_FROM, wanted.leader_epoch))
        .with_last_fetched_epoch(since(FETCHED_EPOCH_FROM, wanted.fetched_epoch))
        .with_fetch_offset(wanted.offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(wanted.bytes_max)
}

fn forget(forgotten: &mut Vec<ForgottenTopic>, known: &Wanted, version: i16) {
    let id = known.topic_id.filter(|_| version >= IDS_FROM);
    let name = &known.place.topic;
    let is_it = |topic: &&mut ForgottenTopic| match id {
        Some(id) => topic.topic_id == id,
        None => topic.topic.as_str() == &**name,
    };
    if let Some(topic) = forgotten.iter_mut().find(is_it) {
        topic.partitions.push(known.place.partition);
        return;
    }
    let topic = ForgottenTopic::default().with_partitions(vec![known.place.partition]);
    forgotten.push(match id {
        Some(id) => topic.with_topic_id(id),
        None => topic.with_topic(StrBytes::from_string(name.to_string()).into()),
    });
}

#[cfg(test)]
mod tests;
