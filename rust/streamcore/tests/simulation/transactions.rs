//! The transaction coordinator: producer ids and epochs, two-phase ends, timeouts.
//!
//! It speaks for a broker that verifies partitions (3.6 and later) and a client before KIP-890: the epoch is the same from
//! one transaction to the next, so an end that arrives late strikes whatever is open then.
//! Invariant: a request with another epoch than the newest changes nothing.

use crate::requests::{Identity, Partition, Refusal, Time};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Empty,
    Open {
        since: Time,
        partitions: BTreeSet<Partition>,
    },
    /// Decided, and markers are still to be written on these.
    Ending {
        commit: bool,
        partitions: BTreeSet<Partition>,
    },
    Ended {
        commit: bool,
    },
}

struct Transaction {
    producer: Identity,
    state: State,
}

/// A marker that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    pub name: usize,
    pub producer: Identity,
    pub partition: Partition,
    pub commit: bool,
}

/// All transactional ids.
#[derive(Default)]
pub struct Transactions {
    named: BTreeMap<usize, Transaction>,
    next_id: u64,
}

impl Transactions {
    /// A new epoch for this name; what it has open is aborted first.
    pub fn init(&mut self, name: usize, markers: &mut Vec<Marker>) -> Result<Identity, Refusal> {
        let next_id = &mut self.next_id;
        let transaction = self.named.entry(name).or_insert_with(|| {
            *next_id += 1;
            Transaction { producer: Identity { id: *next_id, epoch: 0 }, state: State::Empty }
        });
        match transaction.state {
            State::Open { .. } => {
                transaction.producer.epoch += 1;
                transaction.end(name, false, markers);
                Err(Refusal::Concurrent)
            }
            State::Ending { .. } => Err(Refusal::Concurrent),
            State::Empty | State::Ended { .. } => {
                transaction.producer.epoch += 1;
                transaction.state = State::Empty;
                Ok(transaction.producer)
            }
        }
    }

    /// Partitions join the transaction, which opens it.
    pub fn add(&mut self, producer: Identity, partitions: &[Partition], now: Time) -> Result<(), Refusal> {
        let (_, transaction) = self.find(producer)?;
        match &mut transaction.state {
            State::Open { partitions: all, .. } => all.extend(partitions),
            State::Ending { .. } => return Err(Refusal::Concurrent),
            State::Empty | State::Ended { .. } => {
                transaction.state = State::Open { since: now, partitions: partitions.iter().copied().collect() };
            }
        }
        Ok(())
    }

    /// Whether records may be appended to this partition now.
    pub fn verify(&mut self, producer: Identity, partition: Partition) -> Result<(), Refusal> {
        let (_, transaction) = self.find(producer)?;
        match &transaction.state {
            State::Open { partitions, .. } if partitions.contains(&partition) => Ok(()),
            State::Ending { .. } => Err(Refusal::Concurrent),
            _ => Err(Refusal::InvalidState),
        }
    }

    /// Decides the transaction; markers follow.
    pub fn end(&mut self, producer: Identity, commit: bool, markers: &mut Vec<Marker>) -> Result<(), Refusal> {
        let (name, transaction) = self.find(producer)?;
        match transaction.state {
            State::Open { .. } => {
                transaction.end(name, commit, markers);
                Ok(())
            }
            State::Ending { commit: was, .. } if was == commit => Err(Refusal::Concurrent),
            State::Ended { commit: was } if was == commit => Ok(()),
            _ => Err(Refusal::InvalidState),
        }
    }

    /// A marker is in its log.
    pub fn marked(&mut self, marker: Marker) {
        let Some(transaction) = self.named.get_mut(&marker.name) else { return };
        if let State::Ending { commit, partitions } = &mut transaction.state {
            partitions.remove(&marker.partition);
            if partitions.is_empty() {
                transaction.state = State::Ended { commit: *commit };
            }
        }
    }

    /// Aborts what has been open for too long, and fences its producer.
    pub fn scan(&mut self, now: Time, timeout: Time, markers: &mut Vec<Marker>) {
        for (name, transaction) in &mut self.named {
            if matches!(transaction.state, State::Open { since, .. } if now > since + timeout) {
                transaction.producer.epoch += 1;
                transaction.end(*name, false, markers);
            }
        }
    }

    /// Transactions that are not over.
    pub fn unfinished(&self) -> usize {
        let over = |one: &&Transaction| !matches!(one.state, State::Empty | State::Ended { .. });
        self.named.values().filter(over).count()
    }

    fn find(&mut self, producer: Identity) -> Result<(usize, &mut Transaction), Refusal> {
        let found = self.named.iter_mut().find(|(_, one)| one.producer == producer);
        found.map(|(name, one)| (*name, one)).ok_or(Refusal::Fenced)
    }
}

impl Transaction {
    fn end(&mut self, name: usize, commit: bool, markers: &mut Vec<Marker>) {
        let State::Open { partitions, .. } = std::mem::replace(&mut self.state, State::Empty) else { return };
        let producer = self.producer;
        markers.extend(partitions.iter().map(|partition| Marker { name, producer, partition: *partition, commit }));
        self.state = State::Ending { commit, partitions };
    }
}
