//! Aggregates whose states show how they came about.

use super::super::states::FAN_IN;
use super::super::{AggregatePlan, Input, Order};
use super::*;
use crate::codec::Reader;
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;

/// What a part makes of a batch. A number of 13 is not taken, nor is a text with 17 in it.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The number as text.
    Init,
    /// The texts of a group one after the other, in brackets.
    Merge,
    /// The text.
    Finish,
    /// Each group but the first.
    Forgetful,
}

fn texts(batch: &RecordBatch) -> Vec<&str> {
    batch.column_by_name("text").expect("a column").as_string::<i32>().iter().flatten().collect()
}

fn given(columns: Vec<(&str, ArrayRef)>) -> Vec<RecordBatch> {
    vec![RecordBatch::try_from_iter(columns).expect("columns of one length")]
}

impl BatchFunction for Part {
    fn call(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, String> {
        let text = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        match self {
            Self::Init => {
                let numbers = batch.column(0).as_primitive::<Int64Type>().values();
                if numbers.contains(&13) {
                    return Err("ValueError in jobs.py, line 3 (init)".to_owned());
                }
                Ok(given(vec![("text", text(numbers.iter().map(ToString::to_string).collect()))]))
            }
            Self::Merge | Self::Forgetful => {
                let groups = batch.column_by_name(GROUP).expect("groups").as_primitive::<Int64Type>().values();
                let mut merged: BTreeMap<i64, String> = BTreeMap::new();
                for (group, text) in groups.iter().zip(texts(batch)) {
                    if text == "17" {
                        return Err("ValueError in jobs.py, line 7 (merge)".to_owned());
                    }
                    let all = merged.entry(*group).or_insert_with(|| "(".to_owned());
                    all.push_str(text);
                    all.push(' ');
                }
                // In whatever order.
                let merged: Vec<_> = merged.into_iter().rev().collect();
                let len = merged.len() - usize::from(matches!(self, Self::Forgetful));
                let (groups, all): (Vec<i64>, Vec<String>) = merged.into_iter().take(len).unzip();
                let all = all.into_iter().map(|all| format!("{})", all.trim_end())).collect();
                Ok(given(vec![("text", text(all)), (GROUP, Arc::new(Int64Array::from(groups)))]))
            }
            Self::Finish => {
                let texts = texts(batch);
                if texts.contains(&"18") {
                    return Err("ValueError in jobs.py, line 9 (finish)".to_owned());
                }
                Ok(given(vec![("any name", text(texts.iter().map(ToString::to_string).collect()))]))
            }
        }
    }
}

fn user(merge: Part) -> UserAggregate {
    let column = |name: &str, data_type| vec![(name.to_owned(), data_type)];
    UserAggregate {
        name: "shown".to_owned(),
        arguments: column("number", DataType::Int64),
        state: column("text", DataType::String),
        returns: DataType::String,
        init: Some(Arc::new(Part::Init)),
        merge: Some(Arc::new(merge)),
        finish: Some(Arc::new(Part::Finish)),
    }
}

fn accumulators(user: &UserAggregate, slots: usize) -> Accumulators {
    let users = vec![Some(user.clone())].into();
    let mut values = Accumulators::new(&[AggregatePlan::user(user.returns)]).with_users(Some(&users));
    (0..slots).for_each(|_| values.push_empty());
    values
}

/// Adds numbers to slots, which both are by row.
fn feed(values: &mut Accumulators, user: &UserAggregate, rows: &[(u32, i64)]) {
    let mut column = Column::new(DataType::Int64);
    rows.iter().for_each(|(_, number)| column.push(Scalar::Int64(*number)));
    let numbers: Vec<u32> = (0..rows.len() as u32).collect();
    let mut states = Column::new(DataType::Binary);
    let made = user.init(&[&column], &numbers).expect("no 13");
    made.iter().for_each(|state| states.push(Scalar::Bytes(state)));
    let (times, offsets) = (vec![0; rows.len()], vec![0; rows.len()]);
    let order = Order { event_times_ms: &times, partition: 0, offsets: &offsets };
    let input = Input { argument: Some(&states), second: None, condition: None };
    let slots: Vec<u32> = rows.iter().map(|(slot, _)| *slot).collect();
    values.update(&slots, &numbers, &[input], &order);
}

fn results(values: &Accumulators, user: &UserAggregate) -> (Vec<Option<String>>, Vec<(usize, String)>) {
    let states: Vec<Option<States>> = (0..values.len() as u32).map(|slot| values.states(0, slot).cloned()).collect();
    let mut failed = Vec::new();
    let column = user.values(&states, |row, why| failed.push((row, why.to_owned())));
    let text = |row| match column.get(row) {
        Scalar::Bytes(text) => Some(String::from_utf8(text.to_vec()).expect("text")),
        _ => None,
    };
    ((0..column.len()).map(text).collect(), failed)
}

proptest! {
    #[test]
    fn how_states_are_merged_does_not_depend_on_batches(
        rows in proptest::collection::vec((0_u32..3, 100_i64..999), 0..900), cut in 1_usize..300,
    ) {
        let user = user(Part::Merge);
        let (mut whole, mut cuts) = (accumulators(&user, 3), accumulators(&user, 3));
        feed(&mut whole, &user, &rows);
        rows.chunks(cut).for_each(|rows| feed(&mut cuts, &user, rows));
        prop_assert_eq!(results(&whole, &user), results(&cuts, &user));
        for slot in 0..3 {
            prop_assert_eq!(whole.digest(slot), cuts.digest(slot));
            let numbers = |text: &str| text.matches(char::is_alphanumeric).count() / 3;
            let of_slot = rows.iter().filter(|row| row.0 == slot).count();
            prop_assert_eq!(results(&whole, &user).0[slot as usize].as_deref().map_or(0, numbers), of_slot);
        }
    }

    #[test]
    fn undo_is_the_identity_and_saving_keeps_everything(
        rows in proptest::collection::vec((0_u32..2, 100_i64..999), 0..400), at in 0_usize..400,
    ) {
        let user = user(Part::Merge);
        let (before, after) = rows.split_at(at.min(rows.len()));
        let mut values = accumulators(&user, 2);
        feed(&mut values, &user, before);
        let (shown, digests) = (results(&values, &user), [0, 1].map(|slot| values.digest(slot)));
        let (mut marks, mut saved) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for slot in [0, 1] {
            values.mark(slot, &mut marks[slot as usize]);
            values.encode(slot, &mut saved[slot as usize]);
        }
        let bytes = values.byte_len();
        feed(&mut values, &user, after);
        let mut loaded = accumulators(&user, 2);
        for slot in [0_u32, 1] {
            values.restore(slot, &mut Reader::new(&marks[slot as usize]));
            loaded.decode(slot, &mut Reader::new(&saved[slot as usize])).expect("whole");
        }
        for again in [&mut values, &mut loaded] {
            prop_assert_eq!((results(again, &user), [0, 1].map(|slot| again.digest(slot))), (shown.clone(), digests));
            prop_assert_eq!(again.byte_len(), bytes);
        }
    }
}

#[test]
fn merged_slots_hold_the_states_of_both_and_do_not_grow_for_ever() {
    let user = user(Part::Merge);
    let mut sum = accumulators(&user, 1);
    for number in 100..900 {
        let mut other = accumulators(&user, 1);
        feed(&mut other, &user, &[(0, number)]);
        sum.merge(0, &other, 0);
        assert!(sum.states(0, 0).expect("states").all().len() <= 5 * FAN_IN);
    }
    let (shown, _) = results(&sum, &user);
    let shown = shown[0].as_deref().expect("text");
    assert!((100..900).all(|number| shown.contains(&number.to_string())));
}

#[test]
fn what_fails_costs_its_value_and_tells_which() {
    let user = user(Part::Merge);
    let mut values = accumulators(&user, 5);
    feed(&mut values, &user, &[(0, 1), (1, 17), (1, 2), (2, 18), (3, 5), (3, 6)]);
    let (shown, failed) = results(&values, &user);
    assert_eq!(shown, [Some("1".to_owned()), None, None, Some("(5 6)".to_owned()), None]);
    let expected = [
        (1, "shown.merge: ValueError in jobs.py, line 7 (merge)".to_owned()),
        (2, "shown.finish: ValueError in jobs.py, line 9 (finish)".to_owned()),
    ];
    assert_eq!(failed, expected);
    // Merged down, it holds nothing any more, and knows why, also when it was saved.
    feed(&mut values, &user, &[(1, 3); 80]);
    assert_eq!(values.states(0, 1).map(|states| states.all().len()), Some(0));
    let mut saved = Vec::new();
    values.encode(1, &mut saved);
    let mut loaded = accumulators(&user, 1);
    loaded.decode(0, &mut Reader::new(&saved)).expect("whole");
    assert_eq!(results(&loaded, &user).1, [(0, expected[0].1.clone())]);
    let error = user.init(&[&column_of(13)], &[0]).expect_err("13");
    assert_eq!(error, "shown.init: ValueError in jobs.py, line 3 (init)");
}

fn column_of(number: i64) -> Column {
    let mut column = Column::new(DataType::Int64);
    column.push(Scalar::Int64(number));
    column
}

#[test]
fn a_merge_that_leaves_groups_out_is_refused() {
    let user = user(Part::Forgetful);
    let mut values = accumulators(&user, 2);
    feed(&mut values, &user, &[(0, 1), (0, 2), (1, 3), (1, 4)]);
    let (shown, failed) = results(&values, &user);
    assert_eq!(shown, [None, None]);
    assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(failed[0].1, "shown.merge: it gave 0 rows for 1");
}

#[test]
fn damaged_state_is_an_error() {
    let user = user(Part::Merge);
    let mut values = accumulators(&user, 1);
    feed(&mut values, &user, &[(0, 1), (0, 2)]);
    let mut saved = Vec::new();
    values.encode(0, &mut saved);
    for end in 0..saved.len() {
        assert!(accumulators(&user, 1).decode(0, &mut Reader::new(&saved[..end])).is_err(), "cut at {end}");
    }
    let mut other = UserAggregate { state: vec![("text".to_owned(), DataType::Int64)], ..user };
    assert!(accumulators(&other, 1).decode(0, &mut Reader::new(&saved)).is_err(), "another type");
    other.state.clear();
    assert!(accumulators(&other, 1).decode(0, &mut Reader::new(&saved)).is_err(), "another number of columns");
}
