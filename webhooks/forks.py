"""What a process must not take over from the process that it was forked from: connections, locks, threads, queues.

A fork copies one thread and all memory: two processes then hold one connection, and a lock that another thread held
stays held for ever. So whatever has such things keeps them in a `PerProcess`, which compares the process wherever it is
used. In a child everything is made anew at the first use. What was the parent's is neither used, nor closed, nor
collected there: closing would say goodbye in the parent's name.

`os.register_at_fork` only counts. Servers may fork without telling Python (uWSGI without `py-call-osafterfork`), so there is
also a page of memory that Linux empties in a child: to look at it takes a tenth of what asking for the number of the
process does, which is done where there is no such page. What surprises is `before_fork`: SQLite files are closed in the
*parent*, see `database`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")

_forks = 0  # between the first process and this one
_under_way = 0  # forks of this process that have begun and not ended
_before: weakref.WeakSet[Any] = weakref.WeakSet()

#: Linux's MADV_WIPEONFORK, which `mmap` does not name: in a child the page is all zero.
_WIPE_ON_FORK = 18


def _make_mark() -> mmap.mmap | bytes:
    """Something whose first byte is 0 where it has to be noted which process this is: in a child; without such a page always."""
    if sys.platform != "linux":
        return b"\0"
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except OSError:  # before Linux 4.14
        return b"\0"
    return page


_mark = _make_mark()
_process = (0, 0)  # as noted last


def _renew() -> None:
    """Note which process this is. Two threads that do so at once note the same."""
    global _process
    _process = (os.getpid(), _forks)
    if isinstance(_mark, mmap.mmap):
        _mark[0] = 1


def process() -> tuple[int, int]:
    """What tells this process from the one that it was forked from."""
    if not _mark[0]:
        _renew()
    return _process


class PerProcess(Generic[Value]):
    """A value that each process makes for itself, at its first use. Needs no lock, so none can be held at a fork.

    make: makes the value and opens nothing; of two threads that ask at once, one's value is dropped. first: the value
    of the process that makes this object, where there is one already.
    """

    def __init__(self, make: Callable[[], Value], first: Value | None = None) -> None:
        self._make = make
        self._made: dict[tuple[int, int], Value] = {} if first is None else {process(): first}

    def get(self) -> Value:
        """The value of this process."""
        here = process()
        try:
            return self._made[here]
        except KeyError:
            return self._made.setdefault(here, self._make())

    @property
    def made(self) -> Value | None:
        """The value of this process, if it has one."""
        return self._made.get(process())


def call_before_fork(held: Any) -> None:
    """Have `held.before_fork()` called in the parent before each fork, as long as `held` lives."""
    _before.add(held)


def is_under_way() -> bool:
    """Whether a thread of this process is about to fork, and what `before_fork` closed must stay closed."""
    return _under_way > 0


def _run_before() -> None:
    global _under_way
    _under_way += 1
    for held in list(_before):
        with contextlib.suppress(Exception):  # the fork takes place all the same
            held.before_fork()


def _go_on() -> None:
    global _under_way
    _under_way -= 1


def _begin() -> None:
    global _forks, _under_way
    _forks += 1
    _under_way = 0
    _renew()


os.register_at_fork(before=_run_before, after_in_parent=_go_on, after_in_child=_begin)

__all__ = ["PerProcess", "call_before_fork", "is_under_way", "process"]
