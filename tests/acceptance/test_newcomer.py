"""Ten mistakes of a newcomer, each answered on the screen of a running `webhooks dev`: where it is, and what to do.

One `dev` serves all tests. Each saves a module of its own and leaves it such that it loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from tests.acceptance.support import Process, Processes, free_port
from tests.forkserver import ForkServer

pytestmark = [pytest.mark.forks, pytest.mark.together, pytest.mark.thorough]

GOOD = """from webhooks import on

@on("{type}")
def run(event):
    pass
"""
LIMIT = timedelta(seconds=30)


class Desk:
    """A project, the `dev` that runs in it, and what it has shown since `save` or `trigger`."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        assert processes.run("webhooks", "init").wait() == 0
        self.dev = processes.start("webhooks", "dev", env={"PORT": str(free_port())})
        self.dev.wait_for("console: http")
        self._from = 0

    def save(self, path: str, text: str) -> None:
        """What an editor does: the whole file at once."""
        self._from = len(self.dev.output)
        target = self.processes.directory / path
        draft = target.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(target)

    def trigger(self, type: str, *options: str) -> Process:
        """Post a sample, from another terminal."""
        self._from = len(self.dev.output)
        posted = self.processes.run("webhooks", "trigger", type, *options)
        assert posted.wait() == (1 if "--bad-signature" in options else 0), posted.output
        assert "--bad-signature" not in options or "refused, as it should be" in posted.output, posted.output
        return posted

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until the screen has it."""
        return self.dev.wait_for(rf"(?s)\A.{{{self._from}}}.*?{pattern}", LIMIT)

    def console(self, path: str) -> str:
        """A page of its console, by the link that it printed."""
        link = re.search(r"(http://[\w.:]+/dashboard)/console(\?key=[\w-]+)", self.dev.output)
        assert link is not None
        browser = build_opener(HTTPCookieProcessor())
        with browser.open(link[1] + path + link[2], timeout=LIMIT.total_seconds()) as answer:
            text: str = answer.read().decode()
        return text

    def mend(self, path: str, type: str) -> None:
        """Save a module that loads."""
        self.save(path, GOOD.format(type=type))
        self.shows(rf"reloaded [^\n]*{Path(path).name}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Iterator[Desk]:
    processes = Processes(tmp_path_factory.mktemp("newcomer"), tmp_path_factory.mktemp("logs"), fork_server, "all")
    try:
        desk = Desk(processes)
        yield desk
        assert desk.dev.stop() == 0
        assert "Traceback" not in desk.dev.output
    finally:
        processes.end()


def test_a_slip_in_an_event_type_is_named_with_the_type_that_is_meant(desk: Desk) -> None:
    desk.save("handlers/typo.py", GOOD.format(type="lead.craeted"))
    desk.shows(r"handlers/typo\.py, line 3: pattern 'lead\.craeted' [^\n]+did you mean 'lead\.created'\?")
    desk.shows(r"reloaded [^\n]*typo\.py")


def test_an_argument_that_does_not_exist_is_named_with_those_that_do(desk: Desk) -> None:
    desk.save("handlers/argument.py", 'from webhooks import on\n\n@on("lead.deleted")\ndef run(evnt):\n    pass\n')
    desk.shows(
        r"argument\.py, line 3: [^\n]+'evnt'[^\n]+did you mean 'event'\?[^\n]+session.*not loaded handlers/argument"
    )
    page = desk.console("/handlers")
    assert re.search(r"Not loaded:</b> handlers/argument\.py.*handlers/argument\.py, line 3: .*evnt", page, re.S), page
    desk.mend("handlers/argument.py", "lead.deleted")
    assert "Not loaded" not in desk.console("/handlers")


def test_a_syntax_error_is_shown_under_its_line_and_the_code_of_before_goes_on(desk: Desk) -> None:
    desk.save("handlers/syntax.py", 'from webhooks import on\n\n@on("contact.created")\ndef run(event)\n    pass\n')
    desk.shows(
        r"not loaded handlers/syntax\.py\n +handlers/syntax\.py, line 4: SyntaxError: [^\n]+\n +def run\(event\)\n +\^"
    )
    desk.trigger("activity.whatsapp_message.created")
    desk.shows(r"handled +hello\.whatsapp")
    desk.mend("handlers/syntax.py", "contact.created")


def test_a_source_without_a_secret_is_named_with_the_setting_to_write(desk: Desk) -> None:
    settings = desk.processes.directory / "webhooks.toml"
    before = settings.read_text()
    desk.save("webhooks.toml", before + '\n[sources.stripe]\nscheme = "stripe"\n')
    desk.shows(r"not loaded webhooks\.toml\n +source 'stripe' has no secret; set [^\n]+\[sources\.stripe\]")
    desk.save("webhooks.toml", before)
    desk.shows("reloaded [^\n]*webhooks.toml")


def test_a_wrong_signature_names_the_secret_that_is_tried(desk: Desk) -> None:
    desk.trigger("contact.deleted", "--bad-signature")
    desk.shows(
        r"refused +401 for close: [^\n]+signature[^\n]+\n[^\n]+webhooks\.demo-secret[^\n]+\n +webhooks explain \w{16}"
    )


def test_a_handler_that_raises_shows_its_line_and_the_id_of_the_delivery(desk: Desk) -> None:
    desk.save(
        "handlers/raises.py",
        'import json\nfrom webhooks import on\n\n@on("opportunity.created")\ndef run(event):\n    json.loads("{")\n',
    )
    desk.shows(r"reloaded [^\n]*raises\.py")
    desk.trigger("opportunity.created")
    found = desk.shows(
        r"stored +opportunity\.created  -> handlers\.raises\.run [^\n]+\n.*?"
        r"failed +handlers\.raises\.run [^\n]+JSONDecodeError[^\n]+\n +handlers/raises\.py, line 6, in run: json\.loads\(\"\{\"\)\n"
        r" +again in [^\n]+webhooks requeue \d+\n[^\n]+webhooks deliveries show (\d+)"
    )
    shown = desk.processes.run("webhooks", "deliveries", "show", found[1])
    assert "JSONDecodeError" in shown.output


def test_a_handler_that_hangs_is_told_with_its_line_and_mended_by_a_save(desk: Desk) -> None:
    desk.save(
        "handlers/hangs.py",
        'import time\nfrom webhooks import on\n\n@on("opportunity.updated")\ndef run(event):\n    time.sleep(1000)\n',
    )
    desk.shows(r"reloaded [^\n]*hangs\.py")
    desk.trigger("opportunity.updated")
    desk.shows(
        r"slow +handlers\.hangs\.run has run for [^\n]+\n +stands at handlers/hangs\.py, line 6, in run: time\.sleep\(1000\)"
    )
    desk.mend("handlers/hangs.py", "opportunity.updated")
    desk.shows(r"handled +handlers\.hangs\.run")


def test_a_table_without_a_migration_is_named_and_its_migration_is_applied_on_save(desk: Desk) -> None:
    module = (
        "from sqlalchemy import Column, Integer, MetaData, Table\nfrom webhooks import on\n\n"
        'metadata = MetaData()\nvisits = Table("{0}visits", metadata, Column("id", Integer, primary_key=True))\n\n'
        '@on("{1}")\ndef run(event, session):\n    session.execute(visits.insert())\n'
    )
    directory = desk.processes.directory / "handlers" / "table"
    directory.mkdir()
    desk.save("handlers/table/__init__.py", module.format("table_", "lead.merged"))
    desk.shows(r"table: table table_visits of [^\n]+ without a migration[^\n]+webhooks db revision table")
    desk.shows(r"reloaded [^\n]*table")
    desk.trigger("lead.merged")
    desk.shows(
        r"failed +handlers\.table\.run [^\n]+table_visits.*?__init__\.py, line 9, in run: session\.execute[^\n]+\n"
        r" +its table is not in the database: webhooks db revision table"
    )
    desk._from = len(desk.dev.output)
    written = desk.processes.run("webhooks", "db", "revision", "table", "-m", "visits")
    assert written.wait() == 0, written.output
    desk.shows(r"database: table nothing -> ")
    desk.shows("reloaded")
    desk.shows(r"handled +handlers\.table\.run")


def test_what_is_saved_runs_and_what_was_loaded_is_said(desk: Desk) -> None:
    for word in ("one", "two"):
        desk.save(
            "handlers/edited.py",
            f'from webhooks import on\n\n@on("contact.updated")\ndef run(event, log):\n    log.info("this is {word}")\n',
        )
        desk.shows(
            r"reloaded +handlers/edited\.py \(\d+\.\d s\)\n +handlers: [^\n]*handlers\.edited\.run[^\n]*\n +try: webhooks trigger"
        )
        desk.trigger("contact.updated")
        desk.shows(rf"log +handlers\.edited\.run: this is {word}\n")


def test_the_wrong_directory_is_named_and_the_project_above_or_below(desk: Desk, processes: Processes) -> None:
    project = processes.directory / "shop"
    (project / "handlers").mkdir(parents=True)
    (project / "handlers" / "hello.py").write_text(GOOD.format(type="lead.created"))
    for directory, which in ((project / "handlers", "above"), (processes.directory, "below")):
        listed = processes.run("webhooks", "events", "list", cwd=directory)
        assert listed.wait() == 1
        assert (
            f"read was {directory}, which has no webhooks.toml; there is a project {which}: cd {project}"
            in listed.output
        )
        dev = processes.start("webhooks", "dev", cwd=directory, env={"PORT": str(free_port())})
        dev.wait_for(
            rf"no project here: {re.escape(str(directory))} [^\n]+\n[^\n]+ {which}: cd {re.escape(str(project))},"
        )
        dev.wait_for("console: http")
        assert dev.stop() == 0
