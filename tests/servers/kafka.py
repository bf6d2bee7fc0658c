"""A real Apache Kafka broker: one KRaft node on free loopback ports, its data in a temporary folder.

The jars come from Maven (coordinates in `kafka.xml`) into `~/.cache/streamcore/kafka-<version>`, once a machine.
Two client listeners: `bootstrap_servers` without login and `sasl_bootstrap_servers` (SCRAM-SHA-512, `USER`); tests may add more.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers.ports import free_ports
from tests.servers.process import Server, ServerError, ServerProcess

POM = Path(__file__).with_name("kafka.xml")
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
INSTALL_TIMEOUT_S = 600.0
START_TIMEOUT_S = 120.0
USER = ("alice", "correct-horse-battery")
JVM_OPTIONS = ("-Xms256m", "-Xmx768m", "-XX:+UseSerialGC")

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A test that forgot to create its topic must fail, not get one with default settings.
    "auto.create.topics.enable": "false",
    # Event times of tests lie in the past: retention by time would delete fresh records.
    "log.retention.ms": "-1",
    "group.initial.rebalance.delay.ms": "0",
    # So that a killed member's seat is free again in test time.
    "group.min.session.timeout.ms": "1000",
    # A compacted topic is looked at again after this; the default of 15 s is longer than a test.
    "log.cleaner.backoff.ms": "500",
}


def cache() -> Path:
    """The folder of what is fetched or built once a machine."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamcore"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def version(pom: Path = POM) -> str:
    """Of what `pom` is there for: its property `NAME.version`."""
    found: list[str] = re.findall(r"<[a-z]+\.version>(.+?)<", pom.read_text())
    return found[0]


def libraries(pom: Path = POM) -> Path:
    """The folder of the jars of `pom`, fetched first if need be. Raises `ServerError` with the line to type."""
    folder = cache() / f"{pom.stem}-{version(pom)}"
    if folder.is_dir():
        return folder
    with (cache() / "kafka.lock").open("w") as lock:  # two test sessions may start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _fetch(pom, folder)
    return folder


def _fetch(pom: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerError("jars are fetched by Maven, which is missing: apt-get install maven")
    partial = Path(tempfile.mkdtemp(prefix=f"{pom.stem}-", dir=folder.parent))
    try:
        command = [maven, "-q", "-B", "-f", str(pom), COPY_GOAL, f"-DoutputDirectory={partial}"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise ServerError(
                f"Maven could not fetch the jars of {pom.name}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def java() -> str:
    """The Java program. Raises `ServerError` with the line to type."""
    program = shutil.which("java")
    if program is None:
        raise ServerError("Java (17 or newer) is missing: apt-get install openjdk-17-jre-headless")
    return program


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


class KafkaServer(Server):
    """Starts on construction, which takes a few seconds."""

    def __init__(
        self,
        *,
        properties: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = JVM_OPTIONS,
        listeners: Mapping[str, str] | None = None,
        proxies: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        before_start: Callable[[KafkaServer], None] = lambda _: None,
    ) -> None:
        """`listeners`: more of them, each by its name with its security protocol.

        `proxies`: listeners, which need not be among those, that are advertised at the port of a proxy that stands before
        them. `before_start` is called when the ports are known and nothing listens there yet.
        """
        self._java = [java(), "-cp", f"{libraries()}/*"]
        self._jvm_options = list(jvm_options)
        self.directory = Path(tempfile.mkdtemp(prefix="streamcore-kafka-"))
        self._proxies = dict(proxies or {})
        self._protocols = {**dict.fromkeys(self._proxies, "PLAINTEXT"), **(listeners or {})}
        self._environment = dict(environment or {})
        self.port, self.sasl_port, controller, *others = free_ports(3 + len(self._protocols))
        self.ports = dict(zip(self._protocols, others, strict=True))
        """By name of a further listener: where it is found, by its proxy too."""
        self._write_properties(controller, properties or {})
        self._format()
        before_start(self)
        self.start()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def sasl_bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.sasl_port}"

    def _write_properties(self, controller: int, extra: Mapping[str, str]) -> None:
        ports = {"PLAINTEXT": self.port, "SASL": self.sasl_port}
        protocols = [f"{name}:{protocol}" for name, protocol in self._protocols.items()]
        settings = {
            **PROPERTIES,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": _listeners({**ports, **self.ports, "CONTROLLER": controller}),
            "advertised.listeners": _listeners({**ports, **self.ports, **self._proxies}),
            "listener.security.protocol.map": ",".join([PROPERTIES["listener.security.protocol.map"], *protocols]),
            "log.dirs": str(self.directory / "data"),
            **extra,
        }
        self._properties = self.directory / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _format(self) -> None:
        user, password = USER
        identity = "c3RyZWFtY29yZS10ZXN0cw"  # any 16 bytes in base64; a folder's data belong to one cluster
        options = ["-t", identity, "-c", str(self._properties)]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            options += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        command = [*self._java[:1], "-XX:TieredStopAtLevel=1", *self._java[1:]]
        command += ["kafka.tools.StorageTool", "format", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise ServerError(f"Kafka's storage could not be formatted:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def start(self) -> None:
        """Starts the broker on the data it has, also after `process.kill()`, and waits until it answers."""
        self.launch()
        self.process.wait_until(self.answers, "Kafka", START_TIMEOUT_S)

    def launch(self) -> None:
        """Starts the broker without waiting. Like `start`, from a thread that lives on: the broker ends with it."""
        command = [*self._java[:1], *self._jvm_options, *self._java[1:], "kafka.Kafka", str(self._properties)]
        self.process = ServerProcess(command, self.directory / "kafka.log", env=self._environment, cwd=self.directory)

    def answers(self) -> bool:
        """Whether the broker answers a client now."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        silent = {"log_level": 0, "socket.connection.setup.timeout.ms": 1000}
        try:
            client = AdminClient({"bootstrap.servers": self.bootstrap_servers, **silent})
            return bool(client.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    def stop(self) -> None:
        # Nothing of a throw-away broker is worth its orderly shutdown of several seconds.
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
