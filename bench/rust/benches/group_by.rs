//! A group-by over columns in memory: the engine's turn, where `bench/python/group_by.py` gives everyone theirs.
//!
//! Without a command it leaves the columns and the answer for each number of keys. `-- worker KEYS LANES` says what it
//! is ready for, then takes a line of input for each turn: the name of a file for its rows, or nothing, and says how
//! long that took. Invariant: the same rows come out of every turn; whoever started it compares those of the first.

use arrow_array::RecordBatch;
use serde_json::json;
use std::env;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use streamcore_bench::clicks::Clicks;
use streamcore_bench::group_by::{self, GroupBy, Taken};
use streamcore_bench::rounds::say;

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 200 s of event time at 20,000 events a second: four windows.
const EVENTS: u64 = 4_000_000;

const KEYS: [u64; 3] = [1_000, 100_000, 1_000_000];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["worker", keys, lanes] => work(keys.parse().expect("a number"), lanes.parse().expect("a number")),
        _ => prepare(&PathBuf::from(env::var_os("STREAMCORE_BENCH_FOLDER").expect("a folder"))),
    }
}

fn clicks(keys: u64) -> Clicks {
    Clicks { events: EVENTS, keys, per_second: 20_000, copies: false }
}

/// Leaves, for each number of keys, `<keys>.columns.arrow` and `<keys>.answer.arrow`; and what there is, with the program
/// that is a worker.
fn prepare(folder: &Path) {
    for keys in KEYS {
        say(&format!("group_by: columns of {EVENTS} events of {keys} keys"));
        group_by::leave_columns(&clicks(keys), &folder.join(format!("{keys}.columns.arrow")));
        group_by::leave_answer(&clicks(keys), &folder.join(format!("{keys}.answer.arrow")));
    }
    let about = json!({"events": EVENTS, "keys": KEYS, "worker": env::current_exe().expect("this program")});
    std::fs::write(folder.join("group_by.json"), about.to_string()).expect("a folder to write to");
}

fn work(keys: u64, lanes: usize) {
    let job = GroupBy::new(&clicks(keys), lanes);
    answer(&json!({"ready": true}));
    for line in io::stdin().lock().lines() {
        let (batches, Taken { wall, cpu }) = job.pass();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        match line.expect("text").as_str() {
            "" => (),
            path => group_by::leave(batches.into_iter(), Path::new(path)),
        }
        answer(&json!({"rows": rows, "seconds": wall.as_secs_f64(), "cpu_seconds": cpu.as_secs_f64()}));
    }
}

fn answer(what: &serde_json::Value) {
    writeln!(io::stdout(), "{what}").expect("someone who reads");
}
