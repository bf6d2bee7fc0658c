"""Owns savepoints: the committed state of a pipeline as files, to be looked at, kept, and put back.

Before it: `committed_state.py`. After it: whoever opens `windows-*.parquet`, and `restore`.
Invariant: what is put back is what was saved, to the digest of each lane; the Parquet files are for people and are not read
back.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from streamcore import _core
from streamcore.committed_state import CommittedState, LaneState
from streamcore.config import describe
from streamcore.errors import FencedError, StateError
from streamcore.gaps import offsets_of, skipped_by
from streamcore.layouts import BEGIN, MEETING_LANE
from streamcore.manifests import SEAL_BITS, other_input, told
from streamcore.next_layout import delete_layouts, make_layout, next_number
from streamcore.phases import FINAL
from streamcore.savepoint_checks import EMPTY, check_content, check_head, check_lanes, state_file, with_checksum
from streamcore.state_changes import Claim, Offsets, Placed, Record, claim, of_input, rewritten_facts
from streamcore.tables import Batch, empty_schema

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
FORMAT_OF_PHASES = 2
STAGES = {FORMAT: "one stage of state", FORMAT_OF_PHASES: "two stages of state"}
"""What each format is of."""
MANIFEST = "manifest.json"
WRITTEN = "written"
"""The name of a savepoint until it is whole, in a folder of its own."""
ROWS_OF_A_FILE = 1_000_000
"""Rows of one Parquet file, about."""


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What was written, or put back."""

    folder: Path
    lanes: dict[int, dict[str, Any]]
    """The manifest of each lane that has one."""
    rows: int
    """Rows of open windows; of a savepoint that was put back, 0."""


