//! Record sets as producers and brokers write them, whole, cut and damaged, are walked to what was written or refused.

mod damage;
mod encoder;
mod producer;
mod round_trip;
mod transactions;
mod walked;
