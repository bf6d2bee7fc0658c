"""The clickstream service: `POST /click` publishes an event, `GET /page/{page_id}/count` answers from Redis.

Run it:  uvicorn app:app --app-dir examples/clickstream
Servers: `KAFKA_BOOTSTRAP_SERVERS` (localhost:9092) and `REDIS_URL` (redis://localhost:6379/0).

A click is answered once Kafka has it on all in-sync replicas, or with 503. Its `event_id` may come from the client,
so that a client that got no answer can send the same event again: the pipeline counts it once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from redis.asyncio import Redis

with warnings.catch_warnings(record=True):  # a library below announces a change that does not concern us
    from quixstreams import Application
    from quixstreams.kafka import Producer

TOPIC = "clickstream"
WINDOW_S = 60
LOOK_BACK_WINDOWS = 60
DELIVERY_TIMEOUT_S = 10.0

Name = Annotated[str, Field(min_length=1, max_length=256)]


class Click(BaseModel):
    """What a browser sends."""

    user_id: Name
    page_id: Name
    dwell_ms: int = Field(0, ge=0)
    event_type: Name = "page.view"
    event_id: Name | None = None
    timestamp: Annotated[str, Field(max_length=64)] | None = None


class Accepted(BaseModel):
    """The event is in the topic."""

    event_id: str


class Count(BaseModel):
    """Views of a page in one minute; the last one with any if none was asked for."""

    page_id: str
    cnt: int
    window_end: datetime | None
    is_final: bool


class Publisher:
    """An idempotent producer whose delivery reports are awaited."""

    def __init__(self, bootstrap_servers: str) -> None:
        settings = {"enable.idempotence": True, "acks": "all", "linger.ms": 5, "compression.type": "lz4"}
        settings["delivery.timeout.ms"] = int(DELIVERY_TIMEOUT_S * 1000)
        application = Application(bootstrap_servers, producer_extra_config=settings, loglevel=None)
        self._producer: Producer = application.get_producer()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="delivery-reports", daemon=True)
        self._thread.start()

    def _serve_reports(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.05)

    async def publish(self, key: bytes, value: bytes) -> None:
        """Returns when the record is delivered. Raises `ConnectionError` when it is not."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()

        def settle(error: Any) -> None:
            if delivered.done():  # the client has gone
                return
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(ConnectionError(error.str()))

        def report(error: Any, _message: Any) -> None:
            loop.call_soon_threadsafe(settle, error)

        try:
            # Without a second try: a full queue is answered, not waited for, or every request would wait with it.
            self._producer.produce(TOPIC, value=value, key=key, on_delivery=report, buffer_error_max_tries=0)
        except BufferError as error:
            raise ConnectionError("the queue is full") from error
        await delivered

    def close(self) -> None:
        """Delivers what is queued."""
        self._producer.flush(DELIVERY_TIMEOUT_S)
        self._closed.set()
        self._thread.join()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the clients, and closes them in order."""
    app.state.publisher = Publisher(os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"))
    url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
    app.state.redis = Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5)
    yield
    app.state.publisher.close()
    await app.state.redis.aclose()


app = FastAPI(title="Clickstream", lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Says that the service is there."""
    return {"status": "ok"}


@app.post("/click", status_code=202)
async def click(click: Click, request: Request) -> Accepted:
    """Publishes the click as an event, keyed by user."""
    event_id = click.event_id or str(uuid.uuid4())
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    envelope = {
        "event_id": event_id,
        "event_type": click.event_type,
        "timestamp": click.timestamp or now,
        "payload": {"user_id": click.user_id, "page_id": click.page_id, "dwell_ms": click.dwell_ms},
        "metadata": {"source": "web", "ip": request.client.host if request.client else None, "received_at": now},
    }
    try:
        await request.app.state.publisher.publish(click.user_id.encode(), orjson.dumps(envelope))
    except ConnectionError as error:
        raise HTTPException(503, f"not published: {error}; send it again with event_id {event_id}") from error
    return Accepted(event_id=event_id)


@app.get("/page/{page_id:path}/count")  # a page may have a slash in its name
async def count(page_id: str, request: Request, window_end: datetime | None = None) -> Count:
    """Views of the page in the minute that ends at `window_end`, or in the last one that had any within the hour."""
    if window_end is not None:
        ends = [int(window_end.timestamp())]
    else:
        current = (int(time.time()) // WINDOW_S + 1) * WINDOW_S
        ends = [current - back * WINDOW_S for back in range(LOOK_BACK_WINDOWS)]
    async with request.app.state.redis.pipeline(transaction=False) as pipeline:
        for end in ends:
            pipeline.hgetall(redis_key(page_id, end))
        rows = await pipeline.execute()
    for end, row in zip(ends, rows, strict=True):
        if "cnt" in row:
            end_time = datetime.fromtimestamp(end, UTC)
            return Count(page_id=page_id, cnt=int(row["cnt"]), window_end=end_time, is_final=row["is_final"] == "true")
    return Count(page_id=page_id, cnt=0, window_end=window_end, is_final=False)


def redis_key(page_id: str, window_end_s: int) -> str:
    """The key of `key_template` in page_counts.toml; the Redis sink writes a percent sign as `%25`."""
    return f"page:{page_id.replace('%', '%25')}:{window_end_s}"
