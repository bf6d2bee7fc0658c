//! A batch of undecoded records of one lane: bytes end to end, with positions and times.
//!
//! Sources fill it (through the binding), `decode` reads it, and refused or late records are
//! copied out of it; `raw/frames.rs` takes records that stand behind their lengths, `raw/lines.rs` finds the end of lines,
//! `raw/placed.rs` leaves values in bytes that are shared, `raw/split.rs` makes two batches of one. Invariants: offsets rise
//! strictly; the value bytes are followed by [`PADDING`] more, spaces where they are the batch's own, so that wide loads may
//! read past the last value; of a value over the limit only the beginning is in [`RawBatch::value`].

mod data;
pub mod frames;
pub mod lines;
pub mod placed;
mod split;

use crate::batch::Bytes;
use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind, Result};
use data::Data;
use lines::{BYTE_ORDER_MARK, is_blank};
use std::sync::Arc;

/// Lanes of one input, where there are several: its lanes are numbered from a multiple of it.
pub const LANES_PER_INPUT: i32 = 1 << 24;

/// Spaces behind the values.
pub const PADDING: usize = 64;

/// Most value bytes in one batch; spans are 32-bit.
pub const BATCH_BYTES_MAX: usize = (1 << 31) - 1;

/// Most bytes kept of a value that is over the limit: enough to see whose it is.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why a record cannot be used, whatever its value: that is not all here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has this many bytes, more than a record may have. [`RawBatch::value`] is its beginning.
    TooLong(u64),
    /// Its file ends within it: how many bytes it should have, where its length at least is there.
    /// [`RawBatch::value`] is what there is of it.
    Incomplete(Option<u64>),
}

/// How much is kept of a value of `len` bytes where a record has at most `record_bytes_max`: all of it, or a beginning.
#[must_use]
pub fn kept_bytes(len: u64, record_bytes_max: u64) -> usize {
    if len <= record_bytes_max { len as usize } else { record_bytes_max.min(HEAD_BYTES_MAX as u64) as usize }
}

/// One record header: name and value (`None`: a null value, which Kafka allows).
pub type Header = (String, Option<Vec<u8>>);

/// A part of a record other than the fields of its value, as expressions name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `_key`.
    Key,
    /// `_value`.
    Value,
    /// `_topic`.
    Topic,
    /// `_partition`.
    Partition,
    /// `_offset`.
    Offset,
    /// `_timestamp`: the record's own, not the event time.
    Timestamp,
    /// `_headers['name']`: the last header of that name, as text.
    Header(String),
}

/// Where a value lies in the batch's bytes; `start == u32::MAX`: a null value (tombstone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

const NULL: Span = Span { start: u32::MAX, len: 0 };

/// In the place of a record's timestamp: it has none. No record is of that time.
const NO_TIMESTAMP: i64 = i64::MIN;

/// Undecoded records of one lane, in offset order.
#[derive(Debug, Clone, Default)]
pub struct RawBatch {
    /// The partition of the input.
    pub lane: i32,
    /// Which input: 0 is the pipeline's own.
    pub input: i32,
    /// Topic, file path or name of the source, for dead letters and `_topic`.
    pub topic: Arc<str>,
    /// Value bytes, then [`PADDING`] more once sealed.
    data: Data,
    /// One span a record.
    values: Vec<Span>,
    /// Position of each record, rising.
    offsets: Vec<i64>,
    /// Record timestamps, ms since the epoch; empty when the source has none.
    timestamps_ms: Vec<i64>,
    /// Record keys with a presence flag; empty when the plan needs none.
    keys: Bytes,
    key_present: Vec<bool>,
    /// Headers of each record, up to the last that has some; empty when the plan needs none.
    headers: Vec<Vec<Header>>,
    /// Rows whose value is not all here, rising.
    faults: Vec<(u32, Fault)>,
    /// Most bytes of a value that is taken whole; `None`: any.
    record_bytes_max: Option<u64>,
}

/// The number of a lane among those of all inputs.
#[must_use]
pub const fn lane_id(input: i32, partition: i32) -> i32 {
    input * LANES_PER_INPUT + partition
}

