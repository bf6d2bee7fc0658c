//! Many records at once: all are located first, side by side where they share a layout, then each
//! column is filled for all of them.
//!
//! What is refused by its bytes alone leaves on the way; where a good record's value does not fit its
//! column, the block is left as it was and `record.rs` decodes it row by row. Invariant: the outcome
//! is that of `record.rs` for every row.

use super::convert::push_value;
use super::json::Located;
use super::json::kernel::padded::Padded;
use super::json::layouts::GROUP;
use super::json::scan::Kind;
use super::{Decoder, Search, truncate};
use crate::batch::{Batch, Column, DataType, Values};
use crate::raw::RawBatch;
use crate::spec::FormatSpec;
use std::ops::Range;

/// A record of a block: its row in the raw batch and its bytes.
type Entry<'r> = (u32, Padded<'r>);

impl Decoder {
    /// Decodes the records `rows`, or changes nothing and returns false.
    pub(super) fn decode_block(
        &self,
        raw: &RawBatch,
        rows: Range<usize>,
        valid_utf8: bool,
        search: &mut Search,
        batch: &mut Batch,
    ) -> bool {
        if self.plan.format != FormatSpec::Json {
            return false;
        }
        let before = (batch.len(), batch.rejects.len(), batch.tombstones.len());
        let filled = self.entries(raw, rows, batch).and_then(|entries| {
            let entries = self.locate_all(entries, valid_utf8, search, batch);
            self.fill(raw, &entries, search, batch)
        });
        if filled.is_none() {
            truncate(batch, before.0);
            batch.rejects.truncate(before.1);
            batch.tombstones.truncate(before.2);
        }
        filled.is_some()
    }

    /// The records that have a value of an allowed size; `None` where there is no padding behind one.
    fn entries<'r>(&self, raw: &'r RawBatch, rows: Range<usize>, batch: &mut Batch) -> Option<Vec<Entry<'r>>> {
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let Some((padded, len)) = raw.padded_value(row) else {
                batch.tombstones.push(row as u32);
                continue;
            };
            match self.check_size(row, len) {
                Ok(()) => entries.push((row as u32, Padded::new(padded, len)?)),
                Err(reject) => batch.rejects.push(reject),
            }
        }
        Some(entries)
    }

    /// Locates the wanted fields of all entries; gives those that are good, whose fields are in
    /// `search.found` one after the other.
    fn locate_all<'r>(
        &self,
        mut entries: Vec<Entry<'r>>,
        valid_utf8: bool,
        search: &mut Search,
        batch: &mut Batch,
    ) -> Vec<Entry<'r>> {
        let fields = self.projection.len();
        let Search { found, layouts, .. } = search;
        found.clear();
        found.resize(entries.len().max(1) * fields, None);
        let (mut next, mut good) = (0, 0);
        while next < entries.len() {
            let end = (next + GROUP).min(entries.len());
            let touched = (good + GROUP).min(entries.len()) * fields;
            if let Some(group) = entries.get(next..end).and_then(|group| group.first_chunk::<GROUP>())
                && valid_utf8
            {
                let records = group.map(|(_, record)| record);
                if layouts.locate_group(records, &mut found[good * fields..touched]) {
                    entries.copy_within(next..end, good);
                    next = end;
                    good += GROUP;
                    continue;
                }
            }
            for place in next..end {
                let (row, record) = entries[place];
                let own = &mut found[good * fields..(good + 1) * fields];
                match self.locate(row as usize, record.record(), Some(record), valid_utf8, layouts, own) {
                    Ok(()) => {
                        entries[good] = entries[place];
                        good += 1;
                    }
                    Err(reject) => batch.rejects.push(reject),
                }
            }
            next = end;
            // What those that missed had found until then.
            found[good * fields..touched].fill(None);
        }
        entries.truncate(good);
        entries
    }

    /// Appends the entries to all columns; `None`, with columns half filled, when a value does not fit.
    fn fill(&self, raw: &RawBatch, entries: &[Entry<'_>], search: &mut Search, batch: &mut Batch) -> Option<()> {
        let fields = self.projection.len();
        let Search { found, day, .. } = search;
        for (column, (field, place)) in batch.columns.iter_mut().zip(self.plan.fields.iter().zip(&self.places)) {
            let values = found.iter().skip(*place).step_by(fields.max(1));
            push_values(column, entries, values, &field.path)?;
        }
        let own = |place: usize| &found[place * fields..(place + 1) * fields];
        if self.keyed_by_place.is_some() {
            for (place, (row, record)) in entries.iter().enumerate() {
                self.check_key(raw, *row as usize, record.record(), own(place)).ok()?;
            }
        }
        if !self.plan.parts.is_empty() {
            for (row, _) in entries {
                self.push_parts(raw, *row as usize, batch).ok()?;
            }
        }
        batch.event_times_ms.reserve(entries.len());
        for (place, (row, record)) in entries.iter().enumerate() {
            let time_ms = self.event_time(raw, *row as usize, record.record(), own(place), day).ok()?;
            batch.event_times_ms.push(time_ms);
        }
        batch.raw_rows.extend(entries.iter().map(|(row, _)| *row));
        Some(())
    }
}

/// Appends one value of each entry.
fn push_values<'l>(
    column: &mut Column,
    entries: &[Entry<'_>],
    values: impl Iterator<Item = &'l Located>,
    path: &str,
) -> Option<()> {
    for ((_, record), value) in entries.iter().zip(values) {
        if column.data_type == DataType::String
            && column.validity.no_nulls()
            && let Values::Bytes(texts) = &mut column.values
            && let Some(value) = value.filter(|value| value.kind == Kind::Text)
            && let Some(chunk) = record.chunk(value.start as usize)
        {
            let len = (value.end - value.start) as usize;
            if len <= chunk.len() {
                texts.push_chunk(chunk, len);
            } else {
                texts.push(&record.record()[value.start as usize..value.end as usize]);
            }
        } else {
            push_value(column, record.record(), *value, path).ok()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{DecodePlan, FieldPlan};
    use super::*;
    use crate::decode::json::kernel::Kernel;
    use crate::raw::Part;
    use crate::spec::TimeUnitSpec;
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
            keyed_by: None,
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
            (0..raw.len()).for_each(|row| single.decode_row(&raw, row, false, &mut search, &mut expected));
            for kernel in Kernel::available() {
                let decoder = Decoder::with_kernel(plan(), kernel);
                for _ in 0..2 {
                    let found = decoder.decode(&raw, 0..raw.len());
                    let mut rejects = found.rejects.clone();
                    rejects.sort_by_key(|reject| reject.row);
                    prop_assert_eq!(&found.columns, &expected.columns);
                    prop_assert_eq!(&found.event_times_ms, &expected.event_times_ms);
                    prop_assert_eq!(&found.raw_rows, &expected.raw_rows);
                    prop_assert_eq!(&rejects, &expected.rejects);
                    prop_assert_eq!(&found.tombstones, &expected.tombstones);
                }
            }
        }
    }
}
