"""Which servers are asked. The asking itself is tested with real ones in `tests/integration/test_check_connect.py`."""

from __future__ import annotations

import pytest

from streamcore.commands.reach import reach
from streamcore.config import PipelineConfig
from streamcore.errors import SinkError, SourceError
from tests.servers.ports import free_ports


def test_a_pipeline_without_servers_asks_nobody() -> None:
    config = PipelineConfig.model_validate({"source": {"type": "generate"}, "sinks": [{"type": "console"}]})
    assert list(reach(config)) == []


def test_the_connection_a_sink_names_is_the_one_asked() -> None:
    [port] = free_ports(1)
    config = PipelineConfig.model_validate(
        {
            "connections": {
                "far": {"type": "kafka", "bootstrap_servers": f"127.0.0.1:{port}", "connect_timeout": "300ms"}
            },
            "source": {"type": "generate"},
            "sinks": [{"type": "kafka", "topic": "o", "connection": "far"}],
        }
    )
    with pytest.raises(SourceError, match=f"127.0.0.1:{port} gave no answer within 300ms") as caught:
        list(reach(config))
    assert caught.value.exit_code == 4


def test_an_absent_redis_is_named_without_its_password() -> None:
    [port] = free_ports(1)
    sink = {"type": "redis", "key_template": "k:{_offset}", "url": f"redis://:canary@127.0.0.1:{port}/0"}
    config = PipelineConfig.model_validate({"source": {"type": "memory", "topic": "t"}, "sinks": [sink]})
    with pytest.raises(SinkError, match=str(port)) as caught:
        list(reach(config))
    assert "canary" not in str(caught.value)
