"""An upgrade on PostgreSQL: one transaction under an advisory lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from webhooks.errors import StorageUnavailable

#: Key of the advisory lock: "webhooks" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"webhooks", "big")
#: PostgreSQL's lock_not_available.
LOCK_NOT_AVAILABLE = "55P03"


@contextlib.contextmanager
def prepare(connection: Connection, *, for_others: timedelta, for_table: timedelta) -> Iterator[None]:
    """One transaction for DDL, alone among upgrades. Raises `StorageUnavailable`.

    for_others: how long it waits for another upgrade.
    for_table: how long a statement then waits for a lock on a table.
    """
    with connection.begin():
        # a web process's connections end statements after 2 s; an index may take longer
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql(f"set local lock_timeout = '{for_others.total_seconds():g}s'")
        try:
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
        except exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            raise StorageUnavailable(
                f"another upgrade of this database has been running for {for_others.total_seconds():g} s; "
                "wait for its end, or look for it in pg_stat_activity"
            ) from error
        connection.exec_driver_sql(f"set local lock_timeout = '{for_table.total_seconds():g}s'")
        _make_schema(connection)
        yield


def _make_schema(connection: Connection) -> None:
    """Make the schema that the search_path names first, where none of those that it names is there."""
    current, path = connection.exec_driver_sql("select current_schema(), current_setting('search_path')").one()
    first = next((name for name in map(str.strip, path.split(",")) if name not in ("", '""', '"$user"')), None)
    if current is None and first is not None:
        connection.exec_driver_sql(f"create schema if not exists {first}")


def require_sound(connection: Connection) -> None:
    """What a copied table may have broken: nothing here, where no table is copied."""
