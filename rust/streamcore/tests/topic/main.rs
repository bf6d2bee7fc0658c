//! Lanes that meet through a topic give the rows of lanes that meet in one process, however frames of theirs come among one
//! another, whatever is taken back, restarted or delivered twice.

#[path = "../common/mod.rs"]
mod common;
mod gaps;
mod lanes;
mod random;
mod refused;
mod same;
mod world;
