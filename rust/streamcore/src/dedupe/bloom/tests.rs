//! Filters beside the ids themselves, and the rate at which they drop new ones.

use super::super::exact::Exact;
use super::super::fingerprint;
use super::*;
use proptest::prelude::*;

/// An id, its time and the clock before it.
type Event = (u64, i64, i64);

/// Filters that grow after eight ids, where event times are ahead of the clock by at most 100 ms.
fn small(false_drop_rate: f64, moves: bool) -> Bloom {
    let plan = BloomPlan::new(800, moves.then_some(100), false_drop_rate, None);
    Bloom::new(Horizon::new(800), BloomPlan { planned_min: 8, ..plan })
}

fn arrival((id, event_time_ms, watermark_ms): Event) -> Arrival {
    Arrival { fingerprint: fingerprint(&id.to_le_bytes()), event_time_ms, watermark_ms }
}

/// Judges batches of `cut`, and forgets after each, as a lane does.
fn apply(bloom: &mut Bloom, events: &[Event], cut: usize) -> Vec<Judged> {
    let mut judged = Vec::new();
    for batch in events.chunks(cut) {
        let arrivals: Vec<Arrival> = batch.iter().copied().map(arrival).collect();
        bloom.judge(&arrivals, None, &mut judged);
        batch.iter().for_each(|event| bloom.forget(event.2));
    }
    judged
}

fn exactly(events: &[Event]) -> Vec<Judged> {
    let (mut exact, mut judged) = (Exact::new(Horizon::new(800)), Vec::new());
    let arrivals: Vec<Arrival> = events.iter().copied().map(arrival).collect();
    exact.judge(&arrivals, None, &mut judged).expect("room");
    judged
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let timed = |step_ms| proptest::collection::vec((0_u64..400, 0_i64..400, 0_i64..step_ms), 0..400);
    (1_i64..60).prop_flat_map(timed).prop_map(|mut events| {
        let mut watermark = -600;
        for event in &mut events {
            watermark += event.2;
            (event.1, event.2) = (watermark + 100 - event.1, watermark);
        }
        events
    })
}

fn saved(bloom: &Bloom) -> Vec<u8> {
    let mut saving = Saving::new(Extent::Whole);
    bloom.save(&mut saving);
    saving.out
}

proptest! {
    #[test]
    fn of_one_id_within_the_horizon_at_most_one_passes(events in events(), moves in any::<bool>()) {
        let judged = apply(&mut small(RATE_MAX, moves), &events, 7);
        let over_at = |time_ms| Horizon::new(800).over_at(Horizon::new(800).generation(time_ms));
        for (at, (id, _, watermark_ms)) in events.iter().enumerate() {
            let passed = |before: usize| judged[before] == Judged::New && events[before].0 == *id;
            let remembered = |before: usize| !moves || *watermark_ms < over_at(events[before].1);
            if judged[at] == Judged::New {
                prop_assert!(!(0..at).any(|before| passed(before) && remembered(before)));
            }
        }
    }

    #[test]
    fn it_agrees_with_exact_where_nothing_is_dropped_by_mistake(events in events(), cut in 1_usize..40) {
        // One in a thousand million: none among these.
        prop_assert_eq!(apply(&mut small(RATE_MIN, true), &events, cut), exactly(&events));
    }

    #[test]
    fn neither_cuts_nor_restarts_change_a_verdict(events in events(), cut in 1_usize..40, at in 0_usize..400) {
        let at = at.min(events.len());
        let mut bloom = small(RATE_MAX, true);
        let mut judged = apply(&mut bloom, &events[..at], cut);
        let digest = bloom.seal();
        bloom.commit();
        let before = saved(&bloom);
        let rest = apply(&mut bloom, &events[at..], cut);
        let after = bloom.seal();
        bloom.rollback();
        prop_assert_eq!((bloom.seal(), saved(&bloom)), (digest, before.clone()));
        let mut loaded = small(RATE_MAX, true);
        loaded.load(&mut Loading::whole(&before)).expect("whole");
        prop_assert_eq!((loaded.seal(), loaded.remembered().false_drop_rate), (digest, bloom.remembered().false_drop_rate));
        for again in [&mut bloom, &mut loaded] {
            prop_assert_eq!(apply(again, &events[at..], 1), rest.clone());
            prop_assert_eq!(again.seal(), after);
        }
        judged.extend(rest);
        prop_assert_eq!(judged, apply(&mut small(RATE_MAX, true), &events, 1));
    }
}

