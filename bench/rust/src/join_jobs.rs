//! Joins of two feeds, and what must come out of each, counted from the numbers drawn.
//!
//! `benches/joins.rs` runs them. Invariant: [`Job::check`] shares no code with the engine but the reading of Arrow.

use crate::draw::Draw;
use crate::run::{self, OUT_OF_ORDERNESS_MS, Run};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, RecordBatch};
use serde_json::{Value, json};
use std::fmt::Write as _;
use streamcore::pipeline::Pipeline;
use streamcore::raw::{RawBatch, lane_id};

/// Records of a piece; those of both inputs come in turns.
const PIECE_RECORDS: u64 = 16 << 10;

/// When the first record is, ms.
const START_MS: i64 = 1_700_000_000_000;

/// How far a record may be behind the newest, ms: within the bound, so none is late.
const BEHIND_MS: u64 = 2_000;

/// One record of either feed.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: u32,
    time_ms: i64,
    value: i64,
}

/// Which rows belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None: a filter takes all records out before the join.
    Nothing,
    /// The right one from so far behind the left one to so far ahead, ms.
    Interval(i64, i64),
    /// Both in one window of this length, ms.
    Window(i64),
    /// The latest right one, at most so far back, ms.
    AsOf(i64),
    /// The row of the table.
    Table,
    /// The row that the table had at the time.
    Versions,
}

/// A join of two feeds.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Which rows belong together.
    pub kind: Kind,
    /// `inner`, `left` or `outer`.
    pub how: &'static str,
    /// Records of the left side.
    pub left: u64,
    /// Records of the right side.
    pub right: u64,
    /// Keys of either.
    pub keys: u64,
    /// How long both last, ms.
    pub lasts_ms: i64,
}

