"""The worker in this process: time-outs, limits, breakers, leases, stopping. Real processes are in tests/acceptance."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.rig import SOON, Rig, effects, rig
from tests.support import allowed, patience, wait_until
from webhooks import signals
from webhooks.database import LOCK_PATIENCE
from webhooks.database.connect import connect
from webhooks.delivery import REPLACE, STOPPED
from webhooks.delivery.breaker import CircuitBreaker
from webhooks.errors import Locked, NoConnection, StorageUnavailable
from webhooks.formats import frames_of
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.routing import RetryPolicy, Verdict
from webhooks.session import Sessions
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BreakerState, HandlerRow

pytestmark = pytest.mark.one_database

ONE = effects.insert().values(what="one")
NEVER = RetryPolicy(max_attempts=9, base=timedelta(hours=1), cap=timedelta(hours=1))
PENDING, RUNNING, SUCCEEDED, DEAD = (
    DeliveryState.PENDING, DeliveryState.RUNNING, DeliveryState.SUCCEEDED, DeliveryState.DEAD,
)  # fmt: skip


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url, timeout=timedelta(seconds=30)) as made:
        yield made


@pytest.fixture
def hasty(database_url: str) -> Iterator[Rig]:
    """Handlers that hang are timed out soon; those that do not have begun and ended by then, on a busy machine too."""
    with rig(database_url, timeout=timedelta(seconds=round(patience(0.2), 1))) as made:
        yield made


class Gate:
    """Where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._open.wait(30)
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._open.set()


# -- time-outs ---------------------------------------------------------------------------------------------


def test_a_handler_that_hangs_is_timed_out_retried_and_its_slot_replaced(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=RetryPolicy(2, timedelta(0), timedelta(0)))
    def h() -> None:
        gate()

    @hasty.on("g", timeout=timedelta(seconds=10))
    def g() -> None:
        pass

    (id,) = hasty.put()
    with hasty.running(slots=1):
        hasty.wait_for(DEAD)
        hasty.put(3, "g")
        hasty.wait_for(SUCCEEDED, 3)
        gate.open()
    assert hasty.outcomes(id) == ["timed-out", "timed-out"]
    limit = f"{hasty.timeout.total_seconds():g} s"
    assert hasty.row(id).reason == f"AttemptTimeout: it ran longer than its timeout of {limit} (attempt 2 of 2)"


def test_a_time_out_says_where_the_thread_stood(hasty: Rig) -> None:
    gate = Gate()
    stood: dict[int, str] = {}

    def has_timed_out(id: int) -> bool:
        return hasty.outcomes(id) == ["timed-out"]

    @hasty.on(retry=NEVER)
    def h() -> None:
        gate()

    @hasty.on("waits", retry=NEVER)
    async def waits() -> None:
        await asyncio.sleep(30)

    @hasty.on("blocks", retry=NEVER)
    async def blocks() -> None:
        gate()

    with hasty.running():
        for name, last in (("h", "__call__"), ("waits", "waits"), ("blocks", "__call__")):
            (id,) = hasty.put(1, name)
            wait_until(functools.partial(has_timed_out, id))
            stood[id] = last
        gate.open()
    limit = f"{hasty.timeout.total_seconds():g} s"
    for id, last in stood.items():
        error = hasty.store.deliveries.attempts([id])[0].error or ""
        assert error.startswith(f"AttemptTimeout: it ran longer than its timeout of {limit}\nwhere it stood then")
        [own] = [frame for frame in frames_of(error) if frame.file == __file__][-1:]
        assert own.name == last
        assert "dispatcher.py" not in error


def test_what_a_timed_out_handler_writes_never_commits(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h(session: Any) -> None:
        session.execute(ONE)
        gate()
        session.execute(ONE)

    (id,) = hasty.put()
    with hasty.running():
        wait_until(lambda: hasty.outcomes(id) == ["timed-out"])
        gate.open()
    assert hasty.count_effects() == 0


def test_an_async_handler_is_cancelled_and_its_loop_serves_on(made: Rig) -> None:
    cancelled: list[bool] = []

    @made.on(retry=NEVER, timeout=timedelta(seconds=patience(1)))  # it must have begun when its time is up
    async def h() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @made.on("g", timeout=timedelta(seconds=10))
    async def g() -> None:
        await asyncio.sleep(0)

    (id,) = made.put()
    with made.running() as worker:
        wait_until(lambda: made.outcomes(id) == ["timed-out"])
        made.put(1, "g")
        made.wait_for(SUCCEEDED)
        # its thread ends a moment after its coroutine, perhaps after the outcome is on record
        wait_until(lambda: worker.abandoned_threads == 0)
    assert cancelled == [True]


def test_an_async_handler_that_blocks_its_loop_is_left_with_it(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    async def h() -> None:
        gate()

    @hasty.on("g", timeout=timedelta(seconds=10))
    async def g() -> None:
        await asyncio.sleep(0)

    (id,) = hasty.put()
    with hasty.running() as worker:
        wait_until(lambda: hasty.outcomes(id) == ["timed-out"])
        hasty.put(1, "g")
        hasty.wait_for(SUCCEEDED)
        assert [attempt.delivery.id for attempt in worker.runner.ledger.abandoned()] == [id]
        gate.open()
        wait_until(lambda: worker.abandoned_threads == 0)


def test_who_was_blocked_by_another_on_its_loop_is_not_counted(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on("guilty", retry=NEVER, timeout=timedelta(seconds=30))
    async def guilty() -> None:
        gate()

    @hasty.on("innocent", retry=SOON)
    async def innocent() -> None:
        await asyncio.sleep(0)

    with hasty.running():
        hasty.put(1, "guilty")
        wait_until(lambda: gate.inside)
        (id,) = hasty.put(1, "innocent")
        hasty.wait_for(SUCCEEDED)
        gate.open()
        hasty.wait_for(SUCCEEDED, 2)
    assert hasty.outcomes(id) == ["timed-out", "succeeded"]
    assert hasty.row(id).failures == 0


@pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, BaseException])
def test_what_an_async_handler_raises_ends_nothing_but_its_attempt(made: Rig, raises: type[BaseException]) -> None:
    @made.on(retry=NEVER)
    async def h() -> None:
        raise raises

    @made.on("g", timeout=timedelta(seconds=10))
    async def g() -> None:
        await asyncio.sleep(0)

    (id,) = made.put()
    with made.running():
        wait_until(lambda: made.outcomes(id) == ["failed"])
        made.put(3, "g")
        made.wait_for(SUCCEEDED, 3)


def test_a_task_of_an_async_handler_that_exits_leaves_the_loop_alive(made: Rig) -> None:
    @made.on(timeout=timedelta(seconds=10))
    async def h() -> None:
        async def leave() -> None:
            raise SystemExit

        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])

    @made.on("g", timeout=timedelta(seconds=10))
    async def g() -> None:
        await asyncio.sleep(0)

    made.put(1, "h", "g")
    with made.running():
        made.wait_for(SUCCEEDED, 2)
        made.put(1, "g")
        made.wait_for(SUCCEEDED, 3)


