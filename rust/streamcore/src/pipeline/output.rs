//! What leaves a pipeline: Arrow batches of its outputs.
//!
//! `pipeline.rs` hands over what lanes, the combine stage and the stages behind put out. Invariant: results come before
//! what left early, and each in the order it came.

use super::Pipeline;
use crate::arrays::batch_of;
use crate::flow::{Left, LeftRow};
use crate::lane::LaneOutput;
use crate::plan::Output;
use crate::raw::{Header, RawBatch};
use crate::results::OutputColumn;
use crate::stage::StageOutput;
use crate::table;
use crate::window::rows::ResultRows;
use arrow_array::RecordBatch;

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

impl Pipeline {
    pub(super) fn batch_rows(&self, rows: Option<ResultRows>) -> Option<OutputBatch> {
        rows.filter(|rows| !rows.is_empty()).map(|rows| self.batch_columns(rows.into_columns()))
    }

    /// Result rows.
    fn batch_columns(&self, columns: Vec<OutputColumn>) -> OutputBatch {
        let names = match &self.plan.output {
            Output::Windows(names) | Output::Rows(names) => &names[..],
            Output::Records => &[],
        };
        plain(OutputKind::Result, batch_of(names, columns))
    }

    /// Results of the stages behind the first, then what left before.
    pub(super) fn batch_stages(&self, output: StageOutput) -> Vec<OutputBatch> {
        let mut batches: Vec<OutputBatch> =
            output.results.into_iter().map(|columns| self.batch_columns(columns)).collect();
        output.left.iter().for_each(|(raw, left)| batches.extend(batch_left(raw, left)));
        batches
    }

    /// Turns what the lanes put out into batches: results first, then what left before, lane by lane.
    pub(super) fn collect(&self, raws: &[RawBatch], outputs: Vec<LaneOutput>) -> Vec<OutputBatch> {
        let (mut results, mut others) = (Vec::new(), Vec::new());
        for (raw, output) in raws.iter().zip(outputs) {
            results.extend(self.batch_rows(output.windows));
            let rows = output.rows.into_iter().map(|columns| columns.into_iter().map(OutputColumn::from).collect());
            results.extend(rows.map(|columns| self.batch_columns(columns)));
            let (done, mut left): (Vec<_>, Vec<_>) =
                self.batch_stages(output.stages).into_iter().partition(|batch| batch.kind == OutputKind::Result);
            results.extend(done);
            if !output.records.is_empty() {
                let batch = table::records(raw, &output.records);
                results.push(of_records(OutputKind::Result, batch, raw, &output.records));
            }
            others.extend(batch_left(raw, &output.left));
            others.append(&mut left);
        }
        results.append(&mut others);
        results
    }
}

/// The records of `raw` that left, by output.
fn batch_left(raw: &RawBatch, left: &[LeftRow]) -> Vec<OutputBatch> {
    let kinds = [
        (OutputKind::Late, table::late as fn(&RawBatch, &[_]) -> RecordBatch),
        (OutputKind::Future, table::future),
        (OutputKind::Rejected, table::rejected),
    ];
    let mut batches = Vec::new();
    for (kind, make) in kinds {
        let rows: Vec<u32> = left.iter().filter(|row| kind_of(&row.left) == kind).map(|row| row.raw_row).collect();
        if !rows.is_empty() {
            batches.push(of_records(kind, make(raw, left), raw, &rows));
        }
    }
    batches
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
