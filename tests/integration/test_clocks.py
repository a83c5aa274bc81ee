"""A clock that is wrong for a while: nothing waits longer than it is wrong, and nothing is deleted because of it.

On SQLite each process has a clock of its own, so two `Rig`s over one file are two machines' ideas of the time. On
PostgreSQL the clock is the server's; that it was ahead is said by moving what it wrote.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.integration.rig import Rig
from tests.integration.test_cli import KEY, Cli
from tests.support import allowed, wait_until
from webhooks.app import Webhooks
from webhooks.database import LOCK_PATIENCE
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.delivery import Maintenance, Retention, handler_rows
from webhooks.delivery.rescue import DUTY, ClockWatch
from webhooks.errors import Locked
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState
from webhooks.routing import SUCCEEDED, Registry, Verdict
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BreakerState, HandlerRow
from webhooks.store.handlers.limits import admitted
from webhooks.store.processes import JUMP, Processes

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=5)
PENDING, RUNNING, DEAD = DeliveryState.PENDING, DeliveryState.RUNNING, DeliveryState.DEAD


class Machine:
    """A process with clocks that go as the real ones until they are moved."""

    def __init__(self, url: str, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead
        self.slept = timedelta(0)
        self.database = connect(url, pool_size=8, clock=self.clock, monotonic=self.monotonic)
        self.rig = Rig(self.database)
        self.store = self.rig.store
        self.rig.on("h")(lambda: None)
        self.keeper = self.make_keeper()

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead + self.slept

    def monotonic(self) -> float:
        return time.monotonic() + self.slept.total_seconds()

    def make_keeper(self) -> Maintenance:
        return Maintenance(
            self.store, self.rig.dispatcher, Retention(), prune_every=timedelta(0), monotonic=self.monotonic
        )

    def sleep(self, by: timedelta) -> None:
        """Time passes, by both clocks."""
        self.slept += by

    def beat(self, id: str) -> None:
        self.store.processes.beat(id, "worker", "test", ["h"], lease=LEASE)

    def claim(self, n: int = 1, worker: str = "w") -> list[Any]:
        quotas = {("h", kind): n for kind in DeliveryClass}
        return self.store.deliveries.claim(quotas, lease=LEASE, worker=worker)

    def finish(self, claimed: Any, verdict: Verdict = SUCCEEDED) -> set[int]:
        return self.store.deliveries.finish([Finished(claimed.delivery, verdict)])


@pytest.fixture
def machine(database_url: str) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(ahead: timedelta = timedelta(0)) -> Machine:
        made.append(Machine(database_url, ahead))
        made[-1].store.handlers.register(handler_rows(made[-1].rig.registry))
        return made[-1]

    yield make
    for one in made:
        one.rig.close()


@pytest.fixture
def on_sqlite(database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("on PostgreSQL processes share the server's clock")


@pytest.fixture
def on_postgresql(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("on SQLite there is no lock on a row")


def shift(machine: Machine, by: timedelta, *columns: Any) -> None:
    """As if the database's clock had been `by` further on when these were written."""
    more = by // schema.MICROSECOND if machine.database.is_sqlite else f"interval '{by.total_seconds()} seconds'"
    with machine.database.write() as connection:
        for column in columns:
            connection.exec_driver_sql(f"update {column.table.name} set {column.name} = {column.name} + {more}")


def count(machine: Machine, table: Any) -> int:
    with machine.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# -- ahead for a moment ------------------------------------------------------------------------------------


