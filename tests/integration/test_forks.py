"""A forked process takes events in, and runs them, with connections, locks and threads of its own."""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.conftest import Consumer
from tests.support import ROOT, patience
from webhooks.database import LockFile
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.session import Sessions

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def event(payload: Any, number: int) -> bytes:
    found = json.loads(payload("lead_merged"))
    found["event"]["id"] = f"ev_{os.getpid()}_{number}"
    return json.dumps(found).encode()


def deliver(consumer: Consumer, body: bytes) -> int:
    """Post as a sender does, who tries again after a 503: on a busy machine a commit may take too long."""
    until = time.monotonic() + patience(15)
    while (status := consumer.post(body).status_code) == 503 and time.monotonic() < until:
        time.sleep(0.05)
    return int(status)


def child(act: Callable[[], object]) -> Callable[[], str]:
    """Fork, and do `act` there; call what is returned for what it gave, or how it failed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(act())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:60_000])
        os._exit(0)
    os.close(writer)

    def wait() -> str:
        deadline = time.monotonic() + patience(20)
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    return "it hangs"
                time.sleep(0.01)
            with os.fdopen(reader, "rb", closefd=False) as stream:
                return stream.read().decode()
        finally:
            os.close(reader)

    return wait


def stored(consumer: Consumer) -> int:
    with consumer.webhooks.database.read() as connection:
        count: int = connection.execute(text("select count(*) from webhooks_events")).scalar_one()
        return count


@contextlib.contextmanager
def held(lock: Any) -> Iterator[None]:
    """Another thread holds `lock` for the body."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    try:
        yield
    finally:
        over.set()
        thread.join()


