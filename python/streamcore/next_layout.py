"""Owns making a pipeline's next layout: its number and topics, the wait until it counts, and which topics go then.

Before it: `state_changes.py`, whose claim is held. After it: `rescaling.py` and `resetting.py`, which say what the layout begins with.
Invariant: a number is never used twice. A topic that is there is not touched before a layout of a higher number is committed, and
then only ones of lower numbers are deleted, which can never count again: so a command that stood still for as long as you like
deletes nothing that somebody else uses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from streamcore.committed_state import CommittedState
from streamcore.errors import FencedError, SourceError, StateError
from streamcore.layouts import state_plans, topics_there
from streamcore.state_changes import Claim

log = logging.getLogger("streamcore.state")

VISIBLE_S = 60.0
"""How long the markers of the commit may take."""
VISIBLE_RETRY_S = 0.1


def next_number(committed: CommittedState) -> int:
    """Of the next layout: behind all that have a topic, those included that never came to count."""
    there = topics_there(committed.cluster, committed.name, committed.phase.stage)
    return 1 + max([committed.states.layout, *(number for number, _ in there)])


def make_layout(committed: CommittedState, held: Claim, number: int, partitions: int) -> None:
    """Makes the topics of a layout, which are new. Raises `FencedError` where another command makes them just now."""
    held.keep()
    plans = state_plans(committed.name, partitions, meets=committed.meets, stage=committed.phase.stage, layout=number)
    for plan in plans:
        if not committed.cluster.create_topic(plan):
            raise FencedError(
                f"topic {plan.name} was made by another command a moment ago; nothing was changed; try again when that is over"
            )


def await_layout(committed: CommittedState, number: int) -> None:
    """Waits until the layout counts for whoever looks: a commit returns before its markers are written.

    Raises `StateError`, or `FencedError` where a later one does.
    """
    deadline = time.monotonic() + VISIBLE_S
    while True:
        committed.look_again()
        if committed.states.layout == number:
            return
        if committed.states.layout > number:
            raise FencedError(
                f"layout {number} was committed, and another command has made layout {committed.states.layout} since; look with "
                "streamcore state verify FILE"
            )
        if time.monotonic() > deadline:
            raise StateError(
                f"layout {number} was committed, and layout {committed.states.layout} is found after {VISIBLE_S:.0f} s; look with "
                "streamcore state verify FILE"
            )
        time.sleep(VISIBLE_RETRY_S)


def delete_layouts(committed: CommittedState, numbers: Collection[int], *, below: int) -> None:
    """Deletes topics of layouts that are lower than one that is committed (`below`). Who may not delete them is told so."""
    there = topics_there(committed.cluster, committed.name, committed.phase.stage)
    names = [name for number, name in there if number in numbers and number < below]
    try:
        committed.cluster.delete_topics(names)
    except SourceError as error:
        log.warning("%s; nothing uses it any more", error)
