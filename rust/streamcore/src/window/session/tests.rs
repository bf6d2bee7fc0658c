//! Sessions against a list that is scanned in full.

use super::*;
use crate::batch::{DataType, Groups, Scalar};
use crate::group::key::KeyCodec;
use crate::saving::Extent;
use crate::state::Slots;
use crate::watermark::WATERMARK_MIN;
use crate::window::WindowKind;
use crate::window::aggregate::{AggregatePlan, Input, Order};
use crate::window::early::Early;
use crate::window::lost::LostValues;
use proptest::prelude::*;

const GAPS: Gaps =
    Gaps { gap_ms: 10, inclusive: true, allowed_lateness_ms: 5, max_length_ms: None, min_start_ms: None };

/// Key, event time, watermark before it.
pub type Event = (u8, i64, i64);

/// Key, first and last event.
type Bounds = (Vec<u8>, i64, i64);

pub fn windows(gaps: Gaps, alone: bool) -> SessionWindows {
    let plan = WindowPlan {
        kind: WindowKind::Session(gaps),
        key: KeyCodec::new(vec![DataType::Binary]),
        aggregates: vec![AggregatePlan::resolve("count", &[]).expect("an aggregate")],
        names: vec!["n".to_owned()],
        users: None,
        lost: LostValues::of(8),
        updates: false,
        early: Early::default(),
        room: None,
        piece_rows: usize::MAX,
    };
    SessionWindows::new(Arc::new(plan), gaps, alone)
}

fn key_of(key: u8) -> Vec<u8> {
    let mut column = crate::batch::Column::new(DataType::Binary);
    column.push(Scalar::Bytes(&[key]));
    let mut out = Vec::new();
    KeyCodec::new(vec![DataType::Binary]).encode(&[&column], 0, &mut out);
    out
}

/// Applies a batch of `lane`.
pub fn arrive(windows: &mut SessionWindows, lane: i32, batch: &[Event]) -> Outcomes {
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    let mut groups = Groups { of_row: rows.clone(), ..Groups::default() };
    for (key, ..) in batch {
        groups.keys.push(&key_of(*key));
        groups.hashes.push(key_hash(&key_of(*key)));
    }
    let times: Vec<i64> = batch.iter().map(|event| event.1).collect();
    let watermarks: Vec<i64> = batch.iter().map(|event| event.2).collect();
    let offsets = vec![0; batch.len()];
    let order = Order { event_times_ms: &times, partition: lane, offsets: &offsets };
    let inputs = [Input::default()];
    let arrivals =
        Arrivals { rows: &rows, groups: &groups, watermarks_ms: &watermarks, inputs: &inputs, order: &order };
    windows.apply(&arrivals)
}

/// Applies a batch and closes what is over after it.
fn apply(windows: &mut SessionWindows, batch: &[Event]) -> (Outcomes, Vec<Bounds>) {
    let outcomes = arrive(windows, 0, batch);
    let closed = batch.last().map_or_else(Vec::new, |last| windows.close(last.2, |_| false));
    (outcomes, bounds(closed))
}

fn bounds(closed: Vec<Closed>) -> Vec<Bounds> {
    let mut bounds: Vec<Bounds> =
        closed.into_iter().map(|it| (it.key, it.session.start_ms, it.session.last_ms)).collect();
    bounds.sort();
    bounds
}

#[derive(Default)]
struct Naive(Vec<Bounds>);

impl Naive {
    /// When it is late, the watermark from which on it is.
    fn count(&mut self, (key, time_ms, watermark_ms): Event) -> Option<i64> {
        let (key, mut piece) = (key_of(key), (time_ms, time_ms));
        let mut alone = true;
        let joins = |other: &Bounds, piece: (i64, i64)| {
            other.0 == key && GAPS.over_at(other.2) > watermark_ms && GAPS.touch((other.1, other.2), piece)
        };
        while let Some(place) = self.0.iter().position(|other| joins(other, piece)) {
            let other = self.0.remove(place);
            piece = (piece.0.min(other.1), piece.1.max(other.2));
            alone = false;
        }
        if alone && GAPS.over_at(time_ms) <= watermark_ms {
            return Some(GAPS.over_at(time_ms));
        }
        self.0.push((key, piece.0, piece.1));
        None
    }

