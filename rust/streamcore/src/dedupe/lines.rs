//! The lines of a part of the table, and the order in which an entry tries them.
//!
//! `table` keeps the entries in them. Invariant: a path comes to every line.

use super::line::Line;

/// How far apart the first lines are in which an entry may be, at most: they mostly share a page.
pub const STRIDES: usize = 16;
/// Lines of a chunk, 64 KiB.
pub const CHUNK_LINES: usize = 1024;

/// Lines in chunks, all but the last of the same length. While a part is resized the last ones are still to come.
#[derive(Debug)]
pub struct Lines {
    /// Those that have come.
    pub chunks: Vec<Box<[Line]>>,
    /// How many lines, those to come included.
    pub count: usize,
    /// Chunks to be used again.
    pub spare: Vec<Box<[Line]>>,
}

impl Lines {
    /// So many, all to come.
    pub const fn to_come(count: usize) -> Self {
        Self { chunks: Vec::new(), count, spare: Vec::new() }
    }

    /// Has the chunks up to that of `line` come.
    #[inline]
    pub fn reach(&mut self, line: usize) {
        while self.chunks.len() <= line / CHUNK_LINES {
            self.next_chunk();
        }
    }

    #[cold]
    fn next_chunk(&mut self) {
        let length = CHUNK_LINES.min(self.count - self.chunks.len() * CHUNK_LINES);
        let chunk = match self.spare.pop() {
            Some(mut chunk) if chunk.len() == length => {
                chunk.fill(Line::default());
                chunk
            }
            _ => vec![Line::default(); length].into_boxed_slice(),
        };
        self.chunks.push(chunk);
    }

    /// Line number `line`.
    #[inline]
    pub fn get(&self, line: usize) -> &Line {
        &self.chunks[line / CHUNK_LINES][line % CHUNK_LINES]
    }

    /// Line number `line`.
    #[inline]
    pub fn get_mut(&mut self, line: usize) -> &mut Line {
        &mut self.chunks[line / CHUNK_LINES][line % CHUNK_LINES]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.chunks.iter().flatten()
    }
}

/// The lines of a part that the entry of a hash may be in, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Where it is now.
    pub line: usize,
    /// How far the next is; later on one, so that every line comes.
    stride: usize,
    /// Lines there are.
    lines: usize,
    /// How many came before.
    pub passed: usize,
}

impl Path {
    /// Of a hash in `lines`: 32 of its bits for the first line and some others for the stride.
    #[inline]
    pub const fn new(home: u64, stride: usize, lines: usize) -> Self {
        Self { line: ((home * lines as u64) >> 32) as usize, stride: stride % STRIDES + 1, lines, passed: 0 }
    }

    /// The second, of the first.
    #[inline]
    pub const fn second(self) -> Self {
        let mut line = self.line + self.stride;
        while line >= self.lines {
            line -= self.lines;
        }
        Self { line, passed: 1, ..self }
    }

    /// The next.
    #[inline]
    pub const fn next(self) -> Self {
        let stride = if self.passed < STRIDES { self.stride } else { 1 };
        Self { passed: self.passed + 1, ..Self { stride, ..self }.second() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_path_comes_to_every_line() {
        for (lines, stride) in (1..70).flat_map(|lines| (0..STRIDES).map(move |stride| (lines, stride))) {
            let mut path = Path::new(0xdead_beef, stride, lines);
            assert!(path.line < lines);
            assert_eq!(path.second().line, path.next().line);
            let mut met = BTreeSet::new();
            while path.passed < lines + STRIDES {
                met.insert(path.line);
                path = path.next();
            }
            assert_eq!(met.len(), lines, "stride {stride}");
        }
    }

    #[test]
    fn chunks_that_serve_again_are_empty() {
        let mut line = Line::default();
        line.pass();
        let mut lines = Lines::to_come(CHUNK_LINES * 2 + 3);
        lines.spare = vec![vec![line; CHUNK_LINES].into_boxed_slice(), vec![line; 5].into_boxed_slice()];
        lines.reach(CHUNK_LINES * 2 + 2);
        assert_eq!(lines.chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [CHUNK_LINES, CHUNK_LINES, 3]);
        assert!(lines.iter().count() == lines.count && !lines.iter().any(Line::is_passed));
    }
}
