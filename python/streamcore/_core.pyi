"""Type stubs of the Rust extension. Checked against the binary by `mypy.stubtest`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

__all__ = [
    "FAULTS",
    "LANES_PER_INPUT",
    "MANIFEST_SLOTS",
    "PARTITIONERS",
    "Batch",
    "CommitMachine",
    "Fetcher",
    "FileReader",
    "Generator",
    "Intake",
    "Pipeline",
    "Raw",
    "Sealed",
    "StateCopy",
    "StateRecords",
    "__version__",
    "absent_fields",
    "check_copy",
    "checkpoint_parts",
    "decode_checkpoint",
    "describe",
    "infer_fields",
    "inspect_partial",
    "locate_toml",
    "partition_of",
    "simd",
]

__version__: str

FAULTS: bool
"""Whether tests may make the worker fail."""
LANES_PER_INPUT: int
"""Where inputs are joined, the lanes of input `n` are numbered from `n` times this; 0 is the pipeline's own."""

MANIFEST_SLOTS: int
"""Manifests of a lane lie in so many records of its log, by turns."""
PARTITIONERS: list[str]
"""Names of the ways in which producers choose the partition of a key, as librdkafka has them."""

def partition_of(partitioner: str, key: bytes, partitions: int) -> int | None:
    """The partition of a key among so many, as a producer with this partitioner chooses it; None where it may be any.

    Raises `ValueError` for a partitioner that is not known.
    """

def simd() -> str:
    """Names the instruction set the decoder uses: the widest of this CPU, or the one that `STREAMCORE_SIMD` names."""

def locate_toml(text: str) -> dict[str, tuple[int, int]]:
    """Maps each path of a TOML document (`steps[1].aggregate.views`) to its 1-based (line, column).

    Raises `ConfigError` with the position when the text is not TOML.
    """

def describe(spec: bytes) -> dict[str, Any]:
    """Checks a pipeline description and says what it needs and gives.

    Keys: `problems` (list of `{path, message, hint, text, start, end}`; `text`, `start`, `end` are None
    without a caret), `undeclared` (field paths whose type the result depends on and nobody declared, each
    `{path, input, used_at, takes_number}`; `input` is None for the pipeline's own), `fingerprint` (of the description, as
    `Pipeline.fingerprint`; None while there are problems), `columns` (the result's `[name, type]` pairs, empty while there
    are problems), `fields` (the `[path, type]` pairs the decoder extracts), `needs_keys`, `needs_headers` (record parts the steps use),
    `inputs` (by name, the last three of other inputs),
    `combine` (`"local"`, `"topic"` or `"none"`), `phase` (`"partial"`, `"final"` or None), `topic_problems` (like
    `problems`: why lanes could not meet through a topic, whether or not they are to), `windowed` (bool), `emit` (`"final"`,
    `"updates"` or None),
    `retracts` (bool: rows may carry `retracted`), `plan` (the text of `streamcore explain`).
    """

def infer_fields(raw: Raw, paths: Sequence[str]) -> tuple[dict[str, str], dict[str, tuple[str, dict[str, str]]]]:
    """What a sample of records says of each field path.

    First the types (`string` where no record has a value). Second the fields that no record has, null or not, though one
    has an object where they would be: the name that is missing there, and the names at its place with the paths that
    have them instead.
    """

def absent_fields(raw: Raw, paths: Sequence[str], of_input: int = 0) -> dict[str, tuple[str, dict[str, str]]] | None:
    """The second answer of `infer_fields` alone, by the records of one input; None where there are none of it."""

def inspect_partial(value: bytes) -> dict[str, Any]:
    """What a record of a topic of partials says of itself.

    `kind` (`"partial"` or `"marker"`), `fingerprint` (of the pipeline without a phase), `lane`, `generation`, `number`,
    `partition`, `partitions`, `seal`, `bytes`; of a marker also `watermark_ms`, `max_event_time_ms`, `idle`, `ended`, `lanes`,
    `frames`, `events`. Raises `StateError` for a record that is none, or damaged.
    """

