"""Workers as processes of their own, and the pipeline they run.

Before it: a test, which says where a worker is to fail. After it: the command line of streamcore, nothing else.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamcore import _core
from tests.faults import assertions, oracle, traffic
from tests.faults.reader import Reader
from tests.integration.kafka_tools import create_topic
from tests.servers.kafka import KafkaServer

PARTITIONS = 3
SESSION_S = 6
RUN_S = 150.0
JOINS_MAX, JOIN_S = 10, 15.0
"""How often a worker joins so that another has to give lanes away, and how long that may take."""
TRANSACTION_OVER_S = SESSION_S + 15.0
"""What a dead worker left open is aborted by the broker when its time is over and the broker has looked, every 10 s."""
RECORDS = 1_000_000_000
"""Of a stream: more than any test waits for."""

RESTARTABLE = (4, 7)
"""Exit codes after which a worker may be started again: Kafka was out of reach, or another took its place."""

STEPS = """
[source.schema]
k = "string"
v = "int64"
id = "string"

[[steps]]
dedupe = "id"
within = "1h"

[[steps]]
window = "tumbling"
size = "10s"
by = "k"
[steps.aggregate]
n = "count()"
s = "sum(v)"
"""
"""What all of them do: the fields and the steps, of a pipeline file."""

TRANSPORT = os.environ.get("STREAMCORE_FAULT_TRANSPORT") or None
"""By which workers read; unset or empty: as they come."""

SOURCE_AND_STEPS = (
    """
name = "{name}"
delivery = "exactly_once"
commit_interval = "{commit_interval}"

[kafka]
session_timeout = "{session_s}s"
connect_timeout = "60s"

[source]
type = "kafka"
topic = "{name}.in"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "100ms"
keyed_by = "k"
idle_timeout = "1h"
poll_records_max = 2000

