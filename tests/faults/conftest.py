"""What the fault tests share, and which of them run: by `STREAMCORE_FAULT_RUNS`.

Without it those without the mark `column`, once: the essential part. 1 adds those of the pull-request column (`make test-faults`), more
adds the nightly ones (`make test-faults-nightly`) and runs each so often. The number of
a run is its seed; `STREAMCORE_FAULT_FIRST` leaves out those before it. With `STREAMCORE_SOAK_S` the soak, and nothing else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.network import Network
from tests.faults.workers import Job
from tests.servers.kafka import KafkaServer

COLUMNS = ("essential", "pull", "nightly")
SOAK = "soak"


def _column() -> int:
    runs = os.environ.get("STREAMCORE_FAULT_RUNS")
    return 0 if runs is None else 1 if runs == "1" else 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    column, first = _column(), int(os.environ.get("STREAMCORE_FAULT_FIRST", "0"))
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("column")
        name = "essential" if mark is None else mark.args[0]
        if "STREAMCORE_SOAK_S" in os.environ:
            is_chosen = name == SOAK
        else:
            is_chosen = name != SOAK and COLUMNS.index(name) <= column and _seed(item) >= first
        (chosen if is_chosen else others).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=others)


def _seed(item: pytest.Item) -> float:
    """Of a run; what has none is run once, whichever is the first."""
    given = getattr(item, "callspec", None)
    return float(given.params.get("run", math.inf)) if given is not None else math.inf


@pytest.fixture(scope="session")
def _network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def network(_network: Network) -> Iterator[Network]:
    """A broker behind proxies: started once, in good weather for each test."""
    yield _network
    _network.clear()
    if not _network.server.answers():
        _network.server.process.kill()
        _network.server.start()


@pytest.fixture
def far_job(network: Network, unique: str, tmp_path: Path) -> Iterator[Job]:
    """A pipeline whose workers reach the broker through the proxy."""
    job = Job(network.server, unique, tmp_path, bootstrap=network.bootstrap)
    yield job
    job.kill_all()


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    """A pipeline with topics of its own."""
    job = Job(kafka_server, unique, tmp_path)
    yield job
    job.kill_all()
