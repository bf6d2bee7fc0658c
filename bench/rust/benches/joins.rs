//! Joins of two feeds of 100,000 keys: by interval, in windows, as-of, with a table, and what reading alone takes.
//!
//! `make bench-joins` runs it; see `bench/README.md`. Invariant: no time is taken of a join whose rows were not those of
//! an independent count.

use serde_json::json;
use streamcore_bench::join_jobs::{Job, Kind};
use streamcore_bench::rounds::{Rounds, say};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A minute at 20,000 records a second and side: each key is met every 5 s.
const BOTH: Job =
    Job { kind: Kind::Nothing, how: "inner", left: 1_200_000, right: 1_200_000, keys: 100_000, lasts_ms: 60_000 };

/// The same with ten left rows for one of the table.
const TABLE: Job = Job { left: 2_000_000, right: 200_000, ..BOTH };

fn main() {
    let rounds = Rounds::from_environment();
    let jobs = [
        ("nothing joined", BOTH),
        ("interval of 5 s", Job { kind: Kind::Interval(-1_000, 4_000), ..BOTH }),
        ("interval of 5 s, outer", Job { kind: Kind::Interval(-1_000, 4_000), how: "outer", ..BOTH }),
        ("windows of 5 s", Job { kind: Kind::Window(5_000), ..BOTH }),
        ("windows of 5 s, outer", Job { kind: Kind::Window(5_000), how: "outer", ..BOTH }),
        ("as-of", Job { kind: Kind::AsOf(10_000), ..BOTH }),
        ("table", Job { kind: Kind::Table, ..TABLE }),
        ("table with versions", Job { kind: Kind::Versions, ..TABLE }),
    ];
    let mut found = Vec::new();
    for (name, job) in jobs.iter().filter(|(name, _)| rounds.wants(name)) {
        let pieces = job.pieces();
        let rows = job.check(&pieces).rows;
        let times = rounds.measure("joins", &[(*name, job)], |job| {
            let run = job.run(&pieces, |_| ());
            (job.events(), run.counting + run.ending)
        });
        let best_ns = times[0].1.iter().copied().fold(f64::INFINITY, f64::min);
        say(&format!("joins: {name}: {rows} rows of {} records, {:.2} million records/s", job.events(), 1e3 / best_ns));
        found.push(json!({"join": name, "ns": times[0].1, "records": job.events(), "rows": rows}));
    }
    rounds.leave("joins", &found.into());
}
