//! The local copy of a lane's log: a file with the records of committed epochs, which may always be deleted.
//!
//! Whoever commits appends each epoch's records once they are committed; whoever recovers reads the file in the place of the
//! log up to its end, and the log itself from there on. Layout, all integers little-endian:
//!
//! ```text
//! "SCCOPY"  u8 version  u32 length of the facts  facts, as JSON  u32 CRC32C of everything before
//! per record:  u8 'P' or 'D'  u32 length of the key  u32 length of the value  u32 CRC32C  key  value  u32 CRC32C
//! per epoch:   the same, 'E', without a key: u64 epoch, i64 offset of the epoch's manifest in the log
//! ```
//!
//! The facts say what the copy is of. A checksum goes on from the one before it, so nothing can be changed, moved, left out
//! or be of another file. Invariant: what [`read`] gives are the records up to the end of an epoch, as they were written; a
//! file that just ends in the middle of an epoch, as one does whose writer was killed, is read up to the epoch before; any
//! other difference is an error.

use super::log::Record;
use super::manifest::{Manifest, SLOTS};
use super::recovery::Recovery;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const MAGIC: &[u8; 6] = b"SCCOPY";
/// Of the file.
pub const VERSION: u8 = 1;
/// Magic, version, and the length of the facts.
const PREFIX_BYTES: usize = MAGIC.len() + 1 + 4;
const CHECKSUM_BYTES: usize = 4;
/// Kind, two lengths, and their checksum.
const FRAME_HEAD_BYTES: usize = 1 + 4 + 4 + CHECKSUM_BYTES;
const FACTS_BYTES_MAX: usize = 64 << 10;

const PUT: u8 = b'P';
const DELETION: u8 = b'D';
const END: u8 = b'E';
/// Of the frame that ends an epoch.
pub const END_BYTES: usize = FRAME_HEAD_BYTES + 16 + CHECKSUM_BYTES;

/// Bytes that are over before it is worth to write a file anew.
const OVER_BYTES_MIN: u64 = 1 << 20;

/// Where a copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The lane's epoch.
    pub epoch: u64,
    /// Where the epoch's manifest lies in the log: all records up to it are in the copy.
    pub manifest_offset: i64,
}

impl End {
    /// The key of the epoch's manifest.
    #[must_use]
    pub fn manifest_key(&self) -> Vec<u8> {
        format!("M/{}", self.epoch % SLOTS).into_bytes()
    }
}

/// What a file holds: slices of it.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The newest of each key that is not deleted.
    pub records: BTreeMap<&'a [u8], &'a [u8]>,
    /// Where it ends.
    pub end: End,
    /// Bytes of the file up to there.
    pub len: usize,
    checksum: u32,
}

/// Writes a copy: knows what is in the file, and has none of it.
#[derive(Debug)]
pub struct LogCopy {
    head: Vec<u8>,
    checksum: u32,
    /// Bytes of the file, and of those of its records that count.
    bytes: u64,
    live_bytes: u64,
    live: BTreeMap<Vec<u8>, u64>,
    end: Option<End>,
}

impl LogCopy {
    /// Of a file that is not there yet. `facts` is a JSON object that says what the copy is of.
    #[must_use]
    pub fn new(facts: &[u8]) -> Self {
        let mut head = Vec::with_capacity(PREFIX_BYTES + facts.len() + CHECKSUM_BYTES);
        head.extend_from_slice(MAGIC);
        head.push(VERSION);
        head.extend_from_slice(&(facts.len() as u32).to_le_bytes());
        head.extend_from_slice(facts);
        let checksum = crc32c::crc32c(&head);
        head.extend_from_slice(&checksum.to_le_bytes());
        Self { head, checksum, bytes: 0, live_bytes: 0, live: BTreeMap::new(), end: None }
    }

    /// Of a file with these contents, and nothing behind them.
    #[must_use]
    pub fn of(facts: &[u8], contents: &Contents<'_>) -> Self {
        let mut copy = Self::new(facts);
        for (key, value) in &contents.records {
            copy.note(key, Some(value));
        }
        (copy.checksum, copy.bytes, copy.end) = (contents.checksum, contents.len as u64, Some(contents.end));
        copy
    }

    /// Where the file ends; `None` while there is none.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// How many records of the file count.
    #[must_use]
    pub fn records(&self) -> usize {
        self.live.len()
    }