impl RawBatch {
    /// An empty batch of `lane`, with room for `records` records of `bytes` bytes together.
    #[must_use]
    pub fn new(lane: i32, topic: Arc<str>, records: usize, bytes: usize) -> Self {
        Self {
            lane,
            topic,
            data: Data::Own(Buffer::with_capacity(bytes + PADDING)),
            values: Vec::with_capacity(records),
            offsets: Vec::with_capacity(records),
            ..Self::default()
        }
    }

    /// The lane's number among those of all inputs: that of the partition in the pipeline's own input.
    #[must_use]
    pub const fn lane_id(&self) -> i32 {
        lane_id(self.input, self.lane)
    }

    /// The same, where a value of more than `record_bytes_max` bytes is a [`Fault::TooLong`], refused when it is
    /// decoded: only its beginning is copied.
    #[must_use]
    pub fn within(mut self, record_bytes_max: Option<u64>) -> Self {
        self.record_bytes_max = record_bytes_max;
        self
    }

    /// A batch over lines already end to end in `data`, split at `\n` (a trailing `\r` is dropped, blank lines are
    /// skipped); the offset of a line is `base` plus its first byte's place. What separates lines becomes spaces, so that
    /// the decoder finds no control characters between them, and so does a byte-order mark at the start of the file, where
    /// `base` is 0. See [`within`](Self::within) for `record_bytes_max`.
    pub fn from_lines(
        lane: i32,
        topic: Arc<str>,
        mut data: Buffer,
        base: i64,
        record_bytes_max: Option<u64>,
    ) -> Result<Self> {
        check_len(data.len())?;
        let estimate = data.len() / 128 + 1;
        let mut batch = Self::new(lane, topic, estimate, 0).within(record_bytes_max);
        let mut start = 0;
        if base == 0 && data.starts_with(BYTE_ORDER_MARK) {
            start = BYTE_ORDER_MARK.len();
            data[..start].fill(b' ');
        }
        while start < data.len() {
            let rest = &mut data[start..];
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let mut len = end;
            if let Some(newline) = rest.get_mut(end) {
                *newline = b' ';
            }
            if let Some(last @ b'\r') = rest[..end].last_mut() {
                *last = b' ';
                len -= 1;
            }
            if !is_blank(&rest[..len]) {
                batch.place_value(start, len, base + start as i64);
            }
            start += end + 1;
        }
        batch.data = Data::Own(data);
        Ok(batch)
    }

    /// Appends a record. `timestamp_ms`: the record's own time, where it has one.
    pub fn push(&mut self, value: Option<&[u8]>, offset: i64, timestamp_ms: Option<i64>) -> Result<()> {
        let span = match value {
            None => NULL,
            Some(value) => {
                let kept = self.admit(value.len());
                self.copy(&value[..kept])?
            }
        };
        self.values.push(span);
        self.offsets.push(offset);
        if timestamp_ms.is_some() || !self.timestamps_ms.is_empty() {
            self.timestamps_ms.resize(self.values.len() - 1, NO_TIMESTAMP);
            self.timestamps_ms.push(timestamp_ms.unwrap_or(NO_TIMESTAMP));
        }
        Ok(())
    }

    /// Appends a record that cannot be used, with what is kept of its value.
    pub fn push_fault(&mut self, kept: &[u8], fault: Fault, offset: i64) -> Result<()> {
        self.faults.push((self.values.len() as u32, fault));
        let span = self.copy(kept)?;
        self.values.push(span);
        self.offsets.push(offset);
        Ok(())
    }

    /// Appends a record whose value is in the data already.
    #[inline]
    fn place_value(&mut self, start: usize, len: usize, offset: i64) {
        let kept = self.admit(len);
        self.values.push(Span { start: start as u32, len: kept as u32 });
        self.offsets.push(offset);
    }

    /// Appends a record that cannot be used, what is kept of its value being in the data already.
    fn place_fault(&mut self, start: usize, kept: usize, fault: Fault, offset: i64) {
        self.faults.push((self.values.len() as u32, fault));
        self.values.push(Span { start: start as u32, len: kept as u32 });
        self.offsets.push(offset);
    }

    /// How much is kept of the next value, of `len` bytes: where that is not all of it, it has a fault.
    #[inline]
    fn admit(&mut self, len: usize) -> usize {
        match self.record_bytes_max {
            Some(record_bytes_max) if len as u64 > record_bytes_max => {
                self.faults.push((self.values.len() as u32, Fault::TooLong(len as u64)));
                kept_bytes(len as u64, record_bytes_max)
            }
            _ => len,
        }
    }

