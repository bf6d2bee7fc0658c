//! The way of one decoded batch through a lane's steps.
//!
//! Rows are never moved: a row that leaves is no longer kept, and the ledger says where it went.
//! Invariant: `kept` rows are exactly those not counted in the ledger yet.

use super::{LaneOutput, LaneWindows, Left, LeftRow};
use crate::batch::{Batch, Column, Groups, Scalar};
use crate::dedupe::{Arrival, Judged, fingerprint};
use crate::error::{Reject, RejectKind, Result};
use crate::expr::{Condition, Expression};
use crate::plan::{Output, Plan, Step, WindowStep};
use crate::raw::RawBatch;
use crate::spec::NullKeysSpec;
use crate::window::aggregate::{Input, Order};
use crate::window::{Arrivals, Outcomes};
use std::borrow::Cow;

/// One batch on its way.
pub struct Flow<'f> {
    lane: &'f mut super::Lane,
    plan: &'f Plan,
    raw: &'f RawBatch,
    batch: &'f Batch,
    now_ms: i64,
    output: &'f mut LaneOutput,
    /// Columns the next step sees.
    columns: Cow<'f, [Column]>,
    /// Rows still on their way.
    kept: Vec<bool>,
    /// The clock before each row.
    watermarks_ms: Vec<i64>,
}

impl<'f> Flow<'f> {
    pub fn new(
        lane: &'f mut super::Lane,
        plan: &'f Plan,
        raw: &'f RawBatch,
        batch: &'f Batch,
        now_ms: i64,
        output: &'f mut LaneOutput,
    ) -> Self {
        let columns = Cow::Borrowed(&batch.columns[..]);
        Self { lane, plan, raw, batch, now_ms, output, columns, kept: vec![true; batch.len()], watermarks_ms: vec![] }
    }

    /// Takes the batch through.
    pub fn run(mut self) -> Result<()> {
        let batch = self.batch;
        self.lane.ledger.read += (batch.len() + batch.rejects.len() + batch.tombstones.len()) as u64;
        self.lane.ledger.tombstone += batch.tombstones.len() as u64;
        for reject in &batch.rejects {
            self.count_rejected(reject.clone());
        }
        if let Some(condition) = &self.plan.where_ {
            self.filter(condition);
        }
        self.tell_time();
        let mut dedupe = 0;
        for step in &self.plan.steps {
            match step {
                Step::Filter(condition) => self.filter(condition),
                Step::Select(columns) => self.select(columns),
                Step::Dedupe { id, field, .. } => {
                    self.dedupe(dedupe, id, field)?;
                    dedupe += 1;
                }
                Step::Window(window) => {
                    self.window(window);
                    return Ok(());
                }
            }
        }
        self.leave_as_rows();
        Ok(())
    }

    fn count_rejected(&mut self, reject: Reject) {
        self.lane.ledger.rejected += 1;
        let left = Left::Rejected { reason: reject.kind.as_str(), detail: reject.detail, at: reject.at };
        self.output.left.push(LeftRow { raw_row: reject.row, left });
    }

    /// Refuses row `row` of the batch.
    fn reject(&mut self, row: usize, kind: RejectKind, detail: String) {
        self.kept[row] = false;
        self.count_rejected(Reject::new(self.batch.raw_rows[row], kind, 0, detail));
    }

    fn late(&mut self, row: usize, reason: &'static str, over_at_ms: i64) {
        self.kept[row] = false;
        self.lane.ledger.late += 1;
        let lateness_ms = self.watermarks_ms[row] - over_at_ms + 1;
        let left = Left::Late { reason, event_time_ms: self.batch.event_times_ms[row], lateness_ms };
        self.output.left.push(LeftRow { raw_row: self.batch.raw_rows[row], left });
    }

