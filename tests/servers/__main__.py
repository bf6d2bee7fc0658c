"""`python -m tests.servers install | run`: the servers for a shell.

`run` prints one JSON line, `{"kafka": "HOST:PORT", "redis": "URL"}`, and the `export` lines for a shell. It stops both at
SIGTERM, at SIGINT, or when its standard input ends; with `/dev/null` there, as in the background, only a signal does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from tests.servers.kafka import KafkaServer, java, libraries
from tests.servers.process import ServerError
from tests.servers.redis import RedisServer


def run() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, lambda *_: sys.exit(0))
    with KafkaServer() as kafka, RedisServer() as redis:
        print(json.dumps({"kafka": kafka.bootstrap_servers, "redis": redis.url}))
        print(f"export KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap_servers}\nexport REDIS_URL={redis.url}", flush=True)
        wait()


def wait() -> None:
    """Returns when standard input ends, which /dev/null does at once and so is no sign of anybody leaving."""
    if sys.stdin is None or os.fstat(sys.stdin.fileno()).st_rdev == Path(os.devnull).stat().st_rdev:
        while True:
            signal.pause()
    while sys.stdin.read(4096):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("action", choices=("install", "run"))
    try:
        if parser.parse_args().action == "install":
            java()
            print(libraries())
        else:
            run()
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
