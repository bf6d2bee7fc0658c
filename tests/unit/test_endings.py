"""What a run that commits exactly once raises at its end, by what its commit machine says."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamcore.config import KafkaConnection
from streamcore.endings import failure_of, told
from streamcore.errors import ConfigError, Error, SourceError
from streamcore.transactions import Transactions, transactional_id


def _failure(code: int, *, worker: str = "w0", moved: str | None = None) -> Error | None:
    return failure_of({"code": code, "message": "m"}, name=transactional_id("g/1", worker), moved=moved)


def test_an_end_that_is_well_raises_nothing() -> None:
    assert _failure(0) is None
    assert _failure(0, moved="ILLEGAL_GENERATION") is None


def test_a_stop_that_a_rebalance_met_is_well_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert _failure(1, moved="ILLEGAL_GENERATION") is None
    assert "the last epoch was refused (ILLEGAL_GENERATION) and is taken back" in caplog.text


@pytest.mark.parametrize("moved", [None, "ILLEGAL_GENERATION"])
@pytest.mark.parametrize("code", [4, 6, 7])
def test_other_failures_keep_their_codes(code: int, moved: str | None) -> None:
    failure = _failure(code, moved=moved)
    assert failure is not None
    assert failure.exit_code == code
    assert isinstance(failure, SourceError) == (code == 4)


def test_a_commit_that_failed_for_another_reason_is_a_failure() -> None:
    failure = _failure(1)
    assert failure is not None
    assert (failure.exit_code, str(failure)) == (1, "m")


def test_a_worker_that_was_fenced_is_told_its_name_and_what_to_do() -> None:
    text = str(_failure(7, worker="a/b 100%"))
    assert "another worker has the name of this one, a/b 100%: give each worker an instance_id of its own" in text
    assert "STREAMCORE_INSTANCE_ID" in text


def _told(error: Exception) -> tuple[str, Error | None]:
    made = Transactions(KafkaConnection(), transactional_id=transactional_id("g/1", "w0"), timeout_ms=1_000)
    event, refusal = told(error, made, ["in"])
    assert event["event"] == "failed"
    return event["error"], refusal


def test_a_right_that_is_missing_ends_the_run_with_what_to_grant() -> None:
    error = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no", False, False, True))
    kind, refusal = _told(error)
    assert (kind, type(refusal)) == ("fatal", ConfigError)
    assert "READ on group g/1" in str(refusal)
    # The machine's own code for what is fatal is that of a worker that was fenced.
    ended = failure_of({"code": 7, "message": "m"}, refusal, name="n", moved=None)
    assert ended is refusal


def test_what_may_be_tried_again_leaves_no_reason_to_end_with() -> None:
    assert _told(KafkaException(KafkaError(KafkaError._TIMED_OUT))) == ("indeterminate", None)
    assert _told(BufferError("full")) == ("indeterminate", None)
    assert _told(SourceError("away", unreachable=True)) == ("retriable", None)
    lasting = SourceError("gone")
    assert _told(lasting) == ("fatal", lasting)
