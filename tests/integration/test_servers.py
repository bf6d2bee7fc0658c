"""`python -m tests.servers run`: servers for a shell."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]


def test_in_the_background_it_runs_until_a_signal(tmp_path: Path) -> None:
    """With /dev/null for standard input it took the end of that for the end of its shell, and quit at once."""
    servers = ServerProcess([sys.executable, "-m", "tests.servers", "run"], tmp_path / "log", cwd=ROOT)
    servers.wait_until(lambda: "export REDIS_URL=redis://" in servers.log.read_text(), "the servers", timeout_s=90.0)
    assert "export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:" in servers.log.read_text()
    assert servers.process.poll() is None
    assert servers.stop(30.0) == 0, servers.log_tail()
