"""Owns what is allowed but worth a word: the warnings of `streamcore check`.

Before it: a configuration without mistakes. After it: a person decides.
Invariant: an advice never stops a run.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from streamcore.config.connections import KafkaConnection
from streamcore.config.delivery import EFFECTIVE_SINKS, appending_sinks, choose_delivery
from streamcore.config.durations import MILLISECONDS, Months, format_duration
from streamcore.config.loading import Document
from streamcore.config.models import PipelineConfig
from streamcore.config.paths import Path, format_path
from streamcore.config.redact import is_secret_key, redact_url
from streamcore.config.sinks import ParquetSinkConfig
from streamcore.config.sources import KafkaSourceConfig
from streamcore.config.steps import (
    CumulateStep,
    DedupeStep,
    HoppingStep,
    SessionStep,
    SlidingStep,
    TumblingStep,
    WholeStep,
    WindowStep,
)
from streamcore.errors import Problem

UNSAFE_OPTIONS = {"enable.ssl.certificate.verification": "false", "ssl.endpoint.identification.algorithm": "none"}
"""Client settings that switch off the check of who is at the other end."""

MONTH_MAX_MS = 31 * MILLISECONDS["d"]


def advice(config: PipelineConfig, document: Document) -> list[Problem]:
    """Everything worth a word, as problems without a line."""
    about = (_unchecked_servers, _dedupe, _whole, _standing_clock, _delivery, _revisions)
    return [*_secrets(document), *(problem for advise in about for problem in advise(config))]


def _secrets(document: Document) -> Iterator[Problem]:
    found = [path for path, text in _texts(tomllib.loads(document.text)) if _is_secret(path, text)]
    for path in found:
        hint = 'write "${NAME}" or "${file:/path}", and set it where the pipeline runs'
        yield Problem(format_path(path), "a secret is written in the file", hint=hint)
    if found and FilePath(document.file).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Problem(document.file, "others can read this file with a secret in it", hint=f"chmod 600 {document.file}")


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if (*path, key) != ("tests",):
                yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield path, value


def _is_secret(path: Path, text: str) -> bool:
    if "${" in text or path[:2] == ("source", "schema") or (path[0] == "sources" and path[2:3] == ("schema",)):
        return False
    return is_secret_key(str(path[-1])) or redact_url(text) != text


def _unchecked_servers(config: PipelineConfig) -> Iterator[Problem]:
    connections = {"kafka": config.kafka, **{f"connections.{name}": one for name, one in config.connections.items()}}
    for path, connection in connections.items():
        if not isinstance(connection, KafkaConnection):
            continue
        for option, unsafe in UNSAFE_OPTIONS.items():
            if str(connection.options.get(option, "")).lower() == unsafe:
                message = "anybody can pretend to be the broker: its certificate is not checked"
                yield Problem(
                    f'{path}.options."{option}"', message, hint="remove it, and set ssl_ca_location if need be"
                )
        if connection.insecure and connection.security_protocol == "sasl_plaintext":
            message = "the password crosses the network in the clear"
            yield Problem(f"{path}.insecure", message, hint='use security_protocol = "sasl_ssl"')


def _dedupe(config: PipelineConfig) -> Iterator[Problem]:
    windows = [index for index, step in enumerate(config.steps) if isinstance(step, WindowStep)]
    # Behind a window copies are rows, which are complete and in order, not records.
    for index, step in enumerate(config.steps[: windows[0] if windows else None]):
        if not isinstance(step, DedupeStep):
            continue
        path = f"steps[{index}].within"
        open_ms = _open_ms(config)
        if open_ms is not None and step.within < open_ms:
            message = (
                f"ids are forgotten before a window closes ({format_duration(open_ms)}): a late copy may count twice"
            )
            yield Problem(path, message, hint=f'within = "{format_duration(open_ms)}" or more')
        if isinstance(config.source, KafkaSourceConfig) and config.source.keyed_by is None:
            message = "copies are found only within one partition"
            yield Problem(path, message, hint="have the producer give copies the same key, and say so with keyed_by")


def _open_ms(config: PipelineConfig) -> int | None:
    """How long a window stays open in event time, or None where nobody can say."""
    windows = [step for step in config.steps if isinstance(step, WindowStep)]
    step, bound = windows[0] if windows else None, config.source.out_of_orderness_ms
    if step is None or bound is None:
        return None
    if isinstance(step, SessionStep):
        return (step.max_length or step.gap) + step.allowed_lateness + bound
    if isinstance(step, SlidingStep):
        return step.allowed_lateness + bound
    if isinstance(step, (TumblingStep, HoppingStep, CumulateStep)):
        size = step.size.count * MONTH_MAX_MS if isinstance(step.size, Months) else step.size
        return size + step.allowed_lateness + bound
    return None


def _whole(config: PipelineConfig) -> Iterator[Problem]:
    """A final row at the end of what has no end."""
    for index, step in enumerate(config.steps):
        if not isinstance(step, WholeStep) or step.emit != "final" or not isinstance(config.source, KafkaSourceConfig):
            continue
        path = f"steps[{index}].emit"
        message = "the whole window ends with its input, and a topic ends only with --stop end"
        yield Problem(path, message, hint='emit = "updates" is a running total, written at each commit')


def _standing_clock(config: PipelineConfig) -> Iterator[Problem]:
    """Early rows by a clock that does not move before the end of the input."""
    step = config.window
    if step is not None and step.emit_every is not None and config.source.out_of_orderness_ms is None:
        path = f"steps[{config.steps.index(step)}].emit_every"
        message = "it counts by the clock, which stands until the end of the input: there are no early rows"
        yield Problem(path, message, hint='add out_of_orderness = "5s" to the source, or how late records may come')


def _delivery(config: PipelineConfig) -> Iterator[Problem]:
    if config.name is None or config.delivery is not None or choose_delivery(config) != "at_least_once":
        return
    sinks = appending_sinks(config)
    if sinks:
        hint = f'{EFFECTIVE_SINKS} make it effectively_once; or state delivery = "at_least_once"'
        yield Problem("delivery", f"at_least_once, because {', '.join(sinks)} cannot replace a row", hint=hint)


def _revisions(config: PipelineConfig) -> Iterator[Problem]:
    """Early rows stay in files, and nothing else tells them from the last one."""
    if config.window is None or config.window.emit != "updates":
        return
    for index, sink in enumerate(config.sinks):
        columns = sink.columns or ()
        if isinstance(sink, ParquetSinkConfig) and sink.output == "result" and columns and "revision" not in columns:
            message = "files keep early rows beside the final one, and without revision nobody can tell them apart"
            yield Problem(f"sinks[{index}].columns", message, hint='add "revision"; the highest one counts')
