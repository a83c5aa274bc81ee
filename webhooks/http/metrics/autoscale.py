"""`/autoscale?queue=video&target=30s`: how many workers a queue needs, for a scaler that asks every few seconds.

Answered by web processes as well, which live while no worker does, so that a scaler can begin at none. What was read is
given again for five seconds, to all queues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from urllib.parse import parse_qs

from webhooks.errors import StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import DEFAULT_QUEUE, Unreadable, did_you_mean, one_line, read_duration
from webhooks.formats import json as jsonio
from webhooks.operations import scaling
from webhooks.store.gauges import Standing

logger = logging.getLogger(__name__)


class Autoscale:
    """Answers one scaler after the other.

    read: asks the database how the installation stands; raises `StorageUnavailable`.
    queues: those of the handlers that this process knows.
    concurrency: handlers that one worker runs at once, unless the request says another number.
    monotonic: seconds, for tests.
    """

    #: What was read is used for so long, in seconds.
    KEPT = 5.0
    #: A request waits for another's question for so long, in seconds.
    PATIENCE = 2.0

    def __init__(
        self,
        read: Callable[[], Standing],
        *,
        queues: Collection[str],
        concurrency: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._queues = frozenset((*queues, DEFAULT_QUEUE))
        self._concurrency = concurrency
        self._monotonic = monotonic
        self._own = PerProcess(_KeptStanding)

    def answer(self, query: str) -> tuple[int, bytes]:
        """(status, JSON) for the query of a request: `queue`, `target` and `concurrency`, each with a default."""
        try:
            queue, target, concurrency = _read_query(query, self._concurrency)
        except ValueError as error:
            return _refusal(400, "bad_request", str(error))
        standing = self._standing()
        if standing is None:
            return _refusal(503, "unavailable", "the database cannot be asked")
        found = scaling.loads(standing, self._queues, target)
        if queue not in found:
            told = f"no handler is in the queue {queue!r}{did_you_mean(queue, found)}; queues: {', '.join(found)}"
            return _refusal(404, "not_found", told)
        return 200, jsonio.dump(scaling.document(found[queue], concurrency))

    def _standing(self) -> Standing | None:
        """How the installation stands, as it was at most `KEPT` seconds ago; None when that cannot be asked."""
        own = self._own.get()
        if not own.asking.acquire(timeout=self.PATIENCE):
            return None
        try:
            if self._monotonic() - own.at > self.KEPT:
                own.standing = None
                own.standing = self._read()
                own.at = self._monotonic()
            return own.standing
        except StorageUnavailable as error:
            logger.info("a scaler is not answered: %s", one_line(error.reason))
            return None
        finally:
            own.asking.release()


class _KeptStanding:
    """What one process has read."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.at = float("-inf")
        self.standing: Standing | None = None


def _read_query(query: str, concurrency: int) -> tuple[str, timedelta, int]:
    given = {name: values[-1] for name, values in parse_qs(query, max_num_fields=10).items()}
    target = scaling.TARGET
    if "target" in given:
        try:
            target = read_duration(given["target"], bare=timedelta(seconds=1))
        except Unreadable:
            target = timedelta(0)
        if not timedelta(seconds=1) <= target <= timedelta(days=1):
            raise ValueError("target: expected a duration from 1s to 1d, such as 30s")
    number = given.get("concurrency", str(concurrency))
    if not (number.isascii() and number.isdigit() and len(number) <= 4 and 1 <= int(number) <= 1000):
        raise ValueError("concurrency: expected a whole number from 1 to 1000")
    return given.get("queue", DEFAULT_QUEUE), target, int(number)


def _refusal(status: int, slug: str, text: str) -> tuple[int, bytes]:
    return status, jsonio.dump({"error": slug, "text": text})


__all__ = ["Autoscale"]