def checkpoint_parts(header: bytes, lanes: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """The parts of one checkpoint file: magic, version, `header` (JSON of the caller's), lane states, checksums; the states as they are."""

def decode_checkpoint(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Undoes `checkpoint_parts`, joined. Raises `StateError` that says which part is damaged or unknown."""

@final
class Raw:
    """Undecoded records of one or more lanes, in offset order within each lane."""

    @staticmethod
    def from_records(
        lane: int,
        topic: str,
        records: Sequence[
            tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]] | None, int | None, int]
        ],
        record_bytes_max: int | None = None,
    ) -> Raw:
        """From `(value, key, headers, timestamp_ms, offset)` tuples; offsets rise.

        A value of more than `record_bytes_max` bytes is not copied, only its beginning: it is refused when decoded.
        """

    @staticmethod
    def from_lines(lane: int, topic: str, data: bytes, base: int) -> Raw:
        """From newline-separated records; a record's offset is `base` plus its place in `data`."""

    def of_input(self, input: int) -> None:  # noqa: A002 - named like what it is
        """Says that the records are of an input beside the pipeline's own: 1 for that of its join."""

    def add(self, other: Raw) -> None:
        """Takes the batches of `other`, which is empty afterwards. Their lanes must not occur here yet."""

    def __len__(self) -> int: ...
    @property
    def byte_len(self) -> int:
        """Bytes of all values."""

@final
class Intake:
    """Takes confluent_kafka messages into one batch for each partition.

    `bounds` are, by topic and partition, the next offset and the one to stop before (`None`: none). Messages of other
    partitions, or below the next offset, are left out and counted as refetched; those from the stop on are left to a
    later run. Where all partitions are of one topic, so are the messages. Keys and headers are taken if asked for.
    A value of more than `record_bytes_max` bytes is not copied, only its beginning: it is refused when decoded.
    `inputs` says of topics which input they are, where a pipeline has several.
    """

    def __new__(
        cls,
        bounds: Mapping[tuple[str, int], tuple[int, int | None]],
        *,
        keys: bool,
        headers: bool,
        record_bytes_max: int | None = None,
        inputs: Mapping[str, int] | None = None,
    ) -> Intake: ...
    def take(self, messages: Sequence[Any]) -> list[Any]:
        """Copies what is wanted of the messages; gives back those that carry an error instead of a record."""

    def finish(self) -> tuple[Raw, dict[tuple[str, int], int], int]:
        """`(raw, positions, refetched)`: the records, and the next offsets of the partitions that had messages."""

    def __len__(self) -> int: ...

@final
class Fetcher:
    """Fetches partitions of Kafka on threads of its own, beside the consumer that was given them.

    `settings` are librdkafka's of a connection, as text; `tokens` is its `oauth_cb`. Keys and headers are taken if asked for. Of a
    value of more than `record_bytes_max` bytes there is its beginning: it is refused when decoded. `inputs` says of topics
    which input they are. A broker waits up to `wait_ms` for records; an answer has about `fetch_bytes_max` bytes, and
    `partition_bytes_max`, at most, of a partition; about `queued_bytes_max` are held ahead of `take`. Raises `ConfigError`.
    """

    def __new__(
        cls,
        settings: Mapping[str, str],
        *,
        keys: bool,
        headers: bool,
        record_bytes_max: int | None = None,
        inputs: Mapping[str, int] | None = None,
        tokens: Callable[[str], Any] | None = None,
        wait_ms: int = 500,
        fetch_bytes_max: int = ...,
        partition_bytes_max: int = ...,
        queued_bytes_max: int = ...,
    ) -> Fetcher: ...
    @staticmethod
    def lacks(settings: Mapping[str, str], has_tokens: bool) -> list[str]:
        """The settings that a fetcher does not have, by name. Raises `ConfigError` for those that nobody can use."""

    def assign(self, offsets: Mapping[tuple[str, int], int], paused: bool) -> None:
        """Takes on partitions at their offsets; those that are there already begin anew. Paused ones wait until they are resumed."""

    def revoke(self, places: Sequence[tuple[str, int]]) -> None:
        """Lets go of partitions: nothing of them is handed out from now on."""

    def seek(self, place: tuple[str, int], offset: int) -> bool:
        """Reads a partition from `offset` on; false where it is not assigned."""

    def stop_at(self, place: tuple[str, int], stop: int | None) -> bool:
        """Records of a partition from `stop` on are not wanted; `None`: all are. False where it is not assigned."""

    def pause(self, places: Sequence[tuple[str, int]]) -> None:
        """Hands out nothing of partitions until they are resumed, and fetches no more of them."""

    def resume(self, places: Sequence[tuple[str, int]]) -> None:
        """Goes on with partitions that were paused."""

    def take(
        self, records_max: int, timeout_s: float
    ) -> tuple[Raw, dict[tuple[str, int], int], int, list[tuple[tuple[str, int], str, str]]]:
        """What is there, of each partition the next piece, about `records_max` in all; waits up to `timeout_s` for the first.

        `(raw, next offsets, refetched, troubles)`. A trouble is `(place, kind, why)`; nothing comes of its partition until it is
        sought or revoked. Kinds: `out_of_range`, `truncated`, `other_topic`, `refused`, `too_large`, `denied`, `failed`, `panicked`.
        """

    def progress(self) -> dict[tuple[str, int], dict[str, Any]]:
        """How far each partition is, as far as it is known.

        `next_offset`, `high_watermark`, `last_stable_offset`, `log_start`, `queued_bytes`, `answered_s` (how long ago a broker told that),
        `silent_s` (how long none has, where one was asked) and `last_failure`.
        """

    def close(self) -> None:
        """Ends its threads. Twice is as good as once."""

@final
class FileReader:
    """Reads a file of records in large pieces, straight into a `Raw`, with the GIL released.

    `framing` is `"lines"`, or how the length before each record is written: `"varint"` or `"u32be"`. A record of more
    than `record_bytes_max` bytes is never held whole: its beginning is a record that is refused when it is decoded.
    `grows`: a record that the file ends within is left to a later read, of lines one whose JSON goes on; otherwise it is
    one that is refused.
    """

    def __new__(
        cls,
        path: str,
        lane: int,
        topic: str,
        position: int = 0,
        *,
        framing: str = "lines",
        record_bytes_max: int = ...,
        grows: bool = False,
    ) -> FileReader: ...
    def read(self, bytes_max: int) -> Raw | None:
        """The next whole records, or None at the end.

        At least one, though it be longer than `bytes_max`, except while a line over the limit is passed over.
        Raises `SourceError` where the file cannot be read, or its lengths cannot be true.
        """
    def read_ahead(self, bytes_max: int, pieces: int = 1) -> None:
        """Reads what the next `pieces` calls of `read` return, in the background."""
    @property
    def left(self) -> int:
        """Bytes read behind `position` and not handed out: at the end, of a record that the file ends within."""
    @property
    def position(self) -> int:
        """Byte after the last record handed out."""

@final
class Generator:
    """Seeded clickstream events, the reference event of the benchmarks.

    `lanes` lanes, keyed by user: user `u` is always in lane `murmur2(u) % lanes`. `start_ms` defaults to
    1,790,000,000,000 (2026-09-21T14:13:20Z).
    """

    def __new__(
        cls,
        name: str = "clickstream",
        *,
        seed: int = 1,
        lanes: int = 1,
        start_ms: int = ...,
        events_per_second: float = 20_000.0,
        out_of_order_ms: int = 0,
        duplicate_rate: float = 0.0,
        position: int = 0,
    ) -> Generator: ...
    def read(self, count: int) -> Raw:
        """The next `count` events; event time grows by `1000 / events_per_second` ms an event."""
    @property
    def position(self) -> int:
        """Events made so far, of all lanes."""
    @property
    def event_time_ms(self) -> int:
        """Event time of the next event, before disorder."""

@final
class Batch:
    """Rows of one output as Arrow: `result`, `late`, `future` or `rejected`."""

    @property
    def output(self) -> str: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Bytes of the rows and their headers. Of what several batches share each has its own part."""
    @property
    def column_names(self) -> list[str]: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __len__(self) -> int: ...
    def select(self, columns: Sequence[str]) -> Batch:
        """The named columns in that order. Raises `ConfigError` for a name that is not there."""
    def slice(self, start: int, length: int) -> Batch: ...
    def to_rows(self) -> list[dict[str, Any]]:
        """Python values; timestamps are aware `datetime`s in UTC."""
    def to_json(
        self, *, columns: Sequence[str] | None = None, timestamp_format: str = "iso", skip_null_rows: bool = False
    ) -> list[bytes]:
        """One compact JSON object a row. `timestamp_format`: `iso` (milliseconds, `Z`) or `epoch_ms`.

        Binary values are base64 text. `skip_null_rows` leaves out rows of which every column is null.
        """
    def headers(self, row: int) -> list[tuple[str, bytes | None]]:
        """The original record's headers (outputs other than windowed results)."""

@final
class StateRecords:
    """The records of one lane's log, in order, to be recovered from."""

    def add(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Takes the next records: key, and value or None where it was deleted."""
    def write_behind(self, epoch: int) -> None:
        """Has epochs that are written anew be behind this one."""
    def manifests(self) -> list[tuple[bytes, bool]]:
        """The manifests as JSON, newest first, each with whether all that it names is there. Raises `StateError`."""
    def inspect(self) -> bytes:
        """What there is, as JSON, whatever is wrong with it.

        `manifests` (newest first, each with what is wrong with what it names, or null), `problems` beside them, how many
        `records` and `bytes`.
        """
    def keys(self) -> list[bytes]:
        """Keys of all records that are there."""

@final
class StateCopy:
    """Writes the copy of one lane's log: what goes into its file, which somebody else keeps."""

    def __new__(cls, facts: bytes) -> StateCopy:
        """Of a file that is not there yet. `facts` is a JSON object that says what it is a copy of."""
    @staticmethod
    def read(facts: bytes, file: bytes, records: StateRecords) -> tuple[StateCopy, bytes, bytes, int, int]:
        """Puts the records of a file into `records`, which has none yet.

        Gives the copy, to be gone on with; the key, the value and the offset of its newest manifest; how many bytes of the
        file count. Raises `StateError` for a file that is not a copy of what `facts` say.
        """
    @staticmethod
    def of(facts: bytes, records: StateRecords, epoch: int, manifest_offset: int) -> tuple[StateCopy, bytes]:
        """The copy of all `records`, and its file; their newest manifest is of `epoch`, and lies at `manifest_offset`."""
    def append(self, records: Sequence[tuple[bytes, bytes | None]], epoch: int, manifest_offset: int) -> bytes:
        """What the file goes on with: the records of `epoch`, whose manifest lies at `manifest_offset` of the log."""
    def shrunk(self, file: bytes) -> bytes:
        """The file without what is over. Raises `StateError` where `file` is not what was written."""
    @property
    def records(self) -> int:
        """How many records of the file count."""
    @property
    def is_long(self) -> bool:
        """Whether about half of the file, or more, is over."""
    @property
    def epoch(self) -> int | None:
        """The last epoch in it, or None."""

def check_copy(records: StateRecords, manifest: bytes, is_there: bool) -> None:
    """Whether the log, read from the end of a copy on into `records` that hold the copy, goes on from that copy.

    `manifest` is its newest one; `is_there`: the log has it at its place still. Raises `StateError` where it does not.
    """

@final
class CommitMachine:
    """The commit machine: see `docs/decisions/0030-the-commit-machine.md`."""

    def __new__(cls, settings: bytes) -> CommitMachine:
        """`settings` is JSON. Raises `ValueError` for a setting that there is not."""
    def handle(self, event: bytes, now_ms: int) -> bytes:
        """Takes an event as JSON, at a time that never falls; gives the actions as JSON."""
    @staticmethod
    def check_traces(traces: list[str]) -> tuple[int, int]:
        """Holds recorded traces of a pipeline's workers against this machine, and against each other.

        Gives how many calls and how many manifests were compared. Raises `StateError` for the first that differs.
        """

@final
class Sealed:
    """What an epoch leaves behind when it is sealed."""

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 1."""
    @property
    def outputs(self) -> list[Batch]: ...
    @property
    def digest(self) -> int:
        """Digest of all state; equal state, equal digest."""

@final
class Pipeline:
    """The engine: lanes, their steps, and the combine stage.

    One thread at a time. Every call that computes releases the GIL. Times are ms since the epoch (UTC).
    """

    def __new__(cls, spec: bytes, functions: Mapping[str, Callable[[Batch], object]] | None = None) -> Pipeline:
        """Raises `ConfigError` listing every mistake.

        `functions` are what the names in `map_batches` mean. One may be called by any of the engine's threads, once a
        batch; it gives Arrow (`__arrow_c_stream__` or `__arrow_c_array__`) or, as text, the reason why it failed.
        """
    def assign(self, lanes: Sequence[int]) -> None:
        """Adds empty lanes. A push to a lane that was not assigned is an error."""
    def revoke(self, lanes: Sequence[int]) -> None:
        """Drops lanes and their state."""
    def push(self, raw: Raw, now_ms: int, steady_ms: int | None = None) -> list[Batch]:
        """Runs the records through their lanes. `raw` is empty afterwards.

        `now_ms` is by the clock on the wall; `steady_ms`, where that is another, by one that nobody sets, as in `advance`.

        Calls that give rows first wait for what is pushed in the background, and give its rows first. Of many rows that
        leave at once they give the first ones, and `go_on` the others; the next call that gives rows begins with what
        was not asked for.
        """
    def push_behind(self, raw: Raw, now_ms: int, steady_ms: int | None = None) -> tuple[list[Batch], bool]:
        """The same in the background: gives rows of earlier pushes, and whether the records were taken.

        Where they were not, `raw` is as it was: of the many rows of an earlier push the next ones must leave before, and
        these are among the ones given. It waits while the threads have enough to do. Pushes are decoded side by side and
        applied in order. Other calls see the pipeline between two pushes; what makes a push fail is raised by this
        or a later call, and nothing more is pushed then until a rollback.
        """
    def pushed(self) -> list[tuple[int, int]]:
        """Records of each push that was applied since the last call, in order, and how many of them were refused.

        Rows of windows that a step behind refuses in a later piece come as refused of 0 records.
        """
    def settle(self) -> list[Batch]:
        """Waits for what is pushed in the background, and gives all rows."""
    def go_on(self) -> tuple[list[Batch], int, bool]:
        """Waits as long as nothing need leave, then gives rows that have left, or the next ones of those still to leave.

        Further, how many pushes are still under way, and whether there is more to ask for. With no push under way an
        epoch may end before the other rows leave; not after `end`, whose rows are all of one epoch.
        """
    def withdraw(self) -> int:
        """Drops pushes that wait for rows of the one before them to leave, so that an epoch may end between those rows.

        Gives how many, the last ones; their records are to be handed in again.
        """
    def advance(self, now_ms: int, caught_up: Sequence[int], finished: Sequence[int] | None = None) -> list[Batch]:
        """Tells the time, and which lanes have read everything readable: idle logic, windows that close by it.

        `now_ms` is by a clock that nobody sets: how long nothing came is measured by it. `finished`: lanes of inputs that ended while others go on.
        """
    def end(self) -> list[Batch]:
        """The bounded input is over: watermark +infinity, every window closes. Lanes keep their clocks.

        All rows are to be asked for (`go_on`, `settle`) before the epoch ends. Where windows meet through a topic no row leaves: phase
        partial tells of the end, and phase final hears of it.
        """
    def note_ended(self, lanes: Sequence[int], *, wait: bool) -> None:
        """Says that the rows of these lanes' end have left, in this run or another: until records come they do not leave again.

        `wait`: this run ends too, so they leave by no clock either. Of lanes that meet others it changes nothing.
        """
    @property
    def ended_lanes(self) -> list[int]:
        """Those lanes that have read nothing since."""
    def end_partials(self) -> list[Batch]:
        """Phase final: every window closes, whatever lanes have told; for those who look at open windows."""
    def seal(self, lanes: Sequence[int] | None = None) -> Sealed:
        """Ends the epoch: rows of `updates` windows leave, ledgers are checked, digest is brought up to date.

        `lanes` are those of the epoch, of which phase partial tells; None: all.
        """
    def committed(self) -> None:
        """The sealed epoch is durable: its undo log is dropped."""
    def rollback(self) -> None:
        """State goes back to the last commit; so do the ledgers. What is pushed in the background is dropped."""
    def save(self) -> list[tuple[int, bytes]]:
        """Sealed state of each lane; lane -1 is the combine stage."""
    def restore(self, lanes: Sequence[tuple[int, bytes]]) -> None:
        """Takes saved state, assigning its lanes. Raises `StateError` when it is damaged or of another pipeline."""
    def state_records(self, lane: int) -> StateRecords:
        """Records of the log of a lane, none yet, to be filled and handed to `recover`."""
    def recover(self, lane: int, records: StateRecords, *, repair: bool = False) -> bytes | None:
        """Takes the state of a lane from its records, assigning it; gives the manifest as JSON.

        None where there is no state: then the lane is empty. With `repair` an older epoch where the newest is not
        whole. Raises `StateError`.
        """
    def sealed_lanes(self) -> dict[int, tuple[int, int]]:
        """Of each lane that is sealed: digest of its state and watermark, ms."""
    def seal_logs(self, facts: Mapping[int, bytes]) -> dict[int, list[tuple[bytes, bytes | None]]]:
        """The records of the sealed epoch of these lanes, by lane: key, and value or None to delete it.

        The manifest comes last. `facts` is JSON for each lane.
        """
    def rewrite(self, lane: int, before: StateRecords, facts: bytes) -> list[tuple[bytes, bytes | None]]:
        """Records that write the state of a lane, restored or recovered, whole: an epoch behind all that `before` has.

        Key, and value or None to delete it; the manifest comes last. `facts` is JSON. Raises `StateError`.
        """
    def hand_over(self, *, partitions: int, generation: int, lanes: int) -> None:
        """Phase partial: where partials go; to be said before the first seal, and when one of these changes.

        `partitions` of the topic of partials, `generation` of the state of this phase's lanes, and number of `lanes` that
        the input has, those of other workers included. Raises `ConfigError` in another phase.
        """
    def told(self) -> dict[int, int]:
        """Phase partial: by lane, the number of the last epoch that it handed over and that is committed; 0: none."""
    def partials(self, lanes: Sequence[int], *, seal: int) -> dict[int, list[tuple[int, bytes, bytes]]]:
        """Phase partial: what the sealed epoch of these lanes hands over: partition, key, value, in order.

        To be asked between `seal` and `committed`, of all lanes that are committed; a lane that has nothing to tell has an
        empty list. Of each partition the last record is a marker. `seal` tells the epoch from another of its number.
        """
    def accept_gaps(self) -> None:
        """Phase final: partials that are missing are passed over and counted (`missing`), not an error."""
    def inputs(self) -> dict[int, dict[str, Any]]:
        """Phase final, by lane: what is known of the input's lanes. Empty in other pipelines.

        `lanes`: how many there are, None before the first marker; `generation`; `complete`: all were heard of; `idle`: all are;
        `ended`: all have, perhaps in an earlier run; `over`: they have, and rows have left of all that was merged; `waiting`: records whose marker has not come, or that wait for rows to leave; `table`: by input lane
        `generation`, `number`, `seal`, `watermark_ms`, `max_event_time_ms`, `idle`, `ended` as of the epoch merged last.
        """
    def rescale(self, lanes: int, partitioner: str | None = None) -> bytes:
        """Makes so many lanes of those there are, each key where `partitioner` sends it; gives what was moved, as JSON.

        Raises `StateError`: nothing was changed.
        """
    def contents(self) -> tuple[int, int]:
        """Rows of windows in all lanes, and what they come to, whichever lanes they are in."""
    def paused(self) -> list[int]:
        """Lanes too far ahead of the slowest (`max_lead`): read no more of them for now."""
    def ledger(self) -> dict[int, dict[str, int]]:
        """The conservation ledger of each lane.

        Counters: read, applied, filtered, duplicate, late, future, rejected, tombstone, and the sub-counts
        no_window, shed, late_windows. Lane -1: late_after_combine. In phase final: partials (records counted in
        partials) = merged + late_after_combine; frames, repeated, missing
        (epochs), incomplete (sessions without what was missing).
        """
    def stages(self) -> dict[str, dict[str, int]]:
        """For each stage behind a window, by its first step (`steps[2]`): where the rows of that window went.

        The counters are those of a lane's ledger; here they count rows of the window, not records.
        """
    def lost_values(self) -> dict[str, tuple[int, str]]:
        """For each aggregate of which values are null since they were not to be had: how many, and why the first was.

        Sums beyond their type, and values for which a function of the user failed. Since the pipeline was made; rows of
        epochs that were tried again count each time.
        """
    def dedupes(self) -> dict[str, dict[str, float]]:
        """What each dedupe step (`steps[0]`) holds in all lanes.

        ids, generations, bytes; fill: ids in the filters that are filled the furthest, for each for which they were
        made; false_drop_rate: an upper bound for a new id that comes now; false_drops_expected: records dropped so far
        that were no copies, as expected. The last three are 0 for method "exact".
        """
    def clocks(self) -> dict[int, dict[str, int | bool | None]]:
        """Per lane: max_event_time_ms, watermark_ms, idle, caught_up, quiet_ms. Lane -1: watermark_ms of the combine stage."""
    @property
    def epoch(self) -> int:
        """The epoch being filled, from 1."""
    def state(self) -> dict[str, dict[str, int]]:
        """What each step that keeps state holds, as `steps[0] (window)`: `keys` and `bytes`."""
    def open_at(self, end_ms: int) -> list[dict[str, Any]]:
        """Windows that end at `end_ms`, of each window step and lane (`None`: where lanes meet).

        `step`, `lane`; `start_ms`, `over_at_ms`, `keys` and `keys_estimated` (bool: there are so many that they were not
        counted one by one) of the open one, else None; `inputs_ms`: the watermark that the lanes of each input must reach
        for it to be over, None where nothing waits for them; `nearest_ms`: ends of other open ones.
        """
    @property
    def is_due(self) -> bool:
        """Whether going back to the last commit takes so much memory that the epoch is to be committed."""
    @property
    def changed_bytes(self) -> int:
        """Bytes of state that the epoch has changed or added by the last push that was applied, roughly: before compression."""
    @property
    def join_rows(self) -> tuple[int, int] | None:
        """Rows that the join holds of the left and the right side; None without a join."""

    @property
    def state_bytes(self) -> int: ...
    @property
    def open_windows(self) -> int: ...
    @property
    def layouts_forgotten(self) -> int:
        """How often records had more layouts than the decoder keeps, so that it forgot them all and began anew."""
    @property
    def batches_not_interned(self) -> int:
        """Batches whose group keys were not interned, since most keys of those before were met once."""
    @property
    def fingerprint(self) -> str:
        """Of the description: saved state of another fingerprint is refused."""
