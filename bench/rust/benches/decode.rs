//! JSON records to columns: streamcore and the fastest parsers there are.
//!
//! `make bench-decode` runs it and prints the table; see `bench/README.md`. All contestants have their turn at a
//! corpus, several rounds of them, so that a busy machine is busy for all. Invariant: no time is taken before
//! every contestant gave the same columns and refused the same spoiled records.

use criterion::measurement::Measurement as _;
use serde_json::json;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};
use streamcore::batch::Column;
use streamcore::raw::RawBatch;
use streamcore_bench::columns::to_json;
use streamcore_bench::contestants::{self, Contestant};
use streamcore_bench::corpora::{self, Corpus};
use streamcore_bench::cpu_time::CpuTime;
use streamcore_bench::turns::{Pass, Times, Turns};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records decoded in one go, as the engine cuts them.
const RANGE_ROWS: usize = 4096;

/// Places at which a record is spoiled, about.
const PLACES: usize = 500;

/// Contestants by name.
type Contestants = Vec<(&'static str, Box<dyn Contestant>)>;

fn main() {
    let mut turns = Turns::new(Duration::from_millis(100));
    for corpus in corpora::all() {
        let mut contestants = contestants::all(corpus.shape);
        let answer = check(&corpus, &mut contestants);
        let pass = Pass { events: corpus.raw.len(), bytes: corpus.bytes() };
        let times = turns.measure(corpus.name, pass, &mut contestants, |contestant, passes| {
            taken(&corpus.raw, contestant.as_mut(), passes)
        });
        if let Some(folder) = turns.folder() {
            keep(folder, &corpus, &answer, &times).expect("a folder to write to");
        }
    }
    turns.finish();
}

fn ranges(raw: &RawBatch) -> impl Iterator<Item = Range<usize>> {
    (0..raw.len()).step_by(RANGE_ROWS).map(|start| start..(start + RANGE_ROWS).min(raw.len()))
}

/// The columns of each range, after all contestants gave the same.
fn check(corpus: &Corpus, contestants: &mut Contestants) -> Vec<Vec<Column>> {
    let mut answer: Vec<Vec<Column>> = Vec::new();
    for (name, contestant) in contestants {
        for (number, range) in ranges(&corpus.raw).enumerate() {
            let columns = contestant.read(&corpus.raw, range);
            let columns = columns.unwrap_or_else(|| panic!("{name} refuses a record of {}", corpus.name));
            if answer.len() == number {
                answer.push(columns.to_vec());
            }
            assert!(columns == answer[number], "{name} reads {} differently", corpus.name);
        }
        for record in spoiled(corpus.records().next().expect("a record")) {
            let mut raw = RawBatch::new(0, "spoiled".into(), 1, record.len());
            raw.push(Some(&record), 0, Some(0)).expect("small");
            raw.seal();
            assert!(contestant.read(&raw, 0..1).is_none(), "{name} takes {}", record.escape_ascii());
        }
    }
    answer
}

/// `record` cut short, or with a byte in it that may be nowhere.
fn spoiled(record: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..record.len()).step_by(record.len() / PLACES + 1).flat_map(|place| {
        let with = |byte| [&record[..place], &[byte], &record[place + 1..]].concat();
        [record[..place].to_vec(), with(0x01), with(0xff)]
    })
}

fn taken(raw: &RawBatch, contestant: &mut dyn Contestant, passes: u64) -> Duration {
    let start = CpuTime.start();
    for _ in 0..passes {
        for range in ranges(raw) {
            black_box(contestant.read(raw, range));
        }
    }
    CpuTime.end(start)
}

/// Writes the records, a line each, and beside them what they hold and how long it took to read them.
fn keep(folder: &Path, corpus: &Corpus, answer: &[Vec<Column>], times: &Times) -> io::Result<()> {
    let name = corpus.name.replace(' ', "-");
    let lines: Vec<u8> = corpus.records().flat_map(|record| [record, b"\n"].concat()).collect();
    fs::write(folder.join(format!("{name}.jsonl")), lines)?;
    let values = |place: usize| answer.iter().flat_map(move |columns| to_json(&columns[place])).collect::<Vec<_>>();
    let fields = corpus.shape.fields().iter().enumerate();
    let about = json!({
        "name": corpus.name,
        "events": corpus.raw.len(),
        "bytes": corpus.bytes(),
        "columns": fields.map(|(place, (path, _))| (path, values(place))).collect::<Vec<_>>(),
        "ns": times,
    });
    fs::write(folder.join(format!("{name}.json")), about.to_string())
}
