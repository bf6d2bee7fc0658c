"""The Kafka source against a real broker: where it starts and stops, and what it hands out."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from streamcore.errors import ConfigError, SourceError, StateError
from streamcore.kafka_client import Cluster
from streamcore.sources.base import Start
from streamcore.sources.kafka import KafkaSource
from tests.integration.kafka_tools import (
    byte_count,
    caught_up,
    committed_offsets,
    connection,
    create_topic,
    ended,
    make_source,
    open_transaction,
    opened,
    poll_until,
    produce,
    record_count,
    records,
    transaction,
)
from tests.servers.kafka import USER, KafkaServer
from tests.servers.ports import free_ports

HOUR_MS = 3_600_000


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def test_every_partition_is_a_lane_and_every_record_comes_once(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=3)
    for lane in range(3):
        produce(kafka_server, unique, numbered(1_000 * (lane + 1)), partition=lane)
    source = make_source(kafka_server, unique, group=unique, stop="end", source={"poll_records_max": 700})
    try:
        assert source.open(Start()) == [0, 1, 2]
        polled = poll_until(source, ended)
        assert source.positions() == {0: 1_000, 1: 2_000, 2: 3_000}
    finally:
        source.close()
    assert record_count(polled) == 6_000
    assert byte_count(polled) == sum(len(value) for lane in range(3) for value in numbered(1_000 * (lane + 1)))
    assert max(len(one.raw) for one in polled if one.raw) <= 700
    assert source.bounded


def test_nothing_is_committed_by_itself(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(100))
    with opened(kafka_server, unique, group=unique) as source:
        poll_until(source, records(100))
    assert committed_offsets(kafka_server, unique, unique, 1) == {0: -1001}


def test_the_group_gets_the_positions_of_the_last_commit_when_the_source_closes(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique, partitions=2)
    produce(kafka_server, unique, numbered(100), partition=1)
    with opened(kafka_server, unique, group=unique) as source:
        poll_until(source, records(100))
        source.committed(source.positions())
    assert committed_offsets(kafka_server, unique, unique, 2) == {0: 0, 1: 100}


def test_a_new_start_goes_on_at_the_groups_offsets_and_a_checkpoint_wins_over_them(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(100))
    with opened(kafka_server, unique, group=unique) as source:
        source.committed({0: 60})
    with opened(kafka_server, unique, group=unique) as source:
        assert source.positions() == {0: 60}
    with opened(kafka_server, unique, Start({0: 30}), group=unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 70


def test_without_a_group_nothing_is_left_behind(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(10))
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
    before = {group.group_id for group in admin.list_consumer_groups().result().valid}
    with opened(kafka_server, unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 10
        source.committed(source.positions())
    assert {group.group_id for group in admin.list_consumer_groups().result().valid} == before


@pytest.mark.parametrize(
    ("start", "first"),
    [("earliest", 0), ("latest", 30), ("2020-01-01T02:00:00Z", 20), ("2020-01-01T02:00:00.001Z", 30), ("-1h", 30)],
)
def test_start_policies(kafka_server: KafkaServer, unique: str, start: str, first: int) -> None:
    create_topic(kafka_server, unique)
    begin_ms = 1_577_836_800_000  # 2020-01-01T00:00:00Z
    for hour in range(3):
        produce(kafka_server, unique, numbered(10), timestamp=begin_ms + hour * HOUR_MS)
    with opened(kafka_server, unique, Start(default=start)) as source:
        assert source.positions() == {0: first}


def test_stop_end_leaves_what_comes_later_to_a_later_run(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    produce(kafka_server, unique, numbered(100), partition=0)
    with opened(kafka_server, unique, group=unique, stop="end") as source:
        # The first batch will run over the stop.
        produce(kafka_server, unique, numbered(50, first=100), partition=0)
        produce(kafka_server, unique, numbered(50), partition=1)
        polled = poll_until(source, ended)
        assert record_count(polled) == 100
        assert byte_count(polled) == sum(map(len, numbered(100)))
        assert source.positions() == {0: 100, 1: 0}
        positions = source.positions()
    with opened(kafka_server, unique, Start(positions), group=unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 100


def test_stop_at_a_time_is_no_end_of_the_input(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    for hour in range(3):
        produce(kafka_server, unique, numbered(10), timestamp=1_577_836_800_000 + hour * HOUR_MS)
    with opened(kafka_server, unique, stop="2020-01-01T01:00:00Z") as source:
        assert record_count(poll_until(source, ended)) == 10
        assert not source.bounded
    with pytest.raises(ConfigError, match="--for"):
        make_source(kafka_server, unique, stop="2999-01-01T00:00:00Z").open(Start())


def test_the_end_is_the_last_stable_offset_and_markers_count(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(10))
    transaction(kafka_server, unique, numbered(10), commit=True)  # offsets 10 to 19, marker 20
    transaction(kafka_server, unique, numbered(10), commit=False)  # offsets 21 to 30, marker 31
    with opened(kafka_server, unique, group=unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 20
        assert source.positions() == {0: 32}
    pending = open_transaction(kafka_server, unique, numbered(10))
    produce(kafka_server, unique, numbered(10))  # behind the open transaction: not readable yet
    with opened(kafka_server, unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 20
        assert source.positions() == {0: 32}
    pending.abort_transaction(30)


def test_a_lane_is_caught_up_only_when_everything_readable_is_read(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    produce(kafka_server, unique, numbered(10))
    with opened(kafka_server, unique, group=unique) as source:
        first = source.poll(0.0)
        assert 0 not in first.caught_up or source.positions()[0] == 10
        poll_until(source, caught_up(0, 1))
        transaction(kafka_server, unique, numbered(5), commit=False)
        poll_until(source, lambda _: source.positions() == {0: 16, 1: 0})
        poll_until(source, caught_up(0, 1))
        source.pause([0])
        assert source.poll(0.0).caught_up == (1,)
        source.pause([])
        poll_until(source, caught_up(0, 1))


def test_going_back_to_records_that_the_client_has_given_up_names_the_gap(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(100))
    with opened(kafka_server, unique, group=unique, source={"transport": "librdkafka"}) as source:
        delete_before(kafka_server, unique, 50)
        with pytest.raises(StateError, match="records 10 to 49 of partition 0"):
            go_back_often(source, 10)


def delete_before(server: KafkaServer, topic: str, offset: int) -> None:
    admin, part = AdminClient({"bootstrap.servers": server.bootstrap_servers}), TopicPartition(topic, 0, offset)
    admin.delete_records([part])[part].result()


def go_back_often(source: KafkaSource, position: int) -> None:
    """The first time may be in order; then the broker refuses to send what is not there."""
    for _ in range(100):
        source.seek({0: position})
        time.sleep(0.1)


def read_from(source: KafkaSource, position: int) -> None:
    source.seek({0: position})
    poll_until(source, records(100))


def test_a_gap_left_by_retention_is_an_error_that_names_it(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(100))
    with opened(kafka_server, unique, group=unique, source={"transport": "librdkafka"}) as source:
        delete_before(kafka_server, unique, 50)
        with pytest.raises(StateError, match="records 10 to 49 of partition 0"):
            read_from(source, 10)
    with pytest.raises(StateError, match="records 10 to 49 of partition 0"):
        make_source(kafka_server, unique, group=unique).open(Start({0: 10}))
    with pytest.raises(StateError, match="ends at 100, before the position 101"):
        make_source(kafka_server, unique, group=unique).open(Start({0: 101}))
    with opened(kafka_server, unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 50


def test_another_topic_under_the_same_name_is_refused(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique) as source:
        before = source.describe()
    assert before["partitions"] == 1
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
    with pytest.raises(StateError, match="had 2 at the checkpoint"):
        make_source(kafka_server, unique).open(Start(previous={**before, "partitions": 2}))
    with pytest.raises(StateError, match="written for topic other"):
        make_source(kafka_server, unique).open(Start(previous={**before, "topic": "other"}))
    admin.delete_topics([unique])[unique].result()
    create_topic(kafka_server, f"{unique}-barrier")  # the deletion is in the metadata once a later change is
    create_topic(kafka_server, unique)
    with pytest.raises(StateError, match="deleted and made again"):
        make_source(kafka_server, unique).open(Start(previous=before))


def test_a_missing_input_is_refused_with_the_name_that_was_meant_and_never_created(
    kafka_server: KafkaServer, unique: str
) -> None:
    """Created, a mistyped topic is empty: `collect()` gave an empty table, and `run` sat at 0 records."""
    create_topic(kafka_server, f"{unique}-clicks")
    with pytest.raises(ConfigError, match="streamcore topics create FILE") as refused:
        make_source(kafka_server, f"{unique}-clikcs").open(Start())
    assert refused.value.exit_code == 3
    assert f'did you mean "{unique}-clicks"?' in str(refused.value)
    cluster = Cluster(connection(kafka_server))
    assert cluster.topic(f"{unique}-clikcs") is None


def test_no_broker_is_one_line_and_exit_code_4(kafka_server: KafkaServer, unique: str) -> None:
    (port,) = free_ports(1)
    settings = {"bootstrap_servers": f"127.0.0.1:{port}", "connect_timeout": "1s"}
    with pytest.raises(SourceError) as error:
        make_source(kafka_server, unique, kafka=settings).open(Start())
    assert error.value.exit_code == 4
    text = str(error.value)
    assert "\n" not in text
    assert f"127.0.0.1:{port} gave no answer within 1s (Connect to ipv4#127.0.0.1:{port} failed: Connection" in text
    assert "KAFKA_BOOTSTRAP_SERVERS" in text


@pytest.mark.parametrize("place", ["source", "kafka"])
def test_settings_that_the_client_refuses_are_a_configuration_error(
    kafka_server: KafkaServer, unique: str, place: str
) -> None:
    create_topic(kafka_server, unique)
    settings = {place: {"options": {"no.such.setting": 1}}}
    with pytest.raises(ConfigError, match=r'No such configuration property: "no.such.setting"') as error:
        make_source(kafka_server, unique, **settings).open(Start())
    assert error.value.exit_code == 3


def login(server: KafkaServer, password: str) -> dict[str, str]:
    return {
        "bootstrap_servers": server.sasl_bootstrap_servers,
        "security_protocol": "sasl_plaintext",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER[0],
        "sasl_password": password,
    }


def test_a_login_works(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(10))
    with opened(kafka_server, unique, kafka=login(kafka_server, USER[1]), group=unique, stop="end") as source:
        assert record_count(poll_until(source, ended)) == 10


def test_a_refused_login_is_one_line_without_the_password(
    kafka_server: KafkaServer, unique: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceError) as error:
        make_source(kafka_server, unique, kafka=login(kafka_server, "canary-of-a-password")).open(Start())
    assert error.value.exit_code == 4
    assert "refused the login of 'alice' (SCRAM-SHA-512)" in str(error.value)
    assert "\n" not in str(error.value)
    output = capfd.readouterr()
    assert "canary" not in f"{error.value!r}{caplog.text}{output.out}{output.err}"
