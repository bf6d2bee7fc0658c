//! Many records at once: the block is marked, all its records are located, then each column is filled
//! for all of them.
//!
//! What is refused by its bytes alone leaves on the way; where a good record's value does not fit its
//! column, the located records are filled in row by row (`record.rs`). Invariant: the outcome is that of
//! `record.rs` for every row.

use super::convert::push_value;
use super::json::Located;
use super::json::layouts::Layouts;
use super::json::marks::{Block, Record, Rows};
use super::json::scan::{Kind, Value};
use super::{Decoder, Search, time, truncate};
use crate::batch::{Batch, Bytes, Column, DataType, Values};
use crate::raw::RawBatch;
use std::ops::Range;

/// In the place of a record's start: it was refused.
const REFUSED: u32 = u32::MAX;

impl Decoder {
    /// Decodes the JSON records `rows`, which are in `bytes` (with padding); those begin at `start` of the batch.
    pub(super) fn decode_block(
        &self,
        raw: &RawBatch,
        rows: Range<usize>,
        (bytes, start): (&[u8], usize),
        search: &mut Search,
        batch: &mut Batch,
    ) {
        let Search { found, records, marks, layouts, minute, .. } = search;
        self.kernel.mark(bytes, marks);
        let block = Block::new(bytes, marks);
        self.take_records(raw, rows, start, records, batch);
        found.clear();
        found.resize(records.len() * self.projection.len(), None);
        if self.locate_all(block, records, found, layouts, batch) {
            drop_refused(records, found, self.projection.len());
        }
        let len = batch.len();
        let found = &mut found[..records.len() * self.projection.len()];
        if self.fill(raw, block, records, found, minute, batch).is_none() {
            truncate(batch, len);
            self.fill_singly(raw, block, records, found, minute, batch);
        }
    }

    /// The records that have a value of an allowed size.
    fn take_records(
        &self,
        raw: &RawBatch,
        rows: Range<usize>,
        start: usize,
        records: &mut Vec<Record>,
        batch: &mut Batch,
    ) {
        records.clear();
        records.reserve(rows.len());
        for (row, place) in rows.clone().zip(raw.places(rows)) {
            let Some(place) = place else {
                batch.tombstones.push(row as u32);
                continue;
            };
            match self.check_size(raw, row, place.len()) {
                Ok(()) => records.push(Record {
                    row: row as u32,
                    start: (place.start - start) as u32,
                    end: (place.end - start) as u32,
                }),
                Err(reject) => batch.rejects.push(reject),
            }
        }
    }

    /// Locates the wanted fields of all records, in the block, one record's after the other's; true when
    /// some were refused on the way.
    fn locate_all(
        &self,
        block: Block<'_>,
        records: &mut [Record],
        found: &mut [Located],
        layouts: &mut Layouts,
        batch: &mut Batch,
    ) -> bool {
        let fields = self.projection.len();
        let valid_utf8 = block.is_utf8();
        let (mut next, mut refused) = (0, false);
        while next < records.len() {
            let mut rows = Rows { records, found, fields };
            if valid_utf8 {
                next += layouts.locate(block, rows.part(next, usize::MAX));
            }
            let Some(record) = records.get_mut(next) else { break };
            let own = &mut found[next * fields..(next + 1) * fields];
            own.fill(None);
            let value = block.record(*record);
            match self.locate(record.row as usize, value, valid_utf8, own) {
                Ok(()) => {
                    layouts.learn(value, own);
                    shift(own, record.start, u32::wrapping_add);
                }
                Err(reject) => {
                    batch.rejects.push(reject);
                    record.start = REFUSED;
                    refused = true;
                }
            }
            next += 1;
        }
        refused
    }