    fn copy(&mut self, value: &[u8]) -> Result<Span> {
        let Data::Own(data) = &mut self.data else { return self.copy_slow(value) };
        check_len(data.len() + value.len())?;
        let start = data.len() as u32;
        data.push_bytes(value);
        Ok(Span { start, len: value.len() as u32 })
    }

    /// The same for a batch of shared bytes, which has its own from then on.
    #[cold]
    fn copy_slow(&mut self, value: &[u8]) -> Result<Span> {
        self.data.own();
        self.copy(value)
    }

    /// Adds the key of the record just pushed. Once called, it is called for every record.
    pub fn push_key(&mut self, key: Option<&[u8]>) {
        self.keys.push(key.unwrap_or_default());
        self.key_present.push(key.is_some());
    }

    /// Adds the headers of the record just pushed. Records without any take no memory for them until one has some.
    #[inline]
    pub fn push_headers(&mut self, headers: Vec<Header>) {
        if !headers.is_empty() {
            self.headers.resize_with(self.len().saturating_sub(1), Vec::new);
            self.headers.push(headers);
        }
    }

    /// Adds the padding. The binding calls it once, when the batch is complete. Shared bytes have theirs.
    pub fn seal(&mut self) {
        if let Data::Own(data) = &mut self.data {
            data.push_bytes(&[b' '; PADDING]);
        }
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes held: of the values, of what separates them, and of the padding.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the keys that were copied.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.keys.byte_len()
    }

    /// Value of record `row`; `None` is a tombstone.
    #[must_use]
    #[inline]
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let span = self.values[row];
        (span != NULL).then(|| &self.data[span.start as usize..(span.start + span.len) as usize])
    }

    /// Why record `row` cannot be used whatever its value, if so.
    #[must_use]
    #[inline]
    pub fn fault(&self, row: usize) -> Option<Fault> {
        if self.faults.is_empty() {
            return None;
        }
        let place = self.faults.binary_search_by_key(&(row as u32), |(row, _)| *row).ok()?;
        Some(self.faults[place].1)
    }

    /// Where the values of `rows` are among those of the batch; `None`: a null value.
    #[inline]
    #[must_use]
    pub fn places(
        &self,
        rows: std::ops::Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Option<std::ops::Range<usize>>> {
        let place = |span: &Span| (*span != NULL).then(|| span.start as usize..(span.start + span.len) as usize);
        self.values[rows].iter().map(place)
    }

    /// The bytes from the first to the last value of `rows` and [`PADDING`] more, and where they begin
    /// among those of the batch; `None` where there is no value or the batch was not sealed.
    #[must_use]
    pub fn padded_bytes(&self, rows: std::ops::Range<usize>) -> Option<(&[u8], usize)> {
        let mut present = self.places(rows).flatten();
        let first = present.next()?;
        let (start, end) = (first.start, present.next_back().unwrap_or(first).end);
        Some((self.data.get(start..end + PADDING)?, start))
    }

    /// The first of `rows`, and those after it whose values begin within `bytes` of its value.
    #[must_use]
    pub fn rows_within(&self, rows: std::ops::Range<usize>, bytes: usize) -> std::ops::Range<usize> {
        let mut end = None;
        // Null values are nowhere, and go with those before them.
        let within = self.values[rows.clone()].iter().take_while(|span| {
            **span == NULL || (span.start as usize) < *end.get_or_insert(span.start as usize + bytes.max(1))
        });
        rows.start..rows.start + within.count()
    }

    /// Position of record `row`.
    #[must_use]
    pub fn offset(&self, row: usize) -> i64 {
        self.offsets[row]
    }

    /// Timestamp of record `row`, ms.
    #[must_use]
    pub fn timestamp_ms(&self, row: usize) -> Option<i64> {
        self.timestamps_ms.get(row).copied().filter(|time| *time != NO_TIMESTAMP)
    }

    /// True when some record has a timestamp.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        !self.timestamps_ms.is_empty()
    }

    /// Key of record `row`; `None` is a null key, or that keys were not taken along.
    #[must_use]
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.key_present.get(row).copied().unwrap_or(false).then(|| self.keys.get(row))
    }

    /// True when headers were taken along and some record has some.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Headers of record `row`.
    #[must_use]
    pub fn headers(&self, row: usize) -> &[Header] {
        self.headers.get(row).map_or(&[], Vec::as_slice)
    }

    /// Record `row` with all its parts.
    #[must_use]
    pub fn record(&self, row: usize) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: self.lane,
            offset: self.offset(row),
            timestamp_ms: self.timestamp_ms(row),
            key: self.key(row),
            value: self.value(row),
            headers: self.headers(row),
        }
    }
}

