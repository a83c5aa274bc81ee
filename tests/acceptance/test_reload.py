"""Reloads and rolling restarts, with posts coming in all the time: none is refused, none waits for a start."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

import pytest

from tests.acceptance.support import Process, Processes, free_port, send
from tests.acceptance.test_server import KEY, SOURCE, body
from tests.support import allowed, pairs, patience, slowness, some, wait_until

pytestmark = pytest.mark.forks("run")

#: How much longer than without a reload the longest answer may take.
ALLOWED_SECONDS = 1.0


class Posting:
    """Posts that come in one after another, from several senders, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/webhooks/close"
        self._over = threading.Event()
        self.took: list[float] = []
        self.failures: list[str] = []

    def _post(self, sender: int) -> None:
        turn = 0
        while not self._over.wait(0.05):
            turn += 1
            content = body(f"{id(self)}-{sender}-{turn}")
            begin = time.monotonic()
            try:
                answer = send(
                    self._url, content, dict(SOURCE.sign(content, datetime.now(UTC))), timeout=timedelta(seconds=30)
                )
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.body.decode()[:200]}")
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
            self.took.append(time.monotonic() - begin)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        senders = [threading.Thread(target=self._post, args=(number,)) for number in range(3)]
        for sender in senders:
            sender.start()
        try:
            yield
        finally:
            self._over.set()
            for sender in senders:
                sender.join()

    @property
    def longest(self) -> float:
        return max(self.took)


