"""Owns what each action of `streamcore state` prints, and how it ends.

Before it: `state.py` of this folder. After it: `committed_state.py`, `savepoints.py` and `state_changes.py`.
Invariant: data goes to standard output: a line or a JSON object a lane.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamcore.committed_state import CommittedState, LaneState


def inspect(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Shows each lane, whole or not."""
    size = committed.check_size()
    lanes = [_described(committed, state) for state in committed.read_all()]
    _print(lanes, arguments, size)
    return 0


def verify(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Shows each lane. Raises `StateError` with the reasons where one cannot be gone on from."""
    from streamcore.errors import StateError

    size = committed.check_size()
    lanes = [_described(committed, state) for state in committed.read_all()]
    _check_shared(lanes)
    _print(lanes, arguments, size)
    reasons = [f"  lane {one['lane']}: {why}" for one in lanes for why in one["problems"]]
    reasons = [*([f"  {size}"] if size else []), *reasons]
    if reasons:
        raise StateError("\n".join(["the state cannot be gone on from", *reasons]))
    return 0


def _check_shared(lanes: list[dict[str, Any]]) -> None:
    """What lanes share is there from the first epoch of any of them on."""
    for lane in lanes:
        if lane["lane"] < 0 and lane["epoch"] is None and any(other["epoch"] for other in lanes):
            lane["complete"] = False
            lane["problems"].append("lanes have committed epochs, and what they share has none: its topic was emptied")


def savepoint(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Writes the folder, and says what is in it."""
    from streamcore.savepoints import save

    done = save(committed, arguments.folder)
    if arguments.json:
        print(json.dumps({"folder": str(done.folder), "rows": done.rows, "lanes": _epochs(done.lanes)}))
        return 0
    print(f"{done.folder}: {len(done.lanes)} lanes, {done.rows} rows of open windows")
    for lane, manifest in sorted(done.lanes.items()):
        print(f"  {_name(lane)}: epoch {manifest['epoch']}, digest {manifest['digest']}")
    return 0


def restore(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Puts the savepoint back, and says where lanes go on."""
    from streamcore.savepoints import restore as put_back

    done = put_back(committed, arguments.folder)
    if arguments.json:
        print(json.dumps({"folder": str(done.folder), "lanes": _epochs(done.lanes)}))
        return 0
    print(f"{done.folder} was put back; what was committed since comes again:")
    for lane, manifest in sorted(done.lanes.items()):
        at = "".join(f", goes on at {offset} of {topic}" for topic, offset in manifest["facts"]["positions"].items())
        print(f"  {_name(lane)}: as of its epoch {manifest['epoch']}{at}, digest {manifest['digest']}")
    return 0


def rescale(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Moves the state, and says what was moved and where lanes go on."""
    from dataclasses import asdict

    from streamcore.draining import drain
    from streamcore.rescaling import Request, check_asked
    from streamcore.rescaling import rescale as move

    request = Request(arguments.to, partitioner=arguments.partitioner, drained=arguments.drained)
    check_asked(committed, request)
    drained = drain(committed, request) if arguments.drain else 0
    done = move(committed, request)
    if arguments.json:
        print(json.dumps({**asdict(done), "drained": drained}))
        return 0
    if drained:
        print(f"{drained} records of the old partitions were read first")
    print(f"the state of {committed.name} was moved from {done.before} to {done.after} partitions, in {done.topic}")
    print(f"  {done.rows} rows of windows, digest {done.digest}, are the same as before")
    if done.merged:
        print(f"  {done.merged} more were of keys in several partitions, and became one with another")
    if done.early:
        print(f"  {done.early} came after the input grew, and were read before")
    for lane, offset in sorted(done.offsets.items()):
        print(f"  lane {lane} goes on at {offset}")
    print(f"not used any more: {', '.join(done.old_topics)}")
    return 0


def repair(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Repairs what has to be, and says which rows may come again."""
    from dataclasses import asdict

    from streamcore.state_changes import repair as bring_back

    done = bring_back(committed)
    again = [one for one in done if one.taken < one.newest]
    outputs = _outputs(committed) if again else []
    if arguments.json:
        print(json.dumps({"lanes": [asdict(one) for one in done], "may_repeat": outputs}))
        return 0
    if not done:
        print("nothing to repair: every lane can be gone on from")
    for one in done:
        print(f"{_name(one.lane)}: epoch {one.taken} of {one.newest} is taken, and written as epoch {one.written}")
        for problem in one.problems:
            print(f"  {problem}")
        if one.again is not None:
            print(f"  records {one.again[0]} to {one.again[1] - 1} of partition {one.lane} are read again")
    if outputs:
        print(f"rows and dead letters of later epochs come again in {', '.join(outputs)}")
    return 0


def reset(committed: CommittedState, arguments: argparse.Namespace) -> int:
    """Asks, and discards the state."""
    import sys

    from streamcore.errors import StateError
    from streamcore.state_changes import reset as discard

    if not arguments.yes:
        if not sys.stdin.isatty():
            raise StateError(f"this discards all state of {committed.name}; say --yes if that is meant")
        print(f"This discards all state of {committed.name}, and its group's offsets. Type its name to go on: ", end="")
        sys.stdout.flush()
        if sys.stdin.readline().strip() != committed.name:
            raise StateError("nothing was discarded")
    done = discard(committed)
    if arguments.json:
        print(json.dumps({"records_deleted": {str(lane): count for lane, count in sorted(done.items())}}))
        return 0
    print(f"the state of {committed.name} is discarded: {sum(done.values())} records of {len(done)} lanes")
    print("the next run begins by start of its source; rows in its outputs stay, and what is read again comes again")
    return 0


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
        "lane": state.lane,
        "epoch": None,
        "complete": manifest is None or not problems,
        "problems": problems,
        "records": state.found["records"],
        "bytes": state.found["bytes"],
        "group_offset": state.group_offset,
        "input_end": state.input_end,
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


def _print(lanes: list[dict[str, Any]], arguments: argparse.Namespace, size: str | None) -> None:
    if arguments.json:
        print(json.dumps({"lanes": lanes, "problems": [size] if size else []}))
        return
    if not lanes:
        print("no state: its topics do not exist yet")
    for lane in lanes:
        print(_line(lane))
        for problem in lane["problems"]:
            print(f"  {problem}")
    if size:
        print(size)


def _line(lane: dict[str, Any]) -> str:
    where = _name(lane["lane"])
    if lane["epoch"] is None:
        return f"{where}: {'nothing is committed yet' if lane['complete'] else 'CANNOT BE USED'}"
    at = "".join(f", {topic} at {offset}" for topic, offset in lane["offsets"].items())
    left = "" if lane["input_end"] is None or not at else f" of {lane['input_end']}"
    keys = "" if lane["keys"] is None else f", {lane['keys']} keys"
    whole = "complete" if lane["complete"] else "CANNOT BE USED"
    return (
        f"{where}: epoch {lane['epoch']}, owner {lane['owner']}{at}{left}, watermark {lane['watermark'] or 'none'}{keys}, "
        f"{lane['records']} records of {lane['bytes']} bytes, digest {lane['digest']}, {whole}"
    )


def _instant(time_ms: int) -> str | None:
    """As ISO-8601; None for a clock that does not show a time."""
    try:
        found = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z") if found.year > 1 else None
