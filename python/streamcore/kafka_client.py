"""Owns the way to a Kafka cluster: client settings, quixstreams' `Application`, and the admin calls.

Before it: `[kafka]` and `[connections.NAME]`. After it: the Kafka source, sink, dead letters and `streamcore topics`.
Invariant: every call has a deadline, and no message of ours repeats a password.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamcore.config import KafkaConnection
from streamcore.config.suggest import did_you_mean
from streamcore.config.validation import refused_keys
from streamcore.errors import ConfigError, FencedError, Problem, SinkError, SourceError
from streamcore.kafka_errors import PASSING, SETTLING, UNANSWERED, denied
from streamcore.kafka_questions import RETRY_INTERVAL_S, Question, answer_of
from streamcore.kafka_refusals import refusal, silence
from streamcore.kafka_tokens import TOKENS, Tokens, keep_asking
from streamcore.topics import REPLICATION_MAX, TopicPlan, missing_topic

if TYPE_CHECKING:
    from quixstreams import Application

REQUEST_TIMEOUT_S = 10.0
"""One admin request to a cluster that was reachable a moment ago."""

PROBE_INTERVAL_S = 1.0
"""How often a first contact asks anew."""

RECONNECT_MS_MAX = 1_000
"""A broker that comes back is noticed within this, by whoever reads; the client's default waits up to ten seconds."""

LOOK_INTERVAL_S = 0.05
"""How often it looks whether it was refused rather than unanswered."""


log = logging.getLogger("streamcore.kafka")

