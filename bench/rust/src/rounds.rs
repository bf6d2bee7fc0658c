//! How jobs that take seconds have their turns: one pass each, round after round.
//!
//! Before it: a bench, which has checked their answers. After it: `bench/python/`, which reads the times. Invariant: in
//! every round all have their turn, so that a busy machine is busy for all.

use serde_json::Value;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

/// Environment: the folder where a bench leaves its times; see `turns.rs`.
const FOLDER: &str = "STREAMCORE_BENCH_FOLDER";

/// Environment: how many passes each job has.
const ROUNDS: &str = "STREAMCORE_BENCH_ROUNDS";

/// Nanoseconds an event by name, one value a round.
pub type Times = Vec<(String, Vec<f64>)>;

/// Rounds as the command line and the environment want them.
#[derive(Debug)]
pub struct Rounds {
    /// Passes of each job.
    count: usize,
    /// Where results are left; `None`: nowhere.
    folder: Option<PathBuf>,
    /// Parts of the names of what is run; none: all.
    wanted: Vec<String>,
}

impl Rounds {
    /// What the command line and the environment say.
    ///
    /// # Panics
    ///
    /// When the number of rounds is none.
    #[must_use]
    pub fn from_environment() -> Self {
        let count = env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
        let wanted = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        Self { count, folder: env::var_os(FOLDER).map(PathBuf::from), wanted }
    }

    /// Whether the part called `name` is to be run.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }

    /// Gives every job its passes. `taken`: the events of a pass, and how long it took.
    pub fn measure<J>(&self, title: &str, jobs: &[(&str, J)], taken: impl Fn(&J) -> (u64, Duration)) -> Times {
        let mut times: Times = jobs.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
        for round in 1..=self.count {
            for ((name, job), (_, rounds)) in jobs.iter().zip(&mut times) {
                let (events, time) = taken(job);
                let event_ns = time.as_nanos() as f64 / events as f64;
                say(&format!("{title}, round {round}: {name}: {event_ns:.1} ns an event"));
                rounds.push(event_ns);
            }
        }
        times
    }

    /// How many rounds there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Leaves what was found as `name`.json.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn leave(&self, name: &str, found: &Value) {
        if let Some(folder) = &self.folder {
            fs::write(folder.join(format!("{name}.json")), found.to_string()).expect("a folder to write to");
        }
    }
}

/// Talk, which goes to stderr.
///
/// # Panics
///
/// When nobody takes it.
pub fn say(text: &str) {
    writeln!(io::stderr(), "{text}").expect("someone who reads");
}
