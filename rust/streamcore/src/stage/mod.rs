//! The steps behind a window: its rows become the next stage's records.
//!
//! A pipeline is cut into stages, each of which ends in a window but for the last, which need not. Lanes run the first;
//! the others run here, in a lane where every window's group key is the record key, else once, after `combine`.
//! A stage has no clock of its own: it is handed the rows of the windows that fired, by window end and key, each with
//! the last instant of its window as its time, and then the watermark they fired at, less the lateness that window allows: all rows up
//! to there have come. A join stands before a stage in the window's place: its rows come in the order of their time
//! too, and it knows how far they are complete. Those of a join with a table come as its records do, each with the
//! watermark before it.
//!
//! The watermark before a row is the one that let it fire, not the one last told, so that no answer depends on how far
//! the clock jumped at once. Invariant: `read = applied + filtered + duplicate + late + rejected` for each stage.

mod end;
mod moved;

use crate::arrays::batch_of;
use crate::batch::{Column, DataType, Values};
use crate::codec::Write;
use crate::decode::time::TIME_MAX_MS;
use crate::dedupe::Remembered;
use crate::encode::{TimeFormat, json_rows};
use crate::error::Result;
use crate::flow::{Flow, Held, Left, LeftRow, Rows};
use crate::metrics::Ledger;
use crate::plan::{Before, StagePlan};
use crate::raw::RawBatch;
use crate::results::{Lists, OutputColumn};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::window::ends::Ends;
use crate::window::rows::ResultRows;
use end::Ending;
use std::sync::Arc;

/// What came out of the stages behind the first.
#[derive(Debug, Default)]
pub struct StageOutput {
    /// Columns of the rows that reached the end, batch by batch.
    pub results: Vec<Vec<OutputColumn>>,
    /// Rows that left before, as records that hold them as JSON.
    pub left: Vec<(RawBatch, Vec<LeftRow>)>,
}

/// Rows on their way to the stage behind.
#[derive(Debug)]
pub enum Fired {
    /// Of a window.
    Windows {
        /// The rows, by window end and key.
        rows: Box<ResultRows>,
        /// How often the input ended before they fired: a row with a higher revision replaces one that left before.
        ends: u32,
    },
    /// Of a join.
    Joined {
        /// The columns.
        columns: Vec<Column>,
        /// Time of each row, ms.
        times_ms: Vec<i64>,
        /// The watermark before each row, ms; empty where the rows are in order of time.
        watermarks_ms: Vec<i64>,
    },
}

impl Fired {
    /// No rows: only a watermark is told.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::Joined { columns: Vec::new(), times_ms: Vec::new(), watermarks_ms: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Windows { rows, .. } => rows.is_empty(),
            Self::Joined { times_ms, .. } => times_ms.is_empty(),
        }
    }
}

/// The stages behind the first, of a lane or of all lanes together.
#[derive(Debug)]
pub struct Stages {
    stages: Vec<Stage>,
    /// An end of the input under way.
    ending: Option<Ending>,
}

/// The state of one stage.
#[derive(Debug)]
struct Stage {
    /// The lane it is of; `COMBINE_LANE` for all together.
    lane: i32,
    held: Held,
    /// Where its rows went.
    ledger: Ledger,
    /// Every row up to here has come, ms; never falls.
    watermark_ms: i64,
    /// Watermark and ledger at the last commit.
    committed: (i64, Ledger),
    /// The ledger with the rows that came at the end of the input, until others come: they are not kept.
    ended: Option<Ledger>,
}

impl Stages {
    /// Stages of `lane` that have seen nothing.
    #[must_use]
    pub fn new(plans: &[StagePlan], lane: i32) -> Self {
        Self { stages: plans.iter().map(|plan| Stage::new(plan, lane)).collect(), ending: None }
    }

    /// What each `dedupe` step holds, in step order.
    pub fn remembered(&self) -> impl Iterator<Item = Remembered> {
        self.stages.iter().flat_map(|stage| stage.held.remembered())
    }

