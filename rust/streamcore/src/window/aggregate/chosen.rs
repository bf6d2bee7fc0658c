//! `arg_min` and `arg_max`: a value that goes with the least or greatest of another.
//!
//! `typed` feeds them as `extreme` cells. Invariant: of rows whose deciding value is equal the first
//! by (event time, partition, offset) wins, for the greatest as for the least, whichever came first.

use super::AggregatePlan;
use super::extreme::{Place, Value};
use super::stored::Stored;
use crate::batch::Scalar;
use crate::codec::Reader;
use crate::error::Result;
use std::cmp::Ordering;

/// A value behind what decides and its place. Where the greatest wins, places count backwards.
#[derive(Debug, Clone)]
pub(super) struct Chosen<const GREATEST: bool> {
    by: Stored,
    place: Place,
    value: Stored,
}

impl<const GREATEST: bool> Chosen<GREATEST> {
    /// True when both values are of the plan's types.
    pub fn fits(&self, plan: &AggregatePlan) -> bool {
        self.value.fits(plan.output.values()) && plan.second.is_none_or(|by| self.by.fits(by))
    }
}

impl<const GREATEST: bool> Value for Chosen<GREATEST> {
    type Ref<'a> = (Scalar<'a>, Place, Scalar<'a>);
    const FORM: u8 = if GREATEST { 23 } else { 22 };

    fn compare(left: Self::Ref<'_>, right: Self::Ref<'_>) -> Ordering {
        let later = left.1.cmp(&right.1).then_with(|| Stored::compare(left.2, right.2));
        Stored::compare(left.0, right.0).then(if GREATEST { later.reverse() } else { later })
    }

    fn get(&self) -> Self::Ref<'_> {
        (self.by.get(), self.place, self.value.get())
    }

    fn own((by, place, value): Self::Ref<'_>) -> Self {
        Self { by: Stored::own(by), place, value: Stored::own(value) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.by.encode(out);
        self.place.encode(out);
        self.value.encode(out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { by: Stored::decode(saved)?, place: Place::decode(saved)?, value: Stored::decode(saved)? })
    }

    fn heap_len(&self) -> usize {
        self.by.heap_len() + self.value.heap_len()
    }
}
