"""Which of the cluster's codes pass by themselves, and which are rights that are missing."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from streamcore.kafka_client import is_passing
from streamcore.kafka_errors import PASSING, RIGHTS, UNSUPPORTED, denied, is_denied


def test_the_client_knows_every_code_by_the_name_it_has_here() -> None:
    assert {KafkaError(getattr(KafkaError, name)).name() for name in PASSING} == PASSING
    assert {KafkaError(getattr(KafkaError, name)).name() for name in {*RIGHTS, *UNSUPPORTED}} == {*RIGHTS, *UNSUPPORTED}
    assert PASSING.isdisjoint({*RIGHTS, *UNSUPPORTED})


@pytest.mark.parametrize(
    "name", ["NOT_LEADER_FOR_PARTITION", "_TRANSPORT", "_ALL_BROKERS_DOWN", "OFFSET_NOT_AVAILABLE"]
)
def test_a_broker_that_hands_over_passes_though_the_client_never_calls_it_retriable(name: str) -> None:
    error = KafkaError(getattr(KafkaError, name))
    assert is_passing(error)
    assert not error.retriable()


@pytest.mark.parametrize(
    "name",
    ["TOPIC_AUTHORIZATION_FAILED", "UNSUPPORTED_VERSION", "OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET", "_BAD_MSG"],
)
def test_what_no_waiting_mends_does_not_pass(name: str) -> None:
    assert not is_passing(KafkaError(getattr(KafkaError, name)))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "WRITE and DESCRIBE on transactional id streamcore/g/w"),
        ("GROUP_AUTHORIZATION_FAILED", "READ on group g"),
        ("TOPIC_AUTHORIZATION_FAILED", "READ and DESCRIBE on left and right, WRITE and DESCRIBE on"),
        ("CLUSTER_AUTHORIZATION_FAILED", "IDEMPOTENT_WRITE on the cluster"),
        ("UNSUPPORTED_VERSION", "newer version"),
    ],
)
def test_a_refusal_says_what_to_grant_on_what(name: str, hint: str) -> None:
    error = KafkaError(getattr(KafkaError, name))
    assert is_denied(error)
    refusal = denied(error, "this worker", transactional_id="streamcore/g/w", group="g", topics=["left", "right"])
    assert refusal is not None
    assert refusal.exit_code == 3
    assert hint in str(refusal)
    assert f"({name})" in str(refusal)


def test_other_errors_are_no_refusal() -> None:
    assert denied(KafkaError(KafkaError._TRANSPORT), "this worker") is None
