//! A dedupe step by itself: ids hashed and judged, without the decoding before it and the windows behind it.
//!
//! `benches/windows.rs` runs it. Invariant: no time is given unless the copies that the feed made, and they alone, were
//! taken for copies.

use crate::clicks::{Click, Clicks};
use crate::cpu_time::CpuTime;
use crate::run::{EPOCH_EVENTS, OUT_OF_ORDERNESS_MS};
use criterion::measurement::Measurement as _;
use std::time::Duration;
use streamcore::dedupe::{Arrival, Dedupe, DedupePlan, Judged, fingerprint};

/// Events of a batch.
const BATCH: usize = 4_096;

/// A step, and how far it has come.
#[derive(Debug)]
pub struct DedupeStep {
    dedupe: Dedupe,
    /// Processor time of hashing, judging, seals and commits.
    pub taken: Duration,
    /// Events judged.
    pub events: u64,
    /// Events judged before the last commit.
    committed: u64,
}

impl DedupeStep {
    /// One that keeps the ids for `within_ms`.
    #[must_use]
    pub fn new(within_ms: i64) -> Self {
        let dedupe = Dedupe::new(&DedupePlan { within_ms, clock_moves: true, bloom: None, room: None });
        Self { dedupe, taken: Duration::ZERO, events: 0, committed: 0 }
    }

    /// Judges the events of `clicks` from those judged before up to number `until`.
    ///
    /// # Panics
    ///
    /// When a new id is taken for a copy, or a copy for a new one.
    pub fn judge(&mut self, clicks: &Clicks, until: u64) {
        while self.events < until {
            let numbers = self.events..until.min(self.events + BATCH as u64);
            let batch: Vec<Click> = numbers.map(|number| clicks.click(number)).collect();
            self.judge_batch(&batch);
        }
    }

    fn judge_batch(&mut self, batch: &[Click]) {
        let mut ids = Vec::new();
        batch.iter().for_each(|click| click.write_id(&mut ids));
        let id_bytes = ids.len() / batch.len();
        let start = CpuTime.start();
        let arrival = |(click, id): (&Click, &[u8])| {
            let watermark_ms = click.time_ms - OUT_OF_ORDERNESS_MS - 1;
            Arrival { fingerprint: fingerprint(id), event_time_ms: click.time_ms, watermark_ms }
        };
        let arrivals: Vec<Arrival> = batch.iter().zip(ids.chunks_exact(id_bytes)).map(arrival).collect();
        let mut judged = Vec::with_capacity(batch.len());
        self.dedupe.judge(&arrivals, &mut judged).expect("room");
        self.dedupe.forget(arrivals.last().map_or(i64::MIN, |arrival| arrival.watermark_ms));
        self.events += batch.len() as u64;
        if self.events - self.committed >= EPOCH_EVENTS {
            self.committed = self.events;
            self.dedupe.seal();
            self.dedupe.commit();
        }
        self.taken += CpuTime.end(start);
        let expected = batch.iter().map(|click| if click.is_copy { Judged::Duplicate } else { Judged::New });
        assert!(judged.into_iter().eq(expected), "a verdict that is wrong");
    }

    /// Bytes for each id remembered.
    #[must_use]
    pub fn id_bytes(&self) -> f64 {
        let remembered = self.dedupe.remembered();
        remembered.bytes as f64 / remembered.ids as f64
    }
}