impl Job {
    /// Records of both sides.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.left + self.right
    }

    fn rows(&self, side: usize) -> Vec<Row> {
        let (mut draw, count) = (Draw(side as u64 + 1), [self.left, self.right][side]);
        let row = |number: u64| Row {
            // The first rows of a table are one of each key.
            key: if side == 1 && number < self.keys { number } else { draw.below(self.keys) } as u32,
            time_ms: START_MS + (u128::from(number) * self.lasts_ms as u128 / u128::from(count)) as i64
                - draw.below(BEHIND_MS) as i64,
            value: draw.below(1 << 40) as i64,
        };
        (0..count).map(row).collect()
    }

    /// The engine's description of it.
    #[must_use]
    pub fn spec(&self) -> Value {
        let kind = match self.kind {
            Kind::Nothing => json!({"type": "interval", "from_ms": 0, "to_ms": 0}),
            Kind::Interval(from, to) => json!({"type": "interval", "from_ms": from, "to_ms": to}),
            Kind::Window(size) => json!({"type": "window", "size_ms": size}),
            Kind::AsOf(tolerance) => json!({"type": "as_of", "tolerance_ms": tolerance}),
            Kind::Table => json!({"type": "table"}),
            Kind::Versions => json!({"type": "table", "versioned": true}),
        };
        let source = json!({
            "event_time": "time", "event_time_unit": "ms", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS,
            "schema": {"key": "string", "value": "int64"},
        });
        let filter = json!({"verb": "filter", "condition": {"text": "value < 0"}});
        let before: Vec<Value> = (self.kind == Kind::Nothing).then_some(filter).into_iter().collect();
        let join = json!({
            "verb": "join", "input": "right", "left_on": ["key"], "right_on": ["key"], "suffix": "_right",
            "how": self.how, "kind": kind,
        });
        let steps: Vec<Value> = before.iter().cloned().chain([join]).collect();
        let limits = json!({"state_bytes_max": 1_u64 << 40});
        let inputs = json!([{"name": "right", "source": source, "steps": before}]);
        json!({"source": source, "inputs": inputs, "steps": steps, "limits": limits})
    }

    /// A pipeline of one lane a side and one thread.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        let mut pipeline = run::pipeline(&self.spec());
        pipeline.assign(&[lane_id(1, 0)]);
        pipeline
    }

    /// The records: those of a table first, otherwise in turns.
    #[must_use]
    pub fn pieces(&self) -> Vec<RawBatch> {
        let sides = [0, 1].map(|side| {
            let rows = self.rows(side);
            let pieces =
                rows.chunks(PIECE_RECORDS as usize).enumerate().map(|(number, rows)| piece(side, number, rows));
            pieces.collect::<Vec<_>>()
        });
        let [left, right] = sides;
        if self.kind == Kind::Table {
            return right.into_iter().chain(left).collect();
        }
        let (counts, mut placed) = ([left.len(), right.len()], Vec::new());
        for (side, pieces) in [left, right].into_iter().enumerate() {
            placed.extend(
                pieces
                    .into_iter()
                    .enumerate()
                    .map(|(number, piece)| ((number * 1_000_000 / counts[side], side), piece)),
            );
        }
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, piece)| piece).collect()
    }

    /// A run over `pieces`; `output` is shown every batch of rows.
    pub fn run(&self, pieces: &[RawBatch], output: impl FnMut(&RecordBatch)) -> Run {
        run::run(self.pipeline(), run::alone(pieces.iter().cloned()), output)
    }

    /// A run gives the rows that are counted anew from the numbers drawn: as many, and of the same sum.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn check(&self, pieces: &[RawBatch]) -> Run {
        let mut found = (0, 0);
        let run = self.run(pieces, |batch| {
            let column = |name| batch.column_by_name(name).expect("a column").as_primitive::<Int64Type>();
            let (left, right) = (column("value"), column("value_right"));
            for row in 0..batch.num_rows() {
                let value = |column: &arrow_array::Int64Array| column.is_valid(row).then(|| column.value(row));
                add(&mut found, value(left), value(right));
            }
        });
        assert_eq!(found, self.expected(), "number and sum of the rows");
        run
    }

    fn expected(&self) -> (u64, u64) {
        let [left, right] = [0, 1].map(|side| self.rows(side));
        let mut by_key: Vec<Vec<(i64, usize)>> = vec![Vec::new(); self.keys as usize];
        for (number, row) in right.iter().enumerate() {
            by_key[row.key as usize].push((row.time_ms, number));
        }
        if self.kind != Kind::Table {
            by_key.iter_mut().for_each(|rows| rows.sort_unstable());
        }
        let (mut found, mut has_partner) = ((0, 0), vec![false; right.len()]);
        for row in &left {
            let partners = self.partners(row.time_ms, &by_key[row.key as usize]);
            for (_, number) in partners {
                has_partner[*number] = true;
                add(&mut found, Some(row.value), Some(right[*number].value));
            }
            if partners.is_empty() && self.how != "inner" {
                add(&mut found, Some(row.value), None);
            }
        }
        if self.how == "outer" {
            let alone = right.iter().zip(&has_partner).filter(|(_, has_partner)| !**has_partner);
            alone.for_each(|(row, _)| add(&mut found, None, Some(row.value)));
        }
        found
    }

    /// Of the right rows of its key, in order of time, those that a left row of `time_ms` is joined with.
    fn partners<'r>(&self, time_ms: i64, rows: &'r [(i64, usize)]) -> &'r [(i64, usize)] {
        let first = |time_ms: i64| rows.partition_point(|row| row.0 < time_ms);
        let latest = |from_ms: i64| {
            let end = first(time_ms + 1);
            let start = end.saturating_sub(1);
            if start < end && rows[start].0 >= from_ms { &rows[start..end] } else { &[] }
        };
        match self.kind {
            Kind::Nothing => &[],
            Kind::Interval(from, to) => &rows[first(time_ms + from)..first(time_ms + to + 1)],
            Kind::Window(size) => {
                let start_ms = time_ms.div_euclid(size) * size;
                &rows[first(start_ms)..first(start_ms + size)]
            }
            Kind::AsOf(tolerance) => latest(time_ms - tolerance),
            Kind::Table => &rows[rows.len().saturating_sub(1)..],
            Kind::Versions => latest(i64::MIN),
        }
    }
}

/// Counts a row, and adds a number that depends on both of its values.
fn add((count, sum): &mut (u64, u64), left: Option<i64>, right: Option<i64>) {
    let mixed = |value: Option<i64>, seed| value.map_or(seed, |value| Draw(value as u64 ^ seed).number());
    *count += 1;
    *sum = sum.wrapping_add(mixed(left, 1).wrapping_mul(mixed(right, 2) | 1));
}

fn piece(side: usize, number: usize, rows: &[Row]) -> RawBatch {
    let mut piece = RawBatch::new(0, "feed".into(), rows.len(), rows.len() * 80);
    piece.input = side as i32;
    let (mut text, first) = (String::new(), number as u64 * PIECE_RECORDS);
    for (place, Row { key, time_ms, value }) in rows.iter().enumerate() {
        text.clear();
        write!(text, r#"{{"time":{time_ms},"key":"user-{key:07}","value":{value}}}"#).expect("memory");
        piece.push(Some(text.as_bytes()), (first + place as u64) as i64, None).expect("a small record");
    }
    piece.seal();
    piece
}
