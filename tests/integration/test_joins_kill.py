"""A join of two topics whose process is killed with SIGKILL at random moments, again and again.

Its Parquet files then hold every joined row exactly once, and its topic, of which the last row of a key counts, the same
rows: those of the naive join below. `STREAMCORE_KILLS` says how often it is killed; `make test-kills-nightly` does it 100 times.
Records are sent all the while. Invariant: a kill is timed from a commit of the process it ends, so each start gets further.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from tests.integration.kafka_tools import create_topic, read_topic
from tests.servers.kafka import KafkaServer

KILLS = int(os.environ.get("STREAMCORE_KILLS", "3"))
RECORDS = 2_000
"""Of an input, for each time it is killed."""
STARTS_MAX = 5
OUTAGES = ("SourceError", "SinkError", "FencedError")
LAST_AT = 10**9
"""The time of one more record an input, at which everything else has left."""

PROGRAM = """
import os, signal, sys, threading

import streamcore as sc
from streamcore import epoch_size

servers, name, folder, delay_s, stop = sys.argv[1:]
epoch_size.EPOCH_RECORDS_MAX = 200


class Killer:
    output = "result"
    timer = None

    def open(self): ...
    def write(self, batch, version): ...
    def flush(self): ...
    def discard(self): ...
    def close(self): ...

    def committed(self, epoch):
        if self.timer is None and stop == "":
            self.timer = threading.Timer(float(delay_s), os.kill, (os.getpid(), signal.SIGKILL))
            self.timer.daemon = True
            self.timer.start()


kafka = sc.KafkaConnection(bootstrap_servers=servers, session_timeout="1s")
keys = {"connection": kafka, "event_time": "t", "event_time_unit": "ms", "out_of_orderness": "500ms", "max_lead": "2s",
        "idle_timeout": "1h"}
orders = sc.kafka(f"{name}-orders", schema={"k": "string", "n": "int64"}, **keys)
payments = sc.kafka(f"{name}-payments", schema={"k": "string", "m": "int64"}, **keys)
flow = orders.join(payments, on="k", how="outer", within=("-200ms", "1s"), name="payments")
flow = flow.sink_kafka(f"{name}-out", mode="upsert", key=["n", "m"]).sink_parquet(f"{folder}/out").sink(Killer())
print(flow.configure(state_dir=f"{folder}/state", commit_interval="100ms").run(name=name, stop=stop or None).state)
"""

Joined = tuple[str, int | None, int | None]


def rows_of(field: str, seed: int) -> list[dict[str, Any]]:
    """Rows out of order within the bound, then the last one."""
    chance = random.Random(seed)
    made = [
        {"t": at * 10 + chance.randint(-200, 200), "k": f"k{chance.randrange(40)}", field: at}
        for at in range(RECORDS * (KILLS + 1))
    ]
    return [*made, {"t": LAST_AT, "k": "last", field: -1}]


def expected(orders: list[dict[str, Any]], payments: list[dict[str, Any]]) -> Counter[Joined]:
    """The outer join, each pair looked at."""
    found: Counter[Joined] = Counter()
    paid: set[int] = set()
    by_key: dict[str, list[dict[str, Any]]] = {}
    for payment in payments:
        by_key.setdefault(payment["k"], []).append(payment)
    for order in orders:
        near = [other for other in by_key.get(order["k"], []) if -200 <= other["t"] - order["t"] <= 1000]
        found.update((order["k"], order["n"], other["m"]) for other in near)
        paid |= {other["m"] for other in near}
        if not near:
            found[order["k"], order["n"], None] += 1
    found.update((other["k"], None, other["m"]) for other in payments if other["m"] not in paid)
    return found


class Traffic(threading.Thread):
    """Sends both inputs side by side, `RECORDS` a round; the last row of each goes to all partitions."""

    def __init__(self, server: KafkaServer, topics: dict[str, tuple[int, list[dict[str, Any]]]]) -> None:
        super().__init__(daemon=True)
        self._producer = Producer(
            {"bootstrap.servers": server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 1}
        )
        self._topics = topics
        self.rounds = threading.Semaphore(1)
        """Rounds that may be sent."""

    def run(self) -> None:
        for at in range(0, RECORDS * (KILLS + 1), 20):
            if at % RECORDS == 0:
                self.rounds.acquire()
            for topic, (partitions, rows) in self._topics.items():
                for number in range(at, at + 20):
                    self._send(topic, number % partitions, rows[number])
            assert self._producer.flush(30) == 0
            time.sleep(0.005)
        for topic, (partitions, rows) in self._topics.items():
            for partition in range(partitions):
                self._send(topic, partition, rows[-1] | {"k": f"last{partition}"})
        assert self._producer.flush(30) == 0

    def _send(self, topic: str, partition: int, row: dict[str, Any]) -> None:
        self._producer.produce(topic, value=json.dumps(row).encode(), partition=partition)


@pytest.mark.timeout(120 + 60 * KILLS)
def test_a_join_that_is_killed_at_random_moments_gives_the_rows_of_one_that_is_not(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    orders, payments = rows_of("n", 1), rows_of("m", 2)
    topics = {f"{unique}-orders": (3, orders), f"{unique}-payments": (2, payments)}
    for topic, (partitions, _) in topics.items():
        create_topic(kafka_server, topic, partitions=partitions)
    traffic = Traffic(kafka_server, topics)
    traffic.start()
    chance = random.Random(unique)
    for _ in range(KILLS):
        done = start(kafka_server, unique, tmp_path, delay_s=chance.uniform(0, 1))
        assert done.returncode == -signal.SIGKILL, done.stderr
        traffic.rounds.release()
    traffic.join()
    done = start(kafka_server, unique, tmp_path, stop="end")
    assert done.stdout.splitlines()[-1:] == ["ended"], done.stderr
    wanted = expected(orders[:-1], payments[:-1])
    files = pl.read_parquet(tmp_path / "out").filter(~pl.col("k").str.starts_with("last")).select("k", "n", "m")
    assert Counter(files.rows()) == wanted
    messages = [json.loads(message.value()) for message in read_topic(kafka_server, f"{unique}-out")]
    assert {(row["k"], row["n"], row["m"]) for row in messages if not row["k"].startswith("last")} == set(wanted)
    assert max(wanted.values()) == 1


def start(
    server: KafkaServer, name: str, folder: Path, delay_s: float = 0, stop: str = ""
) -> subprocess.CompletedProcess[str]:
    """A process that runs until it is killed, `delay_s` behind its first commit, or to the end.

    On a busy machine the broker may give no answer for long, or take a live member for dead: then it is started again, as
    a supervisor would. What it wrote meanwhile is held to the same rows.
    """
    arguments = [server.bootstrap_servers, name, str(folder), str(delay_s), stop]
    for _ in range(STARTS_MAX):
        done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
        if done.returncode in {0, -signal.SIGKILL} or not any(error in done.stderr for error in OUTAGES):
            break
    return done
