//! Brokers for tests that have logs, lead partitions and keep fetch sessions as Kafka does.
//!
//! Invariant: what is fetched is what a broker would give: whole batches from the one on that holds the offset, and of a session only
//! what is new.

use crate::config::Config;
use crate::scripted::{Call, Reply, Scripted, all, versions};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub const TOPIC: &str = "clicks";

/// A batch of a log.
#[derive(Debug, Clone)]
pub struct Batch {
    pub last: i64,
    pub bytes: Bytes,
}

/// What the records of a batch have in common.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub producer: Option<i64>,
    pub control: Option<u8>,
    pub compression: Compression,
    pub value_bytes: usize,
}

impl Default for Kind {
    fn default() -> Self {
        Self { producer: None, control: None, compression: Compression::None, value_bytes: 8 }
    }
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub leader: i32,
    pub epoch: i32,
    pub batches: Vec<Batch>,
    pub start: i64,
    pub aborted: Vec<(i64, i64)>,
    /// Who the leader sends readers to that say where they are.
    pub preferred: Option<i32>,
    /// Errors that come instead of records, the last one first.
    pub errors: Vec<ResponseError>,
    pub diverging: Option<(i32, i64)>,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.last + 1)
    }

    /// Appends a batch of that many records.
    pub fn append(&mut self, count: i64, kind: Kind) {
        let (base, epoch) = (self.end(), self.epoch);
        let record = |offset: i64| Record {
            transactional: kind.producer.is_some(),
            control: kind.control.is_some(),
            delete_horizon: false,
            partition_leader_epoch: epoch,
            producer_id: kind.producer.unwrap_or(-1),
            producer_epoch: 0,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: (offset - base) as i32,
            timestamp: offset,
            key: kind.control.map(|kind| Bytes::from(vec![0, 0, 0, kind])),
            value: Some(Bytes::from(format!("{offset:0width$}", width = kind.value_bytes))),
            headers: std::iter::empty().collect(),
        };
        let records: Vec<_> = (base..base + count).map(record).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: kind.compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("encoded");
        self.batches.push(Batch { last: base + count - 1, bytes: bytes.freeze() });
    }

    /// As a broker: cut where the bytes are over. A batch at the beginning that would be is given whole where `is_first`, and not
    /// at all where something of another partition comes before.
    fn read(&self, offset: i64, bytes_max: usize, is_first: bool) -> Bytes {
        let mut set = BytesMut::new();
        for batch in self.batches.iter().filter(|batch| batch.last >= offset) {
            if set.is_empty() && batch.bytes.len() > bytes_max {
                return if is_first { batch.bytes.clone() } else { Bytes::new() };
            }
            set.extend_from_slice(&batch.bytes);
            if set.len() >= bytes_max {
                set.truncate(bytes_max);
                break;
            }
        }
        set.freeze()
    }
}

/// A fetch as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub broker: i32,
    pub version: i16,
    pub session: (i32, i32),
    pub asked: Vec<(i32, i64)>,
    pub forgotten: Vec<i32>,
    pub rack: String,
    pub wait_ms: i32,
}

type Hook = Box<dyn FnMut(&Seen, Vec<u8>) -> Reply + Send>;

#[derive(Default)]
pub struct World {
    pub id: Uuid,
    pub logs: BTreeMap<i32, Log>,
    pub topic_error: Option<ResponseError>,
    ports: BTreeMap<i32, u16>,
    /// Brokers that are told of.
    pub listed: Vec<i32>,
    pub fetch_version_max: i16,
    pub has_sessions: bool,
    /// By broker: the number of the session, its next epoch, and offset, bytes and what was last told of each partition.
    sessions: BTreeMap<i32, (i32, i32, BTreeMap<i32, Kept>)>,
    session_last: i32,
    pub seen: Vec<Seen>,
    /// Errors of whole answers, the last one first.
    pub top_errors: Vec<ResponseError>,
    /// How many fetches had come in when the last of these was said.
    pub failed_at: usize,
    pub hook: Option<Hook>,
    pub metadata_calls: usize,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    offset: i64,
    epoch: i32,
    bytes_max: usize,
    told: Option<i64>,
}

pub struct Model {
    world: Arc<Mutex<World>>,
    brokers: Vec<Scripted>,
}

