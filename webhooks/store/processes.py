"""The running processes with their handlers, and the duties that only one of them has at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import bindparam, delete, select, text

from webhooks import schema
from webhooks.database import Database

#: A process that has not reported for so long is taken for gone (heartbeats come every 10 s).
SILENT = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Process:
    """A web or worker process as it last reported. kind: "web" or "worker"."""

    id: str
    kind: str
    started_at: datetime
    heartbeat_at: datetime
    version: str
    handlers: tuple[str, ...]


class Processes:
    """The rows of `webhooks_processes` and `webhooks_leases`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def beat(self, id: str, kind: str, version: str, handlers: Sequence[str]) -> None:
        """Report that process `id` is alive and knows `handlers`."""
        statement = text(
            """insert into webhooks_processes (id, kind, started_at, heartbeat_at, version, handlers)
               values (:id, :kind, :now, :now, :version, :handlers)
               on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, handlers = excluded.handlers"""
        ).bindparams(bindparam("now", type_=schema.Instant()))
        names = msgspec.json.encode(sorted(handlers)).decode()
        with self.database.write() as connection:
            connection.execute(
                statement,
                {"id": id, "kind": kind, "now": self.database.now(connection), "version": version, "handlers": names},
            )

    def forget(self, id: str) -> None:
        """Take a process that stops off the list, and its duties from it."""
        with self.database.write() as connection:
            connection.execute(delete(schema.processes).where(schema.processes.c.id == id))
            connection.execute(delete(schema.leases).where(schema.leases.c.holder == id))

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
            )
            for row in rows
        ]

    def running(self) -> list[Process]:
        """Those that reported within `SILENT`."""
        now = self.database.now()
        return [process for process in self.all() if now - process.heartbeat_at < SILENT]

    def last_worker_beat(self) -> datetime | None:
        """When any worker last reported."""
        table = schema.processes
        query = select(table.c.heartbeat_at).where(table.c.kind == "worker").order_by(table.c.heartbeat_at.desc())
        with self.database.read() as connection:
            return connection.execute(query.limit(1)).scalar()

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

    def acquire(self, duty: str, holder: str, lease: timedelta) -> bool:
        """Take or keep a duty for `lease`; False while another process has it.

        Asked often, so it looks first and writes only when something is to change: a fresh hold, or one half over.
        """
        table = schema.leases
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.name == duty)).fetchone()
            now = self.database.now(connection)
        if row is not None and row.until > now + lease / 2 and row.until <= now + lease:
            return bool(row.holder == holder)
        if row is not None and row.until > now and row.holder != holder:
            return False
        statement = text(
            """insert into webhooks_leases as l (name, holder, until) values (:name, :holder, :until)
               on conflict (name) do update set holder = excluded.holder, until = excluded.until
                where l.holder = excluded.holder or l.until < :now"""
        ).bindparams(bindparam("until", type_=schema.Instant()), bindparam("now", type_=schema.Instant()))
        with self.database.write() as connection:
            now = self.database.now(connection)
            result = connection.execute(statement, {"name": duty, "holder": holder, "until": now + lease, "now": now})
            return bool(result.rowcount)

    def resign(self, duty: str, holder: str) -> None:
        """Give a duty back."""
        table = schema.leases
        with self.database.write() as connection:
            connection.execute(delete(table).where(table.c.name == duty, table.c.holder == holder))