def test_in_a_lane_the_next_run_waits_until_the_abandoned_thread_has_ended(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(ordered_by="object_id", retry=SOON)
    def h() -> None:
        if not gate.most:
            gate()

    first, second = hasty.put(lane="l", at=1) + hasty.put(lane="l", at=2)
    with hasty.running() as worker:
        wait_until(lambda: worker.abandoned_threads)
        wait_until(lambda: hasty.row(first).reason)
        assert (hasty.row(first).state, hasty.row(second).state) == (RUNNING, PENDING)
        assert "the next run waits until the thread" in hasty.row(first).reason
        gate.open()
        hasty.wait_for(SUCCEEDED, 2)
    assert hasty.outcomes(first) == ["timed-out", "succeeded"]


def test_a_worker_with_too_many_abandoned_threads_asks_to_be_replaced(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h() -> None:
        gate()

    ids = hasty.put(2)
    with hasty.running(abandoned_threads=2) as worker:
        wait_until(lambda: worker.has_ended.is_set())
        gate.open()
    assert [hasty.outcomes(id) for id in ids] == [["timed-out"], ["timed-out"]]


def test_replace_is_what_run_answers(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h() -> None:
        gate()

    hasty.put()
    with hasty.running(abandoned_threads=1) as worker:
        wait_until(lambda: hasty.result is not None)
        gate.open()
        assert not worker.is_stopping
    assert hasty.result == REPLACE


def test_a_lanes_abandoned_delivery_is_judged_as_timed_out_by_whoever_rescues_it(hasty: Rig) -> None:
    """The worker replaced itself, or was killed, before the abandoned thread ended."""
    gate = Gate()

    @hasty.on(ordered_by="object_id", retry=SOON)
    def h() -> None:
        if not gate.most:
            gate()

    (id,) = hasty.put(lane="l")
    with hasty.running(abandoned_threads=1, grace=timedelta(0)) as worker:
        wait_until(lambda: worker.has_ended.is_set())
    with hasty.running(maintenance=True):
        hasty.wait_for(SUCCEEDED)
    gate.open()
    assert hasty.outcomes(id) == ["timed-out", "succeeded"]
    assert not hasty.row(id).alone


# -- leases ------------------------------------------------------------------------------------------------


def lose(made: Rig, id: int) -> None:
    """Take the delivery over, as a rescue elsewhere would."""
    claimed = made.store.deliveries.load(id)
    assert claimed is not None
    lost = made.store.deliveries.fence(claimed.delivery)
    assert lost is not None
    verdict = Verdict(PENDING, AttemptOutcome.LOST, wait=timedelta(hours=1), reason="lost", counts=False)
    assert made.store.deliveries.finish([Finished(lost, verdict)])


def test_who_comes_too_late_is_refused_with_one_line(made: Rig, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    @made.on(timeout=timedelta(seconds=30))
    def h() -> None:
        gate()

    (id,) = made.put()
    with made.running() as worker:
        wait_until(lambda: gate.inside)
        lose(made, id)
        gate.open()
        wait_until(lambda: not worker.runner.ledger.held())
    assert made.outcomes(id) == ["lost"]
    assert sum("was lost while it ran" in record.message for record in caplog.records) == 1


def test_a_heartbeat_that_finds_its_lease_gone_ends_the_session(made: Rig) -> None:
    gate = Gate()
    failures: list[str] = []

    @made.on(timeout=timedelta(seconds=30))
    def h(session: Any) -> None:
        gate()
        try:
            session.execute(ONE)
        except BaseException as error:
            failures.append(str(error))
            raise

    (id,) = made.put()
    with made.running(heartbeat=timedelta(seconds=0.02)) as worker:
        wait_until(lambda: gate.inside)
        lose(made, id)
        wait_until(lambda: not worker.runner.ledger.held())
        gate.open()
        wait_until(lambda: failures)
    assert made.count_effects() == 0
    assert made.outcomes(id) == ["lost"]


def test_leases_are_extended_while_a_handler_runs(made: Rig) -> None:
    gate = Gate()

    @made.on(timeout=timedelta(seconds=30))
    def h() -> None:
        gate()

    (id,) = made.put()
    with made.running(lease=timedelta(seconds=0.5), heartbeat=timedelta(seconds=0.05), maintenance=True):
        wait_until(lambda: gate.inside)
        before = made.row(id).lease_until
        wait_until(lambda: made.row(id).lease_until > before + timedelta(seconds=0.7))
        gate.open()
        made.wait_for(SUCCEEDED)
    assert made.outcomes(id) == ["succeeded"]


def test_what_waited_past_its_lease_is_not_begun(made: Rig) -> None:
    @made.on()
    def h() -> None:
        raise AssertionError("nothing may run this")

    (id,) = made.put()
    with made.running(lease=timedelta(0), heartbeat=timedelta(hours=1), slots=1):
        wait_until(lambda: made.row(id).attempts)
    assert made.outcomes(id) == []


def test_a_delivery_whose_lease_ran_out_is_rescued_and_runs_alone(made: Rig) -> None:
    seen: list[bool] = []

    @made.on()
    def h(delivery: Any) -> None:
        seen.append(delivery.alone)

    (id,) = made.put()
    made.claim(lease=timedelta(seconds=-1))
    with made.running(maintenance=True):
        made.wait_for(SUCCEEDED)
    assert seen == [True]
    assert made.outcomes(id) == ["lost", "succeeded"]
    assert made.row(id).failures == 0


# -- rows that another client has locked --------------------------------------------------------------------


@contextlib.contextmanager
def locked(url: str, statement: str, *parameters: Any) -> Iterator[Any]:
    """Another client's transaction that holds what `statement` locks, and is idle."""
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as client:
        client.execute(statement, parameters)
        yield client
        client.rollback()


@pytest.fixture
def brief(postgresql_url: str) -> Iterator[Rig]:
    """A worker's database: no statement waits long for a lock."""
    with rig(postgresql_url, lock_patience=LOCK_PATIENCE, timeout=timedelta(seconds=30)) as made:
        yield made


def test_a_locked_running_delivery_stops_no_lease_and_no_outcome_of_others(brief: Rig, postgresql_url: str) -> None:
    gate = Gate()

    @brief.on()
    def h() -> None:
        gate()

    @brief.on("g")
    def g() -> None:
        pass

    first, second = brief.put(2)
    with brief.running(lease=timedelta(seconds=1), heartbeat=timedelta(seconds=0.1), maintenance=True):
        wait_until(lambda: gate.inside == 2)
        with locked(postgresql_url, "select 1 from webhooks_deliveries where id = %s for update", first):
            lease = brief.row(second).lease_until
            wait_until(lambda: brief.row(second).lease_until > lease + timedelta(seconds=1.5))
            assert brief.row(first).lease_until < brief.row(second).lease_until, "its lease has run out meanwhile"
            gate.open()
            brief.put(20, "g")
            brief.wait_for(SUCCEEDED, 21)
            assert brief.row(first).state == RUNNING
        brief.wait_for(SUCCEEDED, 22)
    assert [brief.outcomes(id) for id in (first, second)] == [["succeeded"], ["succeeded"]]


def test_a_delivery_that_was_locked_past_its_lease_is_left_to_the_worker_that_runs_it(
    brief: Rig, postgresql_url: str
) -> None:
    gate = Gate()

    @brief.on()
    def h() -> None:
        gate()

    (id,) = brief.put()
    with brief.running(lease=timedelta(seconds=0.6), heartbeat=timedelta(seconds=0.1), maintenance=True):
        wait_until(lambda: gate.inside)
        with locked(postgresql_url, "select 1 from webhooks_deliveries where id = %s for update", id):
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 2)
        wait_until(lambda: brief.row(id).lease_until > brief.database.now())
        gate.open()
        brief.wait_for(SUCCEEDED)
    assert brief.outcomes(id) == ["succeeded"]


def test_after_a_table_was_locked_past_every_lease_nothing_runs_twice(brief: Rig, postgresql_url: str) -> None:
    gate = Gate()

    @brief.on()
    def h() -> None:
        gate()

    ids = brief.put(3)
    with brief.running(lease=timedelta(seconds=0.6), heartbeat=timedelta(seconds=0.1), maintenance=True):
        wait_until(lambda: gate.inside == 3)
        with locked(postgresql_url, "lock table webhooks_deliveries in access exclusive mode"):
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 2)
        wait_until(lambda: all(brief.row(id).lease_until > brief.database.now() for id in ids))
        gate.open()
        brief.wait_for(SUCCEEDED, 3)
    assert [brief.outcomes(id) for id in ids] == [["succeeded"]] * 3


def test_a_handler_that_locks_its_own_row_and_hangs_is_timed_out(brief: Rig) -> None:
    gate = Gate()

    @brief.on(timeout=timedelta(seconds=0.3), retry=RetryPolicy(1))
    def h(session: Any, delivery: Any) -> None:
        session.execute(text("select 1 from webhooks_deliveries where id = :id for update"), {"id": delivery.id})
        gate()

    (id,) = brief.put()
    with brief.running(slots=1):
        brief.wait_for(DEAD)
        gate.open()
    assert brief.outcomes(id) == ["timed-out"]


@pytest.mark.parametrize(
    "lock",
    [
        "select 1 from webhooks_lanes where lane = 'l' for update",
        "select 1 from webhooks_deliveries where lane = 'l' and state = 0 for update",
        "select 1 from webhooks_deliveries where lane = 'l' for update",
    ],
    ids=["lane", "next of the lane", "the whole lane"],
)
def test_a_locked_lane_holds_up_no_other_lane(brief: Rig, postgresql_url: str, lock: str) -> None:
    gate = Gate()

    @brief.on(ordered_by="object_id")
    def h() -> None:
        gate()

    brief.put(lane="l", at=1)
    with brief.running():
        wait_until(lambda: gate.inside == 1)
        brief.put(lane="l", at=2)
        with locked(postgresql_url, lock):
            gate.open()
            for at in range(5):
                brief.put(lane=f"other{at}", at=at)
            brief.wait_for(SUCCEEDED, 5)
            assert brief.states().count(SUCCEEDED) == 5
        brief.wait_for(SUCCEEDED, 7)


def test_a_locked_row_of_a_limited_handler_holds_up_no_other_limited_handler(brief: Rig, postgresql_url: str) -> None:
    for name in ("h", "g"):
        brief.on(name, concurrency=2)(lambda: None)
    with locked(postgresql_url, "select 1"):
        pass
    with brief.running():
        wait_until(lambda: set(brief.store.handlers.states()) == {"h", "g"})
        with locked(postgresql_url, "select 1 from webhooks_handlers where name = 'h' for update"):
            brief.put(3, "h")
            brief.put(20, "g")
            brief.wait_for(SUCCEEDED, 20)
        brief.wait_for(SUCCEEDED, 23)


def test_a_worker_starts_while_a_row_of_a_handler_is_locked(brief: Rig, postgresql_url: str) -> None:
    rows = [HandlerRow("h", ["**"]), HandlerRow("g", ["**"])]
    assert brief.store.handlers.register(rows) == []
    with locked(postgresql_url, "select 1 from webhooks_handlers where name = 'h' for update"):
        assert brief.store.handlers.register([*rows, HandlerRow("new", ["**"])]) == [rows[0]]
    assert set(brief.store.handlers.states()) == {"h", "g", "new"}


def test_a_locked_row_of_a_handler_does_not_keep_its_failures_from_being_counted(
    brief: Rig, postgresql_url: str
) -> None:
    @brief.on(retry=NEVER)
    def h() -> None:
        raise ConnectionError

    @brief.on("g")
    def g() -> None:
        pass

    with brief.running(slots=2):
        wait_until(lambda: "h" in brief.store.handlers.states())
        with locked(postgresql_url, "select 1 from webhooks_handlers where name = 'h' for update"):
            brief.put(12, "h")
            brief.put(20, "g")
            brief.wait_for(SUCCEEDED, 20)
            wait_until(lambda: brief.states().count(PENDING) == 12)
        brief.put(1, "h")
        wait_until(lambda: brief.store.handlers.states()["h"].breaker is BreakerState.OPEN)


def test_stopping_gives_back_all_but_what_is_locked(brief: Rig, postgresql_url: str) -> None:
    gate = Gate()

    @brief.on()
    def h() -> None:
        gate()

    ids = brief.put(8)
    with brief.running(slots=2) as worker:
        worker.runner.buffer.note_run("h", 0.01)  # fast enough to be claimed ahead
        wait_until(lambda: gate.inside == 2)
        worker.runner.recorder.wake()
        wait_until(lambda: brief.states().count(RUNNING) == 8)
        waiting = [id for id in ids if id not in {each.delivery.id for each in worker.runner.buffer.running()}]
        with locked(postgresql_url, "select 1 from webhooks_deliveries where id = %s for update", waiting[0]):
            worker.stop()
            wait_until(lambda: brief.states().count(PENDING) == 5)
            gate.open()
            wait_until(lambda: worker.has_ended.is_set())
    assert brief.row(waiting[0]).state == RUNNING, "its lease runs out"


def test_a_foreign_writer_that_holds_sqlite_past_every_lease_loses_nothing(sqlite_url: str) -> None:
    gate = Gate()
    with rig(sqlite_url) as made:

        @made.on()
        def h() -> None:
            gate()

        ids = made.put(3)
        with made.running(lease=timedelta(seconds=1), heartbeat=timedelta(seconds=0.1), maintenance=True):
            wait_until(lambda: gate.inside == 3)
            foreign = sqlite3.connect(str(made.database.path), isolation_level=None)
            foreign.execute("begin immediate")
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 3.5)
            foreign.execute("rollback")
            foreign.close()
            wait_until(lambda: all(made.row(id).lease_until > made.database.now() for id in ids))
            gate.open()
            made.wait_for(SUCCEEDED, 3)
        assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 3


# -- outcomes that are hard to store -----------------------------------------------------------------------


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a\0b"),
        ValueError("\ud800"),
        ValueError("x" * 50_000_000),
        NoText(),
        SystemExit("\0"),
        OSError(5, "\0"),
    ],
    ids=["NUL", "surrogate", "50 MB", "failing __str__", "exit", "os error"],
)
def test_a_failure_is_recorded_whatever_its_text(made: Rig, error: BaseException) -> None:
    @made.on(retry=NEVER)
    def h() -> None:
        raise error

    (id,) = made.put()
    with made.running():
        wait_until(lambda: made.outcomes(id) == ["failed"])
    (attempt,) = made.store.deliveries.attempts([id])
    assert attempt.error is not None
    assert len(attempt.error) < 10_100


