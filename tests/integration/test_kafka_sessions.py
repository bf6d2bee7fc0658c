"""Logins that hold for a short time only (KIP-368): they are renewed on the connections there are, whoever waits for what.

The listener is reached through a proxy, which knows the connections and counts what is said of logins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.kafka_tokens import GOES_ON, WAITS
from streamcore.run import Run
from tests.faults.proxy import Proxy
from tests.integration.kafka_tools import TIMEOUT_S, create_topic, produce, read_topic
from tests.integration.test_kafka_security_native import fetched, fetching
from tests.servers.kafka import USER
from tests.servers.secure_kafka import MECHANISMS, SESSION_S, SecureKafka

SASL_AUTHENTICATE, MANY = 36, 1_000_000
TRANSPORTS = ("native", "librdkafka")
TOKEN_S = 8.0
"""The client asks for the next one when a fifth is left, and brokers take no login within a second of the last one."""

SHORT_TOKEN_S = 4.0
SECRET = "canary-token"
ROUNDS = 3
"""Sessions that are outlasted."""


class Logins:
    """Counts the messages of logins that a proxy passes on."""

    def __init__(self, proxy: Proxy) -> None:
        self._rule = proxy.add(SASL_AUTHENTICATE, "drop", skip=MANY)

    @property
    def count(self) -> int:
        return MANY - self._rule.skip


@pytest.fixture
def logins(secure_kafka: SecureKafka) -> Iterator[Logins]:
    yield Logins(secure_kafka.proxy)
    secure_kafka.proxy.clear()


@pytest.fixture
def topic(secure_kafka: SecureKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty topic, beside one for rows; runs keep what they keep in a folder of the test."""
    monkeypatch.setenv("STREAMCORE_STATE_DIR", str(tmp_path))
    create_topic(secure_kafka.server, f"{unique}-out")
    return create_topic(secure_kafka.server, unique)


class Callback:
    """Gives tokens that hold for a while, and counts them."""

    def __init__(self, secure: SecureKafka, seconds: float) -> None:
        self._secure, self._seconds = secure, seconds
        self.count = 0
        self.fails = False

    def __call__(self, config: str) -> tuple[str, float]:
        self.count += 1
        if self.fails:
            raise LookupError(SECRET)
        return self._secure.issuer.token(seconds=self._seconds)


def login(mechanism: str) -> dict[str, str]:
    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": mechanism}
    return settings | ({} if mechanism == "OAUTHBEARER" else {"sasl.username": USER[0], "sasl.password": USER[1]})


def test_fetchers_renew_their_logins_by_themselves_and_keep_their_connections(
    secure_kafka: SecureKafka, topic: str, logins: Logins
) -> None:
    """Nobody takes anything meanwhile, and there is no consumer at all."""
    produce(secure_kafka.server, topic, [b"1"])
    tokens = Callback(secure_kafka, 3600.0)
    with ExitStack() as stack:
        ways = {name: tokens if name == "OAUTHBEARER" else None for name in MECHANISMS}
        opened = [fetching(secure_kafka, "SHORT", topic, login(name), given) for name, given in ways.items()]
        fetchers = [stack.enter_context(one) for one in opened]
        for fetcher in fetchers:
            fetched(fetcher, 1)
        before, connections = logins.count, set(secure_kafka.proxy._connections)
        time.sleep(ROUNDS * SESSION_S)
        produce(secure_kafka.server, topic, [b"2"])
        for fetcher in fetchers:
            fetched(fetcher, 1)
            (told,) = fetcher.progress().values()
            assert told["last_failure"] is None
        after = set(secure_kafka.proxy._connections)
    assert logins.count - before >= ROUNDS * len(MECHANISMS)
    assert tokens.count > ROUNDS
    # Those that asked for leaders may be closed, as nobody uses them.
    assert after <= connections
    assert len(after) >= len(MECHANISMS)


@contextmanager
def counting(secure: SecureKafka, topic: str, transport: str, tokens: Callback) -> Iterator[Run]:
    """A run that counts records by key, exactly once, into a topic."""
    connection = sc.KafkaConnection(
        bootstrap_servers=secure.bootstrap("SHORT"),
        security_protocol="sasl_plaintext",
        sasl_mechanism="OAUTHBEARER",
        options={"oauth_cb": tokens},
    )
    source = sc.kafka(
        topic, connection=connection, keyed_by="k", event_time="t", event_time_unit="ms", schema={"k": "string"}
    )
    pipeline = source.window(sc.tumbling("1s"), by="k").agg(n=sc.count()).sink_kafka(f"{topic}-out")
    with pipeline.start(name=topic, commit_interval="100ms", transport=transport) as run:
        yield run


def send(secure: SecureKafka, topic: str, times_s: range) -> None:
    values = [json.dumps({"t": time_s * 1000, "k": "a"}).encode() for time_s in times_s]
    produce(secure.server, topic, values, key=b"a")


def await_rows(secure: SecureKafka, topic: str, count: int, run: Run) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (rows := [json.loads(each.value())["n"] for each in read_topic(secure.server, topic)]) != [1] * count:
        assert time.monotonic() < deadline, (rows, run.report.to_dict())
        time.sleep(0.1)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_run_outlasts_sessions_and_tokens_while_nothing_comes(
    secure_kafka: SecureKafka, topic: str, logins: Logins, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    tokens = Callback(secure_kafka, TOKEN_S)
    send(secure_kafka, topic, range(20))
    with counting(secure_kafka, topic, transport, tokens) as run:
        await_rows(secure_kafka, f"{topic}-out", 14, run)
        before, given = logins.count, tokens.count
        time.sleep(TOKEN_S + 1)
        assert logins.count - before >= ROUNDS
        assert tokens.count > given
        send(secure_kafka, topic, range(20, 40))
        await_rows(secure_kafka, f"{topic}-out", 34, run)
        run.stop()
        run.wait()
    assert "the token callback failed" not in caplog.text


def test_a_run_waits_for_tokens_that_do_not_come_for_a_while(
    secure_kafka: SecureKafka, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Callback(secure_kafka, SHORT_TOKEN_S)
    send(secure_kafka, topic, range(20))
    with counting(secure_kafka, topic, "native", tokens) as run:
        await_rows(secure_kafka, f"{topic}-out", 14, run)
        tokens.fails = True
        deadline = time.monotonic() + TIMEOUT_S
        while WAITS not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        tokens.fails = False
        send(secure_kafka, topic, range(20, 40))
        # The client asks again after ten seconds.
        await_rows(secure_kafka, f"{topic}-out", 34, run)
        run.stop()
        run.wait()
    assert f"the token callback failed (LookupError); {GOES_ON}" in caplog.text
    assert SECRET not in caplog.text
