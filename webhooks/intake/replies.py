"""Ask a reply of the user's what the sender hears, once its event is stored. A reply costs the event nothing.

`ReplyRunner.answer` is called behind the commit. It calls the function in a thread, waits for it at most `PATIENCE`, and says
None, which is the default answer, where it takes longer, fails, or `MOST_THREADS` others are under way. A function cannot be
stopped: it keeps its thread until it returns, so two that hang are all that can.

What surprises: under gevent they are native threads, because a function that computes, or waits in a library of C, would
keep every request of the process waiting, the commits among them.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from webhooks.forks import PerProcess
from webhooks.formats import error_summary
from webhooks.model import Challenge, Event
from webhooks.routing import Reply

logger = logging.getLogger(__name__)

#: Functions that run at once in a process.
MOST_THREADS = 2
#: Seconds for which a sender is kept waiting; Slack gives up after three.
PATIENCE_SECONDS = 2.0


class ReplyRunner:
    """Calls replies in threads of their own.

    around: what is opened around each call, asked each time: the context of the application that this one is part of.
    patience_seconds: see `PATIENCE_SECONDS`.
    wait_for: calls what it is given, and returns when that returned or the patience is over; None: in a thread.
    """

    def __init__(
        self,
        around: Callable[[], Callable[[], AbstractContextManager[Any]] | None] = lambda: None,
        patience_seconds: float = PATIENCE_SECONDS,
        wait_for: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._around = around
        self._patience = patience_seconds
        self._wait_for = wait_for if wait_for is not None else self._wait_for_thread
        # a deque, since threads of two kinds take from it and give back
        self._free: PerProcess[deque[int]] = PerProcess(lambda: deque(range(MOST_THREADS)))
        self._pool: PerProcess[Any] = PerProcess(_native_threads)

    def answer(self, reply: Reply, event: Event, request_id: str) -> Challenge | None:
        """What `reply` says of a stored event; None is the default answer. Raises nothing."""
        extra = {"source": event.source, "event_id": event.id, "request_id": request_id}
        free = self._free.get()
        try:
            place = free.pop()
        except IndexError:
            logger.warning(
                "reply %s was not asked, since %d others are under way; its sender got the default answer",
                reply.name,
                MOST_THREADS,
                extra=extra,
            )
            return None
        said: list[Any] = []

        def call() -> None:
            try:
                with (self._around() or contextlib.nullcontext)():
                    said.append(reply.answer(reply.function(event)))
            except BaseException as error:  # `sys.exit()` too is the end of this call and of nothing else
                said.append(error)
            finally:
                free.append(place)

        try:
            self._wait_for(call)
        except Exception as error:  # no thread can be started
            free.append(place)
            said.append(error)
        if not said:
            logger.warning(
                "reply %s took longer than %g s; its sender got the default answer",
                reply.name,
                self._patience,
                extra=extra,
            )
            return None
        if isinstance(said[0], BaseException):
            logger.warning(
                "reply %s failed, and its sender got the default answer: %s",
                reply.name,
                error_summary(said[0]),
                extra=extra,
                exc_info=said[0],
            )
            return None
        answer: Challenge | None = said[0]
        return answer

    def _wait_for_thread(self, call: Callable[[], None]) -> None:
        """Call it in another thread, and wait until it returned or the patience is over."""
        monkey: Any = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            self._pool.get().spawn(call).wait(timeout=self._patience)
            return
        thread = threading.Thread(target=call, name="webhooks-reply", daemon=True)
        thread.start()
        thread.join(self._patience)


def _native_threads() -> Any:
    from gevent.threadpool import ThreadPool

    return ThreadPool(MOST_THREADS)


__all__ = ["MOST_THREADS", "PATIENCE_SECONDS", "ReplyRunner"]
