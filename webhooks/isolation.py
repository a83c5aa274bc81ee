"""Run attempts in processes of their own, one at a time each: for `isolation="process"`, and for deliveries whose
process died before.

`IsolatedPool.run` hands an attempt to a child and waits. The child runs it through its own Dispatcher, records the
outcome itself and answers with one line. When it takes too long, its whole process group is killed; when it dies, the
delivery is recorded here as lost while alone, which counts towards `max_attempts`.

Children are started with exec, never forked from a process with threads, and serve until they die or the pool
closes. A child ends with its parent, also after kill -9: it notices that its request pipe is closed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec

from webhooks.dispatch import Attempt, Dispatcher
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.retry import Verdict
from webhooks.store import Store
from webhooks.store.deliveries import Finished

#: A child has this long to import the handlers and open the database.
START_SECONDS = 30.0


class Order(msgspec.Struct):
    """What a child is to run: a delivery under the fencing token that its parent claimed."""

    id: int
    token: int


class Report(msgspec.Struct):
    """What came of it. recorded: False when the lease was lost."""

    recorded: bool
    state: int
    outcome: str
    wait: float = 0.0
    reason: str | None = None
    error: str | None = None
    counts: bool = True
    ran: bool = True


class _Child:
    """One child process and the two pipes to it."""

    def __init__(self, command: Sequence[str]) -> None:
        order_read, self._orders = os.pipe()
        self._reports, report_write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*command, str(order_read), str(report_write)],
                pass_fds=(order_read, report_write),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a process group of its own, to be killed whole
            )
        finally:
            os.close(order_read)
            os.close(report_write)
        self._buffer = b""

    def send(self, message: bytes) -> None:
        os.write(self._orders, message + b"\n")

    def receive(self, timeout: float) -> bytes | None:
        """The next line; None when time is up. Raises EOFError when the child is gone."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reports], [], [], left)[0]:
                return None
            piece = os.read(self._reports, 65536)
            if not piece:
                raise EOFError
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close()

    def close(self) -> None:
        for descriptor in (self._orders, self._reports):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._orders = self._reports = -1


class IsolatedPool:
    """The children of one worker, made as they are needed and kept for the next attempt.

    command: starts a child; two descriptor numbers are added (`main` reads them). None: nothing can be isolated here.
    """

    def __init__(self, *, command: Sequence[str] | None, dispatcher: Dispatcher, store: Store) -> None:
        self._command = command
        self._dispatcher = dispatcher
        self._store = store
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, attempt: Attempt) -> Finished | None:
        """Run one attempt in a child; what is still to be recorded, or None when the child recorded it."""
        if self._command is None:
            return self._dispatcher.run(attempt)
        timeout = self._dispatcher.timeout_of(attempt.handler)
        try:
            child = self._take()
        except (OSError, EOFError, TimeoutError) as error:
            return self._dead(attempt, f"its process could not be started: {type(error).__name__}")
        attempt.started = time.monotonic()
        delivery = attempt.delivery
        try:
            child.send(msgspec.json.encode(Order(delivery.id, delivery.token)))
            line = child.receive(timeout.total_seconds())
        except (OSError, EOFError):
            self._forget(child)
            return self._dead(attempt)
        if line is None:
            self._forget(child)
            return self._timed_out(attempt)
        self._give_back(child)
        return self._reported(attempt, msgspec.json.decode(line, type=Report))

    def close(self) -> None:
        """Kill every child."""
        with self._lock:
            self._closed = True
            children = [*self._idle, *self._busy]
            self._idle.clear()
        for child in children:
            child.kill()

    # -- children ------------------------------------------------------------------------------------------

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.process.poll() is None:
                    self._busy.add(child)
                    return child
                child.close()
        assert self._command is not None
        child = _Child(self._command)
        with self._lock:
            self._busy.add(child)
        if child.receive(START_SECONDS) != b"ready":
            self._forget(child)
            raise TimeoutError
        return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            self._busy.discard(child)
            if not self._closed:
                self._idle.append(child)
                return
        child.kill()

    def _forget(self, child: _Child) -> None:
        with self._lock:
            self._busy.discard(child)
        child.kill()

    # -- outcomes ------------------------------------------------------------------------------------------

    def _reported(self, attempt: Attempt, report: Report) -> Finished | None:
        if not report.recorded:
            return None
        verdict = Verdict(
            DeliveryState(report.state),
            AttemptOutcome(report.outcome),
            timedelta(seconds=report.wait),
            report.reason,
            report.error,
            report.counts,
        )
        self._dispatcher.announce(Finished(attempt.delivery, verdict, took=attempt.took(), ran=report.ran))
        return None

    def _timed_out(self, attempt: Attempt) -> Finished | None:
        delivery = self._store.deliveries.fence(attempt.delivery)
        return None if delivery is None else self._dispatcher.expired(attempt, delivery)

    def _dead(self, attempt: Attempt, reason: str | None = None) -> Finished | None:
        # the child may have committed just before it died; then the token does not move
        delivery = self._store.deliveries.fence(attempt.delivery)
        if delivery is None:
            return None
        finished = self._dispatcher.lost(replace(delivery, alone=True))
        if reason is not None:
            finished = replace(finished, verdict=replace(finished.verdict, reason=reason, error=reason))
        return replace(finished, took=attempt.took())


