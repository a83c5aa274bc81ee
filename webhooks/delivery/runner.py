"""Run claimed deliveries and record what came of them: what a worker and any other engine have in common.

A `Runner` holds attempts (`attempt.Ledger`), gives them threads (`buffer`), ends those whose time is up (`supervisor`),
keeps their leases (`leases`), and has their outcomes recorded (`recording`). Who claims is not its business: `Worker` is
a runner and a claim loop; an engine that is told ids claims these and calls `run`.

None of its threads ends because something went wrong: an error is logged and the next round follows. One that waited
past its lease (the process was stopped, say) is not begun.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from webhooks.delivery.attempt import Ledger, Phase, RunningAttempt
from webhooks.delivery.breaker import CircuitBreaker
from webhooks.delivery.buffer import Buffer
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.draining import Drain
from webhooks.delivery.groups import Groups
from webhooks.delivery.isolation import IsolatedPool
from webhooks.delivery.leases import Heartbeat
from webhooks.delivery.recording import Recorder
from webhooks.delivery.sizes import Sizes
from webhooks.delivery.supervisor import ABANDONED_FOR_A_SLOT, Replacement, Supervisor
from webhooks.errors import NoConnection, StorageUnavailable
from webhooks.model import DeliveryState
from webhooks.routing import Handler, Registry
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished

logger = logging.getLogger(__name__)

#: Seconds between two looks at what runs too long.
SUPERVISE_SECONDS = 0.05
#: A thread of ours has this long to end with its runner.
JOIN_SECONDS = 2.0
#: `Runner.run` looks so often whether other threads have recorded what it waits for.
RUN_LOOK_SECONDS = 0.05
#: The thread that records what no `run` waits for looks so often.
KEEP_RECORDING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How deliveries are run by one process; from `settings.Settings`.

    slots: handlers at once.
    lease, heartbeat: for how long deliveries are held, and how often that is extended.
    grace: what runs may take so long when the process stops.
    abandoned_threads: after so many the process is to be replaced; None: some for each slot.
    queues: those whose handlers it runs; None: all.
    """

    slots: int = 8
    lease: timedelta = timedelta(seconds=30)
    heartbeat: timedelta = timedelta(seconds=10)
    grace: timedelta = timedelta(seconds=25)
    abandoned_threads: int | None = None
    queues: frozenset[str] | None = None


