"""A database that stops answering before this process has ever used it: first connections wait side by side."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.test_intake import item
from tests.support import ROOT, allowed, some
from webhooks.database import Database
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.intake import GroupCommit
from webhooks.store.intake import Intake

#: What a web process has, as `app` gives it.
WEB = timedelta(seconds=2)
#: Any request for encryption is denied, any start of a session is granted: AuthenticationOk, server_version,
#: BackendKeyData, ReadyForQuery (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_DENIED_CODES = (80877103, 80877104)
_VERSION = b"server_version\x0018.0\x00"
_GRANTED = (
    b"R" + struct.pack("!ii", 8, 0)
    + b"S" + struct.pack("!i", 4 + len(_VERSION)) + _VERSION
    + b"K" + struct.pack("!iii", 12, 1, 1)
    + b"Z" + struct.pack("!i", 5) + b"I"
)  # fmt: skip


class FrozenServer:
    """A port on which the system accepts connections and no byte is answered, but for the login where `logs_in`."""

    def __init__(self, logs_in: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"postgresql://u:p@127.0.0.1:{self._listener.getsockname()[1]}/x"
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._log_in if logs_in else lambda: None)
        self._thread.start()

    def _log_in(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                while struct.unpack("!i", client.recv(8)[4:])[0] in _DENIED_CODES:
                    client.sendall(b"N")
                client.sendall(_GRANTED)

    def close(self) -> None:
        """Leave no thread, neither ours nor one that waits for an answer."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def seconds_of(acts: list[Callable[[], object]]) -> list[float]:
    """How long each act took until it said `StorageUnavailable`, all begun at once in threads of their own; 25 s at most."""
    took = [25.0] * len(acts)
    begun = time.monotonic()  # of all: a greenlet begins late where another has stopped its thread

    def run(number: int, act: Callable[[], object]) -> None:
        try:
            act()
        except StorageUnavailable:
            took[number] = time.monotonic() - begun

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, begun + 25 - time.monotonic()))
    return took


def posts_and_others(database: Database) -> list[Callable[[], object]]:
    """Posts, readers, and a probe of readiness. One after another they would take longer than any machine is slow."""
    intake = Intake(database)
    commit = GroupCommit(intake.record_gathered)
    numbers = itertools.count()

    def post() -> None:
        commit.append([item(f"ev_{next(numbers)}")])

    return [*[post] * 4, *[database.ping] * 16, intake.try_write, *[post] * 4]


@pytest.fixture
def frozen(request: pytest.FixtureRequest) -> Iterator[FrozenServer]:
    server = FrozenServer(logs_in=request.param)
    yield server
    server.close()


@pytest.mark.parametrize("frozen", [False, True], ids=["before the login", "after the login"], indirect=True)
def test_first_connections_to_a_frozen_server_wait_side_by_side(frozen: FrozenServer) -> None:
    """After the login as behind a pooler, which knows what to answer to it."""
    database = connect(frozen.url, patience=WEB)
    try:
        took = seconds_of(posts_and_others(database))
    finally:
        frozen.close()
        database.dispose()
    assert max(took) < allowed(2.5), took


_UNDER_GEVENT = """
import os, sys
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
from gevent import monkey
monkey.patch_all()
from tests.integration.test_frozen import WEB, posts_and_others, seconds_of
from webhooks.database.connect import connect
print(*seconds_of(posts_and_others(connect(sys.argv[1], patience=WEB))), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("frozen", some(True, False), ids=some("after the login", "before the login"), indirect=True)
def test_greenlets_connect_side_by_side_where_the_driver_was_imported_before_gevent_patched(
    frozen: FrozenServer,
) -> None:
    """As under `gunicorn --preload`, whose workers are patched after the application was loaded."""
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, frozen.url], capture_output=True, text=True, cwd=ROOT, timeout=80
    )
    assert done.returncode == 0, done.stderr
    took = [float(seconds) for seconds in done.stdout.split()]
    assert max(took) < allowed(2.5), took


def test_first_connections_to_a_file_that_another_program_locks_wait_side_by_side(sqlite_url: str) -> None:
    """One that is not in WAL mode yet, as `vacuum into` writes it: readers are locked out, too."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma journal_mode=delete")
        other.execute("begin exclusive")
        database = connect(sqlite_url, patience=WEB)
        try:
            took = seconds_of(posts_and_others(database))
        finally:
            other.execute("rollback")
            database.dispose()
    assert max(took) < allowed(2.5), took
