"""Workers that die, events out of order, what runs twice, and events of before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from tests.support import each
from webhooks.cli import group
from webhooks.errors import NotFound
from webhooks.operations.fixtures import write_fixtures
from webhooks.routing import Registry
from webhooks.selection import Selection
from webhooks.testing import Kit
from webhooks.testing.adverse import shuffled

pytestmark = pytest.mark.one_database


def counting(make: Callable[..., Kit]) -> tuple[Kit, list[str]]:
    """Two handlers: one without a session notes its keys, one with a session counts in a table."""
    registry, keys = Registry(), []

    @registry.on("lead.created", name="calls")
    def calls(event: Any, delivery: Any) -> None:
        keys.append(delivery.idempotency_key)

    @registry.on("lead.created", name="writes")
    def writes(event: Any, session: Any) -> None:
        session.execute(text("create table if not exists seen (id text)"))
        session.execute(text("insert into seen values (:id)"), {"id": event.object_id})

    return make(registry=registry), keys


def seen(kit: Kit) -> int:
    with kit.session() as session:
        return int(session.scalar(text("select count(*) from seen")) or 0)


def test_what_has_no_session_runs_twice_with_one_key(make: Callable[..., Kit]) -> None:
    kit, keys = counting(make)
    kit.post("lead.created")
    assert [run.outcome for run in kit.drain(twice=True)] == ["succeeded", "succeeded"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert seen(kit) == 1


@each("when", ["before_commit", "after_handler"])
def test_after_a_crash_it_runs_again_and_a_session_has_written_once(make: Callable[..., Kit], when: str) -> None:
    kit, keys = counting(make)
    kit.post("lead.created")
    for handler in ("calls", "writes"):
        run = kit.crash(handler, when)
        assert (run.outcome, run.attempt) == ("lost", 1)
        kit.assert_delivered(handler, state="pending")
    assert len(keys) == 1
    assert {(run.handler, run.outcome, run.attempt) for run in kit.drain()} == {
        ("calls", "succeeded", 2), ("writes", "succeeded", 2),
    }  # fmt: skip
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert seen(kit) == 1


def test_where_nothing_can_die_it_is_said(kit: Kit) -> None:
    with pytest.raises(LookupError, match="no delivery of handler 'welcome' is due"):
        kit.crash("welcome")
    with pytest.raises(ValueError, match="when='later': one of after_handler, before_commit"):
        kit.crash("welcome", "later")


def test_events_arrive_in_another_order_than_they_happened(make: Callable[..., Kit]) -> None:
    registry, order = Registry(), []
    registry.on("lead.updated", name="mirror", ordered_by="object_id")(lambda event: order.append(event.id))
    kit = make(registry=registry)
    posted = kit.deliver_out_of_order(["lead.updated"] * 4, seed=7)
    assert [each.event_id for each in posted] != sorted(each.event_id for each in posted)
    kit.drain()
    assert order == [each.event_id for each in posted], "a lane runs them as they happened"


@each("count", [0, 1, 2, 5])
def test_an_order_is_never_the_given_one(count: int) -> None:
    for seed in range(20):
        order = shuffled(count, seed)
        assert sorted(order) == list(range(count))
        assert order == shuffled(count, seed)
        assert count < 2 or order != sorted(order)


# -- events of before ------------------------------------------------------------------------------------------


def test_what_was_exported_runs_as_the_first_did(make: Callable[..., Kit], tmp_path: Path) -> None:
    one, other = make(), make()
    one.post("lead.created")
    one.post("opportunity.updated", set={"data.status_type": "lost"})
    one.post("lead.updated")
    first = [(run.handler, run.outcome) for run in one.drain()]
    sources = one.webhooks.sources
    written = list(
        write_fixtures(one.webhooks.store, Selection(), tmp_path / "events", lambda name: sources[name].fixture_rules)
    )
    assert all(each.path for each in written), written
    ids = other.store(tmp_path / "events")
    assert len(set(ids)) == 3
    assert sorted((run.handler, run.outcome) for run in other.drain()) == sorted(first)
    assert len(other.store(tmp_path / "events" / "lead.created-1.json")) == 1, "each time it is another event"


def test_what_is_no_fixture_is_said(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no fixture at .*; `webhooks events export --fixtures"):
        kit.store(tmp_path / "nothing")
    path = tmp_path / "a.json"
    for text_of_it in ("no json", "[]", '{"source": "close", "type": "lead.created"}'):
        path.write_text(text_of_it)
        with pytest.raises(ValueError, match=r"is no fixture .*; it needs source, type and body"):
            kit.store(path)
    path.write_text(json.dumps({"source": "stripe", "type": "x", "body": {}}))
    with pytest.raises(NotFound, match="no source named 'stripe'"):
        kit.store(path)


def test_one_item_of_a_batch_is_stored_by_itself(make: Callable[..., Kit], tmp_path: Path) -> None:
    """What a file holds is one event, which some senders post only in a list."""
    registry = Registry()
    registry.on("**", name="all")(lambda event: None)
    kit = make(registry=registry, overrides={"sources": {"sendgrid": {}}})
    kit.post("delivered", source="sendgrid")
    [first] = kit.drain()[:1]
    assert first.event is not None
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"source": "sendgrid", "type": first.event.type, "body": json.loads(first.event.raw)}))
    kit.store(path)
    [again] = kit.drain()
    assert again.event is not None
    assert (again.event.type, again.event.data) == (first.event.type, first.event.data)


def test_the_command_that_the_message_names_exists() -> None:
    assert "--fixtures" in CliRunner().invoke(group, ["events", "export", "--help"]).output
