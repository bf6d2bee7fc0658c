//! States that functions of the user made, as bytes, until they are merged to one.
//!
//! `user` makes, merges and finishes them. A cell holds states by level: 64 of one level are merged to one of the next,
//! those that came first together. Invariant: which states of a slot are merged with one another, and in which order,
//! follows from the order of its rows alone, never from how they were cut into batches.

use super::AggregatePlan;
use super::cells::{ALLOCATION_BYTES, Cell};
use super::extreme::Value;
use super::stored::{Stored, encode_scalar};
use crate::batch::{Column, DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::cmp::Reverse;

/// States of one level that become one of the next.
pub const FAN_IN: usize = 64;
/// States of a slot beyond which slots that are merged are merged down at once.
const STATES_MAX: usize = 4 * FAN_IN;
/// Tag of a null in a saved state; those of values are `stored`'s.
const NULL: u8 = 0;

/// A state, and how many merges made it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    level: u8,
    state: Box<[u8]>,
}

/// States of one level to be merged to one.
pub struct Chunk {
    pub slot: u32,
    pub level: u8,
    pub states: Vec<Box<[u8]>>,
}

/// The states of one slot.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// By level, the highest first; of one level in the order they came.
    entries: Vec<Entry>,
    /// Bytes of all states.
    state_bytes: usize,
    /// Why the states could not be merged: nothing is held any more, for good.
    failure: Option<Box<str>>,
}

impl States {
    /// Adds the state of a row.
    pub fn push(&mut self, state: &[u8]) {
        self.put(0, state.into());
    }

    /// Adds a state that `level` merges made.
    pub fn put(&mut self, level: u8, state: Box<[u8]>) {
        if self.failure.is_some() {
            return;
        }
        self.state_bytes += state.len();
        let place = self.entries.partition_point(|entry| entry.level >= level);
        self.entries.insert(place, Entry { level, state });
    }

    /// Gives up: `detail` tells why.
    pub fn fail(&mut self, detail: String) {
        *self = Self { failure: Some(detail.into()), ..Self::default() };
    }

    /// Every state, the most merged first.
    #[must_use]
    pub fn all(&self) -> Vec<Box<[u8]>> {
        self.entries.iter().map(|entry| entry.state.clone()).collect()
    }

    /// Why there are none any more.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Takes the whole chunks of the lowest level that has one.
    pub fn take_chunks(&mut self, slot: u32, chunks: &mut Vec<Chunk>) {
        let mut end = self.entries.len();
        while end > 0 {
            let level = self.entries[end - 1].level;
            let start = self.entries.partition_point(|entry| entry.level > level);
            let whole = (end - start) / FAN_IN * FAN_IN;
            if whole > 0 {
                let mut taken = self.entries.drain(start..start + whole).map(|entry| entry.state);
                for _ in 0..whole / FAN_IN {
                    let states: Vec<Box<[u8]>> = taken.by_ref().take(FAN_IN).collect();
                    self.state_bytes -= states.iter().map(|state| state.len()).sum::<usize>();
                    chunks.push(Chunk { slot, level, states });
                }
                return;
            }
            end = start;
        }
    }

    /// Whether there are so many that they are to be merged before others come.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.entries.len() > STATES_MAX
    }

    /// True when every state is of the plan's types.
    #[must_use]
    pub fn fits(&self, types: &[(String, DataType)]) -> bool {
        self.entries.iter().all(|entry| {
            let mut reader = Reader::new(&entry.state);
            let fits = |(_, data_type): &(String, DataType)| {
                read_value(&mut reader).is_ok_and(|value| value.is_none_or(|value| value.fits(*data_type)))
            };
            types.iter().all(fits) && reader.remaining() == 0
        })
    }
}

impl Cell for States {
    const FORM: u8 = 11;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        if let Some(detail) = &other.failure {
            self.failure.get_or_insert_with(|| detail.clone());
        }
        if self.failure.is_some() {
            (self.entries, self.state_bytes) = (Vec::new(), 0);
            return;
        }
        self.entries.extend(other.entries.iter().cloned());
        self.entries.sort_by_key(|entry| Reverse(entry.level));
        self.state_bytes += other.state_bytes;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.failure.is_some()));
        if let Some(detail) = &self.failure {
            out.put_bytes(detail.as_bytes());
        }
        out.put_varint(self.entries.len() as u64);
        for entry in &self.entries {
            out.put_u8(entry.level);
            out.put_bytes(&entry.state);
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let overwritten =
            || Error::state("saved state holds an aggregate of the user's out of order; it was overwritten");
        let failure = match saved.u8()? {
            0 => None,
            1 => Some(std::str::from_utf8(saved.bytes()?).map_err(|_| overwritten())?.into()),
            _ => return Err(overwritten()),
        };
        let mut cell = Self::default();
        for _ in 0..saved.count(2)? {
            let (level, state) = (saved.u8()?, saved.bytes()?);
            if failure.is_some() || cell.entries.last().is_some_and(|last| last.level < level) {
                return Err(overwritten());
            }
            cell.state_bytes += state.len();
            cell.entries.push(Entry { level, state: state.into() });
        }
        Ok(Self { failure, ..cell })
    }

    fn heap_len(&self) -> usize {
        // What is reserved is by powers of two, whether it has grown to that or was loaded.
        let reserved = if self.entries.is_empty() { 0 } else { self.entries.len().next_power_of_two().max(4) };
        let own = if reserved > 0 { ALLOCATION_BYTES } else { 0 };
        let states = reserved * size_of::<Entry>() + self.entries.len() * ALLOCATION_BYTES;
        states + own + self.state_bytes + self.failure.as_ref().map_or(0, |detail| detail.len())
    }
}

/// The rows of `columns` as bytes.
pub fn encoded(columns: &[Column], rows: usize) -> Vec<Vec<u8>> {
    let state = |row| {
        let mut out = Vec::new();
        for column in columns {
            match column.get(row) {
                Scalar::Null => out.put_u8(NULL),
                value => encode_scalar(value, &mut out),
            }
        }
        out
    };
    (0..rows).map(state).collect()
}

/// Appends a state, whose form was checked where it came from, to its columns.
pub fn decode(state: &[u8], columns: &mut [Column]) {
    let mut reader = Reader::new(state);
    for column in columns {
        match read_value(&mut reader) {
            Ok(Some(value)) => column.push(value.get()),
            _ => column.push(Scalar::Null),
        }
    }
}

fn read_value(reader: &mut Reader<'_>) -> Result<Option<Stored>> {
    if reader.clone().u8()? == NULL {
        reader.u8()?;
        return Ok(None);
    }
    Stored::decode(reader).map(Some)
}
