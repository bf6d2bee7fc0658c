//! All aggregates over all types against a naive model, and the laws that combine and checkpoints
//! rest on.

use super::*;
use crate::batch::{DataType, Scalar, Values};
use crate::results::{Lists, OutputType};
use proptest::prelude::*;
use std::collections::BTreeSet;

const DECIMAL: DataType = DataType::Decimal { precision: 18, scale: 2 };
const TYPES: [DataType; 8] = [
    DataType::Bool,
    DataType::Int64,
    DataType::Float64,
    DataType::String,
    DataType::Binary,
    DataType::Timestamp,
    DECIMAL,
    DataType::Scalar,
];
const NAMES: [&str; 14] = [
    "count",
    "sum",
    "min",
    "max",
    "mean",
    "var",
    "stddev",
    "any",
    "all",
    "first",
    "last",
    "collect_list",
    "count_distinct",
    "approx_distinct",
];
const SLOTS: u32 = 4;

/// One event: its slot, whether the condition holds, its time, and a number that every type's value
/// is made from (`None` is null). Its place in the list is its offset.
#[derive(Debug, Clone)]
struct Event {
    slot: u32,
    holds: bool,
    time_ms: i64,
    value: Option<i8>,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..SLOTS, prop::bool::weighted(0.8), -3_i64..3, prop::option::weighted(0.8, any::<i8>()));
    let event = event.prop_map(|(slot, holds, time_ms, value)| Event { slot, holds, time_ms, value });
    prop::collection::vec(event, 0..60)
}

/// The value of each type that a number stands for: equal only if the numbers are, in their order.
fn push_value(column: &mut Column, value: Option<i8>) {
    let Some(number) = value else { return column.push_null() };
    let text = format!("{:03}é", i32::from(number) + 200);
    match column.data_type {
        DataType::Bool => column.push(Scalar::Bool(number > 0)),
        DataType::Int64 | DataType::Timestamp => column.push(Scalar::Int64(i64::from(number))),
        DataType::Float64 => column.push(Scalar::Float64(f64::from(number) / 8.0)),
        DataType::Decimal { .. } => column.push(Scalar::Decimal(i128::from(number))),
        DataType::String | DataType::Binary | DataType::Scalar => column.push(Scalar::Bytes(text.as_bytes())),
    }
}

/// What decides for `arg_min` and `arg_max`, and is counted by `top_k`: few values, so that many are equal.
fn weight(event: &Event) -> Option<i8> {
    event.value.filter(|_| event.time_ms != 2).map(|number| number.rem_euclid(5))
}

const LIMIT: usize = 7;

/// Every aggregate that exists for every type, `count()`, and those of two arguments.
fn all_plans() -> Vec<AggregatePlan> {
    let pairs = NAMES.iter().flat_map(|name| TYPES.map(|data_type| (*name, data_type)));
    let typed = pairs.filter_map(|(name, data_type)| AggregatePlan::resolve(name, &[data_type]).ok());
    let chosen = ["arg_min", "arg_max"].iter().flat_map(|name| {
        let by = TYPES.iter().rev().filter(|by| **by != DataType::Scalar);
        TYPES.iter().zip(by).filter_map(|(value, by)| AggregatePlan::resolve(name, &[*value, *by]).ok())
    });
    let set =
        [("collect_list", LIMIT as i64), ("top_k", 3), ("quantile", 1)].into_iter().flat_map(|(name, setting)| {
            TYPES.into_iter().filter_map(move |data_type| {
                let written = Argument { data_type: DataType::Int64, constant: Some(Scalar::Int64(setting)) };
                AggregatePlan::resolve_call(name, &[Argument { data_type, constant: None }, written]).ok()
            })
        });
    let count = AggregatePlan::resolve("count", &[]).expect("count takes no argument");
    typed.chain([count]).chain(chosen).chain(set).collect()
}

fn with_slots(plans: &[AggregatePlan]) -> Accumulators {
    let mut accumulators = Accumulators::new(plans);
    (0..SLOTS).for_each(|_| accumulators.push_empty());
    accumulators
}

