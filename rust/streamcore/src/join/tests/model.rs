//! What a join must give, from all rows of both inputs at once.

use super::super::table::DELETE_KEPT_MS;
use super::super::{JoinKind, JoinPlan, JoinType, Side};
use super::Out;

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub number: i64,
    pub key: Option<String>,
    pub time_ms: i64,
    pub is_delete: bool,
}

pub type Rows = Vec<Row>;

/// How a row was judged.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub is_late: bool,
    /// The time it counts at, if it was taken.
    pub at_ms: Option<i64>,
}

fn join_time(plan: &JoinPlan, time_ms: i64) -> i64 {
    match plan.kind {
        JoinKind::Window { size_ms, offset_ms } => {
            (time_ms - offset_ms).div_euclid(size_ms) * size_ms + offset_ms + size_ms - 1
        }
        _ => time_ms,
    }
}

/// How each row of one side is judged.
pub fn is_taken(plan: &JoinPlan, rows: &[Row], out_of_orderness_ms: i64, right: bool) -> Vec<Taken> {
    let versions = right && plan.kind == (JoinKind::Table { versioned: true });
    let keeps_null_keys = if right { plan.how == JoinType::Outer } else { plan.how != JoinType::Inner };
    let mut clock_ms = i64::MIN;
    let mut taken: Vec<Taken> = Vec::new();
    for row in rows {
        let at_ms = join_time(plan, row.time_ms);
        let mut judged = Taken { is_late: false, at_ms: Some(at_ms) };
        let behind = clock_ms > i64::MIN && at_ms + plan.allowed_lateness_ms <= clock_ms;
        if versions && row.key.is_none() {
            judged.at_ms = None;
        } else if behind && versions {
            let from_ms = clock_ms - plan.allowed_lateness_ms + 1;
            let known = rows.iter().zip(&taken).filter(|(other, _)| other.key == row.key);
            let known =
                known.filter_map(|(other, taken)| Some((taken.at_ms.filter(|at_ms| *at_ms <= from_ms)?, other)));
            let latest = known.max_by_key(|(at_ms, other)| (*at_ms, other.number));
            judged.is_late = latest.is_some_and(|(at_ms, latest)| {
                latest.time_ms > row.time_ms && !(latest.is_delete && at_ms + DELETE_KEPT_MS <= clock_ms)
            });
            judged.at_ms = (!judged.is_late).then_some(from_ms);
        } else if behind {
            judged = Taken { is_late: true, at_ms: None };
        } else if row.key.is_none() && !keeps_null_keys {
            judged.at_ms = None;
        }
        taken.push(judged);
        clock_ms = clock_ms.max(row.time_ms - out_of_orderness_ms - 1);
    }
    taken
}

/// A result row with its key before the numbers: as rows are ordered.
type Keyed = (i64, Option<String>, Option<i64>, Option<i64>);

/// All result rows, in the order they leave.
pub fn expected(plan: &JoinPlan, inputs: &[Rows; 2], taken: &[Vec<Taken>; 2]) -> Vec<Out> {
    let side = |side: usize| {
        let rows = inputs[side].iter().zip(&taken[side]);
        rows.filter_map(|(row, taken)| Some((row, taken.at_ms?))).collect::<Vec<_>>()
    };
    let (left, right) = (side(0), side(1));
    let mut out: Vec<Keyed> = Vec::new();
    let mut partnered = vec![false; right.len()];
    for (row, at_ms) in &left {
        let equal = |other: &Row| row.key.is_some() && row.key == other.key;
        let partners: Vec<usize> = match plan.kind {
            JoinKind::Interval { from_ms, to_ms } => {
                let near = |other_ms: i64| (at_ms + from_ms..=at_ms + to_ms).contains(&other_ms);
                (0..right.len()).filter(|place| equal(right[*place].0) && near(right[*place].1)).collect()
            }
            JoinKind::Window { .. } => {
                (0..right.len()).filter(|place| equal(right[*place].0) && right[*place].1 == *at_ms).collect()
            }
            JoinKind::AsOf { .. } | JoinKind::Table { .. } => {
                let before = (0..right.len()).filter(|place| equal(right[*place].0) && right[*place].1 <= *at_ms);
                let latest = before.max_by_key(|place| (right[*place].1, *place));
                let near = |place: &usize| match plan.kind {
                    JoinKind::AsOf { tolerance_ms: Some(tolerance_ms) } => right[*place].1 >= at_ms - tolerance_ms,
                    _ => !right[*place].0.is_delete,
                };
                latest.into_iter().filter(near).collect()
            }
        };
        for place in &partners {
            partnered[*place] = true;
            let (other, other_ms) = right[*place];
            out.push(((*at_ms).max(other_ms), row.key.clone(), Some(row.number), Some(other.number)));
        }
        if partners.is_empty() && plan.how != JoinType::Inner {
            out.push((*at_ms, row.key.clone(), Some(row.number), None));
        }
    }
    if plan.how == JoinType::Outer {
        let alone = right.iter().zip(&partnered).filter(|(_, partnered)| !**partnered);
        out.extend(alone.map(|((row, at_ms), _)| (*at_ms, row.key.clone(), None, Some(row.number))));
    }
    out.sort();
    out.into_iter().map(|(time_ms, _, left, right)| (time_ms, left, right)).collect()
}

/// How many rows of each side a later one can still need.
pub fn needed(plan: &JoinPlan, inputs: &[Rows; 2], out_of_orderness_ms: i64, clock_ms: i64) -> [u64; 2] {
    let taken = [0, 1].map(|side| is_taken(plan, &inputs[side], out_of_orderness_ms, side == 1));
    [Side::Left, Side::Right].map(|side| {
        let rows = &inputs[side as usize];
        let taken = &taken[side as usize];
        let latest = |key: &Option<String>| {
            let places = (0..rows.len()).filter(|place| rows[*place].key == *key);
            let past = places.filter_map(|place| Some((taken[place].at_ms.filter(|at_ms| *at_ms <= clock_ms)?, place)));
            past.max().map(|(_, place)| place)
        };
        let is_needed = |place: &usize| {
            let Some(at_ms) = taken[*place].at_ms else { return false };
            if at_ms > clock_ms {
                return true;
            }
            let is_latest = latest(&rows[*place].key) == Some(*place);
            match (plan.kind, side) {
                (JoinKind::Interval { to_ms, .. }, Side::Left) => at_ms + to_ms > clock_ms,
                (JoinKind::Interval { from_ms, .. }, Side::Right) => at_ms - from_ms > clock_ms,
                (JoinKind::Window { .. }, _) | (_, Side::Left) => false,
                (JoinKind::AsOf { tolerance_ms }, _) => {
                    is_latest && tolerance_ms.is_none_or(|tolerance_ms| at_ms + tolerance_ms > clock_ms)
                }
                (JoinKind::Table { .. }, _) => {
                    is_latest && (!rows[*place].is_delete || at_ms + DELETE_KEPT_MS > clock_ms)
                }
            }
        };
        (0..rows.len()).filter(is_needed).count() as u64
    })
}
