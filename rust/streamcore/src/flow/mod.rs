//! The way of a batch through the steps of one stage: of decoded records in a lane, or of a window's rows.
//!
//! Rows are never moved: a row that leaves is no longer kept, and the ledger says where it went.
//! Invariant: `kept` rows are exactly those not counted in the ledger yet.

mod dedupe;
mod held;
mod init;
mod left;
mod map;
mod moving;
mod partials;

pub use held::Held;
pub use left::{Left, LeftRow};

use crate::batch::{Column, Groups};
use crate::error::{RejectKind, Result};
use crate::expr::{Condition, Expression};
use crate::metrics::Ledger;
use crate::plan::{Step, WindowStep};
use crate::results::Lists;
use crate::spec::NullKeysSpec;
use crate::window::aggregate::{Input, Order};
use crate::window::rows::ResultRows;
use crate::window::{Arrivals, Outcomes};
use std::borrow::Cow;

/// Rows as they come to a stage. All is dense over the batch.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'r> {
    /// What the first step sees.
    pub columns: &'r [Column],
    /// By the same places, the lists of a column that only stands for them; empty where there are none.
    pub lists: &'r [Option<Lists>],
    /// Event time of each row, ms.
    pub event_times_ms: &'r [i64],
    /// The groups that the window step will ask for, where they are known.
    pub groups: Option<&'r Groups>,
    /// What `first`, `last` and their like order rows of one time by: a partition and the rows' offsets in it. The
    /// offsets may be left out where [`are_ordered`] says so.
    pub partition: i32,
    /// See `partition`.
    pub offsets: &'r [i64],
}

/// Whether a step looks at offsets.
#[must_use]
pub fn are_ordered(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Window(window) => window.plan.aggregates.iter().any(|aggregate| aggregate.function.is_ordered()),
        _ => false,
    })
}

/// One batch on its way.
pub struct Flow<'f> {
    rows: Rows<'f>,
    held: &'f mut Held,
    ledger: &'f mut Ledger,
    /// Longest group key, bytes.
    key_bytes_max: usize,
    /// Columns the next step sees.
    columns: Cow<'f, [Column]>,
    /// Rows still on their way.
    kept: Vec<bool>,
    /// The clock before each row.
    watermarks_ms: Vec<i64>,
    /// Rows that left, in the order they did.
    left: Vec<(u32, Left)>,
    /// Where rows of windows go that leave before those are over; without it none does.
    early: Option<&'f mut ResultRows>,
    /// Rows that filters took out, where that is asked for.
    filtered: Option<Vec<u32>>,
}

/// What came of a batch.
pub struct Passed<'f> {
    /// The columns after the last step. Where that is a window they are of no use.
    pub columns: Cow<'f, [Column]>,
    /// The rows that reached the end, unless they were counted in windows.
    pub rows: Vec<u32>,
    /// The rows that did not, and why.
    pub left: Vec<(u32, Left)>,
    /// The clock before each row, where rows reached the end.
    pub watermarks_ms: Vec<i64>,
    /// The rows that filters took out, where that was asked for.
    pub filtered: Vec<u32>,
}

impl<'f> Flow<'f> {
    /// `rows` at the first step of a stage that holds `held` and counts in `ledger`.
    #[must_use]
    pub fn new(rows: Rows<'f>, held: &'f mut Held, ledger: &'f mut Ledger, key_bytes_max: usize) -> Self {
        let (columns, kept) = (Cow::Borrowed(rows.columns), vec![true; rows.event_times_ms.len()]);
        let (watermarks_ms, left) = (Vec::new(), Vec::new());
        Self { rows, held, ledger, key_bytes_max, columns, kept, watermarks_ms, left, early: None, filtered: None }
    }

    /// Appends rows of windows that leave before those are over to `early`.
    #[must_use]
    pub fn with_early(self, early: Option<&'f mut ResultRows>) -> Self {
        Self { early, ..self }
    }

    /// Notes the rows that filters take out from here on.
    pub fn note_filtered(&mut self) {
        self.filtered = Some(Vec::new());
    }

    /// Whether `row` is still on its way.
    #[must_use]
    pub fn is_kept(&self, row: usize) -> bool {
        self.kept[row]
    }

