"""Start Python programs by a fork of a process that has imported everything, instead of by `exec`.

Importing the house, SQLAlchemy and gunicorn is most of what a short-lived process costs; a fork costs a hundredth of it,
and `kill -9` of a forked process is the same. What is about starting, about the command line of a process or about
when something is imported uses `exec`; see the marker `forks` in tests/README.md.

The server is a process of its own (`python -m tests.forkserver FD`), so that it forks without threads; one serves all
workers of a run, and ends with the last of them. A request is one message with three descriptors: where stdout and
stderr go, and a pipe that gets the pid and later the status.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import PROFILE, ROOT, patience

#: Modules that read the environment when they are imported, or must be imported after something is patched.
_NOT_IMPORTED = (
    "webhooks.__main__",
    "webhooks.http.gunicorn.settings",
    "webhooks.gunicorn_conf",  # imports the one before
    "webhooks.contrib.celery.app",
    "gevent",
    "pytest",
    "webhooks.testing",
    "demo_handlers",
    "demo_deal",
)
_OTHERS = (
    "sqlite3",
    "psycopg",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic.command",
    "flask.cli",
    "flask_migrate",
    "flask_sqlalchemy",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
)
#: Variables that Python reads when it starts, and only then.
_OF_PYTHON = {"PYTHONOPTIMIZE", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONHASHSEED", "PYTHONDEVMODE"}
_LARGEST_REQUEST = 1 << 20


# -- the side of the tests ---------------------------------------------------------------------------------


class Forked:
    """A forked program, with those parts of `subprocess.Popen` that `Process` needs."""

    def __init__(self, pipe: int, args: Sequence[str]) -> None:
        self._pipe = pipe
        self._said = b""
        self.args = args
        self.returncode: int | None = None
        while b"\n" not in self._said:
            self._hear(None)
        self.pid = int(self._said.split(b"\n")[0])

    def _hear(self, timeout: float | None) -> bool:
        """Read what the server says within `timeout` seconds; False if nothing."""
        if not select.select([self._pipe], [], [], timeout)[0]:
            return False
        more = os.read(self._pipe, 100)
        if not more:
            raise AssertionError("the server that forks programs for the tests has ended")
        self._said += more
        return True

    def poll(self) -> int | None:
        """The exit status, negative when a signal ended it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        while self.returncode is None:
            if not self._hear(timeout):
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            if self._said.count(b"\n") == 2:
                self.returncode = int(self._said.split(b"\n")[1])
                os.close(self._pipe)
        return self.returncode


class ForkServer:
    """The server, started at the first program of a run.

    directory: of the run, where its workers find the one server.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket: socket.socket | None = None

    def _connect(self) -> socket.socket:
        path = self._directory / "forks"
        with (self._directory / "forks.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                made.connect(str(path))
                return made
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(path))
                listener.listen(64)
                made.connect(str(path))
                number = listener.fileno()
                command = [sys.executable, "-m", "tests.forkserver", str(number)]
                # ends at once: what it leaves is the server, which outlives this worker of the run
                subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=[number], cwd=ROOT, check=True)
            return made

    def start(
        self, argv: Sequence[str], *, output: int, errors: int | None = None, cwd: Path, env: Mapping[str, str]
    ) -> Forked:
        """Fork a process that runs a Python program.

        argv: `[path of a script, …]`, or `[a Python, "-m", module, …]`.
        output: a descriptor for stdout.
        errors: a descriptor for stderr; the same unless given.
        env: the whole environment.
        """
        if self._socket is None:
            self._socket = self._connect()
        request = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode("utf-8", "surrogateescape")
        ours, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [request], [output, output if errors is None else errors, theirs])
        finally:
            os.close(theirs)
        return Forked(ours, argv)

    def run(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a Python program to its end, as `subprocess.run(…, capture_output=True)`; executed where it cannot fork."""
        if not can_fork(argv, env):
            return subprocess.run(argv, capture_output=True, cwd=cwd, env=env, timeout=patience(timeout))
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            forked = self.start(argv, output=output.fileno(), errors=errors.fileno(), cwd=cwd, env=env)
            status = forked.wait(patience(timeout))
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(argv), status, output.read(), errors.read())

    def close(self) -> None:
        """Need it no longer; the programs it started for us have been ended by their tests."""
        if self._socket is not None:
            self._socket.close()