class Running:
    """`webhooks run`.

    on_one_core: where what is started takes the time of what answers; for tests that nothing runs beside. With a crowd on that core
    new workers may not be there within the minute that a reload waits for them.
    """

    def __init__(
        self, processes: Processes, database_url: str, worker_class: str, *, on_one_core: bool = False
    ) -> None:
        self.port = free_port()
        self._processes = processes
        processes.run(
            "webhooks", "db", "upgrade", env={"DATABASE_URL": database_url, "WEBHOOKS_SOURCES__close__SECRET": KEY}
        )
        self.process: Process = processes.start(
            *(("taskset", "-c", "0") if on_one_core else ()), "webhooks", "run", "--", "--bind", f"127.0.0.1:{self.port}",
            env={
                "PATH": f"{processes_path()}:{os.environ['PATH']}",
                "DATABASE_URL": database_url,
                "WEBHOOKS_SOURCES__close__SECRET": KEY,
                "WEBHOOKS_WORKER_CLASS": worker_class,
            },
        )  # fmt: skip
        wait_until(self.is_ready, timedelta(seconds=30), "the server to be ready")
        # the first of the two workers answers while the second is not there yet, or loads what the test writes next
        self.process.wait_for("(?s)(no worker runs in this process.*){2}", timedelta(seconds=30))
        assert len(self.process.members()) == 3

    def is_ready(self) -> bool:
        try:
            return send(f"http://127.0.0.1:{self.port}/readyz").status == 200
        except OSError:
            return False

    def booted(self) -> list[int]:
        """The workers that were started so far."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.process.output)]

    def has_replaced(self, old: list[int]) -> bool:
        alive = set(self.process.members())
        return not alive & set(old) and len(alive) == 3


def processes_path() -> str:
    from tests.acceptance.support import SCRIPTS

    return str(SCRIPTS)


def without_reload(port: int, seconds: float = 2.0) -> float:
    """The longest answer while nothing is reloaded."""
    quiet = Posting(port)
    with quiet.going_on():
        time.sleep(seconds)
    assert quiet.failures == []
    return quiet.longest


def reload_three_times(running: Running) -> Posting:
    """Three reloads in a row, with posts from all sides; none may fail."""
    posting = Posting(running.port)
    with posting.going_on():
        for number in range(1, 4):
            old, posted = running.booted(), len(posting.took)
            running.process.signal(signal.SIGHUP)
            wait_until(lambda n=number: len(running.booted()) >= 2 + 2 * n, timedelta(seconds=120), "new workers")  # type: ignore[misc]
            wait_until(lambda gone=old: running.has_replaced(gone), timedelta(seconds=120), "old workers to end")  # type: ignore[misc]
            assert len(posting.took) >= posted + 10, "there were posts from the first signal to the last end"
    assert posting.failures == []
    return posting


def restart_rolling(running: Running) -> Posting:
    """Two rolling restarts, with posts from all sides; none may fail."""
    posting = Posting(running.port)
    first = running.process.members()
    with posting.going_on():
        running.process.signal(signal.SIGUSR2)
        running.process.wait(timedelta(seconds=120))
        assert not set(first) & set(running.process.members())
        second = running.process.members()
        assert len(second) == 3
        wait_until(lambda: "Master has been promoted" in running.process.output, what="the second to be the first")
        # and once more, of the one that took over
        (master,) = set(second) - set(running.booted())
        os.kill(master, signal.SIGUSR2)
        wait_until(
            lambda: not set(second) & set(running.process.members()), timedelta(seconds=120), "the second to end"
        )
        time.sleep(0.5)
    assert posting.failures == []
    return posting


def end(running: Running) -> None:
    """End the server that took over."""
    (last,) = set(running.process.members()) - set(running.booted())
    os.kill(last, signal.SIGTERM)
    wait_until(lambda: not running.process.members(), timedelta(seconds=30), "the last to end")


@pytest.mark.thorough
@pytest.mark.parametrize(("worker_class", "database_url"), pairs("gthread", "gevent"), indirect=["database_url"])
def test_posts_are_answered_throughout_three_reloads_in_a_row(
    database_url: str, processes: Processes, worker_class: str
) -> None:
    reload_three_times(Running(processes, database_url, worker_class))


@pytest.mark.alone
@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_no_answer_takes_a_second_longer_because_of_three_reloads(
    database_url: str, processes: Processes, worker_class: str
) -> None:
    running = Running(processes, database_url, worker_class, on_one_core=True)
    longest = without_reload(running.port)
    assert reload_three_times(running).longest <= longest + ALLOWED_SECONDS * slowness()


@pytest.mark.thorough
@pytest.mark.parametrize(("worker_class", "database_url"), some(*pairs("gevent", "gthread")), indirect=["database_url"])
def test_posts_are_answered_throughout_a_rolling_restart(
    database_url: str, processes: Processes, worker_class: str
) -> None:
    running = Running(processes, database_url, worker_class)
    restart_rolling(running)
    end(running)


@pytest.mark.alone
@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_no_answer_takes_a_second_longer_because_of_a_rolling_restart(
    database_url: str, processes: Processes, worker_class: str
) -> None:
    running = Running(processes, database_url, worker_class, on_one_core=True)
    longest = without_reload(running.port)
    assert restart_rolling(running).longest <= longest + ALLOWED_SECONDS * slowness()
    end(running)


@pytest.mark.thorough
def test_handlers_that_do_not_load_leave_the_old_ones_at_work(sqlite_url: str, processes: Processes) -> None:
    running = Running(processes, sqlite_url, "gevent")
    handlers = processes.directory / "handlers"
    handlers.mkdir()
    (handlers / "broken.py").write_text("def f(:\n")
    old = set(running.process.members())
    running.process.signal(signal.SIGHUP)
    running.process.wait_for("The reload is given up", timedelta(seconds=30))
    wait_until(lambda: set(running.process.members()) == old, timedelta(seconds=30), "the new ones to end")
    assert without_reload(running.port, 0.5) < allowed(5)
    (handlers / "broken.py").write_text("")
    running.process.signal(signal.SIGHUP)
    wait_until(
        lambda: running.has_replaced([pid for pid in old if pid != running.process.pid]),
        timedelta(seconds=120),
        "new ones",
    )
    assert running.is_ready()


def test_a_stop_during_a_reload_is_heard_at_once(sqlite_url: str, processes: Processes) -> None:
    running = Running(processes, sqlite_url, "gevent")
    handlers = processes.directory / "handlers"
    handlers.mkdir()
    (handlers / "slow.py").write_text("import time\ntime.sleep(3)\n")
    running.process.signal(signal.SIGHUP)
    wait_until(lambda: len(running.booted()) == 4, timedelta(seconds=30), "new workers")
    begin = time.monotonic()
    assert running.process.stop() == 0
    assert time.monotonic() - begin < allowed(12)


@pytest.mark.thorough
def test_systemd_is_told_who_serves_after_a_rolling_restart(
    sqlite_url: str, processes: Processes, tmp_path: object
) -> None:
    path = str(processes.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(patience(30))
        os.environ["NOTIFY_SOCKET"] = path
        try:
            running = Running(processes, sqlite_url, "gevent")
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert b"READY=1" in told.recv(1000)
        running.process.signal(signal.SIGUSR2)
        messages = b""
        while b"MAINPID=" not in messages:
            messages += told.recv(1000) + b"\n"
        match = re.search(rb"MAINPID=(\d+)", messages)
        assert match is not None
        running.process.wait(timedelta(seconds=120))
        assert int(match[1]) in running.process.members()
