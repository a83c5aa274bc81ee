"""The running processes with their handlers, and the duties that only one of them has at a time.

A process writes for how long it claims (`lease`), and a duty is kept with the time for which it was taken: what ends
later than now and that time was written by a clock that was ahead, and is not believed (see `clocks`). A duty also
remembers since when its rounds, in whichever process, followed each other without a gap and without a jump of the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, bindparam, delete, select, text
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.errors import Locked
from webhooks.store.dialect import dialect_of

#: A process that has not reported for so long is taken for gone (heartbeats come every 10 s).
SILENT = timedelta(minutes=2)
#: The duty of rescuing and pruning, whose rounds watch the clock.
MAINTENANCE = "maintenance"
#: The duty of offering deliveries to another engine.
ENGINE = "engine"
#: Kinds of processes that run deliveries.
WORKERS = ("worker", "celery")
#: Two instants that lie closer together are the same clock's.
MARGIN = timedelta(seconds=1)
#: A clock that moved by more than this against the monotonic one has jumped; a duty without a round for longer had a gap.
JUMP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it last reported.

    kind: "web", "worker", "celery" for one that runs deliveries for Celery, or "feeder" for one that offers them.
    handlers: names of those that it runs.
    lease: for how long it claims.
    queues: those whose handlers it runs; None: all.
    silent_since: a feeder's: since when what it offers is not taken, or its broker takes nothing; None while all is well.
    """

    id: str
    kind: str
    started_at: datetime
    heartbeat_at: datetime
    version: str
    handlers: tuple[str, ...]
    lease: timedelta | None = None
    queues: tuple[str, ...] | None = None
    silent_since: datetime | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it runs deliveries."""
        return self.kind in WORKERS

    def serves(self, queue: str) -> bool:
        """Whether it is a worker that runs the handlers of that queue, as far as it knows them."""
        return self.is_worker and (self.queues is None or queue in self.queues)


class Processes:
    """The rows of `webhooks_processes` and `webhooks_leases`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)
        taken = self.dialect.add_microseconds("coalesce(l.lease, excluded.lease) + :margin")
        #: takes or keeps a duty that is free, ours, over, or held until later than can be
        self._hold = text(
            f"""insert into webhooks_leases as l (name, holder, until, lease, steady_since)
               values (:name, :holder, :until, :lease, :steady_since)
               on conflict (name) do update set holder = excluded.holder, until = excluded.until, lease = excluded.lease,
                   steady_since = excluded.steady_since
                where l.holder = excluded.holder or l.until <= :now or l.until > :now + {taken}"""
        ).bindparams(*(bindparam(name, type_=schema.Instant()) for name in ("until", "now", "steady_since")))

    def beat(
        self,
        id: str,
        kind: str,
        version: str,
        handlers: Sequence[str],
        *,
        lease: timedelta | None = None,
        queues: Collection[str] | None = None,
    ) -> None:
        """Report that a process is alive.

        id, version: its own.
        kind: "web" or "worker".
        handlers: the names of those that it runs.
        lease: for how long it claims; None for one that does not.
        queues: those whose handlers it runs; None: all.
        """
        statement = text(
            """insert into webhooks_processes (id, kind, started_at, heartbeat_at, version, handlers, lease, monotonic,
                 queues)
               values (:id, :kind, :now, :now, :version, :handlers, :lease, :monotonic, :queues)
               on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, handlers = excluded.handlers,
                   lease = excluded.lease, monotonic = excluded.monotonic, queues = excluded.queues"""
        ).bindparams(bindparam("now", type_=schema.Instant()))
        values: dict[str, Any] = {
            "id": id,
            "kind": kind,
            "version": version,
            "handlers": msgspec.json.encode(sorted(handlers)).decode(),
            "queues": None if queues is None else msgspec.json.encode(sorted(queues)).decode(),
            "lease": None if lease is None else lease // schema.MICROSECOND,
        }
        with self.database.write() as connection:
            values["now"] = self.database.now(connection)
            values["monotonic"] = self.dialect.monotonic()
            connection.execute(statement, values)

    def report_silence(self, id: str, silence: timedelta | None) -> None:
        """Note for how long nothing has come of what a feeder offers; None: all is well."""
        table = schema.processes
        with self.database.write() as connection:
            since = None if silence is None else self.database.now(connection) - silence
            connection.execute(table.update().where(table.c.id == id).values(silent_since=since))

    def forget(self, id: str) -> None:
        """Take a process that stops off the list, and its duties from it."""
        with self.database.write() as connection:
            connection.execute(delete(schema.processes).where(schema.processes.c.id == id))
            self._give_back(connection, schema.leases.c.holder == id)

    def all(self) -> list[Process]:
        """Every process that reported and was not pruned, the latest first."""
        table = schema.processes
        with self.database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.heartbeat_at.desc())).fetchall()
        return [
            Process(
                row.id,
                row.kind,
                row.started_at,
                row.heartbeat_at,
                row.version,
                tuple(msgspec.json.decode(row.handlers, type=list[str])),
                None if row.lease is None else timedelta(microseconds=row.lease),
                None if row.queues is None else tuple(msgspec.json.decode(row.queues, type=list[str])),
                silent_since=row.silent_since,
            )
            for row in rows
        ]

    def running(self, now: datetime | None = None) -> list[Process]:
        """Those that reported within `SILENT`; a report from the future says nothing about now.

        now: by the database's clock, where it was asked a moment ago.
        """
        now = now or self.database.now()
        return [process for process in self.all() if -JUMP < now - process.heartbeat_at < SILENT]

    def last_worker_beat(self) -> datetime | None:
        """When any worker last reported, as far as that is not in the future."""
        table = schema.processes
        query = select(table.c.heartbeat_at).where(table.c.kind.in_(WORKERS)).order_by(table.c.heartbeat_at.desc())
        with self.database.read() as connection:
            now = self.database.now(connection)
            return connection.execute(query.where(table.c.heartbeat_at < now + JUMP).limit(1)).scalar()

    def require_writable(self) -> None:
        """Try a write that changes no row. Raises `StorageUnavailable`, or the database's error when it may not write."""
        with self.database.write() as connection:
            connection.exec_driver_sql("update webhooks_leases set name = name where name = ''")

    def prune(self, older_than: timedelta, limit: int = 100) -> int:
        """Forget processes that have been silent for `older_than`."""
        table = schema.processes
        with self.database.write() as connection:
            before = self.database.now(connection) - older_than
            ids = (
                connection.execute(select(table.c.id).where(table.c.heartbeat_at < before).limit(limit)).scalars().all()
            )
            return connection.execute(delete(table).where(table.c.id.in_(ids))).rowcount if ids else 0

    # -- duties --------------------------------------------------------------------------------------------

    def acquire(self, duty: str, holder: str, lease: timedelta, *, is_steady: bool | None = None) -> bool:
        """Take or keep a duty for `lease`; False while another process has it.

        Asked often, so it looks first and writes only when something is to change: a fresh hold, or one half over. A
        hold that ends later than now and the time for which it was taken is another's wrong clock, and is over.

        duty: its name.
        holder: this process.
        lease: for how long.
        is_steady: whether the clock went as the monotonic one since this process's last round (`steady_since`); None:
            it did not look.

        A row that another client has locked is not waited for: this process keeps the duty if it has it, and else, when
        the hold is over, raises `Locked`, since no process can take it.
        """
        table = schema.leases
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.name == duty)).fetchone()
            now = self.database.now(connection)
        if row is not None and now + lease / 2 < row.until <= now + lease:
            if row.holder != holder:
                return False
            if is_steady is not False:
                return True
        if row is not None and row.holder != holder and now < row.until <= now + _taken(row, lease) + MARGIN:
            return False
        with self.database.write() as connection:
            if self._is_locked(connection, duty):
                if row is not None and row.holder == holder:
                    return True
                raise Locked(f"another transaction has locked the row of the duty {duty!r}")
            now = self.database.now(connection)
            values = {
                "name": duty,
                "holder": holder,
                "until": now + lease,
                "lease": lease // schema.MICROSECOND,
                "steady_since": _steady_since(row, holder, lease, now, is_steady),
                "now": now,
                "margin": MARGIN // schema.MICROSECOND,
            }
            return bool(connection.execute(self._hold, values).rowcount)

    def steady_since(self, duty: str) -> datetime | None:
        """When the rounds of `duty`, in whichever process, last had a gap or saw the clock jump; None when they never did."""
        table = schema.leases
        with self.database.read() as connection:
            return connection.execute(select(table.c.steady_since).where(table.c.name == duty)).scalar()

    def unsettle(self, duty: str) -> None:
        """Begin anew to count how long the clock has been steady for `duty`; not while its row is locked."""
        table = schema.leases
        with self.database.write() as connection:
            if not self._is_locked(connection, duty):
                now = self.database.now(connection)
                connection.execute(table.update().where(table.c.name == duty).values(steady_since=now))

    def _is_locked(self, connection: Connection, duty: str) -> bool:
        """Whether another transaction has locked the row of a duty; else we have, if there is one."""
        query = select(schema.leases.c.name).where(schema.leases.c.name == duty)
        return bool(self.dialect.lock_free(connection, query))

    def resign(self, duty: str, holder: str) -> None:
        """Give a duty back."""
        table = schema.leases
        with self.database.write() as connection:
            self._give_back(connection, table.c.name == duty, table.c.holder == holder)

    def _give_back(self, connection: Connection, *which: ColumnElement[bool]) -> None:
        """End holds now; the rows stay, because they know the last round."""
        now = self.database.now(connection)
        connection.execute(schema.leases.update().where(*which).values(until=now, lease=0))


def _taken(row: Any, lease: timedelta) -> timedelta:
    """For how long a duty was taken; lease: for how long it would be now, where an older process wrote it."""
    return lease if row.lease is None else timedelta(microseconds=row.lease)


def _steady_since(row: Any, holder: str, lease: timedelta, now: datetime, is_steady: bool | None) -> datetime | None:
    """What a new hold says of the clock. row: the hold before it, or None."""
    if row is None:
        return None
    if is_steady and row.holder == holder:
        return row.steady_since  # type: ignore[no-any-return]
    last_round = row.until - _taken(row, lease)
    if is_steady is not False and abs(now - last_round) <= JUMP:
        return row.steady_since  # type: ignore[no-any-return]
    return now


__all__ = ["ENGINE", "JUMP", "MAINTENANCE", "MARGIN", "SILENT", "WORKERS", "Process", "Processes"]
