"""What an error of a database says: whose fault it may be, and its text without values.

Drivers quote what they were given: PostgreSQL's DETAIL holds the failing row or key, "invalid input syntax" the value,
RAISE whatever its author wrote; SQLAlchemy adds the statement. Logs and the REASON of a delivery must hold none of it, so
`text_without_values` says what the author of a handler needs to find the fault: the kind of error, its code, the names of
table, column and constraint, and the function that raised it.

Errors are known by their attributes (`sqlstate`, `sqlite_errorcode`, `orig`), so that no driver is imported for this.

Sources: https://www.postgresql.org/docs/current/errcodes-appendix.html, https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import re
from typing import Any

#: Classes of SQLSTATE whose message names objects and states only, so it can be shown whole.
_NAMES_ONLY = frozenset(
    ("08", "0A", "25", "26", "28", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")
)
#: … but these quote the statement's text, which may hold values.
_QUOTES_TEXT = frozenset(("42601", "42804", "42846", "42883", "42P18"))
#: The classes that can be about a row: data exception, integrity constraint violation.
_ABOUT_ROWS = ("22", "23")
#: Division by zero: never about what we insert.
_NOT_ABOUT_OURS = frozenset(("22012",))
#: Duplicate prepared statement, invalid statement name.
_STALE_STATEMENT = frozenset(("42P05", "26000"))
#: … and "cached plan must not change result type", which has no code of its own, but a function of the server that says it.
_FEATURE_NOT_SUPPORTED, _OF_CACHED_PLANS = "0A000", "RevalidateCachedQuery"

#: SQLite's primary result codes that can be about a row.
_SQLITE_CONSTRAINT, _SQLITE_TOOBIG, _SQLITE_MISMATCH, _SQLITE_RANGE = 19, 18, 20, 25
#: Kinds of SQLITE_CONSTRAINT that an application's code decided: commit hook, function, trigger, virtual table.
_SQLITE_RAISED = frozenset((19 | 2 << 8, 19 | 4 << 8, 19 | 7 << 8, 19 | 9 << 8))
_SQLITE_TRIGGER = 19 | 7 << 8

_FUNCTION = re.compile(r"(?:PL/\w+|SQL) function ([^\s(]{1,100})(?:\([^)]*\))?(?: line (\d{1,6}))?")
_QUOTED = (re.compile(r'".*"', re.DOTALL), re.compile(r"'.*'", re.DOTALL), re.compile(r"\[.*\]", re.DOTALL))
LONGEST = 200


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error inside SQLAlchemy's; any other as it is."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error


def is_of_database(error: BaseException) -> bool:
    """Whether a driver, or SQLAlchemy for what it was given, raised this."""
    for kind in type(error).__mro__:
        module = kind.__module__
        if module == "sqlite3" or module.startswith("psycopg") or module == "sqlalchemy.exc":
            return True
    return False


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's five characters, where it is PostgreSQL that complains."""
    found = getattr(driver_error(error), "sqlstate", None)
    return found if isinstance(found, str) else None


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's extended result code, where it is SQLite that complains."""
    found = getattr(driver_error(error), "sqlite_errorcode", None)
    return found if isinstance(found, int) else None


def is_stale_statement(error: BaseException) -> bool:
    """Whether PostgreSQL complains that a prepared statement is not what it was: a connection of its own has none of this.

    Its name is taken or gone, because a pooler gave us another's connection; or a migration changed what it returns.
    """
    state = sqlstate(error)
    if state == _FEATURE_NOT_SUPPORTED:
        diag = getattr(driver_error(error), "diag", None)
        return getattr(diag, "source_function", None) == _OF_CACHED_PLANS
    return state in _STALE_STATEMENT


