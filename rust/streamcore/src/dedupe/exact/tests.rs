//! Ids that are remembered as they are, compared with remembering everything.

use super::*;
use crate::codec::Reader;
use crate::dedupe::fingerprint;
use crate::saving::{Extent, Loading, Saving};
use crate::watermark::WATERMARK_MIN;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn arrival(id: &[u8], event_time_ms: i64, watermark_ms: i64) -> Arrival {
    Arrival { fingerprint: fingerprint(id), event_time_ms, watermark_ms }
}

fn judge(dedupe: &mut Exact, id: &[u8], event_time_ms: i64, watermark_ms: i64) -> Judged {
    let mut judged = Vec::new();
    dedupe.judge(&[arrival(id, event_time_ms, watermark_ms)], None, &mut judged).expect("room");
    judged[0]
}

#[test]
fn an_id_is_remembered_for_the_horizon_and_then_cannot_be_checked() {
    let mut dedupe = Exact::new(Horizon::new(800));
    assert_eq!(judge(&mut dedupe, b"a", 50, WATERMARK_MIN), Judged::New);
    assert_eq!(judge(&mut dedupe, b"a", 750, 100), Judged::Duplicate);
    // Generation 0 ends at 100 and is remembered until the watermark reaches 900.
    assert_eq!(judge(&mut dedupe, b"a", 50, 899), Judged::Duplicate);
    assert_eq!(judge(&mut dedupe, b"a", 50, 900), Judged::BeyondHorizon);
    assert_eq!(judge(&mut dedupe, b"a", 950, 900), Judged::New, "the old copy is forgotten though it still lies there");
    dedupe.forget(900);
    assert_eq!(judge(&mut dedupe, b"a", 951, 901), Judged::Duplicate);
}

/// Every id ever seen with its generation, scanned in full.
fn naive(events: &[(u8, i64, i64)], within_ms: i64) -> Vec<Judged> {
    let generation_ms = (within_ms / 8).max(1);
    let mut seen: Vec<(u8, i64)> = Vec::new();
    let mut judge = |(id, time, watermark): &(u8, i64, i64)| {
        let until = |time: i64| (time.div_euclid(generation_ms) + 1) * generation_ms + within_ms;
        if *watermark >= until(*time) {
            return Judged::BeyondHorizon;
        }
        if seen.iter().any(|(other, at)| other == id && *watermark < until(*at)) {
            return Judged::Duplicate;
        }
        seen.push((*id, *time));
        Judged::New
    };
    events.iter().map(&mut judge).collect()
}

/// Clocks that hardly move keep the generations of the whole span, others a few.
fn events() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
    let timed = |step_ms| proptest::collection::vec((0_u8..60, -500_i64..3000, 0_i64..step_ms), 0..200);
    (1_i64..60).prop_flat_map(timed).prop_map(|mut events| {
        let mut watermark = -600;
        for event in &mut events {
            watermark += event.2;
            event.2 = watermark;
        }
        events
    })
}

type Event = (u8, i64, i64);

/// Judges a batch, then forgets, as a lane does.
fn apply(dedupe: &mut Exact, batch: &[Event]) -> Vec<Judged> {
    let arrivals: Vec<Arrival> = batch.iter().map(|(id, time, clock)| arrival(&[*id], *time, *clock)).collect();
    let mut judged = Vec::new();
    dedupe.judge(&arrivals, None, &mut judged).expect("room");
    batch.iter().for_each(|event| dedupe.forget(event.2));
    judged
}

fn saved(dedupe: &Exact) -> Vec<u8> {
    let mut saving = Saving::new(Extent::Whole);
    dedupe.save(&mut saving);
    saving.out
}

/// The ids remembered, by generation.
fn contents(dedupe: &Exact) -> BTreeMap<i64, BTreeSet<u128>> {
    let saved = saved(dedupe);
    let mut reader = Reader::new(&saved);
    let mut contents = BTreeMap::new();
    for _ in 0..reader.count(9).expect("generations") {
        let number = reader.i64().expect("a number");
        let count = reader.count(size_of::<u128>()).expect("ids");
        let ids: BTreeSet<u128> = (0..count).map(|_| reader.i128().expect("an id") as u128).collect();
        assert_eq!(ids.len(), count, "each once");
        contents.insert(number, ids);
    }
    reader.finish().expect("nothing else");
    contents
}

/// `count` numbers from `first` on as ids, a generation each `per_generation` of them.
fn numbers(first: i64, count: i64, per_generation: i64, watermark_ms: i64) -> Vec<Arrival> {
    let numbered = |number: i64| arrival(&number.to_le_bytes(), number / per_generation * 100, watermark_ms);
    (first..first + count).map(numbered).collect()
}

