"""Client settings: who wins, and what never leaves."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future
from typing import Any, cast

import pytest

from streamcore.config import KafkaConnection
from streamcore.errors import ConfigError, Error, SourceError
from streamcore.kafka_client import Cluster, application, client_settings, creating_client, partition_list
from streamcore.topics import TopicPlan


def consumer_settings(connection: KafkaConnection, **layers: Any) -> dict[str, Any]:
    made = application(connection, group="g", defaults=layers.get("defaults", {}), settings=layers.get("settings", {}))
    settings: dict[str, Any] = made.get_consumer(auto_commit_enable=False)._consumer_config
    return settings


def test_defaults_give_way_to_options_and_those_to_what_is_ours() -> None:
    connection = KafkaConnection(options={"fetch.max.bytes": 2, "check.crcs": False})
    settings = consumer_settings(
        connection,
        defaults={"fetch.max.bytes": 1, "fetch.wait.max.ms": 1},
        settings={"check.crcs": True},
    )
    assert (settings["fetch.max.bytes"], settings["fetch.wait.max.ms"], settings["check.crcs"]) == (2, 1, True)
    assert settings["client.id"] == "streamcore"
    assert consumer_settings(KafkaConnection(options={"client.id": "mine"}))["client.id"] == "mine"


def test_a_consumer_commits_and_resets_nothing_by_itself() -> None:
    settings = consumer_settings(KafkaConnection())
    assert settings["enable.auto.commit"] is False
    assert settings["enable.auto.offset.store"] is False
    assert settings["auto.offset.reset"] == "error"


def test_logins_reach_the_client_and_nothing_else() -> None:
    connection = KafkaConnection(
        security_protocol="sasl_ssl",
        sasl_mechanism="PLAIN",
        sasl_username="ann",
        sasl_password="canary",
        ssl_key_password="canary",
        ssl_ca_location="/ca.pem",
    )
    settings = client_settings(connection)
    assert settings["sasl.password"] == settings["ssl.key.password"] == "canary"
    assert settings["ssl.ca.location"] == "/ca.pem"
    assert consumer_settings(connection)["sasl.password"] == "canary"
    assert "canary" not in repr(connection)


def test_a_value_that_is_refused_before_the_client_is_made_is_not_shown() -> None:
    connection = KafkaConnection.model_construct(
        bootstrap_servers="host:1", options={"ssl.keystore.password": ["CANARY"]}
    )
    with (
        pytest.raises(ConfigError, match=r"ssl\.keystore\.password has a value") as caught,
        creating_client(connection),
    ):
        application(connection, group="", defaults={}, settings={})
    assert "CANARY" not in str(caught.value)


def test_refused_settings_are_a_configuration_error() -> None:
    from confluent_kafka import Producer

    with pytest.raises(ConfigError, match="the client for somewhere:1 cannot be made: No such configuration property"):  # noqa: SIM117
        with creating_client(KafkaConnection(bootstrap_servers="somewhere:1")):
            Producer({"nothing.like.this": 1})


def test_partitions_with_and_without_offsets() -> None:
    placed = partition_list("t", {2: 7})
    assert [(part.topic, part.partition, part.offset) for part in placed] == [("t", 2, 7)]
    assert [part.partition for part in partition_list("t", [0, 1])] == [0, 1]


def test_making_a_client_leaves_logging_and_warnings_of_the_program_alone() -> None:
    program = """
import logging, warnings
warnings.simplefilter("error")
before = list(warnings.filters)
from streamcore.config import KafkaConnection
from streamcore.kafka_client import application
application(KafkaConnection(), group="g", defaults={}, settings={})
assert warnings.filters == before, set(warnings.filters) - set(before)
assert logging.getLogger().handlers == []
assert all(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("quixstreams").handlers)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Refusing:
    """An admin client whose every topic ends so."""

    def __init__(self, code: int) -> None:
        self._code = code

    def create_topics(self, topics: list[Any], **_: Any) -> dict[str, Future[None]]:
        from confluent_kafka import KafkaError, KafkaException

        future: Future[None] = Future()
        future.set_exception(KafkaException(KafkaError(self._code)))
        return {topic.topic: future for topic in topics}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("_TIMED_OUT", SourceError), ("REQUEST_TIMED_OUT", SourceError), ("POLICY_VIOLATION", ConfigError)],
)
def test_a_topic_that_nobody_answered_for_is_no_mistake_of_the_configuration(name: str, expected: type[Error]) -> None:
    """A worker that starts beside a broker which is busy coming up is to be started again, and is not to be given up."""
    from confluent_kafka import KafkaError

    cluster = Cluster(KafkaConnection())
    cluster._admin = cast("Any", Refusing(getattr(KafkaError, name)))
    with pytest.raises(expected) as caught:
        cluster.create_topic(TopicPlan("t", "state", 1, {}))
    assert getattr(caught.value, "unreachable", False) == (expected is SourceError)


class Silent:
    """An admin client that never answers, and never says that the time is over."""

    def __init__(self) -> None:
        self.requests = 0

    def list_offsets(self, wanted: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        self.requests += 1
        return {part: Future() for part in wanted}


def test_a_broker_that_goes_away_between_a_question_and_its_answer_is_not_waited_for_longer_than_said() -> None:
    """It was waited for without an end: the run polled nothing any more, and SIGTERM was not served."""
    cluster, silent = Cluster(KafkaConnection()), Silent()
    cluster._admin = cast("Any", silent)
    began_s = time.monotonic()
    with pytest.raises(SourceError, match="offsets of topic t cannot be listed") as caught:
        cluster.offsets_at("t", [0, 1, 2], ["earliest", "latest"], within_s=0.1)
    assert caught.value.unreachable
    assert time.monotonic() - began_s < 5
    assert silent.requests == 2


def test_an_administration_that_is_refused_says_what_to_grant() -> None:
    from confluent_kafka import KafkaError, KafkaException

    failure = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    refusal = Cluster(KafkaConnection())._failed("group g cannot be described", failure)
    assert isinstance(refusal, ConfigError)
    assert "group g cannot be described" in str(refusal)
    assert "READ on group" in str(refusal)
