"""Servers that several of the integration tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.secure_kafka import SecureKafka


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker that wants TLS and logins, shared: use topic and group names of your own (`unique`)."""
    secure = SecureKafka(tmp_path_factory.mktemp("secure"))
    try:
        yield secure
    finally:
        secure.close()
