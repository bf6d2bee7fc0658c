//! `Fetcher`: records of Kafka's partitions, fetched beside the consumer that was given them.
//!
//! `sources/kafka_native.py` says which partitions and from where on; `pipeline.rs` takes the batches that [`Fetcher::take`] makes a
//! [`Raw`] of. Invariant: of a partition a raw batch has one piece, the next one.

use crate::error::{Failure, enter, lock};
use crate::raw::Raw;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamcore::error::{Error, ErrorKind};
use streamcore_kafka::config::{Choice, Token, TokenSource, from_librdkafka};
use streamcore_kafka::connection::Dialer;
use streamcore_kafka::failure::{Failure as BrokerFailure, said};
use streamcore_kafka::fetch::{self, Assignment, Limits, Progress, Settings, TopicPartition, TroubleFault};
use streamcore_kafka::secret::Secret;

const NAME: &str = "the fetcher";

/// A topic and a partition of it.
type Place = (String, i32);

/// What `take` returns: the records, next offsets, records that were fetched again, troubles.
type Taken = (Raw, BTreeMap<Place, i64>, u64, Vec<Trouble>);

/// A partition, the kind of what is wrong with it, and the words.
type Trouble = (Place, &'static str, String);

/// Fetches partitions of Kafka until it is closed.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Fetcher {
    /// None once it is closed.
    fetcher: Mutex<Option<Arc<fetch::Fetcher>>>,
    inputs: BTreeMap<String, i32>,
}

#[expect(clippy::needless_pass_by_value, reason = "what Python hands over is made here")]
#[pymethods]
impl Fetcher {
    /// For a cluster that is reached by librdkafka's `settings`; `tokens` gives the token of an OAUTHBEARER login, as
    /// `oauth_cb` does. `inputs` says of topics which input they are, where a pipeline has several.
    #[new]
    #[pyo3(signature = (
        settings, *, keys, headers, record_bytes_max = None, inputs = None, tokens = None, wait_ms = 500,
        fetch_bytes_max = 16 << 20, partition_bytes_max = 4 << 20, queued_bytes_max = 128 << 20
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        settings: BTreeMap<String, String>,
        keys: bool,
        headers: bool,
        record_bytes_max: Option<u64>,
        inputs: Option<BTreeMap<String, i32>>,
        tokens: Option<Py<PyAny>>,
        wait_ms: u64,
        fetch_bytes_max: usize,
        partition_bytes_max: usize,
        queued_bytes_max: usize,
    ) -> PyResult<Self> {
        enter(py, || {
            let config =
                match from_librdkafka(&settings, tokens.map(token_source)).map_err(|failure| refused(&failure))? {
                    Choice::Native(config) => *config,
                    Choice::Librdkafka(missing) => {
                        let missing: Vec<_> = missing.into_iter().collect();
                        let message = format!("the native transport does not have {}", missing.join(", "));
                        return Err(Error::new(ErrorKind::Config, message).into());
                    }
                };
            let default = Settings::default();
            let records = streamcore_kafka::records::Settings { keys, headers, record_bytes_max, ..default.records };
            let wait_max = Duration::from_millis(wait_ms);
            let settings =
                Settings { records, wait_max, fetch_bytes_max, partition_bytes_max, queued_bytes_max, ..default };
            let fetcher = fetch::Fetcher::new(Dialer::new(config).map_err(|failure| refused(&failure))?, settings)
                .map_err(|error| Failure::Source(format!("records cannot be fetched: {error}")))?;
            Ok(Self { fetcher: Mutex::new(Some(Arc::new(fetcher))), inputs: inputs.unwrap_or_default() })
        })
    }

    /// The settings that a fetcher does not have, by name; with `has_tokens` where there is a callback for tokens.
    #[staticmethod]
    fn lacks(py: Python<'_>, settings: BTreeMap<String, String>, has_tokens: bool) -> PyResult<Vec<String>> {
        enter(py, || {
            let none = || TokenSource::new(|| Err("none is asked for".to_owned()));
            match from_librdkafka(&settings, has_tokens.then(none)).map_err(|failure| refused(&failure))? {
                Choice::Native(_) => Ok(Vec::new()),
                Choice::Librdkafka(missing) => Ok(missing.into_iter().collect()),
            }
        })
    }

    /// Takes on partitions at their offsets; those that are there already begin anew. Paused ones wait until they are resumed.
    fn assign(&self, py: Python<'_>, offsets: BTreeMap<Place, i64>, paused: bool) -> PyResult<()> {
        enter(py, || {
            let fetcher = self.open()?;
            let assignment = |(place, offset): (&Place, &i64)| Assignment {
                is_paused: paused,
                ..Assignment::new(of(place), *offset)
            };
            fetcher.assign(&offsets.iter().map(assignment).collect::<Vec<_>>());
            Ok(())
        })
    }

    /// Lets go of partitions: nothing of them is handed out from now on.
    fn revoke(&self, py: Python<'_>, places: Vec<Place>) -> PyResult<()> {
        enter(py, || self.open().map(|fetcher| fetcher.revoke(&all(&places))))
    }

    /// Reads a partition from `offset` on; false where it is not assigned.
    fn seek(&self, py: Python<'_>, place: Place, offset: i64) -> PyResult<bool> {
        enter(py, || self.open().map(|fetcher| fetcher.seek(&of(&place), offset)))
    }

    /// Records of a partition from `stop` on are not wanted; `None`: all are.
    fn stop_at(&self, py: Python<'_>, place: Place, stop: Option<i64>) -> PyResult<bool> {
        enter(py, || self.open().map(|fetcher| fetcher.stop_at(&of(&place), stop)))
    }

    /// Hands out nothing of partitions until they are resumed, and fetches no more of them.
    fn pause(&self, py: Python<'_>, places: Vec<Place>) -> PyResult<()> {
        enter(py, || self.open().map(|fetcher| fetcher.pause(&all(&places))))
    }

    /// Goes on with partitions that were paused.
    fn resume(&self, py: Python<'_>, places: Vec<Place>) -> PyResult<()> {
        enter(py, || self.open().map(|fetcher| fetcher.resume(&all(&places))))
    }

    /// What is there, of each partition the next piece, about `records_max` in all; waits up to `timeout_s` for the first.
    /// `(raw, next offsets, refetched, troubles)`: of a partition in trouble nothing comes until it is sought or revoked.
    fn take(&self, py: Python<'_>, records_max: usize, timeout_s: f64) -> PyResult<Taken> {
        enter(py, || {
            let fetcher = self.open()?;
            let timeout = Duration::try_from_secs_f64(timeout_s.max(0.0)).unwrap_or_default();
            let taken = fetcher.take(timeout, Limits { records_max, ..Limits::default() });
            let mut batches = taken.batches;
            for batch in &mut batches {
                batch.input = self.inputs.get(&*batch.topic).copied().unwrap_or(0);
            }
            let moved = taken.moved.iter().map(|moved| (name(&moved.place), moved.next_offset)).collect();
            let troubles = taken
                .troubles
                .iter()
                .map(|trouble| (name(&trouble.place), kind(&trouble.fault), trouble.fault.to_string()));
            Ok((Raw::from_batches(batches), moved, taken.counts.refetched_records, troubles.collect()))
        })
    }

    /// Of each partition `next_offset`, `high_watermark`, `last_stable_offset`, `log_start`, `queued_bytes`, `silent_s` and
    /// `last_failure`, as far as they are known.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<BTreeMap<Place, Bound<'py, PyDict>>> {
        let progress = enter(py, || self.open().map(|fetcher| fetcher.progress()))?;
        progress.into_iter().map(|(place, progress)| Ok((name(&place), told(py, &progress)?))).collect()
    }

    /// Ends its threads. Twice is as good as once.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || {
            drop(lock(&self.fetcher, NAME)?.take());
            Ok(())
        })
    }
}

