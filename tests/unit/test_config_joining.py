"""How a pipeline becomes an input of another."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.config import KafkaInputConfig, KafkaSourceConfig, kafka_connection
from streamcore.config.joining import with_input
from streamcore.errors import ConfigError

SCHEMA = {"k": "string"}


def kafka(topic: str, servers: str) -> sc.Pipeline:
    return sc.kafka(topic, connection={"bootstrap_servers": servers}, schema=SCHEMA)


def test_an_input_of_another_cluster_keeps_its_connection() -> None:
    joined = kafka("a", "one:9092").join(kafka("b", "two:9092"), on="k", within="1s").config
    own, other = joined.source, joined.sources["right"]
    assert isinstance(own, KafkaSourceConfig)
    assert isinstance(other, KafkaInputConfig)
    assert kafka_connection(joined, own.connection).bootstrap_servers == "one:9092"
    assert kafka_connection(joined, other.connection).bootstrap_servers == "two:9092"


def test_an_input_of_the_same_cluster_needs_no_name_for_it() -> None:
    joined = kafka("a", "one:9092").join(kafka("b", "one:9092"), on="k", within="1s").config
    assert joined.connections == {}


def test_the_name_of_an_input_is_the_one_given_or_that_of_its_pipeline() -> None:
    left, right = kafka("a", "one:9092"), kafka("b", "one:9092")
    assert list(left.join(right, on="k", within="1s", name="b").config.sources) == ["b"]
    assert list(left.join(right.configure(name="c"), on="k", within="1s").config.sources) == ["c"]
    joined = left.join(right, on="k", within="1s").config
    with pytest.raises(ConfigError, match='there is an input called "right" already'):
        with_input(joined, right.config, name=None, table=False)
