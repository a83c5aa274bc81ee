"""Each process makes what it must not share, at its first use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tests.support import ROOT
from webhooks import forks
from webhooks.forks import PerProcess


def in_a_child(act: Callable[[], bytes]) -> bytes:
    """What `act` gives in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, act())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


def test_a_child_makes_its_own_and_the_parent_keeps_its() -> None:
    made: list[int] = []

    def make() -> object:
        made.append(os.getpid())
        return object()

    own = PerProcess(make)
    first = own.get()
    assert own.get() is first
    assert in_a_child(lambda: b"same" if own.get() is first else b"other") == b"other"
    assert own.get() is first
    assert made == [os.getpid()]


def test_a_lock_that_a_thread_holds_at_the_fork_is_free_in_the_child() -> None:
    lock = PerProcess(threading.Lock)
    with lock.get():
        assert in_a_child(lambda: b"%d" % lock.get().acquire(timeout=5)) == b"1"


#: In a program of its own with one thread: where another waits for the interpreter at such a fork, the child waits for ever.
UNTOLD = """
import ctypes, os
from webhooks.forks import PerProcess

def code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

fork = ctypes.PyDLL(None).fork
own = PerProcess(object)
first = own.get()
if (child := fork()) == 0:
    second = own.get()
    if (grandchild := fork()) == 0:
        os._exit(1 if own.get() is first or own.get() is second else 0)
    os._exit(1 if second is first or own.get() is not second else code(grandchild))
assert code(child) == 0
assert own.get() is first
"""


def test_a_fork_that_python_was_not_told_of_is_noticed() -> None:
    """As a server in C forks: no hook runs."""
    subprocess.run([sys.executable, "-c", UNTOLD], check=True, timeout=60, cwd=ROOT)


def test_where_no_memory_is_emptied_in_a_child_the_number_of_the_process_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "_mark", b"\0")
    own = PerProcess(object)
    first = own.get()
    assert own.get() is first
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert own.get() is not first


def test_a_process_with_the_number_of_its_ancestor_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    own = PerProcess(object)
    first = own.get()
    number = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert in_a_child(lambda: b"same" if own.get() is first else b"other") == b"other"


def test_threads_that_ask_at_once_get_one_value() -> None:
    barrier = threading.Barrier(8)

    def make() -> object:
        barrier.wait(timeout=5)
        return object()

    own = PerProcess(make)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(own.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_what_is_to_be_closed_is_closed_before_and_not_for_ever() -> None:
    class Held:
        under_way: bool | None = None

        def before_fork(self) -> None:
            self.under_way = forks.is_under_way()

    held = Held()
    forks.call_before_fork(held)
    assert in_a_child(lambda: b"%d" % forks.is_under_way()) == b"0"
    assert held.under_way is True
    assert not forks.is_under_way()
