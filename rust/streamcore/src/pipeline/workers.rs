//! Threads that decode and apply pushes while the caller goes on.
//!
//! The binding hands pushes in and takes their rows out. Each thread does what is most urgent: it applies
//! the oldest push if that is decoded and nobody else applies, otherwise it decodes the next one. Invariant:
//! pushes are applied one at a time, in the order in which they were handed in, and none after one that failed.

use super::work;
use super::{OutputBatch, OutputKind, Pipeline};
use crate::batch::Batch;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::raw::RawBatch;
use crate::table;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};

/// Bytes of records under way, beyond which the next push waits until others are applied.
pub const BYTES_UNDER_WAY_MAX: usize = 128 << 20;

/// Bytes of records under way up to which pushes do not wait however many they are: some milliseconds of work, so that
/// the threads do not run out of it before the caller, who is one of many that want a core, has its turn again.
const BYTES_AT_HAND: usize = 8 << 20;

/// Pushes under way at most, also where they have hardly any bytes.
const PUSHES_MAX: usize = 64;

/// One push that was handed in.
struct Push {
    number: u64,
    raws: Vec<RawBatch>,
    now_ms: i64,
}

/// One push whose records are decoded.
struct Decoded {
    bytes: usize,
    records: u64,
    raws: Vec<RawBatch>,
    batches: Vec<Vec<Batch>>,
    now_ms: i64,
}

/// Records of a push that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub read: u64,
    /// Those that were refused; not those that were shed, which nothing is wrong with.
    pub rejected: u64,
}

impl Counts {
    fn new(read: u64, outputs: &[OutputBatch]) -> Self {
        let refused = outputs.iter().filter(|output| output.kind == OutputKind::Rejected);
        Self { read, rejected: refused.map(|output| table::rejected_rows(&output.batch)).sum() }
    }
}

/// Why a push failed.
enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// The pushes under way.
#[derive(Default)]
struct Queue {
    /// Not decoded yet, oldest first.
    waiting: VecDeque<Push>,
    /// One place for each push that is not applied yet, oldest first; `None` until it is decoded.
    places: VecDeque<Option<Decoded>>,
    /// Number of the push at the front of `places`.
    first: u64,
    /// A push is being applied.
    applying: bool,
    /// Bytes of records of all these.
    bytes: usize,
    /// Rows of the pushes that were applied, until someone takes them.
    outputs: Vec<OutputBatch>,
    /// Records of each of them, and how many were refused.
    counts: Vec<Counts>,
    /// Why a push failed, until someone is told.
    failure: Option<Failure>,
    /// A push failed since the last rollback: none behind it may be applied.
    failed: bool,
    /// The threads are to end.
    closing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Told that there is work: one thread of each push, all of the end.
    work: Condvar,
    /// The caller is told of each push that was applied, or of a failure.
    done: Condvar,
    pipeline: Mutex<Pipeline>,
    decoders: Arc<Vec<Decoder>>,
    /// See [`Workers::is_due`].
    is_due: AtomicBool,
    /// Threads that apply the lanes of one push.
    threads: usize,
}

/// A pipeline, and the threads that push to it. Used by one thread at a time, in one process: a forked one has no threads.
pub struct Workers {
    shared: Arc<Shared>,
    /// Threads that were started, with the first push. Nobody waits for them: they end when nothing is left to do.
    threads: usize,
    threads_max: usize,
    process: u32,
}

