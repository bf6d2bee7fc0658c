//! Rows that leave in pieces, with all that may come between two of them.

use super::*;
use crate::codec::Write;

/// What is done between two pieces.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    Seal,
    Commit,
    /// A commit that finds most rows dead.
    Compact,
    Rollback,
    /// The state is saved and goes on in a new join.
    Move,
    /// The end of the input is looked at, for so many pieces.
    LookAhead(u8),
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        Just(Between::Nothing),
        Just(Between::Seal),
        Just(Between::Commit),
        Just(Between::Compact),
        Just(Between::Rollback),
        Just(Between::Move),
        (1_u8..4).prop_map(Between::LookAhead),
    ]
}

/// A join that is fed batch by batch, and its last commit.
struct Fed<'a> {
    driver: Driver,
    batches: &'a [(Side, Rows)],
    /// Batches applied, and whether rows that can leave still wait.
    at: usize,
    more: bool,
    out: Vec<Out>,
    /// `at`, `more`, the length of `out`, the clocks and the state at the last commit.
    committed: (usize, bool, usize, [i64; 2], (Vec<u8>, u64)),
}

impl<'a> Fed<'a> {
    fn new(plan: &Arc<JoinPlan>, out_of_orderness_ms: i64, batches: &'a [(Side, Rows)]) -> Self {
        let mut driver = Driver::new(plan, out_of_orderness_ms);
        let committed = (0, false, 0, driver.clocks, state(&mut driver));
        Self { driver, batches, at: 0, more: false, out: Vec::new(), committed }
    }

    fn is_over(&self) -> bool {
        self.at == self.batches.len() && !self.more
    }

    /// One piece, of the rows before if they have not all left.
    fn step(&mut self, rows_max: usize) {
        if !self.more {
            let (side, rows) = &self.batches[self.at];
            self.driver.apply(*side, rows, &mut self.out);
            self.at += 1;
        }
        let (clock_ms, before, (_, digest)) = (self.driver.join.clock_ms(), self.out.len(), state(&mut self.driver));
        self.more = self.driver.fire(rows_max, &mut self.out);
        let piece = &self.out[before..];
        assert!(piece.iter().all(|row| row.0 > clock_ms));
        assert!(!self.more || piece.len() == rows_max);
        assert!(self.more || piece.iter().all(|row| row.0 <= self.driver.join.clock_ms()));
        if !piece.is_empty() {
            assert_ne!(state(&mut self.driver).1, digest, "rows left, and the digest does not tell");
        }
    }

    fn note_commit(&mut self) {
        let state = state(&mut self.driver);
        self.committed = (self.at, self.more, self.out.len(), self.driver.clocks, state);
    }