class Runner:
    """Runs claimed deliveries of the handlers that this process knows, as far as they are in its queues.

    kind: of process, as `webhooks_processes` lists it.
    """

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        settings: RunnerSettings,
        version: str,
        isolated: IsolatedPool,
        kind: str = "worker",
    ) -> None:
        host = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        #: By which the database knows this process.
        self.id = host if kind == "worker" else f"{kind}:{host}"
        self.store = store
        self.dispatcher = dispatcher
        self.settings = settings
        self.isolated = isolated
        #: {name: Handler} of those that it runs.
        self.handlers: dict[str, Handler] = {
            handler.name: handler
            for handler in registry.handlers()
            if settings.queues is None or handler.queue in settings.queues
        }
        sessions = [handler.name for handler in self.handlers.values() if handler.wants_session]
        self.ledger = Ledger()
        batches = {name: handler.batch for name, handler in self.handlers.items() if handler.batch is not None}
        self.buffer = Buffer(self.handlers, settings.slots, sessions, batches)
        self.breaker = CircuitBreaker(store, self.handlers)
        self.recorder = Recorder(store, self.ledger, dispatcher.announcements)
        limit = settings.abandoned_threads or ABANDONED_FOR_A_SLOT * settings.slots + 1
        self.replacement = Replacement(limit, self.recorder)
        self.groups = self._make_groups()
        self.supervisor = self._make_supervisor()
        self.heartbeat = Heartbeat(
            store=store,
            ledger=self.ledger,
            process_id=self.id,
            kind=kind,
            version=version,
            handlers=list(self.handlers),
            lease=settings.lease,
            heartbeat=settings.heartbeat,
            queues=settings.queues,
        )
        self.heartbeat.means = self.buffer.means
        #: Called when there is no connection at all, so that what is kept for later is given up, last of all.
        self.give_up_connections: Callable[[], None] = lambda: None
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._recording = threading.Lock()

    def _make_supervisor(self) -> Supervisor:
        return Supervisor(
            store=self.store,
            dispatcher=self.dispatcher,
            ledger=self.ledger,
            buffer=self.buffer,
            breaker=self.breaker,
            recorder=self.recorder,
            replacement=self.replacement,
            add_slot=self._add_slot,
            groups=self.groups,
        )

    def _make_groups(self) -> Groups:
        return Groups(
            dispatcher=self.dispatcher,
            ledger=self.ledger,
            buffer=self.buffer,
            breaker=self.breaker,
            recorder=self.recorder,
            sizes=Sizes({name: handler.together for name, handler in self.handlers.items()}),
            put_back=self._put_back,
        )

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads; `end_threads` ends them."""
        if any(handler.wants_session for handler in self.handlers.values()):
            self.dispatcher.sessions.prepare()  # now, not in a slot
        for _ in range(self.settings.slots):
            self._add_slot()
        self.start_thread("webhooks-supervisor", self._supervise)
        self.start_thread("webhooks-heartbeat", self._beat)

    def start_thread(self, name: str, act: Callable[[], None]) -> None:
        """Start a thread that ends when `ended` is set."""
        thread = threading.Thread(target=act, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    @contextlib.contextmanager
    def running(self) -> Iterator[Runner]:
        """Run while the body does, for an engine that calls `run`; then drain and close."""
        self.start()
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Drain, end the threads, and tell the database that this process is gone."""
        self.drain()
        self.end_threads()
        self.forget()

    def drain(self, is_hasty: Callable[[], bool] = lambda: False) -> None:
        """Finish what runs, within the grace period, and give back the rest. is_hasty: whether to stop at once."""
        Drain(self, self.settings.grace, is_hasty).run()
        with contextlib.suppress(StorageUnavailable):
            self.breaker.count_last()

    def end_threads(self) -> None:
        """End the threads of this runner, the event loop and the isolated processes."""
        self.ended.set()
        self.buffer.close()
        self.dispatcher.loop.stop()
        self.isolated.close()
        for thread in self._threads:
            thread.join(timeout=JOIN_SECONDS)

    def forget(self) -> None:
        """Tell the database that this process is gone."""
        with contextlib.suppress(StorageUnavailable):
            self.store.processes.forget(self.id)

    # -- what is claimed -----------------------------------------------------------------------------------

    def lease_until(self) -> float:
        """Until when a claim that is made now holds, by `time.monotonic()`; ask before claiming."""
        return time.monotonic() + self.settings.lease.total_seconds()

    def accept(self, claimed: Iterable[Claimed], leased_until: float) -> list[RunningAttempt]:
        """Have claimed deliveries run; they are recorded by the thread that calls `recorder.record`.

        claimed: of handlers that this process knows.
        leased_until: see `lease_until`.
        """
        attempts = [RunningAttempt(one, self.handlers[one.delivery.handler], leased_until) for one in claimed]
        if suspects := [attempt for attempt in attempts if attempt.delivery.alone]:
            deaths = self.dispatcher.deaths([attempt.delivery.id for attempt in suspects])
            for attempt in suspects:
                if deaths.get(attempt.delivery.id, 0) < 2:
                    attempt.run_singly()
        self.ledger.add(attempts)
        self.buffer.add(attempts)
        return attempts

    def run(self, claimed: Iterable[Claimed], leased_until: float) -> None:
        """Run claimed deliveries, record what came of them, and return when that is done. Any number of threads.

        For an engine that claims by itself: `start` and `start_recording` first. While the database is away it waits; the
        leases run on. Not waited for is what its time-out took from a thread that must end before its lane continues.
        """
        keys = {(attempt.delivery.id, attempt.delivery.token) for attempt in self.accept(claimed, leased_until)}
        while not self.ended.is_set() and keys & self.ledger.unrecorded():
            self._record(RUN_LOOK_SECONDS)

    def start_recording(self) -> None:
        """Have a thread record what ends while no `run` waits for it."""
        self.start_thread("webhooks-recorder", self._keep_recording)

    def _keep_recording(self) -> None:
        while not self.ended.wait(KEEP_RECORDING_SECONDS):
            self._record(0.0)

    def _record(self, seconds: float) -> None:
        """Record what ends within so many seconds; one thread does it for all that wait."""
        with self._recording:
            try:
                self.recorder.record(self.recorder.wait(time.monotonic() + seconds)[0])
            except StorageUnavailable as error:
                logger.warning("the database is away, trying again: %s", error.reason)
                self.ended.wait(RUN_LOOK_SECONDS)

    # -- slots ---------------------------------------------------------------------------------------------

    def _add_slot(self) -> None:
        threading.Thread(target=self._serve_slot, name="webhooks-slot", daemon=True).start()

    def _serve_slot(self) -> None:
        while (attempt := self.buffer.next()) is not None:
            if not self.serve(attempt):
                return  # who took it records what came of it, and has refilled this slot

    def serve(self, attempt: RunningAttempt) -> bool:
        """Run an attempt that `buffer` has just given out, with those that may share its transaction, in this thread.

        False: another thread took it. What came of it is recorded, or with the recorder.
        """
        if self.groups.gather(attempt):
            return self.groups.run(attempt)
        finished: Finished | None = None
        try:
            finished = self._run(attempt)
        except NoConnection as refused:
            if self._put_back(attempt, refused):
                return True
        except BaseException:  # ours, not the handler's: the delivery stays leased and is rescued
            logger.exception("delivery %d could not be run", attempt.delivery.id)
        if not attempt.end():
            self.buffer.finished(attempt)
            self.ledger.look_at(attempt)
            return False
        if finished is not None:
            self.breaker.observe(finished)
        if finished is not None and not attempt.committed:
            self.recorder.put(attempt, finished)
        else:
            self.ledger.settle(attempt)
        # last: a stopping process waits until nothing has a place, then records the rest
        if self.buffer.finished(attempt):
            self.recorder.wake()
        return True

    def _run(self, attempt: RunningAttempt) -> Finished | None:
        if attempt.phase is not Phase.RUNNING or time.monotonic() > attempt.leased_until:
            logger.info(
                "delivery %d waited past its lease; another worker has it",
                attempt.delivery.id,
                extra={"delivery_id": attempt.delivery.id, "handler": attempt.handler.name},
            )
            return None
        if attempt.doubt is not None and self._was_committed(attempt):
            return attempt.doubt
        if attempt.has_process:
            return self.isolated.run(attempt)
        return self.dispatcher.run(attempt)

    def _was_committed(self, attempt: RunningAttempt) -> bool:
        """Whether the unanswered COMMIT of a group took place; then it is told now. Raises `NoConnection`."""
        try:
            state = self.store.deliveries.state_of(attempt.delivery)
        except StorageUnavailable as away:
            raise NoConnection(away.reason) from away
        if state is not DeliveryState.SUCCEEDED:
            return False
        assert attempt.doubt is not None
        attempt.committed = True
        self.dispatcher.announcements.recorded(attempt.doubt)
        return True

    def _put_back(self, attempt: RunningAttempt, refused: NoConnection) -> bool:
        """Have an attempt that could not begin wait on; whether it was still ours to do so.

        Connections that are kept for later are given up, the listener's last: with that, two are enough.
        """
        again = attempt.anew()
        if not attempt.end():
            return False
        running = self.buffer.short(attempt)
        self.store.database.make_room()
        self.isolated.make_room()
        if not running:
            self.give_up_connections()
        if attempt.has_process:
            self.dispatcher.sessions.make_room()
        self.ledger.replace(attempt, again)
        self.buffer.put_back(attempt, again)
        self.recorder.repeated.warn(
            "short",
            "no connection to the database for another handler's session, so fewer of them run at once until there is one; "
            "allow more connections, or start the worker with a smaller --concurrency: %s",
            refused.reason,
        )
        return True

    # -- threads -------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        away = False
        while not self.ended.wait(SUPERVISE_SECONDS):
            try:
                self.supervisor.look()
                away = False
            except StorageUnavailable as error:
                if not away:
                    logger.warning("time-outs wait for the database: %s", error.reason)
                away = True
            except Exception:
                logger.exception("supervision failed; it is tried again")

    def _beat(self) -> None:
        pause = 0.0
        while not self.ended.wait(pause):
            pause = self.heartbeat.beat()
