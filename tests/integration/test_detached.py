"""Replays that a worker makes: each once, whatever ends in between, and by one worker at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.integration.rig import Rig, rig
from tests.support import wait_until
from webhooks.model import DeliveryState
from webhooks.operations import Actor, DetachedReplays, Options, Replayer
from webhooks.operations.detached import LEADERSHIP
from webhooks.selection import Selection
from webhooks.store.replays import ReplayState

pytestmark = pytest.mark.one_database

PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState
LONG = timedelta(seconds=30)


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        made.on("h")(lambda: None)
        made.put(6)
        yield made


class Fleet:
    """Workers' duties over one database, whose clocks run as told."""

    def __init__(self, made: Rig) -> None:
        self.made = made
        self.at = 0.0
        self.duties: list[DetachedReplays] = []
        #: called before each chunk is made
        self.before_chunk: Callable[[], None] = lambda: None

    def replayer(self) -> Replayer:
        fleet = self

        class Watched(Replayer):
            def pairs(self, *arguments, **more):  # type: ignore[no-untyped-def]
                fleet.before_chunk()
                return super().pairs(*arguments, **more)

        return Watched(store=self.made.store, registry=self.made.registry, chunk=2)

    def worker(self) -> DetachedReplays:
        self.duties.append(DetachedReplays(self.replayer, self.made.store, monotonic=lambda: self.at))
        return self.duties[-1]

    def detach(self, options: Options | None = None) -> int:
        replayer = Replayer(store=self.made.store, registry=self.made.registry)
        return replayer.start(replayer.plan(Selection(), options), actor=Actor("ines"), detached=True).id

    def finish(self, duty: DetachedReplays) -> None:
        wait_until(lambda: not duty.is_running, LONG, "the duty is over")

    def tick(self, duty: DetachedReplays, holder: str) -> None:
        """A round, after the time that lies between two looks, and its end."""
        self.at += 10
        duty.tick(holder)
        self.finish(duty)

    def state(self, id: int) -> tuple[ReplayState, int]:
        replay = self.made.store.replays.get(id)
        assert replay is not None
        return replay.state, replay.deliveries


@pytest.fixture
def fleet(made: Rig) -> Iterator[Fleet]:
    fleet = Fleet(made)
    yield fleet
    for duty in fleet.duties:
        duty.wait(LONG)
        assert not duty.is_running


def test_a_worker_makes_what_is_on_record_and_says_so_once(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    id, duty = fleet.detach(), fleet.worker()
    assert fleet.state(id) == (ReplayState.OPEN, 0)
    with caplog.at_level(logging.INFO, "webhooks.operations"):
        fleet.tick(duty, "a")
        fleet.tick(duty, "a")
    assert fleet.state(id) == (ReplayState.DONE, 6)
    assert [record.getMessage() for record in caplog.records] == [f"replay {id}: 6 deliveries made for ines"]


def test_a_replay_that_a_command_makes_is_left_to_it(fleet: Fleet) -> None:
    replayer = fleet.replayer()
    attached = replayer.start(replayer.plan(Selection()), actor=Actor("ines"))
    fleet.tick(fleet.worker(), "a")
    assert fleet.state(attached.id) == (ReplayState.OPEN, 0)


def test_a_worker_that_ends_stops_after_a_chunk_and_another_continues(fleet: Fleet) -> None:
    id, first, second = fleet.detach(), fleet.worker(), fleet.worker()
    fleet.before_chunk = first.stop  # while a chunk is in hand
    fleet.tick(first, "a")
    assert fleet.state(id) == (ReplayState.OPEN, 2)
    fleet.before_chunk = lambda: None
    fleet.tick(second, "a")
    assert fleet.state(id) == (ReplayState.DONE, 6)


def test_while_one_worker_makes_replays_no_other_does(fleet: Fleet) -> None:
    id = fleet.detach()
    assert fleet.made.store.processes.acquire(LEADERSHIP, "a", LONG)
    fleet.tick(fleet.worker(), "b")
    assert fleet.state(id) == (ReplayState.OPEN, 0)


def test_one_that_is_cancelled_meanwhile_is_let_go(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    id, other = fleet.detach(), fleet.detach(Options(limit=3))

    def cancel() -> None:
        fleet.made.store.replays.close(id)

    fleet.before_chunk = cancel
    with caplog.at_level(logging.INFO, "webhooks.operations"):
        fleet.tick(fleet.worker(), "a")
    assert fleet.state(id) == (ReplayState.CANCELLED, 0)
    assert fleet.state(other) == (ReplayState.DONE, 3)
    assert f"replay {id}: replay {id} is cancelled; this process stops" in caplog.text


def test_a_handler_that_this_worker_lacks_is_left_to_others(fleet: Fleet) -> None:
    fleet.made.on("elsewhere")(lambda: None)
    id = fleet.detach(Options(handler="elsewhere"))
    whole = fleet.made.registry
    fleet.made.registry = type(whole)()
    fleet.tick(fleet.worker(), "a")
    assert fleet.state(id) == (ReplayState.OPEN, 0)
    fleet.made.registry = whole
    fleet.tick(fleet.worker(), "a")
    assert fleet.state(id) == (ReplayState.DONE, 6)


def test_a_fault_is_said_and_tried_again_after_a_minute(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    id, duty = fleet.detach(), fleet.worker()

    def fail() -> None:
        raise RuntimeError("a fault")

    fleet.before_chunk = fail
    fleet.tick(duty, "a")
    assert f"replay {id} failed and is tried again" in caplog.text
    fleet.before_chunk = lambda: None
    fleet.tick(duty, "a")
    assert fleet.state(id) == (ReplayState.OPEN, 0)
    fleet.at += 60
    fleet.tick(duty, "a")
    assert fleet.state(id) == (ReplayState.DONE, 6)


def test_the_replays_of_a_worker_are_run_by_it(made: Rig) -> None:
    """The whole: asked for, made by the duty of a worker, run by that worker."""
    replayer = Replayer(store=made.store, registry=made.registry)
    replay = replayer.start(replayer.plan(Selection()), actor=Actor("ines"), detached=True)
    duty = DetachedReplays(lambda: replayer, made.store)
    with made.running():
        duty.tick("w")
        wait_until(lambda: made.store.replays.progress(replay.id).get(SUCCEEDED) == 6, LONG, "all have run")
    duty.wait(LONG)
