"""Owns what the manifest of a savepoint has to be before anything of it is believed.

Before it: `savepoints.py`, which writes and reads the file. After it: loading, which compares the digest of each lane's state.
Invariant: where lanes go on is in the manifest alone, so one that is not as it was written is refused, whatever was changed. Those of
earlier versions have no checksum, and are looked at as far as that goes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from streamcore.errors import StateError
from streamcore.layouts import MEETING_LANE

CHECKSUM = "sha256"
"""Of all else that the manifest says, in the order of its keys."""
EMPTY = "empty"
"""Partitions that had committed nothing; what has this has a checksum as well."""

Form = Mapping[str, type | tuple[type, ...]]

OF_STAGE: Form = {"pipeline": str, "fingerprint": str, "saved_at_ms": int, "meets": bool, "lanes": dict, "rows": int}
OF_PHASES: Form = {"pipeline": str, "saved_at_ms": int, "stages": dict, "partitions": int, "rows": int}
OF_LANE: Form = {
    "lane": int,
    "epoch": int,
    "fingerprint": str,
    "digest": str,
    "watermark_ms": (int, type(None)),
    "ledger": dict,
    "facts": dict,
}
OF_FACTS: Form = {"owner": int, "seal": int, "positions": dict, "files": dict, "source": dict, "ended": bool}


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest as it is written."""
    return {**content, CHECKSUM: _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    said = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_content(path: Path, content: Mapping[str, Any]) -> None:
    """The manifest at `path` is as it was written, and has what one of its kind has. Raises `StateError`."""
    found = content.get(CHECKSUM)
    if (found is None and EMPTY in content) or found not in (None, _checksum(content)):
        raise StateError(
            f"{path} is not as it was written: its checksum is {'gone' if found is None else 'that of something else'}; a savepoint is put "
            "back as it is and not edited, so take another copy of it, or another savepoint"
        )
    _check_form(path, "", content, OF_PHASES if "stages" in content else OF_STAGE)
    for name, manifest in content.get("lanes", {}).items():
        _check_lane(path, f"lanes.{name}", name, manifest)


def _check_lane(path: Path, where: str, name: str, manifest: Any) -> None:
    _check_form(path, where, manifest, OF_LANE)
    _check_form(path, f"{where}.facts", manifest["facts"], OF_FACTS)
    positions = manifest["facts"]["positions"]
    _check_form(path, f"{where}.facts.positions", positions, dict.fromkeys(positions, int))
    if str(manifest["lane"]) != name:
        raise _damaged(path, f"{where}.lane is {manifest['lane']}")
    if re.fullmatch("[0-9a-f]{16}", manifest["digest"]) is None:
        raise _damaged(path, f"{where}.digest is {manifest['digest']!r}")
    if manifest["epoch"] < 1 or any(offset < 0 for offset in positions.values()):
        raise _damaged(path, f"{where} has an epoch or a position that there is not")


def _check_form(path: Path, where: str, found: Any, form: Form) -> None:
    """Each field is there, and of its type; a boolean is no number."""
    if not isinstance(found, dict):
        raise _damaged(path, f"{where or 'all of it'} is no object")
    for name, wanted in form.items():
        value = found.get(name)
        if name not in found or not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise _damaged(
                path, f"{where}{'.' * bool(where)}{name} is {'missing' if name not in found else repr(value)}"
            )


def _damaged(path: Path, reason: str) -> StateError:
    return StateError(f"{path} is damaged: {reason}; take another copy of it, or another savepoint")


def check_lanes(
    folder: Path, content: Mapping[str, Any], *, partitions: Sequence[int], topics: Sequence[str], meets: bool
) -> None:
    """The lanes are those of a pipeline that reads these partitions of `topics`, and each has its file. Raises `StateError`."""
    lanes = {int(name): manifest for name, manifest in content["lanes"].items()}
    wanted = {*partitions, *([MEETING_LANE] if meets else [])}
    shared = {MEETING_LANE} & wanted
    # What has no checksum does not say which lanes had committed nothing.
    missing = (wanted - {*lanes, *content[EMPTY]}) if EMPTY in content else (shared - lanes.keys())
    if not lanes or missing or not lanes.keys() <= wanted:
        raise StateError(
            f"{folder} has the state of {_named(lanes)}, and the pipeline that of {_named(wanted)}; take another copy of it, or another savepoint"
        )
    files = {path.name for path in folder.glob("*.state")}
    if files != (named := {state_file(lane) for lane in lanes}):
        raise StateError(
            f"{folder}: the savepoint is not whole: {', '.join(sorted(files ^ named))} {'is' if len(files ^ named) == 1 else 'are'} either not "
            "there or not in its manifest; take another copy of it, or another savepoint"
        )
    for lane, manifest in lanes.items():
        positions = manifest["facts"]["positions"]
        if set(positions) != (set() if lane == MEETING_LANE else set(topics)):
            raise _damaged(
                folder,
                f"lane {lane} has positions of {', '.join(positions) or 'nothing'}, and the input is {', '.join(topics)}",
            )


def check_head(path: Path, head: bytes, lanes: Sequence[int], manifest: Mapping[str, Any]) -> None:
    """The file at `path` is that of the manifest's lane and digest. Raises `StateError`."""
    wanted = {"lane": manifest["lane"], "digest": manifest["digest"]}
    found = orjson.loads(head)
    if found != wanted or list(lanes) != [manifest["lane"]]:
        raise StateError(
            f"{path} has lane {found.get('lane')} with the digest {found.get('digest')}, and the manifest says {wanted['digest']} for lane "
            f"{wanted['lane']}; take another copy of the savepoint"
        )


def state_file(lane: int) -> str:
    """The name of a lane's file."""
    return "shared.state" if lane == MEETING_LANE else f"lane-{lane}.state"


def _named(lanes: Mapping[int, Any] | set[int]) -> str:
    numbers = [str(lane) for lane in sorted(lanes) if lane != MEETING_LANE]
    names = [f"lane{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] * bool(numbers)
    return " and ".join(names + ["what they share"] * (MEETING_LANE in lanes)) or "no lane"
