//! Where the lanes of two inputs meet: their rows into the join, and what leaves it.
//!
//! `pipeline` hands over what the lanes put out, one lane after the other, and tells both sides' watermarks; `stage`
//! takes the joined rows. Invariant: a row that a lane handed over is `applied` in its lane's ledger, unless the join
//! refused it: then it is `late`, or `filtered` where it has no partner for certain.

use crate::batch::{Column, Scalar, Values};
use crate::error::Result;
use crate::flow::{Left, LeftRow};
use crate::join::{Join, Joined, JoinedBatch, Side};
use crate::lane::{Handed, Lane, LaneOutput};
use crate::plan::{JoinStep, JoinedColumn};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::stage::Fired;

/// State of the join.
#[derive(Debug)]
pub struct Joining {
    join: Join,
    /// Joined rows that leave at once.
    piece_rows: usize,
}

impl Joining {
    /// Nothing handed over yet.
    #[must_use]
    pub fn new(step: &JoinStep, piece_rows: usize) -> Self {
        Self { join: Join::new(&step.plan), piece_rows }
    }

    /// Takes the rows that `lane` put out, of input 0 (left) or 1 (right). Gives those that leave at once, as with a
    /// table they do.
    pub fn take(&mut self, step: &JoinStep, input: usize, lane: &mut Lane, output: &mut LaneOutput) -> Vec<Fired> {
        let (mut joined, side) = (Joined::default(), if input == 0 { Side::Left } else { Side::Right });
        for handed in std::mem::take(&mut output.handed) {
            let rows = handed.rows();
            let outcomes = self.join.apply(side, &handed.arrivals(&rows, lane.partition()), &mut joined);
            lane.ledger.applied -= outcomes.unmatched;
            lane.ledger.filtered += outcomes.unmatched;
            for (row, over_at_ms) in outcomes.late {
                refuse(&handed, row as usize, over_at_ms, lane, output);
            }
        }
        output.left.sort_by_key(|row| row.raw_row);
        joined.into_batches().into_iter().map(|batch| fired(step, batch)).collect()
    }

    /// Lets rows leave that both watermarks have passed; [`i64::MAX`] for a side that nothing waits for. Gives them, and
    /// whether there are more: then it is to be called again.
    pub fn fire(&mut self, step: &JoinStep, left_ms: i64, right_ms: i64) -> (Vec<Fired>, bool) {
        let mut joined = Joined::default();
        let more = self.join.fire(left_ms, right_ms, self.piece_rows, &mut joined);
        (joined.into_batches().into_iter().map(|batch| fired(step, batch)).collect(), more)
    }

    /// What is left at the end of the input; nothing else changes. Gives it, and whether there is more: then it goes on
    /// there when it is called again.
    pub fn end(&mut self, step: &JoinStep) -> (Vec<Fired>, bool) {
        let mut joined = Joined::default();
        let more = self.join.end(self.piece_rows, &mut joined);
        (joined.into_batches().into_iter().map(|batch| fired(step, batch)).collect(), more)
    }

    /// The time up to which everything has left, ms.
    #[must_use]
    pub fn clock_ms(&self) -> i64 {
        self.join.clock_ms()
    }

    /// Rows held, left and right.
    #[must_use]
    pub fn buffered(&self) -> [u64; 2] {
        self.join.buffered()
    }

    /// Ends the epoch. Gives the digest.
    pub fn seal(&mut self) -> u64 {
        self.join.seal()
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.join.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.join.rollback();
    }

    /// Appends the sealed state.
    pub fn save(&self, saving: &mut Saving) {
        self.join.save(saving);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.join.load(saved)
    }

    /// What the join holds: its rows are the entries.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.join.usage()
    }
}

/// A row of `handed` came late: over at the watermark `over_at_ms`. One that only deletes is counted as a record without
/// a value already.
fn refuse(handed: &Handed, row: usize, over_at_ms: i64, lane: &mut Lane, output: &mut LaneOutput) {
    if handed.deletes.get(row).copied().unwrap_or(false) {
        return;
    }
    lane.ledger.applied -= 1;
    lane.ledger.late += 1;
    let lateness_ms = handed.watermarks_ms[row].saturating_sub(over_at_ms).saturating_add(1).max(1);
    let left = Left::Late { reason: "JOIN", event_time_ms: handed.event_times_ms[row], lateness_ms };
    output.left.push(LeftRow { raw_row: handed.raw_rows[row], left });
}

/// Joined rows with the columns of the result, each of which is one of the join's.
fn fired(step: &JoinStep, mut batch: JoinedBatch) -> Fired {
    let columns = step.columns.iter().zip(&step.types).map(|(column, data_type)| match column {
        JoinedColumn::Left(place) => taken(&mut batch.left[*place]),
        JoinedColumn::Right(place) => taken(&mut batch.right[*place]),
        JoinedColumn::Key(left, right) => key(&mut batch, *left, *right),
        JoinedColumn::WindowStart | JoinedColumn::WindowEnd => {
            let (size_ms, is_start) = (step.plan.window_ms(), matches!(column, JoinedColumn::WindowStart));
            let bound = |time_ms: &i64| time_ms + 1 - if is_start { size_ms } else { 0 };
            Column {
                data_type: *data_type,
                values: Values::Int64(batch.times_ms.iter().map(bound).collect()),
                validity: crate::batch::Validity::default(),
            }
        }
    });
    let columns = columns.collect();
    Fired::Joined { columns, times_ms: batch.times_ms, watermarks_ms: batch.watermarks_ms }
}

/// A column that nobody looks at again.
fn taken(column: &mut Column) -> Column {
    let nothing = Column::new(column.data_type);
    std::mem::replace(column, nothing)
}

/// A column of the key, of whichever side a row has.
fn key(batch: &mut JoinedBatch, left: usize, right: usize) -> Column {
    let (left, right) = (&mut batch.left[left], &batch.right[right]);
    if batch.left_matched.iter().all(|matched| *matched) {
        return taken(left);
    }
    let mut column = Column::new(left.data_type);
    for (row, is_left) in batch.left_matched.iter().enumerate() {
        let value: Scalar<'_> = if *is_left { left.get(row) } else { right.get(row) };
        column.push(value);
    }
    column
}
