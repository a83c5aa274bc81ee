"""The same kit over PostgreSQL: a database for each, and a clock that is the server's."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from webhooks.errors import ConfigurationError
from webhooks.routing import Registry
from webhooks.testing import Kit, NothingScheduled
from webhooks.testing.databases import ServerDatabase


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("select datname from pg_database where datname like 'webhooks_testing_%'").fetchall()
    return {name for (name,) in rows}


def test_three_attempts_an_hour_apart_with_a_lane(make: Callable[..., Kit], postgresql_url: str) -> None:
    registry, order = Registry(), list[tuple[str, int]]()

    @registry.on("lead.updated", name="mirror", ordered_by="object_id")
    def mirror(event: Any, delivery: Any, session: Any) -> None:
        from webhooks import Retry

        order.append((event.data["name"], delivery.number))
        session.execute(text("create table if not exists names (name text)"))
        if delivery.number < 3:
            raise Retry(after=timedelta(hours=1))
        session.execute(text("insert into names values (:name)"), {"name": event.data["name"]})

    kit = make(registry=registry, database_url=postgresql_url)
    for name in ("first", "second"):
        kit.post("lead.updated", set={"data.name": name})
    for attempt in (1, 2):
        assert [(run.outcome, run.attempt) for run in kit.drain()] == [("retry", attempt)]
        assert kit.drain() == []
        assert timedelta(minutes=59) < kit.advance() < timedelta(hours=2)
    assert [run.outcome for run in kit.drain()] == ["succeeded", "retry"]
    assert order == [("first", 1), ("first", 2), ("first", 3), ("second", 1)]
    with kit.session() as session:
        assert session.scalars(text("select name from names")).all() == ["first"]
    before = kit.now()
    assert abs(before - datetime.now(UTC)) < timedelta(minutes=5), "it follows the wall"
    with pytest.raises(ValueError, match="on PostgreSQL the clock is the server's and cannot be held"):
        kit.freeze(before)


def test_after_a_crash_it_runs_again(make: Callable[..., Kit], postgresql_url: str) -> None:
    kit = make(database_url=postgresql_url)
    kit.post("lead.created")
    assert kit.crash("welcome").outcome == "lost"
    assert [(run.outcome, run.attempt) for run in kit.drain()] == [("succeeded", 2)]
    with pytest.raises(NothingScheduled):
        kit.advance()


def test_dead_ones_are_requeued_and_a_worker_runs_them(make: Callable[..., Kit], postgresql_url: str) -> None:
    kit = make(database_url=postgresql_url)
    kit.post("contact.created")
    kit.drain(raises=False)
    kit.advance()
    kit.drain(raises=False)
    kit.assert_dead("broken")
    assert kit.requeue(handler="broken") == 1
    with kit.running_worker() as worker:
        worker.settle()
    assert [each.attempts for each in kit.deliveries("broken")] == [3]


def test_a_local_close_stands_beside_it(make: Callable[..., Kit], postgresql_url: str) -> None:
    kit = make(database_url=postgresql_url, sandbox=True)
    lead = kit.sandbox.world.create("lead", {"name": "Quayside"})
    kit.sandbox.world.update("lead", lead["id"], {"name": "Quay"})
    assert [each.status for each in kit.sandbox.deliver()] == ["stored", "stored"]


def test_each_has_a_database_of_its_own_that_goes_with_it(make: Callable[..., Kit], postgresql_url: str) -> None:
    one, other = make(database_url=postgresql_url), make(database_url=postgresql_url)
    one.post("lead.created")
    assert other.deliveries() == []
    names = {str(kit.webhooks.database.url.database) for kit in (one, other)}
    assert names <= databases(postgresql_url)
    one.close()
    assert len(names & databases(postgresql_url)) == 1
    kept = make(database_url=postgresql_url, keep=True)
    kept.close()
    name = str(kept.webhooks.database.url.database)
    assert name in databases(postgresql_url)
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(f'drop database "{name}"')


def test_a_server_that_ends_before_the_tests_do_is_no_word_at_their_end(
    monkeypatch: pytest.MonkeyPatch, postgresql_url: str
) -> None:
    """The template of a run is dropped when its process ends."""
    at_exit: list[tuple[Callable[..., None], tuple[str, ...]]] = []
    monkeypatch.setattr("atexit.register", lambda act, *arguments: at_exit.append((act, arguments)))
    monkeypatch.setattr("webhooks.testing.databases._names", {})
    database = ServerDatabase(postgresql_url)
    database.fill(())
    database.drop()
    ((act, (name,)),) = at_exit
    with monkeypatch.context() as away:
        away.setattr(database, "_server", "postgresql://127.0.0.1:1/nowhere")
        act(name)
    assert name in databases(postgresql_url)
    act(name)
    assert name not in databases(postgresql_url)


def test_what_cannot_be_there_is_said(make: Callable[..., Kit], postgresql_url: str) -> None:
    with pytest.raises(ValueError, match="the clock is the server's; leave it out"):
        make(database_url=postgresql_url, at=datetime(2027, 1, 1, tzinfo=UTC))
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("drop role if exists no_creator")
        connection.execute("create role no_creator login password 'x'")
    try:
        with pytest.raises(
            ConfigurationError, match=r"a database for tests cannot be made there .*; its user needs CREATEDB"
        ):
            make(database_url=re.sub("//[^@]*@", "//no_creator:x@", postgresql_url))
    finally:
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            connection.execute("drop role no_creator")