def can_fork(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether a fork does the same as `exec`, for a script of this environment or `[python, "-m", module, …]`.

    Not where Python reads a setting at its start, nor for a server under gevent, which patches before it imports. In the
    profile `full` everything is executed.
    """
    if PROFILE == "full" or sys.platform != "linux" or _OF_PYTHON & set(env):
        return False
    name = Path(argv[0]).name
    if name == "gunicorn":
        return env.get("WEBHOOKS_WORKER_CLASS") in ("gthread", "sync")
    return name in ("webhooks", "flask") or (name.startswith("python") and argv[1] == "-m")


# -- the server's side -------------------------------------------------------------------------------------


def import_everything() -> None:
    """Import the house but for what must not be imported early, and what it uses."""
    import webhooks

    names = [module.name for module in pkgutil.walk_packages(webhooks.__path__, "webhooks.", onerror=lambda _: None)]
    for name in (*names, *_OTHERS):
        if not any(part in name for part in _NOT_IMPORTED):
            with contextlib.suppress(ImportError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    if early := {"webhooks.http.gunicorn.settings", "gevent"} & set(sys.modules):
        raise AssertionError(f"forked programs would find what {early} read here, in place of their own environment")


def serve(listener: socket.socket) -> dict[str, object]:
    """Fork for each request, until nobody is connected; returns in the forked process, with the request that it is to fulfil."""
    pipes: dict[int, int] = {}
    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    clients = [listener.accept()[0]]
    while clients:
        sources: list[Any] = [hears, listener, *clients]
        ready = select.select(sources, [], [])[0]
        if hears in ready:
            os.read(hears, 1000)
        _reap(pipes)
        if listener in ready:
            clients.append(listener.accept()[0])
        for client in [client for client in clients if client in ready]:
            message, fds, _, _ = socket.recv_fds(client, _LARGEST_REQUEST, 3)
            if not message:
                clients.remove(client)
                client.close()
                continue
            output, errors, pipe = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for connection in (listener, *clients):
                    connection.close()
                for descriptor in (hears, tells, pipe, *pipes.values()):
                    os.close(descriptor)
                os.setsid()
                os.dup2(output, 1)
                os.dup2(errors, 2)
                os.close(output)
                os.close(errors)
                made: dict[str, object] = json.loads(message.decode("utf-8", "surrogateescape"))
                return made
            os.close(output)
            os.close(errors)
            pipes[pid] = pipe
            os.write(pipe, b"%d\n" % pid)
    sys.exit(0)


def _reap(pipes: dict[int, int]) -> None:
    """Tell of each process that ended."""
    while pipes:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        pipe = pipes.pop(pid, None)
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # its test is over
                os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(pipe)


def become(request: Mapping[str, object]) -> None:
    """Run the program of a request, in this process, as if it had been executed."""
    argv, env = [str(word) for word in request["argv"]], dict(request["env"])  # type: ignore[attr-defined, call-overload]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(request["cwd"]))
    random.seed()
    sys.stdout.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    if env.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    if failpoints := sys.modules.get("webhooks.failpoints"):
        importlib.reload(failpoints)  # it reads the environment
    is_module = argv[1:2] == ["-m"]
    sys.orig_argv = argv if is_module else [sys.executable, *argv]
    sys.argv = argv[2:] if is_module else argv
    sys.path[0] = os.getcwd() if is_module else str(Path(argv[0]).parent)
    if is_module:
        runpy.run_module(argv[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(argv[0], run_name="__main__")


def main() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    import_everything()
    gc.collect()
    gc.freeze()  # for good: to look through and free all of it would be most of what a forked process costs
    become(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
