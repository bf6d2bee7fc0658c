//! A real broker, by hand: its settings are lines of `name=value` in the variable `STREAMCORE_KAFKA_SETTINGS`.
//!
//! `cargo test -p streamcore-kafka --test broker -- --ignored --nocapture`, with the topic `STREAMCORE_KAFKA_TOPIC`. What must be refused
//! is told by `STREAMCORE_KAFKA_REFUSED`: words of the line.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "whoever runs it by hand says where, and reads what comes"
)]

use kafka_protocol::messages::MetadataRequest;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use streamcore_kafka::cluster::{At, Cluster, Isolation};
use streamcore_kafka::config::{Choice, Token, TokenSource, from_librdkafka};
use streamcore_kafka::connection::Dialer;
use streamcore_kafka::failure::Result;
use streamcore_kafka::secret::Secret;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn settings() -> BTreeMap<String, String> {
    let lines = variable("STREAMCORE_KAFKA_SETTINGS").expect("STREAMCORE_KAFKA_SETTINGS");
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("\\n", "\n"))).collect()
}

/// Ends of the topic before and after `STREAMCORE_KAFKA_WAIT_S`, so that a login of a short session is renewed between them.
fn ask(topic: &str) -> Result<()> {
    let token = |value| move || Ok(Token { value: Secret::new(String::clone(&value)), extensions: BTreeMap::new() });
    let tokens = variable("STREAMCORE_KAFKA_TOKEN").map(|value| TokenSource::new(token(value)));
    let Choice::Native(config) = from_librdkafka(&settings(), tokens)? else { panic!("settings of librdkafka alone") };
    let first = config.bootstrap[0].clone();
    let mut cluster = Cluster::new(Dialer::new(*config)?);
    // Of its own, so that a login that is not renewed is not hidden by a connection that is opened anew.
    let mut connection = cluster.dialer().open(&first)?;
    let deadline = || Instant::now() + Duration::from_secs(10);
    let view = cluster.refresh(&[topic], deadline())?.clone();
    let partitions: Vec<i32> = view.topics[topic].leaders.keys().copied().collect();
    eprintln!("{} brokers, {:?}", view.brokers.len(), view.topics[topic]);
    let wait_s = variable("STREAMCORE_KAFKA_WAIT_S").and_then(|text| text.parse().ok()).unwrap_or(0);
    for pause_s in [0, wait_s] {
        std::thread::sleep(Duration::from_secs(pause_s));
        connection.call(&MetadataRequest::default())?;
        for at in [At::Earliest, At::Latest, At::Time(1_000)] {
            for isolation in [Isolation::Committed, Isolation::Uncommitted] {
                let listed = cluster.list_offsets(topic, &partitions, at, isolation, deadline())?;
                assert_eq!(listed.len(), partitions.len());
                eprintln!("{at:?} {isolation:?}: {listed:?}");
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "it takes a broker"]
fn a_broker_answers_or_refuses() {
    let topic = variable("STREAMCORE_KAFKA_TOPIC").expect("STREAMCORE_KAFKA_TOPIC");
    match (ask(&topic), variable("STREAMCORE_KAFKA_REFUSED")) {
        (Ok(()), None) => {}
        (Err(failure), Some(words)) => {
            eprintln!("{failure}");
            let line = failure.to_string();
            assert!(line.contains(&words) && !line.contains("canary") && !line.contains('\n'), "{line}");
        }
        (Ok(()), Some(words)) => panic!("not refused: {words}"),
        (Err(failure), None) => panic!("{failure}"),
    }
}
