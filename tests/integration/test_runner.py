"""A runner without a claim loop, as another engine uses it: here are claimed deliveries, run and record them."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import SOON, Rig, effects, rig
from tests.support import wait_until
from webhooks.delivery import IsolatedPool, Runner, RunnerSettings
from webhooks.delivery.attempt import Cause
from webhooks.errors import NoConnection, StorageUnavailable
from webhooks.model import DeliveryClass, DeliveryState

pytestmark = pytest.mark.one_database

PENDING, RUNNING, SUCCEEDED = DeliveryState.PENDING, DeliveryState.RUNNING, DeliveryState.SUCCEEDED


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url, timeout=timedelta(seconds=30)) as made:
        yield made


@contextlib.contextmanager
def running(made: Rig, **settings: Any) -> Iterator[Runner]:
    """A runner of the rig's handlers."""
    runner = Runner(
        store=made.store,
        registry=made.registry,
        dispatcher=made.dispatcher,
        settings=RunnerSettings(**{"slots": 2, **settings}),
        version="test",
        isolated=IsolatedPool(command=None, dispatcher=made.dispatcher, store=made.store),
        kind="other",
    )
    with runner.running():
        yield runner


def claim(made: Rig, runner: Runner, n: int = 100, handler: str = "h") -> list[Any]:
    quotas = {(handler, kind): n for kind in DeliveryClass}
    return made.store.deliveries.claim(quotas, lease=runner.settings.lease, worker=runner.id)


def test_what_it_is_given_is_run_and_recorded_when_it_returns(made: Rig) -> None:
    @made.on()
    def h(event: Any) -> None:
        if event.raw == b"fail":
            raise LookupError("gone")

    @made.on("s")
    def s(session: Any) -> None:
        session.execute(effects.insert().values(what="one"))

    good, bad, with_session = made.put(3), made.put(1, body=b"fail"), made.put(2, "s")
    with running(made) as runner:
        until = runner.lease_until()
        runner.run([*claim(made, runner), *claim(made, runner, handler="s")], until)
        assert [made.outcomes(id) for id in good + with_session] == [["succeeded"]] * 5
        assert made.outcomes(bad[0]) == ["failed"]
        assert made.row(bad[0]).state == PENDING
        assert made.count_effects() == 2
        assert len(runner.ledger) == 0
        assert made.row(good[0]).worker.startswith("other:")


