//! Reads a topic to its end and does nothing with it: how fast records can be fetched, checked, decompressed and walked.
//!
//! `cargo run --release -p streamcore-kafka --example fetch_limit -- TOPIC NAME=VALUE...`, with settings of librdkafka and those of
//! `KNOBS`. It prints one line of JSON: records, bytes of their values, a checksum of both with the offsets, and seconds from the first
//! records to the last.
#![expect(clippy::print_stdout, reason = "whoever runs it reads what comes")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};
use streamcore::raw::RawBatch;
use streamcore_kafka::cluster::{At, Cluster, Isolation, Listed};
use streamcore_kafka::config::{Choice, Config, from_librdkafka};
use streamcore_kafka::connection::Dialer;
use streamcore_kafka::fetch::{Assignment, Fetcher, Limits, Settings, TopicPartition};

/// Settings that are the fetcher's.
const KNOBS: [&str; 3] = ["fetch_bytes_max", "partition_bytes_max", "queued_bytes_max"];

/// How long nothing may come.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What was read.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
    /// Wraps; the same for all orders of partitions.
    checksum: u64,
}

impl Sum {
    fn add(&mut self, batch: &RawBatch) {
        self.records += batch.len() as u64;
        for (row, place) in batch.places(0..batch.len()).enumerate() {
            let bytes = place.map_or(0, |place| place.len() as u64);
            self.bytes += bytes;
            let offset = batch.offset(row).cast_unsigned() << 8 | u64::from(batch.lane.cast_unsigned() & 0xff);
            self.checksum = self.checksum.wrapping_add((offset ^ bytes << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn settings(words: impl Iterator<Item = String>) -> Outcome<(Config, Settings)> {
    let pairs = words.map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut pairs = pairs.collect::<Option<BTreeMap<_, _>>>().ok_or("settings are NAME=VALUE")?;
    let knobs = KNOBS.map(|name| pairs.remove(name).map(|value| value.parse()).transpose());
    let [fetch, partition, queued] = knobs;
    let default = Settings::default();
    let settings = Settings {
        fetch_bytes_max: fetch?.unwrap_or(default.fetch_bytes_max),
        partition_bytes_max: partition?.unwrap_or(default.partition_bytes_max),
        queued_bytes_max: queued?.unwrap_or(default.queued_bytes_max),
        ..default
    };
    match from_librdkafka(&pairs, None)? {
        Choice::Native(config) => Ok((*config, settings)),
        Choice::Librdkafka(names) => Err(format!("settings of librdkafka alone: {names:?}").into()),
    }
}

/// Each partition from its beginning to its end.
fn whole(cluster: &mut Cluster, topic: &str) -> Outcome<Vec<Assignment>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let view = cluster.refresh(&[topic], deadline)?;
    let partitions: Vec<i32> = view.topics.get(topic).ok_or("no such topic")?.leaders.keys().copied().collect();
    let mut list = |at| cluster.list_offsets(topic, &partitions, at, Isolation::Committed, deadline);
    let (first, last) = (list(At::Earliest)?, list(At::Latest)?);
    let offset = |listed: &BTreeMap<i32, Listed>, partition| listed.get(&partition).and_then(|listed| listed.offset);
    let all = partitions.iter().map(|&partition| Assignment {
        stop: offset(&last, partition),
        ..Assignment::new(TopicPartition::new(topic, partition), offset(&first, partition).unwrap_or(0))
    });
    Ok(all.filter(|assignment| Some(assignment.offset) < assignment.stop).collect())
}

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let topic = words.next().ok_or("TOPIC NAME=VALUE...")?;
    let (config, settings) = settings(words)?;
    let dialer = Dialer::new(config)?;
    let assignments = whole(&mut Cluster::new(dialer.clone()), &topic)?;
    let mut missing: BTreeMap<_, _> = assignments.iter().map(|one| (one.place.clone(), one.stop)).collect();
    let fetcher = Fetcher::new(dialer, settings)?;
    fetcher.assign(&assignments);
    let mut started = None;
    let mut sum = Sum::default();
    while !missing.is_empty() {
        let taken = fetcher.take(SILENCE_MAX, Limits::default());
        if let Some(trouble) = taken.troubles.into_iter().next() {
            return Err(trouble.into());
        }
        if taken.moved.is_empty() {
            return Err(format!("nothing comes: {:?}", fetcher.progress()).into());
        }
        started.get_or_insert_with(Instant::now);
        taken.batches.iter().for_each(|batch| sum.add(batch));
        for moved in taken.moved {
            let is_done = missing.get(&moved.place).is_some_and(|stop| Some(moved.next_offset) >= *stop);
            if is_done {
                missing.remove(&moved.place);
            }
        }
    }
    let seconds = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
    let Sum { records, bytes, checksum } = sum;
    let rate = records as f64 / seconds;
    println!(
        "{{\"records\": {records}, \"bytes\": {bytes}, \"checksum\": \"{checksum:016x}\", \"seconds\": {seconds:.3}, \"records_s\": {rate:.0}}}"
    );
    Ok(())
}
