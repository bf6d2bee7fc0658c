//! What the benches share: corpora and feeds, who reads them, the answers, and how time is taken.

pub mod clicks;
pub mod columns;
pub mod contestants;
pub mod corpora;
pub mod cpu_time;
pub mod dedupe_step;
pub mod draw;
pub mod group_by;
pub mod join_jobs;
pub mod nexmark;
pub mod nexmark_answers;
pub mod record_sets;
pub mod rounds;
pub mod run;
pub mod turns;
mod wanted;
pub mod window_jobs;
