//! Where the value bytes of a batch lie: in a buffer of its own, or in bytes that others hold too.
//!
//! `raw.rs` reads both in one way and writes into the first alone; `raw/placed.rs` makes the second. Invariant: shared bytes
//! never change. Who writes all the same gets a copy of them.

use crate::buffer::Buffer;
use std::ops::Deref;

/// The value bytes of a batch.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Its own.
    Own(Buffer),
    /// Those of a frame that was fetched, or part of them.
    Shared(bytes::Bytes),
}

impl Data {
    /// Makes shared bytes its own, by a copy.
    pub(super) fn own(&mut self) {
        if let Self::Shared(bytes) = self {
            let mut copy = Buffer::with_capacity(bytes.len());
            copy.push_bytes(bytes);
            *self = Self::Own(copy);
        }
    }

    /// The same bytes for another batch: its own become shared.
    pub(super) fn share(&mut self) -> Self {
        let bytes = match std::mem::take(self) {
            Self::Own(buffer) => bytes::Bytes::from(buffer),
            Self::Shared(bytes) => bytes,
        };
        *self = Self::Shared(bytes.clone());
        Self::Shared(bytes)
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::Own(Buffer::default())
    }
}

impl Deref for Data {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(buffer) => buffer,
            Self::Shared(bytes) => bytes,
        }
    }
}
