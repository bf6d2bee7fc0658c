//! The byte format of saved state: fixed-width little-endian integers, varints, length-prefixed bytes.
//!
//! `state`, `window` and `dedupe` write with [`Write`] and read back with [`Reader`]. Invariant: a
//! reader never reads past its slice and never allocates more than the slice holds; damage is a
//! [`Error::state`](crate::error::Error::state), never a panic.

use crate::error::{Error, Result};

/// Appends values to a byte buffer.
pub trait Write {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// LEB128, 1 to 10 bytes.
    fn put_varint(&mut self, value: u64);
    /// Eight bytes.
    fn put_u64(&mut self, value: u64);
    /// Eight bytes.
    fn put_i64(&mut self, value: i64);
    /// Sixteen bytes.
    fn put_i128(&mut self, value: i128);
    /// The length as a varint, then the bytes.
    fn put_bytes(&mut self, value: &[u8]);
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i128(&mut self, value: i128) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }
}

/// Reads values from the front of a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.rest.len() {
            return Err(Error::state(format!(
                "saved state ends {} bytes too early; it was cut or overwritten",
                len - self.rest.len()
            )));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returned N bytes"))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// LEB128.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::state("saved state holds a number longer than 64 bits; it was overwritten"))
    }

    /// A varint that counts things of at least `item_bytes` bytes each that must follow.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize> {
        let count = self.varint()?;
        if count > (self.rest.len() / item_bytes.max(1)) as u64 {
            return Err(Error::state(format!("saved state claims {count} entries, more than its bytes can hold")));
        }
        Ok(count as usize)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes.
    pub fn i128(&mut self) -> Result<i128> {
        Ok(i128::from_le_bytes(self.array()?))
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// Checks that everything was read.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::state(format!("saved state has {} bytes too many", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(number in any::<u64>(), signed in any::<i64>(), big in any::<i128>(), bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            out.put_varint(number);
            out.put_i64(signed);
            out.put_i128(big);
            out.put_bytes(&bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint().expect("varint"), number);
            prop_assert_eq!(reader.i64().expect("i64"), signed);
            prop_assert_eq!(reader.i128().expect("i128"), big);
            prop_assert_eq!(reader.bytes().expect("bytes"), &bytes[..]);
            reader.finish().expect("nothing left");
        }

        #[test]
        fn damage_is_an_error_and_not_a_panic(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while reader.remaining() > 0 {
                if reader.bytes().is_err() || reader.varint().is_err() {
                    break;
                }
            }
        }
    }
}
