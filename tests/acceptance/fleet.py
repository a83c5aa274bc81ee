"""Workers as real processes that a test kills, stops and starts, and what it checks afterwards.

A `Fleet` has a directory with handlers, a database and a number of `webhooks worker` processes; a keeper starts one that
ended again, as a service manager would. Handlers note every run in a journal, one file a process, in single appends that
survive `kill -9`; those with `session` write into the table `effects`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import textwrap
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, Table, Text, select, text

from tests.acceptance.support import Process, Processes
from tests.support import allowed, wait_until
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.model import DeliveryState, new_id
from webhooks.store import Store
from webhooks.store.intake import Item, Routed

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)

effects = Table(
    "effects",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("what", Text),
    Column("key", Text),
    Column("n", Integer),
    Column("at", Float),
)

#: What every handlers module of a fleet begins with.
PREAMBLE = '''
import json, os, signal, time
from datetime import timedelta
from pathlib import Path
from sqlalchemy import text
from webhooks import Discard, Retry, RetryPolicy, on

SOON = RetryPolicy(max_attempts=50, base=timedelta(milliseconds=50), cap=timedelta(milliseconds=200))


def note(what, delivery, event, **more):
    """One line in this process's journal: appended whole, or not at all."""
    line = json.dumps({"what": what, "handler": delivery.handler, "delivery": delivery.id, "at": time.monotonic(),
                       "key": delivery.idempotency_key, "stale": delivery.stale, "pid": os.getpid(),
                       "alone": delivery.alone, "body": json.loads(event.raw), **more}) + "\\n"
    with open(f"journal/{os.getpid()}", "ab", buffering=0) as journal:
        journal.write(line.encode())


def effect(session, event, delivery):
    body = json.loads(event.raw)
    session.execute(
        text("insert into effects (what, key, n, at) values (:what, :key, :n, :at)"),
        {"what": delivery.idempotency_key, "key": body.get("key"), "n": body.get("n"), "at": time.monotonic()},
    )
