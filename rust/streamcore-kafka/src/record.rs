//! One record of a batch: where its parts are.
//!
//! `records.rs` has a whole batch read by it, record after record, once the checksum was right. Invariant: every part is within
//! the record, and the record within the bytes.

use crate::error::RecordFault;
use crate::varint::{read_i32, read_i64};
use std::ops::Range;
use streamcore::raw::Header;

/// Fewest bytes of a record: seven numbers of a byte each.
pub const RECORD_BYTES_MIN: usize = 7;

/// Fewest bytes of a header: two lengths.
const HEADER_BYTES_MIN: usize = 2;

/// The parts of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How far its offset is behind the first of the batch.
    pub offset_delta: i32,
    /// How far its time is behind that of the batch, ms.
    pub timestamp_delta_ms: i64,
    /// Where its key is; `None`: a null key.
    pub key: Option<Range<usize>>,
    /// Where its value is; `None`: a null value.
    pub value: Option<Range<usize>>,
    /// Where its headers are, their number first.
    pub headers: Range<usize>,
}

impl Record {
    /// One past its last byte.
    pub const fn end(&self) -> usize {
        self.headers.end
    }
}

/// The record that begins at `at`. Headers are not looked at.
#[inline]
pub fn read(bytes: &[u8], mut at: usize) -> Result<Record, RecordFault> {
    let len = read_i32(bytes, &mut at).ok_or(RecordFault::Cut)?;
    let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).ok_or(RecordFault::Length)?;
    let bytes = bytes.get(..end).ok_or(RecordFault::Cut)?;
    // A byte of attributes, of which none is used.
    at += 1;
    let timestamp_delta_ms = read_i64(bytes, &mut at).ok_or(RecordFault::Length)?;
    let offset_delta = read_i32(bytes, &mut at).ok_or(RecordFault::Length)?;
    let key = read_part(bytes, &mut at)?;
    let value = read_part(bytes, &mut at)?;
    // There is a number of headers at least.
    if at >= end {
        return Err(RecordFault::Length);
    }
    Ok(Record { offset_delta, timestamp_delta_ms, key, value, headers: at..end })
}

/// The part at `at` behind its length, which is negative for a null; `at` is behind it then.
#[inline]
fn read_part(bytes: &[u8], at: &mut usize) -> Result<Option<Range<usize>>, RecordFault> {
    let len = read_i32(bytes, at).ok_or(RecordFault::Length)?;
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    let start = *at;
    if len > bytes.len() - start {
        return Err(RecordFault::Length);
    }
    *at = start + len;
    Ok(Some(start..start + len))
}

/// The headers of a record. A name that is no text keeps what of it is.
pub fn read_headers(bytes: &[u8]) -> Result<Vec<Header>, RecordFault> {
    let mut at = 0;
    let count = read_i32(bytes, &mut at).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count <= (bytes.len() - at) / HEADER_BYTES_MIN).ok_or(RecordFault::Headers)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = read_part(bytes, &mut at)?.ok_or(RecordFault::Headers)?;
        let value = read_part(bytes, &mut at)?;
        let name = String::from_utf8_lossy(&bytes[name]).into_owned();
        headers.push((name, value.map(|value| bytes[value].to_vec())));
    }
    if at == bytes.len() { Ok(headers) } else { Err(RecordFault::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length 13, time +1, offset +2, key `k`, value `val`, one header `h` without a value.
    const RECORD: [u8; 14] = [26, 0, 2, 4, 2, b'k', 6, b'v', b'a', b'l', 2, 2, b'h', 1];

    #[test]
    fn the_parts_are_where_they_were_written() {
        let bytes = [&[0xff; 3], &RECORD[..], &[0xff; 3]].concat();
        let record = read(&bytes, 3).expect("a record");
        assert_eq!((record.timestamp_delta_ms, record.offset_delta, record.end()), (1, 2, 17));
        assert_eq!((record.key, record.value), (Some(8..9), Some(10..13)));
        assert_eq!(read_headers(&bytes[record.headers]), Ok(vec![("h".to_owned(), None)]));
        let nulls = read(&[12, 0, 0, 0, 1, 1, 0], 0).expect("a record");
        assert_eq!((nulls.key, nulls.value, nulls.headers), (None, None, 6..7));
        assert_eq!(read_headers(&[0]), Ok(Vec::new()));
    }

    #[test]
    fn a_record_cut_anywhere_or_with_a_wrong_length_is_refused() {
        for len in 0..RECORD.len() {
            assert_eq!(read(&RECORD[..len], 0), Err(RecordFault::Cut), "{len} bytes");
            let mut shorter = RECORD;
            shorter[0] = (len as u8).saturating_sub(1) * 2;
            let faulty = |record: Record| read_headers(&shorter[record.headers]).expect_err("headers are cut");
            let fault = read(&shorter, 0).map_or_else(|fault| fault, faulty);
            assert!(matches!(fault, RecordFault::Length | RecordFault::Headers), "{len} bytes: {fault:?}");
        }
        let mut longer = [&RECORD[..], &[0]].concat();
        longer[0] += 2;
        assert_eq!(read(&longer, 0).and_then(|record| read_headers(&longer[record.headers])), Err(RecordFault::Length));
        assert_eq!(read(&[10, 0, 0, 0, 1, 1], 0), Err(RecordFault::Length), "no number of headers");
        let negative = [1, 0, 0, 0, 1, 1, 0];
        assert_eq!(read(&negative, 0), Err(RecordFault::Length));
    }

    #[test]
    fn headers_are_counted_before_room_is_made_for_them() {
        let many = [0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert_eq!(read_headers(&many), Err(RecordFault::Headers));
        assert_eq!(read_headers(&[1]), Err(RecordFault::Headers), "a negative number");
        assert_eq!(read_headers(&[2, 1, 1]), Err(RecordFault::Headers), "a null name");
        assert_eq!(read_headers(&[2, 2, 0xff, 1]), Ok(vec![("\u{fffd}".to_owned(), None)]));
    }
}
