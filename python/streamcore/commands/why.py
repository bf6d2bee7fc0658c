"""Owns `streamcore why`: which lane keeps a window open, and what would close it.

Before it: `cli.py`. After it: `why.py` explains a status; here it is got, from a live run or else from its checkpoint or its
committed state.
Invariant: nothing is written, locked, consumed or created.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.commands import Subparsers, add_command
from streamcore.commands.run import load_target

if TYPE_CHECKING:
    from streamcore.config import PipelineConfig
    from streamcore.config.sources import SourceConfig

EXAMPLES = """
streamcore why page_counts.toml --window 2026-01-01T12:05:00Z
streamcore why page_counts.toml --window 2026-01-01T12:05:00Z --json
streamcore why page_counts.toml --window 2026-01-01T12:05:00Z --listen 127.0.0.1:8080
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "why", run, summary="say why a window is still open", examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument("--window", metavar="END", required=True, help="the window's end, as 2026-01-01T12:05:00Z")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where the run listens; unset: its folder tells, else its last commit"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from streamcore.config.environment import fill_from_environment
    from streamcore.why import ClockRules, explain_window, to_json, to_lines

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    end_ms = _instant(arguments.window)
    status, origin = _status(config, end_ms, arguments.listen)
    rules = [
        ClockRules(source.out_of_orderness_ms, source.idle_timeout, source.on_idle == "advance", name or "")
        for name, source in config.all_sources.items()
    ]
    windows = explain_window(status, end_ms, rules)
    if arguments.json:
        print(json.dumps(to_json(windows, origin)))
        return 0
    for line in [*to_lines(windows), f"from {_origin_text(origin)}"]:
        print(line)
    return 0


def _instant(text: str) -> int:
    from streamcore.config.durations import parse_instant
    from streamcore.errors import ConfigError

    try:
        return parse_instant(text)
    except ValueError as error:
        raise ConfigError(f"--window: {error}") from error


