//! The way of one decoded batch into a lane: what is no record, the condition before the clock, and the clock.
//!
//! `flow` takes the rows on from there. Invariant: every record of the batch is counted in the lane's ledger, and
//! moved the clock unless `where` or its time kept it from that.

use super::handed::Arrived;
use super::{Lane, LaneOutput};
use crate::batch::Batch;
use crate::error::{Reject, Result};
use crate::flow::{Flow, Left, LeftRow, Rows, are_ordered};
use crate::plan::{ClockPlan, Output, Plan};
use crate::raw::RawBatch;
use crate::watermark::Clock;

/// Takes `batch` of `raw` through the steps up to the first window.
pub fn run(
    lane: &mut Lane,
    plan: &Plan,
    raw: &RawBatch,
    batch: &Batch,
    now_ms: i64,
    output: &mut LaneOutput,
) -> Result<()> {
    lane.ledger.read += (batch.len() + batch.rejects.len() + batch.tombstones.len()) as u64;
    lane.ledger.tombstone += batch.tombstones.len() as u64;
    lane.ledger.rejected += batch.rejects.len() as u64;
    output.left.extend(batch.rejects.iter().cloned().map(refused));
    let input = plan.input(lane.id);
    let offsets: Vec<i64> = if are_ordered(&input.steps) {
        batch.raw_rows.iter().map(|row| raw.offset(*row as usize)).collect()
    } else {
        Vec::new()
    };
    let rows = Rows {
        columns: &batch.columns,
        lists: &[],
        event_times_ms: &batch.event_times_ms,
        groups: batch.groups.as_ref(),
        partition: raw.lane,
        offsets: &offsets,
    };
    if output.windows.is_none() && lane.stages.is_empty() {
        output.windows = plan.result_rows().filter(|_| !plan.combine);
    }
    let tombstones = lane.tombstones_in_time(plan, raw, batch, now_ms, output);
    let mut flow = Flow::new(rows, &mut lane.held, &mut lane.ledger, plan.limits.key_bytes_max as usize)
        .with_early(output.windows.as_mut());
    if let Some(condition) = &input.where_ {
        flow.filter(condition);
    }
    let watermarks_ms = tell_time(&mut flow, &mut lane.clock, &input.clock, raw, batch, now_ms);
    if input.hand_over.as_ref().is_some_and(|it| it.is_table) {
        flow.note_filtered();
    }
    let mut passed = flow.run(&input.steps, watermarks_ms)?;
    let of_batch = |(row, left): (u32, Left)| LeftRow { raw_row: batch.raw_rows[row as usize], left };
    output.left.extend(std::mem::take(&mut passed.left).into_iter().map(of_batch));
    if let Some(hand_over) = &input.hand_over {
        let arrived = Arrived { raw, batch, tombstones: &tombstones, clock_ms: lane.clock.watermark_ms() };
        let handed = hand_over.take(&passed, &arrived, &mut lane.interner);
        if let Some(handed) = handed {
            lane.hand_on(handed, output);
        }
        return Ok(());
    }
    if passed.rows.is_empty() {
        return Ok(());
    }
    match &plan.output {
        Output::Records => output.records.extend(passed.rows.iter().map(|row| batch.raw_rows[*row as usize])),
        Output::Rows(_) | Output::Windows(_) => {
            output.rows.push(passed.columns.iter().map(|column| column.gather(&passed.rows)).collect());
        }
    }
    Ok(())
}

fn refused(reject: Reject) -> LeftRow {
    let left = Left::Rejected { reason: reject.kind.as_str(), detail: reject.detail, at: reject.at };
    LeftRow { raw_row: reject.row, left }
}

/// Judges every row with the clock before it, then moves the clock. Gives the clock before each row.
fn tell_time(
    flow: &mut Flow<'_>,
    clock: &mut Clock,
    plan: &ClockPlan,
    raw: &RawBatch,
    batch: &Batch,
    now_ms: i64,
) -> Vec<i64> {
    let Some(skew_ms) = plan.max_future_skew_ms else { return tell_time_within(flow, clock, batch, |_| None) };
    if plan.time_is_record_time || !raw.has_timestamps() {
        return tell_time_within(flow, clock, batch, |_| Some((now_ms, skew_ms)));
    }
    tell_time_within(flow, clock, batch, |row| {
        Some((raw.timestamp_ms(batch.raw_rows[row] as usize).unwrap_or(now_ms), skew_ms))
    })
}

/// `told`: the time to which a row's own is compared, and how far ahead it may be.
fn tell_time_within(
    flow: &mut Flow<'_>,
    clock: &mut Clock,
    batch: &Batch,
    told: impl Fn(usize) -> Option<(i64, i64)>,
) -> Vec<i64> {
    let mut watermarks_ms = Vec::with_capacity(batch.len());
    for (row, time_ms) in batch.event_times_ms.iter().enumerate() {
        watermarks_ms.push(clock.watermark_ms());
        if !flow.is_kept(row) {
            continue;
        }
        match told(row) {
            Some((record_ms, skew_ms)) if *time_ms > record_ms.saturating_add(skew_ms) => {
                flow.future(row, time_ms.saturating_sub(record_ms));
            }
            _ => clock.observe(*time_ms),
        }
    }
    watermarks_ms
}
