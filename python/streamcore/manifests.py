"""Owns what manifests say of a run besides its state, and whether one that is found is of this run.

Before it: `epochs.py`, when it commits and when it recovers. After it: the engine, which frames and checks them
(`checkpoint/manifest.rs`), and the commit machine, which chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from streamcore import _core
from streamcore.checkpoint import Header
from streamcore.errors import StateError
from streamcore.gaps import Skipped, described
from streamcore.layouts import partials_topic

ANEW = "begin anew, under another name or after streamcore state reset FILE"
"""The advice where state is of something else."""
PUT_BACK = "restore a savepoint, or begin anew: streamcore state reset FILE"
"""The advice where state, or what it is made from, is lost."""

SEAL_BITS = 53
"""Numbers of this many bits are the same in every reader of JSON."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Of the run."""

    pipeline: str
    fingerprint: str
    generation: int
    group: str = ""
    """The pipeline's consumer group, whose members fence each other; without one it is neither written nor compared."""

    def header(self, epoch: int, positions: Mapping[int, int], source: Mapping[str, object], *, ended: bool) -> Header:
        """Of an epoch, as checkpoints have it; a digest is in manifests alone."""
        return Header(
            pipeline=self.pipeline,
            fingerprint=self.fingerprint,
            generation=self.generation,
            epoch=epoch,
            digest=0,
            positions=dict(positions),
            source=dict(source),
            ended=ended,
        )


class Input(Protocol):
    """What is read."""

    @property
    def topics(self) -> Sequence[str]:
        """Their names, in the order of offsets of a lane."""

    def numbers(self, lane: int) -> list[int]:
        """The runner's lanes of a lane, one a topic; what lanes share has none."""

    def describe(self) -> dict[str, object]:
        """Facts that identify it."""


class States(Protocol):
    """What was read of lanes."""

    def records(self, lane: int) -> _core.StateRecords:
        """The records of a lane."""

    def manifests(self, lane: int) -> list[tuple[bytes, bool]]:
        """Its manifests, the newest first, each with whether all that it names is there."""


def facts_of(
    identity: Identity,
    source: Input,
    *,
    positions: Mapping[str, int],
    owner: int,
    seal: int,
    ended: bool,
    files: Mapping[str, Sequence[str]],
    skipped: Mapping[str, Skipped],
) -> bytes:
    """What goes into the manifest of a lane's epoch, as JSON; `positions` are by topic, none for what lanes share.

    `files` are named once the epoch is committed, by folder. `skipped` is what accepted gaps have passed over, by topic.
    """
    return orjson.dumps(
        {
            "pipeline": identity.pipeline,
            "generation": identity.generation,
            "owner": owner,
            "seal": seal,
            "positions": positions,
            "files": files,
            "source": described(source.describe() | ({"group": identity.group} if identity.group else {}), skipped),
            "ended": ended,
        }
    )


def by_topic(source: Input, lane: int, positions: Mapping[int, int]) -> dict[str, int]:
    """The positions of a lane, of those of the runner's lanes."""
    return dict(zip(source.topics, (positions.get(number, 0) for number in source.numbers(lane)), strict=False))


def offsets_of(source: Input, lane: int, found: Mapping[int, int | None], missing: int | None) -> dict[str, Any]:
    """A lane with its offset of each topic, as the commit machine has it; what lanes share is of none, and stands as if it were of one."""
    offsets = [found.get(number, missing) for number in source.numbers(lane)]
    return {"lane": lane, "offsets": offsets or [missing]}