    /// True when the pipeline has but one stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Takes the rows of the first stage's windows, or of the join, that fired at `watermark_ms`, and tells that
    /// watermark. False when there is more: then it is to be called again before rows of a later watermark come.
    pub fn advance(
        &mut self,
        plans: &[StagePlan],
        mut fired: Fired,
        mut watermark_ms: i64,
        out: &mut StageOutput,
    ) -> Result<bool> {
        let mut have_left = true;
        for (stage, plan) in self.stages.iter_mut().zip(plans) {
            if !fired.is_empty() {
                stage.ended = None;
            }
            let mut rows = plan.result_rows();
            stage.receive(plan, fired, rows.as_mut(), out)?;
            stage.watermark_ms = stage.watermark_ms.max(behind(watermark_ms, plan.before.behind_ms() + plan.lag_ms()));
            have_left &= stage.held.advance(stage.watermark_ms, rows.as_mut())?;
            // The next one is told when all rows up to there have come.
            watermark_ms = if have_left { stage.watermark_ms } else { i64::MIN };
            let Some(rows) = rows else { break };
            if plan.is_last {
                out.take(rows);
                break;
            }
            fired = Fired::Windows { rows: Box::new(rows), ends: stage.held.ends() };
        }
        Ok(have_left)
    }

    /// Ends the epoch: changed rows of the last window leave, ledgers are checked. Gives the digest.
    pub fn seal(&mut self, plans: &[StagePlan], out: &mut StageOutput) -> Result<u64> {
        let mut digest = 0_u64;
        for (stage, plan) in self.stages.iter_mut().zip(plans) {
            let mut rows = plan.result_rows();
            let sealed = stage.seal(rows.as_mut()).map_err(|error| error.within(&plan.name))?;
            digest = digest.rotate_left(11).wrapping_add(sealed);
            rows.into_iter().for_each(|rows| out.take(rows));
        }
        Ok(digest)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        for stage in &mut self.stages {
            stage.committed = (stage.watermark_ms, stage.ledger);
            stage.held.commit();
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.ending = None;
        for stage in &mut self.stages {
            (stage.watermark_ms, stage.ledger) = stage.committed;
            stage.ended = None;
            stage.held.rollback();
        }
    }

    /// Appends the state.
    pub fn save(&self, saving: &mut Saving) {
        self.stages.iter().for_each(|stage| stage.save(saving));
    }

    /// Reads what `save` wrote, where nothing was held yet.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.stages.iter_mut().try_for_each(|stage| stage.load(saved))
    }

    /// Where the rows of each stage went.
    pub fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        self.stages.iter().map(|stage| stage.ended.as_ref().unwrap_or(&stage.ledger))
    }

    /// Windows that have rows and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.stages.iter().map(|stage| stage.held.open_windows()).sum()
    }

    /// Shows the open windows of each stage to its `ends`.
    pub fn see_open<'e>(&self, ends: impl Iterator<Item = &'e mut Ends>) {
        self.stages.iter().zip(ends).for_each(|(stage, ends)| stage.held.see_open(ends));
    }

    /// What each step holds, stage by stage.
    pub fn usages(&mut self) -> Vec<Usage> {
        self.stages.iter_mut().flat_map(|stage| stage.held.usages()).collect()
    }
}

/// The watermark that is `behind_ms` behind.
const fn behind(watermark_ms: i64, behind_ms: i64) -> i64 {
    watermark_ms.saturating_sub(behind_ms)
}

impl StageOutput {
    /// Rows that reached the end.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.results.iter().filter_map(|columns| columns.first()).map(OutputColumn::len).sum()
    }

    fn take(&mut self, rows: ResultRows) {
        if !rows.is_empty() {
            self.results.push(rows.into_columns());
        }
    }
}

