//! Texts and bytes of a column, end to end.
//!
//! `batch.rs` makes columns of them; keys of groups and of tables are kept this way too. Invariant: ends never fall, and
//! none is beyond [`BYTES_MAX`].

use crate::error::{Error, ErrorKind};

/// Most bytes of all values of a [`Bytes`] together: ends are `int32` in Arrow's layout.
pub const BYTES_MAX: usize = i32::MAX as usize;

/// Variable-length values end to end, with the end of each: at most [`BYTES_MAX`] bytes.
///
/// # Panics
/// Whatever appends a value that does not fit, with an [`Error`] of kind [`ErrorKind::Limit`]. Who fills a batch bounds it far
/// below that; so there is no `Result` to look at for each value, and no end is ever wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes {
    ends: Vec<u32>,
    data: Vec<u8>,
}

impl Bytes {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Makes room for `rows` more values, of `bytes` bytes together.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.ends.reserve(rows);
        self.data.reserve(bytes);
    }

    /// Appends one value.
    pub fn push(&mut self, value: &[u8]) {
        self.ends.push(end_at(self.data.len() + value.len()));
        self.data.extend_from_slice(value);
    }

    /// Appends the first `len` bytes of `chunk`, all of whose bytes may be read: a copy of fixed size
    /// is several times faster than a short one of any size.
    #[inline]
    pub fn push_chunk(&mut self, chunk: &[u8; 64], len: usize) {
        let end = self.data.len() + len;
        self.ends.push(end_at(end));
        self.data.extend_from_slice(chunk);
        self.data.truncate(end);
    }

    /// Appends one value written by `fill` at the end of the data; gives its length.
    #[inline]
    pub fn push_with(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.data.len();
        fill(&mut self.data);
        self.ends.push(end_at(self.data.len()));
        self.data.len() - start
    }

    /// Value `row`.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.data[start..self.ends[row] as usize]
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            self.ends.truncate(len);
            self.data.truncate(self.ends.last().map_or(0, |end| *end as usize));
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.data.len() + 4 * self.ends.len()
    }

    /// One past the last byte of each value in [`data`](Self::data).
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// All values' bytes, end to end.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Values in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.get(row))
    }
}

/// The end of a value that ends `len` bytes behind the start of the first.
#[inline]
fn end_at(len: usize) -> u32 {
    if len > BYTES_MAX {
        too_many_bytes();
    }
    len as u32
}

#[cold]
fn too_many_bytes() -> ! {
    let message = format!(
        "a text column of one batch would take more than {BYTES_MAX} bytes, the most that Arrow can count; push fewer \
         records at a time, or make the texts shorter that an expression, a list or a join repeats"
    );
    std::panic::panic_any(Error::new(ErrorKind::Limit, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn values_that_do_not_fit_are_an_error_and_leave_those_before() {
        let mut texts = Bytes { ends: Vec::new(), data: vec![0; BYTES_MAX + 1] };
        texts.data.truncate(BYTES_MAX - 2);
        texts.ends.push(BYTES_MAX as u32 - 2);
        texts.push(b"ab");
        let pushes: [fn(&mut Bytes); 3] = [
            |texts| texts.push(b"c"),
            |texts| texts.push_chunk(&[b'c'; 64], 1),
            |texts| _ = texts.push_with(|out| out.push(b'c')),
        ];
        for push in pushes {
            let panic = catch_unwind(AssertUnwindSafe(|| push(&mut texts))).expect_err("one byte too many");
            let error = panic.downcast_ref::<Error>().expect("an error of the engine");
            assert_eq!(error.kind, ErrorKind::Limit);
            assert!(error.message.contains("more than 2147483647 bytes"), "{error}");
            assert_eq!((texts.len(), texts.get(1)), (2, &b"ab"[..]));
        }
    }
}
