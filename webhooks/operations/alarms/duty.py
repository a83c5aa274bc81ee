"""One process looks whether anything is to be told, and tells it: the duty "alarms".

`AlarmDuty` runs in every worker and starts a look every `interval`, in a thread, since a target may take its time. The one
that holds the duty in the database looks; when it dies, another holds it after two and a half intervals and goes on
from what is on record. `StandIn` is for web processes: it looks when no worker has done so for four intervals, so that
"no worker" is told as well, and gives the duty back once a worker reports.

A look asks for facts, writes what stands, then tells each target what it has not heard. A message is on record only once it
was answered: a process that dies between the two makes it come twice.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from webhooks.errors import StorageUnavailable
from webhooks.operations.alarms import telling
from webhooks.operations.alarms.collect import collect
from webhooks.operations.alarms.conditions import AlarmBounds, standing
from webhooks.operations.alarms.links import AlarmLinks
from webhooks.operations.alarms.messages import Notice, notice, trial_notice
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.operations.alarms.targets import NotTold, call, send
from webhooks.operations.background import BackgroundDuty
from webhooks.settings import AlarmTarget
from webhooks.store import AlarmRow, Store, TargetState

logger = logging.getLogger(__name__)

DUTY = "alarms"
#: What the holders of web processes begin with.
STAND_IN = "web:"
#: How often the dead man's switch is called, and no more seldom than every second look.
HEARTBEAT_EVERY = timedelta(minutes=1)
#: Bytes of the event that is tried, and rolled back, before the switch is called.
TRIAL_BYTES = 16_384
#: The name of the row that keeps how the dead man's switch stands.
HEARTBEAT = ":heartbeat"
#: How often senders are asked whether they have paused a subscription, and no more seldom than every twentieth look.
ASK_EVERY = timedelta(minutes=10)

Rows = dict[tuple[str, str], AlarmRow]


class AlarmWatch:
    """Looks and tells, for whichever process has the duty.

    targets: who is told.
    bounds: what the operator and the handlers' authors say.
    after: {alarm: for how long it must stand}, in place of the table's.
    links: where messages lead.
    heartbeat_url: of a dead man's switch, or "".
    interval: between two looks; the duty is kept for two and a half.
    paused: asks senders; {source: subscriptions that it has paused}.
    give, beat: how a message is sent, and the switch called; tests hand in others.
    """

    def __init__(
        self,
        store: Store,
        targets: Sequence[AlarmTarget],
        bounds: AlarmBounds,
        *,
        after: Mapping[str, timedelta] | None = None,
        links: AlarmLinks | None = None,
        heartbeat_url: str = "",
        interval: timedelta = timedelta(seconds=30),
        paused: Callable[[], Mapping[str, int]] = dict,
        give: Callable[[AlarmTarget, Notice], None] = send,
        beat: Callable[..., None] = call,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.targets = targets
        self.bounds = bounds
        self.interval = interval
        self._after = after or {}
        self._links = links or AlarmLinks()
        self._heartbeat_url = heartbeat_url
        self._paused = paused
        self._give = give
        self._beat = beat
        self._monotonic = monotonic
        self._asked_at = self._beat_at = float("-inf")
        self._audiences = {
            target.name: telling.Audience(target.name, Severity.of(target.severity), frozenset(target.only))
            for target in targets
        }

    @property
    def lease(self) -> timedelta:
        """For how long the duty is held without a word."""
        return self.interval * 2.5

    def wait_of(self, name: str) -> timedelta:
        """For how long an alarm must stand before it is told."""
        given = self._after.get(name)
        return given if given is not None else ALARMS[name].lasting if name in ALARMS else timedelta(0)

    # -- one look --------------------------------------------------------------------------------------------

    def look(self, holder: str, *, beats: bool = True) -> bool:
        """Look once, if `holder` has the duty or can get it; whether it did.

        beats: whether the dead man's switch is called, which is a worker's.
        Raises StorageUnavailable.
        """
        if not self._keep(holder):
            return False
        self._ask_senders()
        facts = collect(self.store)
        stands = standing(facts, self.bounds)
        before = self.store.alarms.rows()
        seen = telling.look(before, stands, facts.at, list(self._audiences.values()))
        rows = dict(seen.rows)
        changed = [row for key, row in rows.items() if row != before.get(key)]
        gone = [key for key in seen.gone if key in before]
        if changed or gone:
            self.store.alarms.put(changed, gone)
        errors = {each.key: each.error for each in stands}
        states = self.store.alarms.targets()
        for target in self.targets:
            state = states.get(target.name, TargetState(target.name))
            self._tell(holder, target, state, rows, errors, facts.at)
        if beats and self._heartbeat_url:
            self._call_switch(states.get(HEARTBEAT, TargetState(HEARTBEAT)), rows, facts.at)
        return True

    def _keep(self, holder: str) -> bool:
        return self.store.processes.acquire(DUTY, holder, self.lease)

    def _ask_senders(self) -> None:
        """Ask when it is time; of a sender that cannot be asked, what it said last stays on record."""
        now = self._monotonic()
        if now - self._asked_at < min(ASK_EVERY, self.interval * 20).total_seconds():
            return
        self._asked_at = now
        if found := self._paused():
            self.store.paused_subscriptions.note(found)

    def _tell(
        self,
        holder: str,
        target: AlarmTarget,
        state: TargetState,
        rows: Rows,
        errors: Mapping[tuple[str, str], str | None],
        at: datetime,
    ) -> None:
        """Tell one target what it has not heard, until it fails or another process has the duty."""
        if not telling.may_try(state, at):
            return
        waiting = telling.tells(rows, self._audiences[target.name], at, self.wait_of)
        for group in telling.packed(waiting, state, at):
            if not self._keep(holder):
                return
            message = notice(group, at, link=self._link_of(group), errors=errors if target.with_errors else None)
            state = self._attempt(target.name, state, lambda message=message: self._give(target, message))  # type: ignore[misc]
            if state.failing_since is not None:
                return
            heard = [telling.heard(rows[tell.row.key], target.name, tell, at) for tell in group]
            self.store.alarms.put(heard)
            rows.update({row.key: row for row in heard})

    def _link_of(self, group: Sequence[telling.Tell]) -> str:
        return self._links.of(*group[0].row.key) if len(group) == 1 else self._links.of()

    def _attempt(self, name: str, state: TargetState, give: Callable[[], None]) -> TargetState:
        """Try once, and keep how it went."""
        error = None
        try:
            give()
        except NotTold as failed:
            error = str(failed)
            if not state.failures:
                logger.warning("alarm target %s was not told: %s", name, error, extra={"action": "alarm"})
        state = telling.after(state, self.store.database.now(), error)
        self.store.alarms.put_target(state)
        return state

    # -- the dead man's switch -------------------------------------------------------------------------------

    def _call_switch(self, state: TargetState, rows: Rows, at: datetime) -> None:
        """Call it when it is time; its `/fail` while a critical alarm stands that is not muted, or no event could be stored."""
        now = self._monotonic()
        every = min(HEARTBEAT_EVERY, self.interval * 2)
        if now - self._beat_at < (every - self.interval / 30).total_seconds():
            return
        self._beat_at = now
        self.store.alarms.put_target(state)  # what cannot be written is not well, and the switch is not called
        fails = any(self.is_critical(rows, row, at) for row in rows.values()) or not self._can_store()
        self._attempt("heartbeat_url", TargetState(HEARTBEAT, state.tried_at, state.failures, state.failing_since),
                      lambda: self._beat(self._heartbeat_url, fails=fails))  # fmt: skip

    def _can_store(self) -> bool:
        """Whether an event that needs room would be stored: on a full disk small changes of old rows still succeed."""
        try:
            self.store.intake.try_write(body=os.urandom(TRIAL_BYTES))
        except StorageUnavailable as error:
            logger.warning("no event could be stored: %s", error.reason, extra={"action": "alarm"})
            return False
        return True

    def is_critical(self, rows: Rows, row: AlarmRow, at: datetime) -> bool:
        """Whether a row is a critical alarm that stands for long enough and is not muted."""
        return (
            row.since is not None
            and row.ended_at is None
            and row.severity >= Severity.CRITICAL
            and at - row.since >= self.wait_of(row.name)
            and not telling.is_muted(rows, row, at)
        )

    # -- by hand ---------------------------------------------------------------------------------------------

    def test(self, target: AlarmTarget, at: datetime) -> None:
        """Send a target a message that says nothing is wrong. Raises `NotTold`."""
        self._give(target, trial_notice(at, self._links.of()))


class AlarmDuty(BackgroundDuty):
    """The looks of a worker. `tick` costs a look at the clock."""

    def __init__(self, watch: AlarmWatch, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__("webhooks-alarms", watch.interval, monotonic)
        self._watch = watch

    def tick(self, holder: str) -> None:
        """Start a look when one is due and none is under way."""
        if self.may_look():
            self.begin(lambda: guarded(lambda: self._watch.look(holder)))


class StandIn:
    """The looks of a web process, while no worker makes them. Ends with `close`.

    name: by which it holds the duty.
    run: how what uses the database is called; under gevent in a native thread where it would block.
    """

    def __init__(self, watch: AlarmWatch, name: str, run: Callable[[Callable[[], object]], object]) -> None:
        self._watch = watch
        self._holder = f"{STAND_IN}{name}"
        self._run = run
        self._began: datetime | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhooks-alarms", daemon=True)

    def start(self) -> None:
        """Begin to watch over the workers."""
        self._thread.start()

    def close(self) -> None:
        """Stop; the duty is given back by its lease."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _work(self) -> None:
        while not self._over.wait(self._watch.interval.total_seconds()):
            guarded(lambda: self._run(self.turn))

    def turn(self) -> bool:
        """Look, if no worker does; whether it did. Raises StorageUnavailable."""
        store, now = self._watch.store, self._watch.store.database.now()
        self._began = self._began or now
        patience = self._watch.interval * 4
        last = store.alarms.last_round(DUTY)
        if last is not None and last[0].startswith(STAND_IN):
            beat = store.processes.last_worker_beat()
            if beat is not None and now - beat < self._watch.interval * 2:
                if last[0] == self._holder:
                    store.processes.resign(DUTY, self._holder)
                return False
        elif now - (last[1] if last is not None else self._began) < patience:
            return False
        return self._watch.look(self._holder, beats=False)


def guarded(look: Callable[[], object]) -> None:
    """Run a look; nothing that it raises ends the process or the next look."""
    try:
        look()
    except StorageUnavailable as error:
        logger.warning("alarms could not be looked at: %s", error.reason, extra={"action": "alarm"})
    except Exception:
        logger.exception("a look at the alarms failed", extra={"action": "alarm"})


__all__ = ["DUTY", "HEARTBEAT", "AlarmDuty", "AlarmWatch", "StandIn"]