    /// What the next epoch appends to the file, or begins it with.
    pub fn append<'a>(&mut self, records: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>, end: End) -> Vec<u8> {
        let mut out = if self.bytes == 0 { self.head.clone() } else { Vec::new() };
        for (key, value) in records {
            self.note(key, value);
            self.write(if value.is_some() { PUT } else { DELETION }, key, value.unwrap_or_default(), &mut out);
        }
        let mut mark = end.epoch.to_le_bytes().to_vec();
        mark.extend_from_slice(&end.manifest_offset.to_le_bytes());
        self.write(END, b"", &mark, &mut out);
        self.bytes += out.len() as u64;
        self.end = Some(end);
        out
    }

    /// Whether about half of the file, or more, is over.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.bytes > 2 * self.live_bytes + OVER_BYTES_MIN
    }

    /// The file without what is over; `file` is what it holds now.
    pub fn shrunk(&mut self, facts: &[u8], file: &[u8]) -> Result<Vec<u8>> {
        let contents = read(facts, file)?;
        if Some(contents.end) != self.end || contents.len != file.len() {
            return Err(refused("it was changed by somebody else"));
        }
        *self = Self::new(facts);
        let records: Vec<_> = contents.records.iter().map(|(key, value)| (*key, Some(*value))).collect();
        Ok(self.append(records, contents.end))
    }

    fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        let size = |value: &[u8]| (FRAME_HEAD_BYTES + key.len() + value.len() + CHECKSUM_BYTES) as u64;
        let before = match value {
            Some(value) => {
                self.live_bytes += size(value);
                self.live.insert(key.to_vec(), size(value))
            }
            None => self.live.remove(key),
        };
        self.live_bytes -= before.unwrap_or_default();
    }

    fn write(&mut self, kind: u8, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        let of_head = crc32c::crc32c_append(self.checksum, &out[start..]);
        out.extend_from_slice(&of_head.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        self.checksum = crc32c::crc32c_append(of_head, &out[start + FRAME_HEAD_BYTES..]);
        out.extend_from_slice(&self.checksum.to_le_bytes());
    }
}

/// The contents of a file that should be a copy of what `facts` say.
pub fn read<'a>(facts: &[u8], file: &'a [u8]) -> Result<Contents<'a>> {
    let (mut checksum, mut at) = check_head(facts, file)?;
    let mut contents: Option<Contents<'a>> = None;
    let (mut records, mut epoch) = (BTreeMap::new(), Vec::new());
    while let Some(frame) = next_frame(&file[at..], checksum)? {
        (checksum, at) = (frame.checksum, at + frame.len);
        match frame.kind {
            PUT => epoch.push((frame.key, Some(frame.value))),
            DELETION => epoch.push((frame.key, None)),
            _ => {
                for (key, value) in epoch.drain(..) {
                    match value {
                        Some(value) => drop(records.insert(key, value)),
                        None => drop(records.remove(key)),
                    }
                }
                let end = end_of(&frame)?;
                contents = Some(Contents { records: BTreeMap::new(), end, len: at, checksum });
            }
        }
    }
    let mut contents = contents.ok_or_else(|| refused("it has no whole epoch"))?;
    contents.records = records;
    Ok(contents)
}

/// Where an epoch ends, told by its last frame.
fn end_of(frame: &Frame<'_>) -> Result<End> {
    let (epoch, offset) = frame.value.split_at_checked(8).ok_or_else(|| refused("an end is cut"))?;
    let number = |bytes: &[u8]| bytes.try_into().map_err(|_| refused("an end is cut"));
    Ok(End { epoch: u64::from_le_bytes(number(epoch)?), manifest_offset: i64::from_le_bytes(number(offset)?) })
}