def test_an_outcome_that_the_database_refuses_is_recorded_without_its_text(made: Rig) -> None:
    """Nothing of ours makes such a text any more; one that did would stop every other outcome of its batch."""

    @made.on(retry=NEVER)
    def h() -> None:
        raise LookupError

    ids = made.put(2)
    decide = made.dispatcher.outcomes.decide

    def spoil(*arguments: Any) -> Verdict:
        verdict = decide(*arguments)
        return Verdict(verdict.state, verdict.outcome, verdict.wait, "\ud800", "\0\ud800")

    made.dispatcher.outcomes.decide = spoil  # type: ignore[method-assign, assignment]
    with made.running():
        wait_until(lambda: [made.outcomes(id) for id in ids] == [["failed"], ["failed"]])
    assert {made.row(id).reason for id in ids} == {"its text could not be stored"}


def test_an_observer_that_exits_harms_nothing(made: Rig) -> None:
    def leave(sender: Any, **_: Any) -> None:
        raise SystemExit

    @made.on()
    def h() -> None:
        pass

    @made.on("s")
    def s(session: Any) -> None:
        session.execute(ONE)

    signals.delivery_succeeded.connect(leave)
    try:
        made.put(3, "h", "s")
        with made.running():
            made.wait_for(SUCCEEDED, 6)
    finally:
        signals.delivery_succeeded.disconnect(leave)
    assert made.count_effects() == 3