# -- in the child ------------------------------------------------------------------------------------------


def serve(dispatcher: Dispatcher, store: Store, orders: int, reports: int) -> None:
    """Run one order after the other until the request pipe closes."""
    lines: list[bytes] = []
    ready = threading.Condition()

    def read() -> None:
        with os.fdopen(orders, "rb") as stream:
            for line in stream:
                with ready:
                    lines.append(line)
                    ready.notify()
        os._exit(0)  # the parent is gone: nobody may go on in its name

    threading.Thread(target=read, name="webhooks-orders", daemon=True).start()
    os.write(reports, b"ready\n")
    while True:
        with ready:
            ready.wait_for(lambda: bool(lines))
            order = msgspec.json.decode(lines.pop(0), type=Order)
        os.write(reports, msgspec.json.encode(_run(dispatcher, store, order)) + b"\n")


def _run(dispatcher: Dispatcher, store: Store, order: Order) -> Report:
    claimed = store.deliveries.load(order.id)
    handler = None if claimed is None else dispatcher.registry.get(claimed.delivery.handler)
    if claimed is None or handler is None or claimed.delivery.token != order.token:
        return Report(recorded=False, state=0, outcome=AttemptOutcome.LOST)
    # its own process is its isolation: a handler that dies here is the parent's to record
    finished = dispatcher.run(Attempt(claimed, handler))
    if finished is None:  # committed with the handler's own writes, or the lease was lost and that is logged
        now = store.deliveries.load(order.id)
        done = now is not None and now.delivery.token == order.token and now.delivery.state is DeliveryState.SUCCEEDED
        return Report(recorded=done, state=int(DeliveryState.SUCCEEDED), outcome=AttemptOutcome.SUCCEEDED)
    finished = replace(finished, alone=False)
    recorded = bool(store.deliveries.finish([finished]))
    verdict = finished.verdict
    return Report(
        recorded=recorded,
        state=int(verdict.state),
        outcome=verdict.outcome,
        wait=verdict.wait.total_seconds(),
        reason=verdict.reason,
        error=verdict.error,
        counts=verdict.counts,
        ran=finished.ran,
    )


def main(arguments: Sequence[str]) -> None:
    """`python -m webhooks.isolation MODULE:FUNCTION ORDERS REPORTS`; the function makes (dispatcher, store)."""
    module, _, name = arguments[0].partition(":")
    sys.path.insert(0, os.getcwd())
    make: Callable[[], tuple[Any, Any]] = getattr(importlib.import_module(module), name)
    dispatcher, store = make()
    serve(dispatcher, store, int(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    # imported under its real name, so that there is one set of classes
    importlib.import_module("webhooks.isolation").main(sys.argv[1:])
