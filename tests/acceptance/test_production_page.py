"""docs/tutorials/production.md: what its reader types in the project works as printed, beside what the units of systemd start."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.reading import Newcomer, blocks
from tests.acceptance.support import SCRIPTS, Process, Processes
from tests.acceptance.test_backup_page import TOOLS
from tests.support import ROOT

pytestmark = pytest.mark.release

PAGE = (ROOT / "docs" / "tutorials" / "production.md").read_text("utf-8")


class Operator(Newcomer):
    """A newcomer whose settings come from `webhooks.env`, as those of the units do."""

    def type(self, command: str, status: int = 0) -> str:
        if command == "set -a; . ./webhooks.env; set +a":
            lines = (self.directory / "webhooks.env").read_text().splitlines()
            self.env |= dict(line.split("=", 1) for line in lines if not line.startswith("#"))
            return ""
        return super().type(command, status)

    def start_unit(self, name: str) -> Process:
        """Start what a unit of the project starts."""
        unit = (self.directory / "deploy" / f"{name}.service").read_text()
        [command] = re.findall(r"^ExecStart=/srv/webhooks/.venv/bin/(.+)$", unit, re.MULTILINE)
        return self.processes.start(*command.split(), env=self.env, cwd=self.directory)


def test_a_server_comes_up_as_the_page_tells(postgresql_url: str, processes: Processes) -> None:
    url = make_url(postgresql_url).set(drivername="postgresql").render_as_string(hide_password=False)
    operator = Operator(processes, env={"PYTEST_ADDOPTS": "-p no:cacheprovider -p no:randomly"})
    operator.env["PATH"] = os.pathsep.join([str(SCRIPTS), str(TOOLS), os.environ["PATH"]])
    page = PAGE.replace(":8000", f":{operator.port}").replace("PORT=8000", f"PORT={operator.port}")
    page = page.replace("DATABASE_URL=postgresql:///webhooks\n", f"DATABASE_URL={url}\n")
    settings, rest = page.split("\n## Start it\n")
    operator.follow(settings)
    operator.type("set -a; . ./webhooks.env; set +a")
    start, rest = rest.split("\n## Is it right?\n")
    assert [name for name in re.findall(r"webhooks-\w+", start) if name == "webhooks-schema"]
    assert operator.start_unit("webhooks-schema").wait() == 0
    web, worker = operator.start_unit("webhooks-web"), operator.start_unit("webhooks-worker")
    web.wait_for("Listening at")
    worker.wait_for("started with 1 handler")
    assert operator.follow(rest) >= 6
    assert "error" not in operator.type("webhooks doctor")
    assert Path(operator.directory, "webhooks.dump").stat().st_size > 0
    assert worker.stop() == 0
    assert web.stop() == 0


def test_files_that_it_copies_are_there() -> None:
    copied = {word for block in blocks(PAGE, "console") for word in re.findall(r"deploy/\S+", block)}
    assert copied == {"deploy/*.service", "deploy/*.socket"}
    assert list((ROOT / "deploy").glob("*.socket"))
