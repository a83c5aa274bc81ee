"""Ids: 63-bit integers that grow with time, so that their order is the order of arrival.

The layout stands here only: microseconds since 2020, then random bits. Others ask `id_at`, `instant_of` and `ids_in`. Ids are
written as decimal strings in JSON, because JavaScript and jq round numbers above 2**53.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from webhooks.forks import PerProcess

#: Ids count microseconds from here; 51 bits of them last until 2091.
_ID_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_ID_EPOCH_MICROSECONDS = int(_ID_EPOCH.timestamp() * 1_000_000)
_ID_RANDOM_BITS = 12


class IdMaker:
    """Makes ids that grow strictly within a process and hardly ever meet between two.

    Two processes collide when they draw the same 12 random bits in the same microsecond; the primary key
    then refuses the second and ingest tries again with a new id.
    """

    def __init__(self) -> None:
        self._last = 0
        # numbers of our own: those of the module are others' to seed. A forked child would continue its parent's
        self._own = PerProcess(lambda: (random.Random(), threading.Lock()))

    def __call__(self) -> int:
        microseconds = time.time_ns() // 1000 - _ID_EPOCH_MICROSECONDS
        numbers, lock = self._own.get()
        # no secret: it may be guessed
        candidate = (microseconds << _ID_RANDOM_BITS) | numbers.getrandbits(_ID_RANDOM_BITS)
        with lock:
            self._last = candidate if candidate > self._last else self._last + 1
            return self._last


#: Make an id for an event, a delivery or a request.
new_id: Callable[[], int] = IdMaker()


def id_at(instant: datetime) -> int:
    """The smallest id that could have been made at `instant`; ids of earlier rows are below it."""
    microseconds = int((instant - _ID_EPOCH) / timedelta(microseconds=1))
    return max(0, microseconds << _ID_RANDOM_BITS)


def instant_of(id: int) -> datetime:
    """When an id was made; the other way round of `id_at`."""
    return _ID_EPOCH + timedelta(microseconds=id >> _ID_RANDOM_BITS)


def ids_in(duration: timedelta) -> int:
    """By how much ids grow in so long a time."""
    return (duration // timedelta(microseconds=1)) << _ID_RANDOM_BITS


def new_request_id() -> str:
    """An id for one HTTP request: 16 lower-case hex characters."""
    return f"{new_id():016x}"