impl Workers {
    /// For `pipeline`, with as many threads as it may use.
    #[must_use]
    pub fn new(pipeline: Pipeline) -> Self {
        let threads = pipeline.threads();
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            decoders: pipeline.decoders(),
            is_due: AtomicBool::new(false),
            pipeline: Mutex::new(pipeline),
            threads: threads.saturating_sub(1).max(1),
        };
        Self { shared: Arc::new(shared), threads: 0, threads_max: threads, process: process::id() }
    }

    /// The pipeline between two pushes: of those handed in, some may not be applied yet.
    ///
    /// # Errors
    /// When a panic has left it half changed, and in a forked process.
    pub fn pipeline(&self) -> Result<MutexGuard<'_, Pipeline>> {
        self.check_process()?;
        self.shared.pipeline()
    }

    /// The pipeline with all pushes applied; [`take`](Self::take) has their rows.
    ///
    /// # Errors
    /// What made a push fail, once; then, until a rollback, that one failed.
    pub fn settled(&mut self) -> Result<MutexGuard<'_, Pipeline>> {
        self.check_process()?;
        let mut queue = self.shared.wait_while(|queue| queue.under_way() > 0);
        queue.check()?;
        drop(queue);
        self.pipeline()
    }

    /// Hands in records, once there is room: so many pushes are under way that the threads have work, and no more; over
    /// [`BYTES_UNDER_WAY_MAX`] bytes only of one.
    ///
    /// # Errors
    /// What made an earlier push fail: these records are dropped then, as all that were handed in after it. And where
    /// the system gives no thread.
    pub fn push(&mut self, raws: Vec<RawBatch>, now_ms: i64) -> Result<()> {
        self.check_process()?;
        self.start_threads()?;
        let (busy, bytes) = (self.threads + 1, byte_len(&raws));
        let mut queue = self.shared.wait_while(|queue| queue.is_full(busy, bytes));
        queue.check()?;
        let number = queue.first + queue.places.len() as u64;
        queue.bytes += bytes;
        queue.waiting.push_back(Push { number, raws, now_ms });
        queue.places.push_back(None);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Applies a push at once, after those handed in; [`take`](Self::take) has its rows behind theirs.
    ///
    /// # Errors
    /// What made it or an earlier one fail.
    pub fn push_now(&mut self, raws: &[RawBatch], now_ms: i64) -> Result<()> {
        drop(self.settled()?);
        let mut pipeline = self.pipeline()?;
        let outputs = pipeline.push(raws, now_ms)?;
        self.shared.note_due(&mut pipeline);
        drop(pipeline);
        let mut queue = self.shared.queue();
        queue.counts.push(Counts::new(records(raws), &outputs));
        queue.outputs.extend(outputs);
        Ok(())
    }

    /// Rows of the pushes that were applied, and how many pushes are still under way.
    ///
    /// # Errors
    /// What made a push fail.
    pub fn take(&mut self) -> Result<(Vec<OutputBatch>, usize)> {
        self.check_process()?;
        let mut queue = self.shared.queue();
        queue.check()?;
        Ok((std::mem::take(&mut queue.outputs), queue.under_way()))
    }

    /// What was counted of each push that was applied, in their order, until now.
    ///
    /// # Errors
    /// In a forked process.
    pub fn take_counts(&mut self) -> Result<Vec<Counts>> {
        self.check_process()?;
        Ok(std::mem::take(&mut self.shared.queue().counts))
    }

    /// Whether an applied push has left so much to undo that the epoch is to be committed. Waits for nothing.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.shared.is_due.load(Ordering::Relaxed)
    }

    /// The sealed epoch is durable.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub fn committed(&mut self) -> Result<()> {
        self.settled()?.committed();
        self.shared.is_due.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the pipeline back to the last commit. What is under way is dropped, with its rows and its failure.
    ///
    /// # Errors
    /// When a panic has left the pipeline half changed, and in a forked process.
    pub fn rollback(&mut self) -> Result<()> {
        self.check_process()?;
        self.shared.queue().drop_pushes();
        let mut queue = self.shared.wait_while(|queue| queue.applying);
        queue.outputs.clear();
        queue.counts.clear();
        queue.failure = None;
        queue.failed = false;
        self.shared.is_due.store(false, Ordering::Relaxed);
        self.pipeline()?.rollback();
        Ok(())
    }

    fn start_threads(&mut self) -> Result<()> {
        while self.threads < self.threads_max {
            let shared = self.shared.clone();
            let started = Builder::new().name("streamcore-worker".into()).spawn(move || shared.work());
            match started {
                Ok(_) => self.threads += 1,
                // Fewer do the same, later.
                Err(_) if self.threads > 0 => self.threads_max = self.threads,
                Err(error) => {
                    let message = format!("the system gives no thread to push with: {error}; raise its limits");
                    return Err(Error::new(ErrorKind::Limit, message));
                }
            }
        }
        Ok(())
    }

    /// The threads stay behind in a fork, and with them whatever they had locked.
    fn check_process(&self) -> Result<()> {
        if self.process == process::id() {
            return Ok(());
        }
        let message = "the pipeline belongs to the process this one was forked from; make a new one here";
        Err(Error::new(ErrorKind::Internal, message))
    }
}

impl Drop for Workers {
    /// What is being worked on is finished behind it, and dropped.
    fn drop(&mut self) {
        if self.check_process().is_err() {
            return;
        }
        let mut queue = self.shared.queue();
        queue.drop_pushes();
        queue.closing = true;
        drop(queue);
        self.shared.work.notify_all();
    }
}

impl Queue {
    /// The oldest push, if it is decoded and none is being applied; it is from now on.
    fn next_to_apply(&mut self) -> Option<Decoded> {
        if self.applying {
            return None;
        }
        let decoded = self.places.front_mut()?.take()?;
        self.places.pop_front();
        self.first += 1;
        self.applying = true;
        Some(decoded)
    }

