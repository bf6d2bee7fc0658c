//! Joins against naive models that hold everything and look at every pair.

mod model;
mod pieces;
mod texts;
mod undo;

use super::*;
use crate::batch::{DataType, Scalar};
use crate::group::Interner;
use crate::group::key::KeyCodec;
use crate::saving::Extent;
use model::{Row, Rows, expected, is_taken};
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

/// A row of the result: when, and the numbers of its left and right row.
type Out = (i64, Option<i64>, Option<i64>);

fn plan(kind: JoinKind, how: JoinType, allowed_lateness_ms: i64) -> Arc<JoinPlan> {
    let types = [vec![DataType::Int64, DataType::String], vec![DataType::Int64]];
    let plan = JoinPlan { kind, how, key: KeyCodec::new(vec![DataType::String]), types, allowed_lateness_ms };
    assert_eq!(plan.problem(), None);
    Arc::new(plan)
}

/// A join with the clocks of its inputs.
struct Driver {
    join: Join,
    clocks: [i64; 2],
    out_of_orderness_ms: i64,
}

impl Driver {
    fn new(plan: &Arc<JoinPlan>, out_of_orderness_ms: i64) -> Self {
        Self { join: Join::new(plan), clocks: [i64::MIN; 2], out_of_orderness_ms }
    }

    /// Pushes rows of one side, and lets leave what can.
    fn push(&mut self, side: Side, rows: &[Row], out: &mut Vec<Out>) -> Outcomes {
        let outcomes = self.apply(side, rows, out);
        while self.fire(3, out) {}
        outcomes
    }

    /// Pushes rows of one side.
    fn apply(&mut self, side: Side, rows: &[Row], out: &mut Vec<Out>) -> Outcomes {
        let (mut joined, mut watermarks_ms) = (Joined::default(), Vec::new());
        let clock = &mut self.clocks[side as usize];
        for row in rows {
            watermarks_ms.push(*clock);
            *clock = (*clock).max(row.time_ms - self.out_of_orderness_ms - 1);
        }
        let columns = columns(side, rows);
        let mut keys = Column::new(DataType::String);
        rows.iter()
            .for_each(|row| keys.push(row.key.as_deref().map_or(Scalar::Null, |key| Scalar::Bytes(key.as_bytes()))));
        let codec = KeyCodec::new(vec![DataType::String]);
        let arrivals = Arrivals {
            rows: &(0..rows.len() as u32).collect::<Vec<_>>(),
            event_times_ms: &rows.iter().map(|row| row.time_ms).collect::<Vec<_>>(),
            watermarks_ms: &watermarks_ms,
            groups: &Interner::default().groups(&[&keys], &codec, 0..rows.len()),
            columns: &columns,
            deletes: &rows.iter().map(|row| row.is_delete).collect::<Vec<_>>(),
            partition: 0,
            offsets: &rows.iter().map(|row| row.number).collect::<Vec<_>>(),
        };
        let outcomes = self.join.apply(side, &arrivals, &mut joined);
        read(joined, out);
        outcomes
    }

    /// Lets at most `rows_max` rows leave.
    fn fire(&mut self, rows_max: usize, out: &mut Vec<Out>) -> bool {
        let mut joined = Joined::default();
        let more = self.join.fire(self.clocks[0], self.clocks[1], rows_max, &mut joined);
        assert!(joined.len() <= rows_max);
        read(joined, out);
        more
    }

    /// Gives what is left at the end of the input.
    fn end(&mut self, out: &mut Vec<Out>) {
        while self.end_piece(4, out) {}
    }

    /// Gives at most `rows_max` rows of it.
    fn end_piece(&mut self, rows_max: usize, out: &mut Vec<Out>) -> bool {
        let mut joined = Joined::default();
        let more = self.join.end(rows_max, &mut joined);
        assert!(joined.len() <= rows_max);
        read(joined, out);
        more
    }
}

/// The state as bytes, and what `seal` says of it.
fn state(driver: &mut Driver) -> (Vec<u8>, u64) {
    let digest = driver.join.seal();
    let mut saving = Saving::new(Extent::Whole);
    driver.join.save(&mut saving);
    (saving.out, digest)
}

fn restored(driver: &Driver, saved: &[u8]) -> Driver {
    let plan = &driver.join.plan;
    let mut join = Join::new(plan);
    let mut loading = Loading::whole(saved);
    join.load(&mut loading).unwrap();
    loading.finish().unwrap();
    Driver { join, clocks: driver.clocks, out_of_orderness_ms: driver.out_of_orderness_ms }
}

fn text(number: i64) -> String {
    "x".repeat(number.rem_euclid(5) as usize)
}

fn columns(side: Side, rows: &[Row]) -> Vec<Column> {
    let mut numbers = Column::new(DataType::Int64);
    rows.iter().for_each(|row| numbers.push(Scalar::Int64(row.number)));
    if side == Side::Right {
        return vec![numbers];
    }
    let mut texts = Column::new(DataType::String);
    for row in rows {
        let text = text(row.number);
        texts.push(if text.is_empty() { Scalar::Null } else { Scalar::Bytes(text.as_bytes()) });
    }
    vec![numbers, texts]
}

