"""`webhooks handlers test`: one handler, one event, and nothing of it lasts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from webhooks.cli import group
from webhooks.routing import registry as registry_module
from webhooks.routing.registry import Registry

pytestmark = pytest.mark.one_database

HANDLERS = """
from sqlalchemy import text
from webhooks import on

@on("opportunity.updated", source="close", name="count_won", where=lambda event: event.data["status_type"] == "won")
def count_won(event, session):
    session.execute(text("create table won (id text)"))
    session.execute(text("insert into won values (:id)"), {"id": event.object_id})

@on("lead.created", source="close", name="fails")
def fails(event):
    raise LookupError(f"no {event.data['name']}")

@on("unheard.of", source="close", name="sampleless")
def sampleless(event): ...
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """The command in a project, whose handlers are registered for this test alone."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "tried.py").write_text(HANDLERS)
    own = Registry()
    monkeypatch.setattr(registry_module, "default_registry", own)
    monkeypatch.setattr("webhooks.testing.making.default_registry", own)
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda *arguments: CliRunner().invoke(group, ["handlers", "test", *arguments])
    for name in set(sys.modules) - modules:
        if name.startswith("handlers"):
            del sys.modules[name]


def test_what_a_handler_would_write_is_shown_and_nothing_lasts(call: Callable[..., Result], tmp_path: Path) -> None:
    done = call(
        "count_won", "--sample", "opportunity.updated", "--set", "data.status_type=won", "--set", "object_id=oppo_1"
    )
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "count_won with opportunity.updated: would succeed",
        "    create table won (id text)",
        "    insert into won values (?), 1 row",
        "      id='oppo_1'",
    ]
    assert not list(tmp_path.glob("*.db"))


def test_what_is_filtered_and_what_fails_is_said(call: Callable[..., Result]) -> None:
    lost = call("count_won", "--sample", "opportunity.updated", "--set", "data.status_type=lost")
    assert lost.exit_code == 0
    assert lost.output.startswith("count_won with opportunity.updated: filtered: ")
    other = call("count_won", "--sample", "lead.created")
    assert other.output == "count_won with lead.created: filtered: not subscribed: it asks for opportunity.updated\n"
    failed = call("fails", "--set", 'data.name="Quay"', "--json")
    assert failed.exit_code == 1
    told: dict[str, Any] = json.loads(failed.output)
    assert (told["type"], told["outcome"]) == ("lead.created", "would fail")
    assert told["reason"] == "LookupError: no Quay"


def test_without_a_sample_the_first_one_that_it_would_get_is_taken(call: Callable[..., Result]) -> None:
    assert call("count_won").output.startswith("count_won with opportunity.updated: would succeed")


def test_what_there_is_not_is_said(call: Callable[..., Result]) -> None:
    for arguments, said in [
        (("count_wn",), "no handler named 'count_wn' (did you mean 'count_won'?)"),
        (("fails", "--sample", "lead.creatd"), "did you mean 'lead.created'"),
        (("sampleless",), "there is no sample of unheard.of; give a file with --sample"),
        (("fails", "--set", "x"), "is not path=value"),
    ]:
        done = call(*arguments)
        assert done.exit_code != 0
        assert said in done.output, done.output
