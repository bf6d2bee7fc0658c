//! A worker's transactional producer: what is queued, what has joined the transaction, sequence numbers.
//!
//! Invariant: a batch is numbered once; sent again it has the same number.

use crate::requests::{Identity, Partition, Record, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use streamcore::checkpoint::machine::ErrorClass;

#[derive(Default)]
pub struct Producer {
    pub identity: Option<Identity>,
    /// Partitions of the open transaction.
    pub added: BTreeSet<Partition>,
    queue: VecDeque<(Partition, u64, Rc<Vec<Record>>)>,
    sequences: BTreeMap<Partition, u64>,
    /// A request was sent twice since `begin`.
    pub disconnected: bool,
    /// Why records that nobody waited for were refused.
    pub failure: Option<ErrorClass>,
}

impl Producer {
    pub fn begin(&mut self) {
        self.added.clear();
        self.disconnected = false;
        self.failure = None;
    }

    pub fn queue(&mut self, partition: Partition, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let sequence = self.sequences.entry(partition).or_default();
        let first = *sequence;
        *sequence += records.len() as u64;
        self.queue.push_back((partition, first, Rc::new(records)));
    }

    /// An abort: what was not sent is not sent any more, nor numbered.
    pub fn purge(&mut self) {
        for (partition, first, _) in self.queue.drain(..) {
            let next = self.sequences.entry(partition).or_insert(first);
            *next = first.min(*next);
        }
    }

    /// Requests of `deliver` behind the first `sent` are not sent any more, nor numbered.
    pub fn drop_unsent(&mut self, requests: &mut VecDeque<Request>, sent: usize) {
        for request in requests.drain(sent.min(requests.len())..).rev() {
            if let Request::Produce { partition, sequence, .. } = request {
                self.sequences.insert(partition, sequence);
            }
        }
    }

    /// The requests that deliver what is queued.
    pub fn deliver(&mut self) -> VecDeque<Request> {
        let producer = self.identity.expect("a machine begins after init");
        let new: BTreeSet<Partition> = self.queue.iter().map(|(partition, ..)| *partition).collect();
        let new: Vec<Partition> = new.difference(&self.added).copied().collect();
        let mut requests = VecDeque::new();
        if !new.is_empty() {
            self.added.extend(&new);
            requests.push_back(Request::AddPartitions { producer, partitions: new });
        }
        for (partition, sequence, records) in &self.queue {
            let (partition, sequence, records) = (*partition, *sequence, Rc::clone(records));
            requests.push_back(Request::Produce { producer, partition, sequence, records });
        }
        requests
    }

    /// All of it is acknowledged.
    pub fn delivered(&mut self) {
        self.queue.clear();
    }
}
