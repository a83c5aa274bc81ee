"""The first process of a container has the orphans of all others, and must reap them, or they stay as zombies for ever.

`stand_in` leaves that to a parent which does nothing else, so that no call of `wait` here can take a result from the code
that waits for it: a handler may start processes of its own. gunicorn reaps its orphans itself.
"""

from __future__ import annotations

import os
import signal

#: What is passed on to the process that works.
_PASSED_ON = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
)  # fmt: skip


def stand_in() -> None:
    """Go on in a child where this is the first process; elsewhere do nothing. Called before there are threads."""
    if os.getpid() != 1:
        return
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # a terminal's Ctrl-C comes to the parent alone, which passes it on once
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        status = _reap(child)
        if status is not None:
            os._exit(status)


def _reap(child: int) -> int | None:
    """Take the results of all that has ended; the exit code of `child`, if it is among them."""
    found: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


__all__ = ["stand_in"]
