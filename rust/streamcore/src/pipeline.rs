//! The engine's only control flow across stages: push, advance, end, seal, commit, restore.
//!
//! The runner calls it, one call at a time. A push decodes its batches on all threads, applies each
//! lane's share on a thread of its own, merges, fires, and returns; nothing is in flight between
//! calls, so a checkpoint is a plain snapshot. Invariant: results do not depend on how the input is
//! cut into pushes.

pub mod work;
pub mod workers;

use crate::batch::Batch;
use crate::codec::{Reader, Write};
use crate::combine::Combine;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Lane, LaneOutput, Left};
use crate::metrics::Ledger;
use crate::plan::{Output, Plan, Step, analyse};
use crate::raw::{Header, RawBatch};
use crate::results::OutputColumn;
use crate::spec::Spec;
use crate::table;
use crate::watermark::{Minimum, minimum};
use crate::window::WindowPlan;
use crate::window::rows::ResultRows;
use arrow_array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The combine stage's number among the lanes of saved state.
pub const COMBINE_LANE: i32 = -1;

/// Which output rows belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Results.
    Result,
    /// Records too late for every window of theirs.
    Late,
    /// Records whose event time is too far ahead.
    Future,
    /// Dead letters.
    Rejected,
}

impl OutputKind {
    /// The output's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Late => "late",
            Self::Future => "future",
            Self::Rejected => "rejected",
        }
    }
}

/// Rows on their way out.
#[derive(Debug, Clone)]
pub struct OutputBatch {
    /// The output.
    pub kind: OutputKind,
    /// The rows.
    pub batch: RecordBatch,
    /// For rows that are records: the headers of each, where they were taken along.
    pub headers: Vec<Vec<Header>>,
}

/// What an epoch leaves behind when it is sealed.
#[derive(Debug)]
pub struct Sealed {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Rows of `updates` windows.
    pub outputs: Vec<OutputBatch>,
    /// Digest of all state.
    pub digest: u64,
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    /// Shared with whoever decodes ahead.
    decoder: Arc<Decoder>,
    lanes: BTreeMap<i32, Lane>,
    combine: Option<Combine>,
    /// The epoch being filled, from 1.
    epoch: u64,
    /// The latest time told; the engine's idea of now never falls.
    now_ms: i64,
    /// Threads used inside one call.
    threads: usize,
}

