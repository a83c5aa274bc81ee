"""An upgrade on SQLite: tables are copied to be altered, and BEGIN is said before the first DDL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.engine import Connection


@contextlib.contextmanager
def prepare(connection: Connection, *, for_others: timedelta, for_table: timedelta) -> Iterator[None]:
    """One transaction for DDL; the lock file, which the caller holds, keeps others out.

    Foreign keys are off while tables are copied: dropping the old one would delete what refers to it.

    Source: https://www.sqlite.org/lang_altertable.html#otheralter (the steps 1, 10 and 12)
    """
    connection.exec_driver_sql("pragma foreign_keys=off")  # without effect inside a transaction
    connection.rollback()
    try:
        connection.execution_options(webhooks_write=True)
        with connection.begin():
            yield
    finally:
        connection.execution_options(webhooks_write=False)  # no transaction of ours around the pragma
        connection.exec_driver_sql("pragma foreign_keys=on")
        connection.rollback()


def require_sound(connection: Connection) -> None:
    """Raise ValueError for what foreign keys would have refused, had they been in force."""
    broken = connection.exec_driver_sql("pragma foreign_key_check").fetchall()
    if broken:
        raise ValueError(f"rows of {broken[0][0]} refer to rows of {broken[0][2]} that are not there")
