"""Detached replays: recorded by the process that asks, made by a worker.

A replay that is started with `detached` is on record and has no deliveries yet. `DetachedReplays` is a duty of every
worker: it looks for such replays and makes their deliveries, chunk by chunk, in a thread of its own. A lease in the
database elects the worker that does; should two of them run the same replay all the same, the cursor on its row lets one
continue, and nothing is made twice. A worker that ends stops after the chunk in hand, and another continues from there.

What surprises: today's routing is that of the worker. One that lacks the handler a replay is narrowed to leaves it to others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.errors import StorageUnavailable
from webhooks.formats import counted, one_line
from webhooks.operations.background import BackgroundDuty
from webhooks.operations.replay import Progress, Replayer, ReplayError

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.replays import Replay

logger = logging.getLogger(__name__)

#: The name of the lease that elects the worker.
LEADERSHIP = "replays"
#: A replay that failed by a fault of ours is tried again after this.
AGAIN_SECONDS = 60.0


class _Stopped(Exception):
    """This worker makes no more of the replay in hand."""


class DetachedReplays(BackgroundDuty):
    """Makes the deliveries of detached replays in a worker.

    make: a `Replayer` over this worker's handlers.
    lease: a worker that died while it made a replay is followed by another after this.
    monotonic: seconds by a clock that never jumps.
    """

    #: How often the replays are looked at.
    LOOK_EVERY = timedelta(seconds=2)

    def __init__(
        self,
        make: Callable[[], Replayer],
        store: Store,
        *,
        lease: timedelta = timedelta(seconds=30),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("webhooks-replays", self.LOOK_EVERY, monotonic)
        self._make = make
        self._store = store
        self._lease = lease
        self._failed_at: dict[int, float] = {}
        self._stopping = threading.Event()

    def tick(self, holder: str) -> None:
        """Start what is on record; called every second or so. holder: this worker. Raises `StorageUnavailable`."""
        if self._stopping.is_set() or not self.may_look():
            return
        replayer = self._make()
        found = [replay for replay in self._store.replays.open() if self._is_for_us(replay, replayer)]
        if found and self._is_elected(holder):
            self.begin(lambda: self._run(replayer, found, holder))

    def stop(self) -> None:
        """Make nothing after the chunk in hand."""
        self._stopping.set()

    def wait(self, timeout: timedelta) -> None:
        """Stop after the chunk in hand, and wait for its end."""
        self.stop()
        super().wait(timeout)

    def _is_for_us(self, replay: Replay, replayer: Replayer) -> bool:
        handler = replay.options.get("handler")
        is_late = self._monotonic() - self._failed_at.get(replay.id, float("-inf")) >= AGAIN_SECONDS
        has_handler = handler is None or handler in {each.name for each in replayer.registry.handlers()}
        return bool(replay.options.get("detached")) and is_late and has_handler

    def _is_elected(self, holder: str) -> bool:
        return self._store.processes.acquire(LEADERSHIP, holder, self._lease)

    def _run(self, replayer: Replayer, found: list[Replay], holder: str) -> None:
        def on_progress(progress: Progress) -> None:
            if self._stopping.is_set() or not self._is_elected(holder):
                raise _Stopped

        for replay in found:
            extra = {"replay_id": replay.id, "action": "replay"}
            try:
                done = replayer.run(replay, on_progress)
            except _Stopped:
                return
            except ReplayError as error:  # it was cancelled, or another process has it in hand
                logger.info("replay %s: %s", replay.id, one_line(str(error)), extra=extra)
            except StorageUnavailable as error:
                logger.warning("replay %s stopped and is continued: %s", replay.id, one_line(str(error)), extra=extra)
                return
            except Exception:
                self._failed_at[replay.id] = self._monotonic()
                logger.exception("replay %s failed and is tried again", replay.id, extra=extra)
            else:
                made = counted(done.deliveries, "delivery")
                logger.info("replay %s: %s made for %s", done.id, made, done.created_by, extra=extra)


__all__ = ["DetachedReplays"]
