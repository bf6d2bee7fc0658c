//! Records whose values are left where they are: in bytes that were fetched, which several batches share.
//!
//! Who walks a fetched frame says where each value lies, and gives the bytes once all are known; `decode` then reads what it
//! reads of any batch. The last batch that is dropped gives them back, those of a [`Buffer`](crate::buffer::Buffer) to the
//! buffers that are used again. Invariant: no batch is made of places that are not in its bytes, with [`PADDING`] bytes behind.

use super::data::Data;
use super::{BATCH_BYTES_MAX, Header, NO_TIMESTAMP, NULL, PADDING, RawBatch, check_len};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// Records of one lane whose bytes are still to be given.
#[derive(Debug)]
pub struct Placed {
    /// All but the bytes. Each record has an entry among the timestamps.
    batch: RawBatch,
    /// One past the last byte of a value.
    end: usize,
    /// True when some record has a timestamp.
    timed: bool,
}

impl Placed {
    /// None yet. A value of more than `record_bytes_max` bytes is a [`Fault::TooLong`](super::Fault::TooLong), of which
    /// [`RawBatch::value`] is the beginning.
    #[must_use]
    pub fn new(lane: i32, topic: Arc<str>, record_bytes_max: Option<u64>) -> Self {
        let batch = RawBatch { lane, topic, ..RawBatch::default() }.within(record_bytes_max);
        Self { batch, end: 0, timed: false }
    }

