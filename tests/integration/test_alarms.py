"""Alarms over a real database: what is on record, who looks, and what targets hear while processes come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig
from tests.support import ROOT
from webhooks.database import Database
from webhooks.errors import Refusal
from webhooks.model import DeliveryState
from webhooks.operations.alarms.collect import collect
from webhooks.operations.alarms.conditions import AlarmBounds
from webhooks.operations.alarms.duty import DUTY, HEARTBEAT, AlarmDuty, AlarmWatch, StandIn
from webhooks.operations.alarms.messages import Notice
from webhooks.operations.alarms.targets import NotTold
from webhooks.settings import AlarmTarget
from webhooks.store import EVERY, AlarmRow, TargetState, Told
from webhooks.store.rejections import Rejection

pytestmark = pytest.mark.one_database

AT = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
OPS = AlarmTarget("ops", "command", severity="info", command=("true",))
NOW: dict[str, timedelta] = dict.fromkeys(
    ("no-worker", "backlog-old", "failing", "circuit-open", "lane-blocked", "quarantine", "paused-long"), timedelta(0)
)


class Heard:
    """A target that keeps what it is told, and can be unavailable."""

    def __init__(self) -> None:
        self.notices: list[tuple[str, Notice]] = []
        self.is_unavailable = False
        self.beats: list[bool] = []

    def give(self, target: AlarmTarget, notice: Notice) -> None:
        if self.is_unavailable:
            raise NotTold("it answered 500")
        self.notices.append((target.name, notice))

    def beat(self, url: str, *, fails: bool = False) -> None:
        if self.is_unavailable:
            raise NotTold("it answered 500")
        self.beats.append(fails)

    def take(self) -> list[str]:
        """What was told since this was last asked: `raised dead h`."""
        told = [f"{n.kind} {n.name} {n.subject}".strip() for _, n in self.notices]
        self.notices.clear()
        return told


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    made = Rig(database)
    yield made
    made.close()


@pytest.fixture
def watch(rig: Rig, heard: Heard) -> Callable[..., AlarmWatch]:
    """Make a watch over the rig's store, as a process of its own would."""

    def make(*targets: AlarmTarget, **options: Any) -> AlarmWatch:
        bounds = options.pop("bounds", AlarmBounds())
        options = {"after": NOW, "give": heard.give, "beat": heard.beat, **options}
        return AlarmWatch(rig.store, targets or (OPS,), bounds, **options)

    return make


def test_an_alarm_comes_back_as_it_was_written(rig: Rig) -> None:
    row = AlarmRow("dead", "crm", AT, 2, "2 died", 2, 77, None, None, {"ops": Told(AT, 2, AT)})
    rig.store.alarms.put([row])
    rig.store.alarms.put([row])
    assert rig.store.alarms.rows() == {row.key: row}


def test_a_mute_and_what_is_told_do_not_undo_each_other(rig: Rig) -> None:
    alarms, until = rig.store.alarms, rig.database.now() + timedelta(hours=1)
    row = AlarmRow("dead", "crm", AT, 2, "2 died", 2, told={"ops": Told(AT, 2, AT)})
    alarms.put([row])
    alarms.mute("dead", "crm", until)
    alarms.put([row])
    assert alarms.rows()[row.key].muted_until == until
    alarms.put([], [row.key])
    assert alarms.rows() == {row.key: AlarmRow("dead", "crm", muted_until=until, severity=2)}
    alarms.mute("dead", "crm", None)
    assert alarms.rows() == {}


def test_a_mute_that_is_over_is_not_kept(rig: Rig) -> None:
    rig.store.alarms.mute("dead", EVERY, rig.database.now() - timedelta(seconds=1))
    rig.store.alarms.put([], [("dead", EVERY)])
    assert rig.store.alarms.rows() == {}


def test_a_targets_state_comes_back_as_it_was_written(rig: Rig) -> None:
    state = TargetState("ops", AT, 3, AT, "it answered 500", (AT, AT))
    rig.store.alarms.put_target(state)
    rig.store.alarms.put_target(state)
    assert rig.store.alarms.targets() == {"ops": state}


