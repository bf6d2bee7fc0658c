"""The clickstream service's answers, without servers."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "clickstream" / "app.py"
ROW = {"cnt": "3", "is_final": "true"}


class Store:
    """Redis as the service uses it: a pipeline of `hgetall`."""

    def __init__(self, rows: dict[str, dict[str, str]]) -> None:
        self._rows = rows
        self._asked: list[str] = []

    def pipeline(self, *, transaction: bool) -> Self:
        del transaction
        self._asked.clear()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def hgetall(self, key: str) -> None:
        self._asked.append(key)

    async def execute(self) -> list[dict[str, str]]:
        return [self._rows.get(key, {}) for key in self._asked]


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clickstream_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic looks for the types of annotations
    spec.loader.exec_module(module)
    return module


def ask(service: ModuleType, rows: dict[str, dict[str, str]], path: str) -> dict[str, Any]:
    import httpx

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path)

    service.app.state.redis = Store(rows)
    response = asyncio.run(get())
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize(("written", "page"), [("home", "home"), ("a%25b%2Fc", "a%b/c"), ("x/count", "x/count")])
def test_every_page_that_can_be_clicked_can_be_asked_for(service: ModuleType, written: str, page: str) -> None:
    rows = {service.redis_key(page, 60): ROW}
    found = ask(service, rows, f"/page/{written}/count?window_end=1970-01-01T00:01:00Z")
    assert (found["page_id"], found["cnt"], found["is_final"]) == (page, 3, True)


def test_a_minute_without_views_is_zero(service: ModuleType) -> None:
    found = ask(service, {}, "/page/home/count?window_end=1970-01-01T00:02:00Z")
    assert (found["cnt"], found["is_final"]) == (0, False)