impl Pipeline {
    /// A pipeline for `spec` without lanes, or all mistakes in it. `threads` is what the machine has.
    pub fn new(spec: &Spec, threads: usize) -> Result<Self> {
        let analysis = analyse(spec);
        let Some(plan) = analysis.plan else { return Err(Error::config(analysis.problems)) };
        let combine = window_plan(&plan).filter(|_| plan.combine).map(Combine::new);
        let bound = if plan.limits.threads_max == 0 { threads } else { plan.limits.threads_max };
        Ok(Self {
            decoder: Arc::new(Decoder::new(plan.decode.clone())),
            plan,
            lanes: BTreeMap::new(),
            combine,
            epoch: 1,
            now_ms: i64::MIN,
            threads: bound.max(1),
        })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads used inside one call.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Adds empty lanes; those that are there stay as they are.
    pub fn assign(&mut self, lanes: &[i32]) {
        for id in lanes {
            self.lanes.entry(*id).or_insert_with(|| Lane::new(*id, &self.plan));
        }
    }

    /// Drops lanes and their state.
    pub fn revoke(&mut self, lanes: &[i32]) {
        for id in lanes {
            self.lanes.remove(id);
        }
    }

    /// Runs records through their lanes.
    pub fn push(&mut self, raws: &[RawBatch], now_ms: i64) -> Result<Vec<OutputBatch>> {
        let decoded = work::decode(&self.decoder, raws, self.threads);
        self.push_decoded(raws, decoded, now_ms, self.threads)
    }

    /// The decoder, for decoding ahead of a push: it holds no state, so when it runs cannot matter.
    #[must_use]
    pub fn decoder(&self) -> Arc<Decoder> {
        self.decoder.clone()
    }

    /// Runs records that this pipeline's [`decoder`](Self::decoder) has decoded through their lanes, on `threads`.
    pub fn push_decoded(
        &mut self,
        raws: &[RawBatch],
        decoded: Vec<Vec<Batch>>,
        now_ms: i64,
        threads: usize,
    ) -> Result<Vec<OutputBatch>> {
        let now_ms = self.tell(now_ms);
        self.check_lanes(raws)?;
        let outputs = work::apply(&self.plan, &mut self.lanes, raws, decoded, now_ms, threads)?;
        let mut collected = self.collect(raws, outputs);
        collected.extend(self.advance_combine()?);
        self.check_state_bytes()?;
        Ok(collected)
    }

    fn tell(&mut self, now_ms: i64) -> i64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    fn check_lanes(&self, raws: &[RawBatch]) -> Result<()> {
        let mut seen = Vec::new();
        for raw in raws {
            if !self.lanes.contains_key(&raw.lane) || seen.contains(&raw.lane) {
                let message = format!("lane {} is not assigned, or occurs twice in one push", raw.lane);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            seen.push(raw.lane);
        }
        Ok(())
    }

    fn check_state_bytes(&self) -> Result<()> {
        let (used, limit) = (self.state_bytes(), self.plan.limits.state_bytes_max);
        if used <= limit {
            return Ok(());
        }
        let message = format!(
            "the state of all lanes takes {used} bytes, more than limits.max_state_bytes = {limit}; \
             raise the limit, shorten windows or dedupe horizons, or group by fewer keys"
        );
        Err(Error::new(ErrorKind::Limit, message))
    }

    /// Tells the time, and which lanes have read everything readable.
    pub fn advance(&mut self, now_ms: i64, caught_up: &[i32]) -> Result<Vec<OutputBatch>> {
        let now_ms = self.tell(now_ms);
        for lane in self.lanes.values_mut() {
            lane.clock.tell(now_ms, caught_up.contains(&lane.id));
        }
        if self.minimum().all_idle && self.plan.clock.advance_when_idle {
            self.lanes.values_mut().for_each(|lane| lane.clock.run_on(now_ms));
        }
        let mut rows = self.result_rows();
        for lane in self.lanes.values_mut() {
            let mut output = LaneOutput { windows: rows.take(), ..LaneOutput::default() };
            lane.advance(&self.plan, &mut output)?;
            rows = output.windows;
        }
        let mut collected: Vec<OutputBatch> = self.batch_rows(rows).into_iter().collect();
        collected.extend(self.advance_combine()?);
        Ok(collected)
    }

    fn minimum(&self) -> Minimum {
        let clocks = self.lanes.values().map(|lane| &lane.clock);
        minimum(clocks, self.now_ms, self.plan.clock.idle_timeout_ms)
    }

    fn advance_combine(&mut self) -> Result<Option<OutputBatch>> {
        let (minimum, rows) = (self.minimum(), self.result_rows());
        let (Some(combine), Some(mut rows)) = (&mut self.combine, rows) else { return Ok(None) };
        let (now_ms, timeout_ms) = (self.now_ms, self.plan.clock.idle_timeout_ms);
        let idle = |lane: &Lane| !minimum.all_idle && lane.clock.is_idle(now_ms, timeout_ms);
        combine.advance(&mut self.lanes, idle, minimum, &mut rows)?;
        Ok(self.batch_rows(Some(rows)))
    }

    /// The bounded input is over: every window's row leaves. Lanes keep their clocks and windows
    /// their state, so that a later run goes on where this one stood.
    pub fn end(&mut self) -> Result<Vec<OutputBatch>> {
        let Some(mut rows) = self.result_rows() else { return Ok(Vec::new()) };
        for lane in self.lanes.values_mut() {
            lane.end(&mut rows)?;
        }
        if let Some(combine) = &mut self.combine {
            combine.take(&mut self.lanes, &mut rows)?;
            combine.end(&self.lanes, &mut rows)?;
        }
        Ok(self.batch_rows(Some(rows)).into_iter().collect())
    }

    /// Ends the epoch: changed rows leave, ledgers are checked, the digest is brought up to date.
    pub fn seal(&mut self) -> Result<Sealed> {
        let mut rows = self.result_rows();
        if let (Some(combine), Some(rows)) = (&mut self.combine, &mut rows) {
            combine.take(&mut self.lanes, rows)?;
        }
        let mut digest = 0_u64;
        for lane in self.lanes.values_mut() {
            let lane_digest = lane.seal(rows.as_mut())?;
            digest = digest.wrapping_add((lane_digest ^ lane.id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        if let (Some(combine), Some(rows)) = (&mut self.combine, &mut rows) {
            digest ^= combine.seal(rows)?;
            self.check_combine()?;
        }
        let outputs = self.batch_rows(rows).into_iter().collect();
        Ok(Sealed { epoch: self.epoch, outputs, digest })
    }

    /// Nothing that a lane counted as applied may be missing in the combine stage.
    fn check_combine(&mut self) -> Result<()> {
        if self.lanes.values_mut().any(|lane| lane.partial().is_some_and(|partial| partial.open_windows() > 0)) {
            return Err(Error::new(ErrorKind::Internal, "a lane still holds windows after they were merged"));
        }
        Ok(())
    }

    /// The sealed epoch is durable.
    pub fn committed(&mut self) {
        self.lanes.values_mut().for_each(Lane::commit);
        if let Some(combine) = &mut self.combine {
            combine.commit();
        }
        self.epoch += 1;
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        self.lanes.values_mut().for_each(Lane::rollback);
        if let Some(combine) = &mut self.combine {
            combine.rollback();
        }
    }

    /// Sealed state of each lane and of the combine stage ([`COMBINE_LANE`]).
    #[must_use]
    pub fn save(&self) -> Vec<(i32, Vec<u8>)> {
        let head = |epoch: u64| {
            let mut out = Vec::new();
            out.put_u64(self.plan.fingerprint);
            out.put_varint(epoch);
            out
        };
        let mut saved = Vec::new();
        for lane in self.lanes.values() {
            let mut out = head(self.epoch);
            lane.save(&mut out);
            saved.push((lane.id, out));
        }
        if let Some(combine) = &self.combine {
            let mut out = head(self.epoch);
            combine.save(&mut out);
            saved.push((COMBINE_LANE, out));
        }
        saved
    }

    /// Takes saved state, assigning its lanes. The next epoch is the one after the saved.
    pub fn restore(&mut self, saved: &[(i32, Vec<u8>)]) -> Result<()> {
        for (id, bytes) in saved {
            self.restore_lane(*id, bytes).map_err(|error| error.within(format!("lane {id}")))?;
        }
        Ok(())
    }

    fn restore_lane(&mut self, id: i32, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes);
        let fingerprint = reader.u64()?;
        if fingerprint != self.plan.fingerprint {
            return Err(Error::state(format!(
                "the state was saved by another pipeline (fingerprint {fingerprint:016x}, this one is {:016x}): \
                 its source, schema or steps differ; run it under another name, or move the state away",
                self.plan.fingerprint
            )));
        }
        let epoch = reader.varint()?;
        if id == COMBINE_LANE {
            let Some(combine) = &mut self.combine else {
                return Err(Error::state("the state has a combine stage and the pipeline has none"));
            };
            combine.load(&mut reader)?;
        } else {
            let mut lane = Lane::new(id, &self.plan);
            lane.load(&self.plan, &mut reader)?;
            self.lanes.insert(id, lane);
        }
        self.epoch = self.epoch.max(epoch + 1);
        reader.finish()
    }

    /// Lanes further ahead of the slowest active lane than `max_lead`.
    #[must_use]
    pub fn paused(&self) -> Vec<i32> {
        let (Some(lead), Some(_)) = (self.plan.clock.max_lead_ms, &self.combine) else { return Vec::new() };
        let idle = self.plan.clock.idle_timeout_ms;
        let seen = |lane: &&Lane| lane.clock.max_event_time_ms().is_some();
        let active = self.lanes.values().filter(seen).filter(|lane| !lane.clock.is_idle(self.now_ms, idle));
        let Some(slowest) = active.map(|lane| lane.clock.watermark_ms()).min() else { return Vec::new() };
        let ahead = |lane: &&Lane| lane.clock.watermark_ms() > slowest.saturating_add(lead);
        self.lanes.values().filter(ahead).map(|lane| lane.id).collect()
    }

    /// Each lane's ledger.
    pub fn ledgers(&self) -> impl Iterator<Item = (i32, &Ledger)> {
        self.lanes.values().map(|lane| (lane.id, &lane.ledger))
    }

    /// Each lane, for its clock.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    /// The combine stage.
    #[must_use]
    pub fn combine(&self) -> Option<&Combine> {
        self.combine.as_ref()
    }

    /// The latest time told, ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The epoch being filled, from 1.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of state of all lanes, roughly.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        let lanes: usize = self.lanes.values().map(Lane::byte_len).sum();
        (lanes + self.combine.as_ref().map_or(0, Combine::byte_len)) as u64
    }

    /// See [`Decoder::layouts_forgotten`].
    #[must_use]
    pub fn layouts_forgotten(&self) -> u64 {
        self.decoder.layouts_forgotten()
    }

    /// How many batches' group keys were not interned, since most keys of those before were met once: that costs
    /// time, and changes no answer. How many depends on how records are spread over batches and threads; those of a
    /// lane that was revoked no longer count.
    #[must_use]
    pub fn batches_not_interned(&self) -> u64 {
        self.decoder.batches_not_interned() + self.lanes.values().map(Lane::batches_not_interned).sum::<u64>()
    }

    /// Windows that have rows and have not fired. One that rows of several lanes wait to be merged
    /// in counts once a lane until then.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        let lanes: usize = self.lanes.values().map(Lane::open_windows).sum();
        lanes + self.combine.as_ref().map_or(0, Combine::open_windows)
    }

    fn result_rows(&self) -> Option<ResultRows> {
        window_plan(&self.plan).map(|plan| ResultRows::new(plan))
    }

    fn batch_rows(&self, rows: Option<ResultRows>) -> Option<OutputBatch> {
        let rows = rows.filter(|rows| !rows.is_empty())?;
        let Output::Windows(names) = &self.plan.output else { return None };
        Some(plain(OutputKind::Result, table::batch_of(names, rows.into_columns())))
    }

    /// Turns what the lanes put out into batches: results first, then what left before, lane by lane.
    fn collect(&self, raws: &[RawBatch], outputs: Vec<LaneOutput>) -> Vec<OutputBatch> {
        let (mut results, mut others) = (Vec::new(), Vec::new());
        for (raw, output) in raws.iter().zip(outputs) {
            results.extend(self.batch_rows(output.windows));
            if let Output::Rows(names) = &self.plan.output {
                let batches = output
                    .rows
                    .into_iter()
                    .map(|columns| table::batch_of(names, columns.into_iter().map(OutputColumn::from).collect()));
                results.extend(batches.map(|batch| plain(OutputKind::Result, batch)));
            }
            if !output.records.is_empty() {
                let batch = table::records(raw, &output.records);
                results.push(of_records(OutputKind::Result, batch, raw, &output.records));
            }
            let kinds = [
                (OutputKind::Late, table::late as fn(&RawBatch, &[_]) -> RecordBatch),
                (OutputKind::Future, table::future),
                (OutputKind::Rejected, table::rejected),
            ];
            for (kind, make) in kinds {
                let rows: Vec<u32> =
                    output.left.iter().filter(|row| kind_of(&row.left) == kind).map(|row| row.raw_row).collect();
                if !rows.is_empty() {
                    others.push(of_records(kind, make(raw, &output.left), raw, &rows));
                }
            }
        }
        results.append(&mut others);
        results
    }
}

const fn kind_of(left: &Left) -> OutputKind {
    match left {
        Left::Late { .. } => OutputKind::Late,
        Left::Future { .. } => OutputKind::Future,
        Left::Rejected { .. } => OutputKind::Rejected,
    }
}

fn plain(kind: OutputKind, batch: RecordBatch) -> OutputBatch {
    OutputBatch { kind, batch, headers: Vec::new() }
}

fn of_records(kind: OutputKind, batch: RecordBatch, raw: &RawBatch, rows: &[u32]) -> OutputBatch {
    let headers = if raw.has_headers() {
        rows.iter().map(|row| raw.headers(*row as usize).to_vec()).collect()
    } else {
        Vec::new()
    };
    OutputBatch { kind, batch, headers }
}

fn window_plan(plan: &Plan) -> Option<&Arc<WindowPlan>> {
    plan.steps.iter().find_map(|step| match step {
        Step::Window(window) => Some(&window.plan),
        _ => None,
    })
}
