"""streamcore turns streams of events into exact, continuously updated tables.

>>> import streamcore as sc
>>> views = (
...     sc.records([{"page": "home", "at": "2026-01-01T00:00:10Z"}], event_time="at", schema={"page": "string"})
...     .window(sc.tumbling("1m"), by="page")
...     .agg(views=sc.count())
... )
>>> views.collect().to_polars()["views"].to_list()
[1]

Everything is imported when it is first used, so importing this package is cheap and has no side effects.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamcore._core import __version__
    from streamcore.aggregates import (
        all,  # noqa: A004 - read as sc.all
        any,  # noqa: A004 - read as sc.any
        approx_distinct,
        arg_max,
        arg_min,
        collect_list,
        count,
        count_distinct,
        first,
        last,
        max,  # noqa: A004 - read as sc.max
        mean,
        min,  # noqa: A004 - read as sc.min
        quantile,
        stddev,
        sum,  # noqa: A004 - read as sc.sum
        top_k,
        var,
    )
    from streamcore.builders import files, generate, kafka, memory, records
    from streamcore.config import KafkaConnection, RedisConnection
    from streamcore.errors import (
        ConfigError,
        DecodeError,
        Error,
        ErrorRateError,
        ExpressionError,
        FencedError,
        LateRowsWarning,
        LedgerError,
        LostValuesWarning,
        Problem,
        RefusedRecordsWarning,
        SinkError,
        SourceError,
        StateError,
    )
    from streamcore.pipeline import Pipeline, load
    from streamcore.run import Run
    from streamcore.sources.iterable import Record
    from streamcore.tables import Batch, Table
    from streamcore.user_aggregates import aggregate
    from streamcore.windows import cumulate, hopping, session, sliding, tumbling, whole

_HOMES = {
    "streamcore._core": ("__version__",),
    "streamcore.aggregates": (
        "all",
        "any",
        "approx_distinct",
        "arg_max",
        "arg_min",
        "collect_list",
        "count",
        "count_distinct",
        "first",
        "last",
        "max",
        "mean",
        "min",
        "quantile",
        "stddev",
        "sum",
        "top_k",
        "var",
    ),
    "streamcore.builders": ("files", "generate", "kafka", "memory", "records"),
    "streamcore.config": ("KafkaConnection", "RedisConnection"),
    "streamcore.errors": (
        *("ConfigError", "DecodeError", "Error", "ErrorRateError", "ExpressionError", "FencedError"),
        *(
            "LateRowsWarning",
            "LedgerError",
            "LostValuesWarning",
            "Problem",
            "RefusedRecordsWarning",
            "SinkError",
            "SourceError",
            "StateError",
        ),
    ),
    "streamcore.pipeline": ("Pipeline", "load"),
    "streamcore.run": ("Run",),
    "streamcore.sources.iterable": ("Record",),
    "streamcore.tables": ("Batch", "Table"),
    "streamcore.user_aggregates": ("aggregate",),
    "streamcore.windows": ("cumulate", "hopping", "session", "sliding", "tumbling", "whole"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "ConfigError",
    "DecodeError",
    "Error",
    "ErrorRateError",
    "ExpressionError",
    "FencedError",
    "KafkaConnection",
    "LateRowsWarning",
    "LedgerError",
    "LostValuesWarning",
    "Pipeline",
    "Problem",
    "Record",
    "RedisConnection",
    "RefusedRecordsWarning",
    "Run",
    "SinkError",
    "SourceError",
    "StateError",
    "Table",
    "__version__",
    "aggregate",
    "all",
    "any",
    "approx_distinct",
    "arg_max",
    "arg_min",
    "collect_list",
    "count",
    "count_distinct",
    "cumulate",
    "files",
    "first",
    "generate",
    "hopping",
    "kafka",
    "last",
    "load",
    "max",
    "mean",
    "memory",
    "min",
    "quantile",
    "records",
    "session",
    "sliding",
    "stddev",
    "sum",
    "top_k",
    "tumbling",
    "var",
    "whole",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'streamcore' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
