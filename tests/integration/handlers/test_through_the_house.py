"""The plugins at the end of the whole way: a local Close posts, events are taken in and routed, a worker runs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from handlers import emails, leads, outcomes, whatsapp
from tests.integration.handlers.histories import Bench, differences, registry_of
from tests.integration.local_close import Pair, nothing_posted
from tests.support import Clock, wait_until
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.database.migrations import run as migrate
from webhooks.model import DeliveryState
from webhooks.sandbox.histories import by_seed, play
from webhooks.session import Sessions

pytestmark = pytest.mark.one_database

MODULES = (emails, leads, outcomes, whatsapp)


@pytest.fixture
def pair(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    database = connect(database_url)
    migrate.upgrade(database, plugins=[migrate.plugin(module.__name__) for module in MODULES])
    database.dispose()
    made = Pair(database_url, tmp_path, clock, registry=registry_of(*MODULES))
    yield made
    made.stop()


def count(pair: Pair, *states: DeliveryState) -> int:
    with pair.webhooks.database.read() as connection:
        found = select(func.count()).where(schema.deliveries.c.state.in_(states))
        return int(connection.execute(found).scalar_one())


def work(pair: Pair) -> None:
    """Run a worker until every delivery has come to its end."""
    worker = pair.webhooks.make_worker(slots=4)
    thread = threading.Thread(target=worker.run, name="worker under test")
    thread.start()
    try:
        waiting = (DeliveryState.PENDING, DeliveryState.RUNNING)
        wait_until(lambda: count(pair, *waiting) == 0, timedelta(seconds=60), "the deliveries to end")
    finally:
        worker.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert count(pair, DeliveryState.DEAD) == 0


def wrong(pair: Pair) -> list[str]:
    sessions = Sessions(pair.webhooks.database)
    bench = Bench(pair.webhooks.database, sessions)
    state = pair.world.state()
    found: list[str] = []
    for module in MODULES:
        mirrored: dict[str, Any] = {**bench.ask(module.mirrors)}
        mirrored.pop("outcome", None)  # Close publishes no event of it
        found += differences(mirrored, state)
    sessions.dispose()
    return found


def test_the_plugins_end_as_close_after_disorder_and_duplicates(pair: Pair) -> None:
    pair.world.set_rules(disorder=timedelta(minutes=10), duplicates=0.3, consolidation=timedelta(minutes=1))
    choose = by_seed(33)
    for _ in range(6):
        play(pair.world, choose, 15)
        pair.world.deliver(pair.post)  # what is due by now; the rest comes among later ones
    pair.deliver()

    work(pair)

    assert wrong(pair) == []
    assert count(pair, DeliveryState.SUCCEEDED) > 80


def test_after_a_day_away_and_an_emptied_queue_one_catch_up_makes_the_plugins_equal_close(pair: Pair) -> None:
    choose = by_seed(13)
    play(pair.world, choose, 40)
    pair.deliver()
    work(pair)
    pair.world.set_rules(backlog=10)

    play(pair.world, choose, 40)
    pair.world.drain(nothing_posted, within=timedelta(days=1))
    pair.world.advance(timedelta(hours=1))
    assert pair.world.waiting() == 0, "the subscription was to be paused, and its queue emptied"
    assert wrong(pair), "without the catch-up they differ"
    report = pair.catch_up(timedelta(days=3))

    work(pair)

    assert report.added.total() > 0
    assert wrong(pair) == []
