"""A rehearsal shows what handlers would write, and leaves nothing behind; on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text
from sqlalchemy.orm import Session

from tests.support import Clock
from webhooks.app import Webhooks
from webhooks.cli import group
from webhooks.model import Event, Headers, InboundRequest
from webhooks.predicates import field
from webhooks.registry import Registry
from webhooks.replay import Options, Rehearser, Replayer
from webhooks.selection import Selection

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text))


def writes(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text=event.type))
    session.commit()
    session.execute(text("update notes set text = 'x' where 1 = 0"))


async def writes_later(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text="\x1b[31m"))


def fails(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text="before"))
    raise ValueError("no")


def forbidden(event: Event) -> None:
    raise AssertionError("a handler that is not rehearsable was run")


@pytest.fixture
def instance(database_url: str, clock: Clock) -> Iterator[Webhooks]:
    registry = Registry()
    registry.add(writes, "lead.*", name="writes", rehearsable=True)
    registry.add(writes_later, "lead.*", name="later", rehearsable=True)
    registry.add(fails, "lead.*", name="fails", rehearsable=True)
    registry.add(forbidden, "lead.*", name="forbidden")
    registry.add(writes, "lead.*", name="choosy", rehearsable=True, where=field("data.nothing") == 1)
    made = Webhooks(
        registry=registry,
        overrides={"database_url": database_url, "sources": {"close": {"secret": KEY}}},
        environ={},
        clock=clock,
    ).assemble(role="cli")
    metadata.create_all(made.database.engine)
    yield made
    if not made.database.is_sqlite:
        metadata.drop_all(made.database.engine)
    made.close()


@pytest.fixture
def received(instance: Webhooks, payload: Any) -> Webhooks:
    body = payload("lead_merged")
    headers = Headers(dict(instance.sources["close"].sign(body, instance.clock())))
    instance.ingest.accept("close", InboundRequest(headers, body))
    return instance


def test_what_would_be_written_is_told_and_nothing_lasts(received: Webhooks) -> None:
    replayer = Replayer(store=received.store, registry=received.registry)
    rehearser = Rehearser(replayer=replayer, runner=received.dispatcher)
    plan = replayer.plan(Selection(), Options())
    found = {one.handler: one for one in rehearser.run(plan)}
    assert rehearser.not_rehearsable(plan) == ["forbidden"]
    assert {name: one.outcome for name, one in found.items()} == {
        "writes": "would succeed",
        "later": "would succeed",
        "fails": "would fail",
        "choosy": "filtered",
    }
    first, second = found["writes"].writes
    assert (first.verb, first.table, first.rows) == ("insert", "notes", 1)
    assert first.values[0]["text"] == "'lead.merged'"
    assert (second.verb, second.rows) == ("update", 0)
    assert found["fails"].reason == "ValueError: no"
    assert len(found["fails"].writes) == 1
    assert (found["choosy"].reason or "").startswith("filtered: ")
    with received.database.read() as connection:
        assert connection.execute(select(notes)).all() == []
    assert received.store.replays.all() == []


def test_the_command_prints_it_and_fails_when_a_handler_would(received: Webhooks) -> None:
    info = SimpleNamespace(load_app=lambda: SimpleNamespace(extensions={"webhooks": received}))
    result = CliRunner().invoke(group, ["replay", "--all", "--rehearse"], obj=info)
    assert result.exit_code == 1, result.output
    assert "insert notes, 1 rows" in result.stdout
    assert "writes  would succeed" in result.stdout
    assert "\x1b" not in result.stdout
    assert "forbidden is not rehearsable" in result.stderr
    assert "4 runs rehearsed, 1 would fail; everything was rolled back" in result.stderr
    in_json = CliRunner().invoke(group, ["replay", "--all", "--rehearse", "--json", "--handler", "writes"], obj=info)
    assert in_json.exit_code == 0
    (line,) = [json.loads(line) for line in in_json.stdout.splitlines()]
    assert (line["handler"], line["outcome"], len(line["writes"])) == ("writes", "would succeed", 2)