    /// Makes room for `records` more.
    pub fn reserve(&mut self, records: usize) {
        self.batch.values.reserve(records);
        self.batch.offsets.reserve(records);
        self.batch.timestamps_ms.reserve(records);
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// True when there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Appends a record with its value at `place`; `None`: a null value. Offsets rise.
    #[expect(clippy::inline_always, reason = "a tenth of the walk went into calling it")]
    #[inline(always)]
    pub fn push(&mut self, place: Option<Range<usize>>, offset: i64, timestamp_ms: Option<i64>) {
        if let Some(place) = place {
            self.end = self.end.max(place.end);
            self.batch.place_value(place.start, place.end.saturating_sub(place.start), offset);
        } else {
            self.batch.values.push(NULL);
            self.batch.offsets.push(offset);
        }
        self.timed |= timestamp_ms.is_some();
        self.batch.timestamps_ms.push(timestamp_ms.unwrap_or(NO_TIMESTAMP));
    }

    /// Adds the key of the record just placed. Once called, it is called for every record.
    pub fn push_key(&mut self, key: Option<&[u8]>) {
        self.batch.push_key(key);
    }

    /// Adds the headers of the record just placed.
    #[inline]
    pub fn push_headers(&mut self, headers: Vec<Header>) {
        self.batch.push_headers(headers);
    }

    /// Shortens to the first `len` records.
    pub fn truncate(&mut self, len: usize) {
        let batch = &mut self.batch;
        batch.values.truncate(len);
        batch.offsets.truncate(len);
        batch.timestamps_ms.truncate(len);
        batch.keys.truncate(len.min(batch.key_present.len()));
        batch.key_present.truncate(len);
        batch.headers.truncate(len);
        batch.faults.retain(|(row, _)| (*row as usize) < len);
        // The bytes of those that are gone may be gone with them.
        let ends = batch.values.iter().filter(|span| **span != NULL).map(|span| (span.start + span.len) as usize);
        self.end = ends.max().unwrap_or(0);
        // `timed` may be of records that are gone: columns of no time are kept then.
    }

    /// Shortens to the records in front of `offset`.
    pub fn truncate_from(&mut self, offset: i64) {
        self.truncate(self.batch.offsets.partition_point(|before| *before < offset));
    }

    /// The batch, with values that lie in `bytes`: what is between them must be text, as the decoder looks at many records at
    /// once, and [`PADDING`] bytes of any kind are behind the last.
    pub fn within(self, bytes: bytes::Bytes) -> Result<RawBatch> {
        let Self { mut batch, end, timed } = self;
        check_len(bytes.len())?;
        if end > BATCH_BYTES_MAX || bytes.len() < end + PADDING {
            let (len, message) = (bytes.len(), "values lie beyond the bytes they were fetched with");
            return Err(Error::new(ErrorKind::Internal, format!("{message}: they end at {end}, the bytes at {len}")));
        }
        if !timed {
            batch.timestamps_ms.clear();
        }
        batch.data = Data::Shared(bytes);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::raw::Fault;

    /// The bytes of a frame with what `values` are, a byte between each, and where those are.
    fn frame(values: &[&str]) -> (Buffer, Vec<Range<usize>>) {
        let (mut frame, mut places) = (Buffer::default(), Vec::new());
        for value in values {
            frame.push_bytes(b" ");
            places.push(frame.len()..frame.len() + value.len());
            frame.push_bytes(value.as_bytes());
        }
        frame.push_bytes(&[b' '; PADDING]);
        (frame, places)
    }

    #[test]
    fn records_in_shared_bytes_are_those_of_a_batch_that_copied_them() {
        let values = ["{\"a\":1}", "", "a value over the limit", "{}"];
        let (frame, places) = frame(&values);
        let mut placed = Placed::new(3, "t".into(), Some(10));
        let mut copied = RawBatch::new(3, "t".into(), 5, 0).within(Some(10));
        for (row, (place, value)) in
            places.into_iter().map(Some).zip(values.map(Some)).chain([(None, None)]).enumerate()
        {
            let (offset, time_ms) = (10 + 2 * row as i64, (row != 1).then_some(row as i64));
            placed.push(place, offset, time_ms);
            copied.push(value.map(str::as_bytes), offset, time_ms).expect("small");
            let (key, header) = ((row > 0).then_some(&b"key"[..]), ("h".to_owned(), None));
            placed.push_key(key);
            copied.push_key(key);
            placed.push_headers(vec![header.clone(); row]);
            copied.push_headers(vec![header; row]);
        }
        copied.seal();
        let bytes: bytes::Bytes = frame.into();
        let placed = placed.within(bytes.clone()).expect("padded");
        assert_eq!(placed.len(), copied.len());
        for row in 0..placed.len() {
            assert_eq!(format!("{:?}", placed.record(row)), format!("{:?}", copied.record(row)));
            assert_eq!(placed.fault(row), copied.fault(row));
        }
        assert_eq!(placed.fault(2), Some(Fault::TooLong(22)));
        assert_eq!(placed.value(0).map(<[u8]>::as_ptr), Some(bytes[1..].as_ptr()), "no byte was copied");
        assert!(placed.padded_bytes(0..placed.len()).is_some());
    }

    #[test]
    fn bytes_that_end_before_the_padding_are_refused() {
        let (frame, places) = frame(&["{}", "[]"]);
        let bytes: bytes::Bytes = frame.into();
        let place = |places: &[Range<usize>]| {
            let mut placed = Placed::new(0, "t".into(), None);
            for (offset, place) in places.iter().enumerate() {
                placed.push(Some(place.clone()), offset as i64, None);
            }
            placed
        };
        assert!(place(&places).within(bytes.clone()).is_ok());
        let error = place(&places).within(bytes.slice(..bytes.len() - 1)).expect_err("a byte short");
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(place(&places[..1]).within(bytes.slice(..bytes.len() - 1)).is_ok());
        assert!(place(&[]).within(bytes::Bytes::from_static(&[0; PADDING])).is_ok());
    }

    #[test]
    fn records_taken_back_leave_nothing_behind() {
        let (frame, places) = frame(&["far too long", "{}", "too long"]);
        let mut placed = Placed::new(0, "t".into(), Some(4));
        for (offset, place) in places.iter().enumerate() {
            placed.push(Some(place.clone()), 2 * offset as i64, None);
            placed.push_key(Some(b"k"));
            placed.push_headers(vec![("h".into(), None)]);
        }
        placed.truncate_from(3);
        assert_eq!(placed.len(), 2, "those at 0 and 2");
        placed.truncate_from(1);
        placed.push(None, 7, Some(5));
        placed.push_key(None);
        placed.push_headers(Vec::new());
        let batch = placed.within(frame.into()).expect("padded");
        assert_eq!((batch.len(), batch.offset(1), batch.timestamp_ms(1)), (2, 7, Some(5)));
        assert_eq!((batch.key(0), batch.key(1), batch.headers(1)), (Some(&b"k"[..]), None, &[][..]));
        assert_eq!([0, 1].map(|row| batch.fault(row)), [Some(Fault::TooLong(12)), None]);
    }

    #[test]
    fn records_taken_back_need_no_bytes() {
        let (frame, places) = frame(&["{}", "decompressed, and then not to be read"]);
        let bytes: bytes::Bytes = frame.into();
        let mut placed = Placed::new(0, "t".into(), None);
        for (offset, place) in places.iter().enumerate() {
            placed.push(Some(place.clone()), offset as i64, None);
        }
        placed.truncate(1);
        let kept = bytes.slice(..places[0].end + PADDING);
        let batch = placed.within(kept).expect("padded");
        assert_eq!((batch.len(), batch.value(0)), (1, Some(&b"{}"[..])));
    }

    #[test]
    fn who_pushes_to_a_batch_of_shared_bytes_changes_only_its_own() {
        let (frame, places) = frame(&["{}"]);
        let mut placed = Placed::new(0, "t".into(), None);
        placed.push(Some(places[0].clone()), 1, None);
        let mut batch = placed.within(frame.into()).expect("padded");
        let before = batch.clone();
        batch.seal();
        assert_eq!(batch.byte_len(), before.byte_len(), "it has its padding");
        batch.push(Some(b"[]"), 2, None).expect("small");
        batch.seal();
        assert_eq!((batch.value(0), batch.value(1)), (Some(&b"{}"[..]), Some(&b"[]"[..])));
        assert_eq!((before.len(), before.value(0)), (1, Some(&b"{}"[..])));
    }
}
