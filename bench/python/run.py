"""Runs the table: `make bench`, or `python bench/python/run.py --rivals PYTHON [--only NAME] [--events N]`.

Prints tables and one JSON line a figure, and keeps the figures with every round's rate under `bench/results/`.
Exit code 1 when an answer is wrong; a slow machine is no error.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python import clickstream, decode, group_by, joins, lane, nexmark, startup, windows  # noqa: E402
from bench.python.file_to_windows import FileBench  # noqa: E402
from bench.python.kafka_rivals import Rivals  # noqa: E402
from bench.python.kafka_to_windows import KafkaBench  # noqa: E402
from bench.python.latency import LatencyBench  # noqa: E402
from bench.python.measure import Figure, Measured, WrongAnswerError, machine, say  # noqa: E402
from bench.python.state import StateBench  # noqa: E402

NAMES = ("startup", "decode", "lane", "windows", "joins", "group_by", "nexmark", "file", "kafka", "state", "latency")
WITH_RIVALS = {"group_by", "file", "kafka"}
LEFT = {"windows", "joins", "nexmark"}
"""Parts whose rounds are in the file that they leave."""
CACHE = ROOT / ".cache" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", help="Python of the environment that has bench/peers/requirements.txt")
    parser.add_argument("--pathway", help="Python of the environment that has pathway, where there is one")
    parser.add_argument("--flink", help="the same of Flink")
    parser.add_argument("--only", choices=NAMES, action="append", help="run only this part; may be given again")
    parser.add_argument("--events", type=int, default=4_000_000, help="events of the reference job")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args(arguments)
    if options.rivals is None and WITH_RIVALS & set(options.only or NAMES):
        parser.error(f"these need --rivals: {', '.join(sorted(WITH_RIVALS))}")
    try:
        measured, figures = run(options)
    except WrongAnswerError as error:
        say(f"wrong answer: {error}")
        return 1
    keep(options, measured, figures)
    table(figures)
    for one in figures:
        print(one.line())
    return 0


def run(options: argparse.Namespace) -> tuple[list[Measured], list[Figure]]:
    chosen = options.only or NAMES
    measured: list[Measured] = []
    figures: list[Figure] = []
    if "startup" in chosen:
        say("startup")
        figures += startup.run(options.rounds)
    if "decode" in chosen:
        say("decode")
        corpora = decode.run(CACHE / "decode", options.rounds)
        decode.show(corpora)
        measured += [entry for corpus in corpora for entry in corpus.rounds()]
        figures += [one for corpus in corpora for one in corpus.figures()]
    if "lane" in chosen:
        say("lane")
        jobs = lane.run(CACHE / "lane", options.rounds)
        show(jobs)
        measured += jobs
        figures += lane.figures(jobs)
    for name, part in (("windows", windows), ("joins", joins), ("nexmark", nexmark)):
        if name in chosen:
            say(name)
            figures += part.run(CACHE / name, options.rounds)
    if "group_by" in chosen:
        say("group_by")
        found, more = group_by.run(CACHE / "group_by", options.rivals, options.rounds)
        measured += found
        figures += more
    found, more = on_clicks(options, chosen)
    return measured + found, figures + more


def on_clicks(options: argparse.Namespace, chosen: Sequence[str]) -> tuple[list[Measured], list[Figure]]:
    """The parts whose input is the reference job's."""
    measured: list[Measured] = []
    figures: list[Figure] = []
    rivals = Rivals(options.rivals, options.pathway, options.flink)
    benches: dict[str, Callable[[clickstream.Input], FileBench | KafkaBench | StateBench | LatencyBench]] = {
        "file": lambda data: FileBench(data, options.rivals, options.rounds),
        "kafka": lambda data: KafkaBench(data, rivals, options.rounds),
        "state": lambda data: StateBench(data, options.rounds),
        "latency": lambda data: LatencyBench(data, options.rounds),
    }
    if set(benches) & set(chosen):
        say(f"preparing {options.events:,} events")
        data = clickstream.prepare(CACHE, options.events)
        for name, bench in benches.items():
            if name in chosen:
                say(name)
                found, more = bench(data).run()
                show(found)
                measured += found
                figures += more
    return measured, figures


def keep(options: argparse.Namespace, measured: Sequence[Measured], figures: Sequence[Figure]) -> None:
    """Adds this run to its day's and machine's folder; one of only some parts leaves the others' files."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine()).strip("-").lower()
    parts = "".join(f"-{part}" for part in options.only or ())
    folder = options.results / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu_flags": cpu_flags(),
        "load_average": os.getloadavg(),  # of the machine at the end: whether others used it
    }
    content: dict[str, Any] = {
        "about": about,
        "rounds": [asdict(entry) for entry in measured],
        "figures": [asdict(one) for one in figures],
    }
    content |= {
        part: json.loads((CACHE / part / f"{part}.json").read_text()) for part in options.only or NAMES if part in LEFT
    }
    (folder / f"raw{parts}.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / f"figures{parts}.jsonl").write_text("".join(f"{entry.line()}\n" for entry in figures))


def cpu_flags() -> list[str]:
    """The instruction sets that matter to decoding."""
    known = {"sse4_2", "avx2", "avx512bw", "avx512vbmi", "asimd", "sve"}
    path = Path("/proc/cpuinfo")
    return sorted(known & set(path.read_text().split())) if path.is_file() else []


def show(measured: Sequence[Measured]) -> None:
    if not measured:
        return
    width = max(22, *(len(entry.name) for entry in measured)) + 2
    say(f"\n{'who':<{width}}{'version':<10}{'events/s':>14}{'spread':>9}")
    for entry in measured:
        say(f"{entry.name:<{width}}{entry.version:<10}{entry.median:>14,.0f}{entry.spread:>8.0%}")
    say("")


def table(figures: Sequence[Figure]) -> None:
    """All figures of the run, one a line: what `Figure` says of each."""
    rows: list[tuple[str, ...]] = [("bench", "figure", "value", "unit", "rival", "ratio", "target", "holds")]
    for one in figures:
        holds = {None: "", True: "yes", False: "no"}[one.holds]
        about = (one.unit, one.rival or "", short(one.ratio), short(one.target), holds)
        rows.append((one.bench, one.figure, short(one.value), *about))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 1, 3, 4}
    for row in rows:
        cells = (f"{cell:{'<' if at in left else '>'}{widths[at]}}" for at, cell in enumerate(row))
        say("  ".join(cells).rstrip())


def short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:g}"


if __name__ == "__main__":
    sys.exit(main())
