"""Start real processes, talk to them over 127.0.0.1, and leave none behind.

Every process gets a session of its own, so that one signal reaches it and all that it started; its output goes to a
file, so that it never blocks and a failure can show it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.forkserver import Forked, ForkServer, can_fork
from tests.support import ROOT, patience, wait_until

#: Where the scripts of the environment that runs the tests are: `webhooks`, `gunicorn`, `flask`.
SCRIPTS = Path(sys.executable).parent


#: Ports that one process of a run hands out, in turn; the one before them is held, so that no other process has them.
BLOCK = 100


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on, and nothing will until the test's own process does.

    Not one of those that the system gives to connections: between this and the start of a server another test's client
    would get it now and then, and a client of a port without a server would be connected to itself.
    """
    for port in itertools.islice(_ports(), BLOCK):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@functools.cache
def _ports() -> Iterator[int]:
    """The ports of this process, over and over."""
    first, last = 32_768, 60_999  # Linux' own, where it does not say which it gives to connections
    with contextlib.suppress(OSError, ValueError):
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    blocks = [*range(12_000, first - BLOCK, BLOCK), *range(last + 1, 65_536 - BLOCK, BLOCK)]
    blocks = blocks or [*range(12_000, 65_000, BLOCK)]
    for held in random.SystemRandom().sample(blocks, len(blocks)):  # a run's seed is the same in each of its processes
        guard = socket.socket()
        with contextlib.suppress(OSError):
            guard.bind(("127.0.0.1", held))
            guard.detach()  # for as long as this process lives
            return itertools.cycle(range(held + 1, held + BLOCK))
        guard.close()
    raise AssertionError(f"no {BLOCK} ports in a row are free")


@dataclass(frozen=True)
class Answer:
    """What an HTTP request got."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
    timeout: timedelta = timedelta(seconds=10),
) -> Answer:
    """One request on a connection of its own: POST when there is a body, else GET.

    Raises OSError or http.client.HTTPException when no whole answer comes.
    """
    match = re.fullmatch(r"http://([^/:]+):(\d+)(/.*)?", url)
    if match is None:
        raise ValueError(f"{url!r} is not http://HOST:PORT/…")
    connection = http.client.HTTPConnection(match[1], int(match[2]), timeout=patience(timeout.total_seconds()))
    with contextlib.closing(connection):
        connection.request(method or ("GET" if body is None else "POST"), match[3] or "/", body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


class Process:
    """A running command. Made by `Processes.start`."""

    def __init__(self, popen: subprocess.Popen[bytes] | Forked, log: Path, command: str) -> None:
        self._popen = popen
        self._log = log
        self.command = command
        self.pid = popen.pid

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.command}>"

    @property
    def output(self) -> str:
        """What it wrote so far, on stdout and stderr."""
        return self._log.read_text("utf-8", "replace")

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_for(self, pattern: str, timeout: timedelta = timedelta(seconds=20)) -> re.Match[str]:
        """Wait until its output has a match of the regular expression. Fails, with the output, if it ends before."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            running = self.is_running  # asked first: what it wrote last must be seen
            match = re.search(pattern, self.output)
            if match is not None:
                found.append(match)
            elif not running:
                raise AssertionError(f"{self} ended with {self._popen.returncode}:\n{self.output}")
            return match is not None

        try:
            wait_until(look, timeout, repr(pattern))
        except AssertionError as error:
            raise AssertionError(f"{error}; {self} wrote:\n{self.output}") from None
        return found[0]

    def wait(self, timeout: timedelta = timedelta(seconds=30)) -> int:
        """Wait for its end; returns the exit status, negative when a signal ended it."""
        try:
            return self._popen.wait(patience(timeout.total_seconds()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {timeout}; it wrote:\n{self.output}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        if self.is_running:
            os.kill(self.pid, number)

    def stop(self, timeout: timedelta = timedelta(seconds=30)) -> int:
        """SIGTERM to this process alone, and wait; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """kill -9 to this process alone, and wait; what it started goes on, if it goes on."""
        self.signal(signal.SIGKILL)
        self.wait()

    def members(self) -> list[int]:
        """The pids of its session that are alive, itself included."""
        return [pid for pid, session in _sessions() if session == self.pid]

    def end(self) -> None:
        """kill -9 to everything in its session; for the end of a test."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()
        wait_until(lambda: not self.members(), what=f"the session of {self} to end")


def _sessions() -> Iterator[tuple[int, int]]:
    """(pid, session id) of every process that is not a zombie."""
    if not Path("/proc/self/stat").exists():  # macOS; CI runs on Linux
        listing = subprocess.run(["ps", "-A", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True)
        rows = [line.split()[:3] for line in listing.stdout.splitlines()]
        yield from ((int(pid), int(session)) for pid, session, state in rows if not state.startswith("Z"))
        return
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat", "rb") as stat:
            state, _parent, _group, session = stat.read().rpartition(b")")[2].split()[:4]
            if state != b"Z":
                yield int(pid), int(session)


class Processes:
    """The processes of one test; `end` ends them all.

    directory: where they run unless told otherwise.
    logs: where their output goes.
    server: forks them where that comes to the same as `exec`.
    forked: which of them: "all", "run" for those whose end `run` waits for, or "none".
    """

    def __init__(self, directory: Path, logs: Path, server: ForkServer, forked: str = "none") -> None:
        self.directory = directory
        self._logs = logs
        self._server = server
        self._forked = forked
        self.started: list[Process] = []

    def start(self, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start a command. The first word is looked for beside this Python, then on the PATH.

        env: added to the environment of the test, which has no settings of the developer's.
        cwd: the directory of the test unless given.
        """
        return self._start(command, env, cwd, forks=self._forked == "all")

    def _start(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None, cwd: Path | None, *, forks: bool
    ) -> Process:
        first, *rest = map(str, command)
        script = SCRIPTS / first
        argv = [str(script) if script.exists() else first, *rest]
        self._logs.mkdir(exist_ok=True)
        log = self._logs / f"{len(self.started)}-{Path(first).name}.log"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
        cwd = cwd or self.directory
        popen: subprocess.Popen[bytes] | Forked
        with log.open("wb") as output:
            if forks and argv[0].startswith(str(SCRIPTS)) and can_fork(argv, env):
                popen = self._server.start(argv, output=output.fileno(), cwd=cwd, env=env)
            else:
                popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                )
        process = Process(popen, log, " ".join([first, *rest]))
        self.started.append(process)
        return process

    def run(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: timedelta = timedelta(seconds=60),
    ) -> Process:
        """Start a command and wait for its end, whatever its exit status (`process.wait()` tells it again)."""
        process = self._start(command, env, cwd, forks=self._forked != "none")
        process.wait(timeout)
        return process

    def end(self) -> None:
        for process in reversed(self.started):
            process.end()
