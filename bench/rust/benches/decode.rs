//! JSON records to columns: streamcore and the fastest parsers there are.
//!
//! `make bench-decode` runs it and prints the table; see `bench/README.md`. All contestants have their turn at a
//! corpus, several rounds of them, so that a busy machine is busy for all. Invariant: no time is taken before
//! every contestant gave the same columns and refused the same spoiled records.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, SamplingMode, Throughput};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, io};
use streamcore::batch::Column;
use streamcore::raw::RawBatch;
use streamcore_bench::columns::to_json;
use streamcore_bench::contestants::{self, Contestant};
use streamcore_bench::corpora::{self, Corpus};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Environment: the folder where corpora, answers and times are left for `bench/python/decode.py`.
const FOLDER: &str = "STREAMCORE_BENCH_FOLDER";

/// Environment: how many turns each contestant has.
const ROUNDS: &str = "STREAMCORE_BENCH_ROUNDS";

/// Records decoded in one go, as the engine cuts them.
const RANGE_ROWS: usize = 4096;

/// Samples of one turn: the fewest that criterion takes.
const SAMPLES: usize = 10;

/// Places at which a record is spoiled, about.
const PLACES: usize = 500;

/// Contestants by name.
type Contestants = Vec<(&'static str, Box<dyn Contestant>)>;

/// Nanoseconds an event by name, one value a round.
type Times = Vec<(&'static str, Vec<f64>)>;

/// Time that this thread had on a processor: steadier than a clock where others use the machine too.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(10))
        .measurement_time(Duration::from_millis(100))
        .nresamples(2_000)
        .configure_from_args();
    let folder = env::var(FOLDER).ok();
    let rounds = env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    for corpus in corpora::all() {
        let mut contestants = contestants::all(corpus.shape);
        let answer = check(&corpus, &mut contestants);
        let times = measure(&mut criterion, &corpus, &mut contestants, rounds);
        if let Some(folder) = &folder {
            keep(Path::new(folder), &corpus, &answer, &times).expect("a folder to write to");
        }
    }
    criterion.final_summary();
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

fn measure(criterion: &mut Criterion<CpuTime>, corpus: &Corpus, contestants: &mut Contestants, rounds: usize) -> Times {
    let (elements, bytes) = (corpus.raw.len() as u64, corpus.bytes() as u64);
    let mut times: Times = contestants.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 1..=rounds {
        let mut group = criterion.benchmark_group(format!("{}/round {round}", corpus.name));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::ElementsAndBytes { elements, bytes });
        for ((name, contestant), (_, medians)) in contestants.iter_mut().zip(&mut times) {
            let mut samples = Vec::new();
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|passes| {
                    let taken = taken(&corpus.raw, contestant.as_mut(), passes);
                    samples.push(taken.as_nanos() as f64 / (passes * elements) as f64);
                    taken
                });
            });
            medians.extend(median(&samples[samples.len().saturating_sub(SAMPLES)..]));
        }
        group.finish();
    }
    times
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

/// `None`: there are no samples, since the command line asks for other benches.
fn median(samples: &[f64]) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
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
