"""Owns waiting for what a cluster was asked, and asking again where the answer passes or is lost.

Before it: requests of the client, as futures. After it: `kafka_client.py`, whose callers wait once, or in several calls.
Invariant: every waiting is bounded. A future of the client may stay open for ever, whatever the request's own timeout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

from streamcore.kafka_errors import SETTLING

RETRY_INTERVAL_S = 0.1

MARGIN_S = 1.0
"""The client says better than we do why there is no answer: so much longer it is waited for."""


def answer_of(future: Future[Any], timeout_s: float) -> Any:
    """The answer to a request of this timeout. Raises `KafkaException`, also where the client never says that it is over."""
    try:
        return future.result(timeout_s + MARGIN_S)
    except TimeoutError:
        raise _silence("nobody answered") from None


def is_told(offset: int) -> bool:
    """Whether an answer of the broker's holds an offset, or says that there is none (-1).

    Where a request was lost with its connection, the client may give -1001 in its place, without an error.
    """
    return offset >= -1


def are_told(answers: Sequence[Any]) -> bool:
    """`is_told` of all answers that have an offset."""
    return all(is_told(answer.offset) for answer in answers if hasattr(answer, "offset"))


def _silence(why: str) -> Exception:
    from confluent_kafka import KafkaError, KafkaException

    silence: Exception = KafkaException(KafkaError(KafkaError._TIMED_OUT, why))  # noqa: SLF001
    return silence


class Question:
    """Requests that are answered together."""

    def __init__(
        self,
        ask: Callable[[], Sequence[Future[Any]]],
        *,
        within_s: float,
        refresh: Callable[[float], None],
        failed: Callable[[Exception], Exception],
    ) -> None:
        """`within_s`: how long it is tried in all. `refresh` has the client look for leaders, and `failed` makes our error of the client's."""
        self._ask = ask
        self._refresh = refresh
        self._failed = failed
        self._until_s = time.monotonic() + within_s
        self._why = _silence("nobody answered")
        """Why there is no answer yet."""
        self._futures: Sequence[Future[Any]] | None = ask()
        """None: to be asked again."""

    def answer(self, until_s: float | None = None) -> list[Any] | None:
        """The answers; None where they are not there by `until_s` (monotonic), and may be later. Raises what `failed` makes."""
        until_s = self._until_s if until_s is None else min(until_s, self._until_s)
        while True:
            if self._futures is None:
                self._futures = self._ask()
            answers = self._look(until_s)
            if answers is not None:
                return answers
            now_s = time.monotonic()
            if now_s >= self._until_s:
                raise self._failed(self._why) from self._why
            if now_s >= until_s:
                return None
            time.sleep(min(RETRY_INTERVAL_S, max(0.0, until_s - now_s)))

    def answers(self) -> list[Any]:
        """`answer`, waited for until it is there or the time is over."""
        found = self.answer()
        assert found is not None  # noqa: S101 - without an end of the waiting's own, it is there or raised
        return found

    def _look(self, until_s: float) -> list[Any] | None:
        from confluent_kafka import KafkaException

        assert self._futures is not None  # noqa: S101 - asked just now
        if wait(self._futures, max(0.0, until_s - time.monotonic())).not_done:
            return None
        futures, self._futures = self._futures, None
        try:
            answers = [future.result() for future in futures]
        except KafkaException as error:
            if error.args[0].name() not in SETTLING:
                raise self._failed(error) from error
            self._why = error
            if error.args[0].name() == "FENCED_LEADER_EPOCH":
                # The client goes on asking under the leadership that it knows.
                self._refresh(max(RETRY_INTERVAL_S, until_s - time.monotonic()))
            return None
        if not are_told(answers):
            self._why = _silence("the broker tells none")
            return None
        return answers
