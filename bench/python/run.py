"""Runs the table: `make bench`, or `python bench/python/run.py --rivals PYTHON [--only NAME] [--events N]`.

Prints a table and one JSON line a figure, and keeps both with every round's rate under `bench/results/`.
Exit code 1 when an answer is wrong; a slow machine is no error.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python import clickstream, startup  # noqa: E402
from bench.python.file_to_windows import FileBench  # noqa: E402
from bench.python.kafka_to_windows import KafkaBench  # noqa: E402
from bench.python.measure import Figure, Measured, WrongAnswerError, machine, say  # noqa: E402

NAMES = ("startup", "file", "kafka")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rivals", required=True, help="Python of the environment that has bench/peers/requirements.txt"
    )
    parser.add_argument("--only", choices=NAMES, action="append", help="run only this part; may be given again")
    parser.add_argument("--events", type=int, default=4_000_000, help="events of the reference job")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args(arguments)
    try:
        measured, figures = run(options)
    except WrongAnswerError as error:
        say(f"wrong answer: {error}")
        return 1
    keep(options.results, measured, figures)
    show(measured, figures)
    return 0


def run(options: argparse.Namespace) -> tuple[list[Measured], list[Figure]]:
    chosen = options.only or NAMES
    measured: list[Measured] = []
    figures: list[Figure] = []
    if "startup" in chosen:
        say("startup")
        figures += startup.run(options.rounds)
    if {"file", "kafka"} & set(chosen):
        say(f"preparing {options.events:,} events")
        data = clickstream.prepare(ROOT / ".cache" / "bench", options.events)
        for name, bench in (("file", FileBench), ("kafka", KafkaBench)):
            if name in chosen:
                say(name)
                found, more = bench(data, options.rivals, options.rounds).run()
                measured += found
                figures += more
    return measured, figures


def keep(results: Path, measured: Sequence[Measured], figures: Sequence[Figure]) -> None:
    """Adds this run to its day's and machine's folder."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine()).strip("-").lower()
    folder = results / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"python": platform.python_version(), "system": platform.platform(), "cpu_flags": cpu_flags()}
    content = {
        "about": about,
        "rounds": [asdict(entry) for entry in measured],
        "figures": [asdict(one) for one in figures],
    }
    (folder / "raw.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "figures.jsonl").write_text("".join(f"{entry.line()}\n" for entry in figures))


def cpu_flags() -> list[str]:
    """The instruction sets that matter to decoding."""
    known = {"sse4_2", "avx2", "avx512bw", "avx512vbmi", "asimd", "sve"}
    path = Path("/proc/cpuinfo")
    return sorted(known & set(path.read_text().split())) if path.is_file() else []


def show(measured: Sequence[Measured], figures: Sequence[Figure]) -> None:
    say(f"\n{'who':<24}{'version':<10}{'events/s':>14}{'spread':>9}")
    for entry in measured:
        say(f"{entry.name:<24}{entry.version:<10}{entry.median:>14,.0f}{entry.spread:>8.0%}")
    say("")
    for one in figures:
        print(one.line())


if __name__ == "__main__":
    sys.exit(main())
