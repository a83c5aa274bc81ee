"""Workers that run different queues over one database: each claims its own, and all keep order for all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.rig import Rig, rig
from tests.support import wait_until
from webhooks.delivery import handler_rows
from webhooks.model import DeliveryState
from webhooks.operations.alarms.collect import collect
from webhooks.operations.handlers import on_record, view
from webhooks.operations.records import handler_json

pytestmark = pytest.mark.one_database

DEFAULT = frozenset({"default"})
VIDEO = frozenset({"video"})


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    """Two handlers in two queues, and one in a third; each notes its runs."""
    with rig(database_url) as found:
        found.ran = []  # type: ignore[attr-defined]
        for name, queue in (("plain", "default"), ("cut", "video"), ("send", "mail")):
            found.registry.add(noting(found, name), "**", name=name, queue=queue)
        found.store.handlers.register(handler_rows(found.registry))
        yield found


def noting(made: Any, name: str) -> Any:
    def run(event: Any) -> None:
        made.ran.append(name)

    return run


def pending(made: Rig) -> int:
    return made.states().count(DeliveryState.PENDING)


def test_each_worker_runs_only_its_own_and_the_rest_waits_untouched(made: Any) -> None:
    made.put(20, "plain", "cut", "send")
    with made.running(queues=DEFAULT) as one, made.running(queues=VIDEO) as other:
        made.wait_for(DeliveryState.SUCCEEDED, 40)
        assert (list(one.runner.handlers), list(other.runner.handlers)) == (["plain"], ["cut"])
    assert sorted(made.ran) == ["cut"] * 20 + ["plain"] * 20
    waiting = [made.row(id) for id in made.ids() if made.row(id).handler == "send"]
    assert {(row.state, row.attempts, row.worker) for row in waiting} == {(0, 0, None)}
    with made.running():
        made.wait_for(DeliveryState.SUCCEEDED, 60)


def test_the_database_knows_who_runs_what(made: Any) -> None:
    with made.running(queues=VIDEO, heartbeat=timedelta(seconds=0.1)):
        wait_until(lambda: made.store.processes.running())
        (process,) = made.store.processes.running()
        assert (process.handlers, process.queues) == (("cut",), ("video",))
        assert [process.serves(queue) for queue in ("video", "default")] == [True, False]
        made.put(2, "cut", "plain")
        made.wait_for(DeliveryState.SUCCEEDED, 2)
        facts = collect(made.store).handlers
        assert (facts["plain"].due, facts["plain"].has_worker, facts["plain"].unserved_queue) == (2, False, "default")
        assert (facts["cut"].has_worker, facts["cut"].unserved_queue) == (True, None)
    assert {name: state.queue for name, state in made.store.handlers.states().items()} == {
        "plain": "default",
        "cut": "video",
        "send": "mail",
    }


def test_a_worker_rescues_for_every_queue_and_runs_only_its_own(made: Any) -> None:
    (id,) = made.put(1, "cut")
    claim = made.claim("cut", lease=timedelta(milliseconds=50))
    assert claim.delivery.id == id
    with made.running(queues=DEFAULT, maintenance=True):
        wait_until(lambda: made.row(id).state == DeliveryState.PENDING, what="the rescue")
        assert made.outcomes(id) == ["lost"]
        made.put(1, "plain")
        made.wait_for(DeliveryState.SUCCEEDED, 1)
        assert made.ran == ["plain"]
        with made.running(queues=VIDEO):
            made.wait_for(DeliveryState.SUCCEEDED, 2)
    assert made.ran == ["plain", "cut"]


def test_a_pause_holds_in_every_pool_and_holds_no_other_handler(made: Any) -> None:
    made.store.handlers.pause("cut", "ines")
    made.put(3, "cut", "plain")
    with made.running(queues=VIDEO), made.running(queues=VIDEO | DEFAULT):
        made.wait_for(DeliveryState.SUCCEEDED, 3)
        assert made.ran == ["plain"] * 3
        assert pending(made) == 3
        made.store.handlers.resume("cut")
        made.wait_for(DeliveryState.SUCCEEDED, 6)


def test_limits_hold_over_workers_that_share_a_queue(made: Any) -> None:
    """One of them runs other queues as well."""
    lock, running, most = threading.Lock(), 0, 0

    def single(event: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1

    made.on("single", queue="video", concurrency=1)(single)
    made.on("paced", queue="video", rate="2/h")(noting(made, "paced"))
    with made.running(queues=VIDEO), made.running(queues=VIDEO | DEFAULT):
        made.put(8, "single")
        made.put(3, "paced")
        made.wait_for(DeliveryState.SUCCEEDED, 9)
    assert most == 1
    assert made.ran == ["paced"], "a tenth of the rate at once, and at least one"


def test_a_start_of_an_older_version_leaves_handlers_in_their_queues(made: Any) -> None:
    with made.database.write() as connection:
        connection.execute(
            text(
                """insert into webhooks_handlers (name, patterns, seen_at) select name, patterns, seen_at
                     from webhooks_handlers where true
                   on conflict (name) do update set patterns = excluded.patterns"""
            )
        )
        connection.execute(
            text(
                "insert into webhooks_processes (id, kind, started_at, heartbeat_at, version, handlers) select 'old', "
                "'worker', seen_at, seen_at, '0', '[\"cut\"]' from webhooks_handlers where name = 'cut'"
            )
        )
    assert made.store.handlers.states(["cut"])["cut"].queue == "video"
    (process,) = made.store.processes.running()
    assert process.serves("video"), "it runs all that it knows"


def test_a_worker_tells_how_long_runs_take_and_the_rows_outlive_it(made: Any) -> None:
    made.put(3, "cut")
    with made.running(queues=VIDEO, heartbeat=timedelta(seconds=0.05)):
        made.wait_for(DeliveryState.SUCCEEDED, 3)
        wait_until(lambda: made.store.handlers.states(["cut"])["cut"].run_seconds is not None, what="the mean")
    assert 0 <= made.store.handlers.states(["cut"])["cut"].run_seconds < 5
    assert made.store.gauges.read().handlers["cut"].run_seconds is not None
    assert made.store.handlers.states(["plain"])["plain"].run_seconds is None
    made.store.handlers.note_runs({"plain": 2.5, "nobody": 1.0})
    made.store.handlers.register(handler_rows(made.registry))
    assert made.store.handlers.states(["plain"])["plain"].run_seconds == 2.5


def test_handlers_are_shown_with_their_queue_registered_here_or_not(made: Any) -> None:
    here = [handler for handler in made.registry.handlers() if handler.name != "cut"]
    views = view(here, on_record(made.store))
    assert {each.name: (each.queue, each.is_registered) for each in views} == {
        "plain": ("default", True),
        "cut": ("video", False),
        "send": ("mail", True),
    }
    assert handler_json(views[0])["queue"] == "video"
