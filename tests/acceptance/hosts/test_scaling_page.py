"""docs/scaling.md followed by its commands, from one machine to three, each of them a network namespace."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.acceptance.hosts.network import Network, network
from tests.acceptance.support import SCRIPTS, Process, Processes, send
from tests.support import ROOT, wait_until
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.model import DeliveryState

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600), pytest.mark.usefixtures("can_make_hosts")]

PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
#: {machine of the page: host}
MACHINES = {"first": "web", "second": "one", "third": "two", "database": "db"}
#: Commands that run until they are ended.
LASTING = ("webhooks run", "webhooks worker")


def lines_of(page: str) -> Iterator[tuple[str, str, str]]:
    """(machine, "$" or "^C", the rest) of every line of a console, and ("", "file", …) of a file to be written."""
    for language, code in re.findall(r"^```(console|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if language == "python":
            yield "", "file", code
            continue
        for line in code.splitlines():
            match = re.fullmatch(r"(\w+)(\$|\^C) (.*)", line)
            assert match is not None, line
            yield match[1], match[2], match[3]


class Machine:
    """A shell on a host: its directory, its variables, and what was started there."""

    def __init__(self, hosts: Network, host: str, directory: Path) -> None:
        self.hosts, self.host, self.directory = hosts, host, directory
        self.variables: dict[str, str] = {}
        self.started: dict[str, Process] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def type(self, command: str) -> str:
        """What a line does; what it wrote."""
        words = shlex.split(command)
        if words[0] == "export":
            self.variables.update({name: value for name, _, value in (word.partition("=") for word in words[1:])})
        elif words[0] == "cd":
            self.directory = self.directory / words[1]
        elif command.partition("webhooks.db ")[2].startswith(LASTING) or command.startswith(LASTING):
            self._start(command)
        else:
            return self._run(command)
        return ""

    def _shell(self, command: str) -> list[str]:
        return [*self.hosts.on(self.host, "sh"), "-c", command]

    def _environment(self) -> dict[str, str]:
        binaries = Path(self.hosts.database.binaries)
        return {
            **self.variables,
            "PATH": f"{SCRIPTS}:{binaries}:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(ROOT),
        }

    def _start(self, command: str) -> None:
        made = self.hosts.processes.start(
            *self._shell(f"exec env {command}"), env=self._environment(), cwd=self.directory
        )
        self.started[command] = made
        if "webhooks run" in command:
            made.wait_for("Booting worker", timedelta(seconds=40))
            url = f"http://{self.hosts.address(self.host)}:8000/readyz"
            wait_until(lambda: is_ready(url), timedelta(seconds=40), "the web process")
        if "worker" in command:
            made.wait_for(r"started with \d+ handlers", timedelta(seconds=40))

    def _run(self, command: str) -> str:
        done = subprocess.run(
            self._shell(command),
            env=self._environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{self.host}$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def interrupt(self, command: str) -> None:
        """End what was started by a line that begins so."""
        (found,) = [line for line in self.started if line.startswith(command)]
        self.started.pop(found).stop(timedelta(seconds=60))


def is_ready(url: str) -> bool:
    try:
        return send(url).status == 200
    except OSError:
        return False


def states(url: str) -> Counter[str]:
    """{handler: how many of its deliveries have succeeded}; none is in another state."""
    database = connect(url)
    try:
        with database.read() as connection:
            rows = connection.execute(select(schema.deliveries.c.handler, schema.deliveries.c.state)).all()
    finally:
        database.dispose()
    if any(row.state != DeliveryState.SUCCEEDED for row in rows):
        return Counter()
    return Counter(row.handler for row in rows)


def test_the_page_leads_from_one_machine_to_three(processes: Processes, tmp_path: Path) -> None:
    with network(processes) as (hosts, _):
        machines = {name: Machine(hosts, host, tmp_path / name) for name, host in MACHINES.items()}
        first = machines["first"]
        posted = {"sqlite": 0, "postgresql": 0}
        told: list[str] = []
        for machine, sign, rest in lines_of(PAGE.replace("db.internal", hosts.address("db"))):
            if sign == "file":
                (first.directory / "handlers" / "shop.py").write_text(rest)
                continue
            here = machines[machine]
            if machine in ("second", "third") and not (here.directory / "handlers").exists():
                shutil.copytree(first.directory, here.directory, dirs_exist_ok=True)  # by your deployment
            if sign == "^C":
                here.interrupt(rest)
                continue
            told.append(here.type(rest))
            if rest.startswith("webhooks trigger"):
                database = here.variables.get("DATABASE_URL", f"sqlite:///{first.directory / 'webhooks.db'}")
                posted[database.partition(":")[0]] += 1
                wanted = posted[database.partition(":")[0]]
                wait_until(
                    lambda: states(database) == {"mail.greet": wanted, "video.cut": wanted},  # noqa: B023
                    timedelta(seconds=30),
                    "both handlers",
                )
        assert posted == {"sqlite": 1, "postgresql": 3}
        assert json.loads(told[-1]) == json.loads(re.findall(r"^```json\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)[0])
        video = "\n".join(process.output for process in machines["third"].started.values())
        others = "\n".join(process.output for process in machines["second"].started.values())
        assert ("a film for" in video, "a mail to" in video) == (True, False)
        assert ("a film for" in others, "a mail to" in others) == (False, True)
