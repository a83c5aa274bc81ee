"""What the plugins share: the latest state stays, whoever writes at the same time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, MetaData, select
from sqlalchemy.orm import Session

from handlers._mirror import Words, add, bury, mirrored, note, put
from tests.integration.handlers.histories import Bench
from tests.integration.rig import NO_MARK
from tests.support import wait_until
from webhooks.database import Database
from webhooks.database.connect import connect
from webhooks.session import Sessions

metadata = MetaData()
things = mirrored("things", metadata, Column("text", Words), Column("kept", Words), Column("fact", Boolean))

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    with database.write() as connection:
        metadata.create_all(connection)
    sessions = Sessions(database)
    yield Bench(database, sessions)
    sessions.dispose()


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def do(bench: Bench, function: Any, *arguments: Any, **named: Any) -> Any:
    """Call one of the functions in a transaction of its own."""
    with bench.sessions.open() as holder:
        result = function(holder.session, *arguments, **named)
        holder.flush()
        holder.finish(NO_MARK)
        return result


def row(bench: Bench, id: str = "a") -> dict[str, Any]:
    def read(session: Session) -> dict[str, Any]:
        return dict(session.execute(select(things).where(things.c.id == id)).mappings().one())

    found: dict[str, Any] = bench.ask(read)
    return found


def test_a_later_state_replaces_an_earlier_one_and_not_the_other_way_round(bench: Bench) -> None:
    assert do(bench, put, things, "a", at(2), {"text": "two"})
    assert not do(bench, put, things, "a", at(1), {"text": "one"})
    assert row(bench)["text"] == "two"

    assert do(bench, put, things, "a", at(3), {"text": "three"})

    assert (row(bench)["text"], row(bench)["shown_at"]) == ("three", at(3))


def test_instants_are_compared_with_their_microseconds(bench: Bench) -> None:
    do(bench, put, things, "a", at(1) + timedelta(microseconds=2), {"text": "later"})
    do(bench, put, things, "a", at(1) + timedelta(microseconds=1), {"text": "earlier"})
    assert row(bench)["text"] == "later"

    do(bench, put, things, "b", at(1), {"text": "earlier"})  # a whole second has no fraction when written as text
    do(bench, put, things, "b", at(1) + timedelta(microseconds=1), {"text": "later"})
    do(bench, put, things, "b", at(1), {"text": "earlier"})
    assert row(bench, "b")["text"] == "later"


def test_a_tombstone_stays_whatever_comes(bench: Bench) -> None:
    do(bench, put, things, "a", at(1), {"text": "one", "kept": "yes"})

    assert do(bench, bury, things, "a", at(2), kept=None)
    assert not do(bench, bury, things, "a", at(3), kept="other")
    assert not do(bench, put, things, "a", at(9), {"text": "again"})

    assert row(bench) == {
        "id": "a", "shown_at": at(2), "deleted_at": at(2), "text": None, "kept": "yes", "fact": None
    }  # fmt: skip


def test_what_was_never_here_can_be_deleted(bench: Bench) -> None:
    assert do(bench, bury, things, "a", at(2), kept="told by the deletion")
    assert not do(bench, put, things, "a", at(1), {"text": "late"})

    assert (row(bench)["text"], row(bench)["kept"]) == (None, "told by the deletion")


def test_a_fact_may_come_before_or_after_the_state(bench: Bench) -> None:
    do(bench, note, things, "a", fact=True)
    assert do(bench, put, things, "a", at(1), {"text": "one"})
    do(bench, put, things, "b", at(1), {"text": "one"})
    do(bench, note, things, "b", fact=True)

    for id in ("a", "b"):
        assert (row(bench, id)["text"], row(bench, id)["fact"], row(bench, id)["shown_at"]) == ("one", True, at(1))


def test_a_row_is_added_once(bench: Bench) -> None:
    assert do(bench, add, things, id="a", text="first")
    assert not do(bench, add, things, id="a", text="second")

    assert row(bench)["text"] == "first"


@pytest.mark.parametrize("seed", range(3))
def test_the_latest_state_stays_when_many_write_at_once(bench: Bench, seed: int) -> None:
    """Selecting first and writing then would lose some of these."""
    states = [*range(40), *range(20)]
    random.Random(seed).shuffle(states)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda second: do(bench, put, things, "a", at(second), {"text": str(second)}), states))

    assert row(bench)["text"] == "39"


def test_an_older_state_that_waits_for_a_newer_one_finds_it_when_that_is_committed(
    postgresql_url: str,
) -> None:
    """Two transactions, neither of which sees the other's row. SQLite has one writer at a time."""
    database = connect(postgresql_url)
    with database.write() as connection:
        metadata.create_all(connection)
    bench = Bench(database, Sessions(database))

    with bench.sessions.open() as first, ThreadPoolExecutor(1) as pool:
        put(first.session, things, "a", at(2), {"text": "newer"})
        waiting = pool.submit(do, bench, put, things, "a", at(1), {"text": "older"})
        wait_for_lock(database)
        first.flush()
        first.finish(NO_MARK)
        assert waiting.result(timeout=10) is False

    assert row(bench)["text"] == "newer"
    bench.sessions.dispose()
    database.dispose()


def wait_for_lock(database: Database) -> None:
    def somebody_waits() -> bool:
        with database.read() as connection:
            query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            return bool(connection.exec_driver_sql(query).scalar_one())

    wait_until(somebody_waits, what="the second transaction to wait for the first")