# -- limits across workers ---------------------------------------------------------------------------------


def test_concurrency_holds_over_two_workers(made: Rig) -> None:
    gate = Gate()

    @made.on(concurrency=3, timeout=timedelta(seconds=30))
    def h() -> None:
        gate()

    made.put(10)
    with made.running(), made.running():
        wait_until(lambda: gate.inside == 3)
        made.put(1)  # wakes both
        gate.open()
        made.wait_for(SUCCEEDED, 11)
    assert gate.most == 3


def test_a_rate_holds_over_two_workers(made: Rig) -> None:
    starts: list[float] = []

    @made.on(rate="20/s")
    def h() -> None:
        starts.append(time.monotonic())

    made.put(15)
    with made.running(), made.running():
        made.wait_for(SUCCEEDED, 15)
    for first, later in zip(starts, starts[10:], strict=False):
        assert later - first > 10 / 20 * 0.7, "never more than a tenth above the rate"


def noted(thing: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a method is called with from now on."""
    real, calls = getattr(thing, name), []

    def note(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(thing, name, note)
    return calls


@pytest.fixture
def made_on_postgresql(postgresql_url: str) -> Iterator[Rig]:
    with rig(postgresql_url) as made:
        yield made


def test_a_call_after_a_quiet_time_is_answered_without_a_look_at_what_waits(
    made_on_postgresql: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round trip less before a fresh event's handler starts; the look comes after, for whatever else is due."""
    made = made_on_postgresql
    looks: list[bool] = []  # whether something was pending then
    stored = served = 0

    @made.on()
    def h() -> None:
        pass

    with made.running(poll_interval=timedelta(seconds=60)) as worker:
        look, wait, serve = made.store.deliveries.waiting, worker.runner.recorder.wait, worker.runner.serve

        def noted_look(*arguments: Any) -> Any:
            looks.append(PENDING in made.states())
            return look(*arguments)

        def wait_for_an_event(until: float, *rest: Any) -> Any:
            """Where the worker begins to wait and nothing calls it any more, an event comes in."""
            nonlocal stored
            if stored == served < 10 and until > time.monotonic() + 30:
                batch, woken = wait(0.0)
                if batch or woken:
                    return batch, woken
                stored += 1
                made.put()
            return wait(until, *rest)

        def noted_serve(attempt: Any) -> Any:
            nonlocal served
            try:
                return serve(attempt)
            finally:
                served += 1
                worker.runner.recorder.wake()

        wait_until(lambda: worker.runner.breaker.is_known)
        monkeypatch.setattr(made.store.deliveries, "waiting", noted_look)
        monkeypatch.setattr(worker.runner, "serve", noted_serve)
        monkeypatch.setattr(worker.runner.recorder, "wait", wait_for_an_event)
        worker.runner.recorder.wake()
        made.wait_for(SUCCEEDED, 10)
    assert looks == [False] * len(looks)
    assert len(looks) >= 10


def test_a_call_after_a_quiet_time_claims_nothing_of_what_is_paused(
    made_on_postgresql: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_on_postgresql

    @made.on()
    def h() -> None:
        pass

    with made.running(poll_interval=timedelta(seconds=60)) as worker:
        wait_until(lambda: worker.runner.breaker.is_known)
        made.store.handlers.pause("h", "ines")

        def knows() -> bool:
            worker.runner.recorder.wake()
            return worker.runner.breaker.is_closed_to("h")

        wait_until(knows)
        claims = noted(made.store.deliveries, "claim", monkeypatch)
        looked = noted(worker.runner.breaker, "read", monkeypatch)
        made.put(3)
        before = len(looked)

        def looked_twice() -> bool:
            worker.runner.recorder.wake()
            return len(looked) > before + 1

        wait_until(looked_twice)
        assert made.states() == [PENDING] * 3
        assert claims == []


def test_pause_and_resume_are_felt_within_two_seconds(made: Rig) -> None:
    runs: list[float] = []

    @made.on()
    def h() -> None:
        runs.append(time.monotonic())

    with made.running(poll_interval=timedelta(seconds=1)):
        made.put()
        made.wait_for(SUCCEEDED)
        made.store.handlers.pause("h", "ines")
        paused = time.monotonic()
        wait_until(lambda: time.monotonic() - paused > 2)  # within two seconds everybody knows
        (held,) = made.put()
        made.store.handlers.pause("h", "ines")
        before = len(runs)
        assert (len(runs), made.row(held).state) == (before, PENDING)
        made.store.handlers.resume("h")
        resumed = time.monotonic()
        made.wait_for(SUCCEEDED, 2)
        assert time.monotonic() - resumed < allowed(2)


def test_a_paused_handler_does_not_hold_up_another(made: Rig) -> None:
    @made.on()
    def h() -> None:
        pass

    @made.on("g")
    def g() -> None:
        pass

    made.store.handlers.register([])
    ids = made.put(5, "h")
    made.put(5, "g")
    with made.running() as worker:
        made.store.handlers.pause("h", "ines")
        del worker
        made.wait_for(SUCCEEDED, 5)
    del ids


def test_a_delivery_for_a_handler_that_nobody_knows_waits(made: Rig) -> None:
    @made.on()
    def h() -> None:
        pass

    (strange,) = made.put(1, "unknown")
    made.put()
    with made.running(maintenance=True):
        made.wait_for(SUCCEEDED)
    assert (made.row(strange).state, made.row(strange).attempts) == (PENDING, 0)


# -- the circuit breaker -----------------------------------------------------------------------------------


def test_ten_first_failures_in_a_row_open_the_breaker_and_a_success_closes_it(made: Rig) -> None:
    broken = [True]

    @made.on(retry=NEVER)
    def h() -> None:
        if broken[0]:
            raise ConnectionError

    made.put(10)
    with made.running():
        wait_until(lambda: made.store.handlers.states()["h"].breaker is BreakerState.OPEN)
        assert made.store.handlers.states()["h"].breaker_failures == 10
        waiting = made.put(3)
        broken[0] = False
        made.store.handlers.open_breaker("h", 10, timedelta(0))  # its time has passed
        made.wait_for(SUCCEEDED, 3)
        assert made.store.handlers.states()["h"].breaker is BreakerState.CLOSED
    assert all(made.row(id).attempts == 1 for id in waiting)


def test_half_open_one_delivery_tries_and_its_failure_opens_for_longer(made: Rig) -> None:
    gate = Gate()

    @made.on(retry=NEVER, timeout=timedelta(seconds=30))
    def h() -> None:
        gate()
        raise ConnectionError

    made.store.handlers.register([])
    made.put(5)
    with made.running():
        wait_until(lambda: gate.inside)
        gate.open()
        wait_until(lambda: len([1 for state in made.states() if state is PENDING]) == 5)
    with made.running() as worker:
        made.store.handlers.open_breaker("h", 10, timedelta(0))
        wait_until(lambda: worker.runner.breaker.state_of("h") is not BreakerState.CLOSED)
        made.put(5)
        wait_until(lambda: made.store.handlers.states()["h"].breaker_failures == 11)
        state = made.store.handlers.states()["h"]
        assert state.breaker is BreakerState.OPEN
        assert state.breaker_until is not None
        assert state.breaker_until - made.database.now() > timedelta(seconds=45), "twice as long as the first time"


def test_the_failing_retries_of_what_is_poisoned_do_not_open_the_breaker(made: Rig) -> None:
    @made.on(retry=RetryPolicy(15, timedelta(0), timedelta(0)))
    def h() -> None:
        raise LookupError

    made.put(2)
    with made.running():
        made.wait_for(DEAD, 2)
    assert made.store.handlers.states()["h"].breaker is BreakerState.CLOSED


def test_failures_in_a_row_are_counted_over_workers_and_outlive_them(made: Rig) -> None:
    broken = [True]

    @made.on(retry=NEVER)
    def h() -> None:
        if broken[0]:
            raise ConnectionError

    for worker in range(2):
        made.put(4)
        with made.running():
            wait_until(
                lambda worker=worker: (
                    made.states().count(PENDING) == 4 * (worker + 1)
                    and not any(  # type: ignore[misc]
                        state is RUNNING for state in made.states()
                    )
                )
            )
            wait_until(lambda worker=worker: len(made.store.deliveries.attempts(made.ids())) == 4 * (worker + 1))  # type: ignore[misc]
        assert made.store.handlers.states()["h"].breaker_failures == 4 * (worker + 1)
    made.put(4)
    with made.running():
        wait_until(lambda: made.store.handlers.states()["h"].breaker is BreakerState.OPEN)
    assert made.store.handlers.states()["h"].breaker_failures == 10


def test_a_success_sets_the_count_of_all_workers_back(made: Rig) -> None:
    made.on()(lambda: None)
    made.store.handlers.register([HandlerRow("h", ["**"])])
    assert made.store.handlers.count_failures("h", 9, afresh=False) == 9
    made.put()
    with made.running():
        made.wait_for(SUCCEEDED)
    assert made.store.handlers.states()["h"].breaker_failures == 0
    assert made.store.handlers.count_failures("h", 2, afresh=False) == 2
    assert made.store.handlers.count_failures("h", 3, afresh=True) == 3


def failed_runs(made: Rig, number: int) -> list[Finished]:
    """First attempts of handler h that failed, not observed yet."""
    made.on()(lambda: None)
    made.store.handlers.register([HandlerRow("h", ["**"])])
    made.put(number)
    failed = Verdict(DeliveryState.PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=1))
    return [Finished(one.delivery, failed) for one in (made.claim() for _ in range(number))]


def succeeded(finished: Finished) -> Finished:
    return replace(finished, verdict=Verdict(DeliveryState.SUCCEEDED, AttemptOutcome.SUCCEEDED))


def make_breaker(made: Rig) -> CircuitBreaker:
    """What a worker knows of its handlers."""
    breaker = CircuitBreaker(made.store, {handler.name: handler for handler in made.registry.handlers()})
    breaker.read()
    return breaker


def test_failures_that_come_while_others_are_counted_open_the_breaker_with_them(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those on their way to the database nor those that come meanwhile are ten."""
    ended = failed_runs(made, 10)
    breaker = make_breaker(made)
    for _ in range(4):
        breaker.observe(ended.pop())
    count = made.store.handlers.count_failures

    def count_while_others_end(*arguments: Any, **options: Any) -> int:
        while ended:
            breaker.observe(ended.pop())
        return count(*arguments, **options)

    monkeypatch.setattr(made.store.handlers, "count_failures", count_while_others_end)
    breaker.read(oldest=0)
    assert breaker.is_closed_to("h")
    assert made.store.handlers.states()["h"].breaker is BreakerState.OPEN


def test_failures_of_two_workers_that_are_ten_together_open_the_breaker(made: Rig) -> None:
    """Neither has seen ten; who counts last knows."""
    ended = failed_runs(made, 10)
    workers = [make_breaker(made), make_breaker(made)]
    for number, finished in enumerate(ended):
        workers[number % 2].observe(finished)
    for worker in workers:
        worker.read(oldest=0)
    assert workers[1].is_closed_to("h")
    assert made.store.handlers.states()["h"].breaker is BreakerState.OPEN


def test_a_success_counts_where_the_failures_before_it_are_not_known_yet(made: Rig) -> None:
    """The worker whose run succeeds has last read that nothing failed."""
    ended = failed_runs(made, 12)
    here, there = make_breaker(made), make_breaker(made)
    for _ in range(6):
        here.observe(ended.pop())
    here.read(oldest=0)
    there.observe(succeeded(ended[0]))
    there.read(oldest=0)
    for finished in ended:
        here.observe(finished)
    here.read(oldest=0)
    state = made.store.handlers.states()["h"]
    assert (state.breaker, state.breaker_failures) == (BreakerState.CLOSED, 6)


def test_successes_of_a_handler_without_failures_write_nothing(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    finished, *_ = failed_runs(made, 1)
    breaker = make_breaker(made)
    counted = noted(made.store.handlers, "count_failures", monkeypatch)
    for _ in range(3):
        breaker.observe(succeeded(finished))
        breaker.read(oldest=0)
    assert counted == []


def test_a_breaker_that_could_not_be_opened_when_its_failures_were_counted_is_opened_later(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = failed_runs(made, 9)
    assert made.store.handlers.count_failures("h", 1, afresh=False) == 1
    breaker = CircuitBreaker(made.store, {handler.name: handler for handler in made.registry.handlers()})
    for finished in ended:  # nothing is known of the one before
        breaker.observe(finished)
    errors, open_breaker = iter([StorageUnavailable("away"), Locked("the row")]), made.store.handlers.open_breaker

    def open_unless_away(*arguments: Any) -> None:
        for error in errors:
            raise error
        open_breaker(*arguments)

    monkeypatch.setattr(made.store.handlers, "open_breaker", open_unless_away)
    with pytest.raises(StorageUnavailable):
        breaker.read()
    breaker.read()
    assert not breaker.is_closed_to("h"), "its row is locked"
    breaker.read(oldest=0)
    assert breaker.is_closed_to("h")
    state = made.store.handlers.states()["h"]
    assert (state.breaker, state.breaker_failures) == (BreakerState.OPEN, 10)


def test_a_breaker_that_opens_while_states_are_read_is_not_taken_for_closed(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs end in other threads than the one that reads; what it read a moment before is older than what they know."""
    ended = failed_runs(made, 10)
    breaker = make_breaker(made)
    read = made.store.handlers.states

    def read_and_then_fail(names: list[str] | None = None) -> Any:
        states = read(names)
        while ended:
            breaker.observe(ended.pop())
        return states

    monkeypatch.setattr(made.store.handlers, "states", read_and_then_fail)
    breaker.read(oldest=0)
    assert breaker.is_closed_to("h")


def test_a_success_is_counted_when_the_worker_ends_though_its_handlers_row_is_locked(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may be noting something in that row at this very moment."""
    made.on()(lambda: None)
    made.store.handlers.register([HandlerRow("h", ["**"])])
    assert made.store.handlers.count_failures("h", 9, afresh=False) == 9
    locked, count = iter([Locked("the row"), Locked("the row")]), made.store.handlers.count_failures

    def count_unless_locked(name: str, failures: int, *, afresh: bool) -> int:
        for error in locked:
            raise error
        return count(name, failures, afresh=afresh)

    monkeypatch.setattr(made.store.handlers, "count_failures", count_unless_locked)
    made.put()
    with made.running():
        made.wait_for(SUCCEEDED)
    assert made.store.handlers.states()["h"].breaker_failures == 0


def test_retries_that_hang_count_too(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=RetryPolicy(99, timedelta(0), timedelta(0)))
    def h() -> None:
        gate()

    hasty.put(1)
    with hasty.running(slots=4):
        wait_until(lambda: hasty.store.handlers.states()["h"].breaker is BreakerState.OPEN, timedelta(seconds=20))
        assert gate.inside == 10
        gate.open()


def test_a_handler_that_hangs_now_and_then_is_parked_by_its_threads(hasty: Rig) -> None:
    """Successes between them do not hide that ten threads are lost."""
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h(event: Any) -> None:
        if event.raw == b"1":
            gate()

    with hasty.running(slots=4):
        for hanging in range(1, 11):
            hasty.put(1, body=b"1")
            wait_until(lambda hanging=hanging: gate.inside == hanging)  # type: ignore[misc]
            hasty.put(1, body=b"0")
            hasty.wait_for(SUCCEEDED, hanging)
        wait_until(lambda: hasty.store.handlers.states()["h"].breaker is BreakerState.OPEN)
        gate.open()


def test_a_worker_is_replaced_once_in_ten_minutes_for_one_handler(
    hasty: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h() -> None:
        gate()

    hasty.put(2)
    with hasty.running(abandoned_threads=2) as worker:
        wait_until(lambda: worker.has_ended.is_set())
    for name, value in worker.to_be_replaced().items():
        monkeypatch.setenv(name, value)
    hasty.put(3)
    with hasty.running(abandoned_threads=2) as worker:
        wait_until(lambda: worker.abandoned_threads == 3)
        wait_until(lambda: "has just been replaced" in caplog.text)
        assert not worker.runner.replacement.is_due
        gate.open()


def test_a_worker_bears_four_abandoned_threads_for_each_of_its_slots(hasty: Rig) -> None:
    gate = Gate()

    @hasty.on(retry=NEVER)
    def h() -> None:
        gate()

    hasty.put(4)
    with hasty.running(slots=1) as worker:
        wait_until(lambda: worker.abandoned_threads == 4)
        assert not worker.runner.replacement.is_due
        hasty.put(1)
        wait_until(lambda: worker.has_ended.is_set())
        gate.open()


# -- stopping ----------------------------------------------------------------------------------------------


def test_a_stopping_worker_finishes_what_runs_and_gives_the_rest_back(made: Rig) -> None:
    gate = Gate()

    @made.on(timeout=timedelta(seconds=30))
    def h() -> None:
        gate()

    ids = made.put(8)
    with made.running(slots=2) as worker:
        wait_until(lambda: gate.inside == 2)
        worker.stop()
        gate.open()
    assert made.result == STOPPED
    assert [made.outcomes(id) for id in ids].count(["succeeded"]) == 2
    assert made.states().count(PENDING) == 6
    assert all(made.row(id).lease_until is None for id in ids)


@pytest.mark.parametrize("lane", [None, "l"])
def test_what_outlives_the_grace_period_is_given_back_uncounted(made: Rig, lane: str | None) -> None:
    gate = Gate()

    @made.on(timeout=timedelta(seconds=30), ordered_by="object_id" if lane else None)
    def h() -> None:
        if not gate.most:
            gate()

    (id,) = made.put(lane=lane)
    with made.running(grace=timedelta(0)) as worker:
        wait_until(lambda: gate.inside)
        worker.stop()
        wait_until(lambda: worker.has_ended.is_set())
        if lane:
            assert made.row(id).state == RUNNING, "the next of a lane waits for the end of this process"
        gate.open()
    with made.running(maintenance=True):
        made.wait_for(SUCCEEDED)
    assert made.outcomes(id) == ["released", "succeeded"]
    assert made.row(id).failures == 0


# -- a database that goes away -----------------------------------------------------------------------------


def test_workers_go_on_by_themselves_when_every_connection_was_cut(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        runs: list[int] = []

        @made.on()
        def h(event: Any) -> None:
            runs.append(event.id)

        other = connect(postgresql_url, application="cutter")

        def put() -> bool:
            try:
                made.put(5)
            except StorageUnavailable:
                return False  # as a sender would hear, and post again
            return True

        with made.running():
            for _ in range(3):
                wait_until(put)
                with other.read() as connection:
                    connection.exec_driver_sql(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where datname = current_database() and application_name in ('webhooks', 'webhooks handler', 'webhooks listen')"
                    )
                wait_until(put)
            wait_until(lambda: len(set(runs)) == 30)
            made.wait_for(SUCCEEDED, 30)
        other.dispose()


# -- connections that are short ----------------------------------------------------------------------------


def test_an_attempt_without_a_connection_is_none_and_is_made_when_there_is_one(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_, refusals = made.sessions.open, [0]

    def refuse() -> Any:
        refusals[0] += 1
        if refusals[0] <= 5:
            raise NoConnection("too many connections")
        return open_()

    monkeypatch.setattr(made.sessions, "open", refuse)

    @made.on(timeout=timedelta(seconds=60))
    def h(session: Any) -> None:
        session.execute(ONE)

    ids = made.put(4)
    with made.running():
        made.wait_for(SUCCEEDED, 4)
    assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 4
    assert [made.row(id).attempts for id in ids] == [1] * 4
    assert made.count_effects() == 4


def test_sixty_handlers_with_a_session_run_at_once_when_a_worker_was_told_so(postgresql_url: str) -> None:
    gate = Gate()
    with rig(postgresql_url) as made:
        made.sessions.dispose()
        made.sessions = made.dispatcher.sessions = Sessions(made.database)

        @made.on(timeout=timedelta(seconds=60))
        def h(session: Any) -> None:
            session.execute(ONE)
            gate()

        ids = made.put(60)
        with made.running(slots=60):
            wait_until(lambda: gate.inside == 60, timedelta(seconds=25))
            gate.open()
            made.wait_for(SUCCEEDED, 60)
        assert {tuple(made.outcomes(id)) for id in ids} == {("succeeded",)}
