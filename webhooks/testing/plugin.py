"""The fixtures for pytest; see docs/testing.md.

pytest loads this module in every run of an environment that has us, before anything is measured, so it imports nothing but
pytest; what a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from webhooks.testing.kit import Kit

MARKER = "webhooks"
#: {option of the marker: what it says}.
OPTIONS = ("handlers", "modules", "settings", "at", "allow_dead", "database")
#: What `database` may be.
DATABASES = ("sqlite", "postgresql")
#: Names a server of PostgreSQL where `--webhooks-database` does not.
DATABASE_VARIABLE = "WEBHOOKS_TEST_DATABASE_URL"
_FAILED = pytest.StashKey[bool]()
#: Under this name a test's report carries where its database is, from xdist's workers too.
_KEPT = "webhooks database"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("webhooks", "webhooks: handlers under test")
    group.addoption(
        "--webhooks-keep",
        action="store_true",
        help="leave each test's database where it is, and say which command shows it",
    )
    group.addoption(
        "--webhooks-database",
        metavar="URL",
        default=os.environ.get(DATABASE_VARIABLE),
        help="run on this server of PostgreSQL, a database for each test; its user must be allowed to create databases "
        f"(default: {DATABASE_VARIABLE}, else SQLite)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say which marker there is."""
    config.addinivalue_line(
        "markers",
        "webhooks(handlers=[names], modules=[names], settings={…}, at='2026-03-10T14:05Z', allow_dead=True, "
        "database='sqlite'|'postgresql'): "
        "how the fixture `webhooks` is made for this test",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note that a test failed: what it left is then no news."""
    report = yield
    if call.when == "call" and report.failed:  # type: ignore[attr-defined]
        item.stash[_FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which command shows each database that was kept."""
    if not config.getoption("webhooks_keep"):
        return
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            kept = dict(report.user_properties).get(_KEPT) if report.when == "call" else None
            if kept is not None:
                command = f"WEBHOOKS_DATABASE_URL={kept} webhooks events list"
                terminalreporter.write_line(f"{report.nodeid} kept its database: {command}")


@pytest.fixture(scope="session")
def webhooks_settings() -> Mapping[str, Any]:
    """Settings over those of `webhooks.toml`, by name; override it in a conftest.py: nothing comes from the environment."""
    return {}


@pytest.fixture
def webhooks_kit(request: pytest.FixtureRequest, tmp_path: Path, webhooks_settings: Mapping[str, Any]) -> Iterator[Kit]:
    """The consumer over a database of this test's own: post, drain, advance, deliveries. The same as `webhooks`."""
    from webhooks.testing.making import make_kit
    from webhooks.testing.project import find_project

    said = marked(request.node)
    directory = tmp_path / "webhooks"
    directory.mkdir()
    config = request.config
    kit = make_kit(
        directory=directory,
        overrides={**webhooks_settings, **said.get("settings", {})},
        handlers=said.get("handlers"),
        modules=said.get("modules"),
        project=find_project(config.invocation_params.dir, config.rootpath),
        database_url=_server(config, said.get("database")),
        sandbox="webhooks_sandbox" in request.fixturenames,
        keep=config.getoption("webhooks_keep"),
        **({"at": said["at"]} if "at" in said else {}),
    )
    request.node.user_properties.append((_KEPT, str(kit.webhooks.database.url)))
    try:
        yield kit
        left = [] if said.get("allow_dead") or request.node.stash.get(_FAILED, False) else kit.unseen_dead()
    finally:
        kit.close()
    if left:
        lines = [f"  {each.handler} for {each.type}: {each.reason}" for each in left]
        pytest.fail(
            "\n".join(
                [
                    f"deliveries died in this test, and it did not look at them ({len(left)}):",
                    *lines,
                    "look at them (webhooks.deliveries(state='dead')), or mark the test: @pytest.mark.webhooks(allow_dead=True)",
                ]
            ),
            pytrace=False,
        )


@pytest.fixture
def webhooks(webhooks_kit: Kit) -> Kit:
    """The consumer over a database of this test's own: post, drain, advance, deliveries (webhooks.testing.Kit)."""
    return webhooks_kit


@pytest.fixture
def webhooks_client(webhooks_kit: Kit) -> Any:
    """Flask's test client over the same consumer."""
    return webhooks_kit.client()


@pytest.fixture
def webhooks_session(webhooks_kit: Kit) -> Iterator[Any]:
    """An SQLAlchemy session on the same database, to look at what handlers wrote."""
    with webhooks_kit.session() as session:
        yield session


@pytest.fixture
def webhooks_sandbox(webhooks_kit: Kit) -> Any:
    """A sandbox beside the consumer, as its sender: world, deliver, catch_up (webhooks.testing.sandbox.Sandbox)."""
    return webhooks_kit.sandbox


def _server(config: pytest.Config, database: str | None) -> str | None:
    """The server on which a test runs; None: on SQLite. database: what its marker says. Fails a test that asks for one in vain."""
    url: str | None = config.getoption("webhooks_database")
    if database not in (None, *DATABASES):
        pytest.fail(
            f"@pytest.mark.webhooks: database is {database!r}; give one of {', '.join(DATABASES)}", pytrace=False
        )
    if database == "postgresql" and not url:
        pytest.fail(
            "this test wants PostgreSQL; name a server, whose user may create databases: --webhooks-database URL, or the "
            f"variable {DATABASE_VARIABLE}",
            pytrace=False,
        )
    return None if database == "sqlite" else url or None


def marked(item: pytest.Item) -> dict[str, Any]:
    """What the markers of a test say, the nearest wins. Fails the test for an option that there is not."""
    said: dict[str, Any] = {}
    for mark in item.iter_markers(MARKER):
        if mark.args or (wrong := sorted(mark.kwargs.keys() - set(OPTIONS))):
            what = f"{wrong[0]!r} is no option of it" if not mark.args else "its options are given by name"
            pytest.fail(f"@pytest.mark.webhooks: {what}; there are: {', '.join(OPTIONS)}", pytrace=False)
        said = {**mark.kwargs, **said}
    if isinstance(said.get("at"), str):
        said["at"] = datetime.fromisoformat(said["at"])
    return said