    /// Appends the records to all columns; `None`, with columns half filled, when a value does not fit.
    fn fill(
        &self,
        raw: &RawBatch,
        block: Block<'_>,
        records: &[Record],
        found: &[Located],
        minute: &mut time::LastMinute,
        batch: &mut Batch,
    ) -> Option<()> {
        let fields = self.projection.len();
        for (column, (field, place)) in batch.columns.iter_mut().zip(self.plan.fields.iter().zip(&self.places)) {
            fill_column(column, block, found.get(*place..)?, fields, &field.path)?;
        }
        let own = |place: usize| &found[place * fields..(place + 1) * fields];
        if self.keyed_by_place.is_some() {
            for (place, record) in records.iter().enumerate() {
                self.check_key(raw, record.row as usize, block.bytes(), own(place)).ok()?;
            }
        }
        if !self.plan.parts.is_empty() {
            for record in records {
                self.push_parts(raw, record.row as usize, batch).ok()?;
            }
        }
        for (place, record) in records.iter().enumerate() {
            let time_ms = self.known_event_time(raw, record.row as usize, block.bytes(), own(place), minute)?;
            batch.event_times_ms.push(time_ms);
        }
        batch.raw_rows.extend(records.iter().map(|record| record.row));
        Some(())
    }

    /// Appends the records one after the other, those that do not fit to the refused.
    fn fill_singly(
        &self,
        raw: &RawBatch,
        block: Block<'_>,
        records: &[Record],
        found: &mut [Located],
        minute: &mut time::LastMinute,
        batch: &mut Batch,
    ) {
        let fields = self.projection.len();
        for (place, record) in records.iter().enumerate() {
            let own = &mut found[place * fields..(place + 1) * fields];
            shift(own, record.start, u32::wrapping_sub);
            self.fill_row(raw, record.row as usize, block.record(*record), own, minute, batch);
        }
    }
}

/// Removes the records that were refused, and what was found of them.
fn drop_refused(records: &mut Vec<Record>, found: &mut [Located], fields: usize) {
    let mut good = 0;
    for place in 0..records.len() {
        if records[place].start != REFUSED {
            records[good] = records[place];
            found.copy_within(place * fields..(place + 1) * fields, good * fields);
            good += 1;
        }
    }
    records.truncate(good);
}

/// Changes positions in a record to those in its block, or back.
fn shift(found: &mut [Located], start: u32, change: fn(u32, u32) -> u32) {
    for value in found.iter_mut().flatten() {
        (value.start, value.end) = (change(value.start, start), change(value.end, start));
    }
}

/// Appends every value of `found` that is `stride` from the one before, a column's; `None` when one does not fit.
fn fill_column(column: &mut Column, block: Block<'_>, found: &[Located], stride: usize, path: &str) -> Option<()> {
    let mut values = found.iter().step_by(stride);
    while values.len() > 0 {
        if column.data_type == DataType::String
            && column.validity.no_nulls()
            && let Values::Bytes(texts) = &mut column.values
        {
            fill_texts(texts, block, &mut values);
        }
        if let Some(value) = values.next() {
            push_value(column, block.bytes(), *value, path).ok()?;
        }
    }
    Some(())
}