fn verdicts(dedupe: &mut Exact, arrivals: &[Arrival], verdict: Judged) -> usize {
    let mut judged = Vec::new();
    dedupe.judge(arrivals, None, &mut judged).expect("room");
    judged.iter().filter(|judged| **judged == verdict).count()
}

#[test]
fn many_ids_of_any_number_of_generations_take_few_bytes_and_are_given_back() {
    const COUNT: i64 = 200_000;
    for (per_generation, bytes_max) in [(COUNT, 24), (COUNT / 9, 24), (1000, 24), (500, 25)] {
        let mut dedupe = Exact::new(Horizon::new(800));
        let fresh = numbers(0, COUNT, per_generation, WATERMARK_MIN);
        assert_eq!(verdicts(&mut dedupe, &fresh, Judged::New), COUNT as usize);
        assert_eq!(verdicts(&mut dedupe, &fresh, Judged::Duplicate), COUNT as usize);
        let digest = dedupe.seal();
        dedupe.commit();
        let bytes = dedupe.byte_len();
        assert!(bytes <= bytes_max * COUNT as usize, "{} bytes an id", bytes as f64 / COUNT as f64);
        assert_eq!(verdicts(&mut dedupe, &numbers(COUNT, COUNT, COUNT, WATERMARK_MIN), Judged::New), COUNT as usize);
        dedupe.forget(i64::MAX / 2);
        assert_eq!(verdicts(&mut dedupe, &fresh, Judged::New), COUNT as usize);
        dedupe.rollback();
        assert_eq!(dedupe.seal(), digest);
        assert_eq!(verdicts(&mut dedupe, &fresh, Judged::Duplicate), COUNT as usize);
        dedupe.forget(i64::MAX / 2);
        assert_eq!(dedupe.seal(), 0);
        dedupe.commit();
        assert!(dedupe.byte_len() < 100_000, "{} bytes for nothing", dedupe.byte_len());
    }
}

#[test]
fn a_full_horizon_that_slides_forgets_nothing_and_takes_no_more() {
    const COUNT: i64 = 20_000;
    let (mut dedupe, mut bytes_full) = (Exact::new(Horizon::new(800)), 0);
    for generation in 0..50_i64 {
        let watermark_ms = generation * 100 - 1;
        let ids = |generation: i64| numbers(generation * COUNT, COUNT, COUNT, watermark_ms);
        assert_eq!(verdicts(&mut dedupe, &ids(generation), Judged::New), COUNT as usize);
        for remembered in generation.saturating_sub(8).max(0)..=generation {
            assert_eq!(verdicts(&mut dedupe, &ids(remembered), Judged::Duplicate), COUNT as usize, "of {remembered}");
        }
        dedupe.forget(watermark_ms);
        dedupe.commit();
        if generation == 12 {
            bytes_full = dedupe.byte_len();
        }
    }
    let (bytes, ids) = (dedupe.byte_len(), dedupe.remembered().ids as usize);
    assert!(bytes <= 24 * ids, "{} bytes an id", bytes as f64 / ids as f64);
    assert!(bytes <= bytes_full * 21 / 20, "{bytes_full} bytes became {bytes}");
}

#[test]
fn generations_that_are_gone_hold_up_no_others() {
    const COUNT: i64 = 100_000;
    let mut dedupe = Exact::new(Horizon::new(800));
    let first = numbers(0, COUNT, COUNT, WATERMARK_MIN);
    assert_eq!(verdicts(&mut dedupe, &first, Judged::New), COUNT as usize);
    let digest = dedupe.seal();
    dedupe.commit();
    for generation in 1..4_000_i64 {
        let watermark_ms = generation * 100 - 1;
        let one = [arrival(&(-generation).to_le_bytes(), watermark_ms + 1, watermark_ms)];
        assert_eq!(verdicts(&mut dedupe, &one, Judged::New), 1, "generation {generation}");
        assert_eq!(verdicts(&mut dedupe, &one, Judged::Duplicate), 1, "generation {generation}");
        dedupe.forget(watermark_ms);
    }
    assert!(dedupe.generations.live.len() < 12);
    dedupe.rollback();
    assert_eq!(dedupe.seal(), digest);
    assert_eq!(verdicts(&mut dedupe, &first, Judged::Duplicate), COUNT as usize);
    assert_eq!(
        dedupe.table.iter().filter(|entry| dedupe.generations.remembers(entry.tag(), 0)).count(),
        COUNT as usize
    );
}

