"""Run deliveries in a process of Celery's: what the task `webhooks.run` does with the ids that it is told.

Promises: what runs here is claimed first, by the rows alone, and runs as in a worker of ours: leases, time-outs, records.
Ids that cannot be claimed are passed over. The broker's acknowledgement says nothing.

Each process has a `Runner`, made in the background when a child of the prefork pool starts, and at first use elsewhere;
settings and handlers are loaded before children are forked. Not here: which ids are offered (`feeder`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.contrib.celery.offers import LARGEST_MESSAGE
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.store.handlers import BreakerState

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.delivery import Runner
    from webhooks.store.deliveries import Claimed

logger = logging.getLogger(__name__)

#: Of process, as `webhooks_processes` lists it.
KIND = "celery"
#: A message waits for a database that is unavailable for so long; its ids are offered again later.
PATIENCE = 30.0
PAUSE = 0.5
LARGEST_ID = 2**63 - 1


class Engine:
    """What the processes of one Celery worker share. load: gives the consumer, with its handlers."""

    def __init__(self, load: Callable[[], Webhooks]) -> None:
        self._load = load
        self._webhooks: Webhooks | None = None
        self._loading = PerProcess(threading.RLock)
        self._runner: PerProcess[list[Runner]] = PerProcess(list)
        self._parent = os.getpid()
        #: Tasks at once in a process that is not a child of the prefork pool.
        self.concurrency = 1
        #: Queues of handlers whose deliveries it is told of.
        self.queues: frozenset[str] = frozenset()
        #: Ids that could not be claimed, in this process.
        self.passed_over = 0

    @property
    def webhooks(self) -> Webhooks:
        """The consumer. Raises `ConfigurationError` and `RegistrationError` at its first use."""
        with self._loading.get():
            if self._webhooks is None:
                consumer = self._load()
                require_postgresql(consumer)
                consumer.become("worker")  # another's application may have been made to serve
                self._webhooks = consumer
            return self._webhooks

    @property
    def is_used(self) -> bool:
        """Whether this is a process of a Celery worker that runs our task."""
        return self._webhooks is not None

    def begin(self, concurrency: int, queues: frozenset[str]) -> None:
        """Load settings and handlers, in the process that children are forked from.

        concurrency: of its pool.
        queues: of handlers, those that the Celery worker consumes.
        """
        self._parent = os.getpid()
        self.concurrency, self.queues = concurrency, queues
        self.webhooks.leave_nothing_open()

    def begin_soon(self) -> None:
        """Make the runner of this process without keeping Celery waiting, which gives a child four seconds to start."""

        def begin() -> None:
            try:
                self.runner()
            except StorageUnavailable as error:
                logger.warning("the database is unavailable; the first message tries again: %s", error.reason)
            except Exception:
                logger.exception("this process cannot run deliveries yet; the first message tries again")

        threading.Thread(target=begin, name="webhooks-begin", daemon=True).start()

    def runner(self) -> Runner:
        """The runner of this process, started. Raises `StorageUnavailable` while it cannot be made."""
        from webhooks.app import make_runner

        made = self._runner.get()
        with self._loading.get():
            if not made:
                # a child of the prefork pool runs one task at a time, in any other process each has a thread
                slots = self.concurrency if os.getpid() == self._parent else 1
                runner = make_runner(self.webhooks, KIND, slots=slots, queues=self.queues)
                runner.start()
                runner.start_recording()
                made.append(runner)
                logger.info("%s runs deliveries of %d handlers", runner.id, len(runner.handlers))
            return made[0]

    def end(self) -> None:
        """Finish what runs in this process, and give back the rest."""
        made = self._runner.get()
        with self._loading.get():
            for runner in made:
                runner.close()
                logger.info("%s stopped; %d ids could not be claimed here", runner.id, self.passed_over)
            made.clear()

    # -- the task ------------------------------------------------------------------------------------------

    def run(self, ids: Any) -> None:
        """Claim what may be run of the ids of a message, run it, and return when that is recorded."""
        wanted = read_ids(ids)
        runner, claimed, leased_until = self._claim_patiently(wanted)
        self.passed_over += len(wanted) - len(claimed)
        if runner is None:
            return
        if claimed:
            runner.run(claimed, leased_until)
            if any(_holds_up(runner, each) for each in claimed):
                self._wake(runner)
        if runner.replacement.is_due:
            self._replace(runner)

    def _claim_patiently(self, ids: Sequence[int]) -> tuple[Runner | None, list[Claimed], float]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                runner = self.runner()
                leased_until = runner.lease_until()
                return runner, claim(runner, ids), leased_until
            except StorageUnavailable as error:
                if time.monotonic() >= deadline:
                    logger.warning(
                        "the database is unavailable; %d ids wait for another offer: %s", len(ids), error.reason
                    )
                    return None, [], 0.0
                time.sleep(PAUSE)

    def _wake(self, runner: Runner) -> None:
        """Have the feeder look at once, rather than soon."""
        with contextlib.suppress(StorageUnavailable):
            runner.store.deliveries.wake()

    def _replace(self, runner: Runner) -> None:
        """Leave abandoned threads behind: a child of the prefork pool ends, and Celery starts another."""
        if os.getpid() == self._parent:
            runner.recorder.repeated.warn(
                "engine",
                "abandoned threads fill this process, which cannot be replaced from here: restart its Celery worker",
            )
            return
        logger.warning("abandoned threads fill this process; it ends, and Celery starts another")
        self.end()
        raise SystemExit(0)


def claim(runner: Runner, ids: Sequence[int]) -> list[Claimed]:
    """Claim those of `ids` that may be run here now. Raises `StorageUnavailable`."""
    breaker = runner.breaker
    breaker.read()
    terms = breaker.terms([name for name in runner.handlers if not breaker.is_closed_to(name)])
    free = [name for name, each in terms.items() if not each.needs_permission]
    limited = [name for name, each in terms.items() if each.needs_permission]
    deliveries, lease = runner.store.deliveries, runner.settings.lease
    claimed = deliveries.claim_ids(ids, free, lease=lease, worker=runner.id)
    if limited and len(claimed) < len(ids):
        probes = {name: 1 for name in limited if terms[name].breaker is not BreakerState.CLOSED}
        claimed += deliveries.claim_ids_limited(
            ids, limited, lease=lease, worker=runner.id, handlers=runner.store.handlers, overrides=probes
        )
    return claimed


def _holds_up(runner: Runner, claimed: Claimed) -> bool:
    """Whether others wait for its end: the next of its lane, or of a limited handler."""
    handler = runner.handlers[claimed.delivery.handler]
    return claimed.delivery.lane is not None or handler.concurrency is not None


def read_ids(value: Any) -> list[int]:
    """The ids of a message, each once; what is none is left out, and of a longer list than we send nothing is taken."""
    if not isinstance(value, list | tuple) or len(value) > LARGEST_MESSAGE:
        logger.warning("a message that is none of ours was dropped; is another program's task called webhooks.run?")
        return []
    ids = [each for each in value if type(each) is int and 0 < each <= LARGEST_ID]
    return list(dict.fromkeys(ids))


def require_postgresql(webhooks: Webhooks) -> None:
    """Raise `ConfigurationError` on SQLite, which processes of several machines cannot share."""
    if webhooks.database.is_sqlite:
        raise ConfigurationError(
            ["Celery as an engine needs PostgreSQL; on SQLite run `webhooks worker`, which needs no broker"]
        )


def longest_timeout(webhooks: Webhooks) -> timedelta:
    """Of its handlers."""
    default = webhooks.settings.timeout
    return max([handler.timeout or default for handler in webhooks.registry.handlers()], default=default)


__all__ = ["KIND", "Engine", "claim", "longest_timeout", "read_ids", "require_postgresql"]
