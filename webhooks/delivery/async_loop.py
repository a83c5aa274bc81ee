"""Coroutines of `async def` handlers: one event loop a process, in a thread of its own.

A handler that blocks the loop takes every other coroutine on it along, so a blocked loop is abandoned and the next
coroutine gets a new one. Not here: who decides that a coroutine's time is up (`supervisor`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Coroutine
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


class Job:
    """One coroutine on a loop. Over only when the coroutine is, however it was cancelled."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._error: BaseException | None = None
        self._done = threading.Event()

    def start(self) -> None:
        """Called on the loop."""
        if self._cancelled:
            self._coroutine.close()
            self._error = asyncio.CancelledError()
            self._done.set()
            return
        self._task = self.loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            await self._coroutine
        except (SystemExit, KeyboardInterrupt) as error:
            self._error = error  # asyncio would end the loop with it, and every other handler on it

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._coroutine.close()  # cancelled before its first step
        if task.cancelled():
            self._error = asyncio.CancelledError()
        elif self._error is None:
            self._error = task.exception()
        self._done.set()

    def result(self) -> None:
        """Wait until the coroutine is over; raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Ask the coroutine to end; any thread."""
        self._cancelled = True

        def cancel() -> None:
            if self._task is not None:
                self._task.cancel()

        try:
            self.loop.call_soon_threadsafe(cancel)
        except RuntimeError:  # the loop is closed, and everything on it over
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is over within `seconds`."""
        return self._done.wait(seconds)

    def frames(self) -> list[tuple[FrameType, int]]:
        """(frame, line) of where the coroutine stands: its own, and those of what it awaits or calls, the outermost first."""
        own: Any = self._coroutine
        for top in sys._current_frames().values():
            stack = list(traceback.walk_stack(top))[::-1]
            for number, (frame, _) in enumerate(stack):
                if frame is own.cr_frame:  # it runs, and perhaps blocks its loop
                    return stack[number:]
        found: list[tuple[FrameType, int]] = []
        while (at := getattr(own, "cr_frame", None)) is not None:
            found.append((at, at.f_lineno))
            own = own.cr_await
        return found

    def has_the_loop(self) -> bool:
        """Whether this coroutine is the one that runs right now, in its loop's thread."""
        return self._task is not None and asyncio.current_task(self.loop) is self._task


class Loop:
    """The event loop on which `async def` handlers run, in a thread of its own, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Job:
        """Run a coroutine; the answer waits for it, or cancels it."""
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(loop,), name="webhooks-async", daemon=True).start()
            job = Job(coroutine, self._loop)
            self._loop.call_soon_threadsafe(job.start)
            return job

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while True:
                try:
                    loop.run_forever()
                    break
                except (SystemExit, KeyboardInterrupt):
                    # out of a task that a handler made itself; its own attempt fails or times out, others continue
                    logger.warning("a task of an async handler raised SystemExit; the loop continues")
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    def is_blocked(self, loop: asyncio.AbstractEventLoop, patience: float = 0.5) -> bool:
        """Whether `loop` does not answer within `patience` seconds: some handler blocks it."""
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return False
        return not answered.wait(patience)

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave a blocked loop to itself; the next coroutine gets a new one."""
        with self._lock:
            if self._loop is loop:
                self._loop = None

    def stop(self) -> None:
        """Cancel what runs and end the loop's thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