    /// Judges every row with the clock before it, then moves the clock.
    fn tell_time(&mut self) {
        let Some(skew_ms) = self.plan.clock.max_future_skew_ms else { return self.tell_time_within(|_| i64::MAX) };
        let (raw, batch, now_ms) = (self.raw, self.batch, self.now_ms);
        if self.plan.clock.time_is_record_time || !raw.has_timestamps() {
            let limit_ms = now_ms.saturating_add(skew_ms);
            return self.tell_time_within(|_| limit_ms);
        }
        self.tell_time_within(|row| {
            let record_ms = raw.timestamp_ms(batch.raw_rows[row] as usize);
            record_ms.unwrap_or(now_ms).saturating_add(skew_ms)
        });
    }

    /// `limit_ms`: the last event time of a row that is not of the future.
    fn tell_time_within(&mut self, limit_ms: impl Fn(usize) -> i64) {
        self.watermarks_ms.reserve(self.batch.len());
        for (row, time_ms) in self.batch.event_times_ms.iter().enumerate() {
            self.watermarks_ms.push(self.lane.clock.watermark_ms());
            if !self.kept[row] {
                continue;
            }
            if *time_ms <= limit_ms(row) {
                self.lane.clock.observe(*time_ms);
            } else {
                self.future(row, *time_ms);
            }
        }
    }

    #[cold]
    fn future(&mut self, row: usize, event_time_ms: i64) {
        self.kept[row] = false;
        self.lane.ledger.future += 1;
        let raw_row = self.batch.raw_rows[row];
        let record_ms = self.raw.timestamp_ms(raw_row as usize).filter(|_| !self.plan.clock.time_is_record_time);
        let ahead_ms = event_time_ms.saturating_sub(record_ms.unwrap_or(self.now_ms));
        self.output.left.push(LeftRow { raw_row, left: Left::Future { event_time_ms, ahead_ms } });
    }

    fn filter(&mut self, condition: &Condition) {
        let before = self.kept.clone();
        let overflowed = condition.retain(&self.columns, &mut self.kept);
        self.reject_overflowed(&overflowed, &before);
        let gone = before.iter().zip(&self.kept).filter(|(before, after)| **before && !**after).count();
        let rejected = overflowed.iter().filter(|row| before[**row as usize]).count();
        self.lane.ledger.filtered += (gone - rejected) as u64;
    }

    /// Refuses the rows of `overflowed` that `kept` holds.
    fn reject_overflowed(&mut self, overflowed: &[u32], kept: &[bool]) {
        for row in overflowed.iter().map(|row| *row as usize) {
            if kept[row] {
                self.reject(row, RejectKind::NumberRange, "arithmetic in an expression overflowed".to_owned());
            }
        }
    }

    /// Evaluates over all rows, refusing kept rows that overflow.
    fn evaluate(&mut self, expression: &Expression) -> Column {
        let evaluated = expression.evaluate(&self.columns, self.batch.len());
        let column = evaluated.column.into_owned();
        let kept = if evaluated.overflowed.is_empty() { Vec::new() } else { self.kept.clone() };
        self.reject_overflowed(&evaluated.overflowed, &kept);
        column
    }

    fn select(&mut self, expressions: &[Expression]) {
        let columns: Vec<Column> = expressions.iter().map(|expression| self.evaluate(expression)).collect();
        self.columns = Cow::Owned(columns);
    }

    fn dedupe(&mut self, number: usize, id: &Expression, field: &str) -> Result<()> {
        let place = self.place(id);
        let columns = std::mem::take(&mut self.columns);
        let rows = self.rows_with_id(place.column(&columns), field);
        let arrivals = self.arrivals(place.column(&columns), &rows);
        self.columns = columns;
        let mut judged = Vec::with_capacity(rows.len());
        self.lane.dedupes[number].judge(&arrivals, &mut judged)?;
        for (row, judged) in rows.iter().zip(judged) {
            match judged {
                Judged::New => {}
                Judged::Duplicate => {
                    self.kept[*row as usize] = false;
                    self.lane.ledger.duplicate += 1;
                }
                Judged::BeyondHorizon => {
                    let time_ms = self.batch.event_times_ms[*row as usize];
                    self.late(*row as usize, "DEDUPE_HORIZON", self.lane.dedupes[number].forgotten_at(time_ms));
                }
            }
        }
        Ok(())
    }

