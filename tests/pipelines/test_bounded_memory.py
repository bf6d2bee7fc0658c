"""A key space wider than the bound: the process stays below what docs/semantics.md states, whatever `on_full` says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PROGRAM = """
import json, sys

import streamcore as sc
from streamcore.errors import StateFullError

on_full, kind, named = sys.argv[1], sys.argv[2], len(sys.argv) > 3
schema = {"page": "string", "at": "int64"}
pages, others = (
    sc.files(f"{kind}.jsonl", event_time="at", event_time_unit="ms", schema=schema, out_of_orderness="1h") for _ in range(2)
)
if kind == "join":
    pages = pages.join(others, on="page", within="1h")
else:
    pages = pages.window(sc.tumbling("1h"), by="page").agg(views=sc.count(), last="max(at)")
pages = pages.sink_parquet("out").configure(limits={"max_state_bytes": 64 << 20, "on_full": on_full, "threads": 1})
try:
    report = pages.run(name=f"{kind}-{on_full}" if named else None)
    state = report.state
except StateFullError as error:
    state = "full"
    print(error, file=sys.stderr)
# Not getrusage, which knows what the process was before it became this program.
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"state": state, "peak": peak_kb * 1024}))
"""

BASE_BYTES = 150 << 20
"""What Python, Arrow and the buffers of a run take without state."""

STATED = 4
"""Of `max_state_bytes`: the state itself, half as much for what the allocator keeps, and its copies while it is saved."""

EVENTS = {"window": 1_500_000, "join": 500_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    for kind, events in EVENTS.items():
        with (folder / f"{kind}.jsonl").open("w") as file:
            for number in range(events):
                file.write(f'{{"at":{number // 10},"page":"page number {number:010}"}}\n')
    return folder


@pytest.mark.parametrize("on_full", ["stop", "shed"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["window", "join"])
def test_a_wide_key_space_stays_within_the_bound(folder: Path, on_full: str, kind: str, named: bool) -> None:
    arguments = [sys.executable, "-c", PROGRAM, on_full, kind, *(["named"] if named else [])]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == ("full" if on_full == "stop" else "ended"), done.stderr
    lanes = 2 if kind == "join" and on_full == "shed" else 1
    assert found["peak"] < BASE_BYTES + STATED * lanes * (64 << 20), f"{found['peak'] >> 20} MiB"
