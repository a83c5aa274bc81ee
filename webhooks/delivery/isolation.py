"""Run attempts in processes of their own, one at a time each: for `isolation="process"`, and for deliveries whose
process died before.

`IsolatedPool.run` hands an attempt to a child and waits. The child runs it through its own Dispatcher and answers with
one line; only what a handler did through `session` is recorded there, in the handler's transaction. When it takes too
long, its whole process group is killed; when it dies, the delivery is lost while alone, which counts towards
`max_attempts`.

Children are started with exec, never forked from a process with threads, and serve until they die, have run
`RUNS_OF_A_CHILD` attempts or the pool closes. A child ends with its parent, also after kill -9: it notices that its
request pipe is closed. SIGTERM and SIGINT are the parent's business: a
service manager that signals every process of the service must not make a child look as if its handler had killed it.
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
from datetime import timedelta
from typing import Any

import msgspec

from webhooks.database import SHORT_SECONDS
from webhooks.delivery.attempt import Cause, RunningAttempt, fence
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.errors import NoConnection, StorageUnavailable
from webhooks.forks import process
from webhooks.model import AttemptOutcome, Delivery, DeliveryCause, DeliveryState
from webhooks.routing import Verdict
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished

#: A child has this long to import the handlers and open the database.
START_SECONDS = 30.0
#: A child tries for so long to read what it is to run.
LOAD_SECONDS = 2.0
#: Then a child is replaced: whatever its handlers leaked ends with it.
RUNS_OF_A_CHILD = 100


class IsolatedOrder(msgspec.Struct):
    """What a child is to run: a delivery under the fencing token that its parent claimed.

    short: connections are, so it keeps none afterwards.
    """

    id: int
    token: int
    short: bool = False


class IsolatedReport(msgspec.Struct):
    """What came of it.

    recorded: it is committed already.
    lost: the delivery was not ours any more.

    no_connection: why it could not begin.
    """

    recorded: bool = False
    lost: bool = False
    no_connection: str | None = None
    state: int = 0
    outcome: str = ""
    wait: float = 0.0
    reason: str | None = None
    error: str | None = None
    counts: bool = True
    cause: int = 0
    ran: bool = True


class IsolatedProcess:
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
        self._owner = process()
        self._is_killed = False
        self.runs = 0

    def send(self, message: bytes) -> None:
        """Give it one line. Raises `OSError` when it is gone."""
        os.write(self._orders, message + b"\n")

    def receive(self, timeout: float) -> bytes | None:
        """The next line; None when time is up. Raises EOFError when the child is gone."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            # asked before looking: what it wrote last must be seen. Something that it started may hold the pipe open
            is_gone = self.process.poll() is not None
            if not select.select([self._reports], [], [], 0 if is_gone else min(left, 0.5))[0]:
                if is_gone:
                    raise EOFError
                continue
            piece = os.read(self._reports, 65536)
            if not piece:
                raise EOFError
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> None:
        """End it and all that it started; any thread. The pipes stay open for the thread that waits on them."""
        if self._owner != process():
            return  # it is the child of the process that this one was forked from
        if not self._is_killed:  # its number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._is_killed = True

    def close(self) -> None:
        """Kill it and close the pipes; only when no thread waits on them."""
        self.kill()
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
        self._idle: list[IsolatedProcess] = []
        self._busy: set[IsolatedProcess] = set()
        self._lock = threading.Lock()
        #: one starts at a time: importing handlers is work, and a crowd of starts would take the cores from the rest
        self._starting = threading.Lock()
        self._closed = False
        self._short_until = 0.0

    def run(self, attempt: RunningAttempt) -> Finished | None:
        """Run one attempt in a child; what came of it, or None when the delivery was not ours any more.

        `attempt.committed` says whether that is committed. Raises `NoConnection` when the child had no connection.
        """
        if self._command is None:
            return self._dispatcher.run(attempt)
        delivery = attempt.delivery
        try:
            child = self._take()
        except (OSError, EOFError, TimeoutError) as error:
            return self._dispatcher.outcomes.not_started(delivery, type(error).__name__)
        attempt.started = time.monotonic()
        attempt.hold(kill=child.kill)
        timeout = self._dispatcher.outcomes.timeout_of(attempt.handler)
        is_short = time.monotonic() < self._short_until
        cause = Cause.TIME_UP
        try:
            child.send(msgspec.json.encode(IsolatedOrder(delivery.id, delivery.token, is_short)))
            line = child.receive(timeout.total_seconds())
        except (OSError, EOFError):
            line, cause = None, Cause.STOPPED if self._closed else Cause.DIED
        if line is None:
            try:
                return self._revoked(attempt, cause)
            finally:
                self._forget(child)
        attempt.let_process_live()
        self._give_back(child)
        return self._reported(attempt, msgspec.json.decode(line, type=IsolatedReport))

    def close(self) -> None:
        """Kill every child."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for child in busy:
            child.kill()  # the thread that waits for it closes it
        for child in idle:
            child.close()

    def make_room(self) -> None:
        """End the children that wait for work, whose connections others need."""
        self._short_until = time.monotonic() + SHORT_SECONDS
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
        for child in idle:
            child.close()

    # -- children ------------------------------------------------------------------------------------------

    def _take(self) -> IsolatedProcess:
        child = self._take_idle()
        if child is not None:
            return child
        assert self._command is not None
        with self._starting:
            child = self._take_idle()
            if child is not None:
                return child
            with self._lock:
                if self._closed:
                    raise EOFError
                child = IsolatedProcess(self._command)
                self._busy.add(child)
            try:
                if child.receive(START_SECONDS) != b"ready":
                    raise TimeoutError
            except BaseException:
                self._forget(child)
                raise
            return child

    def _take_idle(self) -> IsolatedProcess | None:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.process.poll() is None:
                    self._busy.add(child)
                    return child
                child.close()
        return None

    def _give_back(self, child: IsolatedProcess) -> None:
        child.runs += 1
        with self._lock:
            self._busy.discard(child)
            if not self._closed and child.runs < RUNS_OF_A_CHILD:
                self._idle.append(child)
                return
        child.close()

    def _forget(self, child: IsolatedProcess) -> None:
        with self._lock:
            self._busy.discard(child)
        child.close()

    # -- outcomes ------------------------------------------------------------------------------------------

    def _reported(self, attempt: RunningAttempt, report: IsolatedReport) -> Finished | None:
        if report.no_connection is not None:
            raise NoConnection(report.no_connection)
        if report.lost:
            return None
        verdict = Verdict(
            DeliveryState(report.state),
            AttemptOutcome(report.outcome),
            timedelta(seconds=report.wait),
            report.reason,
            report.error,
            report.counts,
            DeliveryCause(report.cause) if report.cause else None,
        )
        finished = self._dispatcher.outcomes.finished(attempt, verdict, ran=report.ran)
        if report.recorded:
            attempt.committed = True
            self._dispatcher.announcements.recorded(finished)
        return finished

    def _revoked(self, attempt: RunningAttempt, cause: Cause) -> Finished | None:
        """What came of an attempt whose process is gone; None when another thread ended it, or it committed before."""
        if not attempt.revoke(cause, keeps_thread=True):
            return None  # ended by a stop, which records it
        delivery = self._fence(attempt)
        return None if delivery is None else self._dispatcher.outcomes.revoked(attempt, delivery)

    def _fence(self, attempt: RunningAttempt) -> Delivery | None:
        """Wait for the database if need be: what became of the attempt is known here alone."""
        while True:
            try:
                return fence(self._store, attempt)
            except StorageUnavailable:
                if self._closed:
                    return None  # its lease runs out
                time.sleep(0.5)


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
        os._exit(0)  # the parent is gone: nothing may continue in its name

    threading.Thread(target=read, name="webhooks-orders", daemon=True).start()
    os.write(reports, b"ready\n")
    while True:
        with ready:
            ready.wait_for(lambda: bool(lines))
            order = msgspec.json.decode(lines.pop(0), type=IsolatedOrder)
        report = run_order(dispatcher, store, order)
        if order.short:
            dispatcher.sessions.dispose()
            store.database.dispose()
        message = msgspec.json.encode(report) + b"\n"
        while message:
            message = message[os.write(reports, message) :]


def run_order(dispatcher: Dispatcher, store: Store, order: IsolatedOrder) -> IsolatedReport:
    """Run one order in this process, which is the child; what came of it."""
    try:
        claimed = _load(store, order.id)
    except NoConnection as away:
        return IsolatedReport(no_connection=away.reason)
    handler = None if claimed is None else dispatcher.registry.get(claimed.delivery.handler)
    if claimed is None or handler is None or claimed.delivery.token != order.token:
        return IsolatedReport(lost=True)
    attempt = RunningAttempt(claimed, handler)
    # its own process is its isolation: a handler that dies here is the parent's to record
    try:
        finished = dispatcher.run(attempt)
    except NoConnection as away:
        return IsolatedReport(no_connection=away.reason)
    if finished is None:
        return IsolatedReport(lost=True)
    verdict = finished.verdict
    return IsolatedReport(
        recorded=attempt.committed,
        state=int(verdict.state),
        outcome=verdict.outcome,
        wait=verdict.wait.total_seconds(),
        reason=verdict.reason,
        error=verdict.error,
        counts=verdict.counts,
        cause=verdict.cause or 0,
        ran=finished.ran,
    )


def _load(store: Store, id: int) -> Claimed | None:
    until = time.monotonic() + LOAD_SECONDS
    while True:
        try:
            return store.deliveries.load(id)
        except StorageUnavailable as away:
            if time.monotonic() >= until:
                raise NoConnection(away.reason) from away
        time.sleep(0.2)


def _leave_it_to_the_parent(number: int, frame: object) -> None:
    pass


def main(arguments: Sequence[str]) -> None:
    """`python -m webhooks.delivery.isolation MODULE:FUNCTION ORDERS REPORTS`; the function makes (dispatcher, store)."""
    module, _, name = arguments[0].partition(":")
    sys.path.insert(0, os.getcwd())
    make: Callable[[], tuple[Any, Any]] = getattr(importlib.import_module(module), name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_it_to_the_parent)  # a function: what a handler starts does not inherit it
    for descriptor in arguments[1:3]:
        os.set_inheritable(int(descriptor), False)
    dispatcher, store = make()
    serve(dispatcher, store, int(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    # imported under its real name, so that there is one set of classes
    importlib.import_module("webhooks.delivery.isolation").main(sys.argv[1:])
