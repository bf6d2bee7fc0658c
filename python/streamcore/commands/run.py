"""Owns `streamcore run`: a pipeline file, or a pipeline object in a Python file, until it ends or is stopped.

Before it: `cli.py`. After it: `execution.py`.
Invariant: the flags change how the pipeline runs, never what it computes (`--set` does, and is said to).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.commands import Subparsers, add_command
from streamcore.commands.execution import OUTPUTS, Execution, execute

if TYPE_CHECKING:
    from streamcore.pipeline import Pipeline

OUTPUT_HELP = """print result rows (default where there is no sink: table on a terminal, else jsonl); table: the newest
rows, live on a terminal, elsewhere once at the end; jsonl: all of them, one JSON object a line; arrow: an Arrow stream"""

START_HELP = """where to begin without a checkpoint: earliest, latest, a time, -2h; a time is that of the records in Kafka, not
their event time"""

STOP_HELP = (
    "'end': what is there now, then close all windows; or a time of the records in Kafka, as -1h, which closes none"
)

EXAMPLES = """
streamcore run page_counts.toml
streamcore run page_counts.toml --stop end --output jsonl
streamcore run pipeline.py:pages --for 30s --set kafka.bootstrap_servers=broker:9092
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "run", run, summary="run a pipeline", examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    add_run_options(parser)
    parser.add_argument("--start", metavar="T", help=START_HELP)
    parser.add_argument("--stop", metavar="T", help=STOP_HELP)
    parser.add_argument(
        "--accept-gap",
        action="store_true",
        help="go on without records that retention deleted before they were read; the report counts them",
    )
    parser.add_argument(
        "--keep-seat",
        action="store_true",
        help="partitions wait for this worker's restart, as long as its session lasts",
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Flags that `demo` has as well."""
    parser.add_argument("--for", dest="for_", metavar="DURATION", help="stop after this much wall time, as 30s")
    parser.add_argument("--output", choices=OUTPUTS, help=OUTPUT_HELP)
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="serve the run's status as JSON on this machine (127.0.0.1)"
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the final report to this file, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    pipeline = load_target(arguments.target, arguments.set)
    return execute(
        Execution(
            pipeline,
            options={
                "for_": arguments.for_,
                "listen": arguments.listen,
                "start": arguments.start,
                "stop": arguments.stop,
                "accept_gap": arguments.accept_gap,
                "keep_seat": arguments.keep_seat,
            },
            output=arguments.output,
            report_path=arguments.report,
        )
    )


def load_target(target: str, overrides: list[str]) -> Pipeline:
    """The pipeline of `FILE` or `module.py:name`. Raises `ConfigError`."""
    from streamcore.errors import ConfigError
    from streamcore.pipeline import Pipeline, load

    path, separator, name = target.rpartition(":")
    if not separator or not path.endswith(".py"):
        return load(target, overrides)
    if overrides:
        raise ConfigError("--set changes keys of a pipeline file; a pipeline in Python is changed in Python")
    found: Any = getattr(_module(Path(path)), name, None)
    if not isinstance(found, Pipeline):
        raise ConfigError(f"{path} has no pipeline called {name}; the part after the colon names a sc.Pipeline")
    return found


def _module(path: Path) -> Any:
    import importlib.util
    import sys

    from streamcore.errors import ConfigError, Error

    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path} is not there; name the Python file and the pipeline in it, as pipeline.py:pages")
    module = importlib.util.module_from_spec(spec)
    # Beside the file, as `python file.py` would have it.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Error:
        raise
    except Exception as error:
        raise ConfigError("\n".join([f"{path} cannot be loaded", *_own_traceback(error, path)])) from error
    return module


def _own_traceback(error: Exception, path: Path) -> list[str]:
    """The lines of a traceback from `path` on: what led there is ours, and no help."""
    import traceback

    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).resolve() != path.resolve():
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).splitlines()