def _status(config: PipelineConfig, end_ms: int, address: str | None) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The status of the run, else of what it committed last; and where it is from. Raises `Error` when there is neither."""
    from streamcore.checkpoint import state_folder
    from streamcore.errors import Error
    from streamcore.status import NOTE, fetch_status

    folder = None if config.name is None else state_folder(config.state_dir, config.name, os.environ)
    told = address
    if told is None and folder is not None and (folder / NOTE).exists():
        told = (folder / NOTE).read_text()
    passed_over = None
    if told is not None:
        status = fetch_status(told, end_ms)
        other = None if status is None else _is_of_another(status, config, told)
        if status is not None and other is None:
            return status, {"run": told}
        if address is not None:
            raise Error(
                f"no run listens on {address}; start it with streamcore run FILE --listen {address}"
                if other is None
                else f"{other}; name the address of the run that is meant, or the file that this one was started with"
            )
        passed_over = other
    if folder is None:
        raise Error(
            "the pipeline has no name, so no run of it leaves a checkpoint; start it with --listen 127.0.0.1:8080 and "
            "say the same here"
        )
    from streamcore.config import in_transactions

    if config.delivery == "exactly_once" and in_transactions(config):
        status, origin = _topics_status(config, end_ms)
    else:
        status, origin = _checkpoint_status(config, folder, end_ms)
    return status, origin | ({} if passed_over is None else {"passed_over": passed_over})


def _is_of_another(status: Mapping[str, Any], config: PipelineConfig, address: str) -> str | None:
    """In words that the run which answered at `address` is of another pipeline; None: it is of this one.

    Raises `Error` when it is the run of this name but of another version: its checkpoint says no more.
    """
    from streamcore.config import describe
    from streamcore.errors import Error

    # It may be no run at all.
    report, there, here = status.get("report"), status.get("fingerprint"), describe(config)["fingerprint"]
    name = report.get("name") if isinstance(report, dict) else None
    fingerprints = f"fingerprint there {there}, of the file {here}"
    if name != config.name:
        whose = "without a name" if name is None else f"of {name}"
        asked = "one without a name" if config.name is None else config.name
        return f"the run that answers on {address} is one {whose}, not of {asked} ({fingerprints})"
    if there == here:
        return None
    if name is None:
        return f"the run that answers on {address} is of another pipeline ({fingerprints})"
    raise Error(
        f"the run of {name} on {address} is of another version of the pipeline: source, schema or steps differ "
        f"({fingerprints}); ask with the file, and the --set, that it was started with"
    )


def _topics_status(config: PipelineConfig, end_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from streamcore.committed_state import committed_phases
    from streamcore.committed_status import committed_status

    with committed_phases(config) as phases:
        return committed_status(phases, end_ms)


def _checkpoint_status(config: PipelineConfig, folder: Path, end_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from streamcore import _core
    from streamcore.checkpoint import Checkpoint, check_fit
    from streamcore.config import engine_json
    from streamcore.errors import Error
    from streamcore.functions import functions_of

    checkpoint = Checkpoint(folder)
    saved = checkpoint.read(pipeline=config.name or "")
    if saved is None:
        raise Error(
            f"{folder}: there is no checkpoint yet, and no run of {config.name} is listening; wait for its first "
            "commit, or start it with --listen 127.0.0.1:0"
        )
    engine = _core.Pipeline(engine_json(config), functions_of(config))
    header = saved.header
    check_fit(header, folder, fingerprint=engine.fingerprint, source={}, lanes=list(header.positions))
    engine.restore(saved.lanes)
    ends, unknown = _ends(config, header.source)
    status = {
        "live": False,
        "clocks": engine.clocks(),
        "positions": header.positions,
        "ends": {lane: {"position": position, "age_s": 0.0} for lane, position in ends.items()},
        "paused": [],
        "future": {lane: counts.get("future", 0) for lane, counts in header.ledger.items()},
        "source": header.source,
        "windows": engine.open_at(end_ms),
    }
    age_s = max(0.0, time.time() - checkpoint.path.stat().st_mtime)
    origin = {"checkpoint": str(checkpoint.path), "epoch": header.epoch, "age_s": round(age_s, 1)}
    return status, origin | ({} if unknown is None else {"ends": unknown})


def _ends(config: PipelineConfig, described: Mapping[str, Any]) -> tuple[dict[int, int], str | None]:
    """Where each lane of all inputs ends now; and why that is not known of some."""
    from streamcore._core import LANES_PER_INPUT
    from streamcore.why import input_facts

    ends: dict[int, int] = {}
    unknown: list[str] = []
    for number, (name, source) in enumerate(config.all_sources.items()):
        of_input, reason = _input_ends(config, source, input_facts(described, name or ""))
        ends |= {number * LANES_PER_INPUT + lane: end for lane, end in of_input.items()}
        unknown += [] if reason is None else [reason]
    return ends, "; ".join(unknown) or None


def _input_ends(
    config: PipelineConfig, source: SourceConfig, described: Mapping[str, Any]
) -> tuple[dict[int, int], str | None]:
    """Where each lane ends now, asked of the broker or the file system; or why that is not known."""
    from streamcore.config import FilesSourceConfig, KafkaSourceConfig
    from streamcore.errors import SourceError

    if isinstance(source, FilesSourceConfig):
        files = enumerate(described.get("files", []))
        return {lane: Path(entry["path"]).stat().st_size for lane, entry in files if Path(entry["path"]).exists()}, None
    if not isinstance(source, KafkaSourceConfig):
        return {}, f'a source of type "{source.type}" cannot be asked where it ends'
    from streamcore.config import kafka_connection
    from streamcore.kafka_client import Cluster
    from streamcore.topics import input_topic

    cluster = Cluster(kafka_connection(config, source.connection))
    try:
        cluster.connect()
        topic = cluster.input_topic(input_topic(source))
        return cluster.offsets(topic.name, topic.partitions, "latest"), None
    except SourceError as error:
        return {}, f"the broker was not asked where lanes end: {error}"


def _origin_text(origin: Mapping[str, Any]) -> str:
    if "run" in origin:
        return f"the run that listens on {origin['run']}"
    asked = origin.get("ends", "ends asked for now")
    passed_over = f"; {origin['passed_over']}" if "passed_over" in origin else ""
    if "state" in origin:
        alive = {0: "no worker is", 1: "1 worker is"}.get(
            origin["workers"], f"{origin['workers']} workers are"
        ) + " in the group"
        topics = " and ".join(origin["state"])
        return f"{topics}, {origin['age_s']:.0f} s old; {asked}; {alive}{passed_over}"
    return f"{origin['checkpoint']}, epoch {origin['epoch']}, {origin['age_s']:.0f} s old; {asked}{passed_over}"