LOCKS: dict[str, Callable[[Any], Any]] = {
    "group commit": lambda made: made.ingest.commit._queue.get().lock,
    "requests under way": lambda made: made.ingest._in_flight.get()._lock,
    "background writer": lambda made: made.background._thread.get().lock,
    "deadline": lambda made: (
        made.database.deadline._condition if hasattr(made.database, "deadline") else threading.Lock()
    ),
    "keys": lambda made: made.sources["close"].keys._lock.get(),
    "assembly": lambda made: made._lock.get(),
    "write limit": lambda made: (
        getattr(  # PostgreSQL has no such limit, and nothing to hold
            made.dispatcher.sessions._transactions, "_watchdog", SimpleNamespace(_condition=threading.Lock())
        )._condition
    ),
    "loop": lambda made: made.dispatcher.loop._lock,
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_child_is_held_up_by_no_lock_of_its_parent(consumer: Consumer, payload: Any, name: str) -> None:
    assert consumer.post(event(payload, 0)).status_code == 200
    lock = LOCKS[name](consumer.webhooks)

    def act() -> list[int]:
        source: Any = consumer.webhooks.sources["close"]
        source.keys.refresh()
        with consumer.webhooks.dispatcher.sessions.open() as holder:
            holder.session.execute(text("select 1"))
        return [consumer.post(event(payload, number)).status_code for number in range(5)] + [
            consumer.post(b"unsigned", **{"close-sig-hash": "0" * 64}).status_code
        ]

    with held(lock):
        said = child(act)()
    assert said == "[200, 200, 200, 200, 200, 401]"
    assert stored(consumer) == 6
    assert consumer.post(event(payload, 1)).status_code == 200, "and the parent goes on"


def test_children_of_a_busy_process_answer_rightly_and_so_does_it(consumer: Consumer, payload: Any) -> None:
    answers: list[int] = []
    stopping = threading.Event()

    def post(thread: int) -> None:
        client = Consumer(consumer.app, consumer.webhooks)
        number = thread * 10_000
        while not stopping.is_set():
            number += 1
            answers.append(deliver(client, event(payload, number)))

    threads = [threading.Thread(target=post, args=(thread,)) for thread in range(1, 5)]
    for thread in threads:
        thread.start()

    def act() -> list[int]:
        why: Any = logging.handlers.BufferingHandler(100)
        logging.getLogger("webhooks").addHandler(why)
        answers = [deliver(consumer, event(payload, number)) for number in range(20)]
        assert set(answers) == {200}, [record.getMessage() for record in why.buffer][:2]
        return answers

    try:
        waits = []
        for _ in range(5):
            done = len(answers)
            while len(answers) < done + 5:
                time.sleep(0.001)
            waits.append(child(act))
        said = [wait() for wait in waits]
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert said == [repr([200] * 20)] * 5
    assert set(answers) == {200}
    assert stored(consumer) == len(answers) + 100


def test_a_process_of_multiprocessing_takes_events_in(consumer: Consumer, payload: Any) -> None:
    assert consumer.post(event(payload, 0)).status_code == 200
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()

    def act() -> None:
        results.put([consumer.post(event(payload, number)).status_code for number in range(10)])

    started = [context.Process(target=act) for _ in range(3)]
    for each in started:
        each.start()
    said = [results.get() for _ in started]
    for each in started:
        each.join(10)
    assert said == [[200] * 10] * 3
    assert [each.exitcode for each in started] == [0, 0, 0]
    assert stored(consumer) == 31


def test_a_connection_of_the_parent_is_neither_used_nor_closed_by_the_child(consumer: Consumer) -> None:
    database = consumer.webhooks.database
    identify = "select pg_backend_pid()" if not database.is_sqlite else "select 1"
    with database.read() as connection:
        before = connection.exec_driver_sql(identify).scalar()

    def act() -> Any:
        with database.read() as connection:
            found = connection.exec_driver_sql(identify).scalar()
        database.dispose()
        return found

    said = child(act)()
    with database.read() as connection:
        assert connection.exec_driver_sql(identify).scalar() == before, "the parent's is as it was"
    assert database.is_sqlite or int(said) != before


def test_sessions_of_a_child_are_its_own(database_url: str) -> None:
    database = connect(database_url)
    sessions = Sessions(database)
    identify = text("select 1" if database.is_sqlite else "select pg_backend_pid()")
    with sessions.open() as holder:
        before = holder.session.execute(identify).scalar()

    def act() -> Any:
        with sessions.open() as holder:
            found = holder.session.execute(identify).scalar()
        sessions.dispose()
        return found

    said = child(act)()
    assert said.isdigit(), said
    assert database.is_sqlite or int(said) != before
    with sessions.open() as holder:
        assert holder.session.execute(identify).scalar() == before, "the parent's is as it was"
    sessions.dispose()
    database.dispose()


# -- SQLite's own rule ---------------------------------------------------------------------------------------------


def test_a_file_is_closed_in_the_parent_while_it_forks(sqlite_url: str) -> None:
    """Else the child believes that it holds the parent's locks, and loses commits when others close the file."""
    database = connect(sqlite_url)
    database.ping()
    real = os.path.realpath(str(database.path))

    def act() -> Any:
        inherited = [name for name in os.listdir("/proc/self/fd") if is_at(f"/proc/self/fd/{name}", real)]
        database.ping()
        return inherited

    assert child(act)() == "[]"
    database.ping()
    database.dispose()


def is_at(link: str, path: str) -> bool:
    try:
        return os.readlink(link) == path
    except OSError:
        return False


def test_a_child_that_was_forked_while_the_file_was_in_use_is_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.database.sqlite.FORK_PATIENCE", timedelta(seconds=0.05))
    database = connect(sqlite_url)
    with database.read() as connection:
        connection.exec_driver_sql("select 1")
        said = child(database.ping)()
        assert said.startswith("StorageUnavailable: this process was forked while")
        assert "'spawn'" in said
    database.ping()
    assert child(database.ping)() == "None"
    database.dispose()


def test_a_lock_file_is_let_go_although_a_child_has_a_copy_of_it(tmp_path: Any) -> None:
    lock = LockFile(tmp_path / "x-lock")
    descriptor = lock.acquire(timedelta(seconds=1))

    def act() -> Any:
        with contextlib.suppress(StorageUnavailable):
            lock.acquire(timedelta(0))
            return "the parent's lock was let go"
        lock.release(descriptor)  # unwinding what the parent had begun
        with contextlib.suppress(StorageUnavailable):
            lock.acquire(timedelta(0))
            return "the child let the parent's lock go"
        return "held"

    assert child(act)() == "'held'"
    idle = child(lambda: time.sleep(3))
    lock.release(descriptor)
    again = lock.acquire(timedelta(0))
    lock.release(again)
    idle()


#: See tests/unit/test_forks.py for why it is a program of its own.
UNTOLD = """
import ctypes, os, sys
from webhooks.database.connect import connect

database = connect(sys.argv[1])
database.ping()
engine = database.engine
if (child := ctypes.PyDLL(None).fork()) == 0:
    os._exit(0 if database.engine is not engine else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert database.engine is engine
database.ping()
database.dispose()
"""


def test_without_hooks_nothing_of_the_parents_is_used(postgresql_url: str) -> None:
    """As a server in C forks: Python is not told."""
    subprocess.run([sys.executable, "-c", UNTOLD, postgresql_url], check=True, timeout=60, cwd=ROOT)