# What these clients log goes through our errors and warnings instead; an application that wants their own
# lines configures the loggers or the root logger.
for _name in ("quixstreams", "streamcore.kafka.librdkafka"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


def client_settings(connection: KafkaConnection) -> dict[str, Any]:
    """Librdkafka's settings for reaching a cluster, secrets in the clear: for clients only, never for a message."""
    password, key_password = connection.sasl_password, connection.ssl_key_password
    named: dict[str, Any] = {
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
    settings = {name: value for name, value in named.items() if value is not None} | connection.options
    if callable(tokens := settings.get(TOKENS)):
        settings[TOKENS] = Tokens(tokens)
    return settings


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
    options = {name: value for name, value in connection.options.items() if name != TOKENS}  # known already
    extra = {"client.id": "streamcore", **defaults, **options, **settings}
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
    """Around the making of a client: settings that it refuses become a `ConfigError`, which repeats no value of an option."""
    from confluent_kafka import KafkaException

    try:
        yield
    except ValueError as error:
        # quixstreams' own look at what is not the client's alone; it would show the values.
        refused = refused_keys(error)
        message = f"the client for {connection.bootstrap_servers} cannot be made: {', '.join(refused) or 'one of its settings'} has a value that it does not take"
        raise ConfigError("Kafka settings are refused", [Problem("kafka.options", message)]) from None
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

    @classmethod
    def of(cls, described: Any) -> Topic:
        """As the client describes it."""
        return cls(described.name, str(described.topic_id), tuple(sorted(info.id for info in described.partitions)))


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
        self._seen: dict[str, str] = {}
        """What the client reported of connections, by the name of the error."""
        settings = {**client_settings(connection), "error_cb": self._note}
        self._tokens: Tokens | None = settings.get(TOKENS)
        with creating_client(connection):
            self._admin = AdminClient(settings, logger=logging.getLogger("streamcore.kafka.librdkafka"))
        if self._tokens is not None:
            keep_asking(self._admin)
        self._brokers = 0

    def _note(self, error: Any) -> None:
        self._seen[error.name()] = error.str()

    def connect(self) -> None:
        """First contact: returns once a broker has answered, at most `connect_timeout` later."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._connection.connect_timeout / 1000
        while True:
            patience = max(0.1, min(PROBE_INTERVAL_S, deadline - time.monotonic()))
            until_s = time.monotonic() + patience
            asked = self._admin.describe_cluster(request_timeout=patience)
            while not wait([asked], LOOK_INTERVAL_S).done and time.monotonic() < until_s:
                self._admin.poll(0)
                if "_ALL_BROKERS_DOWN" in self._seen:  # else another may let us in
                    self._check_refused()
            try:
                self._brokers = len(answer_of(asked, max(0.0, until_s - time.monotonic())).nodes)
            except KafkaException:
                self._admin.poll(0)
                self._check_refused()
                if time.monotonic() >= deadline:
                    raise self._error(silence(self._connection, self._seen), unreachable=True) from None
            else:
                return

    def _check_refused(self) -> None:
        refused = self._refusal()
        if refused is not None:
            raise self._error(refused, unreachable=True) from None

    def _refusal(self) -> str | None:
        """Why trying on is pointless, if it is."""
        if self._tokens is not None and self._tokens.failure is not None:
            return self._tokens.failure
        return refusal(self._connection, client_settings(self._connection), self._seen)

    def ask(
        self, ask: Callable[[], Sequence[Future[Any]]], doing: str, *, within_s: float = REQUEST_TIMEOUT_S
    ) -> Question:
        """A question, asked again while the cluster is still settling (a new topic, a first group), at most so long in all."""
        from confluent_kafka import KafkaException

        def refresh(timeout_s: float) -> None:
            with suppress(KafkaException):
                self._admin.list_topics(timeout=timeout_s)

        return Question(ask, within_s=within_s, refresh=refresh, failed=lambda error: self._failed(doing, error))

    def _failed(self, doing: str, error: Exception) -> Exception:
        reason = error.args[0]
        doing = f"Kafka at {self._connection.bootstrap_servers}: {doing}"
        refusal = denied(reason, doing) if self._error is SourceError else None
        message = f"{doing}: {reason.str()} ({reason.name()})"
        return refusal or self._error(message, unreachable=reason.name() in SETTLING | UNANSWERED)

    def topic(self, name: str) -> Topic | None:
        """The topic, or None when there is none. Never creates one, whatever the broker's `auto.create` says."""
        from confluent_kafka import KafkaError, KafkaException

        try:
            described = answer_of(self.topics_later([name])[0], REQUEST_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._failed(f"topic {name} cannot be described", error) from error
        return Topic.of(described)

    def topics_later(self, names: Sequence[str]) -> list[Future[Any]]:
        """`topic` without waiting: futures of what `Topic.of` takes. They may stay open for ever, as those of `places_later`."""
        from confluent_kafka import TopicCollection

        if not names:
            return []
        asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_TIMEOUT_S)
        return [asked[name] for name in names]

    def create_topic(self, plan: TopicPlan) -> bool:
        """Creates a topic and waits until it can be described; whether it is new. Raises `ConfigError` where that is not allowed."""
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic

        replication = min(REPLICATION_MAX, max(1, self._brokers))
        partitions = -1 if plan.partitions is None else plan.partitions
        new = NewTopic(plan.name, num_partitions=partitions, replication_factor=replication, config=dict(plan.settings))
        is_new = True
        try:
            made = self._admin.create_topics([new], request_timeout=REQUEST_TIMEOUT_S)
            answer_of(made[plan.name], REQUEST_TIMEOUT_S)
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
                answer_of(deleted, REQUEST_TIMEOUT_S)
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
        from confluent_kafka.admin import ConfigResource

        return self._setting(ConfigResource(ConfigResource.Type.TOPIC, topic), name)

    def broker_setting(self, name: str) -> int | None:
        """A number in the settings of the brokers, as one of them has it; None where it is not told."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import ConfigResource

        try:
            described = self._admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S)
            brokers = answer_of(described, REQUEST_TIMEOUT_S).nodes
        except KafkaException:
            return None
        told = (
            self._setting(ConfigResource(ConfigResource.Type.BROKER, brokers[0].id_string), name) if brokers else None
        )
        return int(told) if told is not None and told.isdecimal() else None

    def _setting(self, resource: Any, name: str) -> str | None:
        from confluent_kafka import KafkaException

        try:
            described = self._admin.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)
            settings = answer_of(described[resource], REQUEST_TIMEOUT_S)
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

        (described,) = self.ask(ask, f"group {group} cannot be described").answers()
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
        from confluent_kafka import KafkaException

        from streamcore.group_offsets import GroupOffsets

        asker = GroupOffsets(self._connection, group)
        try:
            return asker.of(topic, list(lanes), REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._failed(f"offsets of group {group} cannot be listed", error) from error
        finally:
            asker.close()

    def delete_group(self, group: str) -> None:
        """Deletes a group without members, and its offsets; one that is not there is none. Raises `FencedError` for one that has members."""
        from confluent_kafka import KafkaError, KafkaException

        (deleted,) = self._admin.delete_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S).values()
        try:
            answer_of(deleted, REQUEST_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
                raise FencedError(f"group {group} has a member") from error
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._failed(f"group {group} cannot be deleted", error) from error

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Deletes the records of a topic that are before these offsets. Raises `SourceError`."""
        from confluent_kafka import KafkaException

        futures = self._admin.delete_records(partition_list(topic, before), request_timeout=REQUEST_TIMEOUT_S)
        try:
            for future in futures.values():
                answer_of(future, REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._failed(f"records of topic {topic} cannot be deleted", error) from error

    def offsets(self, topic: str, lanes: Iterable[int], at: str | int, *, committed: bool = True) -> dict[int, int]:
        """For each lane the `earliest` offset, the `latest` readable one, or the first at or after `at` ms.

        The latest readable one is the last stable offset; where `committed` is false, the high watermark. -1: no record is
        as late as `at`.
        """
        return self.offsets_at(topic, lanes, [at], committed=committed)[0]

    def offsets_at(
        self,
        topic: str,
        lanes: Iterable[int],
        at: Sequence[str | int],
        *,
        committed: bool = True,
        within_s: float = REQUEST_TIMEOUT_S,
    ) -> list[dict[int, int]]:
        """`offsets` for each of `at`, in requests side by side."""
        places = [(topic, lane) for lane in lanes]

        def ask() -> list[Future[Any]]:
            return [future for each in at for future in self.places_later(places, each, committed=committed)]

        answers = self.ask(ask, f"offsets of topic {topic} cannot be listed", within_s=within_s).answers()
        told = iter([answer.offset for answer in answers])
        return [{lane: next(told) for _, lane in places} for _ in at]

    def places_later(
        self, places: Sequence[tuple[str, int]], at: str | int, *, committed: bool = True
    ) -> list[Future[Any]]:
        """`offsets` of topics and partitions, in one request, without waiting, also of the `newest` timestamp: futures of objects with `.offset` and `.timestamp`, in order.

        While no broker answers they may stay open for ever, whatever the request's own timeout.
        """
        from confluent_kafka import IsolationLevel, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        if not places:
            return []
        words = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest, "newest": OffsetSpec.max_timestamp}
        spec = words.get(str(at))
        wanted = spec() if spec is not None else OffsetSpec.for_timestamp(int(at))
        futures = self._admin.list_offsets(
            {TopicPartition(topic, lane): wanted for topic, lane in places},
            isolation_level=IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        asked = {(part.topic, part.partition): future for part, future in futures.items()}
        return [asked[place] for place in places]

    def offsets_later(self, topic: str, lanes: Sequence[int], at: str | int) -> dict[int, Future[Any]]:
        """`places_later` of lanes of one topic."""
        return dict(zip(lanes, self.places_later([(topic, lane) for lane in lanes], at), strict=True))


def is_passing(error: Any) -> bool:
    """Whether this `KafkaError` passes by itself: the client goes on trying, and whoever waits has a bound of its own."""
    return error.name() in PASSING


def partition_list(topic: str, positions: Mapping[int, int] | Sequence[int]) -> list[Any]:
    """`TopicPartition` objects of lanes, with offsets where `positions` has them."""
    from confluent_kafka import TopicPartition

    if isinstance(positions, Mapping):
        return [TopicPartition(topic, lane, offset) for lane, offset in positions.items()]
    return [TopicPartition(topic, lane) for lane in positions]
