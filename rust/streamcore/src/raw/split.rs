//! Two batches of one, over the same bytes.
//!
//! Who fetched more records than are wanted at once hands them out in pieces. Invariant: together both have every record of the
//! batch, in order, and no byte was copied but those of keys.

use super::RawBatch;
use crate::batch::Bytes;

impl RawBatch {
    /// Takes the first `len` records out. The batch was sealed; both are.
    #[must_use]
    pub fn split_first(&mut self, len: usize) -> Self {
        let len = len.min(self.len());
        let behind = self.faults.partition_point(|(row, _)| (*row as usize) < len);
        let mut faults = self.faults.split_off(behind);
        for (row, _) in &mut faults {
            *row -= len as u32;
        }
        let (first_keys, keys) = split_keys(&self.keys, len);
        self.keys = keys;
        Self {
            lane: self.lane,
            input: self.input,
            topic: self.topic.clone(),
            data: self.data.share(),
            values: split(&mut self.values, len),
            offsets: split(&mut self.offsets, len),
            timestamps_ms: split(&mut self.timestamps_ms, len),
            keys: first_keys,
            key_present: split(&mut self.key_present, len),
            headers: split(&mut self.headers, len),
            faults: std::mem::replace(&mut self.faults, faults),
            record_bytes_max: self.record_bytes_max,
        }
    }
}

/// The first `len` elements; those behind stay.
fn split<T>(column: &mut Vec<T>, len: usize) -> Vec<T> {
    let rest = column.split_off(len.min(column.len()));
    std::mem::replace(column, rest)
}

fn split_keys(keys: &Bytes, len: usize) -> (Bytes, Bytes) {
    let (mut first, mut rest) = (Bytes::default(), Bytes::default());
    for (row, key) in keys.iter().enumerate() {
        if row < len { first.push(key) } else { rest.push(key) }
    }
    (first, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_have_the_records_of_the_whole() {
        let mut batch = RawBatch::new(3, "t".into(), 4, 0).within(Some(4));
        batch.input = 1;
        for (row, value) in [Some(&b"{}"[..]), None, Some(b"too long"), Some(b"[]")].into_iter().enumerate() {
            batch.push(value, 10 + 2 * row as i64, Some(row as i64)).expect("small");
            batch.push_key((row > 0).then_some(b"key"));
            batch.push_headers(vec![("h".to_owned(), None); row]);
        }
        batch.seal();
        for len in 0..=5 {
            let (whole, mut rest) = (batch.clone(), batch.clone());
            let first = rest.split_first(len);
            assert_eq!((first.len(), rest.len()), (len.min(4), 4 - len.min(4)));
            for row in 0..whole.len() {
                let (part, at) = if row < first.len() { (&first, row) } else { (&rest, row - first.len()) };
                assert_eq!(format!("{:?}", part.record(at)), format!("{:?}", whole.record(row)));
                assert_eq!(part.fault(at), whole.fault(row));
                assert_eq!(part.lane_id(), whole.lane_id());
            }
            let padded = |part: &RawBatch| part.is_empty() || part.padded_bytes(0..part.len()).is_some();
            assert!(padded(&first) && padded(&rest));
        }
    }

    #[test]
    fn what_a_batch_does_not_have_its_parts_do_not_have() {
        let mut rest = RawBatch::from_lines(0, "f".into(), b"1\n2\n3".to_vec().into(), 0, None).expect("small");
        rest.seal();
        let first = rest.split_first(2);
        assert_eq!((first.value(1), rest.value(0), rest.offset(0)), (Some(&b"2"[..]), Some(&b"3"[..]), 4));
        assert!(!first.has_timestamps() && !first.has_headers() && first.key(0).is_none());
    }
}