"""
    + STEPS
)
"""Without sinks."""

TOPIC_SINK = """
[[sinks]]
type = "kafka"
topic = "{name}.out"
partitions = 2
"""


class Sending(Protocol):
    """Records on their way."""

    def close(self) -> None:
        """Nothing more is sent."""


@dataclass
class Job:
    """A pipeline with topics of its own."""

    server: KafkaServer
    name: str
    folder: Path
    bootstrap: str = ""
    """Where workers find the broker, if not at the server's own address."""
    commit_interval: str = "200ms"
    bugs: str = ""
    """What the commit machine does wrong on purpose, with commas."""
    text: str = SOURCE_AND_STEPS + TOPIC_SINK
    """Of the pipeline file, with `{name}` and `{session_s}` to be filled in."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of workers, besides what all of them have."""
    by: str = "k"
    """The field that windows are of; not the record key, they meet through a topic."""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    reader: Reader | None = None
    """Of the output, from the first worker's start on."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "pipeline.toml"
        text = self.text.format(name=self.name, session_s=SESSION_S, commit_interval=self.commit_interval)
        self.file.write_text(text)
        create_topic(self.server, f"{self.name}.in", PARTITIONS)

    @property
    def input(self) -> str:
        return f"{self.name}.in"

    def start(
        self,
        *,
        worker: str = "w0",
        instance: str | None = None,
        stop: str | None = None,
        faults: str = "",
        more: Sequence[str] = (),
        under: Sequence[str] = (),
        traces: bool = True,
    ) -> subprocess.Popen[bytes]:
        """A worker under a name of its own, unless it is to have another's (`instance`).

        `faults` is as `STREAMCORE_FAULTS` has them; `more` are other arguments of the command, `under` what runs it; `traces`:
        its commit machine is recorded.
        """
        variables = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap or self.server.bootstrap_servers,
            "STREAMCORE_STATE_DIR": str(self.folder / worker),
            "STREAMCORE_INSTANCE_ID": instance or worker,
            "STREAMCORE_FAULTS": faults,
            **({"STREAMCORE_COMMIT_TRACE": str(self.folder)} if traces else {}),
            "STREAMCORE_COMMIT_BUGS": self.bugs,
            **self.environment,
        }
        until = ["--stop", stop] if stop else []
        if TRANSPORT is not None:
            until += ["--transport", TRANSPORT]
        if self.reader is None and f'topic = "{self.name}.out"' in self.file.read_text():
            self.reader = Reader(self.server.bootstrap_servers, f"{self.name}.out")
        command = [*under, sys.executable, "-m", "streamcore", "run", str(self.file), *until, *more]
        with (self.folder / f"{worker}.log").open("ab") as log:
            process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        self.workers.append(process)
        return process

    def log(self, worker: str = "*") -> str:
        """The ends of the logs."""
        paths = sorted(self.folder.glob(f"{worker}.log"))
        return "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in paths)

    def kill_all(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        # Another one begins with the next worker, if any.
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def offsets(self) -> dict[int, int]:
        return oracle.group_offsets(self.server.bootstrap_servers, self.name, self.input, PARTITIONS)

    def ends(self) -> dict[int, int]:
        """Where the input ends."""
        return oracle.expected(self.server.bootstrap_servers, self.input).ends

    def differences(self) -> list[str]:
        """What the oracle finds wrong in the outputs."""
        letters = f"{self.name}.dead-letters"
        servers = self.server.bootstrap_servers
        return oracle.differences(
            servers, source=self.input, output=f"{self.name}.out", dead_letters=letters, by=self.by
        )

    def stream(self, seed: int, *, keys: int = 500, pause_s: float = traffic.PAUSE_S) -> traffic.Stream:
        """Records that are sent until it is closed."""
        servers = self.server.bootstrap_servers
        return traffic.Stream(servers, self.input, seed, RECORDS, partitions=PARTITIONS, keys=keys, pause_s=pause_s)

    def leave(self, running: Mapping[str, subprocess.Popen[bytes]], *, revives: bool = False) -> None:
        """Has workers commit what they have, and leave; one that has only just begun may be interrupted before it has joined.

        With `revives` one may have ended by itself meanwhile, as one that is to be started again.
        """
        for worker, process in running.items():
            has_joined = '"progress"' in (self.folder / f"{worker}.log").read_text()
            process.send_signal(signal.SIGTERM)
            well = (0,) if has_joined else (0, 130, -signal.SIGTERM)
            assert process.wait(RUN_S) in well + (RESTARTABLE if revives else ()), self.log(worker)

    def end(self, stream: Sending, running: dict[str, subprocess.Popen[bytes]], *, revives: bool = False) -> None:
        """Nothing more is sent; the workers read it all, leave, one closes the windows, and all is right."""
        stream.close()
        self.await_end(running, revives=revives)
        self.leave(running, revives=revives)
        self.check_state()
        self.finish(revives=revives)
        self.check()

    def await_progress(
        self,
        beyond: dict[int, int],
        *,
        running: dict[str, subprocess.Popen[bytes]] | None = None,
        within_s: float = 120.0,
    ) -> dict[int, int]:
        """Waits until the group has committed more than `beyond`; gives what. Starts workers `running` again that may be."""
        deadline = time.monotonic() + within_s
        while True:
            offsets = self.offsets()
            if sum(offsets.values()) > sum(beyond.values()):
                return offsets
            self.revive(running or {})
            assert time.monotonic() < deadline, f"nothing was committed for {within_s} s:\n{self.log()}"
            time.sleep(0.1)

    @staticmethod
    def await_stopped(process: subprocess.Popen[bytes], *, within_s: float = 120.0) -> None:
        """Waits until a process has stopped itself."""
        deadline = time.monotonic() + within_s
        while "T" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]:
            assert time.monotonic() < deadline, f"process {process.pid} has not stopped"
            time.sleep(0.05)

    def run_and_kill(self, workers: int, chance: random.Random, kills: int) -> dict[str, subprocess.Popen[bytes]]:
        """Starts so many workers, and kills one of them again and again, which is started anew; between two the group commits."""
        running = {f"w{number}": self.start(worker=f"w{number}") for number in range(workers)}
        offsets = self.await_progress({})
        for _ in range(kills):
            time.sleep(chance.uniform(0.2, 2.0))
            worker = chance.choice(sorted(running))
            running[worker].kill()
            assert running[worker].wait() == -signal.SIGKILL, self.log(worker)
            running[worker] = self.start(worker=worker)
            offsets = self.await_progress(offsets)
        return running

    def killed_by_a_join(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Another worker joins, so that this one gives lanes away, until it is killed in that; gives the other one."""
        for _ in range(JOINS_MAX):
            heir = self.start(worker="heir")
            with suppress(subprocess.TimeoutExpired):
                assert process.wait(JOIN_S) == -signal.SIGKILL, self.log()
                return heir
            # Nothing was to be committed, or the group had moved on before it was; once more.
            self.leave({"heir": heir})
        raise AssertionError(f"the point was not reached:\n{self.log()}")

    def revive(self, running: dict[str, subprocess.Popen[bytes]]) -> list[int]:
        """Starts workers again that ended as one does that a supervisor is to start again; gives their codes."""
        codes = []
        for worker, process in list(running.items()):
            if process.poll() is not None:
                assert process.returncode in RESTARTABLE, f"{worker} ended with {process.returncode}\n{self.log()}"
                codes.append(process.returncode)
                running[worker] = self.start(worker=worker)
        return codes

    def await_end(
        self, running: dict[str, subprocess.Popen[bytes]], *, revives: bool = False, within_s: float = RUN_S
    ) -> None:
        """Waits until the group has committed all there is, by workers that must not end meanwhile, or be started again."""
        wanted = self.ends()
        deadline = time.monotonic() + within_s
        while self.offsets() != wanted:
            assert time.monotonic() < deadline, f"{self.offsets()} of {wanted}:\n{self.log()}"
            if revives:
                self.revive(running)
            else:
                ended = {name: process.returncode for name, process in running.items() if process.poll() is not None}
                assert ended == {}, f"ended by themselves: {ended}\n{self.log()}"
            time.sleep(0.2)

    def finish(self, worker: str = "w0", *, revives: bool = False) -> None:
        """Lets one worker read to the end, where every window closes; with `revives` it is started again where it may be."""
        deadline = time.monotonic() + RUN_S
        code = self.start(worker=worker, stop="end").wait(RUN_S)
        while revives and code in RESTARTABLE and time.monotonic() < deadline:
            code = self.start(worker=worker, stop="end").wait(RUN_S)
        assert code == 0, self.log()

    def ledgers(self) -> dict[int, dict[str, int]]:
        """A5: what became of each lane's records, as `audit` reads it from the committed state; it must add up."""
        found = assertions.audited(self.file, self.server.bootstrap_servers)
        return {int(lane): counts for lane, counts in found["lanes"].items()}

    def expected(self) -> oracle.Expected | None:
        """What all that was sent must come to; None where `differences` alone knows."""
        servers = self.server.bootstrap_servers
        shed = oracle.shed(servers, f"{self.name}.dead-letters")
        return oracle.expected(servers, self.input, by=self.by, without=shed) if self.by == "k" else None

    def check_state(self) -> None:
        """A6, while windows are open."""
        expected = self.expected()
        if expected is not None and self.reader is not None:
            servers, output = self.server.bootstrap_servers, f"{self.name}.out"
            assertions.state_is_right(self.file, servers, output=output, wanted=expected)

    def traces(self, *, combine: bool = False) -> list[str]:
        """What each worker's commit machine was told and answered; of one that was killed, its whole lines.

        `combine`: the machines of the phase that merges.
        """
        paths = sorted(path for path in self.folder.glob("*.jsonl") if path.name.startswith("combine-") == combine)
        texts = [path.read_text() for path in paths]
        return [text[: text.rfind("\n") + 1] for text in texts if "\n" in text]

    def check_ended(self, topics: list[str]) -> None:
        """A7: no transaction stays open in these topics."""
        deadline = time.monotonic() + TRANSACTION_OVER_S
        while (hanging := oracle.hanging(self.server.bootstrap_servers, topics)) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert hanging == []

    def check(self, *, recovered: bool = True) -> None:
        """A1 to A7 and A9: each row and dead letter once and right, for whoever has read all the while too; ledgers and state; offsets at the end, nothing hangs; no trouble in a log.

        And what workers recorded is what this commit machine decides, and what a broker of the model can say; `recovered`: a
        worker found a manifest of an earlier one.
        """
        topics = [f"{self.name}.out", f"{self.name}.dead-letters", f"{self.name}.0.state.g1"]
        if self.by != "k":
            topics += [f"{self.name}.0.partials.g1", f"{self.name}.1.state.g1"]
        self.check_ended(topics)
        wrong = self.differences()
        assert wrong == [], f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20]) + self.log()
        assert self.offsets() == self.ends()
        servers = self.server.bootstrap_servers
        if self.reader is not None:
            there = oracle.read(servers, f"{self.name}.out")
            self.reader.await_records(Counter((message.key(), message.value()) for message in there))
        ledgers, expected = self.ledgers(), self.expected()
        if expected is not None:
            assertions.ledgers_are_right(ledgers, expected)
        assertions.state_is_whole(self.file, servers)
        assertions.logs_are_clear(self.folder)
        for combine in (False, True)[: 1 + (self.by != "k")]:
            # A trace is of one phase: lanes of both have the same numbers.
            calls, manifests = _core.CommitMachine.check_traces(self.traces(combine=combine))
            assert calls > 0
            assert manifests > 0 or not recovered
