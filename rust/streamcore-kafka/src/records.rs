//! The walk over the records that were fetched of one partition: from its bytes to a batch of the engine.
//!
//! Before it: whoever fetches, who finds the record sets in the answer. After it: the engine, which decodes the values where they
//! are. It does what Kafka's own consumer does with the same bytes: batches are checked, those of aborted transactions and
//! control batches are passed over, and so are records in front of the wanted offset. Invariants: `next_offset` is behind every
//! record that was handed out or passed over and never falls; of a batch that is refused nothing is handed out.
//!
//! Values stay in the frame where no batch of the set is compressed; else all of them are in one buffer. What is between two
//! values becomes spaces, so that the decoder may look at many records at once, which uses the frame up: it is walked once.

mod taken;

use crate::aborted::{Aborted, AbortedTransaction};
use crate::batch_head::{Head, Next, any_packed};
use crate::compression::{Codec, Unpacker};
use crate::error::{Fault, RecordsError};
use crate::record;
use std::ops::Range;
use std::sync::Arc;
use streamcore::buffer::Buffer;
use streamcore::raw::{BATCH_BYTES_MAX, PADDING, RawBatch};
use taken::Taken;

/// Most bytes of a batch, and of the batches before it in a buffer: the spans of the engine's batch hold both.
pub const BYTES_MAX: usize = (BATCH_BYTES_MAX - PADDING) / 2;

/// How much room a compressed set is expected to need for each of its bytes.
const RATIO_EXPECTED: usize = 4;

/// Most bytes of what says how a transaction ended.
const MARKER_BYTES_MAX: usize = 64 << 10;

/// What the walk of every partition hands out, and how much memory it may take.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether keys are wanted.
    pub keys: bool,
    /// Whether headers are wanted.
    pub headers: bool,
    /// Most bytes of a value that is handed out whole; `None`: any.
    pub record_bytes_max: Option<u64>,
    /// Most bytes of a batch once it is decompressed; at most [`BYTES_MAX`] counts.
    pub batch_bytes_max: usize,
    /// A piece of a set ends once so many bytes of it were decompressed; at most [`BYTES_MAX`] counts.
    pub piece_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: false,
            headers: false,
            record_bytes_max: None,
            batch_bytes_max: BYTES_MAX,
            piece_bytes_max: 256 << 20,
        }
    }
}

/// What was fetched.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The topic.
    pub topic: &'a Arc<str>,
    /// The partition, and the lane of the batch.
    pub partition: i32,
    /// The offset that was asked for: a batch may begin before.
    pub offset: i64,
    /// The aborted transactions that the answer lists; `None`: uncommitted records are wanted as well.
    pub aborted: Option<&'a [AbortedTransaction]>,
}

/// What was met on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whole batches, whatever is in them.
    pub batches: u64,
    /// Records handed out.
    pub records: u64,
    /// Batches that are the broker's, such as the ends of transactions.
    pub control_batches: u64,
    /// Records of transactions that were aborted.
    pub aborted_records: u64,
    /// Records in front of the offset that was asked for.
    pub refetched_records: u64,
}

/// Where the walk of a set ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end of the set, with a whole batch.
    Whole,
    /// At a batch that is not all there, which is usual: a fetch has so many bytes. Where no batch came before it, only a fetch
    /// of this many bytes or more comes further.
    Cut {
        /// Bytes of the batch.
        bytes: usize,
    },
    /// Behind as many decompressed bytes as a piece has: the next one goes on there.
    Full,
    /// At a batch that cannot be read. Those before it are handed out; a fetch that begins with it tells whether it stays so.
    Refused(RecordsError),
}

/// How far a set was walked, piece by piece.
#[derive(Debug)]
pub struct Course {
    /// Where in the set the next batch begins.
    at: usize,
    /// Which transactions were aborted, where only committed records are wanted.
    aborted: Option<Aborted>,
    /// Behind the batches so far.
    next_offset: i64,
    /// The last offset of the batch before, -1 before the first.
    last_offset: i64,
    leader_epoch: Option<i32>,
}

impl Course {
    /// Of a set that was asked for so, at its beginning.
    #[must_use]
    pub fn new(asked: &Asked<'_>) -> Self {
        let aborted = asked.aborted.map(Aborted::new);
        Self { at: 0, aborted, next_offset: asked.offset, last_offset: -1, leader_epoch: None }
    }
}

