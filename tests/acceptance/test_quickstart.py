"""What README and the quickstart tell a newcomer to type works as printed, in order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.acceptance.support import SCRIPTS, Process, Processes, free_port
from tests.support import ROOT

pytestmark = pytest.mark.release


def part(page: str, first: str, last: str) -> str:
    """A page from one heading up to another."""
    text = (ROOT / page).read_text("utf-8")
    return text[text.index(f"\n## {first}\n") : text.index(f"\n## {last}\n")]


def typed(text: str) -> Iterator[str]:
    """Each command of the console blocks, a here-document with its lines, without comments."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            yield re.sub(r" +# .*", "", command).strip()


class Newcomer:
    """Two terminals: one for `webhooks dev`, one for the rest. Both have the environment's scripts on the PATH."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.directory = processes.directory
        self.port = free_port()
        self.env = {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
        self.dev: Process | None = None
        self.event_id = ""

    def type(self, command: str) -> str:
        """What it wrote. Fails when its exit status is not 0."""
        if command == ". .venv/bin/activate":
            return ""
        if command == "webhooks dev":
            self.restart()
            return ""
        process = self.processes.run("sh", "-ec", command, env=self.env, cwd=self.directory)
        assert process.wait() == 0, f"{command}:\n{process.output}"
        if match := re.search(r"(?:^|&& )cd (\S+)$", command):
            self.directory = self.directory / match[1]
        if match := re.search(r'"event_id":"(\d+)"', process.output):
            self.event_id = match[1]
        return process.output

    def restart(self) -> None:
        if self.dev is not None:
            self.dev.stop()
        self.dev = self.processes.start("webhooks", "dev", env={**self.env, "PORT": str(self.port)}, cwd=self.directory)
        self.dev.wait_for("try: webhooks trigger")


HELLO = "+33639980177 wrote: Bonjour"


def test_the_example_of_the_readme_runs_as_pasted(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    said = {
        command: newcomer.type(command)
        for command in typed(part("README.md", "A complete example", "Production in ten lines"))
    }

    assert newcomer.dev is not None
    newcomer.dev.wait_for(re.escape(HELLO))
    assert "stored" in said["webhooks events list"]
    assert "handlers.greet.greet" in said["webhooks deliveries list"]


def test_the_quickstart_runs_as_printed(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    for command in typed(part("docs/quickstart.md", "A project of your own", "A handler")):
        newcomer.type(command)
    assert newcomer.dev is not None

    section = part("docs/quickstart.md", "A handler", "When a handler fails")
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    handler = newcomer.directory / "handlers" / "greet.py"
    handler.write_text(code)
    newcomer.restart()
    said = {command: newcomer.type(command) for command in typed(section)}
    newcomer.dev.wait_for(re.escape(HELLO))
    newcomer.dev.wait_for(r"WhatsApp from .*\n(?s:.*)WhatsApp from ")
    assert "handlers.greet.greet" in said["webhooks deliveries list"]
    cancelled = newcomer.type("webhooks deliveries list --handler handlers.greet.greet --state cancelled")
    assert "filtered: " in cancelled

    section = part("docs/quickstart.md", "When a handler fails", "Run them again")
    handler.write_text(code.replace("remote_phone", "remote_phon"))
    newcomer.restart()
    trigger, failed, explain = typed(section)
    newcomer.type(trigger)
    newcomer.dev.wait_for("KeyError")
    assert "KeyError: 'remote_phon'" in newcomer.type(failed)
    assert "KeyError" in newcomer.type(explain.replace("EVENT", newcomer.event_id))
    handler.write_text(code)
    newcomer.restart()

    dry, real = typed(part("docs/quickstart.md", "Run them again", "Real events"))
    assert "nothing was changed (--dry-run)" in newcomer.type(dry)
    assert "3 deliveries made" in newcomer.type(real)
    newcomer.dev.wait_for(re.escape(HELLO))
