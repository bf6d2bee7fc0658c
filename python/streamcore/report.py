"""Owns the numbers of a run: what is shown while it runs and what is left at the end.

Before it: the runner, which fills it. After it: progress, `Run.report`, the report file.
Invariant: a lane's ledger balances: `read = applied + filtered + duplicate + late + future + rejected + tombstone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from streamcore import _core
from streamcore._core import LANES_PER_INPUT

COMBINE_LANE = -1


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where records went, each counted once, by the first stage that took it out."""

    read: int = 0
    applied: int = 0
    filtered: int = 0
    duplicate: int = 0
    late: int = 0
    future: int = 0
    rejected: int = 0
    tombstone: int = 0
    no_window: int = 0
    """Part of `filtered`: between hopping windows."""
    shed: int = 0
    """Part of `rejected`: they would have added a key where there was no room (`limits.on_full = "shed"`)."""
    late_windows: int = 0
    """Windows that records missed which were in time for another."""
    late_after_combine: int = 0
    """Rows of windows that were forgotten already when the lanes met."""

    @classmethod
    def total(cls, lanes: Mapping[int, Mapping[str, int]]) -> Ledger:
        """The sum over lanes."""
        return cls(**{item.name: sum(lane.get(item.name, 0) for lane in lanes.values()) for item in fields(cls)})


Ledgers = dict[int, dict[str, int]]
Stages = dict[str, dict[str, int]]
"""Where the rows of a window went in the stage behind it, by that stage's first step."""

Place = TypeVar("Place", int, str)


def add_ledgers(
    left: Mapping[Place, Mapping[str, int]], right: Mapping[Place, Mapping[str, int]], sign: int = 1
) -> dict[Place, dict[str, int]]:
    """`left + sign * right`, lane by lane (or stage by stage) and count by count."""
    places: list[Place] = sorted(left.keys() | right.keys())
    return {place: _added(left.get(place, {}), right.get(place, {}), sign) for place in places}


def _added(left: Mapping[str, int], right: Mapping[str, int], sign: int) -> dict[str, int]:
    return {name: left.get(name, 0) + sign * right.get(name, 0) for name in sorted({*left, *right})}


