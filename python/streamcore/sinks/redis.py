"""Owns writing rows to Redis: one hash a row, replaced only by writes that are not older.

Before it: batches of one output. After it: whoever reads the keys.
Invariant: value and version lie in one hash and change in one step of the server, so a write that was delayed or is
repeated after a crash never replaces a newer one.

The version is (generation, epoch): within an epoch writes come in order on one connection, and an epoch that is
repeated must win over its first try, whatever batches either was cut into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streamcore import _core
from streamcore.config import PipelineConfig, RedisSinkConfig, format_duration, redis_connection
from streamcore.config.redis_key import KeyTemplate, epoch_ms, value_text
from streamcore.errors import ConfigError, Error, SinkError
from streamcore.sinks.base import Version

if TYPE_CHECKING:
    from redis import Redis

VERSION_FIELD = "_version"
SCRIPT_ROWS_MAX = 1_000
"""Rows of one script call: the server does nothing else meanwhile."""

REPLY_TIMEOUT_S = 10.0
RETRACTED_TTL_MS = 86_400_000
"""How long the version of a row that was taken back is kept, so that an older write cannot bring it back."""

REPLACE = """
local function replace(key, version, expiry, first, fields)
  redis.call('DEL', key)
  redis.call('HSET', key, '_version', version, unpack(ARGV, first, first - 1 + fields))
  if string.sub(expiry, 1, 1) == '+' then
    redis.call('PEXPIRE', key, string.sub(expiry, 2))
  elseif expiry ~= '' then
    redis.call('PEXPIREAT', key, expiry)
  end
end
"""
"""Puts a row in the place of whatever there was: its expiry is empty, a time in ms, or `+` and a length in ms."""

SCRIPT = (
    REPLACE
    + """
local version, at = ARGV[1], 2
for _, key in ipairs(KEYS) do
  local expiry, fields = ARGV[at], tonumber(ARGV[at + 1])
  local stored = redis.call('HGET', key, '_version')
  if not stored or stored <= version then
    replace(key, version, expiry, at + 2, fields)
  end
  at = at + 2 + fields
end
"""
)
"""KEYS: the rows' keys. ARGV: the version, then for each row its expiry (empty, a time in ms, or `+` and a length in
ms), the number of arguments that follow, and field and value in turns. A row without fields has been taken back."""


@dataclass(frozen=True, slots=True)
class Write:
    """One row as the script takes it."""

    key: str
    expiry: str
    fields: tuple[str, ...]
    """Names and values in turns."""


def check_client() -> None:
    """Raises `ConfigError` where the Redis client is not installed."""
    try:
        import redis  # noqa: F401 - only to see that it is there
    except ModuleNotFoundError:
        raise ConfigError('a Redis sink needs the Redis client; pip install "streamcore-engine[redis]"') from None


class RedisSink:
    """Keys of one Redis; see `sinks/base.py` for the contract."""

    def __init__(self, config: RedisSinkConfig, *, pipeline: PipelineConfig) -> None:
        self.output: str = config.output
        self._config = config
        self._server = redis_connection(pipeline, config)
        self._template = KeyTemplate(config.key_template)
        named = [*self._template.columns, *(config.columns or ()), *([config.value] if config.value else [])]
        self._named = list(dict.fromkeys(named))
        self._client: Redis | None = None
        self._writes: list[Write] = []
        self._version = ""

    @property
    def _where(self) -> str:
        """The server without its login."""
        url = urlsplit(self._server.url.get_secret_value())
        if url.scheme == "unix":
            return f"unix://{url.path}"
        return f"{url.scheme}://{url.hostname or 'localhost'}:{url.port or 6379}{url.path}"

    def open(self) -> None:
        """Connects and asks for a sign of life."""
        check_client()
        import redis

        try:
            self._client = redis.Redis.from_url(
                self._server.url.get_secret_value(),
                socket_connect_timeout=self._server.connect_timeout / 1000,
                socket_timeout=REPLY_TIMEOUT_S,
                client_name="streamcore",
            )
            self._client.ping()
        except redis.AuthenticationError:
            message = f"Redis at {self._where} refused the login; check the url"
            raise SinkError(message, retriable=False, unreachable=True) from None
        except (redis.RedisError, OSError) as error:
            waited = format_duration(self._server.connect_timeout)
            raise SinkError(
                f"Redis at {self._where} gave no answer within {waited} ({_reason(error)}); "
                "start the server, or set url in the sink or REDIS_URL",
                unreachable=True,
            ) from None

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Holds rows until a round trip is full, or the flush. Raises `ConfigError` for a column that is not there."""
        batch.select(self._named)  # of other outputs than the result nobody has compared the names before
        self._version = f"{version.generation:010d}-{version.epoch:015d}"
        for row in batch.to_rows():
            self._writes.append(self._as_write(row))
            if len(self._writes) >= self._config.batch_rows:
                self._send()

    def _as_write(self, row: dict[str, Any]) -> Write:
        time_format = self._config.timestamp_format
        key = self._template.render(row, time_format)
        if row.get("retracted"):
            return Write(key, f"+{RETRACTED_TTL_MS}", ())
        return Write(key, self._expiry(row.get("window_end")), tuple(self._fields(row, time_format)))

    def _fields(self, row: dict[str, Any], time_format: str) -> Iterator[str]:
        """Nulls have no field: a reader finds nothing there, as in the row."""
        columns = self._config.columns or tuple(row)
        names = {"value": self._config.value} if self._config.value else {column: column for column in columns}
        for field, column in names.items():
            if row[column] is not None:
                yield field
                yield value_text(row[column], time_format)

    def _expiry(self, window_end: datetime | None) -> str:
        """A row of a window expires a time after the window's end, any other after its write."""
        if self._config.ttl is None:
            return ""
        return f"+{self._config.ttl}" if window_end is None else str(epoch_ms(window_end) + self._config.ttl)

    def flush(self) -> None:
        """Sends what is held; the server has taken everything when this returns."""
        if self._writes:
            self._send()

    def _send(self) -> None:
        """One round trip: the rows held, in as many script calls as it takes."""
        import redis

        if self._client is None:
            raise SinkError("the Redis sink is not open", retriable=False)
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for start in range(0, len(self._writes), SCRIPT_ROWS_MAX):
                    chunk = self._writes[start : start + SCRIPT_ROWS_MAX]
                    pipeline.eval(SCRIPT, len(chunk), *(write.key for write in chunk), *self._arguments(chunk))
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from None
        self._writes.clear()

    def _arguments(self, chunk: list[Write]) -> list[str]:
        arguments = [self._version]
        for write in chunk:
            arguments += [write.expiry, str(len(write.fields)), *write.fields]
        return arguments

    def _failed(self, error: Exception) -> Error:
        if "WRONGTYPE" in str(error):
            return SinkError(
                f"a key of {self._template.template!r} in Redis at {self._where} holds something that is no hash; "
                "choose another key_template, or delete those keys",
                retriable=False,
            )
        return SinkError(f"Redis at {self._where} did not take the rows: {_reason(error)}")

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint: rows are visible once flushed."""

    def discard(self) -> None:
        """Drops what is held; what was sent is replaced when the epoch is repeated."""
        self._writes.clear()

    def close(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _reason(error: Exception) -> str:
    """The client's words, one line, without the script that it repeats."""
    return str(error).partition("\n")[0].partition(" script: ")[0].rstrip(". ")
