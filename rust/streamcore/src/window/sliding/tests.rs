//! Sliding windows against a list that is scanned in full.

use super::*;
use crate::batch::{Column, DataType, Groups, Scalar};
use crate::group::key::KeyCodec;
use crate::results::OutputColumn;
use crate::saving::Extent;
use crate::window::WindowKind;
use crate::window::aggregate::{AggregatePlan, Argument, Input, Order};
use crate::window::early::Early;
use crate::window::lost::LostValues;
use proptest::prelude::*;

/// Group, event time, watermark before it, value.
type Event = (u8, i64, i64, i64);

/// Group, end, how many events, their sum and least value, and how many different ones.
type Row = (u8, i64, i64, i64, i64, i64);

fn windows(trailing: Trailing, with_sets: bool) -> SlidingWindows {
    let value = [Argument { data_type: DataType::Int64, constant: None }];
    let plan = |name, arguments: &[Argument<'_>]| AggregatePlan::resolve_call(name, arguments).expect("an aggregate");
    let mut aggregates = vec![plan("count", &[]), plan("sum", &value), plan("min", &value)];
    aggregates.extend(with_sets.then(|| plan("count_distinct", &value)));
    let plan = WindowPlan {
        kind: WindowKind::Sliding(trailing),
        key: KeyCodec::new(vec![DataType::Int64]),
        names: aggregates.iter().map(|aggregate| aggregate.function.as_str().to_owned()).collect(),
        aggregates,
        users: None,
        lost: LostValues::of(8),
        updates: false,
        early: Early::default(),
        room: None,
        piece_rows: usize::MAX,
    };
    SlidingWindows::new(Arc::new(plan), trailing)
}

fn key_of(key: u8) -> Vec<u8> {
    let mut column = Column::new(DataType::Int64);
    column.push(Scalar::Int64(i64::from(key)));
    let mut out = Vec::new();
    KeyCodec::new(vec![DataType::Int64]).encode(&[&column], 0, &mut out);
    out
}

/// Applies a batch and lets the rows leave that are over before its last event.
fn apply(windows: &mut SlidingWindows, batch: &[Event]) -> (Outcomes, Vec<Row>) {
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    let mut groups = Groups { of_row: rows.clone(), ..Groups::default() };
    let mut values = Column::new(DataType::Int64);
    for (key, _, _, value) in batch {
        groups.keys.push(&key_of(*key));
        groups.hashes.push(key_hash(&key_of(*key)));
        values.push(Scalar::Int64(*value));
    }
    let times: Vec<i64> = batch.iter().map(|event| event.1).collect();
    let watermarks: Vec<i64> = batch.iter().map(|event| event.2).collect();
    let order = Order { event_times_ms: &times, partition: 0, offsets: &[] };
    let plan = windows.plan.clone();
    let input = |plan: &AggregatePlan| Input { argument: plan.argument.map(|_| &values), ..Input::default() };
    let inputs: Vec<Input<'_>> = plan.aggregates.iter().map(input).collect();
    let arrivals =
        Arrivals { rows: &rows, groups: &groups, watermarks_ms: &watermarks, inputs: &inputs, order: &order };
    let outcomes = windows.apply(&arrivals);
    let mut out = ResultRows::new(&windows.plan);
    windows.fire(watermarks.last().copied().unwrap_or(i64::MIN), &mut out).expect("small sums");
    (outcomes, rows_of(out))
}

fn rows_of(rows: ResultRows) -> Vec<Row> {
    let (count, columns) = (rows.len(), rows.into_columns());
    let number = |column: usize, row| match &columns[column] {
        OutputColumn::Values(values) => match values.get(row) {
            Scalar::Int64(value) => value,
            other => panic!("{other:?}"),
        },
        OutputColumn::Lists(_) => panic!("a list"),
    };
    let sets = columns.len() == 9;
    let row = |row| {
        let distinct = if sets { number(6, row) } else { 0 };
        (number(0, row) as u8, number(2, row), number(3, row), number(4, row), number(5, row), distinct)
    };
    (0..count).map(row).collect()
}

#[derive(Default)]
struct Naive {
    events: Vec<Event>,
    left: BTreeSet<(i64, u8)>,
}

impl Naive {
    fn apply(&mut self, trailing: Trailing, sets: bool, batch: &[Event]) -> (Outcomes, Vec<Row>) {
        let mut outcomes = Outcomes::default();
        for (row, event) in batch.iter().enumerate() {
            let over_at_ms = event.1 + trailing.allowed_lateness_ms;
            if over_at_ms <= event.2 {
                outcomes.late.push((row as u32, over_at_ms));
            } else {
                outcomes.applied += 1;
                self.events.push(*event);
            }
        }
        let watermark_ms = batch.last().map_or(i64::MIN, |event| event.2);
        (outcomes, self.rows(trailing, sets, watermark_ms))
    }

    fn rows(&mut self, trailing: Trailing, sets: bool, watermark_ms: i64) -> Vec<Row> {
        let over = |event: &&Event| event.1 + trailing.allowed_lateness_ms <= watermark_ms;
        let due: BTreeSet<(i64, u8)> = self.events.iter().filter(over).map(|event| (event.1, event.0)).collect();
        let due: Vec<(i64, u8)> = due.difference(&self.left).copied().collect();
        self.left.extend(&due);
        let row = |(end_ms, key): (i64, u8)| {
            let within = |event: &&Event| event.0 == key && event.1 >= end_ms - trailing.size_ms && event.1 <= end_ms;
            let values: Vec<i64> = self.events.iter().filter(within).map(|event| event.3).collect();
            let distinct = values.iter().collect::<BTreeSet<_>>().len() as i64;
            let least = values.iter().min().copied().unwrap_or_default();
            (key, end_ms, values.len() as i64, values.iter().sum(), least, if sets { distinct } else { 0 })
        };
        due.into_iter().map(row).collect()
    }
}

/// Clocks that hardly move have long trails, others short ones.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let timed = |step_ms| proptest::collection::vec((0_u8..3, -60_i64..200, 0_i64..step_ms, -9_i64..9), 0..400);
    (1_i64..30).prop_flat_map(timed).prop_map(|mut events| {
        let mut watermark_ms = -100;
        for event in &mut events {
            watermark_ms += event.2;
            (event.1, event.2) = (watermark_ms + event.1, watermark_ms);
        }
        events
    })
}

