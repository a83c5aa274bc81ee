"""Carry out in a worker what pages asked for, and what processes that died left behind.

Each action has a lease on its row, so one worker at a time has it; its steps and cursor see to it that every delivery is
changed once, whatever ends in between. A worker that ends stops after the step in hand, and another continues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import StorageUnavailable
from webhooks.formats import counted, one_line
from webhooks.operations.actions.bulk import LEASE, BulkChange
from webhooks.operations.actions.journal import said
from webhooks.operations.actions.verbs import BY_A_WORKER, IN_STEPS, Verb, facts_of
from webhooks.operations.background import BackgroundDuty
from webhooks.store.actions import is_free

if TYPE_CHECKING:
    from webhooks.store import Action, Store

logger = logging.getLogger(__name__)

#: What began so long ago and never ended is taken for lost.
LOST = timedelta(days=1)
#: How often such are looked for.
LOOK_FOR_LOST = timedelta(hours=1)

#: Does an action in one go, and safely twice; answers with (how many things changed, result).
Runner = Callable[["Action"], tuple[int, Mapping[str, Any]]]


class ActionsDuty(BackgroundDuty):
    """Carries out actions in a worker.

    changes: makes {verb: what does it in steps} over this worker's handlers.
    runners: {verb: what does it in one go}.
    monotonic: seconds by a clock that never jumps.
    """

    #: How often the actions are looked at.
    LOOK_EVERY = timedelta(seconds=2)

    def __init__(
        self,
        changes: Callable[[], Mapping[Verb, BulkChange]],
        store: Store,
        *,
        runners: Mapping[Verb, Runner] | None = None,
        lease: timedelta = LEASE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("webhooks-actions", self.LOOK_EVERY, monotonic)
        self._changes = changes
        self._store = store
        self._runners = dict(runners or {})
        self._lease = min(lease, LEASE)
        self._stopping = threading.Event()
        self._lost_at = float("-inf")

    def tick(self, holder: str) -> None:
        """Begin what is on record; called every second or so. holder: this worker. Raises `StorageUnavailable`."""
        if self._stopping.is_set() or not self.may_look():
            return
        self._close_lost()
        unfinished = self._store.actions.unfinished()
        if not unfinished:
            return
        now = self._store.database.now()
        found = [action for action in unfinished if self._is_for_us(action, now, holder)]
        if found:
            self.begin(lambda: self._run(found, holder))

    def stop(self) -> None:
        """Do nothing after the step in hand."""
        self._stopping.set()

    def wait(self, timeout: timedelta) -> None:
        """Stop after the step in hand, and wait for its end."""
        self.stop()
        super().wait(timeout)

    def _is_for_us(self, action: Action, now: Any, holder: str) -> bool:
        if action.verb not in IN_STEPS and action.verb not in self._runners:
            return False
        if action.verb not in IN_STEPS and action.holder is None and action.state != 0:
            return False  # the process that writes it does it
        return is_free(action, now) or action.holder == holder

    def _close_lost(self) -> None:
        at = self._monotonic()
        if at - self._lost_at < LOOK_FOR_LOST.total_seconds():
            return
        self._lost_at = at
        taken_over = {*IN_STEPS, *BY_A_WORKER}
        before = self._store.database.now() - LOST
        self._store.actions.close_abandoned([str(verb) for verb in Verb if verb not in taken_over], before)

    def _run(self, found: list[Action], holder: str) -> None:
        for one in found:
            extra = {"action_id": one.id, "action": one.verb}
            try:
                action = self._store.actions.take(one.id, holder, self._lease)
                if action is None:
                    continue
                if not self._carry_out(action, holder):
                    self._store.actions.release(action.id, holder)
                    return
            except StorageUnavailable as error:
                logger.warning("action %s stopped and is continued: %s", one.id, one_line(str(error)), extra=extra)
                return
            except Exception as error:
                self._fail(one, error, extra)

    def _fail(self, action: Action, error: Exception, extra: Mapping[str, Any]) -> None:
        from webhooks.store import ActionState, Overtaken

        if isinstance(error, Overtaken):
            logger.info("action %s: %s", action.id, one_line(str(error)), extra=extra)
            return
        logger.exception("action %s failed", action.id, extra=extra)
        self._store.actions.finish(action.id, ActionState.FAILED, error=said(error))

    def _carry_out(self, action: Action, holder: str) -> bool:
        """Do it; False when this worker ends before it is done."""
        runner = self._runners.get(Verb(action.verb))
        if runner is not None:
            changed, result = runner(action)
            self._store.actions.finish(action.id, changed=changed, result=result)
        else:
            for step in self._changes()[Verb(action.verb)].steps(action, holder, self._lease):
                action = step.action
                if self._stopping.is_set():
                    return False
        said_of = facts_of(action.verb).done
        logger.info(
            "action %s: %s for %s, %s",
            action.id,
            said_of,
            action.by,
            counted(action.changed, "delivery") if runner is None else "done",
            extra={"action_id": action.id, "action": action.verb},
        )
        return True


__all__ = ["ActionsDuty", "Runner"]
