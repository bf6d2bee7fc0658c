//! Spreads a push over threads: decoding by ranges of records, applying by lanes.
//!
//! Both parts are joined before the push goes on. Invariant: what comes out does not depend on the
//! number of threads.

use crate::batch::Batch;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Lane, LaneOutput};
use crate::plan::Plan;
use crate::raw::RawBatch;
use crate::watermark::Now;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{ScopedJoinHandle, scope};

/// Most records decoded in one go; small enough to share out, large enough to pay for it.
const RANGE_ROWS: usize = 4096;

/// Pushes below this many records stay on the calling thread.
const SHARED_ROWS_MIN: usize = 2048;

/// One range of one batch.
struct Task {
    raw: usize,
    rows: Range<usize>,
}

/// Decodes every batch with the decoder of its input; the parts of a batch come in record order. Without decoders there is
/// nothing to decode.
#[must_use]
pub fn decode(decoders: &[Decoder], raws: &[RawBatch], threads: usize) -> Vec<Vec<Batch>> {
    let mut tasks = Vec::new();
    if decoders.is_empty() {
        return raws.iter().map(|_| Vec::new()).collect();
    }
    for (raw, batch) in raws.iter().enumerate() {
        // Of equal length, so that what is learned of one holds for the next.
        let rows = batch.len().div_ceil(batch.len().div_ceil(RANGE_ROWS).max(1)).max(1);
        for start in (0..batch.len()).step_by(rows) {
            tasks.push(Task { raw, rows: start..(start + rows).min(batch.len()) });
        }
    }
    let rows: usize = raws.iter().map(RawBatch::len).sum();
    let threads = if rows < SHARED_ROWS_MIN { 1 } else { threads };
    let decoded = share(&tasks, threads, |task| {
        let raw = &raws[task.raw];
        decoders[(raw.input as usize).min(decoders.len() - 1)].decode(raw, task.rows.clone())
    });
    let mut parts: Vec<Vec<Batch>> = raws.iter().map(|_| Vec::new()).collect();
    for (task, batch) in tasks.iter().zip(decoded) {
        parts[task.raw].push(batch);
    }
    parts
}

/// Runs `work` on every task, taking turns; results in task order.
pub fn share<T: Sync, R: Send>(tasks: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads <= 1 || tasks.len() <= 1 {
        return tasks.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match tasks.get(number) {
                Some(task) => done.push((number, work(task))),
                None => return done,
            }
        }
    };
    let mut results: Vec<(usize, R)> = scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(tasks.len())).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        helpers.into_iter().for_each(|helper| done.extend(join(helper)));
        done
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A helper's result; its panic goes on in this thread.
fn join<T>(helper: ScopedJoinHandle<'_, T>) -> T {
    helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Applies every batch to its lane, lanes side by side; results in the order of `raws`.
pub fn apply(
    plan: &Plan,
    lanes: &mut BTreeMap<i32, Lane>,
    raws: &[RawBatch],
    decoded: Vec<Vec<Batch>>,
    now: Now,
    threads: usize,
) -> Result<Vec<LaneOutput>> {
    let mut places: BTreeMap<i32, usize> = raws.iter().enumerate().map(|(place, raw)| (raw.lane_id(), place)).collect();
    let mut decoded: Vec<Option<Vec<Batch>>> = decoded.into_iter().map(Some).collect();
    let mut shares: Vec<Vec<(usize, &mut Lane, Vec<Batch>)>> = Vec::new();
    let rows: usize = raws.iter().map(RawBatch::len).sum();
    let count = if rows < SHARED_ROWS_MIN { 1 } else { threads.min(raws.len()).max(1) };
    shares.resize_with(count, Vec::new);
    let mut loads = vec![0; count];
    for (id, lane) in lanes.iter_mut() {
        let Some(place) = places.remove(id) else { continue };
        let lightest = (0..count).min_by_key(|share| loads[*share]).unwrap_or(0);
        loads[lightest] += raws[place].len();
        shares[lightest].push((place, lane, decoded[place].take().unwrap_or_default()));
    }
    let run = |share: Vec<(usize, &mut Lane, Vec<Batch>)>| -> Result<Vec<(usize, LaneOutput)>> {
        let mut outputs = Vec::new();
        for (place, lane, batches) in share {
            outputs.push((place, lane.apply(plan, &raws[place], batches, now)?));
        }
        Ok(outputs)
    };
    let mut outputs: Vec<Option<LaneOutput>> = raws.iter().map(|_| None).collect();
    let results: Vec<Result<Vec<(usize, LaneOutput)>>> = scope(|scope| {
        let mut shares = shares.into_iter();
        let own = shares.next().unwrap_or_default();
        let helpers: Vec<_> = shares.map(|share| scope.spawn(|| run(share))).collect();
        let mut results = vec![run(own)];
        results.extend(helpers.into_iter().map(join));
        results
    });
    for result in results {
        for (place, output) in result? {
            outputs[place] = Some(output);
        }
    }
    let missing = || Error::new(ErrorKind::Internal, "a batch was applied to no lane");
    outputs.into_iter().map(|output| output.ok_or_else(missing)).collect()
}
