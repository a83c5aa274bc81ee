"""The database of one kit: a copy of one that was migrated once in this process, on SQLite or on a server.

Not a transaction that is rolled back: handlers have sessions, and transactions, of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from webhooks.errors import StorageUnavailable
from webhooks.testing.clock import START, KitClock, ServerClock, StandingClock

if TYPE_CHECKING:
    from webhooks.database import Database, History

DATABASE_FILE = "webhooks.db"

#: {what it holds, by digest: a migrated file}
_files: dict[str, Path] = {}
#: {(server, what it holds, by digest): the name of a migrated database}
_names: dict[tuple[str, str], str] = {}


class KitDatabase(Protocol):
    """What `make_kit` needs of a place for events."""

    @property
    def url(self) -> str:
        """For the setting `database_url`."""

    def clock(self, at: datetime) -> KitClock:
        """The clock of a kit over it. Raises ValueError where it cannot begin at that instant."""

    def fill(self, plugins: Sequence[History]) -> None:
        """Make it, with the tables of the core and of these."""

    def drop(self) -> None:
        """Remove it."""


class SqliteFile:
    """A file in the directory of a test, which removes it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory.absolute() / DATABASE_FILE
        self.url = f"sqlite:///{self._file}"

    def clock(self, at: datetime) -> KitClock:
        """See `KitDatabase.clock`."""
        return StandingClock(at)

    def fill(self, plugins: Sequence[History]) -> None:
        """See `KitDatabase.fill`."""
        key = _digest(plugins)
        if key not in _files:
            folder = Path(tempfile.mkdtemp(prefix="webhooks-testing-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _migrate(f"sqlite:///{folder / DATABASE_FILE}", plugins)
            _files[key] = folder / DATABASE_FILE
        shutil.copyfile(_files[key], self._file)

    def drop(self) -> None:
        """See `KitDatabase.drop`: it goes with its directory."""


class ServerDatabase:
    """A database of its own on a server of PostgreSQL.

    server: URL of any database there; its user must be allowed to create databases.
    """

    def __init__(self, server: str) -> None:
        from webhooks.database.connect import connect

        self._server = server
        with _closing(connect(server)) as database:
            self._url = database.url
        self._name = _new_name()
        self.url = self._url_of(self._name)

    def clock(self, at: datetime) -> KitClock:
        """See `KitDatabase.clock`."""
        if at != START:
            raise ValueError(
                "at= sets a clock that stands still, and on PostgreSQL the clock is the server's; leave it out"
            )
        return ServerClock()

    def fill(self, plugins: Sequence[History]) -> None:
        """See `KitDatabase.fill`."""
        from webhooks.database.postgresql_copies import create

        key = (self._server, _digest(plugins))
        if key not in _names:
            name = _new_name()
            self._ask(lambda database: create(database, name))
            atexit.register(self._drop_at_exit, name)
            _migrate(self._url_of(name), plugins)
            _names[key] = name
        self._ask(lambda database: create(database, self._name, template=_names[key]))

    def drop(self) -> None:
        """See `KitDatabase.drop`."""
        self._drop(self._name)

    def _drop(self, name: str) -> None:
        from webhooks.database.postgresql_copies import drop

        self._ask(lambda database: drop(database, name))

    def _drop_at_exit(self, name: str) -> None:
        with contextlib.suppress(StorageUnavailable):  # a server that was started for the tests may have ended before
            self._drop(name)

    def _url_of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _ask(self, do: Callable[[Database], None]) -> None:
        from webhooks.database.connect import connect

        with _closing(connect(self._server, pool_size=1, application="webhooks.testing")) as database:
            do(database)


def _new_name() -> str:
    return f"webhooks_testing_{secrets.token_hex(8)}"


@contextlib.contextmanager
def _closing(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.dispose()


def _digest(plugins: Sequence[History]) -> str:
    """Of the heads of all migrations: a change of tables is seen."""
    from webhooks.database.migrations import run as migrate

    said = ";".join(f"{history.name}={history.head}" for history in (migrate.core(), *plugins))
    return hashlib.sha256(said.encode()).hexdigest()


def _migrate(url: str, plugins: Sequence[History]) -> None:
    from webhooks.database.connect import connect
    from webhooks.database.migrations import run as migrate

    with _closing(connect(url)) as database:
        migrate.upgrade(database, plugins=plugins)


__all__ = ["DATABASE_FILE", "KitDatabase", "ServerDatabase", "SqliteFile"]
