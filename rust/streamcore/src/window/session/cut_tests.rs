//! Sessions that `max_length` cuts, against lists of all events: in every order, batch cut and split over lanes.

use super::tests::{Event, arrive, windows};
use super::*;
use crate::batch::Scalar;
use crate::results::OutputColumn;
use crate::watermark::WATERMARK_MIN;
use proptest::prelude::*;
use std::collections::BTreeMap;

const GAPS: Gaps =
    Gaps { gap_ms: 10, inclusive: true, allowed_lateness_ms: 3, max_length_ms: Some(25), min_start_ms: None };

/// Start, end and number of events, by key, in the order they leave.
type Rows = Vec<(Vec<u8>, i64, i64, i64)>;

fn rows(out: ResultRows) -> Rows {
    let mut rows = rows_in_order(out);
    rows.sort();
    rows
}

fn rows_in_order(out: ResultRows) -> Rows {
    let columns = out.into_columns();
    let value = |column: usize, row| match &columns[column] {
        OutputColumn::Values(values) => values.get(row),
        lists @ OutputColumn::Lists(_) => panic!("no values: {lists:?}"),
    };
    let number = |column, row| match value(column, row) {
        Scalar::Int64(number) => number,
        other => panic!("no number: {other:?}"),
    };
    let key = |row| match value(0, row) {
        Scalar::Bytes(key) => key.to_vec(),
        other => panic!("no key: {other:?}"),
    };
    (0..columns[0].len()).map(|row| (key(row), number(1, row), number(2, row), number(3, row))).collect()
}

/// Rows of sessions by hand: sorted event times by key.
fn by_hand(sessions: &[(u8, Vec<i64>)]) -> Rows {
    let mut rows = Rows::new();
    for (key, times) in sessions {
        let (start, end) = (times[0], times[times.len() - 1] + GAPS.gap_ms);
        let mut pieces: BTreeMap<i64, i64> = BTreeMap::new();
        let cut = end - start > 25;
        let cell = |time: &i64| if cut { time.div_euclid(25) } else { 0 };
        times.iter().for_each(|time| *pieces.entry(cell(time)).or_default() += 1);
        let row = |(cell, count): (&i64, &i64)| {
            let (from, to) = if cut { (start.max(cell * 25), end.min((cell + 1) * 25)) } else { (start, end) };
            (vec![*key], from, to, *count)
        };
        rows.extend(pieces.iter().map(row));
    }
    rows.sort();
    rows
}

/// Judges events one by one; gives the rows of all, and the places of the late ones.
fn naive(events: &[Event]) -> (Rows, Vec<usize>) {
    let (mut sessions, mut late) = (Vec::<(u8, Vec<i64>)>::new(), Vec::new());
    for (place, (key, time, watermark)) in events.iter().enumerate() {
        let joins = |(other, times): &(u8, Vec<i64>)| {
            let (first, last) = (times[0], times[times.len() - 1]);
            other == key && GAPS.over_at(last) > *watermark && GAPS.touch((first, last), (*time, *time))
        };
        let (joined, rest): (Vec<_>, Vec<_>) = sessions.iter().cloned().partition(joins);
        let mut times: Vec<i64> = joined.iter().flat_map(|(_, times)| times.iter().copied()).chain([*time]).collect();
        times.sort_unstable();
        let (first, last) = (times[0], times[times.len() - 1]);
        let cut = (time.div_euclid(25) + 1) * 25;
        let in_a_piece = last + GAPS.gap_ms - first > 25 && last >= cut;
        if (in_a_piece && cut - 1 + GAPS.allowed_lateness_ms <= *watermark)
            || (joined.is_empty() && GAPS.over_at(*time) <= *watermark)
        {
            late.push(place);
            continue;
        }
        sessions = rest;
        sessions.push((*key, times));
    }
    (by_hand(&sessions), late)
}

/// Counts the events in batches of `cut`, firing after each.
fn run(events: &[Event], cut: usize) -> (Rows, Vec<usize>) {
    let mut windows = windows(GAPS, true);
    let mut out = ResultRows::new(&windows.plan);
    let mut late = Vec::new();
    for (number, batch) in events.chunks(cut).enumerate() {
        let outcomes = arrive(&mut windows, 0, batch);
        late.extend(outcomes.late.iter().map(|(row, _)| number * cut + *row as usize));
        let watermark_ms = batch.last().map_or(WATERMARK_MIN, |last| last.2);
        windows.fire(watermark_ms, |_| false, &mut out).expect("a row");
    }
    windows.fire_at_end(Vec::new, &mut out).expect("a row");
    (rows(out), late)
}