    /// The kept rows; those without an id go.
    fn rows_with_id(&mut self, ids: &Column, field: &str) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.batch.len());
        for row in 0..self.batch.len() {
            if !self.kept[row] {
                continue;
            }
            if ids.is_valid(row) {
                rows.push(row as u32);
            } else {
                let detail = format!("{field}, which dedupe compares, is absent or null");
                self.reject(row, RejectKind::MissingField, detail);
            }
        }
        rows
    }

    fn arrivals(&self, ids: &Column, rows: &[u32]) -> Vec<Arrival> {
        let mut scratch = Vec::new();
        let mut fingerprint_of = |row: usize| match ids.get(row) {
            Scalar::Bytes(bytes) => fingerprint(bytes),
            other => {
                scratch.clear();
                fixed_bytes(other, &mut scratch);
                fingerprint(&scratch)
            }
        };
        rows.iter()
            .map(|row| {
                let row = *row as usize;
                let (event_time_ms, watermark_ms) = (self.batch.event_times_ms[row], self.watermarks_ms[row]);
                Arrival { fingerprint: fingerprint_of(row), event_time_ms, watermark_ms }
            })
            .collect()
    }

    fn window(mut self, window: &WindowStep) {
        let keys: Vec<Place> = window.keys.iter().map(|key| self.place(key)).collect();
        let arguments: Vec<Vec<Place>> = window
            .inputs
            .iter()
            .map(|(arguments, _)| arguments.iter().map(|argument| self.place(argument)).collect())
            .collect();
        let conditions: Vec<Option<Vec<bool>>> =
            window.inputs.iter().map(|(_, condition)| condition.as_ref().map(|it| self.mask(it))).collect();
        let columns = std::mem::take(&mut self.columns);
        let groups = self.groups(window, &keys.iter().map(|place| place.column(&columns)).collect::<Vec<_>>());
        let rows = self.grouped_rows(window, &groups);
        let inputs: Vec<Input<'_>> = arguments
            .iter()
            .zip(&conditions)
            .map(|(arguments, condition)| Input {
                argument: arguments.first().map(|place| place.column(&columns)),
                second: arguments.get(1).map(|place| place.column(&columns)),
                condition: condition.as_deref(),
            })
            .collect();
        let offsets = self.offsets(window);
        let order = Order { event_times_ms: &self.batch.event_times_ms, partition: self.raw.lane, offsets: &offsets };
        let watermarks_ms = std::mem::take(&mut self.watermarks_ms);
        let arrivals =
            Arrivals { rows: &rows, groups: &groups, watermarks_ms: &watermarks_ms, inputs: &inputs, order: &order };
        let outcomes = self.count(&arrivals);
        self.watermarks_ms = watermarks_ms;
        self.account(&outcomes);
    }

    /// Offsets by row where an aggregate orders by them.
    fn offsets(&self, window: &WindowStep) -> Vec<i64> {
        if !window.plan.aggregates.iter().any(|aggregate| aggregate.function.is_ordered()) {
            return Vec::new();
        }
        self.batch.raw_rows.iter().map(|row| self.raw.offset(*row as usize)).collect()
    }

    /// The groups of the kept rows.
    fn groups(&mut self, window: &WindowStep, columns: &[&Column]) -> Cow<'f, Groups> {
        if let Some(groups) = &self.batch.groups {
            return Cow::Borrowed(groups);
        }
        let kept: Vec<usize> = (0..self.batch.len()).filter(|row| self.kept[*row]).collect();
        Cow::Owned(self.lane.interner.groups(columns, &window.plan.key, kept.into_iter()))
    }

    /// The kept rows; those with a key that may not be go.
    fn grouped_rows(&mut self, window: &WindowStep, groups: &Groups) -> Vec<u32> {
        let key_bytes_max = self.plan.limits.key_bytes_max as usize;
        let nulls_go = window.null_keys != NullKeysSpec::Group && !groups.with_null.is_empty();
        let any_too_long = groups.keys.iter().any(|key| key.len() > key_bytes_max);
        let mut rows = Vec::with_capacity(self.batch.len());
        for row in 0..self.batch.len() {
            if !self.kept[row] {
                continue;
            }
            if nulls_go || any_too_long {
                let group = groups.of_row[row];
                let null_goes = nulls_go && groups.with_null.binary_search(&group).is_ok();
                if null_goes || groups.keys.get(group as usize).len() > key_bytes_max {
                    self.refuse_key(row, null_goes, window.null_keys);
                    continue;
                }
            }
            rows.push(row as u32);
        }
        rows
    }

    fn refuse_key(&mut self, row: usize, null: bool, null_keys: NullKeysSpec) {
        if null && null_keys == NullKeysSpec::Drop {
            self.kept[row] = false;
            self.lane.ledger.filtered += 1;
        } else if null {
            let detail = "a group key column is null, and null_keys = \"reject\"".to_owned();
            self.reject(row, RejectKind::KeyNull, detail);
        } else {
            let limit = self.plan.limits.key_bytes_max;
            let detail = format!("the group key is longer than limits.max_key_bytes = {limit}");
            self.reject(row, RejectKind::KeyTooLong, detail);
        }
    }

    fn count(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        match self.lane.windows.as_mut() {
            Some(LaneWindows::Own(windows)) => windows.apply(arrivals),
            Some(LaneWindows::Partial(partial)) => partial.apply(arrivals),
            Some(LaneWindows::Sessions { open, .. }) => open.apply(arrivals),
            None => Outcomes::default(),
        }
    }

    fn account(&mut self, outcomes: &Outcomes) {
        let ledger = &mut self.lane.ledger;
        ledger.applied += outcomes.applied;
        ledger.late_windows += outcomes.missed;
        ledger.filtered += outcomes.no_window;
        ledger.no_window += outcomes.no_window;
        for (row, over_at_ms) in &outcomes.late {
            self.late(*row as usize, "WINDOW", *over_at_ms);
        }
    }

    /// Where the values of `expression` are: among the columns, or computed now.
    fn place(&mut self, expression: &Expression) -> Place {
        match expression.as_column() {
            Some(place) => Place::Column(place),
            None => Place::Computed(self.evaluate(expression)),
        }
    }

    /// The rows an aggregate's condition holds for.
    fn mask(&mut self, condition: &Condition) -> Vec<bool> {
        let mut mask = vec![true; self.batch.len()];
        let overflowed = condition.retain(&self.columns, &mut mask);
        let kept = if overflowed.is_empty() { Vec::new() } else { self.kept.clone() };
        self.reject_overflowed(&overflowed, &kept);
        mask
    }

    /// Without a window, the kept rows are the result.
    fn leave_as_rows(self) {
        let rows: Vec<u32> = (0..self.batch.len() as u32).filter(|row| self.kept[*row as usize]).collect();
        self.lane.ledger.applied += rows.len() as u64;
        if rows.is_empty() {
            return;
        }
        match &self.plan.output {
            Output::Records => {
                self.output.records.extend(rows.iter().map(|row| self.batch.raw_rows[*row as usize]));
            }
            Output::Rows(_) | Output::Windows(_) => {
                self.output.rows.push(self.columns.iter().map(|column| column.gather(&rows)).collect());
            }
        }
    }
}

/// Values of an expression over a batch.
enum Place {
    /// One of the batch's columns.
    Column(usize),
    /// A column of its own.
    Computed(Column),
}

impl Place {
    fn column<'c>(&'c self, columns: &'c [Column]) -> &'c Column {
        match self {
            Self::Column(place) => &columns[*place],
            Self::Computed(column) => column,
        }
    }
}

/// A fixed-width id as bytes; `Null` and `Bytes` are the caller's.
fn fixed_bytes(value: Scalar<'_>, out: &mut Vec<u8>) {
    match value {
        Scalar::Bool(value) => out.push(u8::from(value)),
        Scalar::Int64(value) => out.extend_from_slice(&value.to_le_bytes()),
        Scalar::Float64(value) => out.extend_from_slice(&(value + 0.0).to_bits().to_le_bytes()),
        Scalar::Decimal(value) => out.extend_from_slice(&value.to_le_bytes()),
        Scalar::Null | Scalar::Bytes(_) => {}
    }
}