    /// The push that was being applied is.
    fn applied(&mut self, (bytes, records): (usize, u64), outcome: thread::Result<Result<Vec<OutputBatch>>>) {
        self.applying = false;
        self.bytes = self.bytes.saturating_sub(bytes);
        match outcome {
            Ok(Ok(outputs)) => {
                self.counts.push(Counts::new(records, &outputs));
                self.outputs.extend(outputs);
            }
            Ok(Err(error)) => self.fail(Failure::Error(error)),
            Err(panic) => self.fail(Failure::Panic(panic)),
        }
    }

    fn under_way(&self) -> usize {
        self.places.len() + usize::from(self.applying)
    }

    /// Whether a push of `bytes` must wait, where `busy` pushes keep all threads busy.
    fn is_full(&self, busy: usize, bytes: usize) -> bool {
        let (pushes, bytes) = (self.under_way(), self.bytes + bytes);
        let enough = if bytes <= BYTES_AT_HAND { PUSHES_MAX.max(busy) } else { busy };
        pushes >= enough || pushes > 0 && bytes > BYTES_UNDER_WAY_MAX
    }

    /// Forgets the pushes that are not being applied; one that is being decoded finds no place then.
    fn drop_pushes(&mut self) {
        self.first += self.places.len() as u64;
        self.waiting.clear();
        self.places.clear();
        self.bytes = 0;
    }

    fn fail(&mut self, failure: Failure) {
        self.drop_pushes();
        self.failure = Some(failure);
        self.failed = true;
    }

    fn check(&mut self) -> Result<()> {
        match self.failure.take() {
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
            None if self.failed => {
                let message = "an earlier push failed; take the pipeline back to the last commit before the next one";
                Err(Error::new(ErrorKind::Internal, message))
            }
            None => Ok(()),
        }
    }
}

impl Shared {
    /// No code panics with the queue locked but [`Queue::check`], which leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let waited = self.done.wait_while(self.queue(), |queue| condition(queue));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn pipeline(&self) -> Result<MutexGuard<'_, Pipeline>> {
        self.pipeline.lock().map_err(|_| {
            let message = "the pipeline stopped after an internal error and can no longer be used; \
                           start again from the last checkpoint";
            Error::new(ErrorKind::Internal, message)
        })
    }

    /// What each thread does. Who has decoded or applied a push looks again at once, so nobody else need be told
    /// that the next one can be applied.
    fn work(&self) {
        let mut queue = self.queue();
        while !queue.closing {
            if let Some(decoded) = queue.next_to_apply() {
                drop(queue);
                let size = (decoded.bytes, decoded.records);
                let outcome = catch_unwind(AssertUnwindSafe(|| self.apply(decoded)));
                queue = self.queue();
                queue.applied(size, outcome);
                self.done.notify_one();
            } else if let Some(push) = queue.waiting.pop_front() {
                drop(queue);
                let number = push.number;
                let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(push)));
                queue = self.queue();
                match (decoded, number.checked_sub(queue.first)) {
                    (Ok(decoded), Some(place)) => queue.places[place as usize] = Some(decoded),
                    (Err(panic), Some(_)) => {
                        queue.fail(Failure::Panic(panic));
                        self.done.notify_one();
                    }
                    // It was dropped meanwhile.
                    (_, None) => {}
                }
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn decode(&self, push: Push) -> Decoded {
        let batches = work::decode(&self.decoders, &push.raws, 1);
        Decoded {
            bytes: byte_len(&push.raws),
            records: records(&push.raws),
            raws: push.raws,
            batches,
            now_ms: push.now_ms,
        }
    }

    fn apply(&self, decoded: Decoded) -> Result<Vec<OutputBatch>> {
        let mut pipeline = self.pipeline()?;
        let outputs = pipeline.push_decoded(&decoded.raws, decoded.batches, decoded.now_ms, self.threads)?;
        self.note_due(&mut pipeline);
        Ok(outputs)
    }

    fn note_due(&self, pipeline: &mut Pipeline) {
        if pipeline.is_due() {
            self.is_due.store(true, Ordering::Relaxed);
        }
    }
}

fn records(raws: &[RawBatch]) -> u64 {
    raws.iter().map(|raw| raw.len() as u64).sum()
}

fn byte_len(raws: &[RawBatch]) -> usize {
    raws.iter().map(RawBatch::byte_len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_goes_on_where_the_caller_is_and_nothing_is_pushed_after_it() {
        let mut queue = Queue { places: VecDeque::from([None, None]), bytes: 7, ..Queue::default() };
        queue.waiting.push_back(Push { number: 1, raws: Vec::new(), now_ms: 0 });
        queue.applying = true;
        queue.applied((7, 1), Err(Box::new("on purpose")));
        assert_eq!((queue.under_way(), queue.waiting.len(), queue.bytes, queue.first), (0, 0, 0, 2));
        let panic = catch_unwind(AssertUnwindSafe(|| queue.check())).expect_err("it goes on");
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        assert!(queue.check().expect_err("until a rollback").message.contains("an earlier push failed"));
    }
}
