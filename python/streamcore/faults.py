"""Owns the points at which a test may make a worker fail.

Before it: the environment variable `STREAMCORE_FAULTS`, as `NAME:nth:kill` or `NAME:nth:stop`, several with commas. After it: the
places in `epochs.py` that are named. Nothing happens unless the engine was built for it (`_core.FAULTS`), which no
package is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from streamcore import _core

VARIABLE = "STREAMCORE_FAULTS"
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def _planned() -> dict[str, tuple[int, signal.Signals]]:
    plans = {}
    for plan in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, nth, what = plan.split(":")
        plans[name] = (int(nth), SIGNALS[what])
    return plans


_plans = _planned() if _core.FAULTS else {}
_passed: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Fails here, if that was asked for: the nth time that `name` is passed."""
    if name not in _plans:
        return
    _passed[name] = _passed.get(name, 0) + 1
    nth, what = _plans[name]
    if _passed[name] == nth:
        # To this thread, which does not return from the call before it is carried out; another may go on for a while.
        signal.pthread_kill(threading.get_ident(), what)


def action_point(action: Mapping[str, Any]) -> str:
    """The name of an action's point: of one that sends records, with which."""
    name: str = action["action"]
    return f"{name}-{action['part']}" if name == "produce" else name
