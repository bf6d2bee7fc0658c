//! Epochs taken back, state saved and restored, and tables without versions.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_epoch_is_taken_back_and_state_restored_after_any_batch(
        case in cases(), what in proptest::collection::vec(0_u8..6, 40), compact in any::<bool>(),
    ) {
        let Case { plan, out_of_orderness_ms, inputs, turns } = case;
        let batches = cut(&inputs, &turns);
        let mut plain = Driver::new(&plan, out_of_orderness_ms);
        let mut plain_out = Vec::new();
        for (side, range) in &batches {
            plain.push(*side, &inputs[*side as usize][range.clone()], &mut plain_out);
        }
        let mut driver = Driver::new(&plan, out_of_orderness_ms);
        let (mut out, mut committed) = (Vec::new(), (0, 0, driver.clocks));
        let mut saved = state(&mut driver);
        let (mut at, mut step) = (0, 0);
        while at < batches.len() {
            let (side, range) = &batches[at];
            driver.push(*side, &inputs[*side as usize][range.clone()], &mut out);
            at += 1;
            step += 1;
            match what.get(step) {
                Some(0) => {
                    saved = state(&mut driver);
                    driver.join.commit();
                    prop_assert_eq!(&state(&mut driver), &saved);
                    if compact {
                        driver.join.rows = driver.join.rows.each_ref().map(rows::Rows::together);
                        driver.join.place_all();
                        prop_assert_eq!(&state(&mut driver), &saved);
                    }
                    committed = (at, out.len(), driver.clocks);
                }
                Some(1) => {
                    driver.join.rollback();
                    (at, driver.clocks) = (committed.0, committed.2);
                    out.truncate(committed.1);
                    prop_assert_eq!(&state(&mut driver), &saved);
                }
                Some(2) => {
                    driver = restored(&driver, &saved.0);
                    (at, driver.clocks) = (committed.0, committed.2);
                    out.truncate(committed.1);
                    prop_assert_eq!(&state(&mut driver), &saved);
                }
                _ => {}
            }
        }
        prop_assert_eq!(state(&mut driver), state(&mut plain));
        prop_assert_eq!(driver.join.buffered(), plain.join.buffered());
        driver.join.commit();
        let rows: u64 = driver.join.buffered().iter().sum();
        prop_assert!(driver.join.keys.len() as u64 <= rows, "keys without rows stay");
        driver.end(&mut out);
        plain.end(&mut plain_out);
        prop_assert_eq!(out, plain_out);
    }

    #[test]
    fn damaged_state_is_an_error_and_not_a_panic(case in cases(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut driver = Driver::new(&case.plan, case.out_of_orderness_ms);
        for side in SIDES {
            driver.push(side, &case.inputs[side as usize], &mut Vec::new());
        }
        let (mut saved, _) = state(&mut driver);
        let cut = at.index(saved.len());
        prop_assert!(Join::new(&case.plan).load(&mut Loading::whole(&saved[..cut])).is_err());
        saved[cut] ^= byte;
        let mut damaged = Join::new(&case.plan);
        if damaged.load(&mut Loading::whole(&saved)).is_ok() {
            damaged.fire(i64::MAX, i64::MAX, 1, &mut Joined::default());
            while damaged.end(1, &mut Joined::default()) {}
        }
    }

    #[test]
    fn a_table_without_versions_is_looked_up_as_it_is(case in cases(), left in any::<bool>(), undo in 0_usize..20) {
        let how = if left { JoinType::Left } else { JoinType::Inner };
        let plan = plan(JoinKind::Table { versioned: false }, how, 0);
        let mut driver = Driver::new(&plan, 0);
        let mut table = std::collections::BTreeMap::new();
        for (number, (side, range)) in cut(&case.inputs, &case.turns).into_iter().enumerate() {
            let rows: Rows = case.inputs[side as usize][range].iter().cloned()
                .map(|row| Row { is_delete: side == Side::Right && row.number % 4 == 0, ..row }).collect();
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            if number % 3 == undo % 3 {
                let saved = state(&mut driver);
                driver.join.commit();
                driver.push(side, &rows, &mut Vec::new());
                driver.join.rollback();
                prop_assert_eq!(&state(&mut driver), &saved);
                driver = restored(&driver, &saved.0);
                prop_assert_eq!(&state(&mut driver), &saved);
            }
            let outcomes = driver.push(side, &rows, &mut out);
            prop_assert_eq!(outcomes.applied + outcomes.unmatched, rows.len() as u64);
            for row in rows {
                match (side, &row.key) {
                    (Side::Right, Some(key)) if row.is_delete => _ = table.remove(key),
                    (Side::Right, Some(key)) => _ = table.insert(key.clone(), row.number),
                    (Side::Right, None) => {}
                    (Side::Left, key) => {
                        let found = key.as_ref().and_then(|key| table.get(key)).copied();
                        if left || found.is_some() {
                            expected.push((row.time_ms, Some(row.number), found));
                        }
                    }
                }
            }
            prop_assert_eq!(out, expected);
            prop_assert_eq!(driver.join.buffered(), [0, table.len() as u64]);
        }
    }
}

