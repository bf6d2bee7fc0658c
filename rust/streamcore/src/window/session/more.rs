//! What most sessions do not have: several links, several cells, rows written.
//!
//! `session/slots.rs` keeps it beside the columns. Invariant: a plain session has none of it.

use super::pieces::Cells;
use super::value::Link;
use super::written::Written;
use crate::window::aggregate::Accumulators;

/// What most sessions do not have.
#[derive(Debug, Clone)]
pub struct More {
    /// See [`Session::links`](super::value::Session::links).
    pub links: Vec<Link>,
    /// Aggregates of the cells behind the first; see `pieces.rs`.
    pub later: Cells,
    /// See [`Session::changed`](super::value::Session::changed).
    pub changed: bool,
    /// See [`Session::written`](super::value::Session::written).
    pub written: Option<Box<Written>>,
}

impl More {
    /// This, unless a session with these first and last events that has it is plain.
    pub fn boxed(self, (start_ms, last_ms): (i64, i64)) -> Option<Box<Self>> {
        let plain = |link: &Link| link.first_ms == start_ms && link.last_ms == last_ms && link.clock_ms == i64::MIN;
        let Self { links, later, changed, written } = &self;
        let is_plain = matches!(&links[..], [link] if plain(link)) && later.is_empty() && !changed && written.is_none();
        (!is_plain).then(|| Box::new(self))
    }

    /// Aggregates of `cell`, which is behind the first; as in `empty` if there are none yet.
    pub fn cell_mut(&mut self, cell: i64, empty: &Accumulators) -> &mut Accumulators {
        // Most events are in the last cell.
        let place = match self.later.back() {
            Some((last, _)) if *last == cell => Ok(self.later.len() - 1),
            _ => self.later.binary_search_by_key(&cell, |(known, _)| *known),
        };
        let place = place.unwrap_or_else(|place| {
            self.later.insert(place, (cell, empty.clone()));
            place
        });
        &mut self.later[place].1
    }

    /// Bytes held, roughly; an entry of `later` takes `piece`.
    pub fn byte_len(&self, piece: usize) -> usize {
        let written = self.written.as_ref().map_or(0, |written| written.byte_len());
        size_of::<Self>() + self.links.len() * size_of::<Link>() + self.later.len() * piece + written
    }
}