impl Fetcher {
    fn open(&self) -> Result<Arc<fetch::Fetcher>, Failure> {
        lock(&self.fetcher, NAME)?.clone().ok_or_else(|| Failure::Misuse("the fetcher is closed".to_owned()))
    }
}

fn of((topic, partition): &Place) -> TopicPartition {
    TopicPartition::new(topic.as_str(), *partition)
}

fn all(places: &[Place]) -> Vec<TopicPartition> {
    places.iter().map(of).collect()
}

fn name(place: &TopicPartition) -> Place {
    (place.topic.to_string(), place.partition)
}

fn told<'py>(py: Python<'py>, progress: &Progress) -> PyResult<Bound<'py, PyDict>> {
    let told = PyDict::new(py);
    told.set_item("next_offset", progress.next_offset)?;
    told.set_item("high_watermark", progress.high_watermark)?;
    told.set_item("last_stable_offset", progress.last_stable_offset)?;
    told.set_item("log_start", progress.log_start)?;
    told.set_item("queued_bytes", progress.queued_bytes)?;
    told.set_item("answered_s", progress.answered_for.map(|age| age.as_secs_f64()))?;
    told.set_item("silent_s", progress.silent_for.map(|silence| silence.as_secs_f64()))?;
    told.set_item("last_failure", progress.last_failure.as_ref().map(ToString::to_string))?;
    Ok(told)
}

/// What a trouble is called in Python.
fn kind(fault: &TroubleFault) -> &'static str {
    match fault {
        TroubleFault::OutOfRange { .. } => "out_of_range",
        TroubleFault::Truncated { .. } => "truncated",
        TroubleFault::OtherTopic { .. } => "other_topic",
        TroubleFault::Refused(_) => "refused",
        TroubleFault::TooLarge { .. } => "too_large",
        TroubleFault::Failed(failure) if failure.is_denied() => "denied",
        TroubleFault::Failed(_) => "failed",
        TroubleFault::Panicked(_) => "panicked",
    }
}

/// Settings that cannot be used.
fn refused(failure: &BrokerFailure) -> Failure {
    Error::new(ErrorKind::Config, failure.to_string()).into()
}

/// Asks the callback that librdkafka would ask: `oauth_cb(config)` gives a token, when it ends, and perhaps a principal and
/// extensions.
fn token_source(callback: Py<PyAny>) -> TokenSource {
    TokenSource::new(move || {
        Python::attach(|py| {
            let given = callback.bind(py).call1(("",)).map_err(|error| class_of(py, &error))?;
            let token = given.get_item(0).and_then(|token| token.extract::<String>());
            let extensions = given.get_item(3).and_then(|extensions| extensions.extract()).unwrap_or_default();
            let value = token.map_err(|_| "it gave no token".to_owned())?;
            Ok(Token { value: Secret::new(value), extensions })
        })
    })
}

/// Never its text, in which a token may be.
fn class_of(py: Python<'_>, error: &PyErr) -> String {
    error.get_type(py).name().map_or_else(|_| "it failed".to_owned(), |name| said(&format!("it raised {name}")))
}
