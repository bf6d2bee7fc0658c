"""The same windows by Flink SQL, topic to topic, exactly once with a checkpoint a second, at parallelism 2, as a whole bounded run.

`flink_kafka.py CONNECTOR BOOTSTRAP TOPIC OUT EVENTS`; prints `{"seconds", "version"}`. Starting Flink is part of the time.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from importlib.metadata import version

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

SETTINGS = {
    "parallelism.default": "2",
    "execution.checkpointing.interval": "1 s",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "restart-strategy.type": "none",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "table.local-time-zone": "UTC",
    "taskmanager.memory.managed.size": "512m",
    "taskmanager.memory.network.min": "128m",
    "taskmanager.memory.network.max": "128m",
}

CLICKS = """
create table clicks (
  `timestamp` timestamp_ltz(3),
  payload row<page_id string>,
  watermark for `timestamp` as `timestamp`
) with (
  'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}',
  'properties.group.id' = '{name}', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
)
"""

VIEWS = """
create table minutes (page_id string, window_start string, `views` bigint) with (
  'connector' = 'kafka', 'topic' = '{out}', 'properties.bootstrap.servers' = '{bootstrap}',
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{name}',
  'properties.transaction.timeout.ms' = '600000', 'key.format' = 'json', 'key.fields' = 'page_id;window_start',
  'value.format' = 'json'
)
"""

JOB = """
insert into minutes
select payload.page_id, date_format(window_start, 'yyyy-MM-dd''T''HH:mm:ss''Z'''), count(*)
from table(tumble(table clicks, descriptor(`timestamp`), interval '1' minute))
group by window_start, window_end, payload.page_id
"""


def main() -> None:
    connector, bootstrap, topic, out, _ = sys.argv[1:]
    names = {"bootstrap": bootstrap, "topic": topic, "out": out, "name": f"bench-{uuid.uuid4().hex}"}
    began = time.perf_counter()
    configuration = Configuration()
    for name, value in {**SETTINGS, "pipeline.jars": f"file://{connector}"}.items():
        configuration.set_string(name, value)
    environment = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    tables = TableEnvironment.create(environment)
    for statement in (CLICKS, VIEWS):
        tables.execute_sql(statement.format(**names))
    tables.execute_sql(JOB).wait()
    print(json.dumps({"seconds": time.perf_counter() - began, "version": version("apache-flink")}))


if __name__ == "__main__":
    main()