    fn meanwhile(&mut self, what: Between) {
        let before = state(&mut self.driver);
        match what {
            Between::Nothing | Between::Seal => {}
            Between::Commit => self.driver.join.commit(),
            Between::Compact => {
                self.driver.join.commit();
                self.driver.join.rows = self.driver.join.rows.each_ref().map(rows::Rows::together);
                self.driver.join.place_all();
            }
            Between::Rollback => {
                self.driver.join.rollback();
                let (at, more, len, clocks, _) = &self.committed;
                (self.at, self.more, self.driver.clocks) = (*at, *more, *clocks);
                self.out.truncate(*len);
                assert_eq!(state(&mut self.driver), self.committed.4);
                return;
            }
            Between::Move => self.driver = restored(&self.driver, &before.0),
            Between::LookAhead(pieces) => {
                let mut ahead = Vec::new();
                let _ = (0..pieces).all(|_| self.driver.end_piece(2, &mut ahead));
            }
        }
        assert_eq!(state(&mut self.driver), before);
        if matches!(what, Between::Commit | Between::Compact | Between::Move) {
            self.note_commit();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_are_the_same_rows_whatever_comes_between_them(
        case in cases(), rows_max in 1_usize..4, what in proptest::collection::vec(between(), 1..60),
    ) {
        let Case { plan, out_of_orderness_ms, inputs, turns } = case;
        let batches: Vec<(Side, Rows)> =
            cut(&inputs, &turns).into_iter().map(|(side, range)| (side, inputs[side as usize][range].to_vec())).collect();
        let mut whole = Fed::new(&plan, out_of_orderness_ms, &batches);
        while !whole.is_over() {
            whole.step(usize::MAX);
        }
        let mut fed = Fed::new(&plan, out_of_orderness_ms, &batches);
        let mut what = what.into_iter();
        while !fed.is_over() {
            fed.step(rows_max);
            fed.meanwhile(what.next().unwrap_or(Between::Nothing));
        }
        prop_assert_eq!(state(&mut fed.driver), state(&mut whole.driver));
        prop_assert_eq!(fed.driver.join.buffered(), whole.driver.join.buffered());
        // Goes on from the last look ahead, then begins anew.
        fed.driver.end(&mut Vec::new());
        fed.driver.end(&mut fed.out);
        let taken = [0, 1].map(|side| is_taken(&plan, &inputs[side], out_of_orderness_ms, side == 1));
        prop_assert_eq!(fed.out, expected(&plan, &inputs, &taken));
    }

    #[test]
    fn the_end_of_the_input_goes_on_where_it_stands_from_inside_any_moment(
        case in cases(), rows_max in 1_usize..4, fired in 0_usize..80,
        what in proptest::collection::vec(between(), 1..60),
    ) {
        let Case { plan, out_of_orderness_ms, inputs, .. } = case;
        let batches: Vec<(Side, Rows)> = SIDES.map(|side| (side, inputs[side as usize].clone())).to_vec();
        let mut fed = Fed::new(&plan, out_of_orderness_ms, &batches);
        let left_over = (0..fired).any(|_| { if !fed.is_over() { fed.step(rows_max) } fed.is_over() });
        prop_assume!(left_over || fed.at == batches.len());
        fed.meanwhile(Between::Commit);
        let (before, mut all) = (state(&mut fed.driver), Vec::new());
        fed.driver.end(&mut all);
        let (mut ending, mut what) = (Vec::new(), what.into_iter());
        while fed.driver.end_piece(rows_max, &mut ending) {
            match what.next() {
                Some(Between::Commit) => fed.meanwhile(Between::Commit),
                Some(Between::Compact) => fed.meanwhile(Between::Compact),
                Some(between @ (Between::Rollback | Between::Move)) => {
                    fed.meanwhile(between);
                    ending.clear();
                }
                _ => fed.meanwhile(Between::Seal),
            }
        }
        prop_assert_eq!(&ending, &all);
        prop_assert_eq!(state(&mut fed.driver), before);
        let taken = [0, 1].map(|side| is_taken(&plan, &inputs[side], out_of_orderness_ms, side == 1));
        let so_far = fed.out.clone();
        prop_assert_eq!([so_far, ending].concat(), expected(&plan, &inputs, &taken));
        // A later run goes on as if nobody had looked.
        while fed.more {
            fed.step(rows_max);
        }
        fed.driver.end(&mut fed.out);
        prop_assert_eq!(fed.out, expected(&plan, &inputs, &taken));
    }
}

fn row(number: i64, key: &str, time_ms: i64) -> Row {
    Row { number, key: Some(key.to_owned()), time_ms, is_delete: false }
}

#[test]
fn many_rows_of_one_key_and_moment_leave_in_small_pieces() {
    const ROWS: i64 = 2000;
    const PIECE: usize = 16_000;
    let plan = plan(JoinKind::Window { size_ms: 10, offset_ms: 0 }, JoinType::Outer, 0);
    let mut driver = Driver::new(&plan, 0);
    let rows = |base: i64| -> Rows { (0..ROWS).map(|number| row(base + number, "k", 5)).collect() };
    driver.apply(Side::Left, &rows(0), &mut Vec::new());
    driver.apply(Side::Right, &rows(ROWS), &mut Vec::new());
    let buffered_bytes = driver.join.usage().bytes;
    driver.clocks = [100; 2];
    let (mut place, mut pieces, mut more) = (0, 0, true);
    while more {
        let mut out = Vec::with_capacity(PIECE);
        more = driver.fire(PIECE, &mut out);
        for (time_ms, left, right) in out {
            assert_eq!((time_ms, left, right), (9, Some(place / ROWS), Some(ROWS + place % ROWS)));
            place += 1;
        }
        pieces += 1;
        let bytes = driver.join.usage().bytes;
        assert!(bytes < buffered_bytes + 1_000_000, "{bytes} bytes, {buffered_bytes} before");
        if pieces % 100 == 7 {
            let (saved, _) = state(&mut driver);
            driver = restored(&driver, &saved);
        }
    }
    assert_eq!((place, pieces), (ROWS * ROWS, (ROWS * ROWS) as usize / PIECE));
    assert_eq!(driver.join.buffered(), [0, 0]);
}

#[test]
fn a_moment_that_has_begun_is_over_for_rows_to_come_and_leaves_wherever_the_watermarks_stand() {
    let plan = plan(JoinKind::Interval { from_ms: 0, to_ms: 0 }, JoinType::Left, 0);
    let mut driver = Driver::new(&plan, 0);
    let mut out = Vec::new();
    driver.apply(Side::Left, &[row(1, "a", 50), row(2, "b", 50), row(3, "c", 90)], &mut out);
    let fire = |driver: &mut Driver, right_ms: i64, out: &mut Vec<Out>| {
        let mut joined = Joined::default();
        let more = driver.join.fire(60, right_ms, 1, &mut joined);
        read(joined, out);
        more
    };
    // Nothing is heard of the right input.
    assert!(fire(&mut driver, i64::MAX, &mut out));
    let (saved, _) = state(&mut driver);
    driver = restored(&driver, &saved);
    assert!(!fire(&mut driver, 10, &mut out));
    assert_eq!(out, [(50, Some(1), None), (50, Some(2), None)]);
    driver = restored(&driver, &saved);
    let outcomes = driver.apply(Side::Right, &[row(10, "b", 50), row(11, "c", 90)], &mut out);
    assert_eq!(outcomes.late, [(0, 50)]);
    out.truncate(1);
    assert!(!fire(&mut driver, 10, &mut out));
    driver.end(&mut out);
    assert_eq!(out, [(50, Some(1), None), (50, Some(2), None), (90, Some(3), Some(11))]);
}

#[test]
fn state_of_the_first_version_is_read_and_a_moment_without_rows_is_damage() {
    let plan = plan(JoinKind::Interval { from_ms: 0, to_ms: 0 }, JoinType::Left, 0);
    let mut driver = Driver::new(&plan, 0);
    driver.apply(Side::Left, &[row(1, "a", 50), row(2, "b", 50)], &mut Vec::new());
    let (saved, digest) = state(&mut driver);
    let saved_at = |version: u8, moment: &[u8]| [&[version], &saved[1..9], moment, &saved[10..]].concat();
    assert_eq!(saved_at(2, &[0]), saved);
    let mut first = restored(&driver, &saved_at(1, &[]));
    assert_eq!(state(&mut first), (saved.clone(), digest));
    let stands_at = |time_ms: i64| {
        let mut moment = Vec::new();
        moment.put_varint(1);
        moment.put_i64(time_ms);
        Join::new(&plan).load(&mut Loading::whole(&saved_at(2, &moment)))
    };
    assert_eq!(stands_at(50).map_err(|error| error.to_string()), Ok(()));
    assert!(stands_at(49).is_err_and(|error| error.to_string().contains("at which it has no rows")));
    assert!(Join::new(&plan).load(&mut Loading::whole(&saved_at(3, &[0]))).is_err());
}