fn trailings() -> impl Strategy<Value = Trailing> {
    (1_i64..300, prop_oneof![Just(0_i64), 0..40_i64])
        .prop_map(|(size_ms, allowed_lateness_ms)| Trailing { size_ms, allowed_lateness_ms })
}

fn saved(windows: &SlidingWindows) -> Vec<u8> {
    let mut saving = Saving::new(Extent::Whole);
    windows.save(&mut saving);
    saving.out
}

proptest! {
    #[test]
    fn they_are_those_of_a_list_that_is_scanned(
        events in events(), trailing in trailings(), cut in 1_usize..60, sets in any::<bool>(),
    ) {
        let (mut windows, mut naive) = (windows(trailing, sets), Naive::default());
        for batch in events.chunks(cut) {
            prop_assert_eq!(apply(&mut windows, batch), naive.apply(trailing, sets, batch));
        }
        let mut rest = ResultRows::new(&windows.plan);
        windows.fire_at_end(&mut rest).expect("small sums");
        prop_assert_eq!(rows_of(rest), naive.rows(trailing, sets, i64::MAX));
    }

    #[test]
    fn undo_is_the_identity_and_saving_keeps_everything(
        events in events(), trailing in trailings(), at in 0_usize..400, sets in any::<bool>(),
    ) {
        let at = at.min(events.len());
        let mut windows = windows(trailing, sets);
        apply(&mut windows, &events[..at / 2]);
        windows.seal();
        windows.commit();
        apply(&mut windows, &events[at / 2..at]);
        let digest = windows.seal();
        windows.commit();
        let before = saved(&windows);
        let mut loaded = self::windows(trailing, sets);
        loaded.load(&mut Loading::whole(&before)).expect("whole");
        prop_assert_eq!(loaded.seal(), digest);
        let first = apply(&mut windows, &events[at..]);
        let further = windows.seal();
        windows.rollback();
        let after = saved(&windows);
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(windows.seal(), digest);
        for windows in [&mut windows, &mut loaded] {
            prop_assert_eq!(apply(windows, &events[at..]), first.clone());
            prop_assert_eq!(windows.seal(), further);
        }
    }
}

#[test]
fn what_no_row_counts_any_more_is_forgotten() {
    let trailing = Trailing { size_ms: 80, allowed_lateness_ms: 0 };
    let mut windows = windows(trailing, false);
    let mut most = 0;
    for time_ms in 0..2000 {
        apply(&mut windows, &[((time_ms % 2) as u8, time_ms, time_ms - 1, 1)]);
        windows.seal();
        windows.commit();
        most = most.max(windows.events.iter().map(|(_, table)| table.len()).sum());
    }
    assert!(most <= 80 + 2 * (80 / 8 + 1), "{most}");
    apply(&mut windows, &[(5, 9_000, 8_000, 1)]);
    assert!(windows.trails.is_empty() && windows.events.len() == 1 && windows.due.len() == 1);
}
