"""Owns `streamcore topics`: which Kafka topics a pipeline needs, and making those that are missing.

Before it: `cli.py`. After it: `topics.py` says what they are, `kafka_client.py` asks and makes.
Invariant: a topic that exists is never changed, only said to be other than planned.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from streamcore.commands import Subparsers, add_command

if TYPE_CHECKING:
    from streamcore.config import KafkaConnection, PipelineConfig
    from streamcore.kafka_client import Cluster, Topic
    from streamcore.topics import TopicPlan

EXAMPLES = """
streamcore topics plan page_counts.toml
streamcore topics create page_counts.toml
streamcore topics create page_counts.toml --set kafka.bootstrap_servers=broker:9092
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "show or create the Kafka topics of a pipeline"
    parser = add_command(subparsers, "topics", run, summary=summary, examples=EXAMPLES)
    parser.add_argument("action", choices=("plan", "create"), help="plan: only show; create: make what is missing")
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command: one line a topic."""
    import os

    from streamcore.commands.run import load_target
    from streamcore.config.environment import fill_from_environment

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    for line in _lines(config, create=arguments.action == "create"):
        print(line, flush=True)
    return 0


def _lines(config: PipelineConfig, *, create: bool) -> Iterator[str]:
    from streamcore.kafka_client import Cluster
    from streamcore.layouts import topics_there
    from streamcore.topics import topic_plans

    plans = topic_plans(config)

    clusters: list[tuple[KafkaConnection, Cluster]] = []  # connections hold dicts, so they are no keys
    if not plans:
        yield "this pipeline uses no Kafka topic"
    for connection, plan in plans:
        cluster = next((cluster for known, cluster in clusters if known == connection), None)
        if cluster is None:
            cluster = Cluster(connection)
            cluster.connect()
            clusters.append((connection, cluster))
        yield f"{plan.name}  {plan.role}  {_state(cluster, plan, create=create)}"
    if config.delivery == "exactly_once" and clusters:
        cluster = clusters[0][1]
        of_state, layouts = _state_plans(config, cluster)
        for plan in of_state:
            yield f"{plan.name}  {plan.role}  {_state(cluster, plan, create=create)}"
        for stage, (layout, begun) in enumerate(layouts):
            for other, name in topics_there(cluster, config.name or "", stage):
                if other != layout:
                    yield f"{name}  state  not used: {_why_not(other, layout, begun)}"


def _why_not(other: int, layout: int, begun: Mapping[str, Any]) -> str:
    from streamcore.layouts import EMPTY

    if other > layout:
        return "a rescale or a reset that did not end; the next one deletes it"
    return "its state was discarded" if begun.get(EMPTY) else "its state has gone to the one above"


def _state_plans(
    config: PipelineConfig, cluster: Cluster
) -> tuple[list[TopicPlan], list[tuple[int, Mapping[str, Any]]]]:
    """Topics of the state and of partials, and by stage the layout of the state, with what it began with.

    Their partitions follow the input, which comes first and so is there if it is to be made.
    """
    from dataclasses import replace

    from streamcore.config import KafkaSourceConfig, choose_delivery, describe, kafka_connection
    from streamcore.layouts import state_plans
    from streamcore.phases import FINAL, partials_plan, phases_of
    from streamcore.state_topics import StateTopics

    choose_delivery(config)
    assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
    connection, name = kafka_connection(config, config.source.connection), config.name or ""
    topic = cluster.topic(config.source.topic)
    count, meets = len(topic.partitions) if topic else 0, describe(config)["combine"] == "local"
    layouts = []
    for phase in phases_of(config):
        with closing(
            StateTopics(connection, pipeline=name, partitions=count, meets=meets, stage=phase.stage)
        ) as states:
            states.attach(cluster)
            layouts.append((states.layout, states.begun))
    plans = state_plans(name, count, meets=meets, layout=layouts[0][0])
    if FINAL in phases_of(config):
        partials = partials_plan(config, count)
        made = cluster.topic(partials.name)
        # Those that are there stay as they are, whatever the input has become.
        partitions = len(made.partitions) if made else partials.partitions or 0
        layout = layouts[FINAL.stage][0]
        plans += [partials, *state_plans(name, partitions, meets=False, stage=FINAL.stage, layout=layout)]
    if topic is None:
        plans = [replace(plan, partitions=plan.partitions or None) for plan in plans]
    return plans, layouts


def _state(cluster: Cluster, plan: TopicPlan, *, create: bool) -> str:
    topic = cluster.topic(plan.name)
    if topic is not None:
        return _existing(topic, plan)
    if create:
        cluster.create_topic(plan)
        return f"created: {_wanted(plan)}"
    return f"missing; would be created: {_wanted(plan)}"


def _existing(topic: Topic, plan: TopicPlan) -> str:
    count = len(topic.partitions)
    planned = plan.partitions is not None and plan.partitions != count
    return f"exists: {count} partitions{f' (a new one would have {plan.partitions})' if planned else ''}"


def _wanted(plan: TopicPlan) -> str:
    partitions = _as_default(plan) if plan.partitions is None else f"{plan.partitions} partitions"
    return ", ".join([partitions, *(f"{name}={value}" for name, value in plan.settings.items())])


def _as_default(plan: TopicPlan) -> str:
    return (
        "as many partitions as the input"
        if plan.role in ("state", "partials")
        else "partitions as the broker's default"
    )