impl Model {
    /// Brokers 0 to `brokers`; partition `p` is led by the `p`th of them in turn.
    pub fn start(brokers: i32, partitions: i32) -> Self {
        let log = |p: i32| Log { leader: p % brokers, epoch: 1, ..Log::default() };
        let world = World {
            id: Uuid::from_u128(7),
            logs: (0..partitions).map(|p| (p, log(p))).collect(),
            listed: (0..brokers).collect(),
            fetch_version_max: 18,
            has_sessions: true,
            ..World::default()
        };
        let world = Arc::new(Mutex::new(world));
        let started = |id: i32| {
            let world = Arc::clone(&world);
            Scripted::start(move |call| reply(&world, id, call))
        };
        let brokers: Vec<_> = (0..brokers).map(started).collect();
        let ports = brokers.iter().zip(0..).map(|(broker, id)| (id, broker.address.port)).collect();
        world.lock().expect("no panic").ports = ports;
        Self { world, brokers }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    pub fn append(&self, partition: i32, count: i64) {
        self.append_as(partition, count, Kind::default());
    }

    pub fn append_as(&self, partition: i32, count: i64, kind: Kind) {
        self.world().logs.get_mut(&partition).expect("there").append(count, kind);
    }

    pub fn config(&self) -> Config {
        self.brokers[0].config()
    }

    /// Changes the next answers to fetches.
    pub fn hook(&self, hook: impl FnMut(&Seen, Vec<u8>) -> Reply + Send + 'static) {
        self.world().hook = Some(Box::new(hook));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.world().seen.clone()
    }
}

fn reply(world: &Mutex<World>, broker: i32, call: &Call) -> Reply {
    match call.key {
        ApiVersionsRequest::KEY => {
            let max = world.lock().expect("no panic").fetch_version_max;
            let keys = [all::<MetadataRequest>(), (FetchRequest::KEY, 4, max)];
            call.answer::<ApiVersionsRequest>(&versions(&keys))
        }
        MetadataRequest::KEY => call.answer::<MetadataRequest>(&metadata(&mut world.lock().expect("no panic"), call)),
        _ => fetch(world, broker, call),
    }
}

fn metadata(world: &mut World, call: &Call) -> MetadataResponse {
    world.metadata_calls += 1;
    let broker = |id: &i32| {
        let broker = MetadataResponseBroker::default().with_node_id((*id).into());
        broker.with_host(StrBytes::from_static_str("127.0.0.1")).with_port(i32::from(world.ports[id]))
    };
    let partition = |(number, log): (&i32, &Log)| {
        let partition = MetadataResponsePartition::default().with_partition_index(*number);
        partition.with_leader_id(log.leader.into()).with_leader_epoch(log.epoch)
    };
    let topic = MetadataResponseTopic::default().with_name(Some(StrBytes::from_static_str(TOPIC).into()));
    let topic = topic.with_partitions(world.logs.iter().map(partition).collect());
    let topic = if call.version >= 10 { topic.with_topic_id(world.id) } else { topic };
    let topic = topic.with_error_code(world.topic_error.map_or(0, |error| error.code()));
    MetadataResponse::default().with_brokers(world.listed.iter().map(broker).collect()).with_topics(vec![topic])
}

fn fetch(world: &Mutex<World>, broker: i32, call: &Call) -> Reply {
    let request = call.request::<FetchRequest>();
    let until = Instant::now() + Duration::from_millis(request.max_wait_ms.unsigned_abs().into());
    let seen = seen(broker, call.version, &request);
    {
        let mut world = world.lock().expect("no panic");
        world.seen.push(seen.clone());
        if let Some(error) = world.top_errors.pop() {
            world.failed_at = world.seen.len();
            let answer = FetchResponse::default().with_error_code(error.code());
            return call.answer::<FetchRequest>(&answer);
        }
    }
    let session = match begin(&mut world.lock().expect("no panic"), broker, call.version, &request) {
        Ok(session) => session,
        Err(error) => return call.answer::<FetchRequest>(&FetchResponse::default().with_error_code(error.code())),
    };
    loop {
        let mut world = world.lock().expect("no panic");
        let told = told(&mut world, broker, call.version, &request, session);
        if !told.is_empty() || Instant::now() >= until {
            let topic = FetchableTopicResponse::default().with_partitions(told);
            let topic = if call.version >= 13 {
                topic.with_topic_id(world.id)
            } else {
                topic.with_topic(StrBytes::from_static_str(TOPIC).into())
            };
            let topics = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
            let answer = FetchResponse::default().with_responses(topics).with_session_id(session);
            let reply = call.answer::<FetchRequest>(&answer);
            return match (&mut world.hook, reply) {
                (Some(hook), Reply::Say(bytes)) => hook(&seen, bytes),
                (_, reply) => reply,
            };
        }
        drop(world);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn seen(broker: i32, version: i16, request: &FetchRequest) -> Seen {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
    Seen {
        broker,
        version,
        session: (request.session_id, request.session_epoch),
        asked: partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect(),
        forgotten: forgotten.collect(),
        rack: request.rack_id.to_string(),
        wait_ms: request.max_wait_ms,
    }
}

/// Takes over what is asked for; gives the number of the session.
fn begin(world: &mut World, broker: i32, version: i16, request: &FetchRequest) -> Result<i32, ResponseError> {
    let is_full = version < 7 || request.session_epoch <= 0;
    if is_full {
        world.session_last += 1;
        world.sessions.insert(broker, (world.session_last, 1, BTreeMap::new()));
    }
    let Some((id, epoch, kept)) = world.sessions.get_mut(&broker) else {
        return Err(ResponseError::FetchSessionIdNotFound);
    };
    if !is_full {
        if *id != request.session_id {
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        if *epoch != request.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        *epoch += 1;
    }
    for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
        assert!(kept.remove(partition).is_some(), "forgotten, and never asked for");
    }
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        let one = Kept {
            offset: partition.fetch_offset,
            epoch: partition.current_leader_epoch,
            bytes_max: partition.partition_max_bytes as usize,
            told: None,
        };
        kept.insert(partition.partition, one);
    }
    Ok(if version >= 7 && world.has_sessions { *id } else { 0 })
}

/// What is new for the session.
fn told(world: &mut World, broker: i32, version: i16, request: &FetchRequest, session: i32) -> Vec<PartitionData> {
    let World { sessions, logs, .. } = world;
    let Some((_, _, kept)) = sessions.get_mut(&broker) else { return Vec::new() };
    let mut answer = Vec::new();
    for (partition, kept) in kept {
        let data = PartitionData::default().with_partition_index(*partition);
        let Some(log) = logs.get_mut(partition) else {
            answer.push(data.with_error_code(ResponseError::UnknownTopicOrPartition.code()));
            continue;
        };
        let error = log.errors.pop().or_else(|| error_of(log, broker, kept));
        if let Some(error) = error {
            let data = data.with_error_code(error.code()).with_high_watermark(-1);
            let leader = LeaderIdAndEpoch::default().with_leader_id(log.leader.into()).with_leader_epoch(log.epoch);
            let is_moved = error == ResponseError::NotLeaderOrFollower && version >= 12;
            answer.push(if is_moved { data.with_current_leader(leader) } else { data });
            continue;
        }
        let data =
            data.with_high_watermark(log.end()).with_last_stable_offset(log.end()).with_log_start_offset(log.start);
        if let (Some((epoch, end)), true) = (log.diverging, version >= 12) {
            let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
            answer.push(data.with_diverging_epoch(diverging));
            continue;
        }
        if let Some(replica) = log.preferred.filter(|_| broker == log.leader && !request.rack_id.is_empty()) {
            answer.push(data.with_preferred_read_replica(replica.into()));
            continue;
        }
        let has_records = |data: &PartitionData| data.records.as_ref().is_some_and(|records| !records.is_empty());
        let records = log.read(kept.offset, kept.bytes_max, !answer.iter().any(has_records));
        // Without a session everything is told each time, but not before there is something.
        let is_new = !records.is_empty() || kept.told != Some(log.end()) && session != 0;
        kept.told = Some(log.end());
        if is_new {
            let one = |(id, first): &(i64, i64)| {
                AbortedTransaction::default().with_producer_id((*id).into()).with_first_offset(*first)
            };
            let aborted = Some(log.aborted.iter().map(one).collect());
            answer.push(data.with_records(Some(records)).with_aborted_transactions(aborted));
        }
    }
    answer
}

fn error_of(log: &Log, broker: i32, kept: &Kept) -> Option<ResponseError> {
    if broker != log.leader && log.preferred != Some(broker) {
        return Some(ResponseError::NotLeaderOrFollower);
    }
    if kept.epoch >= 0 && kept.epoch < log.epoch {
        return Some(ResponseError::FencedLeaderEpoch);
    }
    if kept.epoch > log.epoch {
        return Some(ResponseError::UnknownLeaderEpoch);
    }
    (kept.offset < log.start || kept.offset > log.end()).then_some(ResponseError::OffsetOutOfRange)
}
