"""Flink's side of the comparison: `peer.py JOBS.json ANSWERS.json`, run by the Python of `.venv-flink`.

One local Flink at parallelism 1 answers all jobs. Every record emits a watermark (an interval of 0 in the SQL
watermark operator, and Python operators that work on one element at a time), so an answer depends on the order of
the input alone. Invariant: this file shares nothing with streamcore; what it prints are Flink's own rows.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Time, Types
from pyflink.datastream import DataStream, OutputTag, StreamExecutionEnvironment
from pyflink.datastream.functions import ProcessWindowFunction
from pyflink.datastream.window import (
    EventTimeSessionWindows,
    SlidingEventTimeWindows,
    TumblingEventTimeWindows,
    WindowAssigner,
)
from pyflink.table import StreamTableEnvironment

SETTINGS = {
    "parallelism.default": "1",
    "pipeline.auto-watermark-interval": "0 ms",
    "python.fn-execution.bundle.size": "1",
    "restart-strategy.type": "none",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "table.local-time-zone": "UTC",
    "taskmanager.memory.managed.size": "512m",
}

COLUMNS = (
    "`key` STRING, `team` INT, `ident` INT, `name` STRING, `value` BIGINT, `weight` DOUBLE, `price` DECIMAL(10, 2)"
)
KEY, IDENT, VALUE = 0, 1, 2
"""Places in a row of a stream."""

NULL = "NULL"
"""A null cell on its way out of Flink: an array that leaves through PyFlink cannot hold one."""

Json = dict[str, Any]


class Fire(ProcessWindowFunction[Any, str, str, Any]):  # type: ignore[misc] # PyFlink is not where mypy runs
    """One row a firing, with the events that are in the window then."""

    def __init__(self, job: str) -> None:
        self._job = job

    def process(self, key: str, context: ProcessWindowFunction.Context[Any], elements: Iterable[Any]) -> Iterator[str]:
        rows = list(elements)
        values = [row[VALUE] for row in rows if row[VALUE] is not None]
        window = context.window()
        yield json.dumps(
            {
                "job": self._job,
                "key": json.loads(key),
                "window_start": window.start,
                "window_end": window.end,
                "n": len(rows),
                "total": sum(values) if values else None,
                "idents": sorted(row[IDENT] for row in rows),
            }
        )


def interval(milliseconds: int) -> str:
    sign, whole = "-" if milliseconds < 0 else "", abs(milliseconds)
    return f"INTERVAL '{sign}{whole // 1000}.{whole % 1000:03}' SECOND"


def define(tables: StreamTableEnvironment, job: Json, name: str) -> None:
    """The input as a table; its watermark is that of `BoundedOutOfOrdernessWatermarks`: a bound and 1 ms behind."""
    tables.execute_sql(f"""
        CREATE TABLE {name} (
            `at` BIGINT, {COLUMNS},
            `time` AS TO_TIMESTAMP_LTZ(`at`, 3),
            WATERMARK FOR `time` AS `time` - {interval(job["out_of_orderness"] + 1)}
        ) WITH ('connector' = 'filesystem', 'path' = 'file://{job["path"]}', 'format' = 'json')
    """)


def window_query(job: Json, table: str, aggregates: dict[str, str]) -> str:
    """Every row as the job's name and its cells as text, so that the rows of all jobs have one type."""
    of = f"TABLE {table}"
    time = "DESCRIPTOR(`time`)"
    size, slide, offset = interval(job["size"]), interval(job["slide"]), interval(job["offset"])
    by = [f"`{name}`" for name in job["by"]]
    if job["kind"] == "session":
        partition = f" PARTITION BY ({', '.join(by)})" if by else ""
        call = f"SESSION({of}{partition}, {time}, {size})"
    elif job["kind"] == "tumbling":
        call = f"TUMBLE({of}, {time}, {size}, {offset})"
    else:
        call = f"{'HOP' if job['kind'] == 'hopping' else 'CUMULATE'}({of}, {time}, {slide}, {size}, {offset})"
    cells = [
        f"COALESCE(CAST({cell} AS STRING), '{NULL}')"
        for cell in [*by, "window_start", "window_end", *aggregates.values()]
    ]
    groups = ", ".join([*by, "window_start", "window_end"])
    return f"SELECT '{job['name']}' AS job, ARRAY[{', '.join(cells)}] AS cells FROM TABLE({call}) GROUP BY {groups}"


JOIN_COLUMNS = "`at` BIGINT, `key` STRING, `ident` INT, `time` AS TO_TIMESTAMP_LTZ(`at`, 3)"
JOIN_TYPES = {"inner": "JOIN", "left": "LEFT JOIN", "outer": "FULL JOIN"}


def define_side(tables: StreamTableEnvironment, job: Json, side: int, name: str) -> None:
    """An input of a join as a table; of a table with versions as the changes that each key went through."""
    is_table = job["kind"] == "versions" and side == 1
    primary_key = ", PRIMARY KEY (`key`) NOT ENFORCED" if is_table else ""
    tables.execute_sql(f"""
        CREATE TABLE {name} (
            {JOIN_COLUMNS},
            WATERMARK FOR `time` AS `time` - {interval(job["bounds"][side] + 1)}{primary_key}
        ) WITH (
            'connector' = 'filesystem', 'path' = 'file://{job["paths"][side]}',
            'format' = '{"debezium-json" if is_table else "json"}'
        )
    """)