impl Stage {
    fn new(plan: &StagePlan, lane: i32) -> Self {
        let (watermark_ms, ledger) = (i64::MIN, Ledger::default());
        let held = Held::new(&plan.steps, false);
        Self { lane, held, ledger, watermark_ms, committed: (watermark_ms, ledger), ended: None }
    }

    /// Takes rows of the window or join before through the steps; `early` takes rows of the stage's own window that leave
    /// before it is over.
    fn receive(
        &mut self,
        plan: &StagePlan,
        fired: Fired,
        early: Option<&mut ResultRows>,
        out: &mut StageOutput,
    ) -> Result<()> {
        if fired.is_empty() {
            return Ok(());
        }
        let first = self.ledger.read;
        let input = Input::new(plan, fired);
        self.ledger.read += input.times_ms.len() as u64;
        let offsets: Vec<i64> = (0..input.times_ms.len() as i64).map(|row| first as i64 + row).collect();
        let rows = Rows {
            columns: &input.columns,
            lists: &input.lists,
            event_times_ms: &input.times_ms,
            groups: None,
            partition: self.lane,
            offsets: &offsets,
        };
        let mut flow = Flow::new(rows, &mut self.held, &mut self.ledger, plan.key_bytes_max).with_early(early);
        if plan.keeps_state() {
            for row in input.revised(plan) {
                flow.late(row, "REVISION", self.watermark_ms.saturating_sub(input.times_ms[row]).saturating_add(1));
            }
        }
        let before = input.watermarks_before(plan, self.watermark_ms);
        let passed = flow.run(&plan.steps, before)?;
        if !passed.rows.is_empty() {
            out.results.push(input.result(plan, &passed.columns, &passed.rows));
        }
        let left = passed.left;
        if !left.is_empty() {
            out.left.push(input.into_records(plan, self.lane, &offsets, left)?);
        }
        Ok(())
    }

    fn seal(&mut self, rows: Option<&mut ResultRows>) -> Result<u64> {
        self.ledger.check(self.lane)?;
        let held = self.held.seal(rows)?;
        let mut plain = Vec::new();
        plain.put_i64(self.watermark_ms);
        self.ledger.encode(&mut plain);
        Ok(held ^ xxhash_rust::xxh3::xxh3_64(&plain))
    }

    fn save(&self, saving: &mut Saving) {
        saving.out.put_i64(self.watermark_ms);
        self.ledger.encode(&mut saving.out);
        self.held.save(saving);
    }

    fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        (self.watermark_ms, self.ledger) = saved.newest(|saved| Ok((saved.i64()?, Ledger::decode(saved)?)))?;
        self.held.load(saved)?;
        self.committed = (self.watermark_ms, self.ledger);
        Ok(())
    }
}

/// Rows of a window or a join as a stage sees them.
struct Input {
    /// The columns; in the place of one of lists a column that stands for it.
    columns: Vec<Column>,
    /// The lists, by the same places.
    lists: Vec<Option<Lists>>,
    /// Event time of each row, ms: of a window's its last instant.
    times_ms: Vec<i64>,
    /// The watermark before each row, ms; empty where the rows are in order of time.
    watermarks_ms: Vec<i64>,
    /// See [`Fired`].
    ends: u32,
}

impl Input {
    fn new(plan: &StagePlan, fired: Fired) -> Self {
        match fired {
            Fired::Windows { rows, ends } => Self::of_windows(plan, *rows, ends),
            Fired::Joined { columns, times_ms, watermarks_ms } => {
                let lists = columns.iter().map(|_| None).collect();
                Self { columns, lists, times_ms, watermarks_ms, ends: 0 }
            }
        }
    }

    fn of_windows(plan: &StagePlan, rows: ResultRows, ends: u32) -> Self {
        let (mut columns, mut lists) = (Vec::new(), Vec::new());
        for column in rows.into_columns() {
            let (column, list) = match column {
                OutputColumn::Values(column) => (column, None),
                OutputColumn::Lists(list) => (stand_in(list.ends.len()), Some(list)),
            };
            columns.push(column);
            lists.push(list);
        }
        let times_ms = window_times(plan.before, &columns);
        Self { columns, lists, times_ms, watermarks_ms: Vec::new(), ends }
    }

