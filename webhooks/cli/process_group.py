"""The processes of `dev` and `run --with-worker`, and how each is started.

They are a small parent of two children, gunicorn and a worker, each started by exec (never forked from a process with
threads). The parent passes signals on, starts a worker that ended again, and ends with gunicorn's exit code. Should the
parent be killed outright, both children end too: each has a guard, a shell that waits on a pipe which only the parent
holds open.

Not here: what is served, and when (`dev`, `run`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import click

from webhooks.cli import Failure, output

#: How long children get to stop; gunicorn's graceful time-out and the worker's grace are shorter.
STOP_LIMIT = timedelta(seconds=30)
#: A worker that ends sooner than this after its start is started again with a pause.
MIN_UPTIME = timedelta(seconds=5)
#: A worker that was replaced has so long to end what it runs, before that is given back for the other.
LEAVING_SECONDS = 2.0
#: Ends a process when the pipe on its own standard input closes. $1: the process.
_GUARD = 'trap "" INT TERM HUP; read _; kill -TERM "$1" 2>/dev/null; exit 0'


class ManagedProcess:
    """One child process, and the guard that ends it when this process is gone.

    name: "gunicorn" or "worker".
    command, environment: what is run.
    lifeline: (read end, write end) of a pipe of this process.
    ready: a variable that tells it a descriptor of ours, on which it says that it has begun; None where nothing listens.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        lifeline: tuple[int, int],
        ready: tuple[str, int] | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.environment = dict(environment)
        self.lifeline = lifeline
        self.ready = ready
        self.started = 0.0
        self.start()

    def start(self) -> None:
        """Run the command, and a guard beside it; also when it has ended before."""
        self.started = time.monotonic()
        ready = self.ready
        told = {} if ready is None else {ready[0]: str(ready[1])}
        self.process = subprocess.Popen(
            self.command,
            env={**self.environment, **told},
            pass_fds=() if ready is None else (ready[1],),
            stdin=subprocess.DEVNULL,
            process_group=0,  # a terminal's Ctrl-C reaches this process alone; a second signal would mean "at once" to a child
        )
        self.guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self.process.pid)],
            stdin=self.lifeline[0],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # else what kills our process group kills the guard as well
        )

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def reap_guard(self) -> None:
        """End its guard, once it has ended itself."""
        self.guard.kill()
        self.guard.wait()

    def join(self, deadline: float) -> None:
        """Wait until it has ended; kill it at `deadline`."""
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reap_guard()


