"""`python -m tests.servers install | run`: the servers for a shell.

`run` prints one JSON line, `{"kafka": "HOST:PORT", "redis": "URL"}`, and stops both at SIGTERM, SIGINT or
when its standard input ends.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from tests.servers.kafka import KafkaServer, java, libraries
from tests.servers.process import ServerError
from tests.servers.redis import RedisServer


def run() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with KafkaServer() as kafka, RedisServer() as redis:
        print(json.dumps({"kafka": kafka.bootstrap_servers, "redis": redis.url}), flush=True)
        try:
            while sys.stdin.read(4096):
                pass
        except KeyboardInterrupt:
            return


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
