"""What manifests say of a run, and those of other runs."""

from __future__ import annotations

import json

import pytest

from streamcore import _core
from streamcore.errors import StateError
from streamcore.manifests import (
    ANEW,
    Identity,
    check_group,
    facts_of,
    groups_of,
    last_manifest,
    lost_partials,
    other_input,
    told,
)

IDENTITY = Identity("p", "00000000000000ff", 7)


class Clicks:
    topics = ("clicks",)

    def __init__(self, topic_id: str = "a") -> None:
        self.topic_id = topic_id

    def describe(self) -> dict[str, object]:
        return {"topic": self.topics[0], "topic_id": self.topic_id}

    def numbers(self, lane: int) -> list[int]:
        return [] if lane < 0 else [lane]


def manifest(position: int | None = 5) -> bytes:
    positions = {} if position is None else {"clicks": position}
    facts = facts_of(IDENTITY, Clicks(), positions=positions, owner=2, seal=9, ended=True, files={}, skipped={})
    rest = {"lane": 0, "epoch": 3, "fingerprint": IDENTITY.fingerprint, "digest": "000000000000000a", "watermark_ms": 4}
    return json.dumps({**rest, "facts": json.loads(facts)}).encode()


def test_what_was_written_is_told() -> None:
    expected = {"owner_epoch": 2, "epoch": 3, "offsets": [5], "clock_ms": 4, "digest": 10, "seal": 9, "complete": True}
    assert told(manifest(), IDENTITY, Clicks(), is_whole=True) == expected
    assert told(manifest(None), IDENTITY, Clicks(), is_whole=False) == {**expected, "offsets": [0], "complete": False}


def test_a_manifest_of_another_pipeline_or_input_is_refused() -> None:
    with pytest.raises(StateError, match="steps have changed"):
        told(manifest(), Identity("p", "00000000000000fe", 7), Clicks(), is_whole=True)
    with pytest.raises(
        StateError, match="made from another input: clicks was deleted and made again; offsets of the old"
    ):
        told(manifest(), IDENTITY, Clicks("b"), is_whole=True)


def test_only_what_differs_of_an_input_is_named_with_what_can_be_done() -> None:
    before = {"type": "kafka", "topic": "clicks", "topic_id": "a", "partitions": 4}
    joined = {**before, "users.topic": "users", "users.topic_id": "u", "users.partitions": 4}
    assert other_input("p", before, before) is None
    assert other_input("p", joined, joined) is None
    grown = other_input("p", before, {**before, "partitions": 8}) or ""
    assert grown.startswith("STATE_PARTITION_MISMATCH: the state has 4 partitions, and the input clicks has 8")
    assert grown.endswith("; streamcore state rescale FILE --to 8 moves it, or says why it cannot")
    other = other_input("p", before, {**before, "topic": "visits", "topic_id": "b"})
    assert other == f"the state was made from another input: it was clicks and is visits now; put it back, or {ANEW}"
    again = other_input("p", joined, {**joined, "users.topic_id": "v"}) or ""
    assert again.startswith(
        "the state was made from another input: users was deleted and made again; offsets of the old one"
    )
    between = {**before, "topic": "p.0.partials.g1"}
    assert other_input("p", between, {**between, "topic_id": "b"}) == lost_partials("p", is_there=True)
    assert other_input("p", between, {**between, "topic_id": "", "partitions": 0}) == lost_partials("p", is_there=False)


def test_the_manifest_of_written_records_is_found_whatever_is_in_its_checksum() -> None:
    engine = _core.Pipeline(json.dumps({"source": {"format": "raw"}, "steps": []}).encode())
    engine.assign([0])
    engine.seal()
    checksums_with_a_brace = 0
    for seal in range(2_000):
        facts = facts_of(
            IDENTITY, Clicks(), positions={"clicks": 0}, owner=0, seal=seal, ended=False, files={}, skipped={}
        )
        records = engine.rewrite(0, engine.state_records(0), facts)
        assert last_manifest(engine, 0, records)["facts"]["seal"] == seal
        checksums_with_a_brace += b"{" in (records[-1][1] or b"")[:10]
    assert checksums_with_a_brace > 0


@pytest.mark.parametrize("groups", [[], ["own"], ["own", "own"]])
def test_state_of_the_own_group_or_of_none_that_is_told_is_taken(groups: list[str]) -> None:
    check_group(Identity("p", "ff", 7, "own"), groups)
    check_group(Identity("p", "ff", 7), ["other"])


def test_state_of_another_group_is_refused_with_both_names() -> None:
    with pytest.raises(
        StateError, match=r'is of group_id = "other", and this is group_id = "own".*set group_id = "other"'
    ):
        check_group(Identity("p", "ff", 7, "own"), ["other"])
    with pytest.raises(StateError, match=r"under two groups.*state reset"):
        check_group(Identity("p", "ff", 7, "own"), ["own", "other"])


def test_the_group_is_written_and_found() -> None:
    facts = [
        json.loads(facts_of(identity, Clicks(), positions={}, owner=0, seal=0, ended=False, files={}, skipped={}))
        for identity in (
            Identity("p", "ff", 7, "b"),
            IDENTITY,
            Identity("p", "ff", 7, "a"),
            Identity("p", "ff", 7, "b"),
        )
    ]
    assert groups_of({"facts": one} for one in facts) == ["b", "a"]
