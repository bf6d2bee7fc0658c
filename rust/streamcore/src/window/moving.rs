//! Windows of all kinds that become those of other lanes.
//!
//! `flow/moving.rs` calls it. Invariant: a kind that cannot be moved is refused by its name, and nothing is moved.

use super::Windows;
use crate::error::{Error, Result};
use crate::state::{Contents, Route};

impl Windows {
    /// What the rows come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        match self {
            Self::Aligned(windows) => windows.contents(),
            Self::Session(windows) => windows.contents(),
            Self::Sliding(windows) => windows.contents(),
        }
    }

    /// Windows of `count` lanes with the keys of `olds`, all of one plan, which fire in their lanes.
    pub fn moved(olds: &[&Self], count: usize, route: &mut Route<'_>, contents: &mut Contents) -> Result<Vec<Self>> {
        let aligned = olds.iter().filter_map(|old| if let Self::Aligned(it) = old { Some(&**it) } else { None });
        let sessions = olds.iter().filter_map(|old| if let Self::Session(it) = old { Some(&**it) } else { None });
        match olds.first() {
            Some(Self::Aligned(_)) => {
                let moved = super::state::AlignedWindows::moved(&aligned.collect::<Vec<_>>(), count, route, contents)?;
                Ok(moved.into_iter().map(|windows| Self::Aligned(Box::new(windows))).collect())
            }
            Some(Self::Session(_)) => {
                let moved =
                    super::session::SessionWindows::moved(&sessions.collect::<Vec<_>>(), count, route, contents)?;
                Ok(moved.into_iter().map(|windows| Self::Session(Box::new(windows))).collect())
            }
            Some(Self::Sliding(_)) => Err(Error::state(
                "windows of kind sliding cannot be moved to other partitions: which of a key's rows have left follows from the \
                 clock of its partition",
            )),
            None => Ok(Vec::new()),
        }
    }

    /// Rows are half way out.
    pub(super) fn still_leaving() -> Error {
        Error::state("rows of windows that are over are still to leave; let a worker run on until they have")
    }
}
