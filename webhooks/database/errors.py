"""What errors of drivers and pools mean for us: "not now", the database as a whole, or one row.

Whatever means "not now" becomes `StorageUnavailable`; what refuses a statement of ours and cannot be about its rows (a
missing grant, a trigger that raises) its child `DatabaseRefused`. No text here holds a statement, a value or a password.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import exc

from webhooks.errors import DatabaseRefused, Locked, StorageUnavailable
from webhooks.formats import sqlstates

#: How PostgreSQL and PgBouncer say it, when a connection cannot be had for want of another's end.
_SHORT = re.compile(
    r"too many (clients|connections)|connection slots are reserved|no more connections|connection limit", re.I
)
#: PostgreSQL's lock_not_available.
_LOCK_NOT_AVAILABLE = "55P03"


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn every driver or pool error that means "not now" into `StorageUnavailable`.

    A statement that the database refuses for what it says (a constraint, a syntax) passes as it is.
    """
    try:
        yield
    except Exception as error:
        if means_not_now(error):
            raise unavailable(error) from error
        raise


@contextlib.contextmanager
def translate_ours() -> Iterator[None]:
    """`translate_errors` for statements of ours: they are right, so what refuses them is the database as a whole.

    What can be about a row (`sqlstates.may_be_the_rows`) passes as it is.
    """
    try:
        yield
    except Exception as error:
        raise_ours(error)
        raise


def raise_ours(error: BaseException, *, whole: bool = False) -> None:
    """Raise what an error of a statement of ours means; return when it may be the row's, or is no database's.

    whole: see `sqlstates.describe`.
    """
    is_outage = means_not_now(error)
    if is_outage and not _lasts(error):
        raise unavailable(error) from error
    if is_outage or (sqlstates.is_of_database(error) and not sqlstates.may_be_the_rows(error)):
        raise DatabaseRefused(describe(error, whole=whole)) from error


def _lasts(error: BaseException) -> bool:
    """Whether an outage ends only when an operator ends it: a missing table, a full disk, no right to write."""
    return sqlite_code(error) in _SQLITE_LASTING or sqlstates.sqlstate(error) in ("25006", "53100")


def hide_values(context: Any) -> None:
    """Take the values out of an error's text before it is shown; an engine's listener for "handle_error".

    Parameters are hidden by the engine; this is for what the driver quotes. The driver's error keeps its attributes.
    A connection with the option `webhooks_shows_values` is left alone: the author of a migration must see what was wrong.
    """
    if context.connection is not None and context.connection.get_execution_options().get("webhooks_shows_values"):
        return
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    hide_values_in(original)
    if wrapped is not None:
        wrapped.statement = None  # its text may hold values that were written into it
    if wrapped is not None and wrapped.args and sqlstates.is_of_database(original):
        kind = type(original)
        wrapped.args = (f"({kind.__module__}.{kind.__qualname__}) {original}", *wrapped.args[1:])


def hide_values_in(error: BaseException) -> None:
    """Take the values out of a driver's own error."""
    text = sqlstates.text_without_values(error)
    if text is not None and sqlstates.driver_error(error) is error and error.args:
        error.args = (text, *error.args[1:])


def unavailable(error: BaseException) -> StorageUnavailable:
    """What a driver or pool error that means "not now" is for us."""
    return (Locked if is_lock_wait(error) else StorageUnavailable)(describe(error))


def is_short(error: BaseException) -> bool:
    """Whether the server, or a pooler before it, has no connection left for us; psycopg tells no SQLSTATE of it."""
    original = getattr(error, "orig", None) or error
    return _is_psycopg_outage(original) and _SHORT.search(str(original)) is not None


def is_lock_wait(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for a lock."""
    return getattr(getattr(error, "orig", None) or error, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def means_not_now(error: BaseException) -> bool:
    """Whether a driver or pool error is about the database's state, not about what it was asked."""
    if isinstance(error, (exc.TimeoutError, exc.OperationalError, exc.InterfaceError, exc.InternalError)):
        return True
    if sqlstates.is_stale_statement(error):
        return True  # the connection is dropped, and the next has no such statement
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or sqlite_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
    return isinstance(error, sqlite3.OperationalError) or _is_psycopg_outage(error)


def _is_psycopg_outage(error: BaseException) -> bool:
    if not type(error).__module__.startswith("psycopg"):
        return False
    import psycopg  # an extra, and only needed when one of its errors is in our hands

    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError))


#: {code of SQLite: what its few words mean and what to do}
_SQLITE_HINTS = {
    sqlite3.SQLITE_CANTOPEN: "is there a directory of that name, and may this user write in it? DATABASE_URL says where",
    sqlite3.SQLITE_READONLY: "this user may not write the file, or not its directory",
    sqlite3.SQLITE_NOTADB: "DATABASE_URL names a file that is something else",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_FULL: "the disk is full; make room on it",
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: "a trigger that is not ours; take it off our tables",
}
#: {SQLSTATE: the same}
_POSTGRESQL_HINTS = {
    "42501": "grant the role of DATABASE_URL select, insert, update and delete on the tables webhooks_*",
    "25006": "the role, or the server, may only read",
    "53100": "the server's disk is full",
    "P0001": "a trigger that is not ours; take it off our tables",
}
_SQLITE_LASTING = frozenset(
    (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_AUTH)
)
_BEHIND = "the database has no tables of ours, or older ones than this version wants; run: webhooks db upgrade"


def sqlite_code(error: BaseException) -> int | None:
    """The primary result code, where it is SQLite that complains."""
    code = sqlstates.sqlite_code(error)
    return None if code is None else code & 0xFF


def describe(error: BaseException, *, whole: bool = False) -> str:
    """What happened and what to do, without the statement, any value (bodies are among them) and the password.

    whole: see `sqlstates.describe`.
    """
    code = sqlstates.sqlite_code(error) or 0
    hint = _SQLITE_HINTS.get(code) or _SQLITE_HINTS.get(code & 0xFF)
    hint = hint or _POSTGRESQL_HINTS.get(sqlstates.sqlstate(error) or "")
    if is_missing_schema(error):
        hint = _BEHIND
    return sqlstates.describe(error, whole=whole) + (f" ({hint})" if hint else "")


def is_missing_schema(error: BaseException) -> bool:
    """Whether `error` says that a table of ours does not exist (yet)."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    original = getattr(original, "orig", None) or original
    return getattr(original, "sqlstate", None) in ("42P01", "42703") or str(original).startswith(
        ("no such table", "no such column", "table webhooks_")
    )
