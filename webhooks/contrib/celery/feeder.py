"""Offer deliveries to Celery: what `webhooks feed` does, and `webhooks worker --with-feeder` beside its own work.

Promises: what may be run is offered, in the shares of a worker's claims, at most a window of it at a time, and again while it
is not claimed. The broker may refuse, hang, forget or double; rows wait, and nothing but this process knows. One feeder is
elected by a lease; another takes over, and offers anew.

It looks (`look`), which is one pure plan (`offers`) between two questions to the database, and publishes by `publisher`.
It runs no handler. What surprises: nothing tells it that something was claimed, so while there is a backlog it looks often.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from webhooks.contrib.celery.offers import Offers, messages, shares
from webhooks.contrib.celery.publisher import BrokerUnavailable, Publisher
from webhooks.database import PostgresListener
from webhooks.delivery import CircuitBreaker, HandlerTerms, Maintenance
from webhooks.errors import StorageUnavailable
from webhooks.routing import Handler
from webhooks.store import ENGINE, Store
from webhooks.store.deliveries import Offered, Queue
from webhooks.store.handlers import BreakerState
from webhooks.version import VERSION

logger = logging.getLogger(__name__)

#: Of process, as `webhooks_processes` lists it.
KIND = "feeder"
#: The elected one keeps the duty for so long after a look; a broker that hangs takes half of it.
DUTY_LEASE = timedelta(seconds=10)
#: While something is offered or claimed it looks again after this pause; then after twice that, and so on.
SHORTEST_PAUSE = 0.05
#: Where a limit may keep what waits, it looks again after this pause: a rate calls nothing.
LIMITED_PAUSE = 0.2
#: After a call it waits so long for others, so that a flood of commits does not make it look after each.
GATHER_SECONDS = 0.01
#: The longest pause before a broker or a database that is unavailable is asked again.
LONGEST_PAUSE = 5.0
#: It waits so long for what maintenance has under way when it stops.
MAINTENANCE_PATIENCE = timedelta(seconds=5)
#: It looks for so many more than a window holds, so that shares are those of a backlog.
LOOKED_AT = 3


@dataclass(frozen=True, slots=True)
class FeederSettings:
    """How deliveries are offered; from `settings.Settings`.

    window: offered to one queue of the engine and not claimed yet.
    queues: {queue of handlers: queue of the engine}.
    again: what is not claimed is offered again after this, then after twice that.
    """

    queues: Mapping[str, str]
    window: int = 200
    again: timedelta = timedelta(seconds=60)
    poll_interval: timedelta = timedelta(seconds=1)
    heartbeat: timedelta = timedelta(seconds=10)
    maintenance_interval: timedelta = timedelta(seconds=0.5)


class Feeder:
    """Offers the deliveries of the handlers that this process knows.

    maintenance: the duties of a process that is no worker; None beside a worker, which has them.
    """

    def __init__(
        self,
        *,
        store: Store,
        handlers: Mapping[str, Handler],
        publisher: Publisher,
        settings: FeederSettings,
        maintenance: Maintenance | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = f"{KIND}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.store = store
        self.settings = settings
        self.maintenance = maintenance
        self.ended = threading.Event()
        #: {queue of the engine: names of the handlers that are offered to it}
        self.fed: dict[str, list[str]] = {}
        for name, handler in sorted(handlers.items()):
            if (queue := settings.queues.get(handler.queue)) is not None:
                self.fed.setdefault(queue, []).append(name)
        self._unfed = sorted({each.queue for each in handlers.values()} - set(settings.queues))
        self._offers = self._no_offers()
        self._breaker = CircuitBreaker(store, {name: handlers[name] for names in self.fed.values() for name in names})
        self._publisher = publisher
        self._clock = clock
        self._woken = threading.Event()
        self._stopping = False
        self._round = 0
        self._outage = 0
        #: since when the broker takes nothing; None while it does
        self._refused_since: float | None = None
        self._beat_at = float("-inf")
        self._reported: float | None = None

    def _no_offers(self) -> dict[str, Offers]:
        return {queue: Offers(self.settings.again.total_seconds()) for queue in self.fed}

    def stop(self) -> None:
        """Have `run` return soon. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Offer until told to stop."""
        listener = PostgresListener(self.store.database, self._woken.set)
        listener.start()
        maintaining = None
        if self.maintenance is not None:
            maintaining = threading.Thread(target=self._maintain, name="webhooks-maintenance", daemon=True)
            maintaining.start()
        logger.info("%s started with %d queues", self.id, len(self.fed), extra={"action": "start"})
        if self._unfed:
            logger.warning(
                "handlers in the queues %s are not offered to Celery; name these in attach(queues=…), or run `webhooks worker "
                "--queues` for them",
                ", ".join(self._unfed),
            )
        try:
            pause = 0.0
            while not self._stopping:
                if self._wait(pause):
                    pause = 0.0
                    self.ended.wait(GATHER_SECONDS)
                pause = self._turn(pause)
        finally:
            self.ended.set()
            listener.stop()
            self._publisher.close()
            if self.maintenance is not None and maintaining is not None:
                maintaining.join(LONGEST_PAUSE)
                self.maintenance.wait(MAINTENANCE_PATIENCE)
            self._forget()
            logger.info("%s stopped", self.id, extra={"action": "stop"})

    def _maintain(self) -> None:
        assert self.maintenance is not None
        self.maintenance.keep(self.id, self.settings.maintenance_interval, self.ended, freed=self._woken.set)

    def _wait(self, seconds: float) -> bool:
        """Wait so long, or until called; whether it was called."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            if self._woken.wait(min(left, 0.1)):  # a signal handler may not set it
                break
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    def _forget(self) -> None:
        try:
            self.store.processes.forget(self.id)
        except StorageUnavailable:
            logger.info("stopping without the database; the duty ends with its lease")

    def _turn(self, pause: float) -> float:
        """One look, whatever happens; seconds until the next. pause: before this one."""
        poll = self.settings.poll_interval.total_seconds()
        try:
            self._beat()
            if not self.store.processes.acquire(ENGINE, self.id, DUTY_LEASE):
                self._stand_by()
                return poll
            moved, next_due = self.look()
            self._refused_since = None  # nothing waits for it any more
        except StorageUnavailable as error:
            if self._outage == 0:
                logger.warning("the database is unavailable, trying again: %s", error.reason)
            return self._back_off()
        except BrokerUnavailable as error:
            if self._refused_since is None:
                self._refused_since = self._clock()
                logger.warning(
                    "the broker takes no messages: %s; deliveries wait, and are offered once it does", error.reason
                )
            return self._back_off()
        except Exception:
            logger.exception("offering failed; it is tried again")
            return self._back_off()
        self._outage = 0
        longest = min(poll, next_due) * (0.8 + 0.4 * random.random())
        return min(longest, SHORTEST_PAUSE if moved else max(SHORTEST_PAUSE, 2 * pause))

    def _back_off(self) -> float:
        self._outage += 1
        return float(min(LONGEST_PAUSE, 0.1 * 2 ** min(self._outage, 10)) * (0.5 + random.random() / 2))

    def _accepted(self) -> None:
        if self._refused_since is not None:
            self._refused_since = None
            logger.info("the broker takes messages again")

    def _stand_by(self) -> None:
        """Another process offers; what this one knew of its own offers is worth nothing by the time it is elected."""
        self._offers = self._no_offers()
        self._refused_since = None

    # -- one look ------------------------------------------------------------------------------------------

    def look(self) -> tuple[int, float]:
        """Forget what was claimed and offer what may be; (how many moved, seconds until more is due).

        Raises `StorageUnavailable` and `BrokerUnavailable`; what was published until then is remembered.
        """
        self._breaker.read()
        moved, next_due = 0, float("inf")
        for queue, names in self.fed.items():
            open_ones = [name for name in names if not self._breaker.is_closed_to(name)]
            changed, due = self._feed(queue, open_ones)
            moved, next_due = moved + changed, min(next_due, due)
        self._round += 1
        return moved, next_due

    def _feed(self, queue: str, names: Sequence[str]) -> tuple[int, float]:
        offers, deliveries = self._offers[queue], self.store.deliveries
        waiting = deliveries.claimable(offers.ids, names)
        moved = offers.settle(waiting, self._clock())
        self._look_for_life(offers, names)
        due, ahead = deliveries.waiting(names, LOOKED_AT * self.settings.window) if names else ({}, None)
        terms = self._breaker.terms(names)
        limited = {name: each for name, each in terms.items() if each.needs_permission}
        counts = offers.counts()
        quotas = shares(due, counts, self.settings.window, self._most(limited, due), self._round)
        # what is offered stands before what is not, so that much more must be read
        found = deliveries.first({each: n + counts[each] for each, n in quotas.items()}) if quotas else []
        new = _within(offers.new(found), quotas)
        again = offers.due_again(self._clock())
        for message in messages([*again, *new], self._breaker.run_seconds(), limited):
            self._publisher.publish((queue, [each.id for each in message]))
            self._accepted()
            for each in message:
                offers.offered(each, self._clock(), is_limited=each.handler in limited)
        pauses = [float("inf") if ahead is None else max(SHORTEST_PAUSE, ahead.total_seconds())]
        if any(each[0] in limited and n > counts[each] + quotas.get(each, 0) for each, n in due.items()):
            pauses += [LIMITED_PAUSE, *(each.seconds_per_run for each in limited.values() if each.seconds_per_run)]
        return moved + len(new) + len(again), max(SHORTEST_PAUSE, min(pauses))

    def _most(self, limited: Mapping[str, HandlerTerms], due: Iterable[Queue]) -> dict[str, int]:
        """{limited handler: how many of it may start now}."""
        wanted = {name: self.settings.window for name, _ in due if name in limited}
        probes = {name: 1 for name in wanted if limited[name].breaker is not BreakerState.CLOSED}
        return self.store.handlers.allowed(wanted, probes) if wanted else {}

    def _look_for_life(self, offers: Offers, names: Sequence[str]) -> None:
        """Where nothing was claimed for a while: the engine may be busy with what it claimed before."""
        now = self._clock()
        if offers.silent_since(now) is not None and self.store.deliveries.is_any_running(names):
            offers.is_alive(now)

    # -- what others know of it ----------------------------------------------------------------------------

    @property
    def silent_since(self) -> float | None:
        """Since when nothing comes of what is offered, or the broker takes nothing; None while all is well."""
        now = self._clock()
        each = [self._refused_since, *(offers.silent_since(now) for offers in self._offers.values())]
        return min((at for at in each if at is not None), default=None)

    def _beat(self) -> None:
        now, silent = self._clock(), self.silent_since
        if now - self._beat_at >= self.settings.heartbeat.total_seconds():
            self.store.processes.beat(self.id, KIND, VERSION, [])
            self._beat_at = now
        if silent != self._reported:
            self.store.processes.report_silence(self.id, None if silent is None else timedelta(seconds=now - silent))
            self._reported = silent


def _within(found: Sequence[Offered], quotas: Mapping[Queue, int]) -> list[Offered]:
    """As many of each queue as its share."""
    left = dict(quotas)
    chosen = []
    for each in found:
        if left.get(each.queue, 0) > 0:
            left[each.queue] -= 1
            chosen.append(each)
    return chosen


__all__ = ["DUTY_LEASE", "KIND", "Feeder", "FeederSettings"]