#[test]
fn an_idle_input_is_not_waited_for_and_its_rows_are_late_where_it_was_relied_on() {
    let plan = plan(JoinKind::Interval { from_ms: -10, to_ms: 10 }, JoinType::Left, 0);
    let mut driver = Driver::new(&plan, 0);
    let row = |number, time_ms| Row { number, key: Some("k".to_owned()), time_ms, is_delete: false };
    let mut out = Vec::new();
    driver.push(Side::Right, &[row(9, 1)], &mut out);
    driver.push(Side::Left, &[row(1, 50), row(2, 101)], &mut out);
    assert_eq!(out, []);
    let mut joined = Joined::default();
    assert!(!driver.join.fire(driver.clocks[0], i64::MAX, usize::MAX, &mut joined));
    read(joined, &mut out);
    assert_eq!(out, [(50, Some(1), None)]);
    // The clock stands at 100, so right rows up to 110 were taken for known.
    let outcomes = driver.push(Side::Right, &[row(10, 60), row(11, 110), row(12, 111)], &mut out);
    assert_eq!(outcomes.late, [(0, 60), (1, 110)]);
    driver.end(&mut out);
    assert_eq!(out[1..], [(111, Some(2), Some(12))]);
}

#[test]
fn buffers_hold_what_is_needed_and_give_memory_back_without_a_commit() {
    let plan = plan(JoinKind::Interval { from_ms: -100, to_ms: 100 }, JoinType::Inner, 0);
    let mut driver = Driver::new(&plan, 0);
    let (mut most, mut out) = (0, Vec::new());
    for start in (0..400_000).step_by(1000) {
        let rows = |base: i64| -> Rows {
            let row =
                |number: i64| Row { number, key: Some((number % 7919).to_string()), time_ms: number, is_delete: false };
            (start..start + 1000).map(|number| row(number + base)).collect()
        };
        driver.push(Side::Left, &rows(0), &mut out);
        driver.push(Side::Right, &rows(0), &mut out);
        most = most.max(driver.join.usage().bytes);
        if start % 50_000 == 0 {
            driver.join.seal();
            driver.join.commit();
        }
    }
    assert_eq!(driver.join.buffered(), [101, 101]);
    assert!(most < 4_000_000, "{most} bytes");
    assert_eq!(out.len(), 400_000 - 1);
}

#[test]
fn keys_met_once_are_forgotten_within_an_epoch() {
    let plan = plan(JoinKind::Interval { from_ms: -50, to_ms: 50 }, JoinType::Outer, 0);
    let mut driver = Driver::new(&plan, 0);
    let (mut most, mut out) = (0, Vec::new());
    for start in (0..200_000).step_by(500) {
        let row = |number: i64| Row { number, key: Some(number.to_string()), time_ms: number, is_delete: false };
        let rows: Rows = (start..start + 500).map(row).collect();
        driver.push(Side::Left, &rows, &mut out);
        driver.push(Side::Right, &rows, &mut out);
        most = most.max(driver.join.usage().bytes);
    }
    assert!(most < 4_000_000, "{most} bytes");
    driver.end(&mut out);
    assert_eq!(out.len(), 200_000);
    driver.join.rollback();
    assert_eq!((driver.join.buffered(), driver.join.keys.len()), ([0, 0], 0));
}

#[test]
fn a_table_whose_rows_are_replaced_for_ever_stays_small() {
    let plan = plan(JoinKind::Table { versioned: false }, JoinType::Left, 0);
    let mut driver = Driver::new(&plan, 0);
    let mut out = Vec::new();
    for round in 0..400 {
        let row = |number: i64| Row { number, key: Some((number % 500).to_string()), time_ms: round, is_delete: false };
        let rows: Rows = (0..500).map(|number| row(round * 500 + number)).collect();
        driver.push(Side::Right, &rows, &mut out);
        driver.join.seal();
        driver.join.commit();
    }
    assert_eq!(driver.join.buffered(), [0, 500]);
    assert!(driver.join.usage().bytes < 2_000_000, "{} bytes", driver.join.usage().bytes);
    let row = Row { number: 7, key: Some("499".to_owned()), time_ms: 0, is_delete: false };
    driver.push(Side::Left, &[row], &mut out);
    assert_eq!(out, [(0, Some(7), Some(199_999))]);
}

#[test]
fn a_plan_that_means_nothing_is_told() {
    let problem = |kind, how, allowed_lateness_ms| {
        let types = [Vec::new(), Vec::new()];
        JoinPlan { kind, how, key: KeyCodec::new(Vec::new()), types, allowed_lateness_ms }.problem()
    };
    assert!(problem(JoinKind::Interval { from_ms: 1, to_ms: 0 }, JoinType::Inner, 0).is_some());
    assert!(problem(JoinKind::Interval { from_ms: 0, to_ms: 0 }, JoinType::Outer, 0).is_none());
    assert!(problem(JoinKind::Window { size_ms: 0, offset_ms: 0 }, JoinType::Inner, 0).is_some());
    assert!(problem(JoinKind::AsOf { tolerance_ms: Some(-1) }, JoinType::Inner, 0).is_some());
    assert!(problem(JoinKind::AsOf { tolerance_ms: None }, JoinType::Outer, 0).is_some());
    assert!(problem(JoinKind::Table { versioned: true }, JoinType::Outer, 0).is_some());
    assert!(problem(JoinKind::Table { versioned: true }, JoinType::Left, -1).is_some());
}
