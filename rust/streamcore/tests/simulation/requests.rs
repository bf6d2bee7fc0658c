//! What clients and the broker say to each other. Invariant: nothing else passes between them, so whatever is lost, late
//! or doubled is one of these.

use std::rc::Rc;
use streamcore::checkpoint::machine::{Lane, Manifest};

/// Milliseconds since the beginning of the run.
pub type Time = u64;

/// What all lanes share, which is the state of a lane of its own; no input and no offsets belong to it.
pub const MEETING: Lane = -1;

/// A partition, by its place in [`Layout`].
pub type Partition = usize;

/// Which partition is what.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub lanes: usize,
    pub outputs: usize,
    /// Whether lanes share state: then a worker owns all of them or none.
    pub meets: bool,
}

impl Layout {
    pub fn state(self, lane: Lane) -> Partition {
        if lane == MEETING { self.offsets() + 1 } else { lane as usize }
    }

    /// Undoes `state`.
    pub fn lane(self, partition: Partition) -> Lane {
        if partition > self.offsets() { MEETING } else { partition as Lane }
    }

    /// All lanes, and the one of what they share.
    pub fn all(self) -> impl Iterator<Item = Lane> {
        let first = if self.meets { MEETING } else { 0 };
        first..self.lanes as Lane
    }

    pub fn output(self, key: u64) -> Partition {
        self.lanes + key as usize % self.outputs
    }

    /// The group's offsets.
    pub fn offsets(self) -> Partition {
        self.lanes + self.outputs
    }

    pub fn count(self) -> usize {
        self.offsets() + 1 + usize::from(self.meets)
    }
}

/// One life of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub worker: usize,
    pub life: u32,
}

/// A producer's identity, as the coordinator gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub id: u64,
    pub epoch: u16,
}

/// An output row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The sum of a key right after the record at `offset`.
    Update { lane: Lane, offset: i64, key: usize, sum: i64 },
    /// The nth firing of the lane's timer, which no record causes.
    Timer { lane: Lane, number: u64 },
    /// The sum of all values that all lanes had in the nth window.
    Window { number: u64, sum: i64 },
}

impl Row {
    /// What it is kept under in its topic.
    pub fn key(self) -> u64 {
        match self {
            Self::Update { key, .. } => key as u64,
            Self::Timer { number, .. } | Self::Window { number, .. } => number,
        }
    }
}

/// A record of an output or state partition.
#[derive(Debug, Clone)]
pub enum Record {
    Row(Row),
    /// What an epoch changed: the key and its sum (0: it is gone), and all counters.
    Delta {
        owner_epoch: u64,
        epoch: u64,
        sums: Vec<(usize, i64)>,
        timers: u64,
    },
    /// The whole state.
    Base {
        owner_epoch: u64,
        epoch: u64,
        sums: Vec<(usize, i64)>,
        timers: u64,
    },
    /// Everything before this epoch is obsolete.
    Tombstones {
        before: u64,
    },
    Manifest(Box<ManifestRecord>),
}

/// A manifest as written: what the machine sees of it, the blocks it names, and files that wait to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    pub manifest: Manifest,
    pub base: Option<(u64, u64)>,
    pub deltas: Vec<(u64, u64)>,
    pub files: Vec<File>,
}

/// A file of the file sink: written as the epoch is committed, published after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub lane: Lane,
    pub epoch: u64,
    pub seal: u64,
    pub rows: Rc<Vec<Row>>,
}

#[derive(Debug, Clone)]
pub enum Request {
    InitProducer {
        name: usize,
    },
    AddPartitions {
        producer: Identity,
        partitions: Vec<Partition>,
    },
    Produce {
        producer: Identity,
        partition: Partition,
        sequence: u64,
        records: Rc<Vec<Record>>,
    },
    CommitOffsets {
        producer: Identity,
        generation: i64,
        member: u64,
        offsets: Vec<(Lane, i64)>,
    },
    EndTransaction {
        producer: Identity,
        commit: bool,
    },
    FetchOffsets {
        lanes: Vec<Lane>,
        stable: bool,
    },
    Ends {
        partitions: Vec<Partition>,
        stable: bool,
    },
    Fetch {
        partitions: Vec<(Partition, usize)>,
    },
    Join {
        member: u64,
        generation: i64,
        owned: Vec<Lane>,
    },
    Heartbeat {
        member: u64,
        generation: i64,
    },
    Leave {
        member: u64,
    },
    /// Who is in the group.
    Members,
}

#[derive(Debug, Clone)]
pub enum Reply {
    Done,
    Producer(Identity),
    Offsets(Vec<(Lane, Option<i64>)>),
    Ends(Vec<(Partition, usize)>),
    /// Of each partition, the next position and the committed records before it.
    Records(Vec<(Partition, usize, Vec<Record>)>),
    Joined {
        member: u64,
        generation: i64,
        lanes: Vec<Lane>,
    },
    /// How many are in the group.
    Members(usize),
    Refused(Refusal),
}

/// Why the broker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Fenced,
    Concurrent,
    InvalidState,
    Sequence,
    IllegalGeneration,
    UnknownMember,
    Rebalance,
    Unstable,
}
