//! How contestants have their turns: rounds of ten samples each, of which the median is kept.
//!
//! Before it: a bench, which has checked their answers. After it: `bench/python/`, which finds the times in the folder
//! it named. Invariant: in every round all have their turn, so that a busy machine is busy for all.

use crate::cpu_time::CpuTime;
use criterion::{Criterion, SamplingMode, Throughput};
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Environment: the folder where a bench leaves its times, and what else the module of its name in `bench/python/` reads.
const FOLDER: &str = "STREAMCORE_BENCH_FOLDER";

/// Environment: how many turns each contestant has.
const ROUNDS: &str = "STREAMCORE_BENCH_ROUNDS";

/// Samples of one turn: the fewest that criterion takes.
const SAMPLES: usize = 10;

/// Nanoseconds an event by name, one value a round.
pub type Times = Vec<(&'static str, Vec<f64>)>;

/// What a contestant does in one pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Records read.
    pub events: usize,
    /// Bytes of their values.
    pub bytes: usize,
}

/// Turns as the command line and the environment want them.
pub struct Turns {
    criterion: Criterion<CpuTime>,
    /// Turns of each contestant.
    rounds: usize,
    /// Where results are left; `None`: nowhere.
    folder: Option<PathBuf>,
}

impl Turns {
    /// `turn_time`: about how long a turn lasts, where the command line does not say.
    ///
    /// # Panics
    ///
    /// When the number of rounds is none.
    #[must_use]
    pub fn new(turn_time: Duration) -> Self {
        let criterion = Criterion::default()
            .with_measurement(CpuTime)
            .sample_size(SAMPLES)
            .warm_up_time(Duration::from_millis(10))
            .measurement_time(turn_time)
            .nresamples(2_000)
            .configure_from_args();
        let rounds = env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
        Self { criterion, rounds, folder: env::var_os(FOLDER).map(PathBuf::from) }
    }

    /// Gives everyone their turns. `taken`: how long a contestant took for so many passes.
    pub fn measure<C>(
        &mut self,
        title: &str,
        pass: Pass,
        contestants: &mut [(&'static str, C)],
        taken: impl Fn(&mut C, u64) -> Duration,
    ) -> Times {
        let (elements, bytes) = (pass.events as u64, pass.bytes as u64);
        let mut times: Times = contestants.iter().map(|(name, _)| (*name, Vec::new())).collect();
        for round in 1..=self.rounds {
            let mut group = self.criterion.benchmark_group(format!("{title}/round {round}"));
            group.sampling_mode(SamplingMode::Flat).throughput(Throughput::ElementsAndBytes { elements, bytes });
            for ((name, contestant), (_, medians)) in contestants.iter_mut().zip(&mut times) {
                let mut samples = Vec::new();
                group.bench_function(*name, |bencher| {
                    bencher.iter_custom(|passes| {
                        let taken = taken(contestant, passes);
                        samples.push(taken.as_nanos() as f64 / (passes * elements) as f64);
                        taken
                    });
                });
                // Those before are of the warm-up.
                medians.extend(median(&samples[samples.len().saturating_sub(SAMPLES)..]));
            }
            group.finish();
        }
        times
    }

    /// Where results are left; `None`: nowhere.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// All had their turns.
    pub fn finish(&self) {
        self.criterion.final_summary();
    }
}

/// `None`: there are no samples, since the command line asks for other benches.
fn median(samples: &[f64]) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}
