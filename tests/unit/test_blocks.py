"""Every block of code in the README and in docs/ is run, and here stands by what: Python, TOML, and commands that are typed.

A whole page, or a part of one by its heading, is run by the test that `RUN_BY` names. Of the rest, Python is run here and TOML is read
here as settings. `NOT_RUN` has the commands that no test types, each with its reason; that they exist, with their options, is held by
`test_docs.test_every_command_in_an_example_exists`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import webhooks
from tests.support import ROOT, each
from tests.unit.test_docs import PAGES
from webhooks import Registry, signals
from webhooks.settings import load_settings

LANGUAGES = ("python", "toml", "console")
#: Pages, and parts of pages as `page#heading`, with the test that runs all their blocks.
RUN_BY = {
    "README.md#A complete example": "tests/acceptance/test_quickstart.py",
    "README.md#Production in ten lines": "tests/acceptance/test_quickstart.py",
    "docs/backup.md": "tests/acceptance/test_backup_page.py",
    "docs/capacity.md": "tests/acceptance/test_capacity_page.py",
    "docs/flask.md": "tests/acceptance/test_flask_page.py",
    "docs/observability.md#From nothing to a first alarm": "tests/acceptance/test_observability_page.py",
    "docs/observability.md#From nothing to a first scrape": "tests/acceptance/test_metrics.py",
    "docs/quickstart.md#A project of your own": "tests/acceptance/test_quickstart.py",
    "docs/quickstart.md#A handler": "tests/acceptance/test_quickstart.py",
    "docs/quickstart.md#When a handler fails": "tests/acceptance/test_quickstart.py",
    "docs/quickstart.md#Run them again": "tests/acceptance/test_quickstart.py",
    "docs/scaling.md": "tests/acceptance/hosts/test_scaling_page.py",
    "docs/sources.md#A sender of your own": "tests/unit/sources/test_documented.py",
    "docs/testing.md": "tests/integration/testing/test_plugin.py",
    "docs/tutorials/production.md": "tests/acceptance/test_production_page.py",
}
#: Tutorials are followed as they come.
RUN_BY |= {
    f"docs/tutorials/{path.name}": "tests/acceptance/test_tutorials.py"
    for path in PAGES
    if path.parent.name == "tutorials" and path.name != "production.md"
}
#: Blocks that no test runs, and why.
NOT_RUN = {
    "README.md#Try it console": "is `make` and `make test`: CI runs both, and tests/acceptance/test_install.py what installs",
    "docs/alarms.md#To the first alarm console": "tells a target of the reader's; tests/acceptance/test_alarms.py has one of its own",
    "docs/celery.md#The engine: Celery runs deliveries console": "needs a broker; tests/acceptance/test_celery.py types the same with one",
    "docs/proxies.md#Is it right? console": "needs a name and a certificate; tests/acceptance/test_proxies_page.py posts through each proxy",
    "docs/quickstart.md#See it work console": "installs from an index; tests/acceptance/test_install.py and `.ci/run` do",
    "docs/quickstart.md#Real events console": "needs the reader's own key",
    "docs/runbook.md#Runbook console": "asks about an installation; tests/integration/test_doctor.py runs the doctor",
    "docs/sandbox.md#In tests python": "is what tests/integration/handlers/test_equality.py does with all plugins",
    "docs/celery.md#The recipe: call a task python": "names modules of the reader's; docs/tutorials/from-celery.md has the same whole",
    "docs/celery.md#The engine: Celery runs deliveries python": "needs a broker; tests/acceptance/test_celery.py attaches so",
    "docs/sources.md#Rotation console": "asks, and waits for the sender; tests/integration/test_rotation.py answers",
    "docs/traces.md#Set it up python": "needs the OTLP exporter, which is not among what the tests install",
}


@dataclass(frozen=True)
class Block:
    """A fenced block. page: from the checkout. heading: the nearest above it."""

    page: str
    heading: str
    language: str
    text: str

    @property
    def runner(self) -> str | None:
        """The test that runs it, by `RUN_BY`."""
        return RUN_BY.get(self.page) or RUN_BY.get(f"{self.page}#{self.heading}")

    @property
    def name(self) -> str:
        return f"{self.page}#{self.heading} {self.language}"


def blocks_of(path: Path) -> Iterator[Block]:
    heading, page = "", path.relative_to(ROOT).as_posix()
    opened: tuple[str, str] | None = None
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if opened is None and (match := re.match(r"( *)```(\w*)", line)):
            opened, lines = (match[1], match[2]), []
        elif opened is not None and line == f"{opened[0]}```":
            if opened[1] in LANGUAGES:
                yield Block(page, heading, opened[1], "\n".join(lines) + "\n")
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened[0]))
        elif line.startswith("#"):
            heading = line.lstrip("# ")


BLOCKS = [block for path in (ROOT / "README.md", *PAGES) for block in blocks_of(path)]


def left(language: str) -> list[Block]:
    """The blocks of a language that no other test runs."""
    return [each for each in BLOCKS if each.language == language and each.runner is None and each.name not in NOT_RUN]


def test_there_are_blocks_and_none_is_left_open() -> None:
    assert len(BLOCKS) > 100
    for path in PAGES:
        assert path.read_text("utf-8").count("\n```") % 2 == 0, path


@each("part", RUN_BY)
def test_the_test_of_a_page_is_there_and_reads_it(part: str) -> None:
    page = part.partition("#")[0]
    assert any(block.runner == RUN_BY[part] and block.page == page for block in BLOCKS), "no such part; mend RUN_BY"
    test = (ROOT / RUN_BY[part]).read_text("utf-8")
    assert Path(page).name in test or f'"{Path(page).parent.name}"' in test


def test_every_exception_is_a_block_of_a_page() -> None:
    assert NOT_RUN.keys() - {block.name for block in BLOCKS} == set()


def test_no_command_is_left_that_no_test_types() -> None:
    assert [block.name for block in left("console")] == [], "name its test in RUN_BY, or in NOT_RUN why there is none"


# -- TOML -----------------------------------------------------------------------------------------------------


def readable(text: str, directory: Path) -> str:
    """A block in which every file that it names is there, with what such a file holds."""

    def present(match: re.Match[str]) -> str:
        from webhooks.dashboard.access.passwords import hash_password

        setting, name = match.groups()
        content = (
            hash_password("correct horse")
            if "hash" in setting
            else "https://example.com/x"
            if "url" in setting
            else "a key"
        )
        file = directory / Path(name).name
        file.write_text(content)
        return f'{setting} = "{file.as_posix()}"'

    return re.sub(r'\b(\w+_file) = "([^"]+)"', present, text)


@pytest.mark.parametrize("block", left("toml"), ids=lambda block: block.name)
def test_settings_are_read_as_printed(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "webhooks.toml"
    file.write_text(readable(block.text, tmp_path), "utf-8")
    sources = tomllib.loads(block.text).get("sources", {})
    secrets = {
        f"WEBHOOKS_SOURCES__{name}__SECRET": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
        for name, options in sources.items()
        if not options.keys() & {"secret", "secret_file", "jwt"}
    }
    load_settings(secrets, file=file)


# -- Python ---------------------------------------------------------------------------------------------------


def sentry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Nothing is sent, and nothing stays connected."""
    import sentry_sdk

    from webhooks.contrib import sentry

    monkeypatch.setattr(sentry_sdk, "init", Mock())
    monkeypatch.setattr(sentry, "connect", Mock())
    return {}