    /// The watermark before each row, where the stage was told `told_ms`: the instant before its own, or what its
    /// record was judged by where rows come as records do.
    fn watermarks_before(&self, plan: &StagePlan, told_ms: i64) -> Vec<i64> {
        if self.watermarks_ms.is_empty() {
            return self.times_ms.iter().map(|time_ms| told_ms.max(time_ms - 1 - plan.lag_ms())).collect();
        }
        self.watermarks_ms.iter().map(|watermark_ms| told_ms.max(behind(*watermark_ms, plan.lag_ms()))).collect()
    }

    /// The rows that replace one that left before.
    fn revised(&self, plan: &StagePlan) -> Vec<usize> {
        let Before::Window { revision, .. } = plan.before else { return Vec::new() };
        let Values::Int64(revisions) = &self.columns[revision].values else { return Vec::new() };
        let is_revised = |(row, revision): (usize, &i64)| (*revision > i64::from(self.ends)).then_some(row);
        revisions.iter().enumerate().filter_map(is_revised).collect()
    }

    /// The result columns of `rows`, of what the last step left as `columns`.
    fn result(&self, plan: &StagePlan, columns: &[Column], rows: &[u32]) -> Vec<OutputColumn> {
        let lists = |place: &usize| self.lists[*place].as_ref().map(|lists| OutputColumn::Lists(lists.gather(rows)));
        let one = |(column, list): (&Column, &Option<usize>)| {
            list.as_ref().and_then(lists).unwrap_or_else(|| column.gather(rows).into())
        };
        columns.iter().zip(&plan.lists).map(one).collect()
    }

    /// The rows that left, as records.
    fn into_records(
        self,
        plan: &StagePlan,
        lane: i32,
        offsets: &[i64],
        mut left: Vec<(u32, Left)>,
    ) -> Result<(RawBatch, Vec<LeftRow>)> {
        left.sort_by_key(|(row, _)| *row);
        let rows: Vec<u32> = left.iter().map(|(row, _)| *row).collect();
        let columns = self.columns.iter().zip(&self.lists).map(|(column, lists)| match lists {
            Some(lists) => OutputColumn::Lists(lists.gather(&rows)),
            None => column.gather(&rows).into(),
        });
        let batch = batch_of(&plan.input, columns.collect());
        let places: Vec<usize> = (0..plan.input.len()).collect();
        let mut raw = RawBatch::new(lane, Arc::from(plan.name.as_str()), rows.len(), 0);
        for (row, value) in rows.iter().zip(json_rows(&batch, &places, TimeFormat::Iso)) {
            raw.push(Some(&value), offsets[*row as usize], Some(self.times_ms[*row as usize]))?;
        }
        let left = left.into_iter().zip(0..).map(|((_, left), raw_row)| LeftRow { raw_row, left });
        Ok((raw, left.collect()))
    }
}

/// The last instant of each row's window, ms.
fn window_times(before: Before, columns: &[Column]) -> Vec<i64> {
    let Before::Window { end, open_end_ms, .. } = before else { return Vec::new() };
    let ends = &columns[end];
    let time_ms = |row: usize| match &ends.values {
        Values::Int64(ends_ms) if ends.is_valid(row) => ends_ms[row] - open_end_ms,
        // The whole window is over when all others are.
        _ => TIME_MAX_MS,
    };
    (0..ends.len()).map(time_ms).collect()
}

/// A column of `len` rows that nothing looks at.
fn stand_in(len: usize) -> Column {
    Column {
        data_type: DataType::Int64,
        values: Values::Int64(vec![0; len]),
        validity: crate::batch::Validity::default(),
    }
}
