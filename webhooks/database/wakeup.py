"""How a worker hears that something was committed: LISTEN on PostgreSQL, `PRAGMA data_version` on SQLite.

Only a hint: a worker also looks by itself at every poll interval, so a lost wake-up costs delay and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from webhooks.database.base import SHORT_SECONDS, Database
from webhooks.database.postgresql import open_apart, shut_down_socket
from webhooks.database.sqlite import SQLITE_ARGUMENTS, require_not_inherited, set_up_sqlite
from webhooks.errors import StorageUnavailable
from webhooks.forks import call_before_fork

logger = logging.getLogger(__name__)

#: The channel that ingest, requeue and replay notify.
CHANNEL = "webhooks_wake"
#: How often an idle worker asks SQLite whether anything changed. One question costs about 5 µs, and waking up for it ten times that:
#: 1 to 2 % of a core. The mean wait for it is half of this.
SQLITE_LOOK_SECONDS = 0.01


class SQLiteWatch:
    """Says whether another connection has committed since the last question."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        call_before_fork(self)

    def changed(self) -> bool:
        """Ask once; True the first time and whenever it cannot be told."""
        try:
            if self._connection is None:
                assert self._database.path is not None
                require_not_inherited(self._database.path)
                self._connection = sqlite3.connect(self._database.path, **SQLITE_ARGUMENTS)
                set_up_sqlite(self._connection)
            version: int = self._connection.execute("pragma data_version").fetchone()[0]
        except (sqlite3.Error, StorageUnavailable):
            self.close()
            return True
        changed = version != self._version
        self._version = version
        return changed

    def before_fork(self) -> None:
        """Let go of the file; the next question opens it again."""
        self.close()

    def close(self) -> None:
        """Let go of the file; the next question opens it again, and answers True."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        self._version = None


class PostgresListener:
    """A thread that calls `wake` for every notification, and once after each (re)connection.

    Where notifications cannot be had (`Database.listen_url`) it ends at once.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._stopping = threading.Event()
        self._pause_until = 0.0
        self._connection: Any = None
        self._thread = threading.Thread(target=self._run, name="webhooks-listen", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and wait for the thread to end, for 5 s at most."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            shut_down_socket(connection)
        self._thread.join(timeout=5)

    def make_room(self) -> None:
        """Leave the connection to others for a minute; until then the worker polls."""
        self._pause_until = time.monotonic() + SHORT_SECONDS
        connection = self._connection
        if connection is not None:
            shut_down_socket(connection)

    def _run(self) -> None:
        import psycopg

        if self._database.listen_url is None:
            logger.info("no notification comes through this pooler, so new deliveries are looked for; see listen_url")
            return
        pause = 0.5
        silent = False
        while not self._stopping.is_set():
            if (left := self._pause_until - time.monotonic()) > 0:
                self._stopping.wait(left)
                continue
            try:
                with open_apart(self._database, "webhooks listen") as held:
                    self._connection = held
                    held.execute(f"listen {CHANNEL}")
                    if silent:
                        logger.info("listening for new deliveries again")
                    pause, silent = 0.5, False
                    self._wake()
                    while not self._stopping.is_set():
                        for _ in held.notifies(timeout=5, stop_after=1):
                            self._wake()
            except psycopg.Error as error:
                if self._stopping.is_set():
                    return
                if not silent and time.monotonic() >= self._pause_until:
                    logger.warning("cannot listen for new deliveries, polling instead: %s", type(error).__name__)
                silent = True
                self._stopping.wait(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, 10)
            finally:
                self._connection = None