fn check_len(bytes: usize) -> Result<()> {
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a batch holds at most {BATCH_BYTES_MAX} bytes of values; poll fewer records at a time"),
        ));
    }
    Ok(())
}

/// One record of a batch, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Topic, path or source name.
    pub topic: &'a str,
    /// Partition (the lane).
    pub partition: i32,
    /// Position.
    pub offset: i64,
    /// Record timestamp, ms.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [Header],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_placed() {
        let batch =
            RawBatch::from_lines(0, "f".into(), b"{}\r\n\n{\"a\":1}".to_vec().into(), 100, None).expect("small");
        assert_eq!(batch.len(), 2);
        assert_eq!((batch.value(0), batch.offset(0)), (Some(&b"{}"[..]), 100));
        assert_eq!((batch.value(1), batch.offset(1)), (Some(&b"{\"a\":1}"[..]), 105));
    }

    #[test]
    fn a_null_value_is_not_an_empty_one() {
        let mut batch = RawBatch::new(3, "t".into(), 2, 0);
        batch.push(None, 1, Some(5)).expect("small");
        batch.push(Some(b""), 2, Some(6)).expect("small");
        assert_eq!(batch.value(0), None);
        assert_eq!(batch.value(1), Some(&b""[..]));
        assert_eq!(batch.timestamp_ms(1), Some(6));
    }

    #[test]
    fn of_a_value_over_the_limit_only_the_beginning_is_kept() {
        let mut pushed = RawBatch::new(0, "t".into(), 3, 0).within(Some(4));
        for (offset, value) in [&b"1234"[..], b"12345", b""].into_iter().enumerate() {
            pushed.push(Some(value), offset as i64, None).expect("small");
        }
        let lines = b"1234\r\n12345\r\n1".to_vec().into();
        let lines = RawBatch::from_lines(0, "f".into(), lines, 0, Some(4)).expect("small");
        for batch in [&pushed, &lines] {
            assert_eq!((batch.value(0), batch.value(1)), (Some(&b"1234"[..]), Some(&b"1234"[..])));
            assert_eq!([0, 1, 2].map(|row| batch.fault(row)), [None, Some(Fault::TooLong(5)), None]);
        }
        assert_eq!(lines.offset(2), 13);
        let (long, limit) = (vec![b'x'; HEAD_BYTES_MAX + 2], HEAD_BYTES_MAX as u64 + 1);
        let mut batch = RawBatch::new(0, "t".into(), 1, 0).within(Some(limit));
        batch.push(Some(&long), 0, None).expect("small");
        assert_eq!(batch.byte_len(), HEAD_BYTES_MAX);
    }

    #[test]
    fn rows_within_some_bytes_are_those_also_among_null_values() {
        let values: [Option<&[u8]>; 8] =
            [None, Some(b"aaaa"), None, Some(b"bbbb"), Some(b"c"), None, Some(b"dddddddddd"), None];
        let mut batch = RawBatch::new(0, "t".into(), values.len(), 0);
        for (offset, value) in values.into_iter().enumerate() {
            batch.push(value, offset as i64, None).expect("small");
        }
        let (mut rows, mut blocks) = (0..values.len(), Vec::new());
        while !rows.is_empty() {
            let block = batch.rows_within(rows.clone(), 5);
            rows.start = block.end;
            blocks.push(block);
        }
        assert_eq!(blocks, [0..4, 4..8]);
    }

    #[test]
    fn some_records_may_lack_a_timestamp() {
        let mut batch = RawBatch::new(0, "t".into(), 3, 0);
        for (offset, time) in [(0, None), (1, Some(7)), (2, None)] {
            batch.push(Some(b"x"), offset, time).expect("small");
        }
        assert_eq!([0, 1, 2].map(|row| batch.timestamp_ms(row)), [None, Some(7), None]);
    }
}
