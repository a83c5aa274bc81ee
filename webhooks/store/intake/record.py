"""`Intake`: the writing half of ingest, and whose fault a refusal is.

What cannot be about a row is `DatabaseRefused` at once. What can be (SQLSTATE 22 and 23, SQLite's constraints) is
`RowRefused`, and `judge` asks, once the row was refused alone, whether the database refuses a harmless event of the same
source, type and handlers as well: then a constraint that is not ours stands on our tables, and no event is at fault.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

from sqlalchemy import func, select

from webhooks.database import SQLITE_BUSY, Database, describe
from webhooks.database import tables as schema
from webhooks.errors import DatabaseRefused, RowRefused
from webhooks.formats import sqlstates
from webhooks.model import Receipt
from webhooks.store.dialect import dialect_of
from webhooks.store.intake.decide import Decisions, Item, receipt_of, trial_of, waves_of
from webhooks.store.intake.postgresql import PostgresqlIntake
from webhooks.store.intake.sqlite import SqliteIntake

#: How long a trial write may take.
TRIAL_PATIENCE = timedelta(seconds=2)
#: Kinds of events of one refused request that `judge` tries.
_MOST_KINDS = 5


class IntakeStatements(Protocol):
    """What each database does its own way. The caller holds the write lock and translates refusals."""

    def record(self, waves: Sequence[Sequence[Item]], patience: timedelta | None, until: float) -> Decisions:
        """Record a batch in one transaction.

        waves: see `decide.waves_of`.
        patience: for the use of the connection; None: the database's own.
        until: by `time.monotonic()`; no lock is waited for after it.
        """

    def try_write(self, item: Item, patience: timedelta, until: float) -> None:
        """Record an item and roll it back."""

    def foreign_trigger(self) -> str | None:
        """The name of a trigger on our tables, where errors do not say in whose statement they arose."""


class Intake:
    """Records items in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._statements: IntakeStatements = dialect_of(database).pick(PostgresqlIntake, SqliteIntake)

    def record(self, items: Sequence[Item], patience: timedelta | None = None) -> list[Receipt]:
        """Record a batch in one transaction; one receipt per item, in order. patience: how long it may take.

        Raises `StorageUnavailable` when nothing is known to have been committed (the commit's outcome may be unknown:
        a second try is then answered as duplicate), its child `DatabaseRefused` when the database refuses everything that
        is written, and `RowRefused` when an item may be refused for what it says; `judge` then tells.
        """
        return self.record_gathered(lambda: items, patience)

    def record_gathered(self, gather: Callable[[], Sequence[Item]], patience: timedelta | None = None) -> list[Receipt]:
        """`record` what `gather` gives; on SQLite it is asked when the write lock is held, so a wait makes batches larger."""
        until = time.monotonic() + (patience or SQLITE_BUSY).total_seconds()
        with self.database.write_lock(patience):
            items = gather()
            if not items:
                return []
            with _refusals():
                decisions = self._statements.record(waves_of(items), patience, until)
        return [receipt_of(item, decisions[item.event_id]) for item in items]

    def overrun(self, source: str, limit: int) -> int:
        """How many bodies of a source came under more than `limit` keys in an hour of the last day."""
        table = schema.equal_bodies.c
        since = self.database.now() - timedelta(days=1)
        query = select(func.count()).where(table.source == source, table.n > limit, table.since > since)
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    # -- whose fault ---------------------------------------------------------------------------------------

    def judge(self, items: Sequence[Item], patience: timedelta | None = None) -> None:
        """Raise `DatabaseRefused` when harmless events in place of these refused `items` are refused as well."""
        kinds = {(item.source, item.type, tuple(route.handler for route in item.routes)): item for item in items}
        for item in list(kinds.values())[:_MOST_KINDS]:
            self.try_write(item, patience)
        if name := self._statements.foreign_trigger():
            raise DatabaseRefused(f"the trigger {name!r}, which is not ours, may have refused it; drop it")

    def try_write(self, like: Item | None = None, patience: timedelta | None = None, *, body: bytes = b"{}") -> None:
        """Write an event, its dedup entry and its deliveries as `record` does, and roll them back: no row stays.

        like: whose source, type and handlers it has.
        patience: how long it may take; None: `TRIAL_PATIENCE`.
        body: of the event; one that cannot be compressed needs as much room as it has bytes.

        Raises `StorageUnavailable`, and `DatabaseRefused` whatever the database says against it, since it holds nothing
        that could be at fault.
        """
        item = trial_of(like, self.database.clock())._replace(body=body)
        patience = patience or TRIAL_PATIENCE
        until = time.monotonic() + patience.total_seconds()
        try:
            with self.database.write_lock(patience), _refusals():
                self._statements.try_write(item, patience, until)
        except RowRefused as error:
            raise DatabaseRefused(f"a constraint that is not ours refuses every event: {error}") from error


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the database's connections let through of a driver may be about the rows themselves."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as error:  # what SQLite cannot bind
        raise RowRefused(describe(error)) from error
    except Exception as error:
        if sqlstates.is_of_database(error):
            raise RowRefused(describe(error)) from error
        raise


__all__ = ["TRIAL_PATIENCE", "Intake"]
