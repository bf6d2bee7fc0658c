"""Owns the way to a Kafka cluster: client settings, quixstreams' `Application`, and the admin calls.

Before it: `[kafka]` and `[connections.NAME]`. After it: the Kafka source, sink, dead letters and `streamcore topics`.
Invariant: every call has a deadline, and no message of ours repeats a password.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamcore.config import KafkaConnection, format_duration
from streamcore.config.suggest import did_you_mean
from streamcore.errors import ConfigError, Problem, SinkError, SourceError
from streamcore.topics import REPLICATION_MAX, TopicPlan

if TYPE_CHECKING:
    from quixstreams import Application
    from quixstreams.kafka import Consumer

REQUEST_TIMEOUT_S = 10.0
"""One admin request to a cluster that was reachable a moment ago."""

PROBE_INTERVAL_S = 1.0
"""How often a first contact looks whether it was refused rather than unanswered."""

RETRY_INTERVAL_S = 0.1

SEEK_TRIES_MAX, SEEK_RETRY_S = 100, 0.02

SETTLING = frozenset(
    {"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "NOT_LEADER_FOR_PARTITION"}
    | {"LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "UNSTABLE_OFFSET_COMMIT"}
    | {"FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH"}
)
"""Answers of a cluster that has just made a topic or its first group, has begun anew, or ends a transaction; they pass within
seconds."""

UNANSWERED = frozenset({"_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT"})
"""Nobody answered in time."""

log = logging.getLogger("streamcore.kafka")

# What these clients log goes through our errors and warnings instead; an application that wants their own
# lines configures the loggers or the root logger.
for _name in ("quixstreams", "streamcore.kafka.librdkafka"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


def client_settings(connection: KafkaConnection) -> dict[str, Any]:
    """Librdkafka's settings for reaching a cluster, secrets in the clear: for clients only, never for a message."""
    password, key_password = connection.sasl_password, connection.ssl_key_password
    named = {
        "bootstrap.servers": connection.bootstrap_servers,
        "security.protocol": connection.security_protocol,
        "sasl.mechanism": connection.sasl_mechanism,
        "sasl.username": connection.sasl_username,
        "sasl.password": password and password.get_secret_value(),
        "ssl.ca.location": connection.ssl_ca_location,
        "ssl.certificate.location": connection.ssl_certificate_location,
        "ssl.key.location": connection.ssl_key_location,
        "ssl.key.password": key_password and key_password.get_secret_value(),
    }
    return {name: value for name, value in named.items() if value is not None} | connection.options


