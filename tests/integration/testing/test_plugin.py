"""The fixtures as a project has them: pytest runs as its author types it, in a process of its own.

The entry point is read from a distribution that this test writes, since an editable install may be older than `setup.cfg`.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from webhooks.cli.init import write_project

PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that `webhooks init` made."""
    write_project(tmp_path / "project")
    return tmp_path / "project"


def run(project: Path, *arguments: str) -> str:
    """What pytest says, and its exit code on the last line."""
    installed = project.parent / "installed" / "kit-1.dist-info"
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nwebhooks = webhooks.testing.plugin\n")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("pytest"),
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-W",
            "error",
            *arguments,
        ],
        cwd=project,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT)]), "WEBHOOKS_TEST_DATABASE_URL": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return f"{done.stdout}{done.stderr}\nexit {done.returncode}"


def write(project: Path, name: str, text: str) -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.thorough
def test_the_tests_that_init_writes_pass(project: Path) -> None:
    said = run(project, "-q")
    assert "2 passed" in said, said
    assert said.endswith("exit 0")


@pytest.mark.release
@pytest.mark.parametrize("options", [["-n", "2"], ["-p", "randomly"], ["--import-mode=importlib"], ["tests"]])
def test_they_pass_however_pytest_is_run(project: Path, options: list[str]) -> None:
    said = run(project, *options)
    assert "2 passed" in said, said


@pytest.mark.thorough
def test_every_block_of_the_page_runs(project: Path) -> None:
    (project / "handlers" / "hello.py").unlink()
    (project / "tests" / "test_handlers.py").unlink()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    for name, text in blocks:
        write(project, name, text)
    tests = sum(text.count("def test_") for _, text in blocks)
    said = run(project, "-q")
    assert f"{tests} passed" in said, said


def test_each_fixture_option_and_marker_is_listed(project: Path) -> None:
    helped = run(project, "--help")
    assert "--webhooks-keep" in helped
    assert "--webhooks-database=URL" in helped
    assert "@pytest.mark.webhooks(handlers=[names]" in run(project, "--markers")
    listed = run(project, "--fixtures")
    for name in (
        "webhooks",
        "webhooks_kit",
        "webhooks_settings",
        "webhooks_client",
        "webhooks_session",
        "webhooks_sandbox",
    ):
        assert re.search(rf"^{name}( \[session scope\])? -- .*\n    \S", listed, re.MULTILINE), name
        assert f"`{name}`" in PAGE


MISTAKES = """
import pytest

def test_deaths_unseen(webhooks):
    webhooks.post("lead.created")
    webhooks.drain(raises=False)

@pytest.mark.webhooks(allow_dead=True)
def test_deaths_allowed(webhooks):
    webhooks.post("lead.created")
    webhooks.drain(raises=False)

def test_deaths_seen(webhooks):
    webhooks.post("lead.created")
    with pytest.raises(LookupError):
        webhooks.drain()

@pytest.mark.webhooks(handler=["greet"])
def test_an_option_that_there_is_not(webhooks): ...

@pytest.mark.webhooks("greet")
def test_an_option_without_its_name(webhooks): ...

def test_another_fails_for_its_own_reason(webhooks):
    webhooks.post("lead.created")
    webhooks.drain(raises=False)
    assert False, "its own reason"

def test_the_client_and_the_session_are_the_kits(webhooks, webhooks_kit, webhooks_client, webhooks_session):
    assert webhooks is webhooks_kit
    assert webhooks_client.get("/healthz").status_code == 200
    assert webhooks_session.connection()
"""


@pytest.mark.thorough
def test_what_a_test_leaves_and_what_it_writes_wrong_is_said(project: Path) -> None:
    write(
        project,
        "handlers/dies.py",
        "from webhooks import RetryPolicy, on\n\n"
        "@on('lead.created', name='dies', retry=RetryPolicy(max_attempts=1))\ndef dies(event):\n    raise LookupError('no')\n",
    )
    write(project, "tests/test_mistakes.py", MISTAKES)
    said = run(project, "-q", "--webhooks-keep", "-rA", "tests/test_mistakes.py")
    assert (
        "deliveries died in this test, and it did not look at them (1):\n  dies for lead.created: LookupError: no "
        in said
    )
    assert "look at them (webhooks.deliveries(state='dead'))" in said
    assert "@pytest.mark.webhooks: 'handler' is no option of it; there are: handlers, modules" in said
    assert "@pytest.mark.webhooks: its options are given by name; there are: handlers" in said
    assert re.search(
        r"::test_deaths_seen kept its database: WEBHOOKS_DATABASE_URL=sqlite:///\S+/webhooks\.db webhooks events list",
        said,
    )
    ended = {name: word for word, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", said, re.MULTILINE)}
    assert {name for name, word in ended.items() if word == "ERROR"} == {
        "test_deaths_unseen", "test_an_option_that_there_is_not", "test_an_option_without_its_name",
    }  # fmt: skip
    assert ended["test_another_fails_for_its_own_reason"] == "FAILED"


SERVER = """
import pytest

def test_where_the_command_line_says(webhooks):
    assert webhooks.webhooks.settings.database_url.startswith("postgresql")
    assert webhooks.post("lead.created").status == "stored"

@pytest.mark.webhooks(database="sqlite", at="2027-01-01T09:00Z")
def test_on_sqlite_all_the_same(webhooks):
    assert webhooks.now().year == 2027

@pytest.mark.webhooks(database="mysql")
def test_elsewhere(webhooks): ...
"""


@pytest.mark.thorough
def test_a_server_is_named_on_the_command_line(project: Path, postgresql_url: str) -> None:
    write(project, "tests/test_server.py", SERVER)
    said = run(project, "-q", "--webhooks-database", postgresql_url, "tests/test_server.py")
    assert "2 passed, 1 error" in said, said
    assert "@pytest.mark.webhooks: database is 'mysql'; give one of sqlite, postgresql" in said
    only = "import pytest\n\n@pytest.mark.webhooks(database='postgresql')\ndef test_it(webhooks): ...\n"
    write(project, "tests/test_server.py", only)
    said = run(project, "-q", "tests/test_server.py")
    assert "this test wants PostgreSQL; name a server, whose user may create databases: --webhooks-database URL" in said


MANY = """
import pytest

@pytest.mark.parametrize("number", range(200))
def test_one(webhooks, number):
    webhooks.post("activity.whatsapp_message.created")
    assert [run.outcome for run in webhooks.drain()] == ["succeeded"]
"""


@pytest.mark.alone
def test_two_hundred_tests_take_seconds(project: Path) -> None:
    """Of processor time, with the start of Python and pytest, and the migrations."""
    write(project, "tests/test_many.py", MANY)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = run(project, "-q", "tests/test_many.py")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "200 passed" in said, said
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15


@pytest.mark.thorough
def test_a_fixture_of_that_name_in_a_project_wins(project: Path) -> None:
    write(project, "tests/conftest.py", "import pytest\n\n@pytest.fixture\ndef webhooks():\n    return 'theirs'\n")
    write(
        project,
        "tests/test_handlers.py",
        "def test_theirs(webhooks, webhooks_kit):\n    assert webhooks == 'theirs'\n    assert webhooks_kit.deliveries() == []\n",
    )
    assert "1 passed" in run(project, "-q")