    fn apply(&mut self, batch: &[Event]) -> (Outcomes, Vec<Bounds>) {
        let mut outcomes = Outcomes::default();
        for (row, event) in batch.iter().enumerate() {
            match self.count(*event) {
                None => outcomes.applied += 1,
                Some(over_at_ms) => outcomes.late.push((row as u32, over_at_ms)),
            }
        }
        let watermark_ms = batch.last().map_or(WATERMARK_MIN, |last| last.2);
        let (mut closed, open) = self.0.drain(..).partition(|it| GAPS.over_at(it.2) <= watermark_ms);
        self.0 = open;
        closed.sort();
        (outcomes, closed)
    }
}

/// Clocks that hardly move keep many sessions of a key open, others few.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let timed = |step_ms| proptest::collection::vec((0_u8..2, 0_i64..8000, 0_i64..step_ms), 0..400);
    (1_i64..30).prop_flat_map(timed).prop_map(|mut events| {
        let mut watermark_ms = -100;
        for event in &mut events {
            watermark_ms += event.2;
            // Around the clock as well as far ahead of it.
            event.1 = if event.1 % 2 == 0 { event.1 } else { watermark_ms + event.1 % 200 - 60 };
            event.2 = watermark_ms;
        }
        events
    })
}

fn saved(windows: &SessionWindows) -> Vec<u8> {
    let mut saving = Saving::new(Extent::Whole);
    windows.save(&mut saving);
    saving.out
}

proptest! {
    #[test]
    fn they_are_those_of_a_list_that_is_scanned(events in events(), cut in 1_usize..60) {
        let (mut windows, mut naive) = (windows(GAPS, true), Naive::default());
        for batch in events.chunks(cut) {
            prop_assert_eq!(apply(&mut windows, batch), naive.apply(batch));
            prop_assert_eq!(windows.open_windows(), naive.0.len());
        }
        naive.0.sort();
        prop_assert_eq!(bounds(windows.open()), naive.0);
    }

    #[test]
    fn undo_is_the_identity_and_saving_keeps_everything(
        (events, alone) in (events(), any::<bool>()), at in 0_usize..400, max_length_ms in proptest::option::of(10_i64..80),
    ) {
        let at = at.min(events.len());
        let gaps = Gaps { max_length_ms, ..GAPS };
        let mut windows = windows(gaps, alone);
        apply(&mut windows, &events[..at / 2]);
        windows.seal();
        windows.commit();
        apply(&mut windows, &events[at / 2..at]);
        let digest = windows.seal();
        windows.commit();
        let before = saved(&windows);
        let mut loaded = self::windows(gaps, alone);
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
fn work_does_not_grow_with_the_sessions_of_a_key() {
    let mut windows = windows(GAPS, true);
    let batch: Vec<Event> = (0..5000).map(|number| (0, number * 7919 % 5000 * 100, WATERMARK_MIN)).collect();
    apply(&mut windows, &batch);
    windows.seal();
    windows.commit();
    let table = windows.sessions.bucket(BUCKET);
    for start_ms in [0, 250_000, 499_900] {
        assert_eq!(table.slots().within(0, start_ms - 10, start_ms + 10).count(), 1);
    }
    apply(&mut windows, &[(0, 250_005, WATERMARK_MIN)]);
    let slots = windows.sessions.bucket(BUCKET).slots();
    assert_eq!(slots.changes(), 1, "one made longer");
    let mut mark = Vec::new();
    slots.mark(0, &mut mark);
    assert!(mark.is_empty());
    assert_eq!(slots.list(0).iter().map(|id| slots.node(*id).last_ms).max(), Some(499_900));
}