def by_number(source: Input, lanes: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
    """Undoes `offsets_of`."""
    pairs = (zip(source.numbers(each["lane"]), each["offsets"], strict=False) for each in lanes)
    return {number: offset for of_lane in pairs for number, offset in of_lane}


def check_whole(lane: int, records: _core.StateRecords, found: Sequence[tuple[bytes, bool]]) -> None:
    """Raises `StateError` with what is wrong with the newest manifest, if it is not whole; the machine knows only that."""
    if not found or found[0][1]:
        return
    manifest, problem = orjson.loads(records.inspect())["manifests"][0]
    raise StateError(
        f"epoch {manifest['epoch']} of lane {lane} was committed and is not whole: {problem}; streamcore state verify FILE "
        "shows all lanes, streamcore state repair FILE goes back to the newest whole epoch"
    )


def last_manifest(engine: _core.Pipeline, lane: int, records: Sequence[tuple[bytes, bytes | None]]) -> dict[str, Any]:
    """The manifest among the records of one epoch of a lane, which is the last of them."""
    epoch = engine.state_records(lane)
    epoch.add(records[-1:])
    ((manifest_json, _),) = epoch.manifests()
    manifest: dict[str, Any] = orjson.loads(manifest_json)
    return manifest


def told_of(states: States, lane: int, identity: Identity, source: Input, *, reached: bool) -> dict[str, Any]:
    """What the commit machine is told of a lane that is read, to its end or not yet. Raises `StateError` where its newest manifest is of no use."""
    found = states.manifests(lane) if reached else []
    check_group(identity, groups_of(orjson.loads(manifest) for manifest, _ in found))
    manifests = [told(manifest, identity, source, is_whole=is_whole) for manifest, is_whole in found]
    if found:
        check_whole(lane, states.records(lane), found)
    return {"lane": lane, "reached": reached, "manifests": manifests}


def groups_of(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """The groups under which manifests were written, the newest first; earlier versions did not say."""
    sources = (one["facts"]["source"] for one in manifests)
    return list(dict.fromkeys(one["group"] for one in sources if "group" in one))


def check_group(identity: Identity, groups: Sequence[str]) -> None:
    """Raises `StateError` where state was written under another group, whose members nothing keeps from writing it at the same time."""
    others = [group for group in groups if group != identity.group]
    if not identity.group or not others:
        return
    name, own, other = identity.pipeline, identity.group, others[0]
    if own in groups:
        raise StateError(
            f'the state of {name} was written under two groups, group_id = "{own}" and group_id = "{other}", which do not fence each other, so '
            f"it cannot be gone on from; stop the workers of both, discard it (streamcore state reset FILE) and restore a savepoint"
        )
    raise StateError(
        f'the state of {name} is of group_id = "{other}", and this is group_id = "{own}": workers of the two do not fence each other, and '
        f'would both write it; set group_id = "{other}", or discard the state under that group first (streamcore state reset FILE), or give the '
        "pipeline another name"
    )


def other_input(pipeline: str, before: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """In words, what was another thing when the state was made, and what to do; None where nothing was. The same for all lanes."""
    changed = [name for name, value in now.items() if before.get(name, value) != value]
    if not changed:
        return None
    if now.get("topic") == partials_topic(pipeline):
        return lost_partials(pipeline, is_there=bool(now["topic_id"]))
    if all(name.endswith("partitions") for name in changed):
        first = changed[0]
        return mismatch(before[first], now[first.replace("partitions", "topic")], now[first])
    differences, advice = [], f"put it back, or {ANEW}"
    for prefix in dict.fromkeys(name[: name.rfind(".") + 1] for name in changed):
        topic, was = now.get(f"{prefix}topic"), before.get(f"{prefix}topic")
        if was != topic:
            differences.append(f"it was {was} and is {topic} now")
        elif f"{prefix}topic_id" in changed:
            differences.append(f"{topic} was deleted and made again")
            advice = f"offsets of the old one say nothing of the new one: {ANEW}"
        if f"{prefix}partitions" in changed:
            differences.append(
                f"{topic} has {now[f'{prefix}partitions']} partitions, and there were {before[f'{prefix}partitions']}"
            )
    return f"the state was made from another input: {', '.join(differences)}; {advice}"


def lost_partials(pipeline: str, *, is_there: bool) -> str:
    """In words, that the topic between two stages of state is not the one that the state was made with."""
    what = "was deleted and made again" if is_there else "does not exist"
    return f"{partials_topic(pipeline)} {what}, so partials of this state may be lost; {PUT_BACK}"


def mismatch(size: object, topic: object, count: object) -> str:
    """In words, that the state has other partitions than the input."""
    return (
        f"STATE_PARTITION_MISMATCH: the state has {size} partitions, and the input {topic} has {count}: keys have moved between "
        f"them; streamcore state rescale FILE --to {count} moves it, or says why it cannot"
    )


def told(manifest_json: bytes, identity: Identity, source: Input, *, is_whole: bool) -> dict[str, Any]:
    """A manifest as the commit machine is told of it. Raises `StateError` for one of another pipeline or input."""
    manifest = orjson.loads(manifest_json)
    facts = manifest["facts"]
    if manifest["fingerprint"] != identity.fingerprint:
        raise StateError(
            f"the state was made by another version of {identity.pipeline}: its source, schema or steps have changed, or combine "
            f"(fingerprint then {manifest['fingerprint']}, now {identity.fingerprint}); undo the change, or {ANEW}"
        )
    other = other_input(identity.pipeline, facts["source"], source.describe())
    if other is not None:
        raise StateError(other)
    return {
        "owner_epoch": facts["owner"],
        "epoch": manifest["epoch"],
        "offsets": [facts["positions"].get(topic, 0) for topic in source.topics] if manifest["lane"] >= 0 else [0],
        "clock_ms": manifest["watermark_ms"],
        "digest": int(manifest["digest"], 16),
        "seal": facts["seal"],
        "complete": is_whole,
    }
