"""Which error a call of a transaction raises that fails while records are on their way, and the end of a producer; the rest is held by tests/faults."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamcore import transaction_client, transactions
from streamcore.config import KafkaConnection
from streamcore.errors import ConfigError, SinkError
from streamcore.transaction_errors import classified, failure
from streamcore.transactions import Transactions, group_of, transactional_id, worker_of

GONE_S = 5.0

Told = Callable[[Any, Any], None]


class Refused:
    """The record that a broker has refused."""

    def topic(self) -> str:
        return "out"

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v" * 1_000


class Client:
    """A producer whose calls fail, and which tells of a record in the poll behind it."""

    def __init__(self, error: KafkaError, verdict: int | None) -> None:
        self._error = error
        self._verdict = verdict
        self._told: Told | None = None
        self.polls = 0

    def produce(self, *_: Any, on_delivery: Told, **__: Any) -> None:
        if self._told is not None:
            raise KafkaException(self._error)
        self._told = on_delivery

    def send_offsets_to_transaction(self, *_: Any) -> None:
        raise KafkaException(self._error)

    commit_transaction = send_offsets_to_transaction

    def poll(self, timeout_s: float) -> None:
        self.polls += 1
        if self._verdict is not None and self._told is not None:
            self._told(KafkaError(self._verdict), Refused())


def _sent(monkeypatch: pytest.MonkeyPatch, client: Client) -> Transactions:
    monkeypatch.setattr(transactions, "VERDICT_S", 0.001)
    made = Transactions(KafkaConnection(), transactional_id="t", timeout_ms=1_000)
    made._producer = cast("Any", client)
    made.send("out", key=b"k", value=b"v")
    return made


def _abortable(code: int) -> KafkaError:
    return KafkaError(code, "it failed", False, False, True)


TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE


@pytest.mark.parametrize("error", [_abortable(TOO_LARGE), KafkaError(KafkaError._STATE, "erroneous state")])
@pytest.mark.parametrize("call", ["send", "send_offsets"])
def test_a_call_that_fails_because_of_a_record_says_which(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, call: str
) -> None:
    made = _sent(monkeypatch, Client(error, TOO_LARGE))
    arguments: tuple[Any, ...] = ("out",) if call == "send" else ([], None, 1.0)
    more = {"key": b"k", "value": b"v"} if call == "send" else {}
    with pytest.raises(SinkError, match=r"topic out refuses a record of 1,000 bytes with the key b'k'"):
        getattr(made, call)(*arguments, **more)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_abortable(KafkaError.ILLEGAL_GENERATION), "abortable"),
        # What became of it is not known, though the transaction cannot be committed any more.
        (_abortable(KafkaError._TIMED_OUT), "indeterminate"),
        (KafkaError(KafkaError._FENCED, "fenced"), "fenced"),
    ],
)
def test_what_is_not_of_a_record_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, kind: str
) -> None:
    client = Client(error, TOO_LARGE)
    with pytest.raises(KafkaException) as raised:
        _sent(monkeypatch, client).send_offsets([], None, 1.0)
    assert raised.value.args[0].code() == error.code()
    assert (failure(raised.value)["error"], client.polls) == (kind, 0)


def test_records_that_are_thrown_away_with_a_transaction_are_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(_abortable(KafkaError.COORDINATOR_NOT_AVAILABLE), KafkaError._PURGE_QUEUE)
    with pytest.raises(KafkaException) as raised:
        _sent(monkeypatch, client).send_offsets([], None, 1.0)
    assert raised.value.args[0].code() == KafkaError.COORDINATOR_NOT_AVAILABLE
    assert client.polls > 0


@pytest.mark.parametrize("call", ["send", "send_offsets", "commit"])
def test_a_call_that_fails_as_a_topic_is_not_known_asks_whether_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    made = _sent(monkeypatch, Client(_abortable(KafkaError.UNKNOWN_TOPIC_OR_PART), None))
    made.watch = watch = Mock()
    watch.check_there.side_effect = SinkError("topic out is gone", retriable=False)
    arguments: tuple[Any, ...] = {"send": ("out",), "send_offsets": ([], None, 1.0), "commit": (1.0,)}[call]
    more = {"key": b"k", "value": b"v"} if call == "send" else {}
    with pytest.raises(SinkError, match="topic out is gone"):
        getattr(made, call)(*arguments, **more)
    watch.check_there.assert_called_once_with({"out"})


def test_a_producer_that_was_not_ready_in_time_is_gone_at_once_with_its_threads() -> None:
    made = Transactions(
        KafkaConnection(bootstrap_servers="127.0.0.1:1"), transactional_id="nobody-there", timeout_ms=1_000
    )
    threads = Path("/proc/self/task")
    gc.disable()
    try:
        before = len(list(threads.iterdir()))
        with pytest.raises(KafkaException):
            made.renew(0.2)
        # The system lists a thread for a moment longer than it runs.
        deadline = time.monotonic() + GONE_S
        while len(list(threads.iterdir())) > before:
            assert time.monotonic() < deadline, "threads of the producer go on"
            time.sleep(0.01)
    finally:
        gc.enable()


def test_a_long_transaction_leaves_no_long_time_to_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    made = Transactions(KafkaConnection(), transactional_id="t", timeout_ms=45_000)
    made._producer = cast("Any", Mock())

    def open_for(open_ms: int, timeout_s: float) -> None:
        del timeout_s
        opened.append(open_ms)
        made._open_ms = open_ms

    monkeypatch.setattr(made, "_open_for", open_for)
    for rows in (10, 2_000_000, 2_000_000, 10, 10, 800_000, 5_000_000_000):
        made.begin(rows)
    assert opened == [100_000, 45_000, 900_000]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
    ],
)
@pytest.mark.parametrize("flags", [(False, False, False), (False, False, True), (True, False, False)])
def test_a_right_that_is_missing_is_fatal_whatever_the_client_says_of_it(
    code: int, flags: tuple[bool, bool, bool]
) -> None:
    """A group that may not be read was tried for 300 s, and then no broker had answered."""
    assert classified(KafkaError(code, "no", *flags)) == "fatal"


def test_a_delivery_that_failed_says_of_which_topic_its_record_was(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(_abortable(KafkaError._STATE), KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException, match=r"a record for topic out: .*authorization failed"):
        _sent(monkeypatch, client).send_offsets([], None, 1.0)


def test_a_producer_whose_name_may_not_be_used_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was exit code 7, and another worker was said to have the name."""

    class Denied:
        def init_transactions(self, _: float) -> None:
            raise KafkaException(KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "no", True, False, False))

        def purge(self) -> None: ...

        def poll(self, _: float) -> None: ...

    made = Transactions(KafkaConnection(), transactional_id=transactional_id("g/1", "w"), timeout_ms=1_000)
    monkeypatch.setattr(transactions, "make_client", lambda *_, **__: Denied())
    with pytest.raises(ConfigError, match="grant the user WRITE and DESCRIBE on transactional id streamcore/g%2F1/w"):
        made.renew(1.0)


