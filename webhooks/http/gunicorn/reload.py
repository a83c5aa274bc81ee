"""Reloads and rolling restarts of gunicorn without a gap: old workers answer until new ones accept connections.

On SIGHUP gunicorn starts new workers and stops the old ones at once, although a new one accepts nothing before it has
loaded the application, which takes 1.5 s of CPU. `keep_answering` lets the old ones go on until then. New ones that do
not get that far (a handler that does not import) are given up, and the old ones stay.

On SIGUSR2 gunicorn starts a second master beside the first, with the same sockets; that is how a new version of this
package or of Python is loaded. `keep_answering` ends the first one as soon as the workers of the second accept, and tells
systemd which process is the service's now.

What surprises: nothing tells the master that a worker accepts. But its heartbeat, which begins with that, is the time
stamp of a file by the monotonic clock; until then it is the time of the file's making, which is far ahead of that.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
from typing import Any

from gunicorn import systemd
from gunicorn.errors import HaltServer

#: New workers have this long to load the application.
START_SECONDS = 60.0
_LOOK_SECONDS = 0.05


def keep_answering(server: Any) -> None:
    """Have `server`, an arbiter of gunicorn that is starting, reload and be replaced without a gap."""
    Handover(server)


class Handover:
    """Stands before two methods of an arbiter: `reload`, and `manage_workers`, which stops superfluous workers."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._reload = server.reload
        self._manage_workers = server.manage_workers
        #: While reloading: the age of the newest of the old workers
        self._age: int | None = None
        self._has_taken_over = False
        server.reload = self.reload
        server.manage_workers = self.manage_workers
        # as typed: started by `python -m`, its first word would be a file of gunicorn's, and Python then finds its
        # modules, such as `http`, before those of the standard library
        server.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]

    def reload(self) -> None:
        """Reload as gunicorn does, but for when the old workers are stopped."""
        self._age = self._server.worker_age
        try:
            self._reload()
        except _GivenUp:
            pass
        finally:
            self._age = None

    def manage_workers(self) -> None:
        """Start and stop workers as gunicorn does, old ones only when new ones accept connections."""
        if self._age is not None:
            self._await_new(self._age)
        self._manage_workers()
        self._take_over()

    def _await_new(self, age: int) -> None:
        """Return when every worker newer than `age` accepts connections. Raises `_GivenUp`."""
        server = self._server
        young = [worker for worker in server.WORKERS.values() if worker.age > age]
        until = time.monotonic() + START_SECONDS
        while not all(accepts(worker) for worker in young):
            if self._is_to_stop():
                self._end_new(age)
                raise _GivenUp
            try:
                server.reap_workers()
            except HaltServer as error:
                self._give_up(age, error.reason)
            if any(worker.pid not in server.WORKERS for worker in young):
                self._give_up(age, "a new worker ended before it accepted connections.")
            if time.monotonic() > until:
                self._give_up(age, f"new workers did not accept connections within {START_SECONDS:g} s.")
            time.sleep(_LOOK_SECONDS)

    def _give_up(self, age: int, reason: str) -> None:
        """Go on with the old workers. Raises `_GivenUp`."""
        server = self._server
        server.log.error("The reload is given up, and the workers of before go on: %s", reason)
        self._end_new(age)
        server.num_workers = sum(worker.age <= age for worker in server.WORKERS.values())
        raise _GivenUp

    def _end_new(self, age: int) -> None:
        """Stop workers newer than `age`; one that accepts nothing yet may not hear SIGTERM, and has nothing to finish."""
        server = self._server
        for pid, worker in list(server.WORKERS.items()):
            if worker.age > age and accepts(worker):
                server.kill_worker(pid, signal.SIGTERM)
            elif worker.age > age:
                server.kill_worker(pid, signal.SIGKILL)
                # here: one that could not load the application would end the server, were it found by the main loop
                while pid in server.WORKERS:
                    with contextlib.suppress(HaltServer):
                        server.reap_workers()
                    time.sleep(0.001)

    def _is_to_stop(self) -> bool:
        """Whether a signal to stop waits for its turn."""
        pending: list[int] = []
        waiting: queue.SimpleQueue[int] = self._server.SIG_QUEUE
        while True:
            try:
                pending.append(waiting.get_nowait())
            except queue.Empty:
                break
        for number in pending:
            waiting.put_nowait(number)
        return any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) for number in pending)

    def _take_over(self) -> None:
        """End the master whose sockets these are, once this one's workers accept."""
        server = self._server
        if self._has_taken_over or not server.master_pid or server.master_pid != os.getppid():
            return
        workers = server.WORKERS.values()
        if len(workers) >= server.num_workers and all(accepts(worker) for worker in workers):
            self._has_taken_over = True
            systemd.sd_notify(f"MAINPID={os.getpid()}\nREADY=1", server.log)
            server.log.info("Taking over from master %s", server.master_pid)
            os.kill(server.master_pid, signal.SIGTERM)


class _GivenUp(Exception):
    """New workers are not waited for any more."""


def accepts(worker: Any) -> bool:
    """Whether a worker of an arbiter has begun to accept connections; see the module."""
    try:
        beat: float = worker.tmp.last_update()
    except (OSError, ValueError):  # it has ended
        return False
    return beat <= time.monotonic()


__all__ = ["keep_answering"]