class ProcessGroup:
    """The children of `dev` and `run --with-worker`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.lifeline = os.pipe()
        os.set_inheritable(self.lifeline[0], False)
        os.set_inheritable(self.lifeline[1], False)
        self.children: dict[str, ManagedProcess] = {}
        #: Asked to end in favour of another, and not waited for: {process: when it is asked again, by `time.monotonic()`}
        self._leaving: dict[ManagedProcess, float] = {}
        #: Called again and again while the children are supervised.
        self.each_turn: Callable[[], None] = lambda: None
        self._asked_to_stop = 0
        self._pause_until = 0.0

    def start(self, name: str, command: Sequence[str], ready: tuple[str, int] | None = None) -> ManagedProcess:
        """Start a process. name: "gunicorn", which ends the group when it ends, or "worker", which is started again."""
        self.children[name] = ManagedProcess(name, command, self.environment, self.lifeline, ready)
        return self.children[name]

    def beside(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], ready: tuple[str, int]
    ) -> ManagedProcess:
        """Start a process that is not supervised yet: it may take the place of the one of that name by `replace`.

        environment: of this process, and of the group once that takes it.
        ready: see `ManagedProcess`.
        """
        process = ManagedProcess(name, command, environment, self.lifeline, ready)
        process.ready = None  # told once; where it is started again, nothing listens any more
        return process

    def replace(self, process: ManagedProcess) -> None:
        """Supervise `process` in place of the one of its name, which is asked to end; a worker ends what runs within 2 s."""
        before = self.children.get(process.name)
        self.children[process.name] = process
        if before is not None:
            before.send(signal.SIGTERM)
            self._leaving[before] = time.monotonic() + LEAVING_SECONDS

    def restart(self, name: str) -> None:
        """End the process of that name, and start it again with what is in the environment now."""
        child = self.children[name]
        child.send(signal.SIGTERM)
        child.join(time.monotonic() + STOP_LIMIT.total_seconds() / 3)
        self.start(name, child.command, child.ready)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals on behalf of the children, for the time of the body, and end them with it."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._asked_to_stop += 1
            if self._asked_to_stop > 1:
                for child in self.children.values():
                    child.send(signal.SIGKILL if self._asked_to_stop > 2 else signal.SIGTERM)

        def reload(number: int, frame: FrameType | None) -> None:
            for child in self.children.values():
                # gunicorn reloads; a worker is started again and so loads the handlers anew
                child.send(signal.SIGHUP if child.name == "gunicorn" else signal.SIGTERM)

        def refuse(number: int, frame: FrameType | None) -> None:
            output.print_note(
                "SIGUSR2 is for `webhooks run` without --with-worker; SIGHUP loads settings and handlers anew"
            )

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGHUP, reload)
            signal.signal(signal.SIGUSR2, refuse)
            yield
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether a signal asked for it."""
        return self._asked_to_stop > 0

    def supervise(self) -> int | None:
        """Start a worker that ended again; the exit code to end with once gunicorn has ended or we are to stop."""
        if self.is_asked_to_stop:
            return 0
        self._see_off()
        self.each_turn()
        gunicorn, worker = self.children.get("gunicorn"), self.children.get("worker")
        if gunicorn is not None and (code := gunicorn.poll()) is not None:
            return code if code >= 0 else 128 - code
        if worker is not None and (code := worker.poll()) is not None and time.monotonic() >= self._pause_until:
            worker.reap_guard()
            if code != 0:
                output.print_note(f"the worker ended with {code}; starting it again")
            is_short = time.monotonic() - worker.started < MIN_UPTIME.total_seconds()
            self._pause_until = time.monotonic() + (MIN_UPTIME.total_seconds() if is_short else 0)
            worker.start()
        return None

    def _see_off(self) -> None:
        """Reap those that were replaced, and tell those that do not end to end at once."""
        for child, until in list(self._leaving.items()):
            if child.poll() is not None:
                child.reap_guard()
                del self._leaving[child]
            elif time.monotonic() >= until:
                child.send(signal.SIGTERM)
                self._leaving[child] = time.monotonic() + STOP_LIMIT.total_seconds()

    def wait(self) -> int:
        """Supervise the children until one of the reasons to end; that exit code."""
        while (code := self.supervise()) is None:
            time.sleep(0.1)
        return code

    def stop(self) -> None:
        """End the children, by force after `STOP_LIMIT`."""
        deadline = time.monotonic() + STOP_LIMIT.total_seconds()
        children = [*self.children.values(), *self._leaving]
        for child in children:
            child.send(signal.SIGTERM)
        for child in children:
            child.join(deadline)
        self.children.clear()
        self._leaving.clear()
        for descriptor in self.lifeline:
            with contextlib.suppress(OSError):
                os.close(descriptor)


# -- how they are started --------------------------------------------------------------------------------------


def python(*arguments: str) -> list[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]


def flask_environment() -> dict[str, str]:
    """What tells a child process which application `flask --app …` named; {} under `webhooks …`.

    Raises `Failure` where the command line is one of an application's own.
    """
    from webhooks.app import APPLICATION

    context = click.get_current_context(silent=True)
    info: Any = context.find_root().obj if context is not None else None
    if not hasattr(info, "app_import_path"):
        return {}
    if getattr(info, "create_app", None) is not None:
        raise Failure(
            "this command line makes its application by a function of its own, which another process cannot call; "
            "use flask --app MODULE webhooks …"
        )
    return {APPLICATION: info.app_import_path or ""}


def gunicorn_command(directory: Path, *options: str) -> list[str]:
    """How gunicorn is started here: with the directory's settings and application where it has them.

    Under `flask webhooks …` with the application that was named.
    """
    settings = "gunicorn.conf.py" if (directory / "gunicorn.conf.py").exists() else "python:webhooks.gunicorn_conf"
    if flask_environment():
        application = "webhooks.app:application()"
    else:
        application = "wsgi:app" if (directory / "wsgi.py").exists() else "webhooks.app:create_app()"
    return python("-m", "gunicorn", "-c", settings, *options, application)


def worker_command(*options: str) -> list[str]:
    """How a worker is started here; under `flask webhooks …` with the application that was named."""
    named = flask_environment()
    if not named:
        return python("-m", "webhooks", "worker", *options)
    app = next(iter(named.values()))
    return python("-m", "flask", *(["--app", app] if app else []), "webhooks", "worker", *options)


__all__ = [
    "MIN_UPTIME",
    "ManagedProcess",
    "ProcessGroup",
    "flask_environment",
    "gunicorn_command",
    "python",
    "worker_command",
]
