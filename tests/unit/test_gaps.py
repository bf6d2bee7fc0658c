"""What accepted gaps have passed over, counted once, by lane and topic."""

from __future__ import annotations

from streamcore.gaps import (
    SPANS_MAX,
    Gaps,
    Skipped,
    added,
    added_by,
    described,
    found_gaps,
    in_words,
    offsets_of,
    skipped,
)

JOIN = 1 << 24


class Clicks:
    topics = ("clicks",)

    def numbers(self, lane: int) -> list[int]:
        return [lane] if lane >= 0 else []


class Joined:
    topics = ("left", "right")

    def numbers(self, lane: int) -> list[int]:
        return [lane, JOIN + lane]


def facts(**of_topic: object) -> dict[str, object]:
    return {"source": described({"topic": "clicks"}, of_topic)}  # type: ignore[arg-type]


def test_a_gap_is_where_a_lane_goes_on_behind_its_position() -> None:
    assert found_gaps({0: 5, 1: 7, 2: None, 3: 4}, {0: 5, 1: 9, 2: 30}) == {1: (7, 9)}


def test_the_sum_has_all_and_the_places_are_the_last_ones() -> None:
    total: Skipped = {}
    for at in range(0, 100, 10):
        total = added(total, skipped([(at, at + 2)]))
    assert total == {"offsets": 20, "spans": [[at, at + 1] for at in range(20, 100, 10)]}
    assert len(total["spans"]) == SPANS_MAX
    assert in_words(total).startswith(
        "20 offsets, so at most as many records, skipped as accepted gaps: the last ones 20 to 21, "
    )
    assert added_by({"a": total}, {"b": skipped([(3, 4)])}) == {"a": total, "b": {"offsets": 1, "spans": [[3, 3]]}}


def test_what_a_manifest_had_and_what_came_since_are_one() -> None:
    gaps = Gaps(Clicks())
    gaps.restored(0, facts(clicks={"offsets": 2, "spans": [[1, 2]]}, older={"offsets": 9, "spans": [[0, 8]]}))
    gaps.restored(1, None)
    gaps.sought([0, 1], {0: 5, 1: None}, {0: 8, 1: 40})
    assert gaps.of(0)["clicks"] == {"offsets": 5, "spans": [[1, 2], [5, 7]]}
    assert (offsets_of(gaps.of(0)), offsets_of(gaps.of(0), "older"), gaps.of(1)) == (14, 9, {})
    assert gaps.in_run() == {0: 3}
    # Sought again before anything was committed, retention has gone on: it is one gap.
    gaps.sought([0], {0: 5}, {0: 9})
    assert gaps.of(0)["clicks"] == {"offsets": 6, "spans": [[1, 2], [5, 8]]}
    gaps.sought([0], {0: 9}, {0: 9})
    assert gaps.in_run() == {0: 4}
    gaps.forget(0)
    assert (gaps.of(0), gaps.in_run()) == ({}, {})


def test_each_topic_of_a_join_has_its_own() -> None:
    gaps = Gaps(Joined())
    gaps.restored(2, None)
    gaps.sought([2], {2: 5, JOIN + 2: 10}, {2: 5, JOIN + 2: 13})
    assert gaps.of(2) == {"right": {"offsets": 3, "spans": [[10, 12]]}}
    assert gaps.in_run() == {JOIN + 2: 3}


def test_facts_without_a_gap_are_as_they_were() -> None:
    assert described({"topic": "clicks"}, {}) == {"topic": "clicks"}
