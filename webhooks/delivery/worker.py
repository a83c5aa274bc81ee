"""The worker: claim deliveries, have them run, record what came of it, stop cleanly.

`Worker` is a `Runner` and a claim loop. The loop (`Worker.run`, in the caller's thread) claims and records; both in
batches, because while it commits, new results gather. A thread does maintenance when this process is elected to it. The
embedded worker and `webhooks worker` are this class.

A worker with very many threads that hang drains and asks to be replaced: `run` returns `REPLACE`, and the caller
executes the program anew.

Not here: what is worth claiming (`claiming`), threads and leases (`runner`), who is told (`announcements`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from webhooks import signals
from webhooks.database import SQLITE_LOOK_SECONDS, PostgresListener, SQLiteWatch
from webhooks.delivery import claiming
from webhooks.delivery.breaker import STATES_OLDEST_SECONDS, STATES_SECONDS
from webhooks.delivery.claiming import ClaimBacklog, ClaimPlan, fresh_of_all
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.isolation import IsolatedPool
from webhooks.delivery.rescue import Maintenance
from webhooks.delivery.runner import Runner, RunnerSettings
from webhooks.errors import StorageUnavailable
from webhooks.routing import Registry
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Queue
from webhooks.store.handlers import HandlerRow

logger = logging.getLogger(__name__)

#: `Worker.run` ended because it was told to.
STOPPED = 0
#: `Worker.run` ended because abandoned threads are left: the program must be executed anew.
REPLACE = 75

#: A stopping worker waits so long for what maintenance has under way.
MAINTENANCE_PATIENCE = timedelta(seconds=5)
#: The longest pause before a database that is away is asked again.
LONGEST_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class WorkerSettings(RunnerSettings):
    """How one worker works; from `settings.Settings`.

    poll_interval: looks at the database at least so often.
    maintenance_interval: between two rounds of the elected one's duties.
    """

    poll_interval: timedelta = timedelta(seconds=1)
    maintenance_interval: timedelta = timedelta(seconds=0.5)


class Worker:
    """Runs the deliveries of the handlers that this process knows, as far as they are in its queues. One a process.

    It rescues and maintains for all of them.
    """

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        settings: WorkerSettings,
        version: str,
        isolated: IsolatedPool,
        maintenance: Maintenance | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.maintenance = maintenance
        self.runner = Runner(
            store=store,
            registry=registry,
            dispatcher=dispatcher,
            settings=settings,
            version=version,
            isolated=isolated,
        )
        self.runner.give_up_connections = self._give_up_listener
        self.id = self.runner.id
        #: Runs each claim, to time and count it; None where nothing does. It returns what the claim returned.
        self.claim_observer: Callable[[Callable[[], Sequence[Claimed]]], Sequence[Claimed]] | None = None
        self._listener: PostgresListener | None = None
        # plain flags: a signal handler may not take an Event's lock
        self._stopping = False
        self._stop_now = False
        self._round = 0
        self._outage = 0

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    @property
    def has_ended(self) -> threading.Event:
        """Set when nothing runs any more."""
        return self.runner.ended

    @property
    def abandoned_threads(self) -> int:
        """How many threads ran past their time-out and still run."""
        return len(self.runner.ledger.abandoned())

    def stop(self) -> None:
        """Stop claiming and finish what runs; called again, stop at once. Safe in a signal handler."""
        if self._stopping:
            self._stop_now = True
        self._stopping = True
        self.runner.recorder.wake()

    def to_be_replaced(self) -> Mapping[str, str]:
        """What the program that is executed in our place must find in its environment."""
        return self.runner.replacement.environment()

    def register_later(self, unregistered: list[HandlerRow]) -> None:
        """Register handlers whose rows another client had locked, as soon as that is possible."""
        self.runner.heartbeat.unregistered = unregistered

    def run(self) -> int:
        """Work until told to stop; `STOPPED`, or `REPLACE` when abandoned threads are left behind."""
        runner = self.runner
        watch = self.store.database.commit_watch()
        listener = None if watch else PostgresListener(self.store.database, runner.recorder.wake)
        self._listener = listener
        runner.start()
        if self.maintenance is not None:
            runner.start_thread("webhooks-maintenance", self._maintain)
        if listener is not None:
            listener.start()
        signals.emit(signals.worker_started, self.id, handlers=tuple(runner.handlers))
        logger.info("worker %s started with %d handlers", self.id, len(runner.handlers), extra={"action": "start"})
        try:
            self._work(watch)
        finally:
            signals.emit(signals.worker_stopping, self.id)
            runner.drain(lambda: self._stop_now)
            if listener is not None:
                listener.stop()
            if watch is not None:
                watch.close()
            runner.end_threads()
            if self.maintenance is not None:
                self.maintenance.wait(MAINTENANCE_PATIENCE)
            runner.forget()
        logger.info("worker %s stopped", self.id, extra={"action": "stop"})
        return REPLACE if runner.replacement.is_due and not self._stopping else STOPPED

    def _give_up_listener(self) -> None:
        if self._listener is not None:
            self._listener.make_room()

    def _maintain(self) -> None:
        assert self.maintenance is not None
        self.maintenance.keep(
            self.id, self.settings.maintenance_interval, self.runner.ended, freed=self.runner.recorder.wake
        )

    # -- the loop ------------------------------------------------------------------------------------------

    def _work(self, watch: SQLiteWatch | None) -> None:
        recorder = self.runner.recorder
        changed = None if watch is None else watch.changed
        look_at = 0.0
        is_quiet = False
        while not self._stopping and not self.runner.replacement.is_due:
            batch, woken = recorder.wait(look_at, changed, SQLITE_LOOK_SECONDS)
            try:
                recorder.record(batch)
                now = time.monotonic()
                if woken or batch or now >= look_at:
                    # on SQLite a look costs less than the write lock for nothing
                    more, next_look = self._claim(at_once=woken and is_quiet and watch is None)
                    is_quiet = not more
                    pause = self.settings.poll_interval.total_seconds() * (0.8 + 0.4 * random.random())
                    look_at = now if more else now + min(pause, next_look)
                self._outage = 0
            except StorageUnavailable as error:
                self._outage += 1
                self.runner.dispatcher.sessions.make_room()  # perhaps it is we who have all there are
                if self._outage == 1:
                    logger.warning("the database is away, trying again: %s", error.reason)
                self._pause(min(LONGEST_PAUSE, 0.1 * 2**self._outage) * (0.5 + random.random() / 2))
            except Exception:
                logger.exception("claiming failed; it is tried again")
                self._pause(1.0)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    # -- claim ---------------------------------------------------------------------------------------------

    def _claim(self, at_once: bool = False) -> tuple[bool, float]:
        """Claim what there is room for; whether more may wait, and seconds until the next look if not.

        at_once: fresh ones first, without a look at what waits; for a call that ends a quiet time.
        """
        breaker = self.runner.breaker
        breaker.read(STATES_OLDEST_SECONDS if at_once else STATES_SECONDS)
        handlers = self.runner.handlers
        capacity = self.runner.buffer.capacity().only([name for name in handlers if not breaker.is_closed_to(name)])
        names = [*capacity.slow, *capacity.fast]
        if not names:
            return False, claiming.LONG
        terms = breaker.terms(names)
        if at_once:
            plan = claiming.plan(fresh_of_all(capacity, terms), capacity, terms, self._next_round())
            if self._claim_free(plan.free):
                return True, claiming.LONG
        most = max([*capacity.slow.values(), *capacity.fast.values()])
        backlog = ClaimBacklog(*self.store.deliveries.waiting(names, most))
        plan = claiming.plan(backlog, capacity, terms, self._next_round() if backlog.due else self._round)
        claimed = self._claim_free(plan.free) + self._claim_limited(plan)
        return claimed > 0, plan.next_look

    def _next_round(self) -> int:
        self._round += 1
        return self._round - 1

    def _claim_free(self, quotas: Mapping[Queue, int]) -> int:
        """Claim for handlers that need no permission; how many."""
        if not quotas:
            return 0
        deliveries = self.store.deliveries
        return self._accept(lambda: deliveries.claim(quotas, lease=self.settings.lease, worker=self.id))

    def _claim_limited(self, plan: ClaimPlan) -> int:
        """Claim for those whose limits, or circuit breakers, have a say; how many."""
        if not plan.limited:
            return 0
        return self._accept(
            lambda: self.store.deliveries.claim_limited(
                plan.limited,
                lease=self.settings.lease,
                worker=self.id,
                handlers=self.store.handlers,
                overrides=plan.probes,
            )
        )

    def _accept(self, claim: Callable[[], Sequence[Claimed]]) -> int:
        """Claim, and have what was claimed run; how many."""
        leased_until = self.runner.lease_until()
        observer = self.claim_observer
        claimed = claim() if observer is None else observer(claim)
        self.runner.accept(claimed, leased_until)
        return len(claimed)


def handler_rows(registry: Registry) -> list[HandlerRow]:
    """What this process tells the database about its handlers."""
    return [HandlerRow.of(handler) for handler in registry.handlers()]