/// The checksum of the head, and its length.
fn check_head(facts: &[u8], file: &[u8]) -> Result<(u32, usize)> {
    if file.is_empty() {
        return Err(refused("it is empty"));
    }
    if !file.starts_with(MAGIC) {
        return Err(refused("it is no copy of a state, or its first bytes are damaged"));
    }
    let cut = || refused("its head is cut or damaged");
    let (prefix, rest) = file.split_at_checked(PREFIX_BYTES).ok_or_else(cut)?;
    let len = prefix.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
    if len > FACTS_BYTES_MAX {
        return Err(cut());
    }
    let (found, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
    let told = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(cut)?;
    let checksum = crc32c::crc32c(&file[..PREFIX_BYTES + len]);
    if checksum != told {
        return Err(cut());
    }
    let version = prefix[MAGIC.len()];
    if version != VERSION {
        let age = if version > VERSION { "a newer" } else { "an older" };
        return Err(refused(&format!(
            "it has format {version} and was written by {age} streamcore; this one reads {VERSION}"
        )));
    }
    match difference(facts, found) {
        Some(what) => Err(refused(&what)),
        None => Ok((checksum, PREFIX_BYTES + len + CHECKSUM_BYTES)),
    }
}

/// In which fact a copy differs from what it should be of.
fn difference(wanted: &[u8], found: &[u8]) -> Option<String> {
    let facts = |json: &[u8]| serde_json::from_slice::<Map<String, Value>>(json).ok();
    let (Some(wanted), Some(found)) = (facts(wanted), facts(found)) else {
        return Some("its facts are no JSON object".into());
    };
    let name = wanted.keys().chain(found.keys()).find(|name| wanted.get(*name) != found.get(*name))?;
    let told = |facts: &Map<String, Value>| facts.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
    Some(format!("it is of another state: its {name} is {}, and should be {}", told(&found), told(&wanted)))
}

struct Frame<'a> {
    kind: u8,
    key: &'a [u8],
    value: &'a [u8],
    len: usize,
    checksum: u32,
}

/// The next frame; `None` where the file ends before it does.
fn next_frame(rest: &[u8], checksum: u32) -> Result<Option<Frame<'_>>> {
    let Some((head, body)) = rest.split_at_checked(FRAME_HEAD_BYTES) else { return Ok(None) };
    let (lengths, told) = head.split_at(FRAME_HEAD_BYTES - CHECKSUM_BYTES);
    let damaged = || refused("it is damaged: a checksum is of other bytes");
    let of_head = crc32c::crc32c_append(checksum, lengths);
    if of_head.to_le_bytes() != *told {
        return Err(damaged());
    }
    let length = |at: usize| lengths[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
    let (kind, key_len, len) = (lengths[0], length(1), length(1) + length(5));
    let Some((content, rest)) = body.split_at_checked(len) else { return Ok(None) };
    let Some(told) = rest.first_chunk::<CHECKSUM_BYTES>() else { return Ok(None) };
    let checksum = crc32c::crc32c_append(of_head, content);
    if checksum.to_le_bytes() != *told {
        return Err(damaged());
    }
    if !matches!(kind, PUT | DELETION | END) {
        return Err(refused("it has a record of a kind that is not known"));
    }
    let (key, value) = content.split_at(key_len);
    Ok(Some(Frame { kind, key, value, len: FRAME_HEAD_BYTES + len + CHECKSUM_BYTES, checksum }))
}

/// Whether the log, read from the end of a copy on into `records` that hold the copy, goes on from that copy. `manifest` is
/// its newest one; `is_there`: the log has that very record at its place still.
pub fn check_followed(records: &Recovery, manifest: &[u8], is_there: bool) -> Result<()> {
    let ours = Manifest::decode(manifest).map_err(|error| refused(&error.message))?;
    let newest = records.newest_manifest()?.ok_or_else(|| refused("the log has no manifest any more"))?;
    let (epoch, owner) = (ours.epoch, ours.facts.owner);
    if newest.facts.owner != owner {
        return Err(refused(&format!(
            "it is of owner epoch {owner}, and the log of {}: the state was repaired or put back meanwhile",
            newest.facts.owner
        )));
    }
    if newest.epoch < epoch {
        return Err(refused(&format!("it ends with epoch {epoch}, and the log with {}", newest.epoch)));
    }
    if newest.epoch == epoch && newest != ours {
        return Err(refused(&format!("its epoch {epoch} is not the log's")));
    }
    let is_named = newest.epoch > epoch && ours.changes.last().is_some_and(|last| newest.changes.contains(last));
    if !is_there && !is_named {
        return Err(refused(&format!(
            "its epoch {epoch} is not the log's, or so old that nothing of it counts (the newest is {})",
            newest.epoch
        )));
    }
    Ok(())
}

fn refused(what: &str) -> Error {
    Error::state(what.to_owned())
}

/// The records of a log, as [`LogCopy::append`] takes them.
pub fn slices(records: &[Record]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    records.iter().map(|(key, value)| (&key[..], value.as_deref()))
}

#[cfg(test)]
mod tests;
