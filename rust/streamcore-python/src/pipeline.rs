//! `Pipeline`: the engine's pipeline, called by one thread at a time.
//!
//! `raw.rs` comes before, `arrow.rs` after. Invariant: every call that computes runs without the GIL; after
//! a panic inside, the pipeline refuses every further call.

use crate::arrow::Batch;
use crate::describe::fingerprint;
use crate::error::{Failure, enter, lock};
use crate::function::Function;
use crate::partials::{self, PyPartials};
use crate::raw::Raw;
use crate::readings::{Reading, told};
use crate::sealed::Sealed;
use crate::state_log::{StateRecords, json, unreadable};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use streamcore::checkpoint::log::Record;
use streamcore::checkpoint::manifest::Facts;
use streamcore::dedupe::Remembered;
use streamcore::lane::PartialsTopic;
use streamcore::partition::Partitioner;
use streamcore::pipeline::workers::Workers;
use streamcore::pipeline::{self, COMBINE_LANE, OpenWindow, OutputBatch};
use streamcore::room::Usage;
use streamcore::spec::Spec;
use streamcore::watermark::Now;

/// The engine: lanes, their steps, and the combine stage.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Pipeline(Mutex<Workers>);

/// Records of a lane's log.
type OneLaneRecords<'py> = Vec<(Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>)>;

/// The same by lane.
type LaneRecords<'py> = BTreeMap<i32, OneLaneRecords<'py>>;

impl Pipeline {
    /// Runs `call` on the pipeline between two pushes, without the GIL.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut pipeline::Pipeline) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        self.with(py, |workers| call(&mut *workers.pipeline()?))
    }

    /// Runs `call`, which makes rows, after all that was handed in: rows of earlier pushes come first.
    fn rows(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut pipeline::Pipeline) -> streamcore::error::Result<Vec<OutputBatch>> + Send,
    ) -> PyResult<Vec<Batch>> {
        let outputs = self.with(py, |workers| {
            workers.run(call)?;
            Ok(workers.take()?.0)
        })?;
        Ok(outputs.into_iter().map(Batch::from).collect())
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Workers) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        enter(py, || call(&mut *lock(&self.0, "the pipeline")?))
    }
}

#[pymethods]
impl Pipeline {
    /// Raises `ConfigError` listing every mistake.
    #[new]
    #[pyo3(signature = (spec, functions = None))]
    fn new(py: Python<'_>, spec: &[u8], functions: Option<BTreeMap<String, Py<PyAny>>>) -> PyResult<Self> {
        enter(py, move || {
            let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
            let mut spec = Spec::from_json(spec)?;
            for (name, function) in functions.unwrap_or_default() {
                spec.functions.insert(name, Arc::new(Function(function)));
            }
            let pipeline = pipeline::Pipeline::new(&spec, threads)?;
            Ok(Self(Mutex::new(Workers::new(pipeline))))
        })
    }

    /// Adds empty lanes. A push to a lane that was not assigned is an error.
    fn assign(&self, py: Python<'_>, lanes: Vec<i32>) -> PyResult<()> {
        self.run(py, move |pipeline| {
            pipeline.assign(&lanes);
            Ok(())
        })
    }

    /// Drops lanes and their state.
    fn revoke(&self, py: Python<'_>, lanes: Vec<i32>) -> PyResult<()> {
        self.with(py, move |workers| {
            workers.settled()?.revoke(&lanes);
            Ok(())
        })
    }

    /// Runs the records through their lanes; gives the first rows, and `go_on` the others. `raw` is empty afterwards.
    /// `now_ms` is by the clock on the wall, `steady_ms` by one that nobody sets.
    #[pyo3(signature = (raw, now_ms, steady_ms = None))]
    fn push(&self, py: Python<'_>, raw: &Raw, now_ms: i64, steady_ms: Option<i64>) -> PyResult<Vec<Batch>> {
        let now = Now { wall_ms: now_ms, steady_ms: steady_ms.unwrap_or(now_ms) };
        let outputs = self.with(py, |workers| {
            workers.push_now(&raw.take()?, now)?;
            Ok(workers.take()?.0)
        })?;
        Ok(outputs.into_iter().map(Batch::from).collect())
    }