def test_facts_are_asked_of_the_store(rig: Rig) -> None:
    now = rig.database.now()

    @rig.on("fails")
    def fails(event: Any) -> None:
        raise ValueError("card 4242")

    rig.put(1, "fails")
    for _ in range(3):
        rig.run_one("fails")
    rig.put(2, "unknown")
    rig.store.key_uses.note("close", "k", now)
    rig.store.rejections.put(Rejection("close", now, "r", 401, "x", None, (), 0, 0, kind=Refusal.SIGNATURE))
    rig.store.rejections.put(Rejection("close", now, "s", 503, "x", None, (), 0, 0, kind=Refusal.STORAGE))
    rig.store.rejections.put(Rejection("", now, "t", 404, "x", None, (), 0, 0, kind=Refusal.NOT_FOUND))
    rig.store.paused_subscriptions.note({"close": 1})
    facts = collect(rig.store)
    dead = facts.handlers["fails"]
    assert (dead.died, dead.runs, dead.failed, dead.has_worker) == (1, 1, 1, False)
    assert "4242" in (dead.error or "")
    assert facts.handlers["unknown"].due == 2
    assert facts.handlers["unknown"].fresh_since is not None
    (source,) = facts.sources.values()
    assert (source.refused, source.unavailable, source.paused, source.received_at) == (1, 1, 1, now)


def test_a_handler_is_served_by_a_worker_that_reports(rig: Rig) -> None:
    rig.put(1, "h")
    rig.store.processes.beat("web", "web", "1", ["h"])
    assert not collect(rig.store).handlers["h"].has_worker
    rig.store.processes.beat("w", "worker", "1", ["h"])
    assert collect(rig.store).handlers["h"].has_worker


