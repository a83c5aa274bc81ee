"""Objects are made in one place, by the role of a process; what an assembled consumer says before it works."""

from __future__ import annotations

import ast
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import ROOT
from webhooks.app import Role, Webhooks, open_read_only
from webhooks.cli import Failure, demo
from webhooks.routing import Registry
from webhooks.settings import load_settings

CLOSE = {"sources": {"close": {"secret": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}}}


def nothing(event: object) -> None:
    """A handler."""


def said(caplog: pytest.LogCaptureFixture, registry: Registry, role: str) -> str:
    webhooks = Webhooks(registry=registry, overrides=CLOSE)
    with caplog.at_level(logging.WARNING):
        webhooks.assemble(role=role)
    webhooks.close()
    return caplog.text


@pytest.mark.parametrize("role", ["web", "worker"])
def test_a_service_without_handlers_says_where_it_looked(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = said(caplog, Registry(), role)
    assert f"no handler is registered: there is none in {tmp_path / 'handlers'}" in text


def test_a_command_and_a_service_with_handlers_say_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    some = Registry()
    some.add(nothing, "lead.created", name="a")
    assert said(caplog, Registry(), "cli") == ""
    assert said(caplog, some, "web") == ""


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"webhooks\.demo-secret' cannot be made: No such file or directory; go to"):
        demo.make_secret(tmp_path / "nowhere")


#: Where objects are made: `running` has those that run deliveries.
ASSEMBLY = {"app/assembly.py", "app/running.py"}
#: What a process has one of; made there and nowhere else.
MADE_ONCE = {
    "CatchUp", "Dispatcher", "Doctor", "GroupCommit", "Ingest", "IsolatedPool", "Maintenance", "ReadOnlyContext",
    "Runner", "Store", "Subscriptions", "Worker",
}  # fmt: skip
#: {(file below webhooks/, name): why it is another thing of that name}
OTHERS = {
    ("app/webhooks.py", "ReadOnlyContext"): "the part of a whole that is there",
    ("delivery/worker.py", "Runner"): "a worker is one, and a claim loop",
}


def test_objects_are_made_in_one_place() -> None:
    found = []
    for path in sorted((ROOT / "webhooks").rglob("*.py")):
        where = path.relative_to(ROOT / "webhooks").as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MADE_ONCE:
                found.append((where, node.func.id))
    elsewhere = {each for each in found if each[0] not in ASSEMBLY}
    assert elsewhere == set(OTHERS), "ask app.assembly for it"
    assert {name for where, name in found if where in ASSEMBLY} >= MADE_ONCE


@pytest.mark.parametrize(
    ("role", "patience", "application"),
    [
        (Role.WEB, timedelta(seconds=2), "webhooks web"),
        (Role.WORKER, None, "webhooks worker"),
        (Role.CHILD, None, "webhooks worker"),
        (Role.CLI, None, "webhooks cli"),
        (Role.READ_ONLY, None, "webhooks cli"),
    ],
)
def test_a_role_says_how_a_process_uses_its_database(role: Role, patience: timedelta | None, application: str) -> None:
    assert (role.patience, role.application) == (patience, application)


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'wroker' is not a valid Role"):
        Webhooks(registry=Registry(), overrides=CLOSE, environ={}).assemble(role="wroker")


def test_what_only_looks_has_its_sources_and_no_handlers() -> None:
    settings = load_settings({}, overrides={**CLOSE, "handlers": ["there.is.no.such.module"]})
    context = open_read_only(settings)
    assert (list(context.sources), list(context.handlers)) == (["close"], [])
    context.database.dispose()


def test_a_whole_gives_the_part_that_looks() -> None:
    registry = Registry()
    registry.add(nothing, "lead.created", name="a")
    whole = Webhooks(registry=registry, overrides=CLOSE, environ={}).assemble(role="cli")
    part = whole.read_only()
    assert (part.store, part.database, list(part.handlers)) == (whole.store, whole.database, ["a"])
    whole.close()
