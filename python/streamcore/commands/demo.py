"""Owns `streamcore demo`: the main job on made-up events, without a broker or a network.

Before it: `cli.py`. After it: `execution.py`.
Invariant: it never imports quixstreams; the first window is on the screen within seconds.
"""

from __future__ import annotations

import argparse
import sys

from streamcore.commands import Subparsers, add_command
from streamcore.commands.execution import Execution, execute
from streamcore.commands.run import add_run_options

EXAMPLES = """
streamcore demo
streamcore demo --for 8s --output jsonl
streamcore demo --config > demo.toml && streamcore run demo.toml
"""

PIPELINE = """\
# Page views per minute, each event counted once. Event time runs 60 times as fast as the clock on the wall.
commit_interval = "500ms"

[source]
type = "generate"
rate = 20000
speed = 60
lanes = 2
out_of_order = "2s"
duplicate_rate = 0.01
event_time = "timestamp"
out_of_orderness = "5s"

[source.schema]
"payload.page_id" = "string"
"payload.user_id" = "string"

[[steps]]
dedupe = "event_id"
within = "10m"

[[steps]]
window = "tumbling"
size = "1m"
by = ["payload.page_id"]

[steps.aggregate]
views = "count()"
users = "count_distinct(payload.user_id)"
"""

AFTERWARDS = """\
`streamcore demo --config` prints the pipeline file of this.
`streamcore init my-pipeline.toml` writes one of your own, and `streamcore run my-pipeline.toml` runs it."""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "count made-up clicks per page and minute, live"
    parser = add_command(subparsers, "demo", run, summary=summary, examples=EXAMPLES)
    add_run_options(parser)
    parser.add_argument("--config", action="store_true", help="print the pipeline file of the demo and exit")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.config:
        print(PIPELINE, end="")
        return 0
    import tomllib

    from streamcore.config import PipelineConfig
    from streamcore.pipeline import Pipeline

    pipeline = Pipeline(PipelineConfig.model_validate(tomllib.loads(PIPELINE)))
    code = execute(
        Execution(
            pipeline,
            options={"for_": arguments.for_, "listen": arguments.listen},
            output=arguments.output,
            report_path=arguments.report,
        )
    )
    if sys.stderr.isatty():
        print(AFTERWARDS, file=sys.stderr)
    return code