/// What came of the record set of one partition, or of a piece of it.
#[derive(Debug)]
pub struct Walked {
    /// What to fetch next.
    pub next_offset: i64,
    /// The leader's epoch of the last whole batch, to be told to whoever is asked for the next ones.
    pub leader_epoch: Option<i32>,
    /// What was met.
    pub counts: Counts,
    /// Where it ended.
    pub end: End,
    /// Bytes of the set in front of that: of its whole batches.
    pub whole_bytes: usize,
    taken: Taken,
    /// Where in the frame the set is, and [`PADDING`] bytes more, where there are.
    set: Range<usize>,
}

impl Walked {
    /// Takes back what is at `stop` or behind it.
    pub fn stop_at(&mut self, stop: i64) {
        if self.next_offset > stop {
            self.next_offset = stop;
            self.taken.truncate_from(stop);
            self.counts.records = self.taken.len() as u64;
        }
    }

    /// Whether the records have bytes of their own, because some were compressed: the frame is not needed for them.
    #[must_use]
    pub const fn is_unpacked(&self) -> bool {
        self.taken.is_unpacked()
    }

    /// The records, where there are some. `frame` is what was walked, with [`PADDING`] bytes behind it: it is kept as long as the
    /// batch is.
    pub fn into_raw(self, frame: &bytes::Bytes) -> streamcore::error::Result<Option<RawBatch>> {
        if self.taken.is_empty() {
            return Ok(None);
        }
        let set = self.set.start.min(frame.len())..self.set.end.min(frame.len());
        self.taken.into_raw(|| frame.slice(set)).map(Some)
    }
}

/// Walks record sets, one after the other.
#[derive(Debug)]
pub struct Walker {
    settings: Settings,
    unpacker: Unpacker,
    /// Records of the last piece, and its bytes as they were fetched: the next one is expected to be like it.
    last: (usize, usize),
}

impl Walker {
    /// A walker that hands out what `settings` say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let settings = Settings {
            batch_bytes_max: settings.batch_bytes_max.min(BYTES_MAX),
            piece_bytes_max: settings.piece_bytes_max.clamp(1, BYTES_MAX),
            ..settings
        };
        Self { settings, unpacker: Unpacker::default(), last: (0, 1) }
    }

    /// Walks the records of a partition: those at `set` of `frame`, or what of that is within it. Behind a piece that is
    /// [`End::Full`] nothing is read.
    pub fn walk(&mut self, frame: &mut [u8], set: Range<usize>, asked: &Asked<'_>) -> Walked {
        self.walk_on(frame, set, asked, &mut Course::new(asked))
    }

    /// Walks the next piece of such a set, which has another one behind [`End::Full`] alone. What stays in the frame is one piece,
    /// the last.
    pub fn walk_on(&mut self, frame: &mut [u8], set: Range<usize>, asked: &Asked<'_>, course: &mut Course) -> Walked {
        let end = set.end.min(frame.len());
        let set = set.start.min(end)..end;
        let bytes = &mut frame[set.clone()];
        let rest = &bytes[course.at.min(bytes.len())..];
        let piece_bytes_max = self.settings.piece_bytes_max;
        let unpacked = any_packed(rest).then(|| Buffer::with_capacity(room_expected(rest.len(), piece_bytes_max)));
        let mut taken = Taken::new(asked, &self.settings, unpacked);
        let (begin, (records, packed)) = (course.at, self.last);
        // As many as that many bytes had, and some more.
        let likely = records.saturating_mul(rest.len().min(packed / 8 * 9)) / packed;
        taken.reserve(likely.min(rest.len()));
        let mut walk = Walk {
            settings: &self.settings,
            unpacker: &mut self.unpacker,
            asked,
            counts: Counts::default(),
            taken,
            course,
        };
        let end = walk.run(bytes);
        walk.taken.finish(bytes);
        let Walk { mut counts, taken, course: Course { at, next_offset, leader_epoch, .. }, .. } = walk;
        counts.records = taken.len() as u64;
        self.last = (taken.len(), (*at - begin).max(1));
        Walked {
            next_offset: *next_offset,
            leader_epoch: *leader_epoch,
            counts,
            end,
            whole_bytes: *at,
            taken,
            set: set.start..set.end + PADDING,
        }
    }
}

/// Bytes that are expected of a piece of `packed` bytes: it goes beyond its bound by a batch.
const fn room_expected(packed: usize, piece_bytes_max: usize) -> usize {
    let (whole, piece) = (packed.saturating_mul(RATIO_EXPECTED), piece_bytes_max / 4 * 5);
    (if whole < piece { whole } else { piece }) + PADDING
}

