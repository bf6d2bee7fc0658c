"""Owns writing committed rows to Redis, in the order of their partitions.

Before it: `outboxes.py`, with records of one partition of the committed topic. After it: whoever reads the keys.
Invariant: value, version and the place up to which the server has all rows change in one step of it. So whatever the
server forgets, it knows how much it has, and is never told more than the next row.

The version is (topic id, partition, offset). It begins with `#`, which comes before any digit: rows written directly,
after a pipeline has gone back to that, replace these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.committed_reader import Committed, CommittedReader
from streamcore.committed_rows import CommittedRows
from streamcore.config import PipelineConfig, RedisSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.redis import REPLACE, SCRIPT_ROWS_MAX, RedisSink, Write

OFFSET_DIGITS = 19
LOST = -2
"""The script's answer where the server is not as far as it was said to be."""

SCRIPT = (
    REPLACE
    + """
local applied, prefix, known, reach = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local stored, at = redis.call('GET', applied), -1
if stored and string.sub(stored, 1, #prefix) == prefix then at = tonumber(string.sub(stored, #prefix + 1)) end
if at < known then return {-2, at} end
local next = 4
for index = 2, #KEYS do
  local key, version, expiry, fields = KEYS[index], ARGV[next], ARGV[next + 1], tonumber(ARGV[next + 2])
  local old = redis.call('HGET', key, '_version')
  if not old or string.sub(old, 1, #prefix) ~= prefix or old < version then
    replace(key, version, expiry, next + 3, fields)
  end
  next = next + 3 + fields
end
if reach > at then
  redis.call('SET', applied, prefix .. string.format('%.0f', reach))
  at = reach
end
return {0, at}
"""
)
"""KEYS: the place of the partition, then the rows' keys. ARGV: `#<topic id>:<partition>:`, the offset that the server must
have reached, the one it reaches, then for each row its version, its expiry (as in `redis.py`), the number of arguments that
follow, and field and value in turns."""


class RedisOutbox(RedisSink):
    """Keys of one Redis, fed from a topic; see `outboxes.Taker`."""

    def __init__(self, config: RedisSinkConfig, *, pipeline: PipelineConfig, rows: CommittedRows, name: str) -> None:
        """`name` tells the sink from others of the pipeline: the server keeps a place for each."""
        super().__init__(config, pipeline=pipeline)
        self._rows = rows
        self._applied = f"streamcore:{pipeline.name}:{name}:applied"
        self.place = f"Redis at {self._where}"
        self._topic_id = ""
        self._known: dict[int, int] = {}
        """By partition: the offset that the server has reached."""

    def open(self, reader: CommittedReader | None = None) -> None:
        """Connects; an answer is a sign of life."""
        super().open()
        if reader is not None:
            self._topic_id = reader.topic_id

    def position(self, partition: int) -> int | None:
        """What the server says; None where it has nothing of this very topic."""
        import redis

        try:
            stored = self._server_client.get(self._key_of(partition))
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from None
        text = (stored or b"").decode() if isinstance(stored, bytes | None) else str(stored)
        prefix = self._prefix(partition)
        at = int(text[len(prefix) :]) if text.startswith(prefix) else -1
        self._known[partition] = at
        return None if at < 0 else at

    def take(self, partition: int, records: Sequence[Committed]) -> int | None:
        """One round trip; where the server has forgotten rows, it says so and takes none."""
        chunks = (records[start : start + SCRIPT_ROWS_MAX] for start in range(0, len(records), SCRIPT_ROWS_MAX))
        return self._reach(partition, [(chunk, chunk[-1].offset + 1) for chunk in chunks])

    def skip(self, partition: int, offset: int) -> None:
        """The server's place moves, without a row."""
        if self._reach(partition, [((), offset)]) is not None:
            raise SinkError(f"{self.place} has just lost rows that it had taken")

    def _reach(self, partition: int, chunks: Sequence[tuple[Sequence[Committed], int]]) -> int | None:
        """Writes rows, and with each chunk the offset that is reached; gives where the server is, where it has forgotten rows."""
        import redis

        try:
            with self._server_client.pipeline(transaction=False) as pipeline:
                known = self._known.get(partition, -1)
                for chunk, reach in chunks:
                    self._queue(pipeline, partition, chunk, known, reach)
                    known = reach
                answers = pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from None
        for code, at in answers:
            self._known[partition] = int(at)
            if code == LOST:
                return int(at)
        return None

    def _queue(self, pipeline: Any, partition: int, records: Sequence[Committed], known: int, reach: int) -> None:
        prefix = self._prefix(partition)
        writes: list[Write] = []
        arguments = [prefix, str(known), str(reach)]
        for record in records:
            if record.value is None:
                continue  # a row that was taken back has gone to a topic that says no more of it
            write = self._as_write(self._rows.row(record.value))
            writes.append(write)
            version = f"{prefix}{record.offset:0{OFFSET_DIGITS}d}"
            arguments += [version, write.expiry, str(len(write.fields)), *write.fields]
        keys = [self._key_of(partition), *(write.key for write in writes)]
        pipeline.eval(SCRIPT, len(keys), *keys, *arguments)

    def _prefix(self, partition: int) -> str:
        return f"#{self._topic_id}:{partition}:"

    def _key_of(self, partition: int) -> str:
        return f"{self._applied}:{partition}"

    @property
    def _server_client(self) -> Any:
        if self._client is None:
            raise SinkError(f"{self.place} is not open", retriable=False)
        return self._client
