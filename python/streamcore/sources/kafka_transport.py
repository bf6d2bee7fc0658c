"""Owns which way records come: fetched in Rust, or by librdkafka's consumer.

Before it: `transport` of the source, and the settings of its connection. After it: `kafka_native.py` or `kafka_reader.py`.
Invariant: one configuration serves both; a setting that the fetcher does not have takes librdkafka, and one line says so, unless
`native` is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from streamcore import _core
from streamcore.errors import ConfigError, Problem
from streamcore.kafka_client import RECONNECT_MS_MAX, log
from streamcore.kafka_tokens import TOKENS, Tokens
from streamcore.sources.kafka_native import NativeReader
from streamcore.sources.kafka_reader import ConsumerReader, Listening, Wanted

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

    from streamcore.config.sources import Transport

FETCH_KEYS = {
    "fetch.wait.max.ms": ("wait_ms", 1),
    "fetch.max.bytes": ("fetch_bytes_max", 1),
    "fetch.message.max.bytes": ("partition_bytes_max", 1),
    "max.partition.fetch.bytes": ("partition_bytes_max", 1),
    "queued.max.messages.kbytes": ("queued_bytes_max", 1 << 10),
}
"""librdkafka's settings of reading that the fetcher has: its own name, and the unit in its own."""

DEFAULTS = {"reconnect.backoff.max.ms": str(RECONNECT_MS_MAX)}
"""Of the connections of the fetcher, where the client has the same."""

IGNORED = frozenset({"fetch.queue.backoff.ms", "fetch.error.backoff.ms", "fetch.min.bytes"})
"""Those that say how librdkafka goes about it, of which a fetcher has no need."""


def make_reader(
    consumer: Consumer,
    settings: Mapping[str, Any],
    wanted: Wanted,
    source: Listening,
    *,
    name: str,
    transport: Transport,
) -> ConsumerReader:
    """The reader of a consumer with these settings of the client. Raises `ConfigError`.

    `name` is what is read, for people.
    """
    if transport == "librdkafka":
        return ConsumerReader(consumer, wanted, source, name=name)
    own, sizes, tokens = parted(settings)
    try:
        missing = _core.Fetcher.lacks(own, tokens is not None)
        lacking = f"the native transport does not have {', '.join(missing)}"
        fetcher = None if missing else _fetcher(own, wanted, tokens, sizes)
    except ConfigError as error:
        if transport == "native":
            raise
        # As a kind of key that only the client can use. What neither can is refused by that.
        fetcher, lacking = None, str(error)
    if fetcher is None and transport == "native":
        hint = "leave it out, or say librdkafka"
        raise ConfigError("records cannot be fetched", [Problem("source.transport", lacking, hint=hint)])
    if fetcher is None:
        log.warning("%s is read through librdkafka: %s", name, lacking)
        return ConsumerReader(consumer, wanted, source, name=name)
    return NativeReader(consumer, wanted, source, name=name, fetcher=fetcher)


def _fetcher(
    own: dict[str, str], wanted: Wanted, tokens: Callable[..., Any] | None, sizes: dict[str, int]
) -> _core.Fetcher:
    return _core.Fetcher(
        own,
        keys=wanted.keys,
        headers=wanted.headers,
        record_bytes_max=wanted.record_bytes_max,
        inputs=None if wanted.inputs is None else dict(wanted.inputs),
        tokens=tokens,
        **sizes,
    )


def parted(settings: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, int], Callable[..., Any] | None]:
    """The settings of the connection, as text; sizes of fetches by the fetcher's names; and the callback for tokens."""
    own = dict(DEFAULTS)
    sizes: dict[str, int] = {}
    for name, value in settings.items():
        if name in FETCH_KEYS:
            known, unit = FETCH_KEYS[name]
            sizes[known] = int(value) * unit
        elif name not in IGNORED and name != TOKENS:
            own[name] = str(value).lower() if isinstance(value, bool) else str(value)
    tokens = settings.get(TOKENS)
    # The fetcher asks for one at each login, tries again where there is none, and names what the callback itself raised.
    return own, sizes, tokens.callback if isinstance(tokens, Tokens) else tokens