def test_the_orm_is_imported_before_any_thread_could(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that makes a statement while another imports `sqlalchemy.orm` for the first time fails."""
    monkeypatch.delitem(sys.modules, "webhooks.session.orm", raising=False)
    made.on("plain")(lambda: None)
    with running(made):
        assert "webhooks.session.orm" not in sys.modules, "it takes long, and only sessions need it"
    made.on()(lambda session: None)
    with running(made):
        assert "webhooks.session.orm" in sys.modules


def test_any_number_of_threads_may_have_theirs_run_at_once(made: Rig) -> None:
    gate = threading.Event()

    @made.on()
    def h(event: Any) -> None:
        if event.raw == b"late":
            gate.wait(30)

    (late,) = made.put(1, body=b"late")
    with running(made) as runner:
        first = claim(made, runner)
        thread = threading.Thread(target=lambda: runner.run(first, runner.lease_until()))
        thread.start()
        quick = made.put(3)
        runner.run(claim(made, runner), runner.lease_until())
        assert [made.outcomes(id) for id in quick] == [["succeeded"]] * 3
        assert made.outcomes(late) == []
        gate.set()
        thread.join(timeout=30)
        assert made.outcomes(late) == ["succeeded"]


def test_its_attempts_are_timed_out_and_their_leases_are_kept(made: Rig) -> None:
    gate = threading.Event()
    made.on(timeout=timedelta(seconds=0.2), retry=SOON)(lambda: gate.wait(30))
    made.on("g", timeout=timedelta(seconds=30))(lambda: gate.wait(30))
    (hanging,), (running_on,) = made.put(1, "h"), made.put(1, "g")
    with running(made, heartbeat=timedelta(seconds=0.05), lease=timedelta(seconds=2)) as runner:
        runner.run(claim(made, runner), runner.lease_until())
        assert made.outcomes(hanging) == ["timed-out"]
        (attempt,) = runner.accept(claim(made, runner, handler="g"), runner.lease_until())
        before = made.row(running_on).lease_until
        wait_until(lambda: made.row(running_on).lease_until > before)
        assert attempt.cause is None
        gate.set()


def test_what_another_process_has_taken_over_ends_without_a_record(made: Rig) -> None:
    gate = threading.Event()
    made.on()(lambda: gate.wait(30))
    (id,) = made.put()
    with running(made, heartbeat=timedelta(seconds=0.2)) as runner:  # each beat takes SQLite's one lock
        claimed = claim(made, runner)
        thread = threading.Thread(target=lambda: runner.run(claimed, runner.lease_until()))
        thread.start()
        wait_until(lambda: runner.buffer.running())
        (attempt,) = runner.buffer.running()
        made.store.deliveries.fence(attempt.delivery)
        wait_until(lambda: attempt.cause is Cause.LEASE_LOST)
        gate.set()
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert made.outcomes(id) == []
    assert made.row(id).state == RUNNING


def test_a_database_that_is_away_for_a_while_costs_time_only(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    made.on()(lambda: None)
    (id,) = made.put()
    real, refusals = made.store.deliveries.finish, [0]

    def finish(*arguments: Any, **options: Any) -> Any:
        refusals[0] += 1
        if refusals[0] <= 2:
            raise StorageUnavailable("away")
        return real(*arguments, **options)

    monkeypatch.setattr(made.store.deliveries, "finish", finish)
    with running(made) as runner:
        runner.run(claim(made, runner), runner.lease_until())
    assert made.outcomes(id) == ["succeeded"]


def test_one_that_waits_for_a_connection_is_waited_for(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    made.on()(lambda session: None)
    (id,) = made.put()
    real, refusals = made.sessions.open, [0]

    def refuse() -> Any:
        refusals[0] += 1
        if refusals[0] <= 2:
            raise NoConnection("too many connections")
        return real()

    monkeypatch.setattr(made.sessions, "open", refuse)
    with running(made) as runner:
        runner.run(claim(made, runner), runner.lease_until())
        assert made.outcomes(id) == ["succeeded"]
        assert made.row(id).attempts == 1


def test_one_that_ends_gives_back_what_no_thread_has_begun(made: Rig) -> None:
    gate = threading.Event()
    made.on()(lambda: gate.wait(30))
    ids = made.put(5)
    with running(made, slots=1) as runner:
        runner.accept(claim(made, runner), runner.lease_until())
        wait_until(lambda: runner.buffer.running())

        def open_when_given_back() -> None:
            wait_until(lambda: made.states().count(PENDING) == 4)
            gate.set()

        opens = threading.Thread(target=open_when_given_back)
        opens.start()
    opens.join()
    assert sorted(made.states()) == [PENDING] * 4 + [SUCCEEDED]
    assert len(ids) == 5


def test_what_must_wait_for_a_thread_in_its_lane_holds_up_no_call_and_is_recorded_later(made: Rig) -> None:
    gate = threading.Event()

    @made.on(ordered_by="object_id", timeout=timedelta(seconds=0.2), retry=SOON)
    def h() -> None:
        gate.wait(30)

    (id,) = made.put(lane="l")
    with running(made) as runner:
        runner.start_recording()
        runner.run(claim(made, runner), runner.lease_until())  # returns though its thread hangs
        assert made.outcomes(id) == []
        assert made.row(id).state == RUNNING
        gate.set()
        wait_until(lambda: made.outcomes(id) == ["timed-out"], what="it to be recorded with nothing waiting for it")
