//! The rows one side of a join holds: columns in chunks, in order of arrival.
//!
//! `mod.rs` adds and frees rows, `joined.rs` copies them out. Chunks leave whole, so a row is written once and read
//! in columns. Invariant: a row that was there at the last commit keeps its place until the next one, so `rollback`
//! only cuts off what came since and takes back what was freed.

use crate::batch::{Column, DataType, Values};
use crate::codec::Write;
use crate::saving::{Extent, Saving};
use std::collections::VecDeque;

/// Rows of a chunk, and bytes of its texts, at which the next one is begun.
const CHUNK_ROWS: usize = 4096;
const CHUNK_TEXT_BYTES: usize = 64 << 20;

/// Dead rows beyond which, when they are the majority, a commit moves the others together.
const DEAD_MAX: u64 = 4 * CHUNK_ROWS as u64;

/// A row's place: number of the chunk in the upper half, row in the lower. Rises with arrival.
pub type RowId = u64;

const fn id_of(chunk: u64, row: usize) -> RowId {
    chunk << 32 | row as u64
}

/// Number of the chunk of `id`, and the row in it.
pub const fn place_of(id: RowId) -> (u64, usize) {
    (id >> 32, (id & 0xffff_ffff) as usize)
}

/// What a row is, besides its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Slot of its key.
    pub key: u32,
    /// The time it is joined at, ms.
    pub time_ms: i64,
    /// Its record's partition and offset.
    pub at: (i32, i64),
    /// The time it came with, ms; differs for a late version of a table and for a row of a window.
    pub event_time_ms: i64,
    /// It says that its key has no row from its time on.
    pub is_delete: bool,
    /// A column of its key is null, so it has no partner.
    pub has_null_key: bool,
}

/// Rows that arrived one after the other.
#[derive(Debug)]
struct Chunk {
    heads: Vec<Head>,
    columns: Vec<Column>,
    /// False for freed rows.
    alive: Vec<bool>,
    /// Digest of each row sealed so far.
    digests: Vec<u64>,
    /// Rows that are alive, or were at the last commit.
    wanted: usize,
    /// Bytes of the longest text in it.
    longest_text: usize,
}

/// All rows of a side.
#[derive(Debug)]
pub struct Rows {
    types: Vec<DataType>,
    chunks: VecDeque<Option<Chunk>>,
    /// Number of the first of `chunks`.
    first: u64,
    /// The place of the first row that came after the last commit.
    committed: RowId,
    /// Rows freed since the last commit that were there.
    freed: Vec<RowId>,
    /// Rows alive, and rows held.
    alive: u64,
    held: u64,
    /// Bytes held, roughly.
    bytes: usize,
    /// Bytes of the longest text in any chunk.
    longest_text: usize,
    /// Sum of the digests as of the last seal, and as of the last commit.
    digest: u64,
    committed_digest: u64,
    /// How often all rows got other places.
    born: u64,
    /// No save of parts or changes has the rows by these places, whatever was committed.
    unsaved: bool,
}

impl Chunk {
    fn new(types: &[DataType]) -> Self {
        let columns = types.iter().map(|data_type| Column::new(*data_type)).collect();
        Self { heads: Vec::new(), columns, alive: Vec::new(), digests: Vec::new(), wanted: 0, longest_text: 0 }
    }

    fn is_full(&self) -> bool {
        self.heads.len() >= CHUNK_ROWS || self.columns.iter().map(Column::text_bytes).sum::<usize>() >= CHUNK_TEXT_BYTES
    }

    /// Bytes held, roughly.
    fn byte_len(&self) -> usize {
        let values = self.columns.iter().map(Column::byte_len).sum::<usize>();
        values + self.heads.len() * Rows::HEAD_BYTES
    }
}

impl Rows {
    /// Bytes of a row beside its columns.
    pub const HEAD_BYTES: usize = size_of::<Head>() + size_of::<bool>() + size_of::<u64>();

    /// No rows, with columns of `types`.
    pub fn new(types: Vec<DataType>) -> Self {
        Self {
            types,
            chunks: VecDeque::new(),
            first: 0,
            committed: 0,
            freed: Vec::new(),
            alive: 0,
            held: 0,
            bytes: 0,
            longest_text: 0,
            digest: 0,
            committed_digest: 0,
            born: 0,
            unsaved: false,
        }
    }

