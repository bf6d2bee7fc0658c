"""What the fetcher says of connections, where the client beside it would be refused first: one line, what to do, no secret."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import ConfigError
from tests.integration.kafka_tools import TIMEOUT_S, create_topic, produce
from tests.servers.kafka import USER
from tests.servers.secure_kafka import KEY_PASSWORD, Issuer, SecureKafka

RECORDS = 50
SECRET = "canary-secret"
PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

QUICK = {"reconnect.backoff.max.ms": "200", "socket.connection.setup.timeout.ms": "1000"}
"""What passes is tried again for so long before it is told."""

Settings = dict[str, str]


@contextmanager
def fetching(
    secure: SecureKafka,
    listener: str,
    topic: str,
    settings: Mapping[str, str],
    tokens: Callable[[str], Any] | None = None,
) -> Iterator[_core.Fetcher]:
    own = {"bootstrap.servers": secure.bootstrap(listener), **QUICK, **settings}
    fetcher = _core.Fetcher(own, keys=False, headers=False, tokens=tokens, wait_ms=100)
    try:
        fetcher.assign({(topic, 0): 0}, False)
        yield fetcher
    finally:
        fetcher.close()


def fetched(fetcher: _core.Fetcher, count: int = RECORDS) -> int:
    """How many records came, once they are so many."""
    deadline, found = time.monotonic() + TIMEOUT_S, 0
    while found < count:
        raw, _, _, troubles = fetcher.take(1_000, 0.1)
        assert troubles == []
        assert time.monotonic() < deadline, fetcher.progress()
        found += len(raw)
    return found


def failure(fetcher: _core.Fetcher) -> str:
    """What stops it."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        raw, _, _, troubles = fetcher.take(1_000, 0.05)
        assert len(raw) == 0
        if troubles:
            ((_, kind, words),) = troubles
            assert kind == "failed"
            return words
        assert time.monotonic() < deadline, fetcher.progress()