def test_what_a_worker_that_was_two_hours_ahead_had_is_rescued_within_its_lease(
    machine: Callable[..., Machine],
) -> None:
    here = machine()
    here.rig.put(3)
    here.keeper.tick("other")
    here.store.processes.resign(DUTY, "other")
    here.beat("wrong")
    assert here.store.processes.acquire(DUTY, "wrong", timedelta(seconds=2))
    assert len(here.claim(3, "wrong")) == 3
    table = schema.deliveries.c
    shift(here, 2 * HOUR, table.lease_until, schema.leases.c.until, schema.processes.c.heartbeat_at)

    here.keeper.tick("other")  # killed after four seconds; another looks
    with here.database.read() as connection:
        assert connection.execute(select(schema.leases.c.holder)).scalar_one() == "other", "its duty is not believed"
        latest = connection.execute(select(func.max(table.lease_until, type_=schema.Instant()))).scalar_one()
    assert latest <= here.database.now() + LEASE, "nor are its leases"


def test_a_lease_is_believed_for_as_long_as_its_holder_says_that_it_claims(machine: Callable[..., Machine]) -> None:
    here = machine()
    here.rig.put(2)
    here.store.processes.beat("slow", "worker", "test", ["h"], lease=timedelta(minutes=10))
    quotas = {("h", DeliveryClass.FRESH): 1}
    here.store.deliveries.claim(quotas, lease=timedelta(minutes=10), worker="slow")
    here.store.deliveries.claim(quotas, lease=timedelta(minutes=10), worker="unknown")

    assert here.store.clocks.pull_back(LEASE).leases == 1
    with here.database.read() as connection:
        rows = connection.execute(select(schema.deliveries.c.worker, schema.deliveries.c.lease_until)).fetchall()
    left = {row.worker: row.lease_until - here.database.now() for row in rows}
    assert left["slow"] > timedelta(minutes=9)
    assert left["unknown"] <= LEASE


def test_deliveries_of_a_worker_two_hours_ahead_are_rescued_by_another_and_run(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    wrong, right = machine(2 * HOUR), machine()
    right.rig.put(4)
    right.keeper.tick("right")
    wrong.beat("wrong")
    wrong.keeper.tick("wrong")
    claimed = wrong.claim(4, "wrong")
    assert len(claimed) == 4
    wrong.finish(claimed[0], Verdict(PENDING, AttemptOutcome.FAILED, wait=SOON))

    right.keeper.tick("right")  # four seconds later it is killed
    right.sleep(LEASE + timedelta(seconds=2))
    right.keeper.tick("right")
    right.sleep(SOON)
    right.keeper.tick("right")
    for claimed_again in right.claim(9, "right"):
        assert right.finish(claimed_again)
    assert right.rig.states() == [DeliveryState.SUCCEEDED] * 4


# -- due times ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_delivery_waits_no_longer_than_its_reason(machine: Callable[..., Machine], attempts: int) -> None:
    here = machine()
    (id,) = here.rig.put(1)
    if attempts:
        (claimed,) = here.claim()
        here.finish(claimed, Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(minutes=5)))
    table = schema.deliveries.c
    shift(here, 3 * HOUR, table.due_at, table.scheduled_at)

    here.keeper.tick("w")
    wait = here.rig.row(id).due_at - here.database.now()
    assert timedelta(minutes=4 * attempts) - SOON < wait <= timedelta(minutes=5 * attempts)


def test_a_wait_that_was_asked_for_is_left_alone_however_long(machine: Callable[..., Machine]) -> None:
    here = machine()
    (id,) = here.rig.put(1)
    (claimed,) = here.claim()
    here.finish(claimed, Verdict(PENDING, AttemptOutcome.RETRY, wait=timedelta(days=300)))
    due_at = here.rig.row(id).due_at

    assert not here.store.clocks.pull_back(LEASE)
    assert here.rig.row(id).due_at == due_at