/// Every order of the items.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |place: usize| {
        let mut rest = items.to_vec();
        let first = rest.remove(place);
        orders(&rest).into_iter().map(move |mut order| {
            order.push(first.clone());
            order
        })
    };
    (0..items.len()).flat_map(with_first).collect()
}

#[test]
fn no_order_of_seven_events_changes_a_row() {
    // Cut twice; cut once, at the last event; just short enough; two sessions, of which one is cut.
    for times in [
        [0, 10, 20, 30, 40, 50, 60],
        [-12, -3, 4, 5, 9, 14, 25],
        [20, 22, 25, 27, 30, 34, 35],
        [1, 9, 24, 25, 26, 27, 90],
    ] {
        let mut sessions: Vec<(u8, Vec<i64>)> = Vec::new();
        for time in times {
            match sessions.last_mut() {
                Some((_, known)) if time - known[known.len() - 1] <= 10 => known.push(time),
                _ => sessions.push((0, vec![time])),
            }
        }
        let expected = by_hand(&sessions);
        let events = times.map(|time| (0, time, WATERMARK_MIN));
        for (number, order) in orders(&events).into_iter().enumerate() {
            let (found, late) = run(&order, number % 7 + 1);
            assert_eq!((found, late.len()), (expected.clone(), 0), "{order:?}");
            assert_eq!(in_lanes(&order, number), expected, "{order:?} by {number}");
        }
    }
}

/// The same events in two lanes, by the bits of `split`, whose open sessions meet at the end.
fn in_lanes(events: &[Event], split: usize) -> Rows {
    let mut lanes = [windows(GAPS, false), windows(GAPS, false)];
    for (place, event) in events.iter().enumerate() {
        let lane = (split >> place) & 1;
        arrive(&mut lanes[lane], lane as i32, &[*event]);
    }
    let mut combine = windows(GAPS, false);
    let mut out = ResultRows::new(&combine.plan);
    combine.fire_at_end(|| lanes.iter().flat_map(SessionWindows::open).collect(), &mut out).expect("a row");
    rows(out)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec((0_u8..2, 0_i64..6, 0_i64..60), 0..120).prop_map(|raw| {
        let mut now = -40;
        let event = |(key, step, behind): (u8, i64, i64)| {
            let watermark = now - 15;
            now += step;
            (key, now - if behind < 40 { behind / 4 } else { behind }, watermark)
        };
        raw.into_iter().map(event).collect()
    })
}

proptest! {
    #[test]
    fn pieces_are_those_of_the_list_of_all_events(events in events(), cut in 1_usize..40) {
        prop_assert_eq!(run(&events, cut), naive(&events));
    }
}

#[test]
fn a_session_that_does_not_end_leaves_in_pieces() {
    let mut windows = windows(GAPS, true);
    let events: Vec<Event> = (0..20).map(|step| (0, step * 5, step * 5 - 1)).collect();
    arrive(&mut windows, 0, &events);
    let mut out = ResultRows::new(&windows.plan);
    windows.fire(94, |_| false, &mut out).expect("a row");
    assert_eq!(rows(out), [(vec![0], 0, 25, 5), (vec![0], 25, 50, 5), (vec![0], 50, 75, 5)]);
}

#[test]
fn how_far_the_clock_jumps_does_not_change_the_order() {
    let (first, last, between) = ((vec![0], 0, 25, 3), (vec![0], 25, 40, 1), (vec![1], 18, 28, 1));
    // the last event is before the cut that ends the row: it is over with its session
    let (short, later) = ((vec![2], 2, 25, 3), (vec![3], 17, 27, 1));
    for alone in [false, true] {
        let orders = [&[24, 27, 28, 29, 30, 31, 36, 42][..], &[29, 30, 42], &[30, 36, 42], &[42]].map(|jumps| {
            let mut windows = windows(GAPS, alone);
            arrive(&mut windows, 0, &[0, 10, 20, 30].map(|time| (0, time, WATERMARK_MIN)));
            arrive(&mut windows, 0, &[2, 12, 20].map(|time| (2, time, WATERMARK_MIN)));
            arrive(&mut windows, 0, &[(1, 18, WATERMARK_MIN), (3, 17, WATERMARK_MIN)]);
            let mut out = ResultRows::new(&windows.plan);
            for jump in jumps {
                windows.fire(*jump, |_| false, &mut out).expect("a row");
            }
            rows_in_order(out)
        });
        let [first, last, between, short, later] = [&first, &last, &between, &short, &later].map(Clone::clone);
        let expected =
            if alone { vec![first, later, between, short, last] } else { vec![later, between, short, first, last] };
        assert_eq!(orders, [(); 4].map(|()| expected.clone()), "alone: {alone}");
    }
}
