"""The whole example on this machine: real Kafka and Redis, the service, the worker, traffic, and the answers.

Run it:  make example        (make example ARGS=--keep goes on until Ctrl-C)
Everything it starts has a free port of its own, keeps its data in a temporary folder, and is stopped by process id.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the repository, for tests.servers

from tests.servers.kafka import KafkaServer  # noqa: E402
from tests.servers.ports import free_ports  # noqa: E402
from tests.servers.process import ServerError, ServerProcess  # noqa: E402
from tests.servers.redis import RedisServer  # noqa: E402

PIPELINE = str(HERE / "page_counts.toml")
PAGES = ("home", "pricing", "docs", "blog")
CLICKS = 1_000
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 60.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def running(folder: Path) -> Iterator[httpx.Client]:
    """Starts Kafka, Redis, the service and the worker; gives a client of the service."""
    say("starting Kafka and Redis")
    with KafkaServer() as kafka, RedisServer() as redis:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "REDIS_URL": redis.url,
            "STREAMCORE_STATE_DIR": str(folder / "state"),
        }
        streamcore = [sys.executable, "-m", "streamcore"]
        create_topics = [*streamcore, "topics", "create", PIPELINE]
        subprocess.run(create_topics, env={**os.environ, **environment}, check=True)  # noqa: S603 - our own command
        say("starting the service and the worker")
        (port,) = free_ports(1)
        uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(HERE)]
        service = ServerProcess(
            [*uvicorn, "--port", str(port), "--log-level", "warning"], folder / "service.log", env=environment
        )
        worker = ServerProcess([*streamcore, "run", PIPELINE], folder / "worker.log", env=environment)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
                service.wait_until(lambda: answers(client), "the service", START_TIMEOUT_S)
                yield client
        except httpx.HTTPError as error:
            raise ServerError(f"the service failed ({error}):\n{service.log_tail()}") from error
        finally:
            say("stopping everything")
            worker.stop()
            service.stop()
            say(worker.log_tail(1))


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def send_traffic(client: httpx.Client) -> Counter[str]:
    """Clicks on a few pages, one in a hundred sent twice; returns how often each page was viewed."""
    chance = random.Random(1)
    views: Counter[str] = Counter()
    for _ in range(CLICKS):
        page = chance.choices(PAGES, weights=(8, 4, 2, 1))[0]
        click = {"event_id": str(uuid.uuid4()), "user_id": f"u{chance.randrange(100)}", "page_id": page}
        for _ in range(2 if chance.random() < 0.01 else 1):
            client.post("/click", json=click).raise_for_status()
        views[page] += 1
    return views


def counted(client: httpx.Client, page: str, minutes: range) -> int:
    """Views of a page over several minutes, as the service answers."""
    path = f"/page/{page}/count"
    return sum(client.get(path, params={"window_end": end}).raise_for_status().json()["cnt"] for end in minutes)


def show(client: httpx.Client) -> bool:
    """Sends traffic, waits for the counts, and says whether they are right."""
    first_minute = int(time.time()) // 60
    say(f"sending {CLICKS} clicks")
    views = send_traffic(client)
    minutes = range((first_minute + 1) * 60, (int(time.time()) // 60 + 2) * 60, 60)
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    counts: dict[str, int] = {}
    while counts != dict(views) and time.monotonic() < deadline:
        time.sleep(0.2)
        counts = {page: counted(client, page, minutes) for page in views}
    print(f"{'page':<10}{'sent':>8}{'counted':>10}")
    for page in PAGES:
        print(f"{page:<10}{views[page]:>8}{counts[page]:>10}")
    print(f"GET /page/home/count -> {client.get('/page/home/count').text}", flush=True)
    return counts == dict(views)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C, to try it by hand")
    keep = parser.parse_args().keep
    try:
        with tempfile.TemporaryDirectory(prefix="streamcore-example-") as folder, running(Path(folder)) as client:
            right = show(client)
            while keep:
                say(f"the service is at {client.base_url}; Ctrl-C ends")
                time.sleep(3600)
    except ServerError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 0
    if not right:
        say("error: the counts are not those of the clicks sent")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