#[test]
fn more_generations_than_there_are_tags_are_an_error() {
    let mut dedupe = Exact::new(Horizon::new(800));
    let apart = |count| numbers(0, count, 1, WATERMARK_MIN);
    assert_eq!(verdicts(&mut dedupe, &apart(TAGS_MAX as i64), Judged::New), TAGS_MAX);
    let more = dedupe.judge(&apart(TAGS_MAX as i64 + 1), None, &mut Vec::new()).expect_err("one too many");
    assert!(more.to_string().contains("max_future_skew"), "{more}");
    dedupe.forget(10_000);
    assert_eq!(verdicts(&mut dedupe, &numbers(2_000, 50, 1, 10_000), Judged::New), 50);
}

#[test]
fn damaged_state_is_an_error() {
    let mut dedupe = Exact::new(Horizon::new(800));
    apply(&mut dedupe, &[(1, 50, 0), (2, 50, 0), (3, 950, 0)]);
    let whole = saved(&dedupe);
    for end in 0..whole.len() {
        assert!(Exact::new(Horizon::new(800)).load(&mut Loading::whole(&whole[..end])).is_err(), "cut at {end}");
    }
    let mut twice = whole.clone();
    twice.copy_within(10..26, 26);
    assert!(
        Exact::new(Horizon::new(800))
            .load(&mut Loading::whole(&twice))
            .expect_err("twice")
            .to_string()
            .contains("twice")
    );
}

proptest! {
    #[test]
    fn it_agrees_with_remembering_everything(events in events(), within_ms in 1_i64..900, cut in 1_usize..40) {
        let mut dedupe = Exact::new(Horizon::new(within_ms));
        let judged: Vec<Judged> = events.chunks(cut).flat_map(|batch| apply(&mut dedupe, batch)).collect();
        prop_assert_eq!(judged, naive(&events, within_ms));
    }

    #[test]
    fn of_two_records_with_one_id_the_first_is_judged_first(
        drawn in proptest::collection::vec((any::<u16>(), any::<u16>(), 0_i64..3), 500..4000),
        (ids, within_ms, cut) in (50_u16..3000, 100_i64..2000, 1_usize..4000),
    ) {
        // Few lines for many ids of many generations, so that most must wait for a further line, and generations
        // end before the batch does.
        let (mut watermark_ms, mut dedupe) = (0, Exact::new(Horizon::new(within_ms)));
        let mut remembered_until: BTreeMap<u16, i64> = BTreeMap::new();
        for batch in drawn.chunks(cut) {
            let (mut arrivals, mut expected, mut judged) = (Vec::new(), Vec::new(), Vec::new());
            for (id, ahead_ms, step_ms) in batch {
                watermark_ms += step_ms;
                let (id, event_time_ms) = (id % ids, watermark_ms + i64::from(*ahead_ms) % within_ms);
                arrivals.push(arrival(&id.to_le_bytes(), event_time_ms, watermark_ms));
                let is_copy = remembered_until.get(&id).is_some_and(|until| watermark_ms < *until);
                expected.push(if is_copy { Judged::Duplicate } else { Judged::New });
                if !is_copy {
                    let horizon = Horizon::new(within_ms);
                    remembered_until.insert(id, horizon.over_at(horizon.generation(event_time_ms)));
                }
            }
            dedupe.judge(&arrivals, None, &mut judged).expect("room");
            prop_assert_eq!(judged, expected);
            dedupe.forget(watermark_ms);
        }
        let held = contents(&dedupe).values().map(BTreeSet::len).sum::<usize>() as u64;
        prop_assert_eq!(held, dedupe.remembered().ids);
    }

    #[test]
    fn undo_is_the_identity_and_saving_keeps_everything(events in events(), at in 0_usize..200) {
        let at = at.min(events.len());
        let mut dedupe = Exact::new(Horizon::new(400));
        apply(&mut dedupe, &events[..at]);
        let digest = dedupe.seal();
        dedupe.commit();
        let (before, remembered) = (saved(&dedupe), contents(&dedupe));
        let first = apply(&mut dedupe, &events[at..]);
        dedupe.rollback();
        prop_assert_eq!(contents(&dedupe), remembered.clone());
        prop_assert_eq!(dedupe.seal(), digest);
        let mut loaded = Exact::new(Horizon::new(400));
        loaded.load(&mut Loading::whole(&before)).expect("whole");
        prop_assert_eq!(contents(&loaded), remembered);
        prop_assert_eq!(loaded.seal(), digest);
        prop_assert_eq!(apply(&mut loaded, &events[at..]), first.clone());
        prop_assert_eq!(apply(&mut dedupe, &events[at..]), first);
    }
}
