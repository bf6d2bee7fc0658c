//! What most sessions do not have: several links, several cells, rows written.
//!
//! `session/slots.rs` keeps it beside the columns. Invariant: a plain session has none of it.

use super::value::{Link, Session};
use super::written::Written;
use crate::window::aggregate::Accumulators;

/// What most sessions do not have.
#[derive(Debug, Clone)]
pub struct More {
    /// See [`Session::links`].
    pub links: Vec<Link>,
    /// Aggregates of the cells behind the first; see `pieces.rs`.
    pub later: Vec<(i64, Accumulators)>,
    /// See [`Session::changed`].
    pub changed: bool,
    /// See [`Session::written`].
    pub written: Option<Box<Written>>,
}

impl More {
    /// Of a session that is not plain.
    pub fn of(session: &Session, later: &[(i64, Accumulators)]) -> Option<Box<Self>> {
        let Session { start_ms, last_ms, links, changed, written, .. } = session;
        let plain = |link: &Link| {
            let Link { first_ms, last_ms: to_ms, clock_ms, .. } = link;
            first_ms == start_ms && to_ms == last_ms && *clock_ms == i64::MIN
        };
        let is_plain = matches!(&links[..], [link] if plain(link)) && later.is_empty() && !changed && written.is_none();
        (!is_plain).then(|| {
            let (links, later, written) = (links.clone(), later.to_vec(), written.clone());
            Box::new(Self { links, later, changed: *changed, written })
        })
    }

    /// Bytes held, roughly; an entry of `later` takes `piece`.
    pub fn byte_len(&self, piece: usize) -> usize {
        let written = self.written.as_ref().map_or(0, |written| written.byte_len());
        size_of::<Self>() + self.links.len() * size_of::<Link>() + self.later.len() * piece + written
    }
}
