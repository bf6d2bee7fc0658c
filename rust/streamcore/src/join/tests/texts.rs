//! Long texts: batches end before their columns are too large, and one that is gone is forgotten.

use super::*;
use crate::join::joined::BATCH_TEXT_BYTES;

/// `count` rows at times from `from_ms` on, all with the key `a` and `text`.
fn push(join: &mut Join, side: Side, from_ms: i64, count: usize, text: &str) -> Vec<JoinedBatch> {
    let (mut keys, mut texts) = (Column::new(DataType::String), Column::new(DataType::String));
    for _ in 0..count {
        keys.push(Scalar::Bytes(b"a"));
        texts.push(Scalar::Bytes(text.as_bytes()));
    }
    let numbers: Vec<i64> = (from_ms..from_ms + count as i64).collect();
    let arrivals = Arrivals {
        rows: &(0..count as u32).collect::<Vec<_>>(),
        event_times_ms: &numbers,
        watermarks_ms: &vec![i64::MIN; count],
        groups: &Interner::default().groups(&[&keys], &KeyCodec::new(vec![DataType::String]), 0..count),
        columns: &[texts],
        deletes: &[],
        partition: 0,
        offsets: &numbers,
    };
    let mut joined = Joined::default();
    assert_eq!(join.apply(side, &arrivals, &mut joined).applied, count as u64);
    while join.fire(i64::MAX, i64::MAX, 3, &mut joined) {}
    joined.into_batches()
}

fn join(kind: JoinKind, how: JoinType) -> Join {
    let types = [vec![DataType::String], vec![DataType::String]];
    let plan = JoinPlan { kind, how, key: KeyCodec::new(vec![DataType::String]), types, allowed_lateness_ms: 0 };
    Join::new(&Arc::new(plan))
}

/// Lengths of the batches, and of the longest text column of each.
fn sizes(batches: &[JoinedBatch]) -> Vec<(usize, usize)> {
    let bytes = |batch: &JoinedBatch| batch.left.iter().chain(&batch.right).map(Column::text_bytes).max().unwrap_or(0);
    batches.iter().map(|batch| (batch.times_ms.len(), bytes(batch))).collect()
}

#[test]
fn rows_that_find_one_long_text_in_a_table_leave_in_several_batches() {
    let long = "x".repeat(BATCH_TEXT_BYTES / 3 - 1);
    let mut join = join(JoinKind::Table { versioned: false }, JoinType::Left);
    assert_eq!(push(&mut join, Side::Right, 0, 1, &long), []);
    let batches = push(&mut join, Side::Left, 0, 4, "l");
    assert_eq!(sizes(&batches), [(3, 3 * long.len()), (1, long.len())]);
    let times: Vec<i64> = batches.iter().flat_map(|batch| batch.times_ms.clone()).collect();
    assert_eq!(times, [0, 1, 2, 3]);
    push(&mut join, Side::Right, 1, 1, "short");
    // The long one is still there for an undo.
    assert_eq!(sizes(&push(&mut join, Side::Left, 4, 4, "l")), [(4, 20)]);
}

#[test]
fn texts_of_both_sides_share_a_batch() {
    let third = "x".repeat(BATCH_TEXT_BYTES / 3);
    let mut join = join(JoinKind::Table { versioned: false }, JoinType::Inner);
    push(&mut join, Side::Right, 0, 1, &third);
    let lens: Vec<usize> = sizes(&push(&mut join, Side::Left, 0, 2, &third)).iter().map(|size| size.0).collect();
    assert_eq!(lens, [1, 1]);
}

#[test]
fn a_text_too_long_for_a_batch_leaves_alone() {
    let long = "x".repeat(BATCH_TEXT_BYTES + 1);
    let mut join = join(JoinKind::Table { versioned: false }, JoinType::Inner);
    push(&mut join, Side::Right, 0, 1, &long);
    assert_eq!(sizes(&push(&mut join, Side::Left, 0, 1, "l")), [(1, long.len())]);
}

#[test]
fn the_longest_text_is_that_of_the_rows_held() {
    let mut rows = rows::Rows::new(vec![DataType::String]);
    let head = Head { key: 0, time_ms: 0, at: (0, 0), event_time_ms: 0, is_delete: false, has_null_key: false };
    let append = |rows: &mut rows::Rows, texts: &[&str]| {
        let mut column = Column::new(DataType::String);
        texts.iter().for_each(|text| column.push(Scalar::Bytes(text.as_bytes())));
        let mut ids = Vec::new();
        let numbers: Vec<u32> = (0..texts.len() as u32).collect();
        rows.append(&[column], &numbers, &vec![head; texts.len()], |id, _| ids.push(id));
        ids
    };
    let mut first = append(&mut rows, &["longest"]);
    first.extend(append(&mut rows, &vec!["ab"; 4095]));
    append(&mut rows, &["abc"]);
    assert_eq!((rows.longest_text(), rows.text_bytes(first[0]), rows.text_bytes(first[1])), (7, 7, 2));
    rows.seal(|_| b"");
    rows.commit();
    first.iter().for_each(|id| rows.free(*id));
    assert_eq!(rows.longest_text(), 7, "an undo would bring it back");
    rows.rollback();
    first.iter().for_each(|id| rows.free(*id));
    rows.commit();
    assert_eq!(rows.longest_text(), 3);
    append(&mut rows, &["taken back"]);
    assert_eq!(rows.longest_text(), 10);
    rows.rollback();
    assert_eq!(rows.longest_text(), 3);
    assert_eq!(rows.together().longest_text(), 3);
}
