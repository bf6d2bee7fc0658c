"""How long an answer is waited for, and when it is asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamcore import kafka_questions
from streamcore.kafka_questions import Question, answer_of
from tests.state_log import answered

Ask = Callable[[], "list[Future[Any]]"]


def refused(code: int) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(KafkaException(KafkaError(code)))
    return future


def _question(ask: Ask, *, within_s: float = 5.0, refreshed: list[float] | None = None) -> Question:
    refresh = (lambda _: None) if refreshed is None else refreshed.append
    return Question(ask, within_s=within_s, refresh=refresh, failed=lambda error: error)


def _in_turn(*rounds: list[Future[Any]]) -> Ask:
    left = iter(rounds)
    return lambda: next(left)


def offset(value: int) -> Future[SimpleNamespace]:
    return answered(SimpleNamespace(offset=value))


def test_a_question_that_nobody_answers_ends_with_its_time() -> None:
    """The runner's thread waited for ever, in recovery and inside revoke, and neither a budget nor SIGTERM was looked at."""
    began_s = time.monotonic()
    with pytest.raises(KafkaException) as raised:
        _question(lambda: [Future()], within_s=0.1).answers()
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
    assert time.monotonic() - began_s < 2


def test_an_answer_that_comes_between_two_calls_is_there_for_the_second() -> None:
    late: Future[Any] = Future()
    question = _question(_in_turn([offset(1), late]))
    assert question.answer(time.monotonic() + 0.05) is None
    late.set_result(SimpleNamespace(offset=2))
    assert [answer.offset for answer in question.answer(time.monotonic()) or ()] == [1, 2]


@pytest.mark.parametrize(
    "first", [refused(KafkaError.NOT_LEADER_FOR_PARTITION), refused(KafkaError.FENCED_LEADER_EPOCH), offset(-1001)]
)
def test_what_passes_or_was_lost_is_asked_for_again(first: Future[Any]) -> None:
    refreshed: list[float] = []
    question = _question(_in_turn([first], [offset(7)]), refreshed=refreshed)
    assert [answer.offset for answer in question.answers()] == [7]
    fenced = first.exception() is not None and first.exception().args[0].code() == KafkaError.FENCED_LEADER_EPOCH  # type: ignore[union-attr]
    assert len(refreshed) == fenced


def test_what_does_not_settle_in_time_is_told_by_its_reason() -> None:
    with pytest.raises(KafkaException) as raised:
        _question(lambda: [refused(KafkaError.LEADER_NOT_AVAILABLE)], within_s=0.1).answers()
    assert raised.value.args[0].code() == KafkaError.LEADER_NOT_AVAILABLE


def test_what_is_refused_for_good_is_asked_once() -> None:
    with pytest.raises(KafkaException) as raised:
        _question(_in_turn([refused(KafkaError.TOPIC_AUTHORIZATION_FAILED)])).answers()
    assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_request_whose_client_forgets_it_is_over_a_little_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_questions, "MARGIN_S", 0.05)
    with pytest.raises(KafkaException) as raised:
        answer_of(Future(), 0.05)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
