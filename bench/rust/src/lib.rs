//! What the benches share: the corpora, who reads them into columns, and how time is taken.

pub mod columns;
pub mod contestants;
pub mod corpora;
pub mod cpu_time;
pub mod draw;
pub mod turns;
mod wanted;
