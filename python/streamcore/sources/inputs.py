"""Owns reading several inputs as one source: the pipeline's own, and those that a join names.

Before it: a source for each. After it: the runner, which knows lanes alone.
Invariant: a table is read to its end, as of the start, before anything else is; no lane is held back for ever.

The lanes of input `n` are numbered from `n * LANES_PER_INPUT`; input 0 is the pipeline's own, so its lanes keep their
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamcore._core import LANES_PER_INPUT
from streamcore.errors import ConfigError
from streamcore.sources.base import End, Gapped, Measured, Polled, Position, Source, Start


@dataclass(slots=True)
class Input:
    """One of the inputs and how far it is."""

    name: str
    """Empty for the pipeline's own."""
    source: Source
    start: str
    """Where lanes begin that have no position: see `Start.default`."""
    is_table: bool = False
    must_be_polled: bool = False
    """Whether it loses its place where nobody polls it (Kafka); it gives nothing while its lanes are paused."""
    lanes: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    """Lanes read to the end of a bounded read."""
    ended: bool = False
    unread: set[int] | None = None
    """Lanes of a table that have not been at their end since the start; None: it need not be read first."""

    @property
    def loading(self) -> bool:
        """Whether everything else waits for it."""
        return bool(self.unread)


class InputsSource:
    """Inputs side by side; see `sources/base.py` for the contract."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.bounded = all(each.source.bounded for each in inputs)
        self.inputs = list(inputs)
        self._held: set[int] = set()
        """Lanes that the runner asked to hold back, by their numbers here."""
        self._paused: list[set[int] | None] = [None] * len(inputs)
        """What each source was told to hold back."""

    def open(self, start: Start) -> list[int]:
        """Opens all of them. Raises what theirs raises."""
        for number, each in enumerate(self.inputs):
            prefix = f"{each.name}." if each.name else ""
            previous = {
                fact.removeprefix(prefix): value for fact, value in start.previous.items() if fact.startswith(prefix)
            }
            own = Start(self._own(number, start.positions), each.start, start.stop, previous)
            each.lanes = set(each.source.open(own))
            each.unread = set(each.lanes) if each.is_table else None
        return [self._number(number, lane) for number, each in enumerate(self.inputs) for lane in sorted(each.lanes)]

    def check_sizes(self) -> None:
        """Raises `ConfigError` where inputs that are joined lane by lane have not the same ones."""
        check_sizes({each.name or "the source": len(each.lanes) for each in self.inputs})

    def poll(self, timeout_s: float) -> Polled:
        """The next records of all that are not held back. It waits only when none has any."""
        polled = self._poll(0.0)
        if polled.raw is None and not polled.ended:
            more = self._poll(timeout_s / len(self.inputs))
            more.lanes_added += polled.lanes_added
            more.refetched += polled.refetched
            return more
        return polled

    def _poll(self, timeout_s: float) -> Polled:
        whole = Polled()
        self._hold()
        for number, each in enumerate(self.inputs):
            if self._rests(number):
                continue
            polled = each.source.poll(timeout_s)
            self._note(each, polled)
            if polled.raw is not None:
                polled.raw.of_input(number)
                if whole.raw is None:
                    whole.raw = polled.raw
                else:
                    whole.raw.add(polled.raw)
            whole.caught_up += tuple(self._number(number, lane) for lane in polled.caught_up)
            whole.lanes_added += tuple(self._number(number, lane) for lane in polled.lanes_added)
            whole.refetched += polled.refetched
            whole.source_is_full |= polled.source_is_full
        self._note_ends(whole)
        return whole

    def _note_ends(self, whole: Polled) -> None:
        whole.ended = all(each.ended for each in self.inputs)
        over = [(number, each) for number, each in enumerate(self.inputs) if each.ended and not whole.ended]
        whole.finished = tuple(self._number(number, lane) for number, each in over for lane in sorted(each.lanes))

    def _note(self, each: Input, polled: Polled) -> None:
        each.lanes |= set(polled.lanes_added)
        each.ended = polled.ended
        if each.source.bounded:
            each.done = set(each.lanes) if polled.ended else set(polled.caught_up)
        if each.unread:
            each.unread -= each.lanes if polled.ended else set(polled.caught_up)

    def _hold(self) -> None:
        """Tells each source what to hold back: while a table is read all that are none, else what the runner asked for."""
        loading = any(each.loading for each in self.inputs)
        held = [self._own_lanes(number) for number in range(len(self.inputs))]
        if all(each.lanes - each.done <= held[number] for number, each in enumerate(self.inputs)):
            held = [set() for _ in self.inputs]  # only what is over is behind
        for number, each in enumerate(self.inputs):
            wanted = set(each.lanes) if loading and not each.is_table else held[number]
            if each.loading:
                wanted = set()  # whatever its clock: the others wait for it
            if wanted != self._paused[number]:
                each.source.pause(sorted(wanted))
                self._paused[number] = wanted

    def _rests(self, number: int) -> bool:
        """Whether an input is held back as a whole; one that has no lane yet, or that is over, is looked at."""
        each, paused = self.inputs[number], self._paused[number] or set()
        left = each.lanes - each.done
        return not each.must_be_polled and bool(left) and left <= paused

    def positions(self) -> dict[int, Position]:
        """The next position of each lane."""
        places = enumerate(each.source.positions() for each in self.inputs)
        return {self._number(number, lane): position for number, own in places for lane, position in own.items()}

    def ends(self) -> dict[int, End]:
        """Where the lanes end of those that know it."""
        known = [(number, each.source) for number, each in enumerate(self.inputs) if isinstance(each.source, Measured)]
        return {self._number(number, lane): end for number, source in known for lane, end in source.ends().items()}

    def gaps(self) -> dict[int, tuple[int, int]]:
        """The gaps that were accepted of those inputs that may have any."""
        known = [(number, each.source) for number, each in enumerate(self.inputs) if isinstance(each.source, Gapped)]
        return {self._number(number, lane): gap for number, source in known for lane, gap in source.gaps().items()}

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back in all of them; a table that is not at its end there is read to it again."""
        for number, each in enumerate(self.inputs):
            each.source.seek(self._own(number, positions))
            each.done, each.ended = set(), False
            each.unread = set(each.lanes) if each.is_table else None
            self._paused[number] = None

    def pause(self, lanes: list[int]) -> None:
        """Holds these lanes back until the next call, unless only lanes that are over are behind them."""
        self._held = set(lanes)

    def committed(self, positions: Mapping[int, Position]) -> None:
        """The epoch that ends at these positions is durable."""
        for number, each in enumerate(self.inputs):
            each.source.committed(self._own(number, positions))

    def describe(self) -> dict[str, object]:
        """The facts of each; those of another input with its name before them."""
        facts: dict[str, object] = {}
        for each in self.inputs:
            prefix = f"{each.name}." if each.name else ""
            facts |= {prefix + fact: value for fact, value in each.source.describe().items()}
        return facts

    def close(self) -> None:
        """Closes all of them, also where one fails to."""
        failures: list[Exception] = []
        for each in self.inputs:
            try:
                each.source.close()
            except Exception as error:  # noqa: BLE001 - the others are to be closed first
                failures.append(error)
        if failures:
            raise failures[0]

    def _number(self, number: int, lane: int) -> int:
        return number * LANES_PER_INPUT + lane

    def _own(self, number: int, positions: Mapping[int, Any]) -> dict[int, Any]:
        return {
            lane % LANES_PER_INPUT: position
            for lane, position in positions.items()
            if lane // LANES_PER_INPUT == number
        }

    def _own_lanes(self, number: int) -> set[int]:
        return {lane % LANES_PER_INPUT for lane in self._held if lane // LANES_PER_INPUT == number}


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Raises `ConfigError` for inputs of different numbers of partitions; `sizes` are by what they are called."""
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ConfigError(
            f"these inputs cannot be joined partition by partition: {told} partitions; make the numbers equal, filled by the same "
            'partitioner, or leave combine = "none" out: without exactly_once all partitions are joined in one process'
        )
