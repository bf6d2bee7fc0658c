"""Fixtures every test may use: real servers, started once a session when the first test asks for one."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator, Iterator

import pytest

from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be left out: a test that skips itself there has failed."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything must run: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """A real Kafka broker, shared: use topic and group names of your own (`unique`)."""
    with KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis, shared: use keys of your own (`unique`)."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests are not theirs: configuration reads these where a key is absent."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "STREAMCORE_INSTANCE_ID", "STREAMCORE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A command that a signal ends leaves its handlers in place, as its process would end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def unique() -> str:
    """A name no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"
