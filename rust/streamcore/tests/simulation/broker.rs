//! The model broker: takes requests, gives replies, and markers that are to be written later.
//!
//! Invariant: what it has said is durable; a restart forgets only requests that were waiting.

use crate::group::{Group, Replies};
use crate::log::{Appended, Log};
use crate::requests::{Layout, Process, Record, Refusal, Reply, Request, Time};
use crate::transactions::{Marker, Transactions};

/// One broker, which is all coordinators and leads all partitions.
pub struct Broker {
    layout: Layout,
    pub logs: Vec<Log>,
    pub transactions: Transactions,
    pub group: Group,
    /// When it is down: until when.
    pub down_until: Time,
}

/// What a request led to.
#[derive(Default)]
pub struct Effects {
    pub replies: Replies,
    pub markers: Vec<Marker>,
}

impl Broker {
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            logs: (0..layout.count()).map(|_| Log::default()).collect(),
            transactions: Transactions::default(),
            group: Group::new(layout.lanes),
            down_until: 0,
        }
    }

    pub fn handle(&mut self, from: Process, id: u64, request: Request, now: Time) -> Effects {
        let mut effects = Effects::default();
        if let Request::Join { member, generation, owned } = &request {
            effects.replies = self.group.join((from, id), *member, *generation, owned, now);
            return effects;
        }
        let reply = match self.answer(request, now, &mut effects) {
            Ok(reply) => reply,
            Err(refusal) => Reply::Refused(refusal),
        };
        effects.replies.push((from, id, reply));
        effects
    }

    fn answer(&mut self, request: Request, now: Time, effects: &mut Effects) -> Result<Reply, Refusal> {
        match request {
            Request::InitProducer { name } => self.transactions.init(name, &mut effects.markers).map(Reply::Producer),
            Request::AddPartitions { producer, partitions } => {
                self.transactions.add(producer, &partitions, now)?;
                Ok(Reply::Done)
            }
            Request::Produce { producer, partition, sequence, records } => {
                self.transactions.verify(producer, partition)?;
                match self.logs[partition].append(producer, sequence, &records) {
                    Appended::Done => Ok(Reply::Done),
                    Appended::OldEpoch => Err(Refusal::Fenced),
                    Appended::Gap => Err(Refusal::Sequence),
                }
            }
            Request::CommitOffsets { producer, generation, member, offsets } => {
                let partition = self.layout.offsets();
                self.transactions.verify(producer, partition)?;
                self.group.commit(producer.id, member, generation, &offsets)?;
                Ok(Reply::Done)
            }
            Request::EndTransaction { producer, commit } => {
                self.transactions.end(producer, commit, &mut effects.markers)?;
                Ok(Reply::Done)
            }
            Request::FetchOffsets { lanes, stable } => self.group.fetch(&lanes, stable).map(Reply::Offsets),
            Request::Ends { partitions, stable } => {
                let end = |log: &Log| if stable { log.last_stable() } else { log.high_watermark() };
                Ok(Reply::Ends(
                    partitions.into_iter().map(|partition| (partition, end(&self.logs[partition]))).collect(),
                ))
            }
            Request::Fetch { partitions } => {
                Ok(Reply::Records(partitions.into_iter().map(|at| self.read(at)).collect()))
            }
            Request::Heartbeat { member, generation } => {
                self.group.heartbeat(member, generation, now)?;
                Ok(Reply::Done)
            }
            Request::Leave { member } => {
                self.group.leave(member, now);
                Ok(Reply::Done)
            }
            Request::Members => Ok(Reply::Members(self.group.size())),
            Request::Join { .. } => unreachable!("answered by the group"),
        }
    }

    fn read(&self, (partition, position): (usize, usize)) -> (usize, usize, Vec<Record>) {
        let (next, records) = self.logs[partition].read(position);
        (partition, next, records.cloned().collect())
    }

    /// Writes a marker.
    pub fn mark(&mut self, marker: Marker) {
        if marker.partition == self.layout.offsets() {
            self.group.mark(marker.producer.id, marker.commit);
        }
        self.logs[marker.partition].mark(marker.producer, marker.commit);
        self.transactions.marked(marker);
    }

    /// What the broker does by itself, now and then.
    pub fn scan(&mut self, now: Time, session: Time, transaction_timeout: Time) -> Effects {
        let mut effects = Effects::default();
        self.transactions.scan(now, transaction_timeout, &mut effects.markers);
        effects.replies = self.group.scan(now, session);
        effects
    }
}
