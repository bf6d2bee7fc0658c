"""How brokers and stores are reached."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from streamcore.config import KafkaConnection, RedisConnection


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN"}, "needs security_protocol"),
        ({"security_protocol": "sasl_plaintext", "sasl_mechanism": "plain"}, "in the clear"),
        ({"options": {"enable.auto.commit": True}}, "enable.auto.commit is set by streamcore"),
        (
            {"options": {"transaction.timeout.ms": 1}},
            "by streamcore and cannot be an option; it follows from commit_interval",
        ),
    ],
)
def test_connections_that_would_not_work_or_not_be_safe(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KafkaConnection.model_validate(keys)


def test_logins_may_be_written_as_clients_write_them() -> None:
    connection = KafkaConnection.model_validate(
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "scram_sha_512", "sasl_password": "canary"}
    )
    assert (connection.security_protocol, connection.sasl_mechanism) == ("sasl_ssl", "SCRAM-SHA-512")
    clear = {"security_protocol": "sasl_plaintext", "sasl_mechanism": "PLAIN", "insecure": True}
    assert KafkaConnection.model_validate(clear).insecure


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bootstrap_servers": "ann:CANARY@host:1"}, "has an @ as of a login"),
        ({"options": {"ssl.keystore.password": ["CANARY"]}}, "ssl.keystore.password must be text, a number"),
        ({"options": {"sasl.password": {"CANARY": 1}}}, "sasl.password must be text, a number"),
    ],
)
def test_a_login_in_the_wrong_place_is_not_shown(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        KafkaConnection.model_validate(keys)
    assert "CANARY" not in str(caught.value)


def test_a_wrong_url_is_not_shown() -> None:
    with pytest.raises(ValidationError, match="starts with redis://") as caught:
        RedisConnection.model_validate({"url": "http://:canary@h"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:CAN/ARY@host:1/0", "cannot be read; write it as .* with %2F for /"),
        ("redis://:1/CANARY@host:1/0", "has no host"),
        ("redis://user:1/CANARY@host:1/0", "is not the number of a database"),
        ("redis://:CANARY#x@host:1/0", "cannot be read"),
        ("redis://user:1#CANARY@host/0", "a bare #"),
        ("redis://user:1?CANARY@host/0", "cannot be read"),
        ("redis://user:1?CANARY=@host/0", "a setting after . that is not known; known here: db$"),
        ("redis://:CANARY@host:notaport/0", "cannot be read"),
        ("redis://:CANARY@host:99999/0", "cannot be read"),
        ("redis://:CANARY@[::1", "cannot be read"),
        ("redis://:CANARY@host/0?foo=bar", "known here: db$"),
        ("rediss://:CANARY@host/0?ssl_cert_reqs=none", "known here: db, ssl_ca_certs, ssl_certfile, ssl_keyfile$"),
        ("redis://:CANARY@host/?db=x", "db in the Redis URL is not a number"),
        ("redis://:CANARY@host/zero", "is not the number of a database"),
        ("redis://:CANARY@:6379/0", "has no host"),
        ("redis://", "has no host"),
        ("redis:///0", "has no host"),
        ("unix://:CANARY@", "names no socket"),
    ],
)
def test_a_url_the_client_cannot_use_is_refused_and_no_part_of_it_shown(url: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisConnection.model_validate({"url": url})
    [found] = caught.value.errors(include_input=False)
    assert re.search(message, found["msg"]), found["msg"]
    assert not re.search("CAN|ARY|notaport|foo", f"{caught.value} {found}")


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host/",
        "redis://user:p%2Fw@host:6379/15",
        "redis://:p@ss@host:1",
        "redis://[::1]:6379/0?db=3",
        "rediss://host/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_urls_that_the_client_takes(url: str) -> None:
    assert RedisConnection.model_validate({"url": url}).url.get_secret_value() == url
    redis.Redis.from_url(url).connection_pool.make_connection()