def join_query(job: Json, left: str, right: str) -> str:
    """Key, both numbers and the window's start as text, so that the rows of all jobs have one type."""
    how, start = JOIN_TYPES[job["how"]], "CAST(NULL AS STRING)"
    if job["kind"] == "interval":
        low, high = (f"l.`time` + {interval(reach)}" for reach in (job["low"], job["high"]))
        joined = f"{left} AS l {how} {right} AS r ON l.`key` = r.`key` AND r.`time` BETWEEN {low} AND {high}"
    elif job["kind"] == "window":
        windows = f"DESCRIPTOR(`time`), {interval(job['size'])}, {interval(job['offset'])}"
        sides = [f"(SELECT * FROM TABLE(TUMBLE(TABLE {name}, {windows})))" for name in (left, right)]
        same = "l.window_start = r.window_start AND l.window_end = r.window_end"
        joined = f"{sides[0]} AS l {how} {sides[1]} AS r ON l.`key` = r.`key` AND {same}"
        start = "CAST(COALESCE(l.window_start, r.window_start) AS STRING)"
    else:
        joined = f"{left} AS l {how} {right} FOR SYSTEM_TIME AS OF l.`time` AS r ON l.`key` = r.`key`"
    texts = ["COALESCE(l.`key`, r.`key`)", "CAST(l.`ident` AS STRING)", "CAST(r.`ident` AS STRING)", start]
    cells = ", ".join(f"COALESCE({text}, '{NULL}')" for text in texts)
    return f"SELECT '{job['name']}' AS job, ARRAY[{cells}] AS cells FROM {joined}"


def run_joins(tables: StreamTableEnvironment, jobs: list[Json]) -> dict[str, list[list[str | None]]]:
    queries = []
    for number, job in enumerate(jobs):
        sides = [f"join_{number}_left", f"join_{number}_right"]
        for side, name in enumerate(sides):
            define_side(tables, job, side, name)
        queries.append(join_query(job, *sides))
    answers: dict[str, list[list[str | None]]] = {job["name"]: [] for job in jobs}
    with tables.execute_sql(" UNION ALL ".join(queries)).collect() as rows:
        for job, cells in rows:
            answers[job].append([None if cell == NULL else cell for cell in cells])
    return answers


def run_sql(tables: StreamTableEnvironment, jobs: list[Json], aggregates: dict[str, str]) -> dict[str, list[Json]]:
    queries = []
    for number, job in enumerate(jobs):
        define(tables, job, f"sql_{number}")
        queries.append(window_query(job, f"sql_{number}", aggregates))
    answers: dict[str, list[Json]] = {job["name"]: [] for job in jobs}
    by = {job["name"]: job["by"] for job in jobs}
    with tables.execute_sql(" UNION ALL ".join(queries)).collect() as rows:
        for job, cells in rows:
            names = [*by[job], "window_start", "window_end", *aggregates]
            values = [None if cell == NULL else cell for cell in cells]
            answers[job].append(dict(zip(names, values, strict=True)))
    return answers


def assigner(job: Json) -> WindowAssigner[Any, Any]:
    size, offset = Time.milliseconds(job["size"]), Time.milliseconds(job["offset"])
    if job["kind"] == "session":
        return EventTimeSessionWindows.with_gap(size)
    if job["kind"] == "tumbling":
        return TumblingEventTimeWindows.of(size, offset)
    return SlidingEventTimeWindows.of(size, Time.milliseconds(job["slide"]), offset)


def firings(tables: StreamTableEnvironment, job: Json, table: str) -> DataStream:
    """The job's firings, and its late records with the word `late`."""
    define(tables, job, table)
    name = job["name"]
    query = f"SELECT `key`, `ident`, `value`, `time` FROM {table}"  # PyFlink's streams do not know decimals of a table
    stream = tables.to_data_stream(tables.sql_query(query))
    late = OutputTag("late", stream.get_type())
    fired = (
        stream.key_by(lambda row: json.dumps(row[KEY]), key_type=Types.STRING())
        .window(assigner(job))
        .allowed_lateness(job["lateness"])
        .side_output_late_data(late)
        .process(Fire(name), Types.STRING())
    )
    told = fired.get_side_output(late).map(lambda row: json.dumps({"job": name, "late": row[IDENT]}), Types.STRING())
    return fired.union(told)


def run_firings(tables: StreamTableEnvironment, jobs: list[Json]) -> dict[str, Json]:
    answers: dict[str, Json] = {job["name"]: {"fired": [], "late": []} for job in jobs}
    streams = [firings(tables, job, f"stream_{number}") for number, job in enumerate(jobs)]
    with streams[0].union(*streams[1:]).execute_and_collect("firings") as rows:
        for text in rows:
            row = json.loads(text)
            answer = answers[row.pop("job")]
            if "late" in row:
                answer["late"].append(row["late"])
            else:
                answer["fired"].append(row)
    return answers


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    configuration = Configuration()
    for name, value in SETTINGS.items():
        configuration.set_string(name, value)
    configuration.set_string("python.executable", sys.executable)
    configuration.set_string("python.client.executable", sys.executable)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.set_parallelism(1)
    tables = StreamTableEnvironment.create(environment)
    answers: dict[str, Any] = {}
    if "sql" in asked:
        answers["sql"] = run_sql(tables, asked["sql"], asked["aggregates"])
    if "firings" in asked:
        answers["firings"] = run_firings(tables, asked["firings"])
    if "joins" in asked:
        answers["joins"] = run_joins(tables, asked["joins"])
    Path(sys.argv[2]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
