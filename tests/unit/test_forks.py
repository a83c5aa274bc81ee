"""Each process makes what it must not share, at its first use."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

import pytest

from webhooks import forks
from webhooks.forks import PerProcess


def in_a_child(act: Callable[[], bytes], fork: Callable[[], int] = os.fork) -> bytes:
    """What `act` gives in a forked child."""
    reader, writer = os.pipe()
    child = fork()
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


def test_a_fork_that_python_was_not_told_of_is_noticed() -> None:
    """As a server in C forks: no hook runs."""
    own = PerProcess(object)
    first = own.get()
    libc = ctypes.PyDLL(None)  # which keeps the interpreter's lock, or a child would wait for it
    assert in_a_child(lambda: b"same" if own.get() is first else b"other", fork=libc.fork) == b"other"

    def grandchild() -> bytes:
        second = own.get()
        return in_a_child(lambda: b"same" if own.get() in (first, second) else b"other", fork=libc.fork)

    assert in_a_child(grandchild, fork=libc.fork) == b"other"
    assert own.get() is first


def test_where_no_memory_is_emptied_in_a_child_the_number_of_the_process_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "_page", None)
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
