"""A worker in this process, over a real database: what the tests of dispatching share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, Text, func, select
from sqlalchemy.schema import CreateTable

from tests.support import wait_until
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.delivery import (
    Dispatcher,
    IsolatedPool,
    Maintenance,
    RunningAttempt,
    Worker,
    WorkerSettings,
    handler_rows,
)
from webhooks.model import DeliveryClass, DeliveryState, new_id
from webhooks.routing import Registry, RetryPolicy
from webhooks.session import DoneMark, Sessions
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished
from webhooks.store.intake import Item, Routed

#: Nothing to mark: for what needs a session and its commit alone.
NO_MARK = DoneMark(lambda transaction: True)
NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
SOON = RetryPolicy(max_attempts=3, base=timedelta(0), cap=timedelta(0))

#: What handlers under test write through `session`.
effects = Table("effects", MetaData(), Column("id", Integer, primary_key=True), Column("what", Text))


@dataclass
class Rig:
    """Handlers, a store, and workers on demand. Put handlers on `registry`, events with `put`, then `running()`."""

    database: Database
    write_limit: timedelta = timedelta(seconds=1)
    timeout: timedelta = timedelta(seconds=30)
    own: dict[str, list[str]] = field(default_factory=dict)
    content: Any = None
    #: What the last worker's `run` answered; None while it runs.
    result: int | None = None

    def __post_init__(self) -> None:
        self.store = Store(self.database, {} if self.content is None else {"close": self.content})
        self.registry = Registry()
        self.sessions = Sessions(self.database, self.write_limit)
        self.dispatcher = Dispatcher(
            registry=self.registry,
            store=self.store,
            sessions=self.sessions,
            clock=lambda: datetime.now(UTC),
            default_retry=SOON,
            default_timeout=self.timeout,
            own=self.own,
        )

    def close(self) -> None:
        self.dispatcher.loop.stop()
        self.sessions.dispose()
        self.database.dispose()

    def on(self, name: str = "h", **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a handler for everything."""
        return self.registry.on("**", name=name, **options)

    def put(self, n: int = 1, *handlers: str, lane: str | None = None, at: int = 0, body: bytes = b"{}") -> list[int]:
        """Store n events `at` seconds after NOW, each for all `handlers`; ids of the deliveries."""
        items = [
            Item(
                event_id=new_id(),
                source="close",
                dedup_key=f"ev_{new_id()}",
                revision=1,
                type="lead.updated",
                occurred_at=NOW + timedelta(seconds=at),
                received_at=datetime.now(UTC),
                body=body,
                routes=tuple(Routed(new_id(), handler, lane) for handler in handlers or ("h",)),
            )
            for _ in range(n)
        ]
        return [id for receipt in self.store.intake.record(items) for id in receipt.delivery_ids]

    # -- one attempt, without a worker -----------------------------------------------------------------------

    def claim(self, handler: str = "h", lease: timedelta = timedelta(seconds=30)) -> Claimed:
        (one,) = self.store.deliveries.claim({(handler, kind): 1 for kind in DeliveryClass}, lease=lease, worker="w")[
            :1
        ]
        return one

    def attempt(self, handler: str = "h") -> RunningAttempt:
        made = self.registry.get(handler)
        assert made is not None
        return RunningAttempt(self.claim(handler), made)

    def run_one(self, handler: str = "h") -> Finished | None:
        """Claim one, run it here, record it."""
        attempt = self.attempt(handler)
        finished = self.dispatcher.run(attempt)
        if finished is not None and not attempt.committed:
            assert self.store.deliveries.finish([finished])
        return finished

    # -- workers -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self, *, maintenance: bool = False, **settings: Any) -> Iterator[Worker]:
        """A worker that runs in a thread while the body does, then is stopped and waited for."""
        self.store.handlers.register(handler_rows(self.registry))
        worker = Worker(
            store=self.store,
            registry=self.registry,
            dispatcher=self.dispatcher,
            settings=WorkerSettings(**{"slots": 4, "poll_interval": timedelta(seconds=0.2), **settings}),
            version="test",
            isolated=IsolatedPool(command=None, dispatcher=self.dispatcher, store=self.store),
            maintenance=Maintenance(self.store, self.dispatcher) if maintenance else None,
        )
        self.result = None

        def run() -> None:
            self.result = worker.run()

        thread = threading.Thread(target=run, name="worker under test")
        thread.start()
        try:
            yield worker
        finally:
            if not worker.is_stopping:  # a second time would mean "at once"
                worker.stop()
            thread.join(timeout=30)
            assert not thread.is_alive(), "the worker does not stop"
            assert self.result is not None

    def ids(self) -> list[int]:
        """Of all deliveries."""
        with self.database.read() as connection:
            return list(connection.execute(select(schema.deliveries.c.id)).scalars())

    def states(self) -> list[DeliveryState]:
        """Of all deliveries, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(select(schema.deliveries.c.state).order_by(schema.deliveries.c.id))
            return [DeliveryState(state) for state in rows.scalars()]

    def row(self, id: int) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(schema.deliveries).where(schema.deliveries.c.id == id)).one()

    def wait_for(self, state: DeliveryState, n: int = 1, seconds: float = 15) -> None:
        """Wait until n deliveries are in `state`."""
        wait_until(lambda: self.states().count(state) >= n, timedelta(seconds=seconds), f"{n} × {state.label}")

    def outcomes(self, id: int) -> list[str]:
        return [str(attempt.outcome) for attempt in self.store.deliveries.attempts([id])]

    # -- effects -------------------------------------------------------------------------------------------

    def make_effects(self) -> None:
        """By one statement, since nearly every test here does: no test leaves such a table to the next."""
        with self.database.write() as connection:
            connection.execute(CreateTable(effects, if_not_exists=True))

    def clear_effects(self) -> None:
        with self.database.write() as connection:
            connection.execute(effects.delete())

    def count_effects(self) -> int:
        with self.database.read() as connection:
            count: int = connection.execute(select(func.count()).select_from(effects)).scalar_one()
            return count


@contextlib.contextmanager
def rig(url: str, *, lock_patience: timedelta | None = None, **options: Any) -> Iterator[Rig]:
    made = Rig(connect(url, pool_size=8, lock_patience=lock_patience), **options)
    made.make_effects()
    try:
        yield made
    finally:
        made.close()
