"""Start and stop the servers of a benchmark, and read from /proc what they used. Linux only.

Each is started in a session of its own and stopped by its pid; nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")


class DidNotStart(RuntimeError):
    """A server that a benchmark needs did not come up; the text has the end of what it said."""


class Process:
    """One program that a benchmark started, with its children."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **(environ or {})},
                cwd=directory or ROOT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for a condition. Raises `DidNotStart` when the program ends first or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = f"ended with {code}" if code is not None else f"was not ready after {seconds:g} s"
                text = self.log.read_text("utf-8", "replace")[-2000:]
                self.stop()
                raise DidNotStart(f"{' '.join(self.command)} {what}:\n{text}")
            time.sleep(0.01)

    def wait_for_port(self, port: int, seconds: float = 20.0) -> None:
        self.wait_until(lambda: is_listening(port), seconds)

    def wait_until_idle(self, seconds: float = 20.0) -> None:
        """Wait until all of its processes have started: until they use hardly any CPU.

        A listening port is no proof. It is there before the first worker, and a client that connects while only one of them
        is up gives that one everything.
        """
        seen: list[tuple[int, float]] = []

        def is_idle() -> bool:
            seen.append((len(pids := self.pids()), cpu_seconds(pids)))
            time.sleep(0.05)
            return len(seen) > 5 and seen[-6][0] == seen[-1][0] and seen[-1][1] - seen[-6][1] <= 0.01

        self.wait_until(is_idle, seconds)

    def wait(self, seconds: float) -> None:
        """Wait until it ends by itself. Raises `DidNotStart` when it fails."""
        if self._process.wait(seconds):
            raise DidNotStart(f"{' '.join(self.command)} failed:\n{self.log.read_text('utf-8', 'replace')[-2000:]}")

    def pids(self) -> list[int]:
        """This process and everything below it."""
        return tree(self.pid)

    def stop(self, seconds: float = 5.0) -> None:
        """SIGTERM, then SIGKILL to its own group."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(5)


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop()


def clean_environment() -> dict[str, str]:
    """Ours, without settings of webhooks that happen to be in it; the checkout is importable."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("WEBHOOKS_") and name not in ("DATABASE_URL", "PORT", "WEB_CONCURRENCY")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- /proc -------------------------------------------------------------------------------------------------


def tree(root: int) -> list[int]:
    """`root` and its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used so far; ended ones count 0."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / _TICK


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes, shared pages counted by their share."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def backends(database: str) -> list[int]:
    """The processes that serve connections to one PostgreSQL database on this machine, by their titles."""
    found = []
    for pid in _all_pids():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split()
            if title[:1] == [b"postgres:"] and database.encode() in title:
                found.append(pid)
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields after the name: [state, parent, …]."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