'''


@dataclass(frozen=True)
class Run:
    """One line of the journal."""

    what: str
    handler: str
    delivery: int
    at: float
    key: str
    stale: bool
    alone: bool
    body: Mapping[str, Any]
    pid: int


class Fleet:
    """Workers over one database. lease: short, so that what is killed is soon taken over; longer on a busy machine."""

    def __init__(self, processes: Processes, url: str, handlers: str, *, lease: float = 3.0, **env: str) -> None:
        self.processes = processes
        self.url = url
        (processes.directory / "handlers").mkdir(exist_ok=True)
        (processes.directory / "journal").mkdir(exist_ok=True)
        (processes.directory / "handlers" / "fleet.py").write_text(PREAMBLE + textwrap.dedent(handlers))
        self.lease = lease * min(allowed(1), 3)  # a busy machine may stop a process for so long that it loses its lease
        self.env = {
            "DATABASE_URL": url,
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            "WEBHOOKS_LEASE": f"{self.lease:.3f}s",
            "WEBHOOKS_HEARTBEAT": f"{self.lease / 3:.3f}s",
            "WEBHOOKS_GRACE": "5s",
            "PYTHONFAULTHANDLER": "1",
            **env,
        }
        self.database = connect(url, application="tests fleet")
        self.store = Store(self.database, {})
        with self.database.write() as connection:
            effects.metadata.drop_all(connection)
            effects.metadata.create_all(connection)
        self.workers: list[Process] = []
        self._wanted = 0
        self._keeping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._lock = threading.Lock()

    # -- processes -----------------------------------------------------------------------------------------

    def start(self, n: int = 1, command: Sequence[str] = ("webhooks", "worker"), **env: str) -> list[Process]:
        """Start n workers and wait until they claim."""
        with self._lock:
            started = [self.processes.start(*command, env={**self.env, **env}) for _ in range(n)]
            self.workers.extend(started)
        for worker in started:
            worker.wait_for(r"started with \d+ handlers")
        return started

    def keep(self, n: int) -> None:
        """Start n workers, and from now on whichever ended."""
        self._wanted = n
        self.start(n)
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._keeping.wait(0.1):
            with self._lock:
                self.workers = [worker for worker in self.workers if worker.is_running]
                for _ in range(self._wanted - len(self.workers)):
                    self.workers.append(self.processes.start("webhooks", "worker", env=self.env))

    def running(self) -> list[Process]:
        with self._lock:
            return [worker for worker in self.workers if worker.is_running]

    def kill(self, chance: random.Random) -> None:
        """kill -9 to one of the workers."""
        with contextlib.suppress(IndexError, ProcessLookupError):
            os.kill(chance.choice(self.running()).pid, signal.SIGKILL)

    def freeze(self, chance: random.Random, seconds: float) -> None:
        """SIGSTOP to one of the workers for a while."""
        with contextlib.suppress(IndexError, ProcessLookupError):
            pid = chance.choice(self.running()).pid
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM to all, as a deploy would."""
        self._keeping.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        with self._lock:
            for worker in self.workers:
                worker.signal(signal.SIGTERM)
            for worker in self.workers:
                worker.wait()

    def close(self) -> None:
        self._keeping.set()
        if self._keeper is not None:
            self._keeper.join()
        self.processes.end()
        self.database.dispose()

    # -- events --------------------------------------------------------------------------------------------

    def put(self, bodies: Sequence[Mapping[str, Any]], *handlers: str, lane: bool = False) -> list[int]:
        """Store an event for each body, with a delivery for each handler; ids of the deliveries.

        lane: in the lane `key` of the body, at its place `n`. Posted again until the database takes it, as a sender does.
        """
        import json

        items = [
            Item(
                event_id=new_id(),
                source="close",
                dedup_key=f"ev_{new_id()}",
                revision=1,
                type="lead.updated",
                occurred_at=NOW + timedelta(seconds=body.get("n", 0)),
                received_at=datetime.now(UTC),
                body=json.dumps({**body, "put": time.monotonic()}).encode(),
                routes=tuple(Routed(new_id(), name, body["key"] if lane else None) for name in handlers),
            )
            for body in bodies
        ]
        made: list[int] = []
        for start in range(0, len(items), 50):
            made.extend(self._store(items[start : start + 50]))
        return made

    def _store(self, items: list[Item]) -> list[int]:
        deadline = time.monotonic() + 30
        while True:
            try:
                receipts = self.store.intake.record(items)
            except StorageUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            # an outcome that was not known is a duplicate the second time, and its deliveries are those we named
            assert all(receipt.event_id == item.event_id for receipt, item in zip(receipts, items, strict=True))
            return [route.delivery_id for item in items for route in item.routes]

    # -- what came of it -----------------------------------------------------------------------------------

    def read(self, query: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(query).fetchall())

    def states(self, *, but: str = "") -> Counter[DeliveryState]:
        table = schema.deliveries.c
        rows = self.read(select(table.state).where(table.handler != but))
        return Counter(DeliveryState(row.state) for row in rows)

    def states_of(self, ids: Sequence[int]) -> dict[int, DeliveryState]:
        """{delivery id: its state}."""
        table = schema.deliveries.c
        rows = self.read(select(table.id, table.state).where(table.id.in_(ids)))
        return {row.id: DeliveryState(row.state) for row in rows}

    def wait_until_finished(self, seconds: float, *, but: str = "") -> None:
        """Wait until nothing waits or runs any more."""

        def is_finished() -> bool:
            with contextlib.suppress(StorageUnavailable):
                states = self.states(but=but)
                return not states[DeliveryState.PENDING] and not states[DeliveryState.RUNNING]
            return False

        try:
            wait_until(is_finished, timedelta(seconds=seconds), "every delivery to end")
        except AssertionError as error:
            table = schema.deliveries.c
            left = self.read(select(schema.deliveries).where(table.state < 2).limit(5))
            workers = self.running()  # whichever ends now is replaced at once
            for worker in workers:
                worker.signal(signal.SIGABRT)  # its threads' stacks go to its output
            time.sleep(0.5)
            outputs = "\n".join(worker.output[-9000:] for worker in workers)
            stopped = self.read(select(schema.handlers).where(schema.handlers.c.breaker > 0))
            told = [
                line for process in self.processes.started for line in process.output.splitlines() if "breaker" in line
            ]
            raise AssertionError(
                f"{error}; {self.states()}; breakers that are not closed: {stopped}, {told}; left, for example: {left}\n"
                f"{outputs}"
            ) from None

    def journal(self, what: str = "", handler: str = "") -> list[Run]:
        """The runs that were noted, in the order of time."""
        import json

        runs: list[Run] = []
        for path in (self.processes.directory / "journal").iterdir():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):  # a worker writes it at this moment, or died while it did
                    continue
                entry = json.loads(line)
                if what in ("", entry["what"]) and handler in ("", entry["handler"]):
                    runs.append(
                        Run(
                            entry["what"], entry["handler"], entry["delivery"], entry["at"], entry["key"],
                            entry["stale"], entry["alone"], entry["body"], entry["pid"],
                        )
                    )  # fmt: skip
        return sorted(runs, key=lambda run: run.at)

    def effects(self) -> Counter[str]:
        """{idempotency key: how often it took effect}."""
        return Counter(row.what for row in self.read(select(effects.c.what)))

    def attempts(self) -> dict[int, list[str]]:
        """{delivery id: outcomes of its attempts}."""
        found: dict[int, list[str]] = defaultdict(list)
        ids = [row.id for row in self.read(select(schema.deliveries.c.id))]
        for start in range(0, len(ids), 500):
            for attempt in Store(self.database, {}).deliveries.attempts(ids[start : start + 500]):
                found[attempt.delivery_id].append(str(attempt.outcome))
        return found

    def dead(self) -> list[tuple[str, str | None]]:
        table = schema.deliveries.c
        rows = self.read(select(table.handler, table.reason).where(table.state == int(DeliveryState.DEAD)))
        return [(row.handler, row.reason) for row in rows]

    def execute(self, statement: str, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(text(statement), values)


@contextlib.contextmanager
def fleet(processes: Processes, url: str, handlers: str, **options: Any) -> Iterator[Fleet]:
    made = Fleet(processes, url, handlers, **options)
    try:
        yield made
    finally:
        made.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them are."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def until(seconds: float, act: Callable[[], None]) -> None:
    """Do something again and again for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        act()
