"""A renamed handler keeps what is stored of it, while processes of the old code and of the new one work side by side."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.conftest import Consumer
from tests.integration.rig import Rig, rig
from tests.support import wait_until
from webhooks.database import tables as schema
from webhooks.errors import InvalidHandler, NotFound
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.operations import Actor, FormerNames, Via, former_names, handler_names, take_over
from webhooks.routing import Registry, Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BreakerState, HandlerRow
from webhooks.store.tallies import Kind

pytestmark = pytest.mark.one_database

OLD, NEW = "leads.old", "leads.new"
NAMES = {NEW: (OLD,)}
PENDING, RUNNING, SUCCEEDED, DEAD = (
    DeliveryState.PENDING, DeliveryState.RUNNING, DeliveryState.SUCCEEDED, DeliveryState.DEAD,
)  # fmt: skip


@pytest.fixture
def old(database_url: str) -> Iterator[Rig]:
    """A process of the code in which the handler has its old name."""
    with rig(database_url) as made:
        yield made


@pytest.fixture
def new(database_url: str) -> Iterator[Rig]:
    """One of the code in which it has the new one."""
    with rig(database_url) as made:
        yield made


def known(made: Rig, name: str) -> None:
    made.store.handlers.register([HandlerRow(name, ["**"])])


def row(made: Rig, id: int) -> Any:
    with made.database.read() as connection:
        return connection.execute(select(schema.deliveries).where(schema.deliveries.c.id == id)).one()


def end(made: Rig, handler: str, state: DeliveryState) -> None:
    outcome = AttemptOutcome.SUCCEEDED if state is SUCCEEDED else AttemptOutcome.FAILED
    claimed = made.claim(handler)
    made.store.deliveries.finish([Finished(claimed.delivery, Verdict(state, outcome, reason="r", error="e"))])


def renamed(new: Rig) -> None:
    known(new, NEW)
    take_over(new.store, NAMES)


def test_what_waits_runs_or_is_dead_gets_the_new_name(old: Rig, new: Rig) -> None:
    known(old, OLD)
    dead, running, waits = (old.put(1, OLD)[0] for _ in range(3))
    end(old, OLD, DEAD)
    claimed = old.claim(OLD)
    renamed(new)
    assert [row(new, id).handler for id in (dead, running, waits)] == [NEW, NEW, NEW]
    assert not new.store.handler_names.is_left(OLD)
    old.store.deliveries.finish([Finished(claimed.delivery, Verdict(SUCCEEDED, AttemptOutcome.SUCCEEDED))])
    assert row(new, running).state == SUCCEEDED
    assert new.claim(NEW).delivery.id == waits


def test_pause_breaker_and_figures_pass_to_the_new_name(old: Rig, new: Rig) -> None:
    known(old, OLD)
    known(new, NEW)
    old.store.handlers.pause(OLD, "ada")
    with old.database.write() as connection:
        values = {"breaker": BreakerState.OPEN, "breaker_failures": 7}
        connection.execute(schema.handlers.update().where(schema.handlers.c.name == OLD).values(**values))
        point = {"span": 1, "at": 5, "what": 0, "bucket": 3}
        rows = [
            {**point, "kind": int(Kind.RUNS), "name": OLD, "n": 2},
            {**point, "kind": int(Kind.RUNS), "name": NEW, "n": 3},
            {**point, "kind": int(Kind.LEVELS), "name": OLD, "n": 4},
            {**point, "kind": int(Kind.REQUESTS), "name": OLD, "n": 9},  # of a source that is called so
        ]
        connection.execute(schema.tallies.insert(), rows)
    renamed(new)
    states = new.store.handlers.states()
    assert (states[NEW].paused, states[NEW].paused_by) == (True, "ada")
    assert (states[NEW].breaker, states[NEW].breaker_failures) == (BreakerState.OPEN, 7)
    assert (states[OLD].paused, states[OLD].renamed_to) == (True, NEW)
    with new.database.read() as connection:
        tallies = schema.tallies.c
        kept = {
            (row.kind, row.name): row.n for row in connection.execute(select(tallies.kind, tallies.name, tallies.n))
        }
    assert kept == {(Kind.RUNS, NEW): 5, (Kind.LEVELS, NEW): 4, (Kind.REQUESTS, OLD): 9}


def test_it_is_begun_once_and_nothing_happens_where_there_never_was_the_old_one(old: Rig, new: Rig) -> None:
    renamed(new)
    assert new.database.former_names == {}
    known(old, OLD)
    renamed(new)
    first = new.store.handler_names.begin(OLD, NEW)
    new.store.handlers.pause(NEW, "ada")
    known(old, OLD)  # a process of the old code is started again
    assert new.store.handler_names.begin(OLD, NEW) == first
    assert new.store.handlers.states()[NEW].paused


def test_the_order_of_a_lane_holds_though_old_and_new_processes_add_to_it(old: Rig, new: Rig) -> None:
    known(old, OLD)
    (first,) = old.put(1, OLD, lane="l", at=1)
    renamed(new)
    (third,) = new.put(1, NEW, lane="l", at=3)
    (second,) = old.put(1, OLD, lane="l", at=2)  # which is not seen by those that know the new name
    new.put(1, NEW, lane="l", at=4)  # until something changes the lane
    assert [row(new, id).handler for id in (first, second, third)] == [NEW, NEW, NEW]
    for id in (first, second, third):
        claimed = new.claim(NEW)
        assert claimed.delivery.id == id
        new.store.deliveries.finish([Finished(claimed.delivery, Verdict(SUCCEEDED, AttemptOutcome.SUCCEEDED))])


def test_what_runs_in_an_old_worker_holds_its_lane_until_it_has_ended(old: Rig, new: Rig) -> None:
    known(old, OLD)
    (first,) = old.put(1, OLD, lane="l", at=1)
    (second,) = old.put(1, OLD, lane="l", at=2)
    claimed = old.claim(OLD)
    assert claimed.delivery.id == first
    renamed(new)
    (third,) = new.put(1, NEW, lane="l", at=0)  # even if it is older
    assert not any(row(new, id).ready for id in (second, third))
    old.store.deliveries.finish([Finished(claimed.delivery, Verdict(SUCCEEDED, AttemptOutcome.SUCCEEDED))])
    new.store.handler_names.step(OLD, NEW)
    assert new.claim(NEW).delivery.id == third


def test_a_dead_delivery_goes_on_holding_its_lane(old: Rig, new: Rig) -> None:
    known(old, OLD)
    (first,) = old.put(1, OLD, lane="l", at=1)
    old.put(1, OLD, lane="l", at=2)
    claimed = old.claim(OLD)
    dead = Verdict(DEAD, AttemptOutcome.FAILED, reason="r", error="e")
    old.store.deliveries.finish([Finished(claimed.delivery, dead, holds_lane=True)])
    renamed(new)
    assert (row(new, first).handler, row(new, first).blocks) == (NEW, True)
    (blocked,) = new.store.listings.blocked_lanes(handler_selection(NEW))
    assert (blocked.holder.id, blocked.waiting) == (first, 1)


def handler_selection(name: str) -> Any:
    from webhooks.selection import Selection

    return Selection(handler=name)


def test_a_newer_mark_of_the_old_lane_makes_older_events_stale(old: Rig, new: Rig) -> None:
    known(old, OLD)
    old.put(1, OLD, lane="l", at=5)
    end(old, OLD, SUCCEEDED)
    renamed(new)
    (late,) = old.put(1, OLD, lane="l", at=1)
    new.store.handler_names.step(OLD, NEW)
    assert (row(new, late).handler, row(new, late).stale) == (NEW, True)


def test_a_handler_can_get_its_old_name_back(old: Rig, new: Rig) -> None:
    known(old, OLD)
    renamed(new)
    (id,) = new.put(1, NEW, lane="l")
    take_over(old.store, {OLD: (NEW,)})
    states = old.store.handlers.states()
    assert (states[OLD].paused, states[OLD].renamed_to) == (False, None)
    assert states[NEW].renamed_to == OLD
    assert row(old, id).handler == OLD


def test_workers_that_know_only_the_old_name_are_given_time_to_feel_the_pause(old: Rig, new: Rig) -> None:
    slept: list[float] = []
    known(old, OLD)
    take_over(new.store, NAMES, sleep=slept.append)
    assert slept == []  # none lives
    old.registry.on("**", name=OLD)(lambda event: None)
    with old.running():
        wait_until(lambda: bool(new.store.processes.running()))
        take_over(new.store, {NEW: (OLD,), "another": ()}, sleep=slept.append)
    assert len(slept) == 1
    assert 0 < slept[0] <= 3


def test_every_event_runs_once_and_in_order_while_old_and_new_workers_run(old: Rig, new: Rig) -> None:
    ran: list[tuple[str, str]] = []
    lock = threading.Lock()
    old.registry.on("**", name=OLD)(note_body(ran, lock))
    new.registry.on("**", name=NEW, formerly=(OLD,))(note_body(ran, lock))
    assert former_names(new.registry) == NAMES
    times = itertools.count(1.0)  # each look is later than the one before by a second
    duty = FormerNames(new.store, NAMES, monotonic=lambda: next(times))
    with old.running() as worker:
        for n in range(5):
            for lane in "ab":
                old.put(1, OLD, lane=lane, at=n, body=b'"%s%d"' % (lane.encode(), n))
        new.store.handlers.register([HandlerRow(NEW, ["**"])])
        take_over(new.store, NAMES)
        # one that cannot ask for three seconds, on a busy machine say, may begin another run: not promised, and not this test's
        wait_until(lambda: worker.runner.breaker.is_closed_to(OLD), what="the worker of the old code to feel the pause")
        with new.running():
            for n in range(5, 15):
                for lane in "ab":
                    made, name = (old, OLD) if n % 2 else (new, NEW)
                    made.put(1, name, lane=lane, at=n, body=b'"%s%d"' % (lane.encode(), n))

            def is_done() -> bool:
                duty.tick("test")
                return len(ran) >= 30

            wait_until(is_done)
    assert len(ran) == len(set(ran)) == 30
    for lane in "ab":
        assert [n for where, n in ran if where == lane] == [str(n) for n in range(15)]


def note_body(ran: list[tuple[str, str]], lock: Any) -> Any:
    def note(raw: bytes) -> None:
        text = raw.decode().strip('"')
        with lock:
            ran.append((text[0], text[1:]))

    return note


def test_the_command_refuses_names_that_are_not_there(old: Rig, new: Rig) -> None:
    actor = Actor("ada", Via.CLI)
    known(old, OLD)
    with pytest.raises(NotFound, match=r"no handler 'leads\.odl' is on record \(did you mean 'leads\.old'\?\)"):
        handler_names.rename(new.store, new.registry, "leads.odl", NEW, actor=actor)
    with pytest.raises(NotFound, match=r"no handler 'leads\.new' is registered here"):
        handler_names.rename(new.store, new.registry, OLD, NEW, actor=actor)
    new.registry.on("**", name=NEW)(lambda event: None)
    (id,) = old.put(1, OLD)
    assert handler_names.rename(new.store, new.registry, OLD, NEW, actor=actor).moved == 1
    assert row(new, id).handler == NEW
    old.registry.on("**", name=OLD)(lambda event: None)
    with pytest.raises(InvalidHandler, match="is registered here; give it its new name in the code first"):
        handler_names.rename(old.store, old.registry, OLD, NEW, actor=actor)


def test_a_worker_takes_over_what_its_handlers_were_called(old: Rig, make_consumer: Callable[..., Consumer]) -> None:
    known(old, OLD)
    (id,) = old.put(1, OLD, lane="l")
    registry = Registry()
    registry.on("**", name=NEW, formerly=(OLD,))(lambda event: None)
    webhooks = make_consumer(registry).webhooks
    worker = webhooks.make_worker(slots=1)
    assert row(old, id).handler == NEW
    (late,) = old.put(1, OLD, lane="l")
    assert worker.maintenance is not None
    (duty,) = [each for each in worker.maintenance.duties if isinstance(each, FormerNames)]
    duty.tick("test")
    assert row(old, late).handler == NEW


def test_the_order_of_retries_is_kept(old: Rig, new: Rig) -> None:
    """A failed one of the old worker that waits for its retry stays the head of its lane under the new name."""
    known(old, OLD)
    (first,) = old.put(1, OLD, lane="l", at=1)
    (second,) = old.put(1, OLD, lane="l", at=2)
    claimed = old.claim(OLD)
    renamed(new)
    wait = Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=1), reason="r", error="e")
    old.store.deliveries.finish([Finished(claimed.delivery, wait)])
    new.store.handler_names.step(OLD, NEW)
    assert (row(new, first).handler, row(new, first).ready) == (NEW, True)
    assert not row(new, second).ready