fn read(joined: Joined, out: &mut Vec<Out>) {
    let count = joined.len();
    let mut read = 0;
    for batch in joined.into_batches() {
        for row in 0..batch.times_ms.len() {
            let number = |column: &Column| match column.get(row) {
                Scalar::Int64(number) => Some(number),
                _ => None,
            };
            let (left, right) = (number(&batch.left[0]), number(&batch.right[0]));
            assert_eq!((left.is_some(), right.is_some()), (batch.left_matched[row], batch.right_matched[row]));
            let text = left.map(text).filter(|text| !text.is_empty());
            assert_eq!(
                batch.left[1].get(row),
                text.as_ref().map_or(Scalar::Null, |text| Scalar::Bytes(text.as_bytes()))
            );
            out.push((batch.times_ms[row], left, right));
        }
        read += batch.times_ms.len();
    }
    assert_eq!(read, count);
}

/// Rows of both inputs in the order they come in, cut into batches: of which input, and how many.
fn cut(inputs: &[Rows; 2], turns: &[(bool, usize)]) -> Vec<(Side, std::ops::Range<usize>)> {
    let (mut at, mut batches) = ([0_usize; 2], Vec::new());
    let rest = [(false, usize::MAX), (true, usize::MAX)];
    for (right, len) in turns.iter().chain(&rest) {
        let side = if *right { Side::Right } else { Side::Left };
        let (start, all) = (at[side as usize], inputs[side as usize].len());
        let end = start.saturating_add(*len).min(all);
        at[side as usize] = end;
        if end > start {
            batches.push((side, start..end));
        }
    }
    batches
}

fn kinds() -> impl Strategy<Value = JoinKind> {
    prop_oneof![
        (-12_i64..12, 0_i64..15)
            .prop_map(|(from_ms, length_ms)| JoinKind::Interval { from_ms, to_ms: from_ms + length_ms }),
        (1_i64..20, -3_i64..30).prop_map(|(size_ms, offset_ms)| JoinKind::Window { size_ms, offset_ms }),
        proptest::option::of(0_i64..20).prop_map(|tolerance_ms| JoinKind::AsOf { tolerance_ms }),
        Just(JoinKind::Table { versioned: true }),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    plan: Arc<JoinPlan>,
    out_of_orderness_ms: i64,
    inputs: [Rows; 2],
    turns: Vec<(bool, usize)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let how = prop_oneof![Just(JoinType::Inner), Just(JoinType::Left), Just(JoinType::Outer)];
    let row =
        |deletes: f64| (proptest::option::weighted(0.95, 0_usize..4), 0_i64..12, proptest::bool::weighted(deletes));
    let rows = move |deletes| proptest::collection::vec(row(deletes), 0..60);
    let turns = proptest::collection::vec((any::<bool>(), 1_usize..9), 0..30);
    (kinds(), how, 0_i64..4, 0_i64..9, rows(0.0), rows(0.2), turns, 0_i64..3).prop_map(
        |(kind, how, lateness, out_of_orderness, left, right, turns, drift)| {
            let table = matches!(kind, JoinKind::Table { .. });
            let looks_back = table || matches!(kind, JoinKind::AsOf { .. });
            let how = if looks_back && how == JoinType::Outer { JoinType::Left } else { how };
            // Deletes are remembered for hours.
            let unit_ms = if table { HOUR_MS } else { 1 };
            let rows = |rows: Vec<(Option<usize>, i64, bool)>, base: i64, deletes: bool| -> Rows {
                let row = |(number, (key, jitter, is_delete)): (usize, (Option<usize>, i64, bool))| Row {
                    number: number as i64 + base,
                    key: key.map(|key| ["", "a", "ab", "b"][key].to_owned()),
                    time_ms: (number as i64 * drift + jitter - 9) * unit_ms,
                    is_delete: is_delete && deletes,
                };
                rows.into_iter().enumerate().map(row).collect()
            };
            let inputs = [rows(left, 0, false), rows(right, 1000, table)];
            let plan = plan(kind, how, lateness * unit_ms);
            Case { plan, out_of_orderness_ms: out_of_orderness * unit_ms, inputs, turns }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rows_leave_as_if_all_were_there_whatever_the_cuts_and_the_interleaving(case in cases()) {
        let Case { plan, out_of_orderness_ms, inputs, turns } = case;
        let mut driver = Driver::new(&plan, out_of_orderness_ms);
        let (mut out, mut late) = (Vec::new(), [Vec::new(), Vec::new()]);
        for (side, range) in cut(&inputs, &turns) {
            let rows = &inputs[side as usize][range];
            let before_ms = driver.join.clock_ms();
            let first = out.len();
            let outcomes = driver.push(side, rows, &mut out);
            late[side as usize].extend(outcomes.late.iter().map(|(row, _)| rows[*row as usize].number));
            let lost = rows.iter().filter(|row| row.key.is_none()).count() as u64;
            prop_assert!(outcomes.unmatched <= lost);
            prop_assert_eq!(outcomes.applied + outcomes.unmatched + outcomes.late.len() as u64, rows.len() as u64);
            prop_assert!(out[first..].iter().all(|row| row.0 > before_ms && row.0 <= driver.join.clock_ms()));
        }
        let needed = model::needed(&plan, &inputs, out_of_orderness_ms, driver.join.clock_ms());
        prop_assert_eq!(driver.join.buffered(), needed);
        driver.end(&mut out);
        let taken = [0, 1].map(|side| is_taken(&plan, &inputs[side], out_of_orderness_ms, side == 1));
        for side in 0..2 {
            let expected: Vec<i64> =
                inputs[side].iter().zip(&taken[side]).filter(|(_, taken)| taken.is_late).map(|(row, _)| row.number).collect();
            prop_assert_eq!(&late[side], &expected);
        }
        prop_assert_eq!(out, expected(&plan, &inputs, &taken));
    }
}