def application(
    connection: KafkaConnection,
    *,
    group: str,
    defaults: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Application:
    """The entry point of quixstreams, used for its consumer or producer only; connects to nothing yet.

    `defaults` give way to the connection's `options`, and those to `settings`.
    """
    # Authlib, which quixstreams' schema registry client imports, announces its move away from httpx and
    # puts a filter of its own before everybody else's: only recording keeps it quiet.
    with warnings.catch_warnings(record=True):
        from quixstreams import Application
        from quixstreams.kafka import ConnectionConfig
    known = ConnectionConfig.from_librdkafka_dict(client_settings(connection), ignore_extras=True)
    extra = {"client.id": "streamcore", **defaults, **connection.options, **settings}
    return Application(
        broker_address=known,
        consumer_group=group,
        # Start offsets are always explicit: an offset that is gone must be an error, never a silent jump.
        auto_offset_reset="error",
        consumer_extra_config=extra,
        producer_extra_config=extra,
        loglevel=None,  # None leaves the logging of the embedding program alone
        auto_create_topics=False,
        use_changelog_topics=False,
    )


@contextmanager
def creating_client(connection: KafkaConnection) -> Iterator[None]:
    """Around the making of a client: settings that librdkafka refuses become a `ConfigError`."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        message = f"the client for {connection.bootstrap_servers} cannot be made: {error.args[0].str()}"
        problem = Problem("kafka", message, hint="look at the options and ssl_ keys of the connection, source or sink")
        raise ConfigError("Kafka settings are refused", [problem]) from None


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster describes it."""

    name: str
    topic_id: str
    """Changes when a topic is deleted and made again under the same name."""
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a consumer group."""

    member_id: str
    client_id: str
    host: str
    seat: str | None = None
    """The name of a seat that is kept while its member is away."""

    def __str__(self) -> str:
        return f"{self.client_id} at {self.host.lstrip('/')}"


class Cluster:
    """Admin calls to one cluster. Raises `error`, with `unreachable` set where nobody answers or the login fails."""

    def __init__(self, connection: KafkaConnection, *, error: type[SourceError | SinkError] = SourceError) -> None:
        from confluent_kafka.admin import AdminClient

        self._connection = connection
        self._error = error
        self._seen: dict[int, str] = {}
        settings = {**client_settings(connection), "error_cb": self._note}
        with creating_client(connection):
            self._admin = AdminClient(settings, logger=logging.getLogger("streamcore.kafka.librdkafka"))
        self._brokers = 0

    def _note(self, error: Any) -> None:
        self._seen[error.code()] = error.str()

    def connect(self) -> None:
        """First contact: returns once a broker has answered, at most `connect_timeout` later."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._connection.connect_timeout / 1000
        while True:
            patience = max(0.1, min(PROBE_INTERVAL_S, deadline - time.monotonic()))
            try:
                self._brokers = len(self._admin.describe_cluster(request_timeout=patience).result().nodes)
            except KafkaException:
                self._admin.poll(0)
                refusal = self._refusal()
                if refusal is not None:
                    raise self._error(refusal, unreachable=True) from None
                if time.monotonic() >= deadline:
                    raise self._error(self._silence(), unreachable=True) from None
            else:
                return

    def _refusal(self) -> str | None:
        """Why trying on is pointless, if it is."""
        from confluent_kafka import KafkaError

        where, user = self._connection.bootstrap_servers, self._connection.sasl_username
        for code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):  # noqa: SLF001
            if code in self._seen:
                return (
                    f"Kafka at {where} refused the login of {user!r} ({self._connection.sasl_mechanism}); "
                    "check sasl_username, sasl_password and sasl_mechanism"
                )
        if KafkaError._SSL in self._seen:  # noqa: SLF001
            return f"Kafka at {where}: TLS failed ({_bare(self._seen[KafkaError._SSL])}); check the ssl_ keys"  # noqa: SLF001
        return None

    def _silence(self) -> str:
        from confluent_kafka import KafkaError

        codes = (KafkaError._RESOLVE, KafkaError._TRANSPORT)  # noqa: SLF001
        why = next((f" ({_bare(self._seen[code])})" for code in codes if code in self._seen), "")
        waited = format_duration(self._connection.connect_timeout)
        return (
            f"Kafka at {self._connection.bootstrap_servers} gave no answer within {waited}{why}; "
            "start the broker, or set bootstrap_servers in [kafka] or KAFKA_BOOTSTRAP_SERVERS"
        )

    def _retried(self, ask: Callable[[], list[Future[Any]]], doing: str) -> list[Any]:
        """The answers to `ask`, asked again while the cluster is still settling (a new topic, a first group)."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                return [future.result() for future in ask()]
            except KafkaException as error:
                if error.args[0].name() not in SETTLING or time.monotonic() > deadline:
                    raise self._failed(doing, error) from error
                if error.args[0].name() == "FENCED_LEADER_EPOCH":
                    # The client goes on asking under the leadership that it knows.
                    with suppress(KafkaException):
                        self._admin.list_topics(timeout=REQUEST_TIMEOUT_S)
                time.sleep(RETRY_INTERVAL_S)

    def _failed(self, doing: str, error: Exception) -> Exception:
        reason = error.args[0]
        message = f"Kafka at {self._connection.bootstrap_servers}: {doing}: {reason.str()} ({reason.name()})"
        return self._error(message, unreachable=reason.name() in SETTLING | UNANSWERED)

    def topic(self, name: str) -> Topic | None:
        """The topic, or None when there is none. Never creates one, whatever the broker's `auto.create` says."""
        from confluent_kafka import KafkaError, KafkaException, TopicCollection

        future = self._admin.describe_topics(TopicCollection([name]), request_timeout=REQUEST_TIMEOUT_S)[name]
        try:
            described = future.result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._failed(f"topic {name} cannot be described", error) from error
        partitions = tuple(sorted(info.id for info in described.partitions))
        return Topic(name, str(described.topic_id), partitions)

    def create_topic(self, plan: TopicPlan) -> bool:
        """Creates a topic and waits until it can be described; whether it is new. Raises `ConfigError` where that is not allowed."""
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic

        replication = min(REPLICATION_MAX, max(1, self._brokers))
        partitions = -1 if plan.partitions is None else plan.partitions
        new = NewTopic(plan.name, num_partitions=partitions, replication_factor=replication, config=dict(plan.settings))
        is_new = True
        try:
            self._admin.create_topics([new], request_timeout=REQUEST_TIMEOUT_S)[plan.name].result()
        except KafkaException as error:
            if error.args[0].name() in SETTLING | UNANSWERED:
                raise self._failed(f"topic {plan.name} cannot be made", error) from error
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise missing_topic(plan, self._connection, error.args[0].str()) from error
            is_new = False
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while self.topic(plan.name) is None:
            if time.monotonic() > deadline:
                raise self._error(f"topic {plan.name} was created but is not there after {REQUEST_TIMEOUT_S:.0f} s")
            time.sleep(RETRY_INTERVAL_S)
        return is_new

    def delete_topics(self, names: Sequence[str]) -> None:
        """Deletes the topics, those that are there, and waits until they are gone."""
        from confluent_kafka import KafkaException

        there = [name for name in names if self.topic(name) is not None]
        if not there:
            return
        for name, deleted in self._admin.delete_topics(there, request_timeout=REQUEST_TIMEOUT_S).items():
            try:
                deleted.result()
            except KafkaException as error:
                raise self._failed(f"topic {name} cannot be deleted", error) from error
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while not set(there).isdisjoint(self.topic_names()):
            if time.monotonic() > deadline:
                raise self._error(
                    f"topics {', '.join(there)} are still there {REQUEST_TIMEOUT_S:.0f} s after their deletion"
                )
            time.sleep(RETRY_INTERVAL_S)

    def ensure_topic(self, plan: TopicPlan, *, create: bool) -> Topic:
        """The topic, created first if it is missing and `create` allows it. Raises `ConfigError` if it stays missing."""
        topic = self.topic(plan.name)
        if topic is not None:
            return topic
        if not create:
            raise missing_topic(plan, self._connection, "it does not exist, and auto_create_topics is off")
        self.create_topic(plan)
        log.warning("created topic %s (%s)", plan.name, plan.role)
        created = self.topic(plan.name)
        if created is None:
            raise self._error(f"topic {plan.name} vanished while it was being created")
        return created

    def input_topic(self, plan: TopicPlan) -> Topic:
        """The topic of a source. Raises `ConfigError` if it is missing: a run never makes its own input.

        An empty topic under a mistyped name would look like a pipeline that has nothing to do.
        """
        topic = self.topic(plan.name)
        if topic is None:
            known = (name for name in self.topic_names() if not name.startswith("__"))
            near = did_you_mean(plan.name, known)
            raise missing_topic(plan, self._connection, "it does not exist", near=near)
        return topic

    def partition_count(self, name: str, timeout_s: float) -> int | None:
        """How many partitions a topic has, as far as a broker says within `timeout_s`; None, where none does."""
        from confluent_kafka import KafkaException

        try:
            return len(self._admin.list_topics(name, timeout=timeout_s).topics[name].partitions) or None
        except (KafkaException, KeyError):
            return None

    def topic_setting(self, topic: str, name: str) -> str | None:
        """A setting of a topic as the broker has it; None where it is not told."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import ConfigResource

        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        try:
            settings = self._admin.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[resource].result()
        except KafkaException:
            return None  # it takes a right of its own
        return settings[name].value if name in settings else None

    def topic_names(self) -> list[str]:
        """Every topic we are allowed to see."""
        from confluent_kafka import KafkaException

        try:
            return sorted(self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise self._failed("topics cannot be listed", error) from error

    def members(self, group: str) -> list[Member]:
        """Members of a consumer group, dead ones included until their session times out."""

        def ask() -> list[Future[Any]]:
            return list(self._admin.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S).values())

        (described,) = self._retried(ask, f"group {group} cannot be described")
        return [
            Member(member.member_id, member.client_id, member.host, member.group_instance_id)
            for member in described.members
        ]

    def members_now(self, group: str, timeout_s: float) -> list[Member]:
        """`members` as far as a broker says within `timeout_s`; nobody, where none answers.

        By the older request, sent to the brokers at hand: while the newer one looks for a group's coordinator, an
        outage makes librdkafka 2.12 abort the process (`rd_kafka_enq_once_del_source_return`).
        """
        from confluent_kafka import KafkaException

        try:
            found = self._admin.list_groups(group, timeout=timeout_s)
        except KafkaException:
            return []
        return [Member(one.id, one.client_id, one.client_host) for known in found for one in known.members]

    def group_offsets(self, group: str, topic: str, lanes: Iterable[int]) -> dict[int, int | None]:
        """Where a consumer group stands in each lane, once no transaction on it is pending; None: nowhere."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        wanted = [ConsumerGroupTopicPartitions(group, partition_list(topic, list(lanes)))]

        def ask() -> list[Future[Any]]:
            found = self._admin.list_consumer_group_offsets(
                wanted, require_stable=True, request_timeout=REQUEST_TIMEOUT_S
            )
            return list(found.values())

        (found,) = self._retried(ask, f"offsets of group {group} cannot be listed")
        return {part.partition: part.offset if part.offset >= 0 else None for part in found.topic_partitions}

    def delete_group(self, group: str) -> None:
        """Deletes a group without members, and its offsets; one that is not there is none."""
        from confluent_kafka import KafkaError, KafkaException

        (deleted,) = self._admin.delete_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S).values()
        try:
            deleted.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._failed(f"group {group} cannot be deleted", error) from error

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Deletes the records of a topic that are before these offsets. Raises `SourceError`."""
        from confluent_kafka import KafkaException

        futures = self._admin.delete_records(partition_list(topic, before), request_timeout=REQUEST_TIMEOUT_S)
        try:
            for future in futures.values():
                future.result()
        except KafkaException as error:
            raise self._failed(f"records of topic {topic} cannot be deleted", error) from error

    def offsets(self, topic: str, lanes: Iterable[int], at: str | int, *, committed: bool = True) -> dict[int, int]:
        """For each lane the `earliest` offset, the `latest` readable one, or the first at or after `at` ms.

        The latest readable one is the last stable offset; where `committed` is false, the high watermark. -1: no record is
        as late as `at`.
        """
        wanted = list(lanes)

        def ask() -> list[Future[Any]]:
            futures = self.offsets_later(topic, wanted, at, committed=committed)
            return [futures[lane] for lane in wanted]

        doing, deadline = f"offsets of topic {topic} cannot be listed", time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            offsets = [result.offset for result in self._retried(ask, doing)]
            if all(is_told(offset) for offset in offsets):
                return dict(zip(wanted, offsets, strict=True))
            if time.monotonic() > deadline:
                where = self._connection.bootstrap_servers
                raise self._error(f"Kafka at {where}: {doing}: the broker tells none", unreachable=True)
            time.sleep(RETRY_INTERVAL_S)

    def offsets_later(
        self, topic: str, lanes: Iterable[int], at: str | int, *, committed: bool = True
    ) -> dict[int, Future[Any]]:
        """`offsets` without waiting: futures of objects with an `.offset`.

        While no broker answers they may stay open for ever, whatever the request's own timeout.
        """
        from confluent_kafka import IsolationLevel, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}.get(str(at))
        wanted = spec() if spec is not None else OffsetSpec.for_timestamp(int(at))
        futures = self._admin.list_offsets(
            {TopicPartition(topic, lane): wanted for lane in lanes},
            isolation_level=IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        return {part.partition: future for part, future in futures.items()}


def is_told(offset: int) -> bool:
    """Whether an answer of the broker's holds an offset, or says that there is none (-1).

    Where a request was lost with its connection, the client may give -1001 in its place, without an error.
    """
    return offset >= -1


def missing_topic(plan: TopicPlan, connection: KafkaConnection, reason: str, *, near: str | None = None) -> ConfigError:
    """The error for a topic that is not there and is not made; `near` asks whether another one was meant."""
    message = f"topic {plan.name} ({plan.role}) cannot be used at {connection.bootstrap_servers}: {reason}"
    make = "create it with the rights it takes: streamcore topics create FILE"
    problem = Problem("kafka", message, hint=make if near is None else f"{near} Otherwise {make}")
    return ConfigError("a topic is missing", [problem])


def _bare(text: str) -> str:
    """Librdkafka's message without the broker thread's name in front and the timing behind."""
    head, _, tail = text.partition(": ")
    return (tail if "/" in head and tail else text).partition(" (after ")[0]


def partition_list(topic: str, positions: Mapping[int, int] | Sequence[int]) -> list[Any]:
    """`TopicPartition` objects of lanes, with offsets where `positions` has them."""
    from confluent_kafka import TopicPartition

    if isinstance(positions, Mapping):
        return [TopicPartition(topic, lane, offset) for lane, offset in positions.items()]
    return [TopicPartition(topic, lane) for lane in positions]


def member_settings(connection: KafkaConnection) -> dict[str, Any]:
    """Settings of a consumer that shares a topic with others and reads what is committed."""
    session_ms = connection.session_timeout
    return {
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": max(1, min(3_000, session_ms // 3)),
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
    }


def seek(consumer: Consumer, part: Any) -> str | None:
    """Has a partition read from its offset on; why it could not be. Refused until its fetcher, just assigned, has started."""
    from confluent_kafka import KafkaException

    for _ in range(SEEK_TRIES_MAX):
        try:
            consumer.seek(part)
        except KafkaException as error:
            failure = str(error)
            time.sleep(SEEK_RETRY_S)
        else:
            return None
    return failure