def complaint(fetcher: _core.Fetcher) -> str:
    """What it says while it goes on trying."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        raw, _, _, troubles = fetcher.take(1_000, 0.05)
        assert (len(raw), troubles) == (0, [])
        (told,) = fetcher.progress().values()
        if told["last_failure"] is not None:
            return str(told["last_failure"])
        assert time.monotonic() < deadline, told


@pytest.fixture
def topic(secure_kafka: SecureKafka, unique: str) -> str:
    create_topic(secure_kafka.server, unique)
    produce(secure_kafka.server, unique, [b"%d" % number for number in range(RECORDS)])
    return unique


def tls(secure: SecureKafka, **more: str) -> Settings:
    named = {f"ssl.{name.replace('_', '.')}": value for name, value in more.items()}
    return {"security.protocol": "ssl", "ssl.ca.location": str(secure.authority.certificate), **named}


def login(mechanism: str, password: str = USER[1]) -> Settings:
    own = {"sasl.mechanism": mechanism, "sasl.username": USER[0], "sasl.password": password}
    return {"security.protocol": "sasl_plaintext", **own}


def over_tls(secure: SecureKafka, settings: Settings) -> Settings:
    return {**tls(secure), **settings, "security.protocol": "sasl_ssl"}


PLAIN_LISTENER = "look whether that is a TLS listener (security_protocol)"
LOGIN_LISTENER = "look whether that listener wants a login (security_protocol)"


@dataclass(frozen=True)
class Wrong:
    """A way that is not right."""

    name: str
    listener: str
    settings: Callable[[SecureKafka], Settings]
    told: str
    passes: bool = False
    """Whether the fetcher goes on trying."""

    def __str__(self) -> str:
        return self.name


WRONG = [
    Wrong(
        "an unknown authority",
        "TLS",
        lambda secure: tls(secure, ca_location=str(secure.namesake.certificate)),
        "TLS failed: no known authority signed its certificate; set ssl_ca_location to the file of the one that did",
    ),
    Wrong(
        "an expired certificate",
        "EXPIRED",
        tls,
        "TLS failed: its certificate has expired; renew it, or correct the clock of this machine",
    ),
    Wrong(
        "another host",
        "ELSEWHERE",
        tls,
        "TLS failed: its certificate is not of this host but of elsewhere.test; use a name that is in its subjectAltName",
    ),
    Wrong(
        "no client certificate",
        "MUTUAL",
        tls,
        "TLS failed: it wants a client certificate; set ssl_certificate_location and ssl_key_location",
    ),
    Wrong(
        "plain text to TLS", "TLS", lambda _: {}, "; that is a TLS listener: set security_protocol to ssl or sasl_ssl"
    ),
    Wrong("TLS to plain text", "LOGIN", tls, PLAIN_LISTENER, passes=True),
    Wrong("no login", "LOGIN", lambda _: {}, LOGIN_LISTENER, passes=True),
    Wrong(
        "a login where there is none",
        "TLS",
        lambda secure: over_tls(secure, login("PLAIN")),
        "the login by PLAIN failed: that listener has no login; correct security_protocol or the port",
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_is_wrong_is_one_line(secure_kafka: SecureKafka, topic: str, wrong: Wrong) -> None:
    with fetching(secure_kafka, wrong.listener, topic, wrong.settings(secure_kafka)) as fetcher:
        words = complaint(fetcher) if wrong.passes else failure(fetcher)
    assert words.startswith(f"Kafka broker {secure_kafka.bootstrap(wrong.listener)}: ")
    assert wrong.told in words
    assert "\n" not in words


@pytest.mark.parametrize("which", ["strange_client", "expired_client"])
def test_a_client_certificate_that_is_refused_is_told(secure_kafka: SecureKafka, topic: str, which: str) -> None:
    identity = getattr(secure_kafka, which)
    files = {"certificate_location": str(identity.certificate), "key_location": str(identity.key)}
    with fetching(secure_kafka, "MUTUAL", topic, tls(secure_kafka, **files)) as fetcher:
        words = failure(fetcher)
    assert "TLS failed: it refuses our client certificate" in words


@pytest.mark.parametrize("mechanism", PASSWORDS)
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_wrong_password_is_refused_and_not_shown(
    secure_kafka: SecureKafka, topic: str, mechanism: str, *, is_tls: bool
) -> None:
    settings = login(mechanism, SECRET)
    if is_tls:
        settings = over_tls(secure_kafka, settings)
    with fetching(secure_kafka, "TLSLOGIN" if is_tls else "LOGIN", topic, settings) as fetcher:
        words = failure(fetcher)
    assert f"the login by {mechanism} failed: the broker refuses the credentials" in words
    assert words.endswith("; correct the user, password or token")
    assert SECRET not in words


def test_a_mechanism_that_is_not_offered_is_told_with_those_that_are(secure_kafka: SecureKafka, topic: str) -> None:
    settings = {"bootstrap.servers": secure_kafka.server.sasl_bootstrap_servers, **login("SCRAM-SHA-256")}
    with fetching(secure_kafka, "LOGIN", topic, settings) as fetcher:
        words = failure(fetcher)
    assert "the broker offers SCRAM-SHA-512 alone; set sasl_mechanism to one of these" in words


def test_a_token_that_is_refused_is_not_shown(secure_kafka: SecureKafka, topic: str) -> None:
    token = Issuer().token()
    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "OAUTHBEARER"}
    with fetching(secure_kafka, "LOGIN", topic, settings, lambda _: token) as fetcher:
        words = failure(fetcher)
    assert "the login by OAUTHBEARER failed: the broker refuses the credentials" in words
    assert not [part for part in token[0].split(".") if part in words]


def test_a_callback_that_fails_is_asked_again(secure_kafka: SecureKafka, topic: str) -> None:
    given: list[tuple[str, float]] = []

    def tokens(config: str) -> tuple[str, float]:
        if not given:
            raise LookupError(SECRET + config)
        return given[0]

    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "OAUTHBEARER"}
    with fetching(secure_kafka, "LOGIN", topic, settings, tokens) as fetcher:
        words = complaint(fetcher)
        assert "there is no token: it raised LookupError; look at what the token callback logs" in words
        assert SECRET not in words
        given.append(secure_kafka.issuer.token())
        assert fetched(fetcher) == RECORDS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ssl.ca.location": "no/such/file.pem"}, "ssl.ca.location cannot be used: no/such/file.pem cannot be read"),
        ({"ssl.ca.pem": SECRET}, "ssl.ca.location cannot be used: there is no certificate in PEM"),
        ({"ssl.key.pem": SECRET}, "ssl.certificate.location cannot be used: a client key needs its certificate"),
        ({"ssl.key.pem": SECRET, "ssl.certificate.pem": "CERTIFICATE"}, "there is no private key in PEM"),
        ({"ssl.key.pem": "ENCRYPTED", "ssl.certificate.pem": "CERTIFICATE"}, "the key is encrypted; decrypt it"),
        ({"ssl.key.pem": "STRANGE", "ssl.certificate.pem": "CERTIFICATE"}, "ssl.certificate.location cannot be used"),
    ],
)
def test_certificates_and_keys_that_cannot_be_used_are_named(
    secure_kafka: SecureKafka, settings: Settings, words: str
) -> None:
    pems = {
        "CERTIFICATE": secure_kafka.client.certificate.read_text(),
        "ENCRYPTED": secure_kafka.client.encrypted_key.read_text(),
        "STRANGE": secure_kafka.strange_client.key.read_text(),
    }
    filled = {name: pems.get(value, value) for name, value in settings.items()}
    own = {"bootstrap.servers": secure_kafka.bootstrap("TLS"), **tls(secure_kafka), **filled}
    with pytest.raises(ConfigError) as caught:
        _core.Fetcher(own, keys=False, headers=False)
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    hidden = [line for name, pem in pems.items() if name != "CERTIFICATE" for line in pem.splitlines()[1:-1]]
    assert not [secret for secret in (SECRET, KEY_PASSWORD, *hidden) if secret in text]
