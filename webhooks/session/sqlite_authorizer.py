"""What a statement on SQLite does, told by SQLite when it is prepared rather than guessed from its text.

Statements are prepared once a connection (Python keeps them), so what was told is kept by text, as long as the connection
lives. Until the transaction has begun a write is denied; what would end the transaction, or change the file for every
other process, always is.

Sources: https://www.sqlite.org/c3ref/set_authorizer.html, https://www.sqlite.org/c3ref/c_alter_table.html
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

# What a statement does, as the authorizer tells it; together in one number.
WRITES = 1
LEAVES_TRACES = 2
CONTROLS_TRANSACTION = 4
CHANGES_FILE = 8
_REFUSED = CONTROLS_TRANSACTION | CHANGES_FILE

_READING = frozenset(
    (sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)  # fmt: skip
_TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_TEMP_INDEX, sqlite3.SQLITE_DROP_TEMP_TABLE,
        sqlite3.SQLITE_DROP_TEMP_TRIGGER, sqlite3.SQLITE_DROP_TEMP_VIEW, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH,
    )
)  # fmt: skip
#: Pragmas that ask, though they take an argument. Source: https://www.sqlite.org/pragma.html
_ASKING_PRAGMAS = frozenset(
    (
        "table_info", "table_xinfo", "table_list", "index_info", "index_list", "index_xinfo", "foreign_key_list",
        "foreign_key_check", "integrity_check", "quick_check", "wal_checkpoint",
    )
)  # fmt: skip
#: Pragmas that write into the file's header, and belong into the transaction.
_HEADER_PRAGMAS = frozenset(
    ("user_version", "application_id", "schema_version", "encoding", "auto_vacuum", "page_size")
)
#: Pragmas that would change the file for every other process.
_FILE_PRAGMAS = frozenset(("journal_mode", "locking_mode"))


class KeptFileConnection:
    """A driver's connection that serves one attempt after the other. runs: how many it has served."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver
        self.runs = 0
        #: {text of a statement: what it does}
        self.told: dict[str, int] = {}
        #: What the authorizer told since `listen`.
        self.heard = 0
        self.needs_transaction = True
        self.trusts = False
        self.marks = False
        driver.set_authorizer(self._authorize)

    @property
    def is_closed(self) -> bool:
        return False  # a file is there

    def close(self) -> None:
        """End it. Raises nothing."""
        with contextlib.suppress(sqlite3.Error):
            self.driver.set_authorizer(None)
            self.driver.close()

    def say(self, statement: str) -> sqlite3.Cursor:
        """Execute a statement of our own. Raises the driver's errors."""
        self.trusts = True
        try:
            return self.driver.execute(statement)
        finally:
            self.trusts = False

    @contextlib.contextmanager
    def marking(self) -> Iterator[None]:
        """Let the store's statements pass, but none that ends the transaction."""
        self.marks = True
        try:
            yield
        finally:
            self.marks = False

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, inner: str | None
    ) -> int:
        if action in _READING or self.trusts:
            return sqlite3.SQLITE_OK
        does = _does(action, first, second, database)
        if self.marks:
            return sqlite3.SQLITE_DENY if does & CONTROLS_TRANSACTION else sqlite3.SQLITE_OK
        self.heard |= does
        if does & _REFUSED or (does & WRITES and self.needs_transaction):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


def _does(action: int, first: str | None, second: str | None, database: str | None) -> int:
    """What one action of a statement amounts to."""
    if action == sqlite3.SQLITE_TRANSACTION:
        return CONTROLS_TRANSACTION
    if action in _TEMPORARY:
        return LEAVES_TRACES
    if action == sqlite3.SQLITE_PRAGMA:
        return _pragma_does((first or "").lower(), second)
    # ALTER TABLE names the database first; a savepoint would begin a transaction where there is none
    if (first if action == sqlite3.SQLITE_ALTER_TABLE else database) == "temp":
        return LEAVES_TRACES
    return WRITES


def _pragma_does(name: str, argument: str | None) -> int:
    if argument is None or name in _ASKING_PRAGMAS:
        return 0
    if name in _FILE_PRAGMAS:
        return CHANGES_FILE
    return LEAVES_TRACES | (WRITES if name in _HEADER_PRAGMAS else 0)