    /// The same in the background; gives rows of earlier pushes, and whether the records were taken: if not, `raw` is as it
    /// was, and to be pushed again.
    #[pyo3(signature = (raw, now_ms, steady_ms = None))]
    fn push_behind(
        &self,
        py: Python<'_>,
        raw: &Raw,
        now_ms: i64,
        steady_ms: Option<i64>,
    ) -> PyResult<(Vec<Batch>, bool)> {
        let now = Now { wall_ms: now_ms, steady_ms: steady_ms.unwrap_or(now_ms) };
        let (outputs, taken) = self.with(py, |workers| {
            let has_room = workers.make_room(raw.bytes()?)?;
            if has_room {
                workers.push(raw.take()?, now)?;
            }
            Ok((workers.take()?.0, has_room))
        })?;
        Ok((outputs.into_iter().map(Batch::from).collect(), taken))
    }

    /// Records of each push that was applied since the last call, and how many of them were refused.
    fn pushed(&self, py: Python<'_>) -> PyResult<Vec<(u64, u64)>> {
        let counts = self.with(py, |workers| Ok(workers.take_counts()?))?;
        Ok(counts.into_iter().map(|counts| (counts.read, counts.rejected)).collect())
    }

    /// Waits for what is pushed in the background, and gives all rows.
    fn settle(&self, py: Python<'_>) -> PyResult<Vec<Batch>> {
        self.rows(py, pipeline::Pipeline::drain)
    }

    /// Waits as long as nothing need leave, then gives rows that have left, or the next ones of those still to leave.
    /// Further, how many pushes are still under way, and whether more rows are to come.
    fn go_on(&self, py: Python<'_>) -> PyResult<(Vec<Batch>, usize, bool)> {
        let (outputs, under_way, more) = self.with(py, |workers| {
            let more = workers.go_on()?;
            let (outputs, under_way) = workers.take()?;
            Ok((outputs, under_way, more))
        })?;
        Ok((outputs.into_iter().map(Batch::from).collect(), under_way, more))
    }

