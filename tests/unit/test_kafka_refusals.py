"""What the client reported, in words."""

from __future__ import annotations

import pytest

from streamcore.config import KafkaConnection
from streamcore.kafka_refusals import bare, certificate_fault, refusal, silence
from tests.servers.ports import free_ports

CONNECTION = KafkaConnection(bootstrap_servers="kafka:1", connect_timeout="2s")
BROKER = "ssl://127.0.0.1:1/bootstrap: "


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, "gave no answer within 2s; start the broker"),
        ({"_ALL_BROKERS_DOWN": "1/1"}, "(it closes each connection); look whether it wants TLS or a login"),
        (
            {"_TRANSPORT": f"{BROKER}Connect failed: no\n (after 0ms in state)"},
            "(Connect failed: no); start the broker",
        ),
        ({"_TRANSPORT": f"{BROKER}closed: connecting to a PLAINTEXT broker listener?"}, "(it does not speak TLS)"),
    ],
)
def test_silence_says_what_is_known(seen: dict[str, str], words: str) -> None:
    assert words in silence(CONNECTION, seen)


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("alert bad certificate: SSL alert number 42", {}, "it wants a client certificate"),
        ("alert unknown ca: SSL alert number 48", {"ssl.certificate.pem": "c"}, "our client certificate (unknown ca)"),
        ("alert internal error: SSL alert number 80", {}, None),
        ("Connection refused", {}, None),
    ],
)
def test_an_alert_about_our_certificate_is_a_refusal(text: str, settings: dict[str, str], words: str | None) -> None:
    found = refusal(
        CONNECTION, settings, {"_TRANSPORT": f"{BROKER}Receive failed: error:0A:SSL routines::sslv3 {text}"}
    )
    assert found is None if words is None else found is not None and words in found


def test_a_handshake_that_tells_nothing_leaves_the_words_of_the_client() -> None:
    (port,) = free_ports(1)
    text = f"ssl://127.0.0.1:{port}/1: SSL handshake failed: odd\n (after 3ms in state SSL_HANDSHAKE)"
    assert certificate_fault({}, text) is None
    assert certificate_fault({}, "odd") is None
    assert certificate_fault({"ssl.ca.location": "no/such/file"}, text) is None
    assert refusal(CONNECTION, {}, {"_SSL": text}) == (
        "Kafka at kafka:1: TLS failed (SSL handshake failed: odd); check the ssl_ keys"
    )
    assert bare("nobody: said") == "nobody: said"
