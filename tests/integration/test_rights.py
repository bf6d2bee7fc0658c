"""What a worker ends with whose user lacks a right: exit code 3, and which right on what.

On a broker with access control lists, where the tests may do all and `USER` what each test grants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.integration.kafka_tools import TIMEOUT_S, create_topic
from tests.integration.state_job import PIPELINE, Job
from tests.servers.kafka import USER, KafkaServer

EXIT_CONFIG = 3

LISTS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}
LOGIN = f"""
security_protocol = "sasl_plaintext"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "{USER[0]}"
sasl_password = "{USER[1]}"
"""
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE


@pytest.fixture(scope="module")
def guarded() -> Iterator[KafkaServer]:
    with KafkaServer(properties=LISTS) as server:
        yield server


@dataclass(frozen=True)
class Lacking:
    """A right."""

    what: str
    left: tuple[AclOperation, ...]
    told: str


class Guarded:
    """A pipeline of which everything is allowed, but what is taken away."""

    def __init__(self, server: KafkaServer, name: str, folder: Path) -> None:
        text = PIPELINE.replace('bootstrap_servers = "SERVERS"', f'bootstrap_servers = "SASL"{LOGIN}')
        text = text.replace('SASL"', f'{server.sasl_bootstrap_servers}"')
        self.job = Job(server, name, folder, text=text)
        self.rights = {
            "transactional id": (ResourceType.TRANSACTIONAL_ID, f"streamcore/{name}/", [WRITE, DESCRIBE]),
            "group": (ResourceType.GROUP, name, [READ]),
            "input": (ResourceType.TOPIC, f"{name}-in", [READ, DESCRIBE]),
            "output": (ResourceType.TOPIC, f"{name}-out", [WRITE, DESCRIBE]),
            "dead letters": (ResourceType.TOPIC, f"{name}.dead-letters", [WRITE, DESCRIBE]),
            "state": (ResourceType.TOPIC, f"{name}.0.state", [READ, WRITE, DESCRIBE, AclOperation.DESCRIBE_CONFIGS]),
        }
        create_topic(server, f"{name}-out", 1)
        create_topic(server, f"{name}.dead-letters", 1)
        create_topic(server, self.job.state_topic, 2, cleanup_policy="compact")
        self.job.send(range(25))

    def allow(self, what: str, *operations: AclOperation) -> None:
        kind, name, all_of_them = self.rights[what]
        lists = [
            AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER[0]}", "*", each, AclPermissionType.ALLOW)
            for each in operations or all_of_them
        ]
        for made in self.job.admin.create_acls(lists).values():
            made.result(TIMEOUT_S)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "lacking",
    [
        Lacking("transactional id", (DESCRIBE,), "WRITE and DESCRIBE on transactional id streamcore/NAME/"),
        Lacking("group", (), "READ on group NAME"),
        Lacking("input", (DESCRIBE,), "READ and DESCRIBE on NAME-in"),
        Lacking("output", (DESCRIBE,), "WRITE and DESCRIBE on NAME-out"),
        Lacking("state", (READ, DESCRIBE), "WRITE and DESCRIBE on NAME.0.state.g1"),
    ],
    ids=lambda lacking: lacking.what,
)
def test_a_right_that_is_missing_ends_the_run_with_what_to_grant(
    guarded: KafkaServer, unique: str, tmp_path: Path, lacking: Lacking
) -> None:
    """A group that may not be read was "no broker answers" after minutes, and a name that may not be used another worker's (exit code 7)."""
    guarded_job = Guarded(guarded, unique, tmp_path)
    for what in guarded_job.rights:
        if what != lacking.what:
            guarded_job.allow(what)
        elif lacking.left:
            guarded_job.allow(what, *lacking.left)
    refused = guarded_job.job.run()
    assert refused.code == EXIT_CONFIG, refused.err
    assert lacking.told.replace("NAME", unique) in refused.err
    assert "grant the user" in refused.err
    guarded_job.allow(lacking.what)
    went_on = guarded_job.job.run()
    assert went_on.code == 0, went_on.err
    assert guarded_job.job.rows().total() == 18
