"""Owns `streamcore init`: a pipeline file to start from, with tests, that runs as it is.

Before it: `cli.py`. After it: `streamcore check`, `test` and `run` of the file.
Invariant: nothing that exists is overwritten unless told so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from streamcore.commands import Subparsers, add_command

EXAMPLES = """
streamcore init
streamcore init pipelines/page_counts.toml --name page-counts
streamcore init && streamcore test pipeline.toml && streamcore run pipeline.toml --for 30s
"""

SCHEMA_NAME = "streamcore.schema.json"

TEMPLATE = """\
#:schema ./{schema}

# Views per page and minute. Every key: docs/pipeline-toml.md, or `streamcore config schema`.
#   streamcore check {file}       finds every mistake, with its line
#   streamcore test {file}        runs the [[tests]] below
#   streamcore run {file}         runs it, until Ctrl-C
#   streamcore explain {file}     shows the plan

name = "{name}"                    # names the state, so that a restart goes on; without it nothing is kept
delivery = "at_least_once"          # rows may be shown twice after a crash; leave it out when all sinks replace rows
commit_interval = "1s"             # how often results and positions are made durable

# Made-up events, so that this runs with nothing installed. For a Kafka topic, put these lines in its place:
#   [kafka]
#   bootstrap_servers = "${{KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}}"
#   [source]
#   type = "kafka"
#   topic = "clickstream"
[source]
type = "generate"
rate = 20000                       # events per second
speed = 60                         # a minute of event time each second
event_time = "timestamp"
out_of_orderness = "5s"            # how late an event may come

[source.schema]                    # types of the fields that results depend on
"payload.page_id" = "string"
"payload.user_id" = "string"
"payload.dwell_ms" = "int64"

[[steps]]
dedupe = "event_id"                # an event that was sent twice counts once
within = "10m"

[[steps]]
window = "tumbling"
size = "1m"
by = ["payload.page_id"]
[steps.aggregate]
views = "count()"
users = "approx_distinct(payload.user_id)"
slow = "count() where payload.dwell_ms > 30000"

[[sinks]]
type = "console"

# Rows that replace the earlier row of the same page and minute:
#   [[sinks]]
#   type = "kafka"
#   topic = "{name}"
#   key = ["window_end", "page_id"]

[[tests]]
name = "counts one view"
input = [
  {{ event_id = "1", timestamp = "2026-01-01T00:00:10Z", payload = {{ page_id = "home", user_id = "u1", dwell_ms = 500 }} }},
]
expect = [{{ page_id = "home", views = 1, users = 1, slow = 0 }}]

[[tests]]
name = "drops copies"
input = [
  {{ event_id = "1", timestamp = "2026-01-01T00:00:10Z", payload = {{ page_id = "home", user_id = "u1", dwell_ms = 40000 }} }},
  {{ event_id = "1", timestamp = "2026-01-01T00:00:10Z", payload = {{ page_id = "home", user_id = "u1", dwell_ms = 40000 }} }},
  {{ event_id = "2", timestamp = "2026-01-01T00:00:20Z", payload = {{ page_id = "home", user_id = "u2", dwell_ms = 500 }} }},
]
expect = [{{ page_id = "home", views = 2, users = 2, slow = 1 }}]
ledger = {{ duplicate = 1 }}
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "init", run, summary="write a pipeline file to start from", examples=EXAMPLES)
    parser.add_argument("file", metavar="FILE", nargs="?", default="pipeline.toml", help="default: pipeline.toml")
    parser.add_argument("--name", help="name of the pipeline; default: the file's")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from streamcore.config.schema import json_schema
    from streamcore.config.validation import validated

    file = Path(arguments.file)
    name = arguments.name or file.stem.replace("_", "-")
    validated(None, {"name": name, "source": {"type": "generate"}})
    text = TEMPLATE.format(schema=SCHEMA_NAME, file=file, name=name)
    schema = file.with_name(SCHEMA_NAME)
    _write(file, text, force=arguments.force)
    # The schema belongs to the installed version and holds nothing of the user's.
    _write(schema, json.dumps(json_schema(), indent=2) + "\n", force=True)
    print(f"wrote {file} and {schema}; next:", file=sys.stderr)
    for command in ("test", "run"):
        print(f"  streamcore {command} {file}", file=sys.stderr)
    return 0


def _write(file: Path, text: str, *, force: bool) -> None:
    from streamcore.errors import ConfigError

    if not force and file.exists():
        raise ConfigError(f"{file} exists; choose another name, or overwrite it with --force")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; choose another place") from None