    /// Drops pushes that wait for rows of the one before them to leave; gives how many, the last ones.
    fn withdraw(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |workers| Ok(workers.withdraw()?))
    }

    /// Tells the time by the steady clock, which lanes have read everything readable, and which are of inputs that ended while others go on:
    /// idle logic, windows that close by it.
    #[pyo3(signature = (now_ms, caught_up, finished = None))]
    fn advance(
        &self,
        py: Python<'_>,
        now_ms: i64,
        caught_up: Vec<i32>,
        finished: Option<Vec<i32>>,
    ) -> PyResult<Vec<Batch>> {
        self.rows(py, move |pipeline| {
            pipeline.finish(&finished.unwrap_or_default());
            pipeline.advance(now_ms, &caught_up)
        })
    }

    /// The bounded input is over: watermark +infinity, every window closes. Lanes keep their clocks. Gives the first rows,
    /// and `go_on` the others, all of which are to be asked for before the epoch ends.
    fn end(&self, py: Python<'_>) -> PyResult<Vec<Batch>> {
        self.rows(py, pipeline::Pipeline::end)
    }

    /// Says that the rows of these lanes' end have left: until records come none leaves again, with `wait` by no clock either.
    #[pyo3(signature = (lanes, *, wait))]
    fn note_ended(&self, py: Python<'_>, lanes: Vec<i32>, wait: bool) -> PyResult<()> {
        self.run(py, move |pipeline| {
            pipeline.note_ended(&lanes, wait);
            Ok(())
        })
    }

    /// Those lanes that have read nothing since.
    #[getter]
    fn ended_lanes(&self, py: Python<'_>) -> PyResult<Vec<i32>> {
        self.run(py, |pipeline| Ok(pipeline.ended_lanes()))
    }

    /// Phase final: the same as `end` for those who look at open windows; in a run lanes tell of the end.
    fn end_partials(&self, py: Python<'_>) -> PyResult<Vec<Batch>> {
        self.rows(py, pipeline::Pipeline::end_partials)
    }

    /// Ends the epoch: rows of `updates` windows leave, ledgers are checked. Of `lanes` phase partial tells; None: of all.
    #[pyo3(signature = (lanes = None))]
    fn seal(&self, py: Python<'_>, lanes: Option<Vec<i32>>) -> PyResult<Sealed> {
        let sealed = self.with(py, move |workers| {
            let mut sealed = workers.settled()?.seal_of(lanes.as_deref())?;
            sealed.outputs.splice(..0, workers.take()?.0);
            Ok(sealed)
        })?;
        Sealed::new(py, sealed)
    }

    /// The sealed epoch is durable: its undo log is dropped.
    fn committed(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |workers| Ok(workers.committed()?))
    }

    /// State goes back to the last commit; so do the ledgers.
    fn rollback(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |workers| Ok(workers.rollback()?))
    }

    /// Sealed state of each lane; lane -1 is the combine stage.
    fn save<'py>(&self, py: Python<'py>) -> PyResult<Vec<(i32, Bound<'py, PyBytes>)>> {
        let saved = self.with(py, |workers| Ok(workers.settled()?.save()))?;
        Ok(saved.into_iter().map(|(lane, state)| (lane, PyBytes::new(py, &state))).collect())
    }

    /// Takes saved state, assigning its lanes. Raises `StateError` when it is damaged or of another pipeline.
    fn restore(&self, py: Python<'_>, lanes: Vec<(i32, PyBackedBytes)>) -> PyResult<()> {
        self.with(py, move |workers| {
            let lanes: Vec<(i32, Vec<u8>)> = lanes.iter().map(|(lane, state)| (*lane, state.to_vec())).collect();
            Ok(workers.run(|pipeline| pipeline.restore(&lanes).map(|()| Vec::new()))?)
        })
    }

    /// Records of the log of a lane, none yet, to be filled and handed to `recover`.
    fn state_records(&self, py: Python<'_>, lane: i32) -> PyResult<StateRecords> {
        let owner = self.run(py, move |pipeline| Ok(pipeline.log_owner(lane)))?;
        Ok(StateRecords::new(owner))
    }

    /// Takes the state of a lane from its records, assigning it; gives the manifest as JSON, or None where there is no
    /// state: then the lane is empty. With `repair` an older epoch where the newest is not whole. Raises `StateError`.
    #[pyo3(signature = (lane, records, *, repair = false))]
    fn recover<'py>(
        &self,
        py: Python<'py>,
        lane: i32,
        records: &StateRecords,
        repair: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let manifest = self.with(py, |workers| {
            let records = lock(&records.0, "the records")?;
            let mut pipeline = workers.settled()?;
            pipeline.revoke(&[lane]);
            let manifest = pipeline.recover_lane(&records, lane, repair)?;
            if manifest.is_none() && lane != COMBINE_LANE {
                pipeline.assign(&[lane]);
            }
            pipeline.restored();
            Ok(manifest)
        })?;
        Ok(manifest.map(|manifest| PyBytes::new(py, &json(&manifest))))
    }

    /// Of each lane that is sealed: digest of its state and watermark, ms.
    fn sealed_lanes(&self, py: Python<'_>) -> PyResult<BTreeMap<i32, (u64, i64)>> {
        self.with(py, |workers| {
            let pipeline = workers.settled()?;
            Ok(pipeline.saved_lanes().into_iter().map(|lane| (lane, pipeline.sealed_facts(lane))).collect())
        })
    }

    /// The records of the sealed epoch of these lanes, by lane: key, and value or None to delete it; the manifest comes
    /// last. `facts` is JSON for each lane.
    fn seal_logs<'py>(&self, py: Python<'py>, facts: BTreeMap<i32, PyBackedBytes>) -> PyResult<LaneRecords<'py>> {
        let facts = facts.into_iter().map(|(lane, facts)| Ok((lane, serde_json::from_slice(&facts)?)));
        let facts: BTreeMap<i32, Facts> = facts.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        let records = self.with(py, |workers| Ok(workers.settled()?.seal_logs(&facts)))?;
        let bytes = |value: Vec<u8>| PyBytes::new(py, &value);
        let of_lane = |records: Vec<Record>| records.into_iter().map(|(key, value)| (bytes(key), value.map(bytes)));
        Ok(records.into_iter().map(|(lane, records)| (lane, of_lane(records).collect())).collect())
    }

    /// Records that write the state of a lane, restored or recovered, whole, as an epoch behind all that `before` has: key,
    /// and value or None to delete it; the manifest comes last. `facts` is JSON. Raises `StateError`.
    fn rewrite<'py>(
        &self,
        py: Python<'py>,
        lane: i32,
        before: &StateRecords,
        facts: &[u8],
    ) -> PyResult<OneLaneRecords<'py>> {
        let facts: Facts = serde_json::from_slice(facts).map_err(|error| unreadable(&error))?;
        let records = self.with(py, |workers| {
            let before = lock(&before.0, "the records")?;
            Ok(workers.settled()?.rewrite_lane(lane, &before, facts)?)
        })?;
        let bytes = |value: Vec<u8>| PyBytes::new(py, &value);
        Ok(records.into_iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect())
    }

    /// Phase partial: where partials go, before the first seal. `partitions` of the topic of partials, `generation` of the
    /// state of this phase's lanes, number of `lanes` that the input has.
    #[pyo3(signature = (*, partitions, generation, lanes))]
    fn hand_over(&self, py: Python<'_>, partitions: u32, generation: u64, lanes: u32) -> PyResult<()> {
        self.run(py, move |pipeline| Ok(pipeline.hand_over(PartialsTopic { partitions, generation, lanes })?))
    }

    /// Phase partial: by lane, how many epochs it has told of that are committed.
    fn told(&self, py: Python<'_>) -> PyResult<BTreeMap<i32, u64>> {
        self.run(py, |pipeline| Ok(pipeline.told_numbers().collect()))
    }

    /// Phase partial: what the sealed epoch of `lanes` hands over, by lane: partition, key, value, in order.
    #[pyo3(signature = (lanes, *, seal))]
    fn partials<'py>(&self, py: Python<'py>, lanes: Vec<i32>, seal: u64) -> PyResult<PyPartials<'py>> {
        let records = self.with(py, |workers| Ok(workers.settled()?.partials(&lanes, seal)?))?;
        Ok(partials::to_python(py, lanes, records))
    }

    /// Phase final: partials that are missing are passed over and counted, not an error.
    fn accept_gaps(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, |pipeline| {
            pipeline.accept_gaps();
            Ok(())
        })
    }

    /// Phase final, by lane: what is known of the input's lanes.
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<BTreeMap<i32, Bound<'py, PyDict>>> {
        let known = self.run(py, |pipeline| Ok(partials::known(pipeline)))?;
        known.iter().map(|(lane, known)| Ok((*lane, partials::dict_of(py, known)?))).collect()
    }

    /// Makes so many lanes of those there are, each key where `partitioner` sends it; gives what was moved, as JSON.
    #[pyo3(signature = (lanes, partitioner = None))]
    fn rescale<'py>(&self, py: Python<'py>, lanes: u32, partitioner: Option<&str>) -> PyResult<Bound<'py, PyBytes>> {
        let partitioner = partitioner.and_then(Partitioner::named);
        let moved = self.with(py, |workers| Ok(workers.settled()?.rescale(lanes, partitioner)?))?;
        Ok(PyBytes::new(py, &json(&moved)))
    }

    /// Rows of windows in all lanes, and what they come to, whichever lanes they are in.
    fn contents(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let found = self.with(py, |workers| Ok(workers.settled()?.contents()))?;
        Ok((found.rows, found.digest))
    }

    /// Lanes too far ahead of the slowest (`max_lead`): read no more of them for now.
    fn paused(&self, py: Python<'_>) -> PyResult<Vec<i32>> {
        self.run(py, |pipeline| Ok(pipeline.paused()))
    }

    /// Per lane the counters of the conservation ledger. Lane -1: `late_after_combine`.
    fn ledger(&self, py: Python<'_>) -> PyResult<BTreeMap<i32, BTreeMap<&'static str, u64>>> {
        self.run(py, |pipeline| {
            let mut ledgers: BTreeMap<i32, BTreeMap<&'static str, u64>> =
                pipeline.ledgers().map(|(lane, ledger)| (lane, ledger.entries().into_iter().collect())).collect();
            ledgers.extend(pipeline.merging().map(|merging| (merging.id, merging.counts().entries().into())));
            if let Some(combine) = pipeline.combine() {
                let counters = [("late_after_combine", combine.late_after_combine())];
                ledgers.insert(COMBINE_LANE, counters.into_iter().collect());
            }
            Ok(ledgers)
        })
    }

    /// For each stage behind a window, by its first step: the counters of that window's rows.
    fn stages(&self, py: Python<'_>) -> PyResult<BTreeMap<String, BTreeMap<&'static str, u64>>> {
        self.run(py, |pipeline| {
            let stages = pipeline.stage_ledgers().into_iter();
            Ok(stages.map(|(name, ledger)| (name.to_owned(), ledger.entries().into_iter().collect())).collect())
        })
    }

    /// For each aggregate of which values were not to be had: how many, and why the first was.
    fn lost_values(&self, py: Python<'_>) -> PyResult<BTreeMap<String, (u64, String)>> {
        self.run(py, |pipeline| {
            let lost = pipeline.lost_values().into_iter();
            Ok(lost.map(|(name, count, first)| (name, (count, first.to_owned()))).collect())
        })
    }

    /// What each `dedupe` step holds, by its name: `ids`, `generations`, `bytes`, `fill`, `false_drop_rate`,
    /// `false_drops_expected`.
    fn dedupes(&self, py: Python<'_>) -> PyResult<BTreeMap<String, BTreeMap<&'static str, f64>>> {
        self.run(py, |pipeline| {
            let entries = |held: Remembered| BTreeMap::from(held.entries());
            Ok(pipeline.remembered().into_iter().map(|(name, held)| (name.to_owned(), entries(held))).collect())
        })
    }

    /// Per lane: `max_event_time_ms`, `watermark_ms`, `idle`, `caught_up`, `quiet_ms`. Lane -1: `watermark_ms` of the combine stage.
    fn clocks<'py>(&self, py: Python<'py>) -> PyResult<BTreeMap<i32, Bound<'py, PyDict>>> {
        let (readings, combined) =
            self.run(py, |pipeline| Ok((Reading::all(pipeline), pipeline.meeting_watermark_ms().map(told))))?;
        let mut clocks = BTreeMap::new();
        for (lane, reading) in readings {
            clocks.insert(lane, reading.to_dict(py)?);
        }
        if let Some(watermark_ms) = combined {
            let clock = PyDict::new(py);
            clock.set_item("watermark_ms", watermark_ms)?;
            clocks.insert(COMBINE_LANE, clock);
        }
        Ok(clocks)
    }

    /// Windows that end at `end_ms`, of each window step and lane (lane `None`: where lanes meet): `step`, `lane`,
    /// `start_ms`, `over_at_ms`, `keys` and `keys_estimated` of the open one (or `None`), `inputs_ms`: the watermark that the
    /// lanes of each input must reach for it to be over (`None`: nothing waits for them), `nearest_ms`: ends of other open
    /// ones.
    fn open_at<'py>(&self, py: Python<'py>, end_ms: i64) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let windows = self.run(py, move |pipeline| Ok(pipeline.open_at(end_ms)))?;
        let told = |window: OpenWindow| {
            let item = PyDict::new(py);
            item.set_item("step", window.step.to_string())?;
            item.set_item("lane", window.lane)?;
            item.set_item("start_ms", window.found.map(|open| open.start_ms))?;
            item.set_item("over_at_ms", window.found.map(|open| open.over_at_ms))?;
            item.set_item("keys", window.found.map(|open| open.keys))?;
            item.set_item("keys_estimated", window.found.map(|open| open.keys_estimated))?;
            item.set_item("inputs_ms", window.inputs_ms)?;
            item.set_item("nearest_ms", window.nearest_ms)?;
            Ok(item)
        };
        windows.into_iter().map(told).collect()
    }

    /// The epoch being filled, from 1.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, |pipeline| Ok(pipeline.epoch()))
    }

    /// Rows that the join holds of the left and the right side; None without a join.
    #[getter]
    fn join_rows(&self, py: Python<'_>) -> PyResult<Option<(u64, u64)>> {
        self.run(py, |pipeline| Ok(pipeline.join_rows().map(|[left, right]| (left, right))))
    }

    #[getter]
    fn state_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, |pipeline| Ok(pipeline.state_bytes()))
    }

    /// What each step that keeps state holds, by its place in the pipeline file: `keys` and `bytes`.
    fn state(&self, py: Python<'_>) -> PyResult<BTreeMap<String, BTreeMap<&'static str, u64>>> {
        let usages = self.run(py, |pipeline| Ok(pipeline.usages()))?;
        let counts = |load: Usage| BTreeMap::from([("keys", load.entries), ("bytes", load.bytes)]);
        Ok(usages.into_iter().map(|(step, load)| (step.to_string(), counts(load))).collect())
    }

    /// Whether going back to the last commit takes so much memory that the epoch is to be committed.
    #[getter]
    fn is_due(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |workers| Ok(workers.is_due()))
    }

    /// Bytes of state that the epoch has changed or added by the last push that was applied, roughly.
    #[getter]
    fn changed_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |workers| Ok(workers.changed_bytes()))
    }

    /// How often records had more layouts than the decoder keeps, so that it forgot them all.
    #[getter]
    fn layouts_forgotten(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, |pipeline| Ok(pipeline.layouts_forgotten()))
    }

    /// Batches whose group keys were not interned, since most keys of those before were met once.
    #[getter]
    fn batches_not_interned(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, |pipeline| Ok(pipeline.batches_not_interned()))
    }

    #[getter]
    fn open_windows(&self, py: Python<'_>) -> PyResult<usize> {
        self.run(py, |pipeline| Ok(pipeline.open_windows()))
    }

    /// Of the description: saved state of another fingerprint is refused.
    #[getter]
    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        self.run(py, |pipeline| Ok(fingerprint(pipeline.plan())))
    }
}