def observed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Observers are not kept; `page` is the reader's."""
    monkeypatch.setattr(signals, "observe", lambda *_, **__: lambda function: function)
    return {"page": print}


def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from handlers import whatsapp

    monkeypatch.setattr(whatsapp, "conversation", lambda session, contact: [])
    return {"session": None}


#: What a block needs that its page has said in words: {block: what gives its names}.
GIVEN: Mapping[str, Callable[[pytest.MonkeyPatch], dict[str, Any]]] = {
    "docs/errors.md#Errors in Sentry python": sentry,
    "docs/signals.md#Life-cycle signals python": observed,
    "docs/plugins.md#What they have in common python": asked,
    "docs/plugins.md#Beside your application's own Alembic python": lambda _: {
        "Migrate": Mock(), "app": None, "db": None, "context": SimpleNamespace(configure=Mock()),
    },
}  # fmt: skip


@pytest.mark.parametrize("page", sorted({block.page for block in left("python")}))
def test_python_runs_as_printed(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page continue one another; each registers its handlers with a registry of its own, and may have `on` from the first."""
    module = ModuleType("handlers.printed")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in left("python"):
        if block.page == page:
            registry = Registry()
            for name in ("on", "reply"):
                monkeypatch.setattr(webhooks, name, getattr(registry, name))
                setattr(module, name, getattr(registry, name))
            vars(module).update(GIVEN[block.name](monkeypatch) if block.name in GIVEN else {})
            exec(compile(block.text, block.name, "exec"), vars(module))
