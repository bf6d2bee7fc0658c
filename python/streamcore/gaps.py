"""Owns the count of what accepted gaps passed over: records that retention deleted before they were read.

Before it: the source, which goes on behind a gap where `--accept-gap` says so. After it: manifests and checkpoints, which keep the count
beside the positions, the report of a run, and `audit.py`.
Invariant: an offset is counted once, in the same commit as the position behind it; until then a start finds the gap anew.

What is counted are offsets. Each was a record at most: some are markers of transactions, or were compacted away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SPANS_MAX = 8
"""Gaps of a lane that are kept with their places, the last ones; the sum has all."""

Span = tuple[int, int]
"""The first offset of a gap, and the one behind it."""

Skipped = Mapping[str, Any]
"""`offsets`: how many there were in all; `spans`: the first and the last offset of each of the last gaps."""


class Numbered(Protocol):
    """The input, as far as it is needed here; see `manifests.Input`."""

    @property
    def topics(self) -> Iterable[str]:
        """Their names, in the order of `numbers`."""

    def numbers(self, lane: int) -> list[int]:
        """The runner's lanes of a lane."""


def found_gaps(known: Mapping[int, int | None], found: Mapping[int, int]) -> dict[int, Span]:
    """The gaps between where lanes were to go on and where they do."""
    return {
        lane: (position, found[lane])
        for lane, position in known.items()
        if position is not None and found.get(lane, position) > position
    }


def skipped(spans: Iterable[Span]) -> Skipped:
    """These gaps, counted."""
    gaps = list(spans)
    return {
        "offsets": sum(end - first for first, end in gaps),
        "spans": [[first, end - 1] for first, end in gaps[-SPANS_MAX:]],
    }


def added(left: Skipped, right: Skipped) -> Skipped:
    """Both; `right` came later."""
    return {
        "offsets": left.get("offsets", 0) + right.get("offsets", 0),
        "spans": [*left.get("spans", ()), *right.get("spans", ())][-SPANS_MAX:],
    }


def added_by(left: Mapping[Any, Skipped], right: Mapping[Any, Skipped]) -> dict[Any, Skipped]:
    """The same by topic, or by lane."""
    return {**left, **{place: added(left.get(place, {}), more) for place, more in right.items()}}


def skipped_by(facts: Mapping[str, Any]) -> dict[str, Skipped]:
    """What the facts of a manifest say, by topic."""
    found: dict[str, Skipped] = facts["source"].get("skipped", {})
    return found


def described(source: Mapping[str, object], of_lane: Mapping[str, Skipped]) -> dict[str, object]:
    """What a source says of itself, with what was skipped of it; see `skipped_by`."""
    return {**source, **({"skipped": dict(of_lane)} if of_lane else {})}


def offsets_of(of_lane: Mapping[str, Skipped], topic: str | None = None) -> int:
    """How many offsets of a topic were skipped, or of all."""
    return sum(one["offsets"] for name, one in of_lane.items() if topic in (None, name))


def in_words(one: Skipped) -> str:
    """What was skipped, with its places."""
    offsets, spans = one["offsets"], [(first, last) for first, last in one["spans"]]
    places = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    is_all = sum(last - first + 1 for first, last in spans) == offsets
    most = "offset, so at most one record," if offsets == 1 else "offsets, so at most as many records,"
    return f"{offsets} {most} skipped as accepted gaps: {'' if is_all else 'the last ones '}{', '.join(places)}"


@dataclass(slots=True)
class _Lane:
    """What was skipped of a lane, by topic."""

    before: Mapping[str, Skipped]
    """As its manifest says."""
    new: dict[str, dict[int, int]]
    """Since then: the offset behind each gap, by its first one. A place that is sought again begins at the same."""


class Gaps:
    """What was skipped of the lanes of one worker."""

    def __init__(self, source: Numbered) -> None:
        self._source = source
        self._lanes: dict[int, _Lane] = {}

    def restored(self, lane: int, facts: Mapping[str, Any] | None) -> None:
        """The lane has been brought to a manifest with these facts, or it is new."""
        self._lanes[lane] = _Lane({} if facts is None else skipped_by(facts), {})

    def sought(self, lanes: Iterable[int], known: Mapping[int, int | None], found: Mapping[int, int]) -> None:
        """Lanes go on where they were `found` to, and not where they are `known` to have been; both are by the runner's lanes."""
        gaps = found_gaps(known, found)
        for lane in lanes:
            for topic, number in zip(self._source.topics, self._source.numbers(lane), strict=False):
                if number in gaps:
                    first, end = gaps[number]
                    of_lane = self._lanes.setdefault(lane, _Lane({}, {}))
                    of_lane.new.setdefault(topic, {})[first] = end

    def of(self, lane: int) -> dict[str, Skipped]:
        """By topic, since the state began."""
        found = self._lanes.get(lane)
        if found is None:
            return {}
        return added_by(found.before, {topic: skipped(gaps.items()) for topic, gaps in found.new.items()})

    def forget(self, lane: int) -> None:
        """The lane is not ours any more."""
        self._lanes.pop(lane, None)

    def in_run(self) -> dict[int, int]:
        """How many offsets this worker has skipped, by the runner's lanes; none where there were no gaps."""
        found = {}
        for lane, of_lane in self._lanes.items():
            for topic, number in zip(self._source.topics, self._source.numbers(lane), strict=False):
                if topic in of_lane.new:
                    found[number] = int(skipped(of_lane.new[topic].items())["offsets"])
        return found