def test_a_replay_that_was_paced_by_a_wrong_clock_keeps_its_pace(machine: Callable[..., Machine]) -> None:
    from webhooks.operations import Actor, Options, Replayer
    from webhooks.selection import Selection

    here = machine()
    here.rig.put(3)
    replayer = Replayer(store=here.store, registry=here.rig.registry)
    replay = replayer.run(replayer.start(replayer.plan(Selection(), Options(rate=0.1)), actor=Actor("ines")))
    assert replay.deliveries == 3
    table = schema.deliveries.c
    with here.database.write() as connection:
        connection.execute(update(schema.deliveries).where(table.replay_id == 0).values(state=2))
    shift(here, 3 * HOUR, table.due_at, table.scheduled_at)

    here.keeper.tick("w")
    with here.database.read() as connection:
        due = connection.execute(
            select(table.due_at).where(table.replay_id != 0).order_by(table.due_at)
        ).scalars().all()  # fmt: skip
    assert [round((at - due[0]).total_seconds()) for at in due] == [0, 10, 20]
    assert due[0] - here.database.now() < SOON


def test_sixty_deliveries_are_run_at_once_by_a_worker_an_hour_behind(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    right, behind = machine(), machine(-HOUR)
    right.rig.put(60)
    with behind.rig.running(maintenance=True):
        behind.rig.wait_for(DeliveryState.SUCCEEDED, 60)


def test_workers_with_four_ideas_of_the_time_run_everything_once(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    """Each of them is alive, so none takes from another what that one is running."""
    machines = [machine(ahead) for ahead in (timedelta(0), 2 * HOUR, -HOUR, timedelta(days=40))]
    runs: list[int] = []
    for one in machines:
        one.rig.registry.on("**", name="slow")(lambda delivery: runs.append(delivery.id))
    with contextlib.ExitStack() as stack:
        for one in machines:
            stack.enter_context(one.rig.running(maintenance=True))
        for one in machines:
            one.rig.put(15, "slow")
        wait_until(lambda: machines[0].rig.states().count(DeliveryState.SUCCEEDED) == 60, what="all done")
    assert len(runs) == len(set(runs)) == 60
    assert count(machines[0], schema.events) == 60


def test_a_worker_that_is_alive_keeps_what_another_clock_takes_for_over(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    behind, right = machine(-HOUR), machine()
    behind.rig.put(1)
    behind.beat("behind")
    behind.keeper.tick("behind")
    (claimed,) = behind.claim(worker="behind")

    right.keeper.tick("right")
    right.keeper.tick("right")
    assert behind.finish(claimed), "an hour behind, and alive"


def test_a_worker_that_is_alive_and_behind_is_rescued_once_it_is_dead(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    behind, right = machine(-HOUR), machine()
    (id,) = behind.rig.put(1)
    behind.beat("behind")
    behind.claim(worker="behind")
    right.keeper.tick("right")
    right.sleep(LEASE + timedelta(seconds=2))
    right.keeper.tick("right")
    assert right.rig.row(id).state == PENDING


def test_a_retry_of_a_living_worker_ahead_is_not_hurried(machine: Callable[..., Machine], on_sqlite: None) -> None:
    ahead, right = machine(2 * HOUR), machine()
    (id,) = right.rig.put(1)
    ahead.beat("ahead")
    (claimed,) = ahead.claim(worker="ahead")
    ahead.finish(claimed, Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(minutes=5)))
    due_at = right.rig.row(id).due_at

    right.keeper.tick("right")
    assert right.rig.row(id).due_at == due_at, "it waits by the clock of who wrote it"
    right.sleep(LEASE + timedelta(seconds=2))
    right.keeper.tick("right")
    assert right.rig.row(id).due_at - right.database.now() <= timedelta(minutes=5), "its writer is gone"


# -- breakers and rates ------------------------------------------------------------------------------------


def test_a_breaker_that_is_open_for_longer_than_any_is_tried_at_once(machine: Callable[..., Machine]) -> None:
    here = machine()
    here.store.handlers.open_breaker("h", 10, timedelta(seconds=30))
    here.keeper.tick("w")
    assert not here.store.handlers.half_open_breaker("h")
    shift(here, 2 * HOUR, schema.handlers.c.breaker_until)
    here.keeper.tick("w")
    here.sleep(SOON)
    here.keeper.tick("w")
    assert here.store.handlers.half_open_breaker("h")
    assert here.store.handlers.states()["h"].breaker is BreakerState.HALF_OPEN


def test_a_rate_that_a_wrong_clock_used_up_is_free(machine: Callable[..., Machine]) -> None:
    hour = 3_600_000_000
    assert admitted(10, 1_000_000, 100_000, 0) == 0
    assert admitted(10, 1_000_000, 2 * hour, 0) == 1

    here = machine()
    here.store.handlers.register([HandlerRow("h", ["**"], rate=(10, timedelta(seconds=1)))])
    here.rig.put(2)
    with here.database.write() as connection:
        connection.execute(
            update(schema.handlers).values(rate_window_at=schema.to_microseconds(here.clock() + 2 * HOUR))
        )
    for _ in range(2):
        claimed = here.store.deliveries.claim_limited(
            {("h", DeliveryClass.FRESH): 1}, lease=LEASE, worker="w", handlers=here.store.handlers
        )
    del claimed
    with here.database.read() as connection:
        used = connection.execute(select(schema.handlers.c.rate_window_at)).scalar_one()
    assert used < schema.to_microseconds(here.clock() + timedelta(seconds=2))


# -- processes ---------------------------------------------------------------------------------------------


def test_a_report_from_the_future_is_no_sign_of_life(machine: Callable[..., Machine]) -> None:
    here = machine()
    here.beat("w")
    assert [process.id for process in here.store.processes.running()] == ["w"]
    assert here.store.processes.all()[0].lease == LEASE
    shift(here, 2 * HOUR, schema.processes.c.heartbeat_at)
    assert here.store.processes.running() == []
    assert here.store.processes.last_worker_beat() is None


# -- pruning -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def moved_now(machine: Machine, by: timedelta, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The database's clock is `by` ahead, as far as we ask it."""
    now = machine.database.now

    def moved(connection: Any = None) -> datetime:
        if connection is not None or machine.database.is_sqlite:
            return now(connection) + by
        with machine.database.read() as connection:
            return now(connection) + by

    with monkeypatch.context() as patch:
        patch.setattr(machine.database, "now", moved)
        yield


def fill(machine: Machine) -> None:
    machine.rig.put(3)
    for claimed in machine.claim(3):
        machine.finish(claimed)


def test_a_clock_forty_days_ahead_for_one_round_deletes_nothing(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = machine()
    fill(here)
    here.keeper.tick("w")
    with moved_now(here, timedelta(days=40), monkeypatch):
        here.keeper.tick("w")
        here.keeper.tick("w")
    here.keeper.tick("w")
    assert (count(here, schema.events), count(here, schema.dedup_log)) == (3, 3)
    jumps = [re.search(r" (ahead|back) by (39 days, 23:59|40 days, 0:00)", record.message) for record in caplog.records]
    assert [jump[1] for jump in jumps if jump] == ["ahead", "back"]


def test_a_worker_that_starts_forty_days_ahead_deletes_nothing(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine()
    fill(here)
    with moved_now(here, timedelta(days=40), monkeypatch):
        here.keeper.tick("first")  # nothing is known of earlier rounds: the rows tell
    assert count(here, schema.events) == 3
    here.make_keeper().tick("right")
    with moved_now(here, timedelta(days=40), monkeypatch):
        here.make_keeper().tick("second")  # the last round was 40 days ago
    assert (count(here, schema.events), count(here, schema.dedup_log)) == (3, 3)


def test_pruning_goes_on_when_the_clock_has_been_steady_for_an_hour(
    machine: Callable[..., Machine], on_sqlite: None, caplog: pytest.LogCaptureFixture
) -> None:
    here = machine()
    fill(here)
    here.keeper.tick("w")
    here.ahead += timedelta(days=40)  # it had been 40 days behind, say: now it is right
    for _ in range(59):
        here.keeper.tick("w")
        here.sleep(timedelta(minutes=1))
    here.keeper.tick("w")
    assert count(here, schema.events) == 3
    here.sleep(timedelta(minutes=2))
    here.keeper.tick("w")
    assert count(here, schema.events) == 0
    assert sum("jumped" in record.message for record in caplog.records) == 1


def test_another_process_carries_on_counting_and_a_gap_begins_anew(
    machine: Callable[..., Machine], on_sqlite: None
) -> None:
    here = machine()
    processes = Processes(here.database)
    take = timedelta(seconds=2)
    assert processes.acquire(DUTY, "one", take)
    assert processes.steady_since(DUTY) is None
    here.sleep(timedelta(seconds=30))
    assert processes.acquire(DUTY, "two", take)
    assert processes.steady_since(DUTY) is None
    here.sleep(timedelta(minutes=10))
    assert processes.acquire(DUTY, "two", take, is_steady=True), "it was there all the time"
    assert processes.steady_since(DUTY) is None
    processes.resign(DUTY, "two")
    here.sleep(timedelta(seconds=30))
    assert processes.acquire(DUTY, "three", take)
    assert processes.steady_since(DUTY) is None
    here.sleep(timedelta(minutes=10))
    assert processes.acquire(DUTY, "four", take)
    assert processes.steady_since(DUTY) is not None


@pytest.fixture
def cli(database_url: str) -> Iterator[Cli]:
    given = {"database_url": database_url, "sources": {"close": {"secret": KEY}}}
    instance = Webhooks(registry=Registry(), overrides=given, environ={}).assemble(role="cli")
    yield Cli(instance)
    instance.close()


def test_prune_by_hand_deletes_nothing_by_a_clock_that_jumped(
    machine: Callable[..., Machine], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine()
    fill(here)
    here.keeper.tick("w")
    here.store.processes.unsettle(DUTY)  # as a worker that sees a jump
    said = cli.refused("prune", "--older-than", "0s", "--yes", code=1)
    assert "the clock, or what watches it, had a break 0:00:0" in said
    assert "webhooks prune --trust-clock" in said
    assert cli.json("prune", "--older-than", "0s", "--dry-run")["events"] == 3
    assert count(here, schema.events) == 3
    assert cli.json("prune", "--older-than", "0s", "--yes", "--trust-clock")["events"] == 3


def test_prune_by_hand_deletes_nothing_forty_days_ahead(
    machine: Callable[..., Machine], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine()
    fill(here)
    ahead = Machine.__new__(Machine)
    ahead.database = cli.instance.database
    with moved_now(ahead, timedelta(days=40), monkeypatch):
        done = cli("prune", "--yes")
        assert "the newest row is 40 days" in done.stderr
        assert "webhooks prune --trust-clock" in done.stderr
    assert (count(here, schema.events), count(here, schema.dedup_log)) == (3, 3)
    assert cli.json("prune", "--yes")["events"] == 0, "by the right clock nothing is old"


def test_prune_by_hand_works_where_no_worker_runs_and_little_comes(
    machine: Callable[..., Machine], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ages count from the newest row: what is old by it is old whatever the clock says now."""
    here = machine()
    fill(here)
    with here.database.write() as connection:
        connection.execute(update(schema.events).values(received_at=here.database.now(connection) - timedelta(days=90)))
    fill(here)
    quiet = Machine.__new__(Machine)
    quiet.database = cli.instance.database
    with moved_now(quiet, timedelta(hours=2), monkeypatch):
        assert cli.json("prune", "--dry-run")["events"] == 3
        assert cli.json("prune", "--yes")["events"] == 3
        assert cli.json("prune", "--older-than", "1h", "--dry-run")["events"] == 0
        assert cli.json("prune", "--older-than", "1h", "--yes")["events"] == 0
        assert cli.json("prune", "--older-than", "1h", "--yes", "--trust-clock")["events"] == 3


# -- rows of duties that another client has locked -----------------------------------------------------------


@contextlib.contextmanager
def locked_duties(here: Machine) -> Iterator[None]:
    with here.database.engine.connect() as other, other.begin():
        other.exec_driver_sql("select 1 from webhooks_leases for update")
        yield


class Elected:
    """A duty of its own election."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rounds = 0

    def tick(self, holder: str) -> None:
        self.rounds += self.store.processes.acquire("other", holder, timedelta(seconds=2))

    def wait(self, timeout: timedelta) -> None:
        pass


@pytest.mark.parametrize("holder", ["w", "gone"])
def test_a_locked_row_of_a_duty_holds_up_no_rescue(
    machine: Callable[..., Machine], on_postgresql: None, holder: str
) -> None:
    """Whether this process has the duty, or one that is gone: no process can be elected, and each may rescue."""
    here = machine()
    (id,) = here.rig.put(1)
    for duty in (DUTY, "other"):
        assert here.store.processes.acquire(duty, holder, timedelta(seconds=2))
    (claimed,) = here.claim(worker="gone")
    shift(here, -HOUR, schema.deliveries.c.lease_until)
    shift(here, -timedelta(seconds=3), schema.leases.c.until)
    other = Elected(here.store)
    keeper = Maintenance(here.store, here.rig.dispatcher, duties=[other])
    with locked_duties(here):
        begun = time.monotonic()
        assert keeper.tick("w")
        took = time.monotonic() - begun
    assert here.rig.row(id).state == PENDING
    assert took < allowed(LOCK_PATIENCE.total_seconds() * 4), "it waits for no lock; the rest is this machine's load"
    assert other.rounds == (holder == "w"), "a duty that may run once only is not taken over"
    assert not here.finish(claimed)


def test_a_locked_row_of_a_duty_is_taken_over_once_it_is_free(
    machine: Callable[..., Machine], on_postgresql: None
) -> None:
    here = machine()
    processes = here.store.processes
    assert processes.acquire(DUTY, "gone", timedelta(seconds=-1))
    with locked_duties(here), pytest.raises(Locked, match="the row of the duty 'maintenance'"):
        processes.acquire(DUTY, "w", timedelta(seconds=2))
    assert processes.acquire(DUTY, "w", timedelta(seconds=2))


def test_a_jump_ahead_robs_no_living_worker(machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    """All leases seem over at once; they are not until their workers have had the time to extend them."""
    here = machine()
    (id,) = here.rig.put(1)
    here.keeper.tick("w")
    (claimed,) = here.claim(worker="w2")
    shift(here, -2 * HOUR, schema.deliveries.c.lease_until)
    with moved_now(here, 2 * HOUR, monkeypatch):
        here.keeper.tick("w")
        assert here.rig.row(id).state == RUNNING
        here.sleep(timedelta(seconds=10))
        here.keeper.tick("w")
        assert here.rig.row(id).state == RUNNING
        here.sleep(LEASE)
        here.keeper.tick("w")
    assert here.rig.row(id).state == PENDING
    assert not here.finish(claimed)


def test_a_watch_tells_a_jump_from_time_that_passed() -> None:
    watch, at = ClockWatch(), datetime(2026, 3, 10, tzinfo=UTC)
    assert watch.look(at, 5.0) is None
    assert watch.look(at + HOUR, 3605.0) is None
    assert watch.look(at + HOUR + JUMP, 3605.0) is None
    assert watch.look(at + 3 * HOUR, 3606.0) == 2 * HOUR - JUMP - timedelta(seconds=1)
    assert watch.look(at, 3606.0) == -3 * HOUR


def test_nothing_is_said_and_nothing_written_while_clocks_are_right(
    machine: Callable[..., Machine], caplog: pytest.LogCaptureFixture
) -> None:
    here = machine()
    here.rig.put(5)
    claimed = here.claim(2)
    here.finish(claimed[0], Verdict(PENDING, AttemptOutcome.FAILED, wait=HOUR))
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        here.sleep(SOON)
        assert not here.store.clocks.pull_back(LEASE)
    assert caplog.records == []