    /// Types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Rows alive.
    pub fn len(&self) -> u64 {
        self.alive
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Bytes of the rows freed since the last commit that were there then, roughly.
    pub fn freed_len(&self) -> usize {
        self.bytes / (self.held as usize).max(1) * self.freed.len()
    }

    /// No text that is held is longer, in bytes.
    pub fn longest_text(&self) -> usize {
        self.longest_text
    }

    /// Bytes of the longest text of the row `id`.
    pub fn text_bytes(&self, id: RowId) -> usize {
        let (chunk, row) = place_of(id);
        longest_text(&self.chunk(chunk).columns, &[row as u32])
    }

    fn chunk(&self, number: u64) -> &Chunk {
        let chunk = self.chunks.get((number - self.first) as usize).and_then(Option::as_ref);
        chunk.expect("the chunk of a row that is held is held")
    }

    fn chunk_mut(&mut self, number: u64) -> &mut Chunk {
        let chunk = self.chunks.get_mut((number - self.first) as usize).and_then(Option::as_mut);
        chunk.expect("the chunk of a row that is held is held")
    }

    /// What the row `id` is.
    pub fn head(&self, id: RowId) -> Head {
        let (chunk, row) = place_of(id);
        self.chunk(chunk).heads[row]
    }

    /// True when the row `id`, which was held once, was not freed.
    pub fn is_alive(&self, id: RowId) -> bool {
        let (chunk, row) = place_of(id);
        let chunk = chunk.checked_sub(self.first).and_then(|place| self.chunks.get(place as usize)?.as_ref());
        chunk.is_some_and(|chunk| chunk.alive[row])
    }

    /// The columns of chunk `number`.
    pub fn columns(&self, number: u64) -> &[Column] {
        &self.chunk(number).columns
    }

    /// Adds `rows` of `columns`, one for each of `heads`; tells the place of each to `placed`.
    pub fn append(&mut self, columns: &[Column], rows: &[u32], heads: &[Head], mut placed: impl FnMut(RowId, Head)) {
        let mut done = 0;
        while done < rows.len() {
            let number = self.open_chunk();
            let chunk = self.chunk_mut(number);
            let (start, before) = (chunk.heads.len(), chunk.byte_len());
            while done < rows.len() && !chunk.is_full() {
                // Texts are looked at as a whole now and then, not at every row.
                let end = rows.len().min(done + 64).min(done + CHUNK_ROWS - chunk.heads.len());
                for (into, from) in chunk.columns.iter_mut().zip(columns) {
                    into.extend_from(from, &rows[done..end]);
                }
                chunk.heads.extend_from_slice(&heads[done..end]);
                chunk.longest_text = chunk.longest_text.max(longest_text(columns, &rows[done..end]));
                done = end;
            }
            let len = chunk.heads.len();
            chunk.alive.resize(len, true);
            chunk.digests.resize(len, 0);
            chunk.wanted += len - start;
            let (grown, longest) = (chunk.byte_len() - before, chunk.longest_text);
            for row in start..len {
                placed(id_of(number, row), self.chunk(number).heads[row]);
            }
            self.bytes += grown;
            self.longest_text = self.longest_text.max(longest);
            self.alive += (len - start) as u64;
            self.held += (len - start) as u64;
        }
    }

    /// Number of the chunk that takes the next row.
    fn open_chunk(&mut self) -> u64 {
        let last = self.first + self.chunks.len() as u64;
        match self.chunks.back() {
            Some(Some(open)) if !open.is_full() => return last - 1,
            // It stayed only because it was open.
            Some(Some(full)) if full.wanted == 0 => self.drop_chunk(last - 1),
            _ => {}
        }
        self.chunks.push_back(Some(Chunk::new(&self.types)));
        self.first + self.chunks.len() as u64 - 1
    }

    /// Frees the row `id`, which is alive.
    pub fn free(&mut self, id: RowId) {
        let (number, row) = place_of(id);
        let chunk = self.chunk_mut(number);
        debug_assert!(chunk.alive[row]);
        chunk.alive[row] = false;
        self.alive -= 1;
        if id < self.committed { self.freed.push(id) } else { self.let_go(number) }
    }

    /// One row less is wanted of chunk `number`, which leaves with the last of them.
    fn let_go(&mut self, number: u64) {
        let is_open = number + 1 == self.first + self.chunks.len() as u64;
        let chunk = self.chunk_mut(number);
        chunk.wanted -= 1;
        if chunk.wanted == 0 && !is_open {
            self.drop_chunk(number);
        }
    }

    fn drop_chunk(&mut self, number: u64) {
        if let Some(chunk) = self.chunks[(number - self.first) as usize].take() {
            self.bytes -= chunk.byte_len();
            self.held -= chunk.heads.len() as u64;
            if chunk.longest_text == self.longest_text {
                self.longest_text = self.find_longest_text();
            }
        }
        while self.chunks.front().is_some_and(Option::is_none) {
            self.chunks.pop_front();
            self.first += 1;
        }
    }

    fn find_longest_text(&self) -> usize {
        self.chunks.iter().flatten().map(|chunk| chunk.longest_text).max().unwrap_or(0)
    }

    /// Places of the rows that are alive, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = RowId> {
        let chunks = self.chunks.iter().enumerate().filter_map(|(place, chunk)| Some((place, chunk.as_ref()?)));
        chunks.flat_map(|(place, chunk)| {
            let number = self.first + place as u64;
            let alive = chunk.alive.iter().enumerate().filter(|(_, alive)| **alive);
            alive.map(move |(row, _)| id_of(number, row))
        })
    }

