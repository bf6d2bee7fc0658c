//! How much of the state a save takes, and what a load puts together again.
//!
//! A commit saves what changed; now and then it saves one of [`PARTS`] parts of everything, so that the changes before
//! may be forgotten. `pipeline` makes the bytes, `checkpoint` keeps them. Every save has the plain facts of a step (its
//! clocks and counters) whole and only the rows of its tables by extent. Invariant: the parts, each as of its epoch,
//! and the changes of all epochs behind the oldest of them give the state of the last epoch, to the byte that
//! [`Extent::Whole`] writes.

use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Parts that the rows of a state are divided into. Fixed: saved state tells parts by number.
pub const PARTS: usize = 64;

/// Bytes of the longest number.
const VARINT_BYTES_MAX: usize = 10;

/// Bytes of the length before a section.
const SECTION_LEN_BYTES: usize = 8;

/// Which rows are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All, without what tells them from those of other saves.
    Whole,
    /// Those changed since the last commit.
    Changes,
    /// Those of one part, less than [`PARTS`].
    Part(usize),
}

/// State on its way out.
#[derive(Debug)]
pub struct Saving {
    /// The bytes so far.
    pub out: Vec<u8>,
    extent: Extent,
    /// Rows so far.
    rows: u64,
}

impl Saving {
    /// Nothing yet.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self::reusing(Vec::new(), extent)
    }

    /// Nothing yet, in the memory of `out`.
    #[must_use]
    pub fn reusing(mut out: Vec<u8>, extent: Extent) -> Self {
        out.clear();
        Self { out, extent, rows: 0 }
    }

    /// Which rows are to be saved.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// Rows saved.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts rows that were appended.
    pub const fn count(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Appends what `write` appends, behind its length. Most is short, so one byte is left for that.
    #[inline]
    pub fn put_sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.push(0);
        write(&mut self.out);
        let len = self.out.len() - start - 1;
        if len < 0x80 {
            self.out[start] = len as u8;
        } else {
            let mut head = Vec::with_capacity(VARINT_BYTES_MAX);
            head.put_varint(len as u64);
            self.out.splice(start..=start, head);
        }
    }
}

impl Saving {
    /// Appends what `write` saves, as a section that can be found and passed over.
    pub fn put_section(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.out.len() + SECTION_LEN_BYTES;
        self.out.extend_from_slice(&[0; SECTION_LEN_BYTES]);
        write(self);
        let len = (self.out.len() - start) as u64;
        self.out[start - SECTION_LEN_BYTES..start].copy_from_slice(&len.to_le_bytes());
    }
}

/// One save, to be read.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// Which rows it has.
    pub extent: Extent,
    /// The epoch it is of.
    pub epoch: u64,
    /// Its bytes.
    pub reader: Reader<'a>,
}

impl Piece<'_> {
    /// Whether the newest row of `part` may be in this piece, where parts are as of the epochs `based`.
    #[must_use]
    pub const fn counts_for(&self, part: usize, based: &[u64; PARTS]) -> bool {
        match self.extent {
            Extent::Whole => true,
            Extent::Part(number) => number == part,
            Extent::Changes => self.epoch > based[part],
        }
    }
}

/// State on its way in: a whole, or parts and changes.
#[derive(Debug)]
pub struct Loading<'a> {
    /// Parts first, then changes, the newest last.
    pieces: Vec<Piece<'a>>,
    /// The epochs that parts are of; 0 where there is none.
    based: [u64; PARTS],
}

impl<'a> Loading<'a> {
    /// Of what was saved as [`Extent::Whole`].
    #[must_use]
    pub fn whole(bytes: &'a [u8]) -> Self {
        let reader = Reader::new(bytes);
        Self { pieces: vec![Piece { extent: Extent::Whole, epoch: 0, reader }], based: [0; PARTS] }
    }

    /// Of parts, with their numbers and epochs, and changes, by epoch; the newest of these is of the last epoch.
    pub fn parts(parts: &[(usize, u64, &'a [u8])], changes: &[(u64, &'a [u8])]) -> Result<Self> {
        let mut based = [0; PARTS];
        for (part, epoch, _) in parts {
            match based.get_mut(*part) {
                Some(base @ 0) => *base = *epoch,
                _ => return Err(Error::state(format!("saved state has part {part} twice, or beyond the last"))),
            }
        }
        let Some((last, _)) = changes.last() else { return Err(Error::state("saved state has no changes")) };
        if changes.windows(2).any(|pair| pair[0].0 >= pair[1].0) || based.iter().any(|epoch| epoch > last) {
            return Err(Error::state("saved state has changes out of order, or parts of a later epoch"));
        }
        let parts = parts.iter().map(|(part, epoch, bytes)| (Extent::Part(*part), *epoch, *bytes));
        let changes = changes.iter().map(|(epoch, bytes)| (Extent::Changes, *epoch, *bytes));
        let piece = |(extent, epoch, bytes)| Piece { extent, epoch, reader: Reader::new(bytes) };
        Ok(Self { pieces: parts.chain(changes).map(piece).collect(), based })
    }