/// The walk of a piece.
struct Walk<'a> {
    settings: &'a Settings,
    unpacker: &'a mut Unpacker,
    asked: &'a Asked<'a>,
    counts: Counts,
    taken: Taken,
    course: &'a mut Course,
}

impl Walk<'_> {
    fn run(&mut self, set: &mut [u8]) -> End {
        loop {
            let at = self.course.at;
            let head = match Head::read(&set[at..]) {
                Ok(Next::Whole(head)) => head,
                Ok(Next::Cut(bytes)) => return End::Cut { bytes },
                Ok(Next::End) => return End::Whole,
                Err((offset, fault)) => return self.refused(offset, fault),
            };
            if self.taken.unpacked_bytes() >= self.settings.piece_bytes_max {
                return End::Full;
            }
            if let Err(fault) = self.check(&head, &set[at..]).and_then(|()| self.batch(set, at, &head)) {
                return self.refused(head.base_offset, fault);
            }
            self.counts.batches += 1;
            let course = &mut *self.course;
            course.at += head.bytes;
            course.leader_epoch = Some(head.leader_epoch);
            course.last_offset = head.last_offset();
            // The offset behind the last record that it was written with: compaction may have taken that away.
            course.next_offset = course.next_offset.max(course.last_offset + 1);
        }
    }

    fn refused(&self, offset: i64, fault: Fault) -> End {
        let Asked { topic, partition, .. } = *self.asked;
        End::Refused(RecordsError { topic: topic.clone(), partition, offset, fault })
    }

    fn check(&self, head: &Head, rest: &[u8]) -> Result<(), Fault> {
        head.check(rest)?;
        let last_offset = self.course.last_offset;
        if head.base_offset <= last_offset {
            return Err(Fault::NotBehind { last_offset });
        }
        Ok(())
    }

    /// Takes the records of the batch at `at`, or passes them over.
    fn batch(&mut self, set: &mut [u8], at: usize, head: &Head) -> Result<(), Fault> {
        let codec = Codec::known(head.codec())?;
        if head.is_control() {
            self.counts.control_batches += 1;
            return self.marker(codec, &set[head.body(at)], head);
        }
        if self.is_aborted(head) {
            self.counts.aborted_records += u64::from(head.count.unsigned_abs());
            return Ok(());
        }
        if head.last_offset() < self.asked.offset {
            self.counts.refetched_records += u64::from(head.count.unsigned_abs());
            return Ok(());
        }
        if head.count == 0 && head.bytes == head.body(0).start {
            return Ok(());
        }
        let bytes_max = self.settings.batch_bytes_max;
        let unpack = |packed: &[u8], buffer: &mut Buffer| self.unpacker.unpack(codec, packed, buffer, bytes_max);
        self.counts.refetched_records += self.taken.batch(set, at, head, unpack)?;
        Ok(())
    }

    /// Whether the records of a batch are of a transaction that was aborted.
    fn is_aborted(&mut self, head: &Head) -> bool {
        let (Some(aborted), Some(producer_id)) = (&mut self.course.aborted, head.producer_id()) else { return false };
        aborted.reach(head.last_offset());
        head.is_transactional() && aborted.is_aborted(producer_id)
    }

    /// Reads how a transaction ended, if that is what the control batch says. One that was compacted may be empty.
    fn marker(&mut self, codec: Codec, body: &[u8], head: &Head) -> Result<(), Fault> {
        let (Some(aborted), Some(producer_id)) = (&mut self.course.aborted, head.producer_id()) else { return Ok(()) };
        aborted.reach(head.last_offset());
        if head.count == 0 {
            return Ok(());
        }
        let mut unpacked = Buffer::default();
        self.unpacker.unpack(codec, body, &mut unpacked, MARKER_BYTES_MAX)?;
        if is_abort(&unpacked).ok_or(Fault::Marker)? {
            aborted.end(producer_id);
        }
        Ok(())
    }
}

/// Whether the first record of a control batch ends a transaction by aborting it: its key is a version and then a kind of two
/// bytes each.
fn is_abort(body: &[u8]) -> Option<bool> {
    const ABORT: [u8; 2] = [0, 0];
    let key = record::read(body, 0).ok()?.key?;
    Some(*body[key].get(2..4)? == ABORT)
}
