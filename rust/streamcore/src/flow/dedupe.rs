//! Rows through a `dedupe` step: their ids as bytes, judged a batch at a time.
//!
//! `dedupe` keeps the ids. Invariant: every row has left, or its id is remembered.

use super::Flow;
use crate::batch::{Column, Scalar};
use crate::dedupe::{Arrival, Judged, fingerprint};
use crate::error::{RejectKind, Result};
use crate::expr::Expression;

impl Flow<'_> {
    /// Takes the kept rows through dedupe step `number` of the stage.
    pub(super) fn dedupe(&mut self, number: usize, id: &Expression, field: &str) -> Result<()> {
        let place = self.place(id);
        let columns = std::mem::take(&mut self.columns);
        let rows = self.rows_with_id(place.column(&columns), field);
        let arrivals = self.arrivals(place.column(&columns), &rows);
        self.columns = columns;
        let mut judged = Vec::with_capacity(rows.len());
        self.held.dedupes[number].judge(&arrivals, &mut judged)?;
        for (row, judged) in rows.into_iter().map(|row| row as usize).zip(judged) {
            match judged {
                Judged::New => {}
                Judged::Duplicate => {
                    self.kept[row] = false;
                    self.ledger.duplicate += 1;
                }
                Judged::Full => {
                    let limit = self.held.dedupes[number].room().map(|room| room.limit()).unwrap_or_default();
                    self.shed(row, &format!("id: {limit}"));
                }
                Judged::BeyondHorizon => {
                    let over_at_ms = self.held.dedupes[number].forgotten_at(self.rows.event_times_ms[row]);
                    self.missed(row, "DEDUPE_HORIZON", over_at_ms);
                }
            }
        }
        Ok(())
    }

    /// The kept rows; those without an id go.
    fn rows_with_id(&mut self, ids: &Column, field: &str) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.kept.len());
        for row in 0..self.kept.len() {
            if !self.kept[row] {
                continue;
            }
            if ids.is_valid(row) {
                rows.push(row as u32);
            } else {
                let detail = format!("{field}, which dedupe compares, is absent or null");
                self.reject(row, RejectKind::MissingField, detail);
            }
        }
        rows
    }

    fn arrivals(&self, ids: &Column, rows: &[u32]) -> Vec<Arrival> {
        let mut scratch = Vec::new();
        let mut fingerprint_of = |row: usize| match ids.get(row) {
            Scalar::Bytes(bytes) => fingerprint(bytes),
            other => {
                scratch.clear();
                fixed_bytes(other, &mut scratch);
                fingerprint(&scratch)
            }
        };
        let arrival = |row: &u32| {
            let row = *row as usize;
            let (event_time_ms, watermark_ms) = (self.rows.event_times_ms[row], self.watermarks_ms[row]);
            Arrival { fingerprint: fingerprint_of(row), event_time_ms, watermark_ms }
        };
        rows.iter().map(arrival).collect()
    }
}

/// A fixed-width id as bytes; `Null` and `Bytes` are the caller's.
fn fixed_bytes(value: Scalar<'_>, out: &mut Vec<u8>) {
    match value {
        Scalar::Bool(value) => out.push(u8::from(value)),
        Scalar::Int64(value) => out.extend_from_slice(&value.to_le_bytes()),
        Scalar::Float64(value) => out.extend_from_slice(&(value + 0.0).to_bits().to_le_bytes()),
        Scalar::Decimal(value) => out.extend_from_slice(&value.to_le_bytes()),
        Scalar::Null | Scalar::Bytes(_) => {}
    }
}
