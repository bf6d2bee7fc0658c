//! The records of a set that are handed out, batch after batch.
//!
//! Part of `records.rs`, which passes over what nobody wants. Invariant: what is between two values is spaces, and so are the
//! bytes behind the last that wide loads read, as far as they are the set's.

use super::{Asked, Settings};
use crate::batch_head::Head;
use crate::error::{Fault, RecordFault};
use crate::record::{self, RECORD_BYTES_MIN};
use std::ops::Range;
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch, placed::Placed};

/// In the place of what is between values.
const BLANK: u8 = b' ';

/// What stands for no time in a record, in Kafka's words `NO_TIMESTAMP`.
const NO_TIME_MS: i64 = -1;

/// The headers of a record that has none: their number.
const NO_HEADERS: [u8; 1] = [0];

/// How many bytes between values are written at once.
const BLANKS: usize = 16;

/// Records that are handed out.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where they are: in `unpacked` if there is that, else in the set.
    placed: Placed,
    /// The records of all batches one after the other, decompressed, where some were compressed.
    unpacked: Option<Buffer>,
    /// One past the value placed last; before the first one there is nothing to be blanked.
    value_end: Option<usize>,
    /// The offset that is wanted.
    offset: i64,
    keys: bool,
    headers: bool,
}

impl Taken {
    pub(super) fn new(asked: &Asked<'_>, settings: &Settings, unpacked: Option<Buffer>) -> Self {
        Self {
            placed: Placed::new(asked.partition, asked.topic.clone(), settings.record_bytes_max),
            unpacked,
            value_end: None,
            offset: asked.offset,
            keys: settings.keys,
            headers: settings.headers,
        }
    }

    /// Makes room for so many records.
    pub(super) fn reserve(&mut self, records: usize) {
        self.placed.reserve(records);
    }

    pub(super) fn len(&self) -> usize {
        self.placed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    pub(super) const fn is_unpacked(&self) -> bool {
        self.unpacked.is_some()
    }

    pub(super) fn truncate_from(&mut self, offset: i64) {
        self.placed.truncate_from(offset);
    }

    /// Bytes that were decompressed so far.
    pub(super) fn unpacked_bytes(&self) -> usize {
        self.unpacked.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// Takes the records of the batch at `at` of the set, all or none, and says how many were in front of the offset that is wanted.
    pub(super) fn batch(
        &mut self,
        set: &mut [u8],
        at: usize,
        head: &Head,
        unpack: impl FnOnce(&[u8], &mut Buffer) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let (len, value_end) = (self.placed.len(), self.value_end);
        let Some(mut buffer) = self.unpacked.take() else {
            let taken = self.records(set, head.body(at), head);
            return taken.inspect_err(|_| self.take_back(len, value_end));
        };
        let start = buffer.len();
        let taken = unpack(&set[head.body(at)], &mut buffer).and_then(|()| {
            let body = start..buffer.len();
            self.records(&mut buffer, body, head)
        });
        if taken.is_err() {
            buffer.truncate(start);
            self.take_back(len, value_end);
        }
        self.unpacked = Some(buffer);
        taken
    }

    fn take_back(&mut self, len: usize, value_end: Option<usize>) {
        self.placed.truncate(len);
        self.value_end = value_end;
    }

    /// Takes the records in `body`, of which there is nothing else in it.
    fn records(&mut self, bytes: &mut [u8], body: Range<usize>, head: &Head) -> Result<u64, Fault> {
        let count = usize::try_from(head.count).ok().filter(|count| *count <= body.len() / RECORD_BYTES_MIN);
        let count = count.ok_or(Fault::Count { count: head.count, bytes: body.len() })?;
        self.placed.reserve(count);
        let (mut at, mut delta, mut refetched) = (body.start, -1, 0);
        for number in 1..=count {
            let fault = |fault| Fault::Record { number, fault };
            let record = record::read(&bytes[..body.end], at).map_err(fault)?;
            if record.offset_delta <= delta || record.offset_delta > head.last_offset_delta {
                return Err(fault(RecordFault::Offset));
            }
            (at, delta) = (record.end(), record.offset_delta);
            let offset = head.base_offset + i64::from(delta);
            if offset < self.offset {
                refetched += 1;
                continue;
            }
            let time_ms = if head.is_append_time() {
                head.max_timestamp_ms
            } else {
                head.base_timestamp_ms.checked_add(record.timestamp_delta_ms).ok_or(fault(RecordFault::Time))?
            };
            if self.keys {
                self.placed.push_key(record.key.clone().map(|key| &bytes[key]));
            }
            if let Some(value) = &record.value {
                if let Some(from) = self.value_end {
                    blank(bytes, from, value.start);
                }
                self.value_end = Some(value.end);
            }
            self.placed.push(record.value, offset, (time_ms != NO_TIME_MS).then_some(time_ms));
            // They are behind the value: spaces are written there with the next one.
            if self.headers && bytes[record.headers.clone()] != NO_HEADERS {
                self.headers_of(&bytes[record.headers]).map_err(fault)?;
            }
        }
        if at < body.end {
            return Err(Fault::Left { bytes: body.end - at });
        }
        Ok(refetched)
    }

    /// Copies the headers of the record that was placed last.
    #[cold]
    fn headers_of(&mut self, bytes: &[u8]) -> Result<(), RecordFault> {
        self.placed.push_headers(record::read_headers(bytes)?);
        Ok(())
    }

    /// No more comes: what follows the last value is made ready for wide loads.
    pub(super) fn finish(&mut self, set: &mut [u8]) {
        let bytes = match &mut self.unpacked {
            Some(buffer) => {
                buffer.push_bytes(&[BLANK; PADDING]);
                &mut **buffer
            }
            None => set,
        };
        if let Some(end) = self.value_end {
            let padding = end..bytes.len().min(end + PADDING);
            bytes[padding].fill(BLANK);
        }
    }

    /// The batch; `set` gives the bytes of the set.
    pub(super) fn into_raw(self, set: impl FnOnce() -> bytes::Bytes) -> streamcore::error::Result<RawBatch> {
        self.placed.within(self.unpacked.map_or_else(set, bytes::Bytes::from))
    }
}

/// Makes spaces of `from..to`: mostly the ten to thirty bytes between two values, for which two writes that overlap are enough.
#[inline]
fn blank(bytes: &mut [u8], from: usize, to: usize) {
    let gap = &mut bytes[from..to];
    if gap.len() > 2 * BLANKS {
        gap.fill(BLANK);
    } else if !blank_by::<BLANKS>(gap) && !blank_by::<{ BLANKS / 2 }>(gap) {
        gap.iter_mut().for_each(|byte| *byte = BLANK);
    }
}

/// Makes spaces of `gap`, which has at most twice `N` bytes; false where it has fewer than `N`.
#[inline]
fn blank_by<const N: usize>(gap: &mut [u8]) -> bool {
    let Some(first) = gap.first_chunk_mut::<N>() else { return false };
    *first = [BLANK; N];
    if let Some(last) = gap.last_chunk_mut::<N>() {
        *last = [BLANK; N];
    }
    true
}
