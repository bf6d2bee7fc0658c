//! What is known of a cluster: its brokers, and who leads what.
//!
//! `cluster.rs` applies each answer to Metadata. Invariant: the leader of a partition never goes back to one of an earlier epoch, as
//! long as the topic is the same: a broker that lags behind tells old news.

use crate::config::Address;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// Where it listens for us.
    pub address: Address,
    /// Where it stands.
    pub rack: Option<String>,
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The number of the broker; none while nobody does.
    pub broker: Option<i32>,
    /// How often leadership changed; none of a broker that does not tell.
    pub epoch: Option<i32>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Differs where it was deleted and made again under the same name; none of a broker that does not tell.
    pub id: Option<Uuid>,
    /// Who leads, by partition.
    pub leaders: BTreeMap<i32, Leader>,
}

/// What is known of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Its name for itself.
    pub id: Option<String>,
    /// By number.
    pub brokers: BTreeMap<i32, Broker>,
    /// By name; those that were asked for.
    pub topics: BTreeMap<String, Topic>,
}

impl View {
    /// The broker that leads a partition, and the epoch in which it does.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(&Broker, Option<i32>)> {
        let leader = self.topics.get(topic)?.leaders.get(&partition)?;
        Some((self.brokers.get(&leader.broker?)?, leader.epoch))
    }

    /// Takes over what a broker tells. Gives the topics of which it tells an error.
    pub fn apply(&mut self, answer: &MetadataResponse) -> Vec<(String, ResponseError)> {
        if let Some(id) = &answer.cluster_id {
            self.id = Some(id.to_string());
        }
        // A broker that has just begun may know no other, itself included.
        let brokers = answer.brokers.iter().filter_map(broker).map(|broker| (broker.id, broker));
        let brokers: BTreeMap<_, _> = brokers.collect();
        if !brokers.is_empty() {
            self.brokers = brokers;
        }
        let mut faults = Vec::new();
        for told in &answer.topics {
            let Some(name) = told.name.as_ref().map(|name| name.to_string()) else { continue };
            match ResponseError::try_from_code(told.error_code) {
                None => self.apply_topic(name, told),
                Some(error) => faults.push((name, error)),
            }
        }
        faults
    }

    fn apply_topic(&mut self, name: String, told: &MetadataResponseTopic) {
        let id = Some(told.topic_id).filter(|id| !id.is_nil());
        let known = self.topics.remove(&name).filter(|known| known.id == id);
        let known = known.map(|known| known.leaders).unwrap_or_default();
        let leaders = told.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            (index, newer(known.get(&index).copied(), leader(partition)))
        });
        self.topics.insert(name, Topic { id, leaders: leaders.collect() });
    }
}

fn broker(told: &kafka_protocol::messages::metadata_response::MetadataResponseBroker) -> Option<Broker> {
    let port = u16::try_from(told.port).ok().filter(|port| *port > 0)?;
    let rack = told.rack.as_ref().map(ToString::to_string);
    Some(Broker { id: told.node_id.0, address: Address::new(told.host.to_string(), port), rack })
}

fn leader(told: &MetadataResponsePartition) -> Leader {
    let broker = Some(told.leader_id.0).filter(|id| *id >= 0);
    Leader { broker, epoch: Some(told.leader_epoch).filter(|epoch| *epoch >= 0) }
}

/// The newer of two leaders; what is told where nobody knows.
fn newer(known: Option<Leader>, told: Leader) -> Leader {
    match known {
        Some(known) if known.epoch.zip(told.epoch).is_some_and(|(known, told)| told < known) => known,
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::protocol::StrBytes;

    fn answer(id: u128, leader: i32, epoch: i32) -> MetadataResponse {
        let broker = |id: i32| {
            let broker = MetadataResponseBroker::default().with_node_id(id.into()).with_port(9092);
            broker.with_host(StrBytes::from_string(format!("kafka-{id}")))
        };
        let partition = MetadataResponsePartition::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
        let topic = MetadataResponseTopic::default().with_name(Some(StrBytes::from_static_str("clicks").into()));
        let topic = topic.with_topic_id(Uuid::from_u128(id)).with_partitions(vec![partition]);
        MetadataResponse::default().with_brokers(vec![broker(1), broker(2)]).with_topics(vec![topic])
    }

    fn led(view: &View) -> Option<(i32, Option<i32>)> {
        view.leader("clicks", 0).map(|(broker, epoch)| (broker.id, epoch))
    }

    #[test]
    fn a_leader_never_goes_back_but_with_another_topic() {
        let mut view = View::default();
        assert_eq!(view.apply(&answer(7, 1, 3)), []);
        assert_eq!(led(&view), Some((1, Some(3))));
        view.apply(&answer(7, 2, 2));
        assert_eq!(led(&view), Some((1, Some(3))), "old news");
        view.apply(&answer(7, 2, 3));
        assert_eq!(led(&view), Some((2, Some(3))));
        view.apply(&answer(7, -1, 4));
        assert_eq!(led(&view), None, "nobody leads");
        view.apply(&answer(8, 1, 0));
        assert_eq!(led(&view), Some((1, Some(0))), "made again");
        view.apply(&answer(8, 2, -1));
        assert_eq!(led(&view), Some((2, None)), "of a broker that does not tell");
    }

    #[test]
    fn an_error_leaves_what_is_known_of_a_topic() {
        let mut view = View::default();
        view.apply(&answer(7, 1, 3));
        let mut wrong = answer(7, 1, 3);
        wrong.topics[0].error_code = ResponseError::LeaderNotAvailable.code();
        wrong.brokers.clear();
        assert_eq!(view.apply(&wrong), [("clicks".to_owned(), ResponseError::LeaderNotAvailable)]);
        assert_eq!(led(&view), Some((1, Some(3))));
    }
}