    /// Brings the digest up to date. `key` gives the key of a slot.
    pub fn seal<'k>(&mut self, key: impl Fn(u32) -> &'k [u8]) -> u64 {
        let mut digest = self.committed_digest;
        for id in &self.freed {
            let (chunk, row) = place_of(*id);
            digest = digest.wrapping_sub(self.chunk(chunk).digests[row]);
        }
        let (from, start) = place_of(self.committed);
        let mut bytes = Vec::new();
        for (place, chunk) in self.chunks.iter_mut().enumerate() {
            let (number, Some(chunk)) = (self.first + place as u64, chunk) else { continue };
            if number < from {
                continue;
            }
            for row in if number == from { start } else { 0 }..chunk.heads.len() {
                if chunk.alive[row] {
                    bytes.clear();
                    encode_row(key(chunk.heads[row].key), &chunk.heads[row], &chunk.columns, row, &mut bytes);
                    chunk.digests[row] = xxhash_rust::xxh3::xxh3_64(&bytes);
                    digest = digest.wrapping_add(chunk.digests[row]);
                }
            }
        }
        self.digest = digest;
        digest
    }

    /// Everything since the last commit is kept for good.
    pub fn commit(&mut self) {
        for id in std::mem::take(&mut self.freed) {
            self.let_go(place_of(id).0);
        }
        self.committed = self.next();
        self.committed_digest = self.digest;
        self.unsaved = false;
    }

    /// The place of the row after the last.
    fn next(&self) -> RowId {
        let number = self.first + self.chunks.len() as u64;
        match self.chunks.back() {
            Some(Some(last)) => id_of(number - 1, last.heads.len()),
            _ => id_of(number, 0),
        }
    }

    /// True when most rows are dead; [`together`](Self::together) is called for then, behind a commit.
    pub fn is_sparse(&self) -> bool {
        self.held - self.alive > DEAD_MAX.max(self.alive)
    }

    /// The rows that are alive, moved together: every place is another afterwards.
    pub fn together(&self) -> Self {
        let mut moved = Self::new(self.types.clone());
        (moved.born, moved.unsaved) = (self.born + 1, true);
        for chunk in self.chunks.iter().flatten() {
            let rows: Vec<u32> = (0..chunk.heads.len() as u32).filter(|row| chunk.alive[*row as usize]).collect();
            let heads: Vec<Head> = rows.iter().map(|row| chunk.heads[*row as usize]).collect();
            let mut digests = rows.iter().map(|row| chunk.digests[*row as usize]);
            let mut placed = Vec::with_capacity(rows.len());
            moved.append(&chunk.columns, &rows, &heads, |id, _| placed.push(id));
            for id in placed {
                let (number, row) = place_of(id);
                moved.chunk_mut(number).digests[row] = digests.next().unwrap_or_default();
            }
        }
        (moved.digest, moved.committed_digest) = (self.committed_digest, self.committed_digest);
        moved.committed = moved.next();
        moved
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        let (number, row) = place_of(self.committed);
        let end = number + u64::from(row > 0);
        self.chunks.truncate(end.saturating_sub(self.first) as usize);
        if let (true, Some(Some(last))) = (row > 0, self.chunks.back_mut()) {
            last.heads.truncate(row);
            last.columns.iter_mut().for_each(|column| column.truncate(row));
            last.alive.truncate(row);
            last.digests.truncate(row);
            last.longest_text = longest_text(&last.columns, &(0..row as u32).collect::<Vec<_>>());
        }
        for id in std::mem::take(&mut self.freed) {
            let (number, row) = place_of(id);
            self.chunk_mut(number).alive[row] = true;
        }
        self.digest = self.committed_digest;
        self.recount();
    }

    fn recount(&mut self) {
        (self.alive, self.held, self.bytes) = (0, 0, 0);
        for chunk in self.chunks.iter_mut().flatten() {
            chunk.wanted = chunk.alive.iter().filter(|alive| **alive).count();
            self.alive += chunk.wanted as u64;
            self.held += chunk.heads.len() as u64;
            self.bytes += chunk.byte_len();
        }
        self.longest_text = self.find_longest_text();
    }

    /// All rows, which are committed, have got other places than before; those before had the number `born` at most.
    pub fn renumbered(&mut self, born: u64) {
        (self.born, self.unsaved) = (self.born.max(born) + 1, true);
    }

    /// Appends the rows. `key` gives the key of a slot.
    pub fn save<'k>(&self, key: impl Fn(u32) -> &'k [u8], saving: &mut Saving) {
        let encode = |id: RowId, out: &mut Vec<u8>| self.encode(id, key(self.head(id).key), out);
        if saving.extent() == Extent::Whole {
            saving.out.put_varint(self.alive);
            self.iter().for_each(|id| encode(id, &mut saving.out));
            return;
        }
        let is_saved = |id: &RowId| match saving.extent() {
            Extent::Part(part) => super::saved::part_of(*id) == part,
            _ => self.unsaved || *id >= self.committed,
        };
        let ids: Vec<RowId> = self.iter().filter(is_saved).collect();
        let freed = if saving.extent() == Extent::Changes && !self.unsaved { &self.freed[..] } else { &[] };
        for number in [self.born, self.alive, ids.len() as u64] {
            saving.out.put_varint(number);
        }
        for id in &ids {
            saving.out.put_varint(*id);
            saving.put_sized(|out| encode(*id, out));
        }
        saving.out.put_varint(freed.len() as u64);
        freed.iter().for_each(|id| saving.out.put_varint(*id));
        saving.count((ids.len() + freed.len()) as u64);
    }

    /// Appends the row `id` for saving.
    fn encode(&self, id: RowId, key: &[u8], out: &mut Vec<u8>) {
        let (number, row) = place_of(id);
        let chunk = self.chunk(number);
        encode_row(key, &chunk.heads[row], &chunk.columns, row, out);
    }
}

/// Bytes of the longest text in `rows` of `columns`.
pub fn longest_text(columns: &[Column], rows: &[u32]) -> usize {
    let longest = |column: &Column| match &column.values {
        Values::Bytes(values) => rows.iter().map(|row| values.get(*row as usize).len()).max(),
        _ => None,
    };
    columns.iter().filter_map(longest).max().unwrap_or(0)
}

fn encode_row(key: &[u8], head: &Head, columns: &[Column], row: usize, out: &mut Vec<u8>) {
    out.put_bytes(key);
    out.put_i64(head.time_ms);
    out.put_i64(head.event_time_ms);
    out.put_i64(i64::from(head.at.0));
    out.put_i64(head.at.1);
    out.put_u8(u8::from(head.is_delete) | u8::from(head.has_null_key) << 1);
    columns.iter().for_each(|column| super::saved::encode_value(column.get(row), out));
}