def test_the_group_and_the_worker_are_in_the_name() -> None:
    name = transactional_id("a/b", "c/d")
    assert (group_of(name), worker_of(name)) == ("a/b", "c/d")


def test_a_question_has_what_is_left_of_a_revoke_and_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.transactions.time.monotonic", lambda: 100.0)
    made = Transactions(KafkaConnection(), transactional_id="t", timeout_ms=1_000)
    assert made.left_of(10.0) == 10.0
    made.within(2_000)
    assert made.left_of(10.0) == 2.0
    made.within(0)
    assert made.left_of(10.0) == transactions.LEAST_S


def test_a_topic_that_is_refused_is_named_whatever_call_fails_first() -> None:
    """The client names it in its log alone, and the call may fail as the transaction has failed."""
    made = Transactions(KafkaConnection(), transactional_id=transactional_id("g", "w"), timeout_ms=1_000)
    watch = transaction_client._Watch(logging.getLogger(__name__), lambda: None, made._refused.add)
    state = KafkaError(KafkaError._STATE, "erroneous state")
    line = 'TxnCoordinator/1: Failed to add partition "out" [0] to transaction: Broker: '
    watch.log(logging.ERROR, "%s %s %s", "ADDPARTS", "producer-1", line + "Not coordinator")
    assert made.denied(state, "this worker") is None
    watch.log(logging.ERROR, "%s %s %s", "ADDPARTS", "producer-1", line + "Topic authorization failed")
    assert "grant the user WRITE and DESCRIBE on out" in str(made.denied(state, "this worker"))


def test_a_client_that_was_fenced_says_so_once_more_and_that_is_no_error_of_ours() -> None:
    """It ended the run with a traceback and exit code 1, and not with 7."""
    fenced = KafkaError(KafkaError._FENCED, "fenced", True, False, False)
    made = Transactions(KafkaConnection(), transactional_id=transactional_id("g", "w"), timeout_ms=1_000)
    made._producer = cast("Any", Mock())
    made._producer.poll.side_effect = KafkaException(fenced)  # type: ignore[union-attr]
    assert made.denied(fenced, "this worker") is None
    assert classified(fenced) == "fenced"


@pytest.mark.parametrize(("code", "is_kept"), [(KafkaError._FENCED, True), (KafkaError._TIMED_OUT, False)])
def test_a_client_that_was_fenced_is_left_to_the_end_of_the_process(code: int, is_kept: bool) -> None:
    """As its threads ended, one in some forty aborted the process: librdkafka had freed a text twice."""

    class Failing:
        def purge(self) -> None:
            raise KafkaException(KafkaError(code, "no", True, False, False))

        poll = commit_transaction = lambda self, _: self.purge()

    client, made = Failing(), Transactions(KafkaConnection(), transactional_id="t", timeout_ms=1_000)
    made._producer = cast("Any", SimpleNamespace(_inner_producer=client, commit_transaction=client.commit_transaction))
    with pytest.raises(KafkaException):
        made.commit(1.0)
    made.close()
    there = weakref.ref(client)
    del client
    gc.collect()
    assert (there() is not None) == is_kept
