"""Worker: a rival that brings the windows into a topic, as a program of its own.

Argument: `{"command", "bootstrap", "topic", "events"}`. The command is called with the bootstrap servers, the topic, the topic of
the windows (there already, of 4 partitions) and the number of events; the last line that it prints is `{"seconds", "version"}`. The
rows are then read as a reader of committed records sees them, the last of each key. Prints `{"seconds", "events", "rows", "version"}`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python.committed_topic import windows  # noqa: E402
from bench.python.kafka_topics import create_topic  # noqa: E402
from bench.python.measure import WORKER_TIMEOUT_S  # noqa: E402


def main() -> None:
    arguments = json.loads(sys.argv[1])
    bootstrap, topic, events = arguments["bootstrap"], arguments["topic"], arguments["events"]
    out = f"windows-{uuid.uuid4().hex[:8]}"
    create_topic(bootstrap, out)
    command = [*arguments["command"], bootstrap, topic, out, str(events)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, cwd=folder, timeout=WORKER_TIMEOUT_S - 60
        )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({**found, "events": events, "rows": windows(bootstrap, out)}))


if __name__ == "__main__":
    main()
