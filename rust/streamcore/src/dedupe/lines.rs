//! The lines of a part, which grow where they lie.
//!
//! Whole large pages of them are the beginning of a mapping of such pages, so the first lines never move and a line is
//! found by its number alone; what is left, less than a page, lies in a vector beside those of other parts. When the
//! part grows that comes to lie in the mapping, too. So no page is half empty, however many parts there are. Invariant:
//! a line that was never written is without entries.

use super::line::Line;
use crate::prefetch::prefetch_at;
use crate::state::{LARGE_PAGE, Region};

/// Lines of a large page.
const PAGE_LINES: usize = LARGE_PAGE / size_of::<Line>();

/// A list of lines that only grows.
#[derive(Debug, Default)]
pub struct Lines {
    /// Whole large pages of lines.
    pages: Region<Line>,
    /// How many lines they are.
    split: usize,
    /// The lines behind them.
    rest: Vec<Line>,
    /// Addresses of line 0 as the whole pages have it, and as the rest has: a prefetch asks for no more.
    starts: [usize; 2],
}

impl Lines {
    #[inline]
    pub fn get(&self, line: usize) -> &Line {
        let split = self.split;
        let (lines, at) = if line < split { (self.pages.get(), line) } else { (&self.rest[..], line - split) };
        &lines[at]
    }

    #[inline]
    pub fn get_mut(&mut self, line: usize) -> &mut Line {
        let split = self.split;
        let (lines, at) = if line < split { (self.pages.get_mut(), line) } else { (&mut self.rest[..], line - split) };
        &mut lines[at]
    }

    /// Has a line fetched: without a branch, as it cannot be foreseen where the line is.
    #[inline]
    pub fn prefetch(&self, line: usize) {
        let [of_pages, of_rest] = self.starts;
        let start = if line < self.split { of_pages } else { of_rest };
        prefetch_at(start.wrapping_add(line * size_of::<Line>()) as *const Line);
    }

    /// Appends lines without entries until there are `len`.
    pub fn grow(&mut self, len: usize) {
        let split = len - len % PAGE_LINES;
        if split > self.split {
            if self.split == 0 {
                self.pages = Region::mapped(split);
            } else {
                self.pages.grow(split);
            }
            let rest = std::mem::take(&mut self.rest);
            self.pages.get_mut()[self.split..][..rest.len()].copy_from_slice(&rest);
            self.split = split;
        }
        self.rest.reserve_exact(len - split - self.rest.len());
        self.rest.resize(len - split, Line::EMPTY);
        let of_rest = self.rest.as_ptr().addr().wrapping_sub(split * size_of::<Line>());
        self.starts = [self.pages.get().as_ptr().addr(), of_rest];
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.pages.get().iter().chain(&self.rest)
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.pages.byte_len() + self.rest.capacity() * size_of::<Line>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_what_was_written_and_take_no_more_than_they_are() {
        let (mut lines, mut model) = (Lines::default(), Vec::new());
        // Within a vector, to one page and a part, a whole one more, within the mapping, and to a longer one.
        let pages = |halves: usize| PAGE_LINES * halves / 2;
        for len in [4, 900, pages(1), pages(3), pages(3) + 1, pages(4), pages(5), pages(17), pages(41)] {
            let old = model.len();
            lines.grow(len);
            model.resize(len, Line::EMPTY);
            assert!(lines.iter().eq(&model), "{len} lines");
            assert_eq!(lines.byte_len(), len * size_of::<Line>());
            for at in (old..len).step_by(7).chain([len - 1]) {
                let tag = (at % 1000 + 1) as u16;
                lines.get_mut(at).set(at % 6, at as u128, tag, at % 2 == 0);
                model[at].set(at % 6, at as u128, tag, at % 2 == 0);
                assert_eq!(lines.get(at), &model[at]);
            }
        }
        assert!(lines.iter().eq(&model));
    }
}