/// Feeds `events[from..to]` as one batch. Every second aggregate has the condition.
fn feed(accumulators: &mut Accumulators, events: &[Event], from: usize, to: usize) {
    let plans = accumulators.plans.clone();
    let batch = &events[from..to];
    let columns_of = |value: fn(&Event) -> Option<i8>| {
        TYPES.map(|data_type| {
            let mut column = Column::new(data_type);
            batch.iter().for_each(|event| push_value(&mut column, value(event)));
            column
        })
    };
    let (columns, weights) = (columns_of(|event| event.value), columns_of(weight));
    let holds: Vec<bool> = batch.iter().map(|event| event.holds).collect();
    let times: Vec<i64> = batch.iter().map(|event| event.time_ms).collect();
    let offsets: Vec<i64> = (from as i64..to as i64).collect();
    let inputs: Vec<Input<'_>> = plans
        .iter()
        .enumerate()
        .map(|(index, plan)| Input {
            argument: plan.argument.and_then(|data_type| {
                let columns = if plan.function == Function::TopK { &weights } else { &columns };
                columns.iter().find(|column| column.data_type == data_type)
            }),
            second: plan.second.and_then(|data_type| weights.iter().find(|column| column.data_type == data_type)),
            condition: (index % 2 == 0).then_some(&holds[..]),
        })
        .collect();
    let slots: Vec<u32> = batch.iter().map(|event| event.slot).collect();
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    let order = Order { event_times_ms: &times, partition: 3, offsets: &offsets };
    accumulators.update(&slots, &rows, &inputs, &order);
}

fn accumulated(events: &[Event]) -> Accumulators {
    let mut accumulators = with_slots(&all_plans());
    feed(&mut accumulators, events, 0, events.len());
    accumulators
}

/// Every result, printed: `{:?}` tells `-0.0` from `0.0`.
fn results(accumulators: &Accumulators) -> Vec<String> {
    let cells = (0..SLOTS).flat_map(|slot| (0..accumulators.plans.len()).map(move |index| (slot, index)));
    let result = |(slot, index): (u32, usize)| {
        let mut out = OutputColumn::new(accumulators.plans[index].output);
        accumulators.finish(index, slot, &mut out).expect("small values fit");
        format!("{} of slot {slot}: {}", accumulators.plans[index].function.as_str(), printed(&out))
    };
    cells.map(result).collect()
}

