"""Owns `streamcore doctor`: whether this installation works, and whether the broker answers.

Before it: `cli.py`. After it: a person who mends what is marked.
Invariant: every line that is not ok says what to do.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamcore.commands import Subparsers, add_command

if TYPE_CHECKING:
    from streamcore.config import KafkaConnection, PipelineConfig

EXAMPLES = """
streamcore doctor
streamcore doctor page_counts.toml
KAFKA_BOOTSTRAP_SERVERS=broker:9092 streamcore doctor
"""

EXIT_FAILED = 1
EXIT_UNREACHABLE = 4
BROKER_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    text: str
    exit_code: int = 0
    """0 where all is well."""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "check this installation, and the broker of a pipeline"
    parser = add_command(subparsers, "doctor", run, summary=summary, examples=EXAMPLES)
    parser.add_argument("file", metavar="FILE", nargs="?", help="pipeline file whose broker is tried")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command: 0 when nothing is wrong, 4 when it is only the broker, otherwise 1."""
    codes = set()
    for finding in findings(arguments.file):
        print(f"{'ok  ' if finding.exit_code == 0 else 'FAIL'} {finding.subject}: {finding.text}", flush=True)
        codes.add(finding.exit_code)
    wrong = codes - {0}
    return 0 if not wrong else wrong.pop() if len(wrong) == 1 else EXIT_FAILED


def findings(file: str | None) -> Iterator[Finding]:
    """Everything worth knowing, in turn."""
    from streamcore.config import RedisSinkConfig, load

    yield from _versions()
    yield _foreign_distribution()
    yield _engine()
    config = None if file is None else load(file)
    if config is not None and any(isinstance(sink, RedisSinkConfig) for sink in config.sinks):
        yield _redis_client()
    connection = _connection(config)
    if connection is None:
        yield Finding("broker", f"not tried; set {BROKER_VARIABLE} or name a pipeline file to try one")
    else:
        yield _broker(connection)


def _versions() -> Iterator[Finding]:
    from streamcore.versions import versions

    for name, version in versions().items():
        missing = version == "not installed"
        text = "not installed; run pip install quixstreams" if missing else version
        yield Finding(name, text, EXIT_FAILED if missing else 0)


def _foreign_distribution() -> Finding:
    from streamcore.versions import DISTRIBUTION, FOREIGN_DISTRIBUTION, package_version

    subject = "other packages"
    if package_version(FOREIGN_DISTRIBUTION) is None:
        return Finding(subject, "none in the way")
    return Finding(
        subject,
        f"the package {FOREIGN_DISTRIBUTION} is somebody else's and shares our folder; "
        f"run pip uninstall {FOREIGN_DISTRIBUTION}, then install {DISTRIBUTION} again",
        EXIT_FAILED,
    )


def _engine() -> Finding:
    from streamcore import testing
    from streamcore.config import GenerateSourceConfig, PipelineConfig
    from streamcore.sources.iterable import Record

    def count_five() -> int:
        config = PipelineConfig(source=GenerateSourceConfig(format="raw", count=5))
        with testing.start(config) as run:
            run.push([Record(b"x", timestamp_ms=testing.START_MS) for _ in range(5)])
            return run.ledger.applied

    return _tried("engine", count_five, wanted=5)


def _tried(subject: str, work: Callable[[], int], *, wanted: int) -> Finding:
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return Finding(subject, f"{error}; install the package again", EXIT_FAILED)
    if found != wanted:
        return Finding(subject, f"counted {found} of {wanted} records; please report it", EXIT_FAILED)
    return Finding(subject, "counts")


def _redis_client() -> Finding:
    from streamcore.errors import ConfigError
    from streamcore.sinks.redis import check_client

    try:
        check_client()
    except ConfigError as error:
        return Finding("Redis client", str(error), EXIT_FAILED)
    return Finding("Redis client", "installed")


def _connection(config: PipelineConfig | None) -> KafkaConnection | None:
    if config is not None:
        from streamcore.config import KafkaSourceConfig, kafka_connection

        source = config.source
        return kafka_connection(config, source.connection) if isinstance(source, KafkaSourceConfig) else None
    if not os.environ.get(BROKER_VARIABLE):
        return None
    from streamcore.config import GenerateSourceConfig, PipelineConfig
    from streamcore.config.environment import fill_from_environment

    return fill_from_environment(PipelineConfig(source=GenerateSourceConfig()), os.environ).kafka


def _broker(connection: KafkaConnection) -> Finding:
    from streamcore.errors import SourceError
    from streamcore.kafka_client import Cluster

    try:
        Cluster(connection).connect()
    except SourceError as error:
        return Finding("broker", str(error), EXIT_UNREACHABLE)
    return Finding("broker", f"{connection.bootstrap_servers} answers")
