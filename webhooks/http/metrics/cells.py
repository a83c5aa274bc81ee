"""Counts and sums in the page that a process shares with its group, moved without prometheus-client's lock and checks.

prometheus-client keeps each number of a process in a mapped file and packs it anew at each step, which costs 2 to 4 µs; an
event moves five. A `Cell` adds to the double where it stands, for a tenth of that. The numbers are in the file as soon as
they are counted, so a process that is killed takes none along.

Promises: exact under threads, since CPython lets no other thread run between reading an element of a memoryview and storing
it; right in a child of a fork, which has numbers of its own. What has no mapped file, or looks otherwise than expected,
is left to prometheus-client. What surprises: the library's objects do not see what a cell adds, so all that counts
such a number has to go through its cell.
"""

from __future__ import annotations

import bisect
import os
import weakref
from typing import Any


class Cell:
    """A counter, histogram or gauge of one set of labels. child: prometheus-client's, which nothing else moves."""

    __slots__ = ("__weakref__", "_bounds", "_child", "_counts", "_is_plain", "_numbers", "_total", "_view")

    def __init__(self, child: Any) -> None:
        self._child = child
        buckets = getattr(child, "_buckets", None)
        #: upper bounds of a histogram's buckets; none of a counter
        self._bounds = tuple(child._upper_bounds) if buckets else ()
        self._numbers: list[Any] = [*buckets, child._sum] if buckets else [getattr(child, "_value", None)]
        #: where they stand in the file, in doubles
        self._counts: list[int] = []
        self._total = 0
        self._view: memoryview[float] | None = None
        self._is_plain = False
        _cells.add(self)

    def inc(self, amount: float = 1) -> None:
        """Count `amount`, which is not negative."""
        view = self._view or self._find()
        if view is None:
            self._child.inc(amount)
        else:
            view[self._total] += amount

    def observe(self, amount: float) -> None:
        """Count one value of a histogram, in its unit."""
        view = self._view or self._find()
        if view is None:
            self._child.observe(amount)
        else:
            view[self._counts[bisect.bisect_left(self._bounds, amount)]] += 1
            view[self._total] += amount

    def set(self, value: float) -> None:
        """Say how a gauge stands."""
        view = self._view or self._find()
        if view is None:
            self._child.set(value)
        else:
            view[self._total] = value

    def _find(self) -> memoryview[float] | None:
        """Take over the numbers where they stand; None when prometheus-client has to count once more."""
        if self._is_plain:
            return None
        try:
            (file,) = {number._file for number in self._numbers}
            if not file._fname.endswith(f"_{os.getpid()}.db"):
                return None  # a parent's; the library makes a file for this process when it counts
            view = memoryview(file._m).cast("d")
            *counts, total = (file._positions[number._key] // view.itemsize for number in self._numbers)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._is_plain = True  # numbers of one process alone, or a version that keeps them otherwise
            return None
        self._counts, self._total, self._view = counts, total, view
        return view

    def let_go(self) -> None:
        """Forget where the numbers stand; the next count finds them again."""
        view, self._view = self._view, None
        if view is not None:
            view.release()


_cells: weakref.WeakSet[Cell] = weakref.WeakSet()


def _let_all_go() -> None:
    for cell in list(_cells):
        cell.let_go()


# the child's numbers are in a file of its own; and prometheus-client closes what it has mapped, which a view would forbid
os.register_at_fork(after_in_child=_let_all_go)

__all__ = ["Cell"]
