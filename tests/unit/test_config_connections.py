"""How brokers and stores are reached."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import KafkaConnection, RedisConnection


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN"}, "needs security_protocol"),
        ({"security_protocol": "sasl_plaintext", "sasl_mechanism": "plain"}, "in the clear"),
        ({"options": {"enable.auto.commit": True}}, "enable.auto.commit is set by streamcore"),
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


def test_a_wrong_url_is_not_shown() -> None:
    with pytest.raises(ValidationError, match="starts with redis://") as caught:
        RedisConnection.model_validate({"url": "http://:canary@h"})
    assert "canary" not in str(caught.value)