/// The one row of a column.
fn printed(column: &OutputColumn) -> String {
    let lists = match column {
        OutputColumn::Values(column) => return format!("{:?}", column.get(0)),
        OutputColumn::Lists(lists) => lists,
    };
    if !lists.validity.is_valid(0) {
        return format!("{:?}", Scalar::Null);
    }
    let count = |row| lists.counts.as_ref().map_or(String::new(), |counts| format!(" {:?}", counts.get(row)));
    let items = (0..lists.ends[0] as usize).map(|row| format!("{:?}{}", lists.items.get(row), count(row)));
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn digests(accumulators: &Accumulators) -> Vec<u64> {
    (0..SLOTS).map(|slot| accumulators.digest(slot)).collect()
}

fn encoded(accumulators: &Accumulators) -> Vec<Vec<u8>> {
    let encode = |slot| {
        let mut out = Vec::new();
        accumulators.encode(slot, &mut out);
        out
    };
    (0..SLOTS).map(encode).collect()
}

fn merged(left: &Accumulators, right: &Accumulators) -> Accumulators {
    let mut into = left.clone();
    (0..SLOTS).for_each(|slot| into.merge(slot, right, slot));
    into
}

/// The naive answer, from the events themselves.
fn model(plan: AggregatePlan, events: &[&Event]) -> String {
    let Some(data_type) = plan.argument else { return format!("{:?}", Scalar::Int64(events.len() as i64)) };
    let mut present: Vec<(i64, usize, i8)> = Vec::new();
    for (position, event) in events.iter().enumerate() {
        present.extend(event.value.map(|value| (event.time_ms, position, value)));
    }
    let lists = !matches!(plan.output, OutputType::Value(_));
    if lists || matches!(plan.function, Function::ArgMin | Function::ArgMax | Function::Quantile) {
        return model_of_values(plan, data_type, events);
    }
    let winner = match plan.function {
        Function::Count => return format!("{:?}", Scalar::Int64(present.len() as i64)),
        Function::CountDistinct | Function::ApproxDistinct => {
            let numbers: BTreeSet<i8> = present.iter().map(|(_, _, value)| *value).collect();
            let classes = numbers.iter().map(|value| *value > 0).collect::<BTreeSet<_>>().len();
            let distinct = if data_type == DataType::Bool { classes } else { numbers.len() };
            return format!("{:?}", Scalar::Int64(distinct as i64));
        }
        Function::Sum | Function::Mean => return model_sum(plan, &present),
        Function::Var | Function::Stddev => return model_spread(plan, &present),
        Function::Min | Function::All => present.iter().min_by_key(|(_, _, value)| *value),
        Function::Max | Function::Any => present.iter().max_by_key(|(_, _, value)| *value),
        Function::First => present.iter().min(),
        Function::Last => present.iter().max(),
        other => unreachable!("{other:?} has a model of its own"),
    };
    let mut column = Column::new(data_type);
    push_value(&mut column, winner.map(|(_, _, value)| *value));
    format!("{:?}", column.get(0))
}

/// The naive answer of aggregates that hold values.
fn model_of_values(plan: AggregatePlan, data_type: DataType, events: &[&Event]) -> String {
    let mut ordered: Vec<&Event> = events.to_vec();
    ordered.sort_by_key(|event| event.time_ms);
    let print = |value: i8| {
        let mut column = Column::new(data_type);
        push_value(&mut column, Some(value));
        format!("{:?}", column.get(0))
    };
    // bool tells two weights apart, every other type five
    let rank = |weight: i8, data_type| if data_type == Some(DataType::Bool) { i8::from(weight > 0) } else { weight };
    let both = ordered.iter().filter_map(|event| Some((rank(weight(event)?, plan.second), event.value?)));
    let values: Vec<i8> = ordered.iter().filter_map(|event| event.value).collect();
    match plan.function {
        // the first of the least, and the first of the greatest, where `max_by_key` gives the last
        Function::ArgMin => both.min_by_key(|pair| pair.0).map(|pair| print(pair.1)),
        Function::ArgMax => both.rev().max_by_key(|pair| pair.0).map(|pair| print(pair.1)),
        Function::Quantile => {
            values.iter().max().map(|value| format!("{:?}", Scalar::Float64(f64::from(*value) / unit(plan))))
        }
        Function::CollectList => {
            let kept: Vec<String> = values.iter().take(plan.most()).map(|value| print(*value)).collect();
            (!kept.is_empty()).then(|| format!("[{}]", kept.join(", ")))
        }
        _ => {
            let weights: Vec<i8> = events.iter().filter_map(|event| weight(event)).collect();
            let weights: Vec<i8> = weights.iter().map(|weight| rank(*weight, plan.argument)).collect();
            let count = |value: i8| weights.iter().filter(|weight| **weight == value).count();
            let mut ranked: Vec<i8> = weights.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            ranked.sort_by_key(|value| std::cmp::Reverse(count(*value)));
            let item = |value: &i8| format!("{} {:?}", print(*value), Scalar::Int64(count(*value) as i64));
            let items: Vec<String> = ranked.iter().take(plan.most()).map(item).collect();
            (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
        }
    }
    .unwrap_or_else(|| format!("{:?}", Scalar::Null))
}

/// How many of a number of `push_value` make one of the values.
fn unit(plan: AggregatePlan) -> f64 {
    match plan.argument {
        Some(DataType::Float64) => 8.0,
        Some(DECIMAL) => 100.0,
        _ => 1.0,
    }
}

fn model_spread(plan: AggregatePlan, present: &[(i64, usize, i8)]) -> String {
    let count = present.len() as i64;
    if count < 2 {
        return format!("{:?}", Scalar::Null);
    }
    let sum: i64 = present.iter().map(|(_, _, value)| i64::from(*value)).sum();
    let squares: i64 = present.iter().map(|(_, _, value)| i64::from(*value).pow(2)).sum();
    // both sides of the division are exact, so it rounds once
    let spread = (count * squares - sum * sum) as f64;
    let variance = spread / ((count * (count - 1)) as f64 * unit(plan) * unit(plan));
    format!("{:?}", Scalar::Float64(if plan.function == Function::Stddev { variance.sqrt() } else { variance }))
}

fn model_sum(plan: AggregatePlan, present: &[(i64, usize, i8)]) -> String {
    let sum: i64 = present.iter().map(|(_, _, value)| i64::from(*value)).sum();
    let unit = unit(plan);
    let result = match (plan.function, plan.output.values()) {
        _ if present.is_empty() => Scalar::Null,
        // both sides of the division are exact, so it rounds once
        (Function::Mean, _) => Scalar::Float64(sum as f64 / (unit * present.len() as f64)),
        (_, DataType::Int64) => Scalar::Int64(sum),
        (_, DataType::Float64) => Scalar::Float64(sum as f64 / unit),
        (_, _) => Scalar::Decimal(i128::from(sum)),
    };
    format!("{result:?}")
}

proptest! {
    #[test]
    fn results_agree_with_a_naive_model(events in events()) {
        let accumulators = accumulated(&events);
        let mut expected = Vec::new();
        for slot in 0..SLOTS {
            for (index, plan) in accumulators.plans.iter().enumerate() {
                let seen = |event: &&Event| event.slot == slot && (index % 2 == 1 || event.holds);
                let events: Vec<&Event> = events.iter().filter(seen).collect();
                expected.push(format!("{} of slot {slot}: {}", plan.function.as_str(), model(*plan, &events)));
            }
        }
        prop_assert_eq!(results(&accumulators), expected);
    }

    #[test]
    fn batch_cuts_leave_no_trace(events in events(), size in 1_usize..20) {
        let mut cut = with_slots(&all_plans());
        for from in (0..events.len()).step_by(size) {
            feed(&mut cut, &events, from, (from + size).min(events.len()));
        }
        let whole = accumulated(&events);
        prop_assert_eq!(encoded(&cut), encoded(&whole));
        prop_assert_eq!(digests(&cut), digests(&whole));
        prop_assert_eq!(cut.byte_len(), whole.byte_len());
    }

    #[test]
    fn merging_is_associative_and_commutative_and_has_an_identity(
        events in events(), cuts in any::<[prop::sample::Index; 2]>(),
    ) {
        let mut cuts = cuts.map(|cut| cut.index(events.len() + 1));
        cuts.sort_unstable();
        let part = |from, to| {
            let mut part = with_slots(&all_plans());
            feed(&mut part, &events, from, to);
            part
        };
        let (a, b, c) = (part(0, cuts[0]), part(cuts[0], cuts[1]), part(cuts[1], events.len()));
        let whole = accumulated(&events);
        let ways = [
            merged(&merged(&a, &b), &c),
            merged(&a, &merged(&b, &c)),
            merged(&merged(&c, &a), &b),
            merged(&whole, &with_slots(&all_plans())),
            merged(&with_slots(&all_plans()), &whole),
        ];
        for way in ways {
            prop_assert_eq!(results(&way), results(&whole));
            prop_assert_eq!(digests(&way), digests(&whole));
        }
    }

    #[test]
    fn restoring_marks_undoes_what_was_applied(events in events(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(events.len() + 1);
        let mut accumulators = with_slots(&all_plans());
        feed(&mut accumulators, &events, 0, cut);
        let before = (digests(&accumulators), encoded(&accumulators), accumulators.byte_len());
        let marks: Vec<Vec<u8>> = (0..SLOTS).map(|slot| {
            let mut out = Vec::new();
            accumulators.mark(slot, &mut out);
            out
        }).collect();
        feed(&mut accumulators, &events, cut, events.len());
        accumulators.push_empty();
        let other = accumulated(&events);
        (0..=SLOTS).for_each(|slot| accumulators.merge(slot, &other, slot % SLOTS));
        accumulators.truncate(SLOTS as usize);
        for (slot, mark) in marks.iter().enumerate() {
            let mut reader = Reader::new(mark);
            accumulators.restore(slot as u32, &mut reader);
            reader.finish().expect("a mark is read to its end");
        }
        prop_assert_eq!((digests(&accumulators), encoded(&accumulators)), (before.0, before.1));
        feed(&mut accumulators, &events, cut, events.len());
        prop_assert_eq!(encoded(&accumulators), encoded(&accumulated(&events)));
    }

    #[test]
    fn saved_slots_read_back_and_go_on(events in events(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(events.len() + 1);
        let mut accumulators = with_slots(&all_plans());
        feed(&mut accumulators, &events, 0, cut);
        let saved = encoded(&accumulators);
        let mut back = with_slots(&all_plans());
        for (slot, bytes) in saved.iter().enumerate() {
            let mut reader = Reader::new(bytes);
            back.decode(slot as u32, &mut reader).expect("decodes");
            reader.finish().expect("a slot is read to its end");
        }
        prop_assert_eq!(&encoded(&back), &saved);
        prop_assert_eq!(digests(&back), digests(&accumulators));
        feed(&mut accumulators, &events, cut, events.len());
        feed(&mut back, &events, cut, events.len());
        prop_assert_eq!(results(&back), results(&accumulators));
        prop_assert_eq!(encoded(&back), encoded(&accumulators));
    }

    #[test]
    fn damaged_slots_are_errors_and_not_panics(
        events in events(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let good = encoded(&accumulated(&events)).swap_remove(0);
        let mut bad = good.clone();
        bad[at.index(good.len())] = byte;
        let mut accumulators = with_slots(&all_plans());
        if accumulators.decode(0, &mut Reader::new(&bad)).is_ok() {
            // what decodes must also be usable: text stays text, every result can be asked for
            for (index, plan) in accumulators.plans.iter().enumerate() {
                let mut out = OutputColumn::new(plan.output);
                if accumulators.finish(index, 0, &mut out).is_ok() && plan.output.values() == DataType::String {
                    let (OutputColumn::Values(items) | OutputColumn::Lists(Lists { items, .. })) = &out;
                    let Values::Bytes(values) = &items.values else { panic!("text is bytes") };
                    prop_assert!(values.iter().all(|value| std::str::from_utf8(value).is_ok()));
                }
            }
            feed(&mut accumulators, &events, 0, events.len());
        }
        let short = &good[..cut.index(good.len())];
        prop_assert!(with_slots(&all_plans()).decode(0, &mut Reader::new(short)).is_err());
    }

    #[test]
    fn a_digest_tells_values_apart(events in events(), more in -3_i64..3) {
        let whole = accumulated(&events);
        let mut grown = events.clone();
        grown.push(Event { slot: 1, holds: true, time_ms: more, value: Some(5) });
        let grown = digests(&accumulated(&grown));
        prop_assert_ne!(grown[1], whole.digest(1));
        prop_assert_eq!(grown[0], whole.digest(0));
    }
}

#[test]
fn every_function_has_a_plan_for_every_type_it_takes() {
    // 8 types each for the three that only tell apart, 7 for min, max, first, last, and for collect_list with
    // and without a limit, top_k, arg_min and arg_max; 3 for sum, mean, var, stddev, quantile; 1 for any, all
    assert_eq!(all_plans().len(), 3 * 8 + (4 + 5) * 7 + 5 * 3 + 2 + 1);
}

#[test]
fn counting_costs_eight_bytes_a_slot() {
    let mut accumulators = Accumulators::new(&[AggregatePlan::resolve("count", &[]).expect("resolves")]);
    (0..1_000).for_each(|_| accumulators.push_empty());
    assert_eq!((accumulators.len(), accumulators.byte_len()), (1_000, 8_000));
    accumulators.truncate(10);
    assert_eq!((accumulators.len(), accumulators.byte_len()), (10, 80));
}

#[test]
fn slots_are_counted_without_an_aggregate() {
    let mut accumulators = Accumulators::new(&[]);
    assert!(accumulators.is_empty());
    accumulators.push_empty();
    accumulators.push_empty();
    accumulators.truncate(1);
    assert_eq!(accumulators.len(), 1);
}

#[test]
fn equal_floats_are_one_value() {
    let plans = ["count_distinct", "approx_distinct"]
        .map(|name| AggregatePlan::resolve(name, &[DataType::Float64]).expect("resolves"));
    let mut accumulators = with_slots(&plans);
    let values = vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0];
    let (count, times) = (values.len(), vec![0; values.len()]);
    let column =
        Column { data_type: DataType::Float64, values: Values::Float64(values), validity: Validity::default() };
    let input = Input { argument: Some(&column), second: None, condition: None };
    let rows: Vec<u32> = (0..count as u32).collect();
    let order = Order { event_times_ms: &times, partition: 0, offsets: &times };
    accumulators.update(&vec![0; count], &rows, &[input, input], &order);
    for index in 0..plans.len() {
        let mut out = OutputColumn::new(DataType::Int64.into());
        accumulators.finish(index, 0, &mut out).expect("a count");
        assert_eq!(printed(&out), "Int64(3)");
    }
}

#[test]
fn state_of_another_aggregate_is_refused() {
    let plan = |name| AggregatePlan::resolve(name, &[DataType::Int64]).expect("resolves");
    let mut saved = Vec::new();
    with_slots(&[plan("sum")]).encode(0, &mut saved);
    let error = with_slots(&[plan("max")]).decode(0, &mut Reader::new(&saved)).expect_err("refused");
    assert!(error.message.contains("form 2 where form 17 is expected"), "{}", error.message);
}

#[test]
fn a_sum_that_does_not_fit_leaves_the_column_alone() {
    let mut accumulators = with_slots(&[AggregatePlan::resolve("sum", &[DataType::Int64]).expect("resolves")]);
    let column =
        Column { data_type: DataType::Int64, values: Values::Int64(vec![i64::MAX; 2]), validity: Validity::default() };
    let order = Order { event_times_ms: &[0, 0], partition: 0, offsets: &[0, 1] };
    accumulators.update(&[0, 0], &[0, 1], &[Input { argument: Some(&column), second: None, condition: None }], &order);
    let mut out = OutputColumn::new(DataType::Int64.into());
    let error = accumulators.finish(0, 0, &mut out).expect_err("too large");
    assert_eq!(error.kind, crate::error::ErrorKind::Overflow);
    assert!(out.is_empty());
}