def may_be_the_rows(error: BaseException) -> bool:
    """Whether an error of a statement of ours can be about the row that it wrote, and not about the database.

    SQLSTATE classes 22 and 23 and SQLite's counterparts. Not what a trigger or function raised, whatever code it chose:
    that is code of the application's, and no fault of the row's.
    """
    original = driver_error(error)
    state = sqlstate(original)
    if state is not None:
        return state[:2] in _ABOUT_ROWS and state not in _NOT_ABOUT_OURS and not _context(original)
    code = sqlite_code(original)
    if code is not None:
        primary = code & 0xFF
        if primary == _SQLITE_CONSTRAINT:
            return code not in _SQLITE_RAISED
        return primary in (_SQLITE_TOOBIG, _SQLITE_MISMATCH, _SQLITE_RANGE)
    # said by the driver before anything was sent: a NUL in a text, a number beyond 64 bits
    return type(original).__name__ == "DataError" and is_of_database(original)


# -- text --------------------------------------------------------------------------------------------------


def text_without_values(error: BaseException) -> str | None:
    """What an error of a database says, on one line and without values; None for an error of another kind."""
    if not is_of_database(error):
        return None
    original = driver_error(error)
    name = "" if original is error else f"{type(original).__name__}: "
    return name + _text(original)


def describe(error: BaseException, *, whole: bool = False) -> str:
    """`UniqueViolation: … (SQLSTATE 23505, table t, constraint c)`.

    whole: what an application's code raised is shown, too; for statements that were given no value worth hiding.
    """
    original = driver_error(error)
    return f"{type(original).__name__}: {_text(original, whole)}"


def _text(error: BaseException, whole: bool = False) -> str:
    if getattr(error, "diag", None) is not None:
        return _of_postgresql(error, whole)
    code = sqlite_code(error)
    text = _one_line(str(error))
    if code is None:
        if type(error).__name__ == "OperationalError" and is_of_database(error):
            return _short(text)  # libpq's, of connecting; the password is in none of them
        return _short(_masked(text))
    name = getattr(error, "sqlite_errorname", "unknown")
    if name == "unknown":  # to this Python
        name = f"SQLite's code {code}"
    if code == _SQLITE_TRIGGER and not whole:
        return f"a trigger raised it ({name}); its text is withheld, since it may quote values"
    masked = _short(_masked(text))
    return masked if masked.endswith(f"({name})") else f"{masked} ({name})"


def _of_postgresql(error: Any, whole: bool) -> str:
    state = sqlstate(error)
    diag = error.diag
    primary = _one_line(diag.message_primary or (str(error).splitlines() or [""])[0])
    if state is None:
        return _short(primary if type(error).__name__ == "OperationalError" else _masked(primary))
    context = _context(error)
    where = _FUNCTION.search(context)
    if whole:
        text = _short(primary)
    elif state[:2] == "P0" or "at RAISE" in context:
        text = "raised by the database's own code; its text is withheld, since it may quote values"
    elif state[:2] in _NAMES_ONLY and state not in _QUOTES_TEXT:
        text = _short(primary)
    else:
        text = _short(_masked(primary))
    parts = [f"SQLSTATE {state}"]
    for what in ("table", "column", "datatype", "constraint"):
        if found := getattr(diag, f"{what}_name", None):
            parts.append(f"{what} {_one_line(found)[:80]}")
    if where is not None:
        parts.append(f"in function {where[1]}" + (f", line {where[2]}" if where[2] else ""))
    return f"{text} ({', '.join(parts)})"


def _context(error: Any) -> str:
    """Where in the database's own code it happened; "" for a statement by itself."""
    context = getattr(getattr(error, "diag", None), "context", None) or ""
    return context if "function" in context or "SQL statement" in context else ""


def _masked(text: str) -> str:
    """`text` with everything between its first and its last quotation mark taken out."""
    for pattern, marks in zip(_QUOTED, ('"…"', "'…'", "[…]"), strict=True):
        text = pattern.sub(marks, text)
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


__all__ = [
    "describe",
    "driver_error",
    "is_of_database",
    "is_stale_statement",
    "may_be_the_rows",
    "sqlite_code",
    "sqlstate",
    "text_without_values",
]
