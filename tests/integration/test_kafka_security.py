"""Connections with TLS and logins, by both transports, as a shell sees them: rows, or exit code 4 and one line without a secret."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.secure_job import RECORDS, Ended, SecureJob, lines
from tests.integration.state_job import PIPELINE, Job
from tests.servers.certificates import Identity
from tests.servers.kafka import USER
from tests.servers.secure_kafka import KEY_PASSWORD, Issuer, SecureKafka

TRANSPORTS = ("native", "librdkafka")
PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
EXIT_CONFIG, EXIT_UNREACHABLE = 3, 4
WRONG_PASSWORD = "canary-password"
REFUSED_WITHIN_S = 15.0
"""Of a run that is refused: its connect_timeout, and much for a busy machine."""

Settings = Mapping[str, Any]


@pytest.fixture
def job(secure_kafka: SecureKafka, unique: str, tmp_path: Path) -> SecureJob:
    return SecureJob(secure_kafka, unique, tmp_path)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., Ended]:
    return lambda job, target, transport: job.run(target, transport, capfd, caplog)


Run = Callable[[SecureJob, str, str], Ended]


def tls(secure: SecureKafka, **more: Any) -> dict[str, Any]:
    return {"security_protocol": "ssl", "ssl_ca_location": str(secure.authority.certificate), **more}


def shown(identity: Identity) -> dict[str, str]:
    return {"ssl_certificate_location": str(identity.certificate), "ssl_key_location": str(identity.key)}


def client_of(which: str) -> Callable[[SecureKafka], Settings]:
    return lambda secure: tls(secure, **shown(getattr(secure, which)))


def login(mechanism: str, password: str = USER[1], *, over_tls: bool = False) -> Callable[[SecureKafka], Settings]:
    own = {"sasl_mechanism": mechanism, "sasl_username": USER[0], "sasl_password": password}
    plain = {**own, "security_protocol": "sasl_plaintext", "insecure": True}
    return lambda secure: {**tls(secure), **own, "security_protocol": "sasl_ssl"} if over_tls else plain


SCRAM_OVER_TLS = login("SCRAM-SHA-512", over_tls=True)


def secrets(secure: SecureKafka) -> list[str]:
    """What no output may have in it: of keys their lines."""
    identities = (secure.client, secure.expired_client, secure.strange_client)
    files = [path for one in identities for path in (one.key, one.encrypted_key)]
    keys = [line for path in files for line in path.read_text().splitlines() if not line.startswith("-")]
    return [USER[1], WRONG_PASSWORD, KEY_PASSWORD, *keys]


def check_secrets(ended: Ended, secure: SecureKafka, *more: str) -> None:
    assert not [secret for secret in (*secrets(secure), *more) if secret in ended.everything]


@dataclass(frozen=True)
class Way:
    """A way in that is right, or that is not."""

    name: str
    listener: str
    settings: Callable[[SecureKafka], Settings]
    options: Callable[[SecureKafka], Settings] = field(default=lambda _: {})
    told: str = ""
    """Of the line that says what is wrong."""
    hint: str = ""

    def __str__(self) -> str:
        return self.name


RIGHT = [
    Way("a CA in a file", "TLS", tls),
    Way(
        "a CA as text",
        "TLS",
        lambda _: {"security_protocol": "ssl"},
        lambda secure: {"ssl.ca.pem": secure.authority.certificate.read_text()},
    ),
    Way("a client certificate in files", "MUTUAL", lambda secure: tls(secure, **shown(secure.client))),
    Way(
        "a client certificate as text",
        "MUTUAL",
        tls,
        lambda secure: {
            "ssl.certificate.pem": secure.client.certificate.read_text(),
            "ssl.key.pem": secure.client.key.read_text(),
        },
    ),
    *(Way(f"{name} without TLS", "LOGIN", login(name)) for name in PASSWORDS),
    *(Way(f"{name} over TLS", "TLSLOGIN", login(name, over_tls=True)) for name in PASSWORDS),
]

WRONG = [
    Way(
        "an unknown authority",
        "TLS",
        lambda secure: tls(secure, ssl_ca_location=str(secure.namesake.certificate)),
        told="TLS failed: no known authority signed its certificate",
        hint="set ssl_ca_location to the file of the one that did",
    ),
    Way(
        "an authority of the system",
        "TLS",
        lambda _: {"security_protocol": "ssl"},
        told="TLS failed: no known authority signed its certificate",
        hint="set ssl_ca_location to the file of the one that did",
    ),
    Way(
        "an expired certificate",
        "EXPIRED",
        tls,
        told="TLS failed: its certificate has expired",
        hint="renew it, or correct the clock of this machine",
    ),
    Way(
        "another host",
        "ELSEWHERE",
        tls,
        told="TLS failed: its certificate is not of this host",
        hint="use a name that is in its subjectAltName",
    ),
    Way(
        "no client certificate",
        "MUTUAL",
        tls,
        told="TLS failed: it wants a client certificate",
        hint="set ssl_certificate_location and ssl_key_location",
    ),
    *(
        Way(
            f"a client certificate of {which}",
            "MUTUAL",
            client_of(which),
            told="TLS failed: it refuses our client certificate",
            hint="use one that its authority signed and that has not expired",
        )
        for which in ("strange_client", "expired_client")
    ),
    Way(
        "plain text to TLS",
        "TLS",
        lambda _: {},
        told="gave no answer within 2s (it closes each connection)",
        hint="look whether it wants TLS or a login (security_protocol)",
    ),
    Way(
        "TLS to plain text",
        "LOGIN",
        tls,
        told="gave no answer within 2s (it does not speak TLS)",
        hint="correct security_protocol, or the port in bootstrap_servers",
    ),
    Way(
        "no login",
        "TLSLOGIN",
        tls,
        told="gave no answer within 2s (it closes each connection)",
        hint="look whether it wants TLS or a login (security_protocol)",
    ),
    *(
        Way(
            f"a wrong password of {name}{way}",
            "TLSLOGIN" if way else "LOGIN",
            login(name, WRONG_PASSWORD, over_tls=bool(way)),
            told=f"refused the login of 'alice' ({name})",
            hint="check sasl_username, sasl_password and sasl_mechanism",
        )
        for name in PASSWORDS
        for way in ("", " over TLS")
    ),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("way", RIGHT, ids=str)
def test_what_is_right_brings_all_rows(job: SecureJob, run: Run, way: Way, transport: str) -> None:
    ended = run(job, job.file(way.listener, way.settings(job.secure), way.options(job.secure)), transport)
    assert ended.code == 0, ended.err
    assert ended.numbers == list(range(RECORDS))
    assert "read through librdkafka" not in ended.err
    check_secrets(ended, job.secure)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("way", WRONG, ids=str)
def test_what_is_wrong_is_exit_code_4_and_one_line(job: SecureJob, run: Run, way: Way, transport: str) -> None:
    settings = {"connect_timeout": "2s", **way.settings(job.secure)}
    since_s = time.monotonic()
    ended = run(job, job.file(way.listener, settings, way.options(job.secure)), transport)
    assert time.monotonic() - since_s < REFUSED_WITHIN_S
    assert ended.code == EXIT_UNREACHABLE, ended.err
    assert ended.out == ""
    error, hint = ended.error
    assert error.startswith(f"error: Kafka at {job.secure.bootstrap(way.listener)}")
    assert way.told in error
    assert hint == f"hint: {way.hint}"
    check_secrets(ended, job.secure)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rows_are_written_exactly_once_with_a_login_over_tls(
    secure_kafka: SecureKafka, unique: str, tmp_path: Path, transport: str
) -> None:
    """Producers and all questions go the same way in."""
    settings = lines({"bootstrap_servers": secure_kafka.bootstrap("TLSLOGIN"), **SCRAM_OVER_TLS(secure_kafka)})
    job = Job(secure_kafka.server, unique, tmp_path, text=PIPELINE.replace('bootstrap_servers = "SERVERS"', settings))
    job.send(range(25))
    ended = job.run("--transport", transport)
    assert ended.code == 0, ended.err
    assert job.rows().total() == 18
    assert not [secret for secret in secrets(secure_kafka) if secret in ended.out + ended.err]


@pytest.mark.parametrize("transport", ["auto", "native", "librdkafka"])
def test_a_key_behind_a_password_is_librdkafkas_to_open(job: SecureJob, run: Run, transport: str) -> None:
    secure = job.secure
    settings = {**shown(secure.client), "ssl_key_location": str(secure.client.encrypted_key)}
    ended = run(job, job.file("MUTUAL", tls(secure, **settings, ssl_key_password=KEY_PASSWORD), {}), transport)
    check_secrets(ended, secure)
    if transport == "native":
        assert ended.code == EXIT_CONFIG
        assert "the native transport does not have ssl.key.password" in ended.err
        return
    assert ended.code == 0, ended.err
    assert ended.numbers == list(range(RECORDS))
    told = "is read through librdkafka: the native transport does not have ssl.key.password" in ended.err
    assert told == (transport == "auto")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("over_tls", [False, True])
def test_the_token_of_a_callback_logs_in(job: SecureJob, run: Run, transport: str, *, over_tls: bool) -> None:
    token = job.secure.issuer.token()
    ended = run(job, with_token(job, token, over_tls=over_tls), transport)
    assert ended.code == 0, ended.err
    assert ended.numbers == list(range(RECORDS))
    assert "read through librdkafka" not in ended.err
    check_secrets(ended, job.secure, token[0])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("over_tls", [False, True])
def test_a_token_that_is_refused_is_exit_code_4_and_one_line(
    job: SecureJob, run: Run, transport: str, *, over_tls: bool
) -> None:
    token = Issuer().token()
    ended = run(job, with_token(job, token, over_tls=over_tls), transport)
    assert ended.code == EXIT_UNREACHABLE, ended.err
    assert ended.error[0].endswith("refused the token (OAUTHBEARER)")
    assert ended.error[1:] == ["hint: check what the token callback gives"]
    check_secrets(ended, job.secure, token[0], *token[0].split("."))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_callback_without_a_token_is_exit_code_4_and_one_line(job: SecureJob, run: Run, transport: str) -> None:
    ended = run(job, with_token(job, None), transport)
    assert ended.code == EXIT_UNREACHABLE, ended.err
    assert ended.error == [
        "error: the token callback failed (FileNotFoundError)",
        "hint: look at what it logs",
    ]
    check_secrets(ended, job.secure)


def with_token(job: SecureJob, token: tuple[str, float] | None, *, over_tls: bool = False) -> str:
    settings = {"sasl_mechanism": "OAUTHBEARER", "security_protocol": "sasl_plaintext", "connect_timeout": "5s"}
    if over_tls:
        settings |= {**tls(job.secure), "security_protocol": "sasl_ssl"}
    return job.module("TLSLOGIN" if over_tls else "LOGIN", settings, token)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("given", ["no password", "a wrong password", "no CA file", "the key of another"])
def test_certificates_and_keys_that_cannot_be_used_are_exit_code_3(
    job: SecureJob, run: Run, given: str, transport: str
) -> None:
    secure = job.secure
    encrypted = {**shown(secure.client), "ssl_key_location": str(secure.client.encrypted_key)}
    settings = {
        "no password": tls(secure, **encrypted),
        "a wrong password": tls(secure, **encrypted, ssl_key_password=WRONG_PASSWORD),
        "no CA file": tls(secure, ssl_ca_location=str(job.folder / "no-such.pem")),
        "the key of another": tls(
            secure, **{**shown(secure.client), "ssl_key_location": str(secure.strange_client.key)}
        ),
    }
    ended = run(job, job.file("MUTUAL", settings[given], {}), transport)
    assert ended.code == EXIT_CONFIG, ended.err
    assert ended.error[0] == "error: Kafka settings are refused"
    assert f"ssl.{'ca' if given == 'no CA file' else 'key'}.location failed" in ended.err
    check_secrets(ended, secure)
