"""Kafka to windows and back to Kafka, exactly once, beside the limit of fetching, bare `consume()` and rivals with the same job.

Topics are keyed by user and windows are grouped by page, so lanes' partials meet in the combine stage. Slow rivals get a part
of the events, every so many-th, in topics of their own with the same keys: the whole would take them minutes a round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.python.clickstream import Input, prepare
from bench.python.kafka_cases import LIMIT, NATIVE, Topic, cases, fetch_limit, topic
from bench.python.kafka_rivals import TARGETS, Rivals
from bench.python.kafka_topics import PARTITIONS, delete_topics
from bench.python.measure import Contestant, Figure, Measured, figure, measure, say
from tests.servers.kafka import KafkaServer

BENCH = "kafka"
CONSUME = "consume()"
LIBRDKAFKA = "streamcore librdkafka"
AT_LEAST_ONCE = "streamcore at least once"
LIMIT_TARGET = 0.75
CONSUME_TARGET = 0.85
SAMPLE_EVENTS = 2_000_000
FRAME_EVENTS = 200_000
POLL_TIMEOUT_S = 0.05


@dataclass(frozen=True)
class KafkaBench:
    clicks: Input
    rivals: Rivals
    rounds: int

    def run(self) -> tuple[list[Measured], list[Figure]]:
        program = fetch_limit()
        with KafkaServer() as server:
            bootstrap = server.bootstrap_servers
            base = topic(bootstrap, "clicks", self.clicks)
            found = measure(self._contestants(base, program), self.rounds)
            measured, figures = list(found.values()), base_figures(found)
            delete_topics(bootstrap, ["clicks", "clicks-sample", "clicks-frame"])
            for case, one in cases(bootstrap, self.clicks):
                say(f"  {case}: {one.sent.events:,} events")
                both = measure([one.limit(program), one.streamcore()], self.rounds)
                figures.append(limit_figure(case, both))
                for entry in both.values():
                    entry.name = f"{entry.name}, {case}"
                    measured.append(entry)
                delete_topics(bootstrap, [one.name])
        return measured, figures

    def _contestants(self, base: Topic, program: str) -> list[Contestant]:
        """Streamcore three times, and who is there beside it."""
        from streamcore.sources.kafka_reader import CONSUME_RECORDS

        bare = {
            **base.arguments,
            "partitions": PARTITIONS,
            "records_max": CONSUME_RECORDS,
            "timeout_s": POLL_TIMEOUT_S,
            "settings": consumer_settings(),
        }
        sample, frame = (self._part(base, *part) for part in (("sample", SAMPLE_EVENTS), ("frame", FRAME_EVENTS)))
        worker = "peers/quixstreams_kafka.py"
        return [
            base.limit(program),
            base.streamcore(),
            base.streamcore(AT_LEAST_ONCE, delivery="at_least_once"),
            base.streamcore(LIBRDKAFKA, transport="librdkafka"),
            Contestant(CONSUME, "peers/consume_kafka.py", self.rivals.python, bare, None),
            Contestant("StreamingDataFrame", worker, self.rivals.python, frame.arguments, frame.data.counts),
            *self.rivals.contestants(sample.arguments, sample.data),
        ]

    def _part(self, base: Topic, name: str, events: int) -> Topic:
        """A topic of about so many of the events."""
        every = max(1, round(self.clicks.events / events))
        data = prepare(self.clicks.path.parent, self.clicks.events, every)
        return topic(base.bootstrap, f"{base.name}-{name}", data)


def base_figures(found: Mapping[str, Measured]) -> list[Figure]:
    """Of the base case."""
    own = found[NATIVE]
    at_least_once = figure(BENCH, "exactly once vs at least once", own, found[AT_LEAST_ONCE], None)
    bare = figure(BENCH, "through librdkafka vs bare consume()", found[LIBRDKAFKA], found[CONSUME], CONSUME_TARGET)
    return [
        limit_figure("4 partitions, lz4", found),
        *(figure(BENCH, f"vs {name}", own, found[name], target) for name, target in TARGETS.items() if name in found),
        bare,
        at_least_once,
    ]


def limit_figure(case: str, found: Mapping[str, Measured]) -> Figure:
    return figure(BENCH, f"{case}: exactly once vs {LIMIT}", found[NATIVE], found[LIMIT], LIMIT_TARGET)


def consumer_settings() -> dict[str, object]:
    """What streamcore's own source sets, so that both read the same way."""
    from streamcore.sources.kafka import FETCH_SETTINGS

    return {**FETCH_SETTINGS, "isolation.level": "read_committed"}
