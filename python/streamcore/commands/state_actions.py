"""Owns what each action of `streamcore state` prints, and how it ends.

Before it: `state.py` of this folder. After it: `committed_state.py`, `savepoints.py` and `state_changes.py`.
Invariant: data goes to standard output: a line or a JSON object a lane.
"""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamcore.assemble import state_folder_of
from streamcore.copy_files import remove_copies, told_copies

if TYPE_CHECKING:
    from streamcore.committed_state import CommittedState, LaneState
    from streamcore.savepoints import Savepoint

NAMES_MAX = 8
"""Lanes of which one thing is said that are named."""


def inspect(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Shows each lane, whole or not."""
    sizes = [size for committed in phases if (size := committed.check_size()) is not None]
    lanes = [_described(committed, state) for committed in phases for state in committed.read_all()]
    _print(lanes, arguments, sizes, told_copies(state_folder_of(phases[0].config)), reasons=_reasons(lanes, sizes))
    return 0


def verify(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Shows each lane. Raises `StateError` with the reasons where one cannot be gone on from."""
    from streamcore.errors import StateError

    sizes = [size for committed in phases if (size := committed.check_size()) is not None]
    lanes = [_described(committed, state) for committed in phases for state in committed.read_all()]
    _check_shared(lanes)
    reasons = _reasons(lanes, sizes)
    _print(lanes, arguments, sizes, reasons=[])
    if reasons:
        raise StateError("\n".join(["the state cannot be gone on from", *(f"  {one}" for one in reasons)]))
    return 0


def _reasons(lanes: Sequence[Mapping[str, Any]], sizes: Sequence[str]) -> list[str]:
    """What is wrong, each once, with the lanes of which it is so."""
    found: dict[str, list[str]] = {}
    for lane in lanes:
        for problem in dict.fromkeys(lane["problems"]):
            found.setdefault(problem, []).append(_told(lane))
    return [*sizes, *(f"{_names(of, len(lanes))}: {why}" for why, of in found.items() if why not in sizes)]


def _names(of: Sequence[str], count: int) -> str:
    if len(of) == count > 1:
        return f"all {count} lanes"
    more = f" and {len(of) - NAMES_MAX} more" if len(of) > NAMES_MAX else ""
    return ", ".join(of[:NAMES_MAX]) + more


def _check_shared(lanes: list[dict[str, Any]]) -> None:
    """What lanes share is there from the first epoch of any of them on."""
    for lane in lanes:
        if lane["lane"] < 0 and lane["epoch"] is None and any(other["epoch"] for other in lanes):
            lane["complete"] = False
            lane["problems"].append("lanes have committed epochs, and what they share has none: its topic was emptied")


def savepoint(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Writes the folder, and says what is in it."""
    from streamcore.errors import ConfigError
    from streamcore.savepoints import save
    from streamcore.stage_savepoints import save_stages

    if arguments.folder.exists():
        raise ConfigError(f"{arguments.folder} is there already; a savepoint is written to a new folder")

    stages: list[tuple[CommittedState, Savepoint]]
    if len(phases) == 1:
        done = save(phases[0], arguments.folder)
        stages, rows = [(phases[0], done)], done.rows
    else:
        both = save_stages(phases, arguments.folder)
        stages, rows = both.stages, both.rows
    if arguments.json:
        print(json.dumps({"folder": str(arguments.folder), "rows": rows, **_saved_lanes(stages)}))
        return 0
    print(f"{arguments.folder}: {sum(len(of.lanes) for _, of in stages)} lanes, {rows} rows of open windows")
    for committed, of_stage in stages:
        for lane, manifest in sorted(of_stage.lanes.items()):
            print(f"  {committed.called(lane)}: epoch {manifest['epoch']}, digest {manifest['digest']}")
    return 0


def restore(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Puts the savepoint back, and says where lanes go on."""
    from streamcore.savepoints import restore as put_back
    from streamcore.stage_savepoints import restore_stages

    stages: list[tuple[CommittedState, Savepoint]]
    if len(phases) == 1:
        stages = [(phases[0], put_back(phases[0], arguments.folder))]
    else:
        stages = restore_stages(phases, arguments.folder).stages
    if arguments.json:
        print(json.dumps({"folder": str(arguments.folder), **_saved_lanes(stages)}))
        return 0
    print(f"{arguments.folder} was put back; what was committed since comes again:")
    for committed, of_stage in stages:
        for lane, manifest in sorted(of_stage.lanes.items()):
            at = "".join(
                f", goes on at {offset} of {topic}" for topic, offset in manifest["facts"]["positions"].items()
            )
            print(f"  {committed.called(lane)}: as of its epoch {manifest['epoch']}{at}, digest {manifest['digest']}")
    return 0


def _saved_lanes(stages: Sequence[tuple[CommittedState, Savepoint]]) -> dict[str, Any]:
    """The lanes of a savepoint; of one stage by number, of two in a list of stages."""
    if len(stages) == 1:
        return {"lanes": _epochs(stages[0][1].lanes)}
    return {"stages": [{**_stage(committed), "lanes": _epochs(of_stage.lanes)} for committed, of_stage in stages]}


def rescale(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Moves the state, and says what was moved and where lanes go on."""
    from dataclasses import asdict

    from streamcore.committed_state import of_one_stage
    from streamcore.draining import drain
    from streamcore.rescaling import Request, check_asked
    from streamcore.rescaling import rescale as move

    committed = of_one_stage(phases)
    request = Request(
        arguments.to,
        partitioner=arguments.partitioner,
        drained=arguments.drained,
        accept_gap=arguments.accept_gap,
        accept_late=arguments.accept_late,
    )
    check_asked(committed, request)
    drained = drain(committed, request) if arguments.drain else 0
    done = move(committed, request)
    if arguments.json:
        print(json.dumps({**asdict(done), "drained": drained}))
        return 0
    if drained:
        print(f"{drained} records of the old partitions were read first")
    print(f"the state of {committed.name} was moved from {done.before} to {done.after} partitions, in {done.topic}")
    are_same = done.merged == done.cut == 0
    print(f"  {done.rows} rows of windows, digest {done.digest}{', are the same as before' if are_same else ''}")
    if done.merged:
        print(f"  {done.merged} more became one with another of their key")
    if done.cut:
        print(f"  {done.cut} were of windows of which some have left, and count for the others alone")
    if done.early:
        print(f"  {done.early} came after the input grew, and were read before")
    for lane, offset in sorted(done.offsets.items()):
        late = done.late.get(lane)
        of_lane = f", {late.late} of {late.records} records that are not read yet will be late" if late else ""
        missed = f", and others will miss {late.windows} of their windows" if late and late.windows else ""
        print(f"  lane {lane} goes on at {offset}{of_lane}{missed}")
    print(f"not used any more: {', '.join(done.old_topics)}")
    return 0


def repair(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Repairs what has to be, and says which rows may come again."""
    from dataclasses import asdict

    from streamcore.state_changes import repair as bring_back

    repaired = [(committed, one) for committed in phases for one in bring_back(committed)]
    outputs = _outputs(phases[0]) if any(one.taken < one.newest for _, one in repaired) else []
    if arguments.json:
        lanes = [{**_stage(committed), **asdict(one)} for committed, one in repaired]
        print(json.dumps({"lanes": lanes, "may_repeat": outputs}))
        return 0
    if not repaired:
        print("nothing to repair: the state of every lane can be gone on from")
        for committed in phases:
            for state in committed.read_all():
                for problem in committed.problems(state):
                    print(f"  {committed.called(state.lane)}, whose input is another matter: {problem}")
    for committed, one in repaired:
        name = committed.called(one.lane)
        print(f"{name}: epoch {one.taken} of {one.newest} is taken, and written as epoch {one.written}")
        for problem in one.problems:
            print(f"  {problem}")
        for topic, (first, end) in one.again.items():
            print(f"  records {first} to {end - 1} of partition {one.lane} of {topic} are read again")
    if outputs:
        print(f"rows and dead letters of later epochs come again in {', '.join(outputs)}")
    return 0


def reset(phases: Sequence[CommittedState], arguments: argparse.Namespace) -> int:
    """Asks, and discards the state."""
    import sys

    from streamcore.cli import EXIT_USAGE, error_text
    from streamcore.errors import StateError
    from streamcore.resetting import reset as discard

    name = phases[0].name
    if not arguments.yes:
        if not sys.stdin.isatty():
            print(error_text(f"this discards all state of {name}; say --yes if that is meant"), file=sys.stderr)
            return EXIT_USAGE
        print(f"This discards all state of {name}, and its group's offsets. Type its name to go on: ", end="")
        sys.stdout.flush()
        if sys.stdin.readline().strip() != name:
            raise StateError("nothing was discarded")
    done = discard(phases)
    # They would be found out to be of no use; whoever asks for a reset wants the room.
    copies = remove_copies(state_folder_of(phases[0].config))
    folders = _folders_with_files(phases[0])
    counts = {committed.called(lane): count for committed, lanes in done for lane, count in sorted(lanes.items())}
    if arguments.json:
        first = {str(lane): count for lane, count in sorted(done[0][1].items())}
        deleted = first if len(done) == 1 else counts
        print(json.dumps({"records_deleted": deleted, "copies_removed": copies, "files_to_move": folders}))
        return 0
    print(f"the state of {name} is discarded: {sum(counts.values())} records of {len(counts)} lanes")
    print("the next run begins by start of its source; rows in its outputs stay, and what is read again comes again")
    for folder in folders:
        print(
            f"move the files of {name} in {folder} away first: they are of the state that is discarded, and a run that finds them ends with "
            "code 6"
        )
    return 0


def _folders_with_files(committed: CommittedState) -> list[str]:
    """Folders of Parquet sinks that have files of this pipeline."""
    from pathlib import Path

    from streamcore.config import ParquetSinkConfig
    from streamcore.sinks.parquet import writer_of

    sinks = [sink for sink in committed.config.sinks if isinstance(sink, ParquetSinkConfig)]
    form = f"{glob.escape(writer_of(committed.name))}-*-e*-o*-s*.parquet"
    return sorted({sink.path for sink in sinks if any(Path(sink.path).glob(form))})


def _stage(committed: CommittedState) -> dict[str, int]:
    """What tells lanes of two stages apart; nothing where there is one."""
    return {} if committed.phase.name is None else {"stage": committed.phase.stage}


def _told(lane: Mapping[str, Any]) -> str:
    """The name of a lane that is described."""
    return _name(lane["lane"]) if lane.get("stage", 0) == 0 else f"combine {_name(lane['lane'])}"


def _name(lane: int) -> str:
    return "where lanes meet" if lane < 0 else f"lane {lane}"


def _epochs(lanes: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    kept = ("epoch", "digest", "watermark_ms")
    return {
        str(lane): {**{name: one[name] for name in kept}, "offsets": one["facts"]["positions"]}
        for lane, one in lanes.items()
    }


def _outputs(committed: CommittedState) -> list[str]:
    from streamcore.topics import topic_plans

    roles = ("output", "dead letters")
    return [plan.name for _, plan in topic_plans(committed.config) if plan.role in roles]


def _described(committed: CommittedState, state: LaneState) -> dict[str, Any]:
    """Facts of one lane; its state is loaded, and let go of."""
    problems = committed.recover(state)
    held = committed.engine.state() if not problems else {}
    clock = committed.engine.sealed_lanes().get(state.lane)
    # Of an input that has grown the state is there as well, though it cannot be gone on from.
    rows, contents = committed.engine.contents() if clock is not None else (None, 0)
    committed.engine.revoke([state.lane])
    manifest = state.manifest
    described: dict[str, Any] = {
        **_stage(committed),
        "lane": state.lane,
        "epoch": None,
        "complete": manifest is None or not problems,
        "problems": problems,
        "records": state.found["records"],
        "bytes": state.found["bytes"],
        "group_offset": _of_each({topic: place.group_offset for topic, place in state.inputs.items()}),
        "input_end": _of_each({topic: place.end for topic, place in state.inputs.items()}),
    }
    if manifest is None:
        return described
    facts = manifest["facts"]
    saved = [*manifest["parts"].values(), *manifest["changes"]]
    return described | {
        "epoch": manifest["epoch"],
        "owner": facts["owner"],
        "generation": facts["generation"],
        "offsets": facts["positions"],
        "watermark": _instant(manifest["watermark_ms"]),
        "digest": manifest["digest"],
        "ended": facts["ended"],
        "keys": sum(each["keys"] for each in held.values()) if clock is not None and not problems else None,
        "rows": rows,
        "contents": f"{contents:016x}",
        "rows_written": sum(rows for _, _, rows, _, _ in saved),
        "epochs": [older["epoch"] for older, _ in state.found["manifests"]],
    }


def _of_each(by_topic: Mapping[str, int | None]) -> int | dict[str, int | None] | None:
    """What is of one topic as it is, of several by topic."""
    return dict(by_topic) if len(by_topic) > 1 else next(iter(by_topic.values()), None)


def _print(
    lanes: list[dict[str, Any]],
    arguments: argparse.Namespace,
    sizes: list[str],
    copies: Sequence[tuple[str, int, int]] = (),
    *,
    reasons: Sequence[str],
) -> None:
    if arguments.json:
        told = [{"folder": folder, "lanes": count, "bytes": total} for folder, count, total in copies]
        print(json.dumps({"lanes": lanes, "problems": sizes, "copies": told}))
        return
    for lane in lanes:
        print(_line(lane))
    for reason in reasons:
        print(reason)
    for folder, count, total in copies:
        print(
            f"local copy of {count} lane{'s' * (count != 1)} in {folder}, {total} bytes: it may be deleted at any time"
        )


def _line(lane: dict[str, Any]) -> str:
    where = _told(lane)
    if lane["epoch"] is None:
        return f"{where}: {'nothing is committed yet' if lane['complete'] else 'CANNOT BE USED'}"
    ends = (
        lane["input_end"] if isinstance(lane["input_end"], dict) else dict.fromkeys(lane["offsets"], lane["input_end"])
    )
    left = {topic: "" if end is None else f" of {end}" for topic, end in ends.items()}
    at = "".join(f", {topic} at {offset}{left.get(topic, '')}" for topic, offset in lane["offsets"].items())
    keys = "" if lane["keys"] is None else f", {lane['keys']} keys"
    whole = "complete" if lane["complete"] else "CANNOT BE USED"
    return (
        f"{where}: epoch {lane['epoch']}, owner {lane['owner']}{at}, watermark {lane['watermark'] or 'none'}{keys}, "
        f"{lane['records']} records of {lane['bytes']} bytes, digest {lane['digest']}, {whole}"
    )


def _instant(time_ms: int) -> str | None:
    """As ISO-8601; None for a clock that does not show a time."""
    try:
        found = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z") if found.year > 1 else None
