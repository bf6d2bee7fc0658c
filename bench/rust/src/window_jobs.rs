//! Window jobs over [`Clicks`], and what must come out of each, counted from the numbers drawn.
//!
//! `benches/windows.rs` runs them. Invariant: [`Job::check`] shares no code with the engine but the reading of Arrow.

use crate::clicks::{Clicks, key_number};
use crate::run::{self, OUT_OF_ORDERNESS_MS, Run};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use streamcore::pipeline::Pipeline;

/// A row of the result: group key, start and end of the window (ms), count.
pub type Row = (u32, i64, i64, i64);

/// How events are cut into windows; lengths in ms.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// Windows of a length, one every so often, which divides it.
    Hopping {
        /// Their length.
        size: i64,
        /// Distance between their starts.
        slide: i64,
    },
    /// Sessions.
    Session {
        /// The furthest apart that two events of one are.
        gap: i64,
    },
}

/// A feed and the count of its events by key and window.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The feed.
    pub clicks: Clicks,
    /// The windows.
    pub cut: Cut,
    /// A `dedupe` on `event_id` before them.
    pub dedupe: Option<Dedupe>,
}

/// How copies are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Dedupe {
    /// The horizon, ms.
    pub within_ms: i64,
    /// With filters instead of the ids: the share of new ids that may be taken for copies.
    pub false_drop_rate: Option<f64>,
}

impl Job {
    /// The engine's description of it. The group key is the record key, so the lane fires its own windows.
    #[must_use]
    pub fn spec(&self) -> Value {
        let kind = match self.cut {
            Cut::Hopping { size, slide } if size == slide => json!({"type": "tumbling", "size_ms": size}),
            Cut::Hopping { size, slide } => json!({"type": "hopping", "size_ms": size, "slide_ms": slide}),
            Cut::Session { gap } => json!({"type": "session", "gap_ms": gap}),
        };
        let mut schema = json!({"payload.user_id": "string"});
        let mut steps = vec![json!({
            "verb": "window",
            "kind": kind,
            "by": [{"name": "user", "text": "payload.user_id"}],
            "aggregates": [{"name": "events", "text": "count()"}],
        })];
        if let Some(Dedupe { within_ms, false_drop_rate }) = self.dedupe {
            schema["event_id"] = "string".into();
            let mut step = json!({"verb": "dedupe", "field": "event_id", "within_ms": within_ms});
            if let Some(rate) = false_drop_rate {
                step["bloom"] = json!({"false_drop_rate": rate});
            }
            steps.insert(0, step);
        }
        let source = json!({
            "event_time": "timestamp", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS,
            "keyed_by": "payload.user_id", "schema": schema,
        });
        let limits = json!({"state_bytes_max": 1_u64 << 40});
        json!({"source": source, "steps": steps, "limits": limits})
    }

    /// A pipeline of one lane and one thread.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        run::pipeline(&self.spec())
    }

    /// A run; `output` is shown every batch of rows.
    pub fn run(&self, output: impl FnMut(&RecordBatch)) -> Run {
        run::run(self.pipeline(), run::alone(self.clicks.pieces()), output)
    }

    /// A run gives the rows that are counted anew from the numbers drawn, and nothing else.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn check(&self) -> Run {
        let mut rows = Vec::new();
        let run = self.run(|batch| rows.extend(rows_of(batch)));
        rows.sort_unstable();
        let expected = self.expected();
        let wrong = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        assert_eq!((wrong, rows.len()), (None, expected.len()), "rows that differ, and how many there are");
        run
    }

    /// The share of new ids that `dedupe` took for copies.
    ///
    /// # Panics
    ///
    /// When a copy was counted: then more rows are counted than there are new ids.
    #[must_use]
    pub fn false_drops(&self) -> f64 {
        let mut counted = 0;
        self.run(|batch| counted += counts(batch).iter().sum::<i64>());
        let new = self.clicks.clicks().filter(|click| !click.is_copy).count() as i64;
        assert!(counted <= new, "{counted} events of {new} ids were counted");
        (new - counted) as f64 / new as f64
    }

    /// The rows that must come out, in order.
    #[must_use]
    pub fn expected(&self) -> Vec<Row> {
        let clicks = self.clicks.clicks().filter(|click| self.dedupe.is_none() || !click.is_copy);
        let events = clicks.map(|click| (click.key as u32, click.time_ms));
        let mut rows = match self.cut {
            Cut::Hopping { size, slide } => hopping(events, size, slide),
            Cut::Session { gap } => sessions(events, gap),
        };
        rows.sort_unstable();
        rows
    }
}

/// The counts of the rows of `batch`.
fn counts(batch: &RecordBatch) -> &[i64] {
    column(batch, "events").as_primitive::<Int64Type>().values()
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> &'b dyn arrow_array::Array {
    batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"))
}

/// The rows of `batch`.
///
/// # Panics
///
/// When a key is none of the feed's.
pub fn rows_of(batch: &RecordBatch) -> impl Iterator<Item = Row> + '_ {
    let time = |name| column(batch, name).as_primitive::<TimestampMillisecondType>().values();
    let (users, starts, ends) = (column(batch, "user").as_string::<i32>(), time("window_start"), time("window_end"));
    let key = |row| key_number(users.value(row)).expect("a key of the feed");
    (0..batch.num_rows()).map(move |row| (key(row), starts[row], ends[row], counts(batch)[row]))
}

/// Counts of windows of `size` every `slide`, which divides it: events by stretch of `slide`, and the sum of all
/// stretches that a window covers.
fn hopping(events: impl Iterator<Item = (u32, i64)>, size: i64, slide: i64) -> Vec<Row> {
    let mut stretches: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (key, time) in events {
        let keys = stretches.entry(time.div_euclid(slide) * slide).or_default();
        keys.resize(keys.len().max(key as usize + 1), 0);
        keys[key as usize] += 1;
    }
    let starts = |stretch: &i64| {
        (0..size / slide).map({
            let stretch = *stretch;
            move |back| stretch - back * slide
        })
    };
    let windows: BTreeSet<i64> = stretches.keys().flat_map(starts).collect();
    let mut rows = Vec::new();
    for start in windows {
        let mut counts = Vec::new();
        for keys in stretches.range(start..start + size).map(|(_, keys)| keys) {
            counts.resize(counts.len().max(keys.len()), 0);
            counts.iter_mut().zip(keys).for_each(|(sum, count)| *sum += count);
        }
        let met = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        rows.extend(met.map(|(key, count)| (key as u32, start, start + size, count)));
    }
    rows
}

/// Counts of sessions: of each key, stretches of times no further apart than `gap`.
fn sessions(events: impl Iterator<Item = (u32, i64)>, gap: i64) -> Vec<Row> {
    let mut times: Vec<(u32, i64)> = events.collect();
    times.sort_unstable();
    let mut rows: Vec<Row> = Vec::new();
    let mut last = None;
    for (key, time) in times {
        match rows.last_mut() {
            Some(row) if last.is_some_and(|last: (u32, i64)| last.0 == key && time - last.1 <= gap) => {
                *row = (key, row.1, time + gap, row.3 + 1);
            }
            _ => rows.push((key, time, time + gap, 1)),
        }
        last = Some((key, time));
    }
    rows
}