/// New ids alone, `per_generation` a generation, and how many of them were dropped.
fn dropped(bloom: &mut Bloom, per_generation: u64, generations: u64) -> u64 {
    let mut dropped = 0;
    for id in 0..generations * per_generation {
        let time_ms = (id * 100 / per_generation) as i64;
        let mut judged = Vec::new();
        bloom.judge(&[arrival((id, time_ms, time_ms - 101))], None, &mut judged);
        dropped += u64::from(judged == [Judged::Duplicate]);
        if id % 64 == 0 {
            bloom.forget(time_ms - 101);
            bloom.commit();
        }
    }
    dropped
}

#[test]
fn no_more_is_dropped_than_stated_however_many_ids_come() {
    // Planned for too few by far, for as many as come, and for none in particular; then with a clock that stands.
    for (capacity, moves) in [(Some(8_000), true), (Some(80_000), true), (None, true), (None, false)] {
        let rate = 0.01;
        let plan = BloomPlan::new(800, moves.then_some(101), rate, capacity);
        let mut bloom = Bloom::new(Horizon::new(800), plan);
        let events = 400_000.0;
        let dropped = dropped(&mut bloom, 10_000, 40) as f64;
        let held = bloom.remembered();
        let most = rate * events;
        assert!(dropped <= most + 4.0 * most.sqrt(), "{dropped} of {events}, {capacity:?}");
        assert!(held.false_drop_rate > 0.0 && held.false_drop_rate <= rate, "{held:?}");
        let expected = held.false_drops_expected;
        assert!((dropped - expected).abs() <= 0.1 * expected + 5.0 * expected.sqrt(), "{dropped}, {held:?}");
        assert!(held.ids as f64 + dropped >= if moves { 80_000.0 } else { events }, "{held:?}");
    }
}

#[test]
fn what_was_learned_of_one_generation_fits_the_next() {
    let plan = BloomPlan::new(800, Some(101), 0.001, None);
    let mut bloom = Bloom::new(Horizon::new(800), plan);
    dropped(&mut bloom, 10_000, 30);
    let (held, planned) = (bloom.remembered(), BloomPlan { capacity: Some(90_000), ..plan });
    assert!(bloom.generations.iter().all(|generation| generation.filters.len() == 1), "{held:?}");
    let bits = 8.0 * (held.bytes as f64) / held.ids as f64;
    assert!(bits < 1.6 * planned.bits_an_id(), "{bits} bits an id, {} planned", planned.bits_an_id());
    assert!(held.bytes <= planned.byte_len().expect("planned") * 5 / 4, "{held:?}");
    bloom.forget(i64::MAX / 2);
    bloom.commit();
    assert_eq!((bloom.byte_len(), bloom.seal() == small(0.1, true).seal()), (0, false));
}

#[test]
fn damaged_state_is_an_error() {
    let mut bloom = small(0.01, true);
    apply(&mut bloom, &[(1, 50, 0), (2, 50, 0), (3, 950, 0)], 1);
    let whole = saved(&bloom);
    for end in 0..whole.len() {
        assert!(small(0.01, true).load(&mut Loading::whole(&whole[..end])).is_err(), "cut at {end}");
    }
    assert!(small(RATE_MIN, true).load(&mut Loading::whole(&whole)).is_err(), "of another rate");
    let mut newer = whole.clone();
    newer[0] = FORM + 1;
    let error = small(0.01, true).load(&mut Loading::whole(&newer)).expect_err("another form");
    assert!(error.to_string().contains("newer"));
}