def save(committed: CommittedState, folder: Path) -> Savepoint:
    """Writes the committed state to a new folder.

    Raises `StateError` for state that cannot be used, or a folder that is there; `FencedError` where lanes share state and
    workers are alive, since their epochs could not be told apart.
    """
    if committed.meets and committed.cluster.members(committed.group):
        raise FencedError(
            f"the lanes of {committed.name} share state, so a savepoint is of all of them at one moment; stop its worker first"
        )
    manifests = recovered(committed)
    with new_folder(folder) as made:
        saved = write(committed, manifests, made / WRITTEN, windows=made / WRITTEN)
    return replace(saved, folder=folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write a savepoint in, as `WRITTEN`, which gets its name when all went well; otherwise nothing is left.

    Raises `StateError` where `folder` is there, or cannot be.
    """
    made: Path | None = None
    try:
        if folder.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
        made.mkdir(parents=True)
        yield made
        (made / WRITTEN).rename(folder)
    except OSError as error:
        raise StateError(f"{folder}: the savepoint cannot be written: {error.strerror}") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def recovered(committed: CommittedState) -> dict[int, dict[str, Any]]:
    """Puts the state of all lanes into the engine; gives their manifests. Raises `StateError`."""
    manifests: dict[int, dict[str, Any]] = {}
    for state in committed.read_all():
        problems = committed.recover(state)
        if problems:
            called = committed.called(state.lane)
            raise StateError("\n".join([f"{called} cannot be saved", *(f"  {one}" for one in problems)]))
        if state.manifest is not None:
            manifests[state.lane] = state.manifest
    if not manifests:
        raise StateError(f"{committed.name} has no committed state yet; there is nothing to save")
    return manifests


def write(committed: CommittedState, manifests: dict[int, dict[str, Any]], folder: Path, *, windows: Path) -> Savepoint:
    """Writes what was recovered to a new folder in one of `new_folder`, and the rows of open windows to `windows`. Raises `OSError`."""
    folder.mkdir()
    for lane, state_bytes in committed.engine.save():
        if lane in manifests:
            head = orjson.dumps({"lane": lane, "digest": manifests[lane]["digest"]})
            with (folder / state_file(lane)).open("wb") as file:
                file.writelines(_core.checkpoint_parts(head, [(lane, state_bytes)]))
    rows = _write_windows(committed, windows)
    content = {
        "format": FORMAT,
        "pipeline": committed.name,
        "fingerprint": committed.engine.fingerprint,
        "saved_at_ms": time.time_ns() // 1_000_000,
        "meets": committed.meets,
        "lanes": {str(lane): manifest for lane, manifest in manifests.items()},
        EMPTY: [lane for lane in committed.partitions if lane not in manifests],
        "rows": rows,
    }
    write_manifest(folder, content)
    return Savepoint(folder, manifests, rows)


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes it with its checksum, as the last of the files, so that a folder without it is none."""
    (folder / MANIFEST).write_bytes(orjson.dumps(with_checksum(content), option=orjson.OPT_INDENT_2))


def _write_windows(committed: CommittedState, folder: Path) -> int:
    """Rows of the open windows as they would leave if the input ended here; the engine is of no use afterwards."""
    engine = committed.engine
    waiting: list[pl.DataFrame] = []
    total = files = 0
    batches, more = engine.end_partials() if committed.phase is FINAL else engine.end(), True
    while batches or more:
        waiting += [Batch(batch).to_polars() for batch in batches if batch.output == "result" and batch.num_rows]
        if waiting and sum(map(len, waiting)) >= ROWS_OF_A_FILE:
            total, files, waiting = total + _write(waiting, folder, files), files + 1, []
        batches, _, more = engine.go_on()
    if waiting or not files:  # one that is empty can be read as well
        total += _write(waiting or [_empty(committed)], folder, files)
    return total


def _empty(committed: CommittedState) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(empty_schema(describe(committed.config)["columns"]).empty_table())


def _write(frames: list[pl.DataFrame], folder: Path, number: int) -> int:
    import polars as pl

    frame = pl.concat(frames)
    frame.write_parquet(folder / f"windows-{number:05}.parquet")
    return len(frame)


def read_manifest(folder: Path, *, wanted: int = FORMAT) -> dict[str, Any]:
    """The manifest of a savepoint. Raises `StateError`."""
    try:
        read: object = orjson.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise StateError(
            f"{folder} is no savepoint: {MANIFEST}: {error.strerror}; name a folder that streamcore state savepoint has written"
        ) from error
    except orjson.JSONDecodeError as error:
        raise StateError(f"{folder / MANIFEST} is damaged: {error}") from error
    content: dict[str, Any] = read if isinstance(read, dict) else {}
    found = content.get("format")
    if found != wanted and found in STAGES:
        pipeline = content.get("pipeline")
        raise StateError(
            f"{folder} is of pipeline {pipeline} with {STAGES[found]}, and this one has {STAGES[wanted]}; name the file it was made of, or "
            "set combine as it was then"
        )
    if found != wanted:
        raise StateError(f"{folder} has format {found}; this streamcore reads {wanted}")
    check_content(folder / MANIFEST, content)
    return content


@dataclass(frozen=True, slots=True)
class Loaded:
    """A savepoint that fits the pipeline and is whole."""

    folder: Path
    manifests: dict[int, dict[str, Any]]
    engine: _core.Pipeline
    """Has its state."""


def restore(committed: CommittedState, folder: Path) -> Savepoint:
    """Puts a savepoint back as a new epoch of every lane, under one claim, and reads it again.

    It may be that of a pipeline with another name and the same source, schema and steps. Raises `StateError` for one of other steps or
    another input, or a damaged one; `FencedError` where workers are alive.
    """
    loaded = load(committed, folder)
    with claim(committed) as held:
        before = committed.states.layout
        held.write_placed(*rewritten(committed, loaded, held))
    check_written(committed, loaded.manifests)
    delete_lost(committed, before)
    return Savepoint(folder, loaded.manifests, 0)


def load(committed: CommittedState, folder: Path) -> Loaded:
    """Loads what `write` wrote. Raises `StateError` where it does not fit, or is damaged."""
    content = read_manifest(folder)
    manifests = {int(lane): manifest for lane, manifest in content["lanes"].items()}
    check_pipeline(committed, content)
    _check_size(committed, manifests)
    source = committed.source
    if committed.phase is FINAL:
        # All partials were merged, and lanes go on where the topic ends now: it may have been made again.
        source = replace(
            source, description={name: fact for name, fact in source.description.items() if name != "topic_id"}
        )
    for manifest in manifests.values():
        told(orjson.dumps(manifest), committed.identity(), source, is_whole=True)
    check_lanes(folder, content, partitions=committed.partitions, topics=committed.source.topics, meets=committed.meets)
    return Loaded(folder, manifests, _loaded(committed, folder, manifests))


def _check_size(committed: CommittedState, manifests: Mapping[int, Mapping[str, Any]]) -> None:
    """The savepoint has the partitions of the input, and so has the state, or what it has is lost. Raises `StateError`."""
    count = len(committed.partitions)
    saved = next((one["facts"]["source"].get("partitions") for one in manifests.values()), None)
    if saved not in (None, count):
        raise StateError(
            f"STATE_PARTITION_MISMATCH: the savepoint is of {saved} partitions, and the input {committed.topic.name} has {count}, so it "
            f"does not fit; restore one of {count}, or begin anew: streamcore state reset FILE"
        )
    size = committed.check_size()
    if size is not None and committed.lost_next is None:
        raise StateError(f"{size.partition('; ')[0]}; streamcore state reset FILE, and restore the savepoint then")


def check_pipeline(committed: CommittedState, content: Mapping[str, Any]) -> None:
    """The savepoint is of the same source, schema and steps; `content` is its manifest, or that of a stage. Raises `StateError`."""
    identity = committed.identity()
    if content["fingerprint"] == identity.fingerprint:
        return
    if content["pipeline"] != committed.name:
        raise StateError(
            f"the savepoint is of pipeline {content['pipeline']}, and this is {committed.name}, whose source, schema or steps are others; "
            f"name the file of {content['pipeline']}, or a savepoint of {committed.name}"
        )
    raise StateError(
        f"the savepoint was made by another version of {committed.name}: its source, schema or steps have changed (fingerprint then "
        f"{content['fingerprint']}, now {identity.fingerprint}); undo the change, or begin without the savepoint"
    )


def rewritten(
    committed: CommittedState, loaded: Loaded, held: Claim, *, at: Offsets | None = None
) -> tuple[list[Placed], Offsets]:
    """The records that write every lane anew, with their places, and where each goes on; `at`: if not where it was.

    Where the state has gone to topics that are lost, others take their place; until the records are committed nothing of them counts.
    """
    manifests, engine = loaded.manifests, loaded.engine
    lost = committed.lost_next
    if lost is None:
        committed.states.open(committed.cluster, create=committed.config.auto_create_topics)
        committed.look_again()
    else:
        # Not under their names where these are there, of a command that died or that goes on some day, or of whoever has made them.
        number = max(lost[0], next_number(committed))
        make_layout(committed, held, number, len(committed.partitions))
        committed.go_on_in(number)
    states = {state.lane: state for state in committed.read_all()}
    found = [each for state in states.values() for each, _ in state.found["manifests"]]
    owner = max((each["facts"]["owner"] for each in [*found, *manifests.values()]), default=0) + 1
    positions: dict[int, Mapping[str, int]] = {lane: one["facts"]["positions"] for lane, one in manifests.items()}
    empty = [lane for lane in states if lane not in manifests and lane != MEETING_LANE]
    engine.assign(empty)
    engine.seal([])  # lanes that hand over have nothing to tell of it
    positions |= {**held.place(empty), **(at or {})}
    seal, generation = secrets.randbits(SEAL_BITS), time.time_ns() // 1_000_000_000
    newest = max((int(one["epoch"]) for one in manifests.values()), default=0)
    records: dict[int, list[Record]] = {}
    for lane, state in states.items():
        ended = bool(manifests.get(lane, {}).get("facts", {}).get("ended", False))
        facts = rewritten_facts(
            committed,
            positions=positions.get(lane, {}),
            owner=owner,
            seal=seal,
            ended=ended,
            generation=generation,
            skipped=skipped_by(manifests[lane]["facts"]) if lane in manifests else {},
        )
        records[lane] = _rewritten(committed, engine, state, facts, behind=newest)
    marks = [] if lost is None else [_begin(committed, loaded, positions)]
    return [*marks, *held.placed(records)], positions


def _begin(committed: CommittedState, loaded: Loaded, positions: Offsets) -> Placed:
    """The mark that a layout begins with which takes the place of a lost one; see `rescaling.py`."""
    counted, topic = loaded.engine.ledger(), committed.topic.name
    lanes = {}
    for lane in committed.partitions:
        facts = loaded.manifests[lane]["facts"] if lane in loaded.manifests else {"source": {}}
        left_out = offsets_of(skipped_by(facts), topic)
        read = counted.get(lane, {}).get("read", 0)
        lanes[str(lane)] = {"position": positions[lane][topic], "read": read, "skipped": left_out}
    begin = {"layout": committed.states.layout, "partitions": len(lanes), "from": {"savepoint": True}, "lanes": lanes}
    return (*committed.states.place(0), BEGIN, orjson.dumps(begin))


def _rewritten(
    committed: CommittedState, engine: _core.Pipeline, state: LaneState, facts: bytes, *, behind: int
) -> list[Record]:
    """The records of a lane's new epoch, which is after `behind` too: files that sinks have named tell theirs.

    Older manifests stay, but of partials that are lost: a start would refuse them.
    """
    state.records.write_behind(behind)
    before = [manifest for manifest, _ in state.found["manifests"]]
    now = committed.source.description
    if all(other_input(committed.name, manifest["facts"]["source"], now) is None for manifest in before):
        return engine.rewrite(state.lane, state.records, facts)
    fresh = engine.state_records(state.lane)
    fresh.write_behind(max([behind, *(int(manifest["epoch"]) for manifest in before)]))
    records = engine.rewrite(state.lane, fresh, facts)
    over = set(state.records.keys()).difference(key for key, _ in records)
    return [*((key, None) for key in sorted(over)), *records]


def _loaded(committed: CommittedState, folder: Path, manifests: dict[int, dict[str, Any]]) -> _core.Pipeline:
    """An engine with the savepoint's state, whose digests are compared."""
    lanes: list[tuple[int, bytes]] = []
    for lane, manifest in manifests.items():
        path = folder / state_file(lane)
        try:
            head, of_lane = _core.decode_checkpoint(path.read_bytes())
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; the savepoint is not whole") from error
        except StateError as error:
            raise StateError(f"{path}: {error}") from error
        check_head(path, head, [number for number, _ in of_lane], manifest)
        lanes += of_lane
    engine = committed.new_engine()
    engine.restore(lanes)
    engine.seal([])  # lanes that hand over have nothing to tell of it
    loaded = engine.sealed_lanes()
    for lane, manifest in manifests.items():
        found = f"{loaded[lane][0]:016x}" if lane in loaded else None
        if found != manifest["digest"]:
            raise StateError(
                f"{folder}: lane {lane} has the digest {found}, and the manifest says {manifest['digest']}"
            )
    return engine


def delete_lost(committed: CommittedState, before: int) -> None:
    """Deletes what is left of layouts between the one that counted `before` and the one that a savepoint was put back to."""
    now = committed.states.layout
    delete_layouts(committed, range(before + 1, now), below=now)


def check_written(committed: CommittedState, manifests: dict[int, dict[str, Any]]) -> None:
    """Reads what was written of a savepoint. Raises `StateError` where it is anything else."""
    for state in committed.read_all():
        problems = [one for one in committed.recover(state) if one not in of_input(committed, state)]
        committed.engine.revoke([state.lane])
        wanted = manifests.get(state.lane, {}).get("digest")
        if not problems and wanted not in (None, (state.manifest or {}).get("digest")):
            problems = [f"its digest is {(state.manifest or {}).get('digest')}, and that of the savepoint {wanted}"]
        if problems:
            raise StateError(
                "\n".join(
                    [
                        f"{committed.called(state.lane)} was written, but reads otherwise",
                        *(f"  {one}" for one in problems),
                    ]
                )
            )
