"""Owns whether the topics of a running worker are still those that it found: not deleted, and not made again under their names.

Before it: the source and the state's topics, which found them. After it: `transactions.py`, which asks beside each epoch, and
where records are not acknowledged; `lane_states.py`, where state is not to be read.
Invariant: the id of a topic that is made again is another one, and none comes back; so what was read before a question whose
answer is the id of the start is of the topic of the start.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from streamcore.errors import SinkError, StateError
from streamcore.kafka_client import Cluster, Topic

CHECK_INTERVAL_S = 1.0
"""How old the last good answer may be when an epoch is committed: an epoch that takes as long is asked of each time."""

ANSWER_S = 2.0
"""How long an answer is waited for, where something is wrong."""

BESIDE_S = 0.25
"""How long an epoch waits at most for the answer that was asked for as it began."""

AGAIN_S = 2.0
"""After this a bad answer is asked for once more: a broker that has just begun may not know of a topic yet."""

DOUBT_INTERVAL_S = 5.0
"""How often is asked while state cannot be read."""

GONE, OTHER = "gone", "other"


class TopicWatch:
    """Of one worker, or of one of its phases."""

    def __init__(self, cluster: Cluster, *, read: Sequence[Topic], state: Sequence[Topic]) -> None:
        """`read` and `state` as they were found when the worker began."""
        self._cluster = cluster
        self._read = {topic.name: topic.topic_id for topic in read}
        self._state = {topic.name: topic.topic_id for topic in state}
        self._asked: dict[str, Future[Any]] = {}
        """The question under way."""
        self._asked_s = self._good_s = self._doubted_s = float("-inf")
        """When it was asked, and the last one that had a good answer, and the last one in doubt (monotonic)."""

    def ask(self) -> None:
        """Asks, without waiting, whether the topics of input and state are the same; not where the last good answer is young."""
        now_s = time.monotonic()
        is_under_way = self._asked and now_s - self._asked_s < ANSWER_S
        if now_s - self._good_s >= CHECK_INTERVAL_S and not is_under_way:
            self._asked_s = now_s
            self._asked = self._question([*self._read, *self._state])

    def check(self) -> None:
        """Looks at the answer to `ask`. Raises `StateError` where a topic was made again.

        One that is gone is none of its business, and neither is a broker that does not answer: the next epoch looks again.
        """
        if not self._asked or wait(self._asked.values(), BESIDE_S).not_done:
            return
        asked, self._asked = self._asked, {}
        found = self._faults(asked)
        other = {name for name, fault in (found or {}).items() if fault == OTHER}
        if other:
            self._raise_for(self._confirmed(other))
        elif found == {}:
            self._good_s = self._asked_s

    def check_there(self, sent: Iterable[str]) -> None:
        """Asks now for the topics of the state, and those that records were `sent` to.

        Raises `StateError` or `SinkError` for one that the broker says is gone, or was made again.
        """
        names = {*self._state, *sent}
        found = self._faults(self._question(names)) if names else {}
        if found:
            self._raise_for(self._confirmed(found))

    def check_state(self) -> None:
        """The same of the topics of the state alone, now and then."""
        if time.monotonic() - self._doubted_s >= DOUBT_INTERVAL_S:
            self._doubted_s = time.monotonic()
            self.check_there(())

    def _confirmed(self, names: Iterable[str]) -> dict[str, str]:
        """What is still wrong with these topics a moment later."""
        time.sleep(AGAIN_S)
        return self._faults(self._question(names)) or {}

    def _question(self, names: Iterable[str]) -> dict[str, Future[Any]]:
        wanted = sorted(set(names))
        return dict(zip(wanted, self._cluster.topics_later(wanted), strict=True))

    def _faults(self, asked: Mapping[str, Future[Any]]) -> dict[str, str] | None:
        """What is wrong with which topic; None where something is not known."""
        from confluent_kafka import KafkaError, KafkaException

        until_s, known, found = time.monotonic() + ANSWER_S, self._read | self._state, {}
        is_known = True
        for name, future in asked.items():
            try:
                told = str(future.result(max(0.0, until_s - time.monotonic())).topic_id)
                if name in known and told != known[name]:
                    found[name] = OTHER
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    found[name] = GONE
                else:
                    is_known = False
            except FutureTimeoutError:
                is_known = False
        return found if found or is_known else None

    def _raise_for(self, faults: Mapping[str, str]) -> None:
        for name, fault in sorted(faults.items(), key=lambda each: each[0] not in self._state):
            happened = "was deleted and made again" if fault == OTHER else "was deleted"
            if name in self._state:
                raise StateError(
                    f"topic {name}, which keeps the state, {happened} while this worker ran: what was committed of it is gone; put a "
                    "savepoint back (streamcore state restore FILE FOLDER), or begin anew: streamcore state reset FILE"
                )
            if name in self._read and fault == OTHER:
                raise StateError(
                    f"topic {name}, which is read, {happened} while this worker ran, so its positions mean nothing; to begin anew: "
                    "streamcore state reset FILE (and move the files of its Parquet sinks, if it has any, away)"
                )
            if name not in self._read:
                raise SinkError(
                    f"topic {name}, to which this worker sends, {happened} while it ran; make it again (streamcore topics create FILE) "
                    "and start again: the run goes on from its last epoch, and what the topic had is gone",
                    retriable=False,
                )