    /// The bytes of the whole, where it is one.
    pub fn as_whole(&mut self) -> Option<&mut Reader<'a>> {
        match &mut self.pieces[..] {
            [Piece { extent: Extent::Whole, reader, .. }] => Some(reader),
            _ => None,
        }
    }

    /// Reads a plain fact from every piece; what the newest has counts.
    pub fn newest<T>(&mut self, mut read: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<T> {
        let mut found = None;
        for piece in &mut self.pieces {
            found = Some(read(&mut piece.reader)?);
        }
        found.ok_or_else(|| Error::state("saved state is empty"))
    }

    /// Reads numbered sections from every piece, of which those that the newest has are given: each as a load of its own, of
    /// the pieces that have it.
    pub fn sections(&mut self) -> Result<Vec<(i32, Self)>> {
        let mut found: BTreeMap<i32, Vec<Piece<'a>>> = BTreeMap::new();
        let mut here: BTreeMap<i32, Piece<'a>> = BTreeMap::new();
        for piece in &mut self.pieces {
            here.clear();
            for _ in 0..piece.reader.count(SECTION_LEN_BYTES + 1)? {
                let id = i32::try_from(piece.reader.varint()?)
                    .map_err(|_| Error::state("saved state has a section too many"))?;
                let len = usize::try_from(piece.reader.u64()?).unwrap_or(usize::MAX);
                here.insert(id, Piece { reader: Reader::new(piece.reader.take(len)?), ..piece.clone() });
            }
            here.iter().for_each(|(id, section)| found.entry(*id).or_default().push(section.clone()));
        }
        found.retain(|id, _| here.contains_key(id));
        Ok(found.into_iter().map(|(id, pieces)| (id, Self { pieces, based: self.based })).collect())
    }

    /// The pieces, for whoever reads rows, and the epochs of the parts.
    pub const fn pieces(&mut self) -> (&mut Vec<Piece<'a>>, &[u64; PARTS]) {
        (&mut self.pieces, &self.based)
    }

    /// Checks that everything was read.
    pub fn finish(self) -> Result<()> {
        self.pieces.into_iter().try_for_each(|piece| piece.reader.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Write;

    #[test]
    fn the_newest_fact_counts_and_every_piece_is_read() {
        let save = |fact: u64| {
            let mut saving = Saving::new(Extent::Changes);
            saving.out.put_u64(fact);
            saving.put_sized(|out| out.put_varint(fact));
            saving.out
        };
        let (part, first, second) = (save(1), save(2), save(3));
        let mut loading = Loading::parts(&[(63, 2, &part)], &[(2, &first), (4, &second)]).expect("in order");
        assert_eq!(loading.newest(Reader::u64).expect("a fact"), 3);
        assert_eq!(loading.newest(Reader::bytes).expect("bytes"), [3]);
        let (pieces, based) = loading.pieces();
        let counts = |part: usize| pieces.iter().map(|piece| piece.counts_for(part, based)).collect::<Vec<_>>();
        assert_eq!((counts(63), counts(0)), (vec![true, false, true], vec![false, true, true]));
        loading.finish().expect("read");
        let mut unread = Loading::parts(&[], &[(1, &part)]).expect("in order");
        unread.newest(Reader::u64).expect("a fact");
        unread.finish().expect_err("bytes are left");
    }

    #[test]
    fn parts_and_changes_that_do_not_fit_are_refused() {
        let refused = |parts: &[(usize, u64, &'static [u8])], changes: &[(u64, &'static [u8])]| {
            Loading::parts(parts, changes).expect_err("refused").message
        };
        assert!(refused(&[(PARTS, 1, &[])], &[(1, &[])]).contains("beyond the last"));
        assert!(refused(&[(0, 1, &[]), (0, 2, &[])], &[(2, &[])]).contains("twice"));
        assert!(refused(&[(0, 1, &[])], &[]).contains("no changes"));
        assert!(refused(&[], &[(2, &[]), (2, &[])]).contains("out of order"));
        assert!(refused(&[(0, 3, &[])], &[(2, &[])]).contains("later epoch"));
    }
}
