"""docs/capacity.md: the commands that give an operator her own figures work as printed, on both databases."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.fleet import KEY, Fleet
from tests.acceptance.reading import Newcomer, part, typed
from tests.acceptance.support import SCRIPTS, Processes
from tests.acceptance.test_backup_page import TOOLS

pytestmark = pytest.mark.release

HANDLERS = """
    @on("**", name="kept")
    def keep(event):
        pass
"""


def test_an_operator_finds_her_own_figures(database_url: str, processes: Processes) -> None:
    *commands, sqlite, postgresql = typed(part("docs/capacity.md", "Your own figures", "When to add what"))
    url = make_url(database_url)
    plain = url.set(drivername=url.drivername.partition("+")[0]).render_as_string(hide_password=False)
    operator = Newcomer(
        processes,
        env={
            "DATABASE_URL": plain,
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            "PATH": os.pathsep.join([str(SCRIPTS), str(TOOLS), os.environ["PATH"]]),
        },
    )
    with closing(Fleet(processes, database_url, HANDLERS)) as fleet:
        fleet.start()
        fleet.put([{"n": n} for n in range(20)], "kept")
        fleet.wait_until_finished(30)
        said = {command: operator.type(command) for command in commands}
        assert "P99" in said["webhooks stats"]
        assert "kept" in said["webhooks handlers"]
        if plain.startswith("sqlite"):
            assert int(operator.type(sqlite).split()[0]) > 0
        else:
            assert "webhooks_events" in operator.type(postgresql)
        fleet.stop()
