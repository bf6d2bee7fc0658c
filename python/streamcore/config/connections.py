"""Owns how brokers and stores are reached: `[kafka]` and `[connections.NAME]`.

Before it: values from the file or the environment. After it: the Kafka and Redis clients.
Invariant: a password is a `SecretStr` and is never part of a repr, an error or a dump.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, WithJsonSchema, field_validator, model_validator

from streamcore.config.base import Model, setting
from streamcore.config.durations import PositiveDuration
from streamcore.config.redact import redacted

OWNED_OPTIONS = frozenset(
    {"bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset"}
    | {"enable.idempotence", "acks", "isolation.level", "group.instance.id", "transactional.id", "partitioner"}
    | {"enable.partition.eof", "partition.assignment.strategy", "session.timeout.ms", "transaction.timeout.ms"}
)
"""Client settings that the delivery promise rests on: `options` may not set them."""


TLS_SETTINGS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may follow the `?` of a `rediss://` URL, beside `db`: files, whose names are no secrets."""
REDIS_URL_HINT = "write it as redis://user:password@host:6379/0, with %2F for / in a password, %23 for #, %3F for ?"

_NUMBER = re.compile(r"[0-9]{1,9}")
_DATABASE_PATH = re.compile(rf"/?|/{_NUMBER.pattern}")


def _not_ours(options: dict[str, Any]) -> dict[str, Any]:
    owned = sorted(OWNED_OPTIONS & set(options))
    if owned:
        raise ValueError(f"{', '.join(owned)} is set by streamcore and cannot be an option{_instead(owned)}")
    strange = sorted(
        name for name, value in options.items() if not (isinstance(value, (str, int, float)) or callable(value))
    )
    if strange:
        raise ValueError(f"{', '.join(strange)} must be text, a number, or true or false")
    return options


def _instead(owned: list[str]) -> str:
    keys = {
        "session.timeout.ms": "set session_timeout",
        "transaction.timeout.ms": "it follows from commit_interval and session_timeout",
    }
    return "".join(f"; {keys[name]}" for name in owned[:1] if name in keys)


Options = Annotated[
    dict[str, Any],
    AfterValidator(_not_ours),
    PlainSerializer(redacted, when_used="json"),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
"""Raw client settings, which may hold secrets: as JSON they are blotted out."""


class KafkaConnection(Model):
    """How a Kafka cluster is reached. Also used for sources, sinks and dead letters that name no other connection."""

    type: Literal["kafka"] = setting("kafka", "Kind of connection.")
    bootstrap_servers: str = setting(
        "localhost:9092", "Comma-separated `host:port` list. Environment: `KAFKA_BOOTSTRAP_SERVERS`.", min_length=1
    )
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = setting(
        "plaintext", "Wire protection and login. Environment: `KAFKA_SECURITY_PROTOCOL`."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"] | None = setting(
        None, "Login method. Environment: `KAFKA_SASL_MECHANISM`."
    )
    sasl_username: str | None = setting(None, "User name. Environment: `KAFKA_SASL_USERNAME`.")
    sasl_password: SecretStr | None = setting(
        None, "Password; write `${NAME}` or `${file:/path}`. Environment: `KAFKA_SASL_PASSWORD`."
    )
    ssl_ca_location: str | None = setting(None, "File of the certificate authority; default: the system's.")
    ssl_certificate_location: str | None = setting(None, "File of the client certificate.")
    ssl_key_location: str | None = setting(None, "File of the client key.")
    ssl_key_password: SecretStr | None = setting(None, "Password of the client key.")
    insecure: bool = setting(False, "Allow a login whose password crosses the network in the clear.")
    connect_timeout: PositiveDuration = setting(
        10_000, "How long to wait for a broker before giving up with exit code 4."
    )
    session_timeout: PositiveDuration = setting(
        10_000, "How long the broker keeps the seat of a worker that died; a restart waits for it at most this long."
    )
    options: Options = setting({}, "Raw client settings (librdkafka names) for what has no key here.")

    @field_validator("bootstrap_servers")
    @classmethod
    def _without_login(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "names hosts and ports alone, and has an @ as of a login; write host:port, and the login as sasl_username and sasl_password"
            )
        return value

    @field_validator("security_protocol", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper().replace("_", "-") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _login_is_whole(self) -> KafkaConnection:
        sasl = self.security_protocol.startswith("sasl_")
        if sasl and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism")
        if not sasl and self.sasl_mechanism is not None:
            raise ValueError('sasl_mechanism needs security_protocol = "sasl_ssl" (or "sasl_plaintext")')
        if self.sasl_mechanism == "PLAIN" and self.security_protocol == "sasl_plaintext" and not self.insecure:
            raise ValueError(
                'PLAIN over sasl_plaintext sends the password in the clear; use security_protocol = "sasl_ssl", '
                "or set insecure = true if the network is yours"
            )
        return self


class RedisConnection(Model):
    """How a Redis server is reached."""

    type: Literal["redis"] = setting("redis", "Kind of connection.")
    url: SecretStr = setting(
        ...,
        "`redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS (its files: `?ssl_ca_certs=`, "
        "`ssl_certfile=`, `ssl_keyfile=`), `unix:///path` for a socket (its database: `?db=`).",
    )
    connect_timeout: PositiveDuration = setting(5_000, "How long to wait for the server before giving up.")

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: SecretStr) -> SecretStr:
        return check_redis_url(url)


def check_redis_url(url: SecretStr) -> SecretStr:
    """Refuses a URL that the Redis client cannot use, without showing any of it. Raises `ValueError`.

    A password with a bare `/`, `#` or `?` in it moves what follows into the wrong part of the URL, so no part is safe
    to repeat, and the cause of each exception, which repeats one, is left out.
    """
    text = url.get_secret_value()
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a Redis URL starts with redis://, rediss:// or unix://")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        settings = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(f"the Redis URL has a host, port or setting that cannot be read; {REDIS_URL_HINT}") from None
    if parts.fragment:
        raise ValueError(f"the Redis URL has a bare #; {REDIS_URL_HINT}")
    if parts.scheme == "unix" and parts.path in ("", "/"):
        raise ValueError("the Redis URL names no socket; write it as unix:///path/of/redis.sock")
    if parts.scheme != "unix" and not host:
        raise ValueError(f"the Redis URL has no host; {REDIS_URL_HINT}")
    if parts.scheme != "unix" and not _DATABASE_PATH.fullmatch(parts.path):
        raise ValueError(f"the path of the Redis URL is not the number of a database; {REDIS_URL_HINT}")
    known = {"db", *(TLS_SETTINGS if parts.scheme == "rediss" else ())}
    if any(name not in known for name, _ in settings):
        raise ValueError(
            f"the Redis URL has a setting after ? that is not known; known here: {', '.join(sorted(known))}"
        )
    if any(name == "db" and not _NUMBER.fullmatch(value) for name, value in settings):
        raise ValueError("db in the Redis URL is not a number; write it as redis://host:6379/0")
    return url


Connection = Annotated[KafkaConnection | RedisConnection, Field(discriminator="type")]