    /// Takes the kept rows through `steps`. `watermarks_ms` is the clock before each row.
    pub fn run(mut self, steps: &[Step], watermarks_ms: Vec<i64>) -> Result<Passed<'f>> {
        self.watermarks_ms = watermarks_ms;
        let mut dedupe = 0;
        for step in steps {
            match step {
                Step::Filter(condition) => self.filter(condition),
                Step::Select(columns) => self.select(columns),
                Step::MapBatches(step) => self.map(step),
                Step::Dedupe { id, field, .. } => {
                    self.dedupe(dedupe, id, field)?;
                    dedupe += 1;
                }
                Step::Window(window) => {
                    self.window(window)?;
                    let (columns, left) = (self.columns, self.left);
                    let (rows, watermarks_ms, filtered) = Default::default();
                    return Ok(Passed { columns, rows, left, watermarks_ms, filtered });
                }
            }
        }
        let rows: Vec<u32> = (0..self.kept.len() as u32).filter(|row| self.kept[*row as usize]).collect();
        self.ledger.applied += rows.len() as u64;
        let (watermarks_ms, filtered) = (self.watermarks_ms, self.filtered.unwrap_or_default());
        Ok(Passed { columns: self.columns, rows, left: self.left, watermarks_ms, filtered })
    }

    /// Refuses `row`.
    pub fn reject(&mut self, row: usize, kind: RejectKind, detail: String) {
        self.ledger.rejected += 1;
        self.leave(row, Left::Rejected { reason: kind.as_str(), detail, at: 0 });
    }

    /// There is no room for what `row` would add to a step.
    fn shed(&mut self, row: usize, limit: &str) {
        self.ledger.shed += 1;
        let detail = format!("no room for another {limit}");
        self.reject(row, RejectKind::StateFull, detail);
    }

    /// `row` is of the future, `ahead_ms` ahead.
    pub fn future(&mut self, row: usize, ahead_ms: i64) {
        self.ledger.future += 1;
        self.leave(row, Left::Future { event_time_ms: self.rows.event_times_ms[row], ahead_ms });
    }

    /// `row` comes late by `lateness_ms`.
    pub fn late(&mut self, row: usize, reason: &'static str, lateness_ms: i64) {
        self.ledger.late += 1;
        self.leave(row, Left::Late { reason, event_time_ms: self.rows.event_times_ms[row], lateness_ms });
    }

    fn leave(&mut self, row: usize, left: Left) {
        self.kept[row] = false;
        self.left.push((row as u32, left));
    }

    /// `row` is late for what was over at the watermark `over_at_ms`.
    fn missed(&mut self, row: usize, reason: &'static str, over_at_ms: i64) {
        self.late(row, reason, self.watermarks_ms[row] - over_at_ms + 1);
    }

    /// Keeps the rows for which `condition` is true.
    pub fn filter(&mut self, condition: &Condition) {
        let before = self.kept.clone();
        let overflowed = condition.retain(&self.columns, &mut self.kept);
        self.reject_overflowed(&overflowed, &before);
        let gone = before.iter().zip(&self.kept).filter(|(before, after)| **before && !**after).count();
        let rejected = overflowed.iter().filter(|row| before[**row as usize]).count();
        self.ledger.filtered += (gone - rejected) as u64;
        if let Some(filtered) = &mut self.filtered {
            let is_filtered =
                |row: &u32| before[*row as usize] && !self.kept[*row as usize] && !overflowed.contains(row);
            filtered.extend((0..before.len() as u32).filter(is_filtered));
        }
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
        let evaluated = expression.evaluate(&self.columns, self.kept.len());
        let column = evaluated.column.into_owned();
        let kept = if evaluated.overflowed.is_empty() { Vec::new() } else { self.kept.clone() };
        self.reject_overflowed(&evaluated.overflowed, &kept);
        column
    }

    fn select(&mut self, expressions: &[Expression]) {
        let columns: Vec<Column> = expressions.iter().map(|expression| self.evaluate(expression)).collect();
        self.columns = Cow::Owned(columns);
    }

    fn window(&mut self, window: &WindowStep) -> Result<()> {
        let keys: Vec<Place> = window.keys.iter().map(|key| self.place(key)).collect();
        let arguments: Vec<Vec<Place>> = window
            .inputs
            .iter()
            .map(|(arguments, _)| arguments.iter().map(|argument| self.place(argument)).collect())
            .collect();
        let conditions: Vec<Option<Vec<bool>>> =
            window.inputs.iter().map(|(_, condition)| condition.as_ref().map(|it| self.mask(it))).collect();
        let columns = std::mem::take(&mut self.columns);
        let states = self.states(window, &arguments, &conditions, &columns);
        let groups = self.groups(window, &keys.iter().map(|place| place.column(&columns)).collect::<Vec<_>>());
        let rows = self.grouped_rows(window, &groups);
        let inputs: Vec<Input<'_>> = arguments
            .iter()
            .zip(&conditions)
            .zip(&states)
            .map(|((arguments, condition), states)| match states {
                // Rows without a state are those that do not count.
                Some(states) => Input { argument: Some(states), second: None, condition: None },
                None => Input {
                    argument: arguments.first().map(|place| place.column(&columns)),
                    second: arguments.get(1).map(|place| place.column(&columns)),
                    condition: condition.as_deref(),
                },
            })
            .collect();
        let Rows { event_times_ms, partition, offsets, .. } = self.rows;
        let order = Order { event_times_ms, partition, offsets };
        let watermarks_ms = std::mem::take(&mut self.watermarks_ms);
        let arrivals =
            Arrivals { rows: &rows, groups: &groups, watermarks_ms: &watermarks_ms, inputs: &inputs, order: &order };
        let outcomes = self.count(&arrivals)?;
        self.watermarks_ms = watermarks_ms;
        self.account(&outcomes);
        if let Some(room) = window.plan.room {
            let limit = format!("key: {}", room.limit());
            outcomes.full.iter().for_each(|row| self.shed(*row as usize, &limit));
        }
        Ok(())
    }

    /// The groups of the kept rows.
    fn groups(&mut self, window: &WindowStep, columns: &[&Column]) -> Cow<'f, Groups> {
        if let Some(groups) = self.rows.groups {
            return Cow::Borrowed(groups);
        }
        let kept: Vec<usize> = (0..self.kept.len()).filter(|row| self.kept[*row]).collect();
        Cow::Owned(self.held.interner.groups(columns, &window.plan.key, kept.into_iter()))
    }

    /// The kept rows; those with a key that may not be go.
    fn grouped_rows(&mut self, window: &WindowStep, groups: &Groups) -> Vec<u32> {
        let key_bytes_max = self.key_bytes_max;
        let nulls_go = window.null_keys != NullKeysSpec::Group && !groups.with_null.is_empty();
        let any_too_long = groups.keys.iter().any(|key| key.len() > key_bytes_max);
        let mut rows = Vec::with_capacity(self.kept.len());
        for row in 0..self.kept.len() {
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
            self.ledger.filtered += 1;
        } else if null {
            let detail = "a group key column is null, and null_keys = \"reject\"".to_owned();
            self.reject(row, RejectKind::KeyNull, detail);
        } else {
            let limit = self.key_bytes_max;
            let detail = format!("the group key is longer than limits.max_key_bytes = {limit}");
            self.reject(row, RejectKind::KeyTooLong, detail);
        }
    }

    fn count(&mut self, arrivals: &Arrivals<'_>) -> Result<Outcomes> {
        let Some(windows) = &mut self.held.windows else { return Ok(Outcomes::default()) };
        windows.apply(arrivals, self.early.as_deref_mut())
    }

    fn account(&mut self, outcomes: &Outcomes) {
        let ledger = &mut *self.ledger;
        ledger.applied += outcomes.applied;
        ledger.late_windows += outcomes.missed;
        ledger.filtered += outcomes.no_window;
        ledger.no_window += outcomes.no_window;
        for (row, over_at_ms) in &outcomes.late {
            self.missed(*row as usize, "WINDOW", *over_at_ms);
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
        let mut mask = vec![true; self.kept.len()];
        let overflowed = condition.retain(&self.columns, &mut mask);
        let kept = if overflowed.is_empty() { Vec::new() } else { self.kept.clone() };
        self.reject_overflowed(&overflowed, &kept);
        mask
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
