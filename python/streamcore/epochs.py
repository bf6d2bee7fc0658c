"""Owns committing exactly once: carries out what the commit machine says, against Kafka, the engine and the sinks.

Before it: the runner, which says when an epoch should end, and the consumer group, which gives and takes lanes. After it:
one transaction an epoch, with the rows, the dead letters, the state and the offsets of all lanes of this worker.
Invariant: nothing is decided here. The machine (`docs/decisions/0030-the-commit-machine.md`) is told what happened, event
by event, and each of its actions is carried out once and answered.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson

from streamcore import _core
from streamcore.checkpoint import Header
from streamcore.endings import await_known, await_named, failure_of, seconds_of, told
from streamcore.errors import ConfigError, Error, SinkError, SourceError, StateError
from streamcore.faults import action_point, fault_point
from streamcore.gaps import Gaps
from streamcore.held_outputs import HeldOutputs
from streamcore.kafka_client import REQUEST_TIMEOUT_S
from streamcore.lane_files import LaneFiles
from streamcore.lane_states import LaneStates
from streamcore.layouts import MEETING_LANE
from streamcore.manifests import SEAL_BITS, Identity, by_number, by_topic, facts_of, offsets_of, told_of
from streamcore.membership import Meeting, Membership
from streamcore.phases import PARTIAL, WHOLE, Phase, handed_over_bytes, send_partials
from streamcore.report import Ledgers, Stages, add_ledgers
from streamcore.sources.base import Position
from streamcore.sources.kafka_joined import JoinedSource
from streamcore.sources.kafka_member import MemberSource
from streamcore.state_topics import check_shared
from streamcore.transactions import Transactions

log = logging.getLogger("streamcore.commit")

REVOKE_S = 10.0
"""How long the commit inside a revoke may take: the group waits for it."""

STOP_S = 10.0
"""How long the last commit of a run may take, and to find out what became of the one before."""
LANES_AT_ONCE = os.cpu_count() or 1
"""Lanes whose records are made side by side."""

Event = dict[str, Any]
Action = dict[str, Any]


class Epochs:
    """Commits epochs of one worker; takes the place of `commit.Committer`."""

    def __init__(
        self,
        *,
        engine: _core.Pipeline,
        source: MemberSource | JoinedSource,
        outputs: HeldOutputs,
        transactions: Transactions,
        states: LaneStates,
        machine: _core.CommitMachine,
        identity: Identity,
        meeting: Meeting,
        files: LaneFiles,
        trace: Callable[[bytes, bytes, int], None] | None = None,
        phase: Phase = WHOLE,
    ) -> None:
        """`trace` is shown events and actions as JSON."""
        self._phase = phase
        self._engine = engine
        self._source = source
        self._outputs = outputs
        self._transactions = transactions
        self._states = states
        self._machine = machine
        self._identity = identity
        self._meeting = meeting
        self._files = files
        self._has_state: dict[int, bool] = {}
        """By lane that was brought to its state: whether there was any."""
        self._trace = trace
        self._feed: list[int] = []
        self._tick_due_s: float | None = None
        self._is_done: bool | None = None
        """Of the commit under way: whether all that was read is committed."""
        self._ended = False
        self._lanes_ended: dict[int, bool] = {}
        self._kept: dict[int, Position] = {}
        self._gaps = Gaps(source)
        self._manifests: list[tuple[int, bytes, bytes]] = []
        self._sealed: set[int] = set()
        """Lanes of the epoch that was sealed, until it is kept or taken back: the engine has one way back for all."""
        self._seals_end = False
        """Whether that is the end of the input; it may be kept long after it was sent."""
        self._ledger_restored: Ledgers = {}
        self._stages_restored: Stages = engine.stages()
        self._stops = False
        self._refusal: Error | None = None
        """Why the last action failed for good, in words that the machine does not know."""
        self._place = phase.prefix
        """Where actions are carried out, before the names of fault points."""
        self._seal = 0
        """Tells the sealed epoch from another's of the same state."""
        self._membership = Membership(source)

    # What the runner asks of whoever commits.

    @property
    def is_kept(self) -> bool:
        """Whether what is committed outlives the run: always."""
        return True

    @property
    def writes_whole(self) -> bool:
        """False: what changed is written."""
        return False

    @property
    def in_doubt(self) -> bool:
        """Whether an epoch was sealed, and the machine has not found out yet what became of it."""
        return bool(self._sealed)

    @property
    def stands(self) -> bool:
        """Whether no clock may run: an epoch is in doubt, or of lanes that meet some are back, and others not."""
        return self.in_doubt or (self._meeting.meets and bool(self._has_state) and not self._feed)

    @property
    def header(self) -> Header:
        """Of the last committed epoch of the lanes there are."""
        epoch, ended = max(0, self._engine.epoch - 1), bool(self._feed) and all(map(self._lanes_ended.get, self._feed))
        return self._identity.header(epoch, self._kept, self._source.describe(), ended=ended)

    @property
    def positions(self) -> dict[int, Position]:
        """Where the last committed epoch ends."""
        return self._kept

    def ledger(self) -> Ledgers:
        """Counts of each lane since this worker took it."""
        return add_ledgers(self._engine.ledger(), self._ledger_restored, -1)

    def stages(self) -> Stages:
        """Counts of each stage behind a window in this run."""
        return add_ledgers(self._engine.stages(), self._stages_restored, -1)

    def skipped(self) -> dict[int, int]:
        """Offsets that accepted gaps have passed over since this worker took their lanes."""
        return self._gaps.in_run()

    def start(self) -> None:
        """Makes the producer, and asks the group for lanes. Raises what the machine ends the run with."""
        self._run({"event": "start"})
        self._source.join(self)

    def tick(self) -> None:
        """Lets the machine go on with what takes time: recovery, pauses. Called between two polls."""
        self._outputs.check()
        self._meeting.check_whole()
        if self._tick_due_s is not None and time.monotonic() >= self._tick_due_s:
            self._run({"event": "tick"})
        if self._unplaced():
            self._run({"event": "due"})

    def _unplaced(self) -> list[int]:
        """Lanes of which no epoch says yet where they began, though that is not their oldest record: until then nothing is read."""
        return [lane for lane in self._feed if self._source.starts_late and not self._has_state.get(lane, False)]

    def commit(self, *, ended: bool) -> bool:
        """Ends the epoch; false where it was taken back, or cannot end now: then what was read comes again."""
        self._ended, self._is_done = ended, None
        self._run({"event": "due"})
        self._ended, done = False, cast("bool | None", self._is_done)
        if ended and done is None:
            # The rows of an end must not wait for more input.
            self.rollback()
        elif ended:
            await_named(self, lambda: not self._files.waits, time.monotonic() + STOP_S)
        return done is True

    def stop(self) -> bool:
        """Commits a last time and ends. Raises what the machine ends the run with, if that is not well.

        An epoch that a rebalance kept from being committed is taken back, and whoever has its lanes next reads it.
        """
        until_s = time.monotonic() + STOP_S
        await_known(self, until_s)
        self._stops, self._membership.refusal = True, None
        self._run({"event": "stop", "within_ms": max(1, int(1_000 * (until_s - time.monotonic())))})
        return True

    def rollback(self) -> None:
        """Takes the epoch back, where the runner found out that it cannot go on: state, rows, and positions.

        Nothing was added to one that is in doubt.
        """
        if not self.in_doubt:
            self._roll_back()

    # What the group tells, inside its callbacks.

    def assigned(self, lanes: list[int], member: str) -> None:
        """See `kafka_member.Listener`."""
        is_next = self._membership.began(member)
        self._run({"event": "assigned", "lanes": self._meeting.came(lanes), "member": member, "continuous": is_next})

    def revoked(self, lanes: list[int]) -> None:
        """See `kafka_member.Listener`."""
        gone = self._meeting.gone(lanes)
        is_next = self._membership.moves_on()
        self._place = f"{self._phase.prefix}revoke-"
        try:
            self._run({"event": "revoked", "lanes": gone, "within_ms": int(REVOKE_S * 1000), "continuous": is_next})
        finally:
            self._place = self._phase.prefix
        self._meeting.check_taken(lanes)

    def lost(self, lanes: list[int]) -> None:
        """See `kafka_member.Listener`."""
        self._run({"event": "lost", "lanes": self._meeting.gone(lanes)})

    # The machine's loop.

    def _run(self, event: Event) -> None:
        """Tells the machine of an event, and carries its actions out until it rests."""
        self._transactions.within(event.get("within_ms"))
        while True:
            news, now_ms = orjson.dumps(event), time.monotonic_ns() // 1_000_000
            answer = self._machine.handle(news, now_ms)
            if self._trace is not None:
                self._trace(news, answer, now_ms)
            actions: list[Action] = orjson.loads(answer)
            for action in actions:
                name = action["action"]
                if name == "report":
                    log.log(logging.getLevelNamesMapping()[action["level"].upper()], "%s", action["message"])
                elif name == "rest":
                    self._rest(action)
                    return
                elif name == "exit":
                    self._exit(action)
                    return
                else:
                    event = self._carry_out(name, action)
            if not actions:
                return

    def _rest(self, action: Action) -> None:
        self._feed = list(action["feed"])
        self._source.feed(set(self._feed) - {MEETING_LANE, *self._unplaced()})
        tick_ms = action["tick_ms"]
        self._tick_due_s = None if tick_ms is None else time.monotonic() + tick_ms / 1000

    def _exit(self, action: Action) -> None:
        self._tick_due_s, self._feed = None, []
        self._source.feed(())
        self._transactions.give_up()
        moved = self._membership.refusal if self._stops else None
        error = failure_of(action, self._refusal, name=self._transactions.transactional_id, moved=moved)
        if error is not None:
            raise error

    def _carry_out(self, name: str, action: Action) -> Event:
        from confluent_kafka import KafkaException

        fault_point(f"before-{self._place}{action_point(action)}")
        self._refusal = None
        try:
            answer: Event = getattr(self, f"_do_{name}")(action)
        except (KafkaException, BufferError, ConfigError, SinkError, SourceError, StateError) as error:
            self._membership.note(error)
            event, self._refusal = told(error, self._transactions, self._source.topics)
            return event
        fault_point(f"after-{self._place}{action_point(action)}")
        return answer

    # The actions, one each.

    def _do_new_producer(self, action: Action) -> Event:
        self._transactions.renew(seconds_of(action))
        return {"event": "producer_ready"}

    def _do_fetch_committed(self, action: Action) -> Event:
        numbers = [number for lane in action["lanes"] for number in self._source.numbers(lane)]
        found = self._source.committed_offsets(numbers, seconds_of(action)) if numbers else {}
        self._states.ask_anew()  # a commit that it waited for may be behind the ends that were asked for
        lanes = [offsets_of(self._source, lane, found, None) for lane in action["lanes"]]
        return {"event": "committed_fetched", "lanes": lanes}

    def _do_read_state(self, action: Action) -> Event:
        reached = self._states.read(
            action["lanes"], until=action["until"], timeout_s=seconds_of(action), records=self._engine.state_records
        )
        source, states = self._source, self._states
        lanes = [told_of(states, lane, self._identity, source, reached=done) for lane, done in reached.items()]
        return {"event": "state_read", "lanes": lanes}

    def _do_restore(self, action: Action) -> Event:
        if self._sealed:
            # In doubt until now, and not committed: another worker was.
            self._roll_back(but=[each["lane"] for each in action["lanes"]])
        restored = []
        for lane, manifest in ((each["lane"], each["manifest"]) for each in action["lanes"]):
            found = self._states.recover(lane, self._engine, is_new=manifest is None)
            whole = None if found is None else orjson.loads(found)
            if manifest is not None and (whole is None or whole["epoch"] != manifest["epoch"]):
                raise StateError(f"the state of lane {lane} is not the one that was chosen a moment ago")
            self._gaps.restored(lane, None if whole is None else whole["facts"])
            if whole is not None:
                # In phases a run tells of its end once more: windows leave where partials are merged, which forgets none.
                self._lanes_ended[lane] = self._phase is WHOLE and whole["facts"]["ended"]
                if self._lanes_ended[lane]:
                    self._engine.note_ended([lane], wait=self._source.bounded)
            digest, watermark_ms = self._engine.sealed_lanes()[lane]
            self._files.recover(lane, found)
            restored.append({"lane": lane, "clock_ms": watermark_ms, "digest": digest})
            ledger = self._engine.ledger()
            for number in self._source.numbers(lane) or [lane]:
                self._ledger_restored[number] = ledger.get(number, {})
            self._states.restored(lane, found)
            self._has_state[lane] = found is not None
        check_shared(self._has_state, self._states.place(MEETING_LANE)[0])
        self._stages_restored = self._engine.stages()
        return {"event": "restored", "lanes": restored}

    def _do_seek(self, action: Action) -> Event:
        known = by_number(self._source, action["lanes"])
        found = self._source.place(known, timeout_s=self._transactions.left_of(REQUEST_TIMEOUT_S))
        self._kept |= found
        self._gaps.sought((start["lane"] for start in action["lanes"]), known, found)
        return {
            "event": "sought",
            "lanes": [offsets_of(self._source, each["lane"], found, 0) for each in action["lanes"]],
        }

    def _do_begin(self, _action: Action) -> Event:
        self._sealed, self._seals_end, self._is_done = set(self._feed), self._ended, False
        size_bytes = max(handed_over_bytes(self._engine, self._phase), self._engine.changed_bytes)
        self._transactions.begin(self._outputs.held_rows, size_bytes=size_bytes)
        return {"event": "began"}

    def _do_seal(self, _action: Action) -> Event:
        epoch = self._engine.epoch
        self._outputs.hold(self._engine.seal(self._feed).outputs, epoch=epoch)
        facts, positions = self._engine.sealed_lanes(), self._source.positions()
        self._is_done, self._seal = True, secrets.randbits(SEAL_BITS)
        rows = self._outputs.held_rows
        lanes = []
        for lane in self._feed:
            digest, watermark_ms = facts[lane]
            # Where lanes share state, offsets of all fence its epoch, so all have a manifest from the first one on.
            is_first = (self._meeting.meets or self._source.starts_late) and not self._has_state.get(lane, False)
            lanes.append(
                {
                    **offsets_of(self._source, lane, positions, 0),
                    "clock_ms": watermark_ms,
                    "digest": digest,
                    "outputs": rows + self._ended + is_first,
                    "seal": self._seal,
                }
            )
            # Which lane rows are of is not asked: one that moves is enough. That the input ended is said of all.
            rows = 0
        return {"event": "sealed", "lanes": lanes}

    def _do_produce(self, action: Action) -> Event:
        self._is_done = False
        if action["part"] == "outputs":
            self._outputs.send()
        elif action["part"] == "state":
            self._produce_state(action["lanes"])
        else:
            for lane, key, value in self._manifests:
                self._produce_record(lane, key, value)
            self._manifests = []
        return {"event": "produced"}

    def _produce_state(self, lanes: Sequence[Mapping[str, int]]) -> None:
        positions, still = self._source.positions(), self._engine.ended_lanes
        files = self._files.write(lanes, positions, seal=self._seal)
        self._manifests = []
        self._states.begin_epoch()
        if self._phase is PARTIAL:
            send_partials(self._engine, self._transactions, self._identity.pipeline, lanes, seal=self._seal)
        for at in range(0, len(lanes), LANES_AT_ONCE):
            facts = {
                each["lane"]: facts_of(
                    self._identity,
                    self._source,
                    positions=by_topic(self._source, each["lane"], positions),
                    owner=each["owner_epoch"],
                    seal=self._seal,
                    ended=self._ended or each["lane"] in still,
                    files=files[each["lane"]],
                    skipped=self._gaps.of(each["lane"]),
                )
                for each in lanes[at : at + LANES_AT_ONCE]
            }
            # Records of these lanes are on their way while those of the next are made.
            for lane, (*blocks, (key, manifest)) in self._engine.seal_logs(facts).items():
                for block_key, block in blocks:
                    self._produce_record(lane, block_key, block)
                if manifest is not None:
                    self._manifests.append((lane, key, manifest))

    def _produce_record(self, lane: int, key: bytes, value: bytes | None) -> None:
        (topic, partition), noted = self._states.place(lane), self._states.note(lane, key, value)
        self._transactions.send(topic, key=key, value=value, partition=partition, delivered=noted)

    def _do_flush(self, action: Action) -> Event:
        left = self._transactions.flush(seconds_of(action))
        if left:
            return {"event": "failed", "error": "indeterminate", "message": f"{left} records are not acknowledged"}
        return {"event": "flushed"}

    def _do_send_offsets(self, action: Action) -> Event:
        metadata, refusal = self._membership.fencing(action["group"], action.get("member", ""))
        if refusal is not None:
            return {"event": "failed", "error": "abortable", "message": refusal}
        offsets = by_number(self._source, action["lanes"])
        if not offsets and any(each["lane"] == MEETING_LANE for each in action["lanes"]):
            # What lanes share has no offset, and a transaction without any is not fenced.
            offsets = {lane: at for lane, at in self._source.positions().items() if lane in self._feed}
        self._transactions.send_offsets(self._source.parts(offsets), metadata, seconds_of(action))
        return {"event": "offsets_sent"}

    def _do_commit(self, action: Action) -> Event:
        return {"event": "transaction_committed", "disconnected": self._transactions.commit(seconds_of(action))}

    def _do_abort(self, action: Action) -> Event:
        self._is_done = False
        return {"event": "aborted", "disconnected": self._transactions.abort(seconds_of(action))}

    def _do_rollback(self, action: Action) -> Event:
        self._is_done = False
        self._roll_back(but=action["lanes"])
        return {"event": "done"}

    def _roll_back(self, *, but: Sequence[int] = ()) -> None:
        """Takes the epoch of all lanes back; those that are fed read on from its beginning, `but` where that is said later.

        Waiting rows are not told apart by lane, so none may stay when some must go.
        """
        self._engine.rollback()
        self._outputs.discard()
        self._manifests, self._sealed = [], set()
        again = [number for lane in self._feed if lane not in but for number in self._source.numbers(lane)]
        self._source.seek({number: self._kept[number] for number in again if number in self._kept})

    def _do_keep(self, action: Action) -> Event:
        self._engine.committed()
        self._sealed = set()
        self._states.committed(action["lanes"])
        positions, still = self._source.positions(), self._engine.ended_lanes
        for each in action["lanes"]:
            lane = each["lane"]
            self._has_state[lane] = True
            self._lanes_ended[lane] = self._seals_end or lane in still
            self._kept |= {number: positions.get(number, 0) for number in self._source.numbers(lane)}
        self._outputs.committed(self._engine.epoch - 1)
        self._is_done = True
        return {"event": "done"}

    def _do_write_cache(self, _action: Action) -> Event:
        self._states.write()
        return {"event": "done"}

    def _do_publish(self, action: Action) -> Event:
        self._files.publish(action["lanes"])
        return {"event": "done"}

    def _do_drop(self, action: Action) -> Event:
        lanes = action["lanes"]
        self._sealed -= set(lanes)
        # Before anything is taken back: they may be of a committed epoch, which whoever has the lanes next finds out.
        self._files.forget(lanes)
        if not self._sealed:
            # Of an epoch that is over without a commit: rows of these lanes or beside theirs, of which the engine may have some yet.
            self._is_done = False
            self._roll_back(but=lanes)
        self._engine.revoke(lanes)
        self._source.forget(lanes)
        self._states.drop(lanes)
        for lane in lanes:
            self._gaps.forget(lane)
            self._lanes_ended.pop(lane, None)
            self._has_state.pop(lane, None)
            for number in self._source.numbers(lane) or [lane]:
                self._kept.pop(number, None)
                self._ledger_restored.pop(number, None)
        return {"event": "done"}

    def _do_wait(self, action: Action) -> Event:
        time.sleep(action["wait_ms"] / 1000)
        return {"event": "done"}
