"""What a rehearsal needs of the database: a place where nothing lasts, and a record of what was written.

On SQLite the place is a copy, made by the backup API, because a rehearsed handler would hold the only write lock. On
PostgreSQL it is the database itself: what a rehearsal writes is rolled back, and it waits for no lock longer than
`LOCK_LIMIT`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection

from webhooks.database import Database, translate_errors
from webhooks.database.connect import connect
from webhooks.formats import one_line

LOCK_LIMIT = timedelta(seconds=2)
#: Rows of one statement whose values are kept.
MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Write:
    """One statement that would have changed something.

    table: the statement itself where it was given as text.
    rows: None where the database does not say.
    values: of its rows, at most `MOST_ROWS`, as text.
    """

    verb: str
    table: str
    rows: int | None
    values: Sequence[Mapping[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def scratch(database: Database) -> Iterator[Database]:
    """A database on which a rehearsal may run; see the module's docstring. Raises `StorageUnavailable`."""
    if database.path is None:
        yield database
        return
    with tempfile.TemporaryDirectory(prefix="webhooks-rehearsal-") as directory:
        path = Path(directory) / database.path.name
        with (
            translate_errors(),
            contextlib.closing(sqlite3.connect(database.path)) as source,
            contextlib.closing(sqlite3.connect(path)) as copy,
        ):
            source.backup(copy, pages=1000, sleep=0.01)
        made = connect(f"sqlite:///{path}", clock=database.clock)
        try:
            yield made
        finally:
            made.dispose()


def bound_waiting(connection: Connection) -> None:
    """Let the statements of this transaction wait for a lock for `LOCK_LIMIT` at most (PostgreSQL)."""
    if connection.dialect.name == "postgresql":
        milliseconds = LOCK_LIMIT // timedelta(milliseconds=1)
        connection.exec_driver_sql(f"set local lock_timeout = {milliseconds}")


@contextlib.contextmanager
def recording(connection: Connection, writes: list[Write]) -> Iterator[None]:
    """Note in `writes` every statement on `connection` that changes something, for the time of the body."""

    def note(_: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if cursor.changed:  # our cursors know from the database
            writes.append(_write(statement, parameters, context, cursor))

    event.listen(connection, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(connection, "after_cursor_execute", note)


def _write(statement: str, parameters: Any, context: Any, cursor: Any) -> Write:
    verb = statement.split(None, 1)[0].lower()
    compiled = getattr(context, "compiled", None)
    table = getattr(getattr(getattr(compiled, "statement", None), "table", None), "name", None)
    values: Sequence[Any] = getattr(context, "compiled_parameters", None) or (
        parameters if isinstance(parameters, list) else [parameters]
    )
    return Write(
        verb,
        str(table) if table is not None else one_line(statement, 200),
        cursor.rowcount if cursor.rowcount >= 0 else None,
        [_texts(row) for row in values[:MOST_ROWS]],
    )


def _texts(row: Any) -> dict[str, str]:
    pairs = row.items() if isinstance(row, Mapping) else enumerate(row or ())
    return {str(name): one_line(repr(value), 100) for name, value in pairs}