/// Appends values as long as they are text without escapes.
fn fill_texts<'f>(texts: &mut Bytes, block: Block<'_>, values: &mut (impl Iterator<Item = &'f Located> + Clone)) {
    let mut ahead = values.clone();
    while let Some(Some(Value { kind: Kind::Text, start, end })) = ahead.next() {
        let Some(chunk) = block.chunk(*start) else { return };
        let len = (end - start) as usize;
        if len <= chunk.len() {
            texts.push_chunk(chunk, len);
        } else {
            texts.push(&block.bytes()[*start as usize..*end as usize]);
        }
        values.clone_from(&ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecodePlan, FieldPlan};
    use super::*;
    use crate::decode::json::kernel::Kernel;
    use crate::raw::Part;
    use crate::spec::{FormatSpec, TimeUnitSpec};
    use proptest::prelude::*;

    /// Good records of three layouts, and every sort of bad one.
    const RECORDS: [&str; 14] = [
        r#"{"t":"2026-01-01T00:00:00.000Z","p":{"page":"home","n":12}}"#,
        r#"{"t":"2026-01-01T00:00:01.250Z","p":{"page":"a page with a much longer name than fits a short copy","n":7}}"#,
        r#"{"t":"2025-12-31T23:59:59.999Z","p":{"page":"caf\u00e9 \"x\"","n":-3}}"#,
        r#"{"p":{"page":null},"t":"2026-01-01T00:00:00+01:00"}"#,
        r#"{"t":"2026-01-01T00:00:02.000Z","p":{"page":"héllo"}}"#,
        r#"{"t":"2026-01-01T00:00:03.000Z","p":{"page":5,"n":1}}"#,
        r#"{"t":"2026-01-01T00:00:04.000Z","p":{"page":"x","n":1.5}}"#,
        r#"{"t":"yesterday","p":{"page":"x","n":1}}"#,
        r#"{"p":{"page":"no time","n":1}}"#,
        r#"{"t":"2026-01-01T00:00:05.000Z","p":{"page":"cut off"#,
        "not JSON",
        "",
        r#"{"t":"2026-01-01T00:00:06.000Z","p":{"page":"far too long: ..........................................................................................................","n":1}}"#,
        "\u{1}",
    ];

    fn plan() -> DecodePlan {
        let field = |path: &str, data_type| FieldPlan {
            path: path.to_owned(),
            segments: path.split('.').map(str::to_owned).collect(),
            data_type,
        };
        DecodePlan {
            format: FormatSpec::Json,
            fields: vec![
                field("p.page", DataType::String),
                field("p.n", DataType::Int64),
                field("t", DataType::String),
            ],
            parts: vec![(Part::Key, DataType::String), (Part::Offset, DataType::Int64)],
            event_time: Some(field("t", DataType::Timestamp)),
            event_time_unit: TimeUnitSpec::Iso,
            timeless: false,
            keyed_by: None,
            group: None,
            record_bytes_max: 150,
            depth_max: 64,
        }
    }

    /// Numbers of records; past the known ones a null value, a bad byte or a key that is no text.
    fn raw_of(numbers: &[usize]) -> RawBatch {
        let mut raw = RawBatch::new(0, "t".into(), numbers.len(), 0);
        for (offset, number) in numbers.iter().enumerate() {
            let value = match RECORDS.get(*number) {
                Some(record) => Some(record.as_bytes()),
                None if *number == RECORDS.len() => None,
                None if *number == RECORDS.len() + 2 => Some(&b"{\"cut\":\"\xc3"[..]),
                None if *number == RECORDS.len() + 3 => Some(&b"\xa9\"}"[..]),
                None if *number == RECORDS.len() + 1 => Some(&b"{\"t\":\"\xff\"}"[..]),
                None => Some(RECORDS[0].as_bytes()),
            };
            raw.push(value, offset as i64, None).expect("small");
            raw.push_key(Some(if *number == RECORDS.len() + 4 { b"\xff" } else { b"key" }));
        }
        raw.seal();
        raw
    }

    proptest! {
        #[test]
        fn a_block_is_what_its_records_are_one_by_one(
            mostly in 0..3_usize,
            others in proptest::collection::vec((0..RECORDS.len() + 5, any::<prop::sample::Index>()), 0..12),
        ) {
            let mut numbers = vec![mostly; 40];
            for (number, place) in others {
                numbers[place.index(40)] = number;
            }
            numbers.extend([RECORDS.len() + 2, RECORDS.len() + 3]);
            let raw = raw_of(&numbers);
            let single = Decoder::with_kernel(plan(), Kernel::Portable);
            let mut search = single.new_search();
            let mut expected = single.empty_batch();
            (0..raw.len()).for_each(|row| single.decode_row(&raw, row, &mut search, &mut expected));
            for kernel in Kernel::available() {
                let decoder = Decoder::with_kernel(plan(), kernel);
                for _ in 0..2 {
                    let found = decoder.decode(&raw, 0..raw.len());
                    prop_assert_eq!(&found.columns, &expected.columns);
                    prop_assert_eq!(&found.event_times_ms, &expected.event_times_ms);
                    prop_assert_eq!(&found.raw_rows, &expected.raw_rows);
                    prop_assert_eq!(&found.rejects, &expected.rejects);
                    prop_assert_eq!(&found.tombstones, &expected.tombstones);
                }
            }
        }
    }
}
