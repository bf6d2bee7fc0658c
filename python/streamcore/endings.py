"""Owns how a worker that commits exactly once tells of its end.

Before it: `epochs.py`, with the code and the message of the commit machine. After it: what the run raises.
Invariant: a stop that a rebalance met is none of the worker's failures; every other end that is not well is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from streamcore.errors import Error, FencedError, SourceError, StateError
from streamcore.transactions import worker_of

log = logging.getLogger("streamcore.commit")


def failure_of(exit_action: Mapping[str, Any], *, name: str, moved: str | None) -> Error | None:
    """What the run ends with; None: well. `name` is the `transactional_id`. `moved`: of a stop, how the group refused to have its last epoch committed."""
    code, message = exit_action["code"], exit_action["message"]
    if code == 0:
        return None
    if code == 1 and moved is not None:
        log.warning(
            "stopped while the group was giving out its partitions anew: the last epoch was refused (%s) and is taken back; "
            "whoever has the partitions next reads it again, so nothing is lost or doubled",
            moved,
        )
        return None
    if code == 4:
        return SourceError(message, unreachable=True)
    if code == 7:
        return FencedError(
            f"{message} (another worker has the name of this one, {worker_of(name)}: give each worker an instance_id of its own, in the "
            "pipeline file or by STREAMCORE_INSTANCE_ID; or a transaction took longer than it may)"
        )
    return StateError(message) if code == 6 else Error(message)