def test_an_alarm_is_told_once_and_resolved_once(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(3, "h")
    one = watch()
    assert one.look("w1")
    assert heard.take() == ["raised no-worker h"]
    one.look("w1")
    assert heard.take() == []
    rig.store.processes.beat("w1", "worker", "1", ["h"])
    one.look("w1")
    assert heard.take() == ["resolved no-worker h"]
    one.look("w1")
    assert heard.take() == []
    assert rig.store.alarms.rows() == {}


def test_one_process_looks_and_another_goes_on_where_it_was(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    one, other = watch(), watch()
    assert one.look("w1")
    assert not other.look("w2")
    assert heard.take() == ["raised no-worker h"]
    rig.store.processes.forget("w1")
    assert other.look("w2")
    assert heard.take() == []
    rig.store.processes.beat("w2", "worker", "1", ["h"])
    other.look("w2")
    assert heard.take() == ["resolved no-worker h"]


def test_a_process_that_dies_after_an_answer_makes_it_come_twice(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")

    class Died(BaseException):
        pass

    def give(target: AlarmTarget, notice: Notice) -> None:
        heard.give(target, notice)
        raise Died

    with pytest.raises(Died):
        watch(give=give).look("w1")
    rig.store.processes.forget("w1")
    watch().look("w2")
    ids = {notice.id for _, notice in heard.notices}
    assert heard.take() == ["raised no-worker h", "raised no-worker h"]
    assert len(ids) == 1


def test_a_target_that_is_unavailable_is_told_later_and_the_others_now(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    away = AlarmTarget("away", "command", severity="info", command=("true",))

    def give(target: AlarmTarget, notice: Notice) -> None:
        if target is away and heard.is_unavailable:
            raise NotTold("it answered 500")
        heard.give(target, notice)

    heard.is_unavailable = True
    heard_by_ops: list[str] = []
    one = watch(away, OPS, give=lambda target, n: heard_by_ops.append(n.name) if target is OPS else give(target, n))
    one.look("w1")
    assert heard_by_ops == ["no-worker"]
    state = rig.store.alarms.targets()["away"]
    assert (state.failures, state.error, state.failing_since is not None) == (1, "it answered 500", True)
    one.look("w1")  # not before its pause is over
    assert rig.store.alarms.targets()["away"].failures == 1
    heard.is_unavailable = False
    back = TargetState("away", rig.database.now() - timedelta(minutes=1), 1, rig.database.now() - timedelta(minutes=1))
    rig.store.alarms.put_target(back)
    one.look("w1")
    assert heard.take() == ["raised no-worker h"]
    assert rig.store.alarms.targets()["away"].failing_since is None


def test_a_storm_is_twenty_messages_and_the_last_a_summary(rig: Rig, watch: Any, heard: Heard) -> None:
    for number in range(30):
        rig.put(1, f"h{number}")
    one = watch()
    one.look("w1")
    told = heard.take()
    assert len(told) == 20
    assert told[-1] == "summary summary"
    one.look("w1")
    assert heard.take() == []


def test_what_is_muted_is_not_told(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    rig.store.alarms.mute("no-worker", EVERY, rig.database.now() + timedelta(hours=1))
    one = watch()
    one.look("w1")
    assert heard.take() == []
    rig.store.alarms.mute("no-worker", EVERY, None)
    one.look("w1")
    assert heard.take() == ["raised no-worker h"]


def test_a_handler_that_fails_at_every_attempt_is_told(rig: Rig, watch: Any, heard: Heard) -> None:
    """Failing, and all of it retried: nothing is dead for days."""
    rig.store.processes.beat("w1", "worker", "1", ["fails"])

    @rig.on("fails")
    def fails(event: Any) -> None:
        raise ValueError("card 4242")

    rig.put(1, "fails")
    finished = rig.run_one("fails")
    assert finished is not None
    assert finished.verdict.state is DeliveryState.PENDING
    watch(after={**NOW, "backlog-old": timedelta(days=1)}).look("w1")
    ((_, notice),) = heard.notices
    assert (notice.name, notice.subject, notice.command) == ("failing", "fails", "webhooks stats")
    assert "4242" not in json.dumps(notice.document())


def test_a_silent_source_is_told(rig: Rig, watch: Any, heard: Heard) -> None:
    one = watch(bounds=AlarmBounds({"close": timedelta(hours=1)}))
    one.look("w1")
    assert heard.take() == []
    rig.store.key_uses.note("close", "k", rig.database.now() - timedelta(hours=2))
    one.look("w1")
    assert heard.take() == ["raised source-silent close"]
    rig.store.key_uses.note("close", "k", rig.database.now())
    one.look("w1")
    assert heard.take() == ["resolved source-silent close"]


def test_a_paused_subscription_is_told_and_what_cannot_be_asked_is_as_it_was(
    rig: Rig, watch: Any, heard: Heard
) -> None:
    answers: list[dict[str, int]] = [{"close": 1}, {}, {"close": 0}]
    times = iter(range(0, 10_000, 700))
    one = watch(paused=lambda: answers.pop(0), monotonic=lambda: float(next(times)))
    one.look("w1")
    assert heard.take() == ["raised subscription-unhealthy close"]
    one.look("w1")
    assert heard.take() == []
    one.look("w1")
    assert heard.take() == ["resolved subscription-unhealthy close"]


# -- the dead man's switch --------------------------------------------------------------------------------------


def test_the_switch_is_called_each_minute_and_fails_while_a_critical_alarm_stands(
    rig: Rig, watch: Any, heard: Heard
) -> None:
    now = [0.0]
    one = watch(heartbeat_url="http://127.0.0.1/", monotonic=lambda: now[0])
    one.look("w1")
    one.look("w1")
    assert heard.beats == [False]
    rig.put(1, "h")
    now[0] += 60
    one.look("w1")
    assert heard.beats == [False, True]
    rig.store.alarms.mute("no-worker", "h", rig.database.now() + timedelta(hours=1))
    now[0] += 60
    one.look("w1")
    assert heard.beats == [False, True, False]


def test_the_switch_fails_while_no_event_could_be_stored(rig: Rig, watch: Any, heard: Heard) -> None:
    now = [0.0]
    one = watch(heartbeat_url="http://127.0.0.1/", monotonic=lambda: now[0])
    with rig.database.write() as connection:
        connection.exec_driver_sql("alter table webhooks_dedup_log rename to gone")
    try:
        one.look("w1")
    finally:
        with rig.database.write() as connection:
            connection.exec_driver_sql("alter table gone rename to webhooks_dedup_log")
    now[0] += 60
    one.look("w1")
    assert heard.beats == [True, False]
    with rig.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from webhooks_events").scalar_one() == 0


def test_the_switch_is_the_elected_workers(rig: Rig, watch: Any, heard: Heard) -> None:
    watch(heartbeat_url="http://127.0.0.1/").look("w1")
    watch(heartbeat_url="http://127.0.0.1/").look("w2")
    assert heard.beats == [False]


def test_a_switch_that_does_not_answer_is_on_record(rig: Rig, watch: Any, heard: Heard) -> None:
    heard.is_unavailable = True
    watch(heartbeat_url="http://127.0.0.1/").look("w1")
    assert rig.store.alarms.targets()[HEARTBEAT].error == "it answered 500"


# -- web processes stand in ---------------------------------------------------------------------------------------


def stand_in(watch: AlarmWatch, name: str = "a") -> StandIn:
    return StandIn(watch, name, lambda look: look())


def let_pass(rig: Rig, seconds: float) -> None:
    """Move what is on record of the duty and of processes into the past, since the database's clock cannot be moved."""
    from webhooks.database import tables as schema

    with rig.database.write() as connection:
        for table, column in ((schema.leases, "until"), (schema.processes, "heartbeat_at")):
            for row in connection.execute(table.select()).fetchall():
                earlier = row._mapping[column] - timedelta(seconds=seconds)
                key = next(iter(table.primary_key.columns))
                connection.execute(table.update().where(key == row._mapping[key.name]).values({column: earlier}))


def test_a_web_process_looks_once_no_worker_has_for_two_minutes(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    rig.store.processes.beat("w1", "worker", "1", ["h"])
    watch().look("w1")
    web = stand_in(watch(heartbeat_url="http://127.0.0.1/"))
    let_pass(rig, 100)
    assert not web.turn()
    let_pass(rig, 21)
    assert web.turn()
    assert heard.take() == ["raised no-worker h"]
    assert heard.beats == []
    assert web.turn()
    assert heard.take() == []
    other = stand_in(watch(), "b")
    assert not other.turn()


def test_a_web_process_gives_the_duty_back_to_a_worker(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    watch().look("w1")
    heard.take()
    let_pass(rig, 130)
    web = stand_in(watch())
    assert web.turn()
    rig.store.processes.beat("w2", "worker", "1", ["h"])
    assert not web.turn()
    assert watch().look("w2")
    assert heard.take() == ["resolved no-worker h"]
    assert not web.turn()


def test_a_web_process_waits_where_no_worker_ever_was(rig: Rig, watch: Any) -> None:
    web = stand_in(watch())
    assert not web.turn()
    assert web._began is not None
    web._began -= timedelta(minutes=2)
    assert web.turn()


def test_a_stand_in_ends_when_it_is_closed(watch: Any, rig: Rig) -> None:
    web = stand_in(watch(interval=timedelta(milliseconds=10)))
    web.start()
    web.close()
    assert not web._thread.is_alive()


def test_a_workers_duty_looks_in_a_thread_of_its_own(rig: Rig, watch: Any, heard: Heard) -> None:
    rig.put(1, "h")
    now = [0.0]
    duty = AlarmDuty(watch(), monotonic=lambda: now[0])
    duty.tick("w1")
    duty.wait(timedelta(seconds=10))
    assert heard.take() == ["raised no-worker h"]
    rig.store.processes.beat("w1", "worker", "1", ["h"])
    now[0] += 29
    duty.tick("w1")
    duty.wait(timedelta(seconds=10))
    assert heard.take() == []
    now[0] += 1
    duty.tick("w1")
    duty.wait(timedelta(seconds=10))
    assert heard.take() == ["resolved no-worker h"]
    assert rig.store.alarms.last_round(DUTY) is not None


# -- off ------------------------------------------------------------------------------------------------------------

OFF = """
import sys, threading
from webhooks.app import Webhooks
from webhooks.model import Headers, InboundRequest
from webhooks.routing import Registry
instance = Webhooks(registry=Registry(), environ={}, overrides={
    "database_url": sys.argv[1], "sources": {"close": {"secret": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}}, **eval(sys.argv[2])})
from flask import Flask
instance.init_app(Flask("x"))
body = b'{"event": {"id": "ev_1", "object_type": "lead", "action": "created"}}'
headers = Headers(dict(instance.sources["close"].sign(body, instance.clock())))
instance.ingest.accept(instance.sources["close"], InboundRequest(headers, body, id="r"))
instance.stand_in_for_workers()
worker = instance.make_worker()
print("THREADS", *[thread.name for thread in threading.enumerate()])
instance.close()
print("LOADED", *sys.modules)
"""


@pytest.mark.parametrize(
    ("settings", "is_on"), [({}, False), ({"alarms": {"ops": {"kind": "command", "command": ["true"]}}}, True)]
)
def test_without_a_target_nothing_of_it_is_imported_and_no_thread_runs(
    sqlite_url: str, settings: dict[str, Any], is_on: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFF, sqlite_url, repr(settings)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    threads = done.stdout.partition("THREADS")[2].splitlines()[0]
    assert ("webhooks.operations.alarms.duty" in loaded) == is_on
    assert ("webhooks.store.alarms" in loaded) == is_on
    assert ("smtplib" in loaded) == is_on
    assert ("webhooks-alarms" in threads) == is_on