@dataclass(frozen=True, slots=True)
class Report:
    """A run so far."""

    name: str | None = None
    delivery: str = "at_least_once"
    state: str = "starting"
    """`starting`, `running`, `stopped` (asked to), `ended` (the input is over) or `failed`."""
    elapsed_s: float = 0.0
    epoch: int = 0
    """Epochs committed since the state began."""
    retries: int = 0
    """Epochs that were rolled back and tried again."""
    refetched: int = 0
    """Messages that came twice after a seek, and were left out."""
    skipped: dict[int, int] = field(default_factory=dict)
    """By lane, offsets that `--accept-gap` has passed over in this run, as retention had deleted their records: so many
    records at most, which no ledger has. Lane -1: of the topic of partials."""
    skipped_by_outboxes: dict[str, int] = field(default_factory=dict)
    """By sink that is fed from a topic, offsets of that topic that `--accept-gap` has passed over in this run, as retention had
    deleted their rows. Filled until the sinks have ended, which is after the last epoch."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each output."""
    first_refusal: str | None = None
    """Why the first refused record was refused, and where it is."""
    dead_letters: str | None = None
    """Topic or file that keeps refused records; None: they are only counted."""
    watermark_ms: int | None = None
    """Event time before which everything is final; None before the first record."""
    open_windows: int = 0
    state_bytes: int = 0
    """Memory for windows, joins and ids, of all steps; `limits.max_state_bytes` bounds it (with `shed`, for each lane)."""
    held: Stages = field(default_factory=dict)
    """What each step that keeps state holds, as `steps[1] (window)`: `keys` and `bytes`."""
    layouts_forgotten: int = 0
    """How often JSON records had more layouts than the decoder keeps: it forgets them all and learns anew, which costs
    time and changes no row."""
    batches_not_interned: int = 0
    """Batches whose rows each had their own group key looked up, since most keys of the batches before were met once:
    that costs time and changes no row."""
    lanes: Ledgers = field(default_factory=dict)
    """Ledger of each lane in this run; lane -1 is where lanes meet. Lanes of an input that is joined are numbered from
    2^24."""
    stages: Stages = field(default_factory=dict)
    """For each stage behind a window in this run, where that window's rows went: `read = applied + filtered + duplicate
    + late + rejected`, counted in rows."""

    lost_values: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By result column, how many of its values in this run are null since they were not to be had, and why the first
    was: a sum beyond its type, or a function of yours that failed."""
    dedupes: dict[str, dict[str, float]] = field(default_factory=dict)
    """What each dedupe step holds, in all lanes: `ids`, `generations`, `bytes`; of filters also `fill` (of those filled
    the furthest), `false_drop_rate` (as it is now, an upper bound) and `false_drops_expected` (since the state began)."""
    inputs: Stages = field(default_factory=dict)
    """Where inputs are joined, the ledger of each in this run: under `""` the pipeline's own, the others by name."""
    join_rows: tuple[int, int] | None = None
    """Rows that a join holds of the left and the right side."""
    lags: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Of each partition of Kafka that this worker reads and has heard of: `lag`, the offsets between where it reads on and `end`, behind which
    nothing can be read; `high_watermark`, behind which there is nothing (None where the transport does not tell); and `age_s`, how long
    ago a broker said so."""
    cache: dict[str, int] = field(default_factory=dict)
    """Under `exactly_once`, where the state of lanes was read from, in records and bytes: the worker's own copies or the
    state's topic; and how many copies were `rejected`, `dropped` (the disk was too slow) or `given_up` (it refused)."""

    @property
    def ledger(self) -> Ledger:
        """All lanes together."""
        return Ledger.total(self.lanes)

    def failed(self) -> Report:
        """The same numbers, of a run that broke off."""
        return replace(self, state="failed")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        content = asdict(self)
        content["elapsed_s"] = round(self.elapsed_s, 3)
        content["ledger"] = asdict(self.ledger)
        content["lanes"] = {str(lane): counts for lane, counts in self.lanes.items()}
        content["lags"] = {str(lane): told for lane, told in self.lags.items()}
        content["skipped"] = {str(lane): offsets for lane, offsets in self.skipped.items()}
        return content


def by_input(lanes: Ledgers, names: Sequence[str]) -> Stages:
    """The sum over the lanes of each input; none where there is but one."""
    totals: Stages = {}
    for number, name in enumerate(names):
        own = {lane: counts for lane, counts in lanes.items() if lane >= 0 and lane // LANES_PER_INPUT == number}
        totals[name] = asdict(Ledger.total(own))
    return totals


def watermark(clocks: Mapping[int, Mapping[str, int | bool | None]]) -> int | None:
    """The watermark results depend on: where lanes meet, or else the slowest active lane; while none is active the slowest of all."""
    if COMBINE_LANE in clocks:
        value = clocks[COMBINE_LANE].get("watermark_ms")
        return None if value is None else int(value)
    active = [lane["watermark_ms"] for lane in clocks.values() if not lane.get("idle")]
    if not active:
        # Silent lanes that have seen nothing hold nothing.
        return min(
            (int(lane["watermark_ms"]) for lane in clocks.values() if lane["watermark_ms"] is not None), default=None
        )
    known = [int(value) for value in active if value is not None]
    return min(known) if known and len(known) == len(active) else None


def describe_refusal(batch: _core.Batch) -> str:
    """The first row of a batch of the output `rejected`, in words."""
    row = batch.select(("_topic", "_partition", "_offset", "reason", "detail")).to_rows()[0]
    text = f"{row['reason']} at offset {row['_offset']} of {row['_topic']} [{row['_partition']}]: {row['detail']}"
    # The detail may quote the record, which must not move a terminal's cursor.
    return "".join(character if character.isprintable() else "�" for character in text)
