"""Succeeded if and only if its effect is there: every way to end an attempt from outside, at every step of its end.

The steps are the failpoints that an attempt passes. At each of them an interruption may come from another thread: the write
limit's watchdog, the supervisor (time is up), the heartbeat (the lease is lost), a stop. Nothing here sleeps: the hook
starts the interruption, and waits for it unless it is in the critical section, where the interruption has to wait instead.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from tests.integration.rig import Rig, effects, rig
from tests.support import examples, wait_until
from webhooks import failpoints
from webhooks.delivery import RunningAttempt
from webhooks.delivery.attempt import Cause, fence
from webhooks.errors import WriteLockHeldTooLong
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.session import HandlerSession

IN_HANDLER = "in handler"
STEPS = [
    "run.before_handler",
    IN_HANDLER,
    "run.after_handler",
    "run.before_mark",
    "run.before_commit",
    "run.after_commit",
]
CRITICAL = ("run.before_mark", "run.before_commit")
INTERRUPTIONS = ["write limit", "time-out", "lease lost", "stop"]


@dataclass(frozen=True)
class Plan:
    """One attempt. writes: how the handler writes its effect. at: {step: what interrupts there}."""

    writes: str = "core"
    raises: bool = False
    swallows: bool = False
    lane: bool = False
    at: tuple[tuple[str, str], ...] = ()


plans = st.builds(
    Plan,
    writes=st.sampled_from(["core", "orm", "savepoint", "nothing"]),
    raises=st.booleans(),
    swallows=st.booleans(),
    lane=st.booleans(),
    at=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(INTERRUPTIONS)), max_size=3).map(tuple),
)


@dataclass
class Stage:
    """Runs attempts by a plan, with the interruptions in threads of their own."""

    made: Rig
    plan: Plan = field(default_factory=Plan)
    attempt: RunningAttempt | None = None
    session: HandlerSession | None = None
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        @self.made.on("h")
        def h(event: Any, delivery: Any, session: Any) -> None:
            try:
                self._write(session, str(delivery.id))
                self.pass_by(IN_HANDLER)
                session.execute(select(effects)).all()
            except Exception:
                if not self.plan.swallows:
                    raise
            if self.plan.raises:
                raise LookupError

    @contextlib.contextmanager
    def open(self, real: Any) -> Iterator[HandlerSession]:
        """In place of `Sessions.open`: notes the session, which the watchdog knows."""
        with real() as session:
            self.session = session
            yield session

    def _write(self, session: Any, what: str) -> None:
        insert = effects.insert().values(what=what)
        if self.plan.writes == "core":
            session.execute(insert)
        elif self.plan.writes == "savepoint":
            with session.begin_nested():
                session.execute(insert)
            session.commit()
        elif self.plan.writes == "orm":
            session.add(Effect(what))

    def pass_by(self, step: str) -> None:
        """The hook: start what interrupts at this step."""
        for at, kind in self.plan.at:
            if at == step:
                self._interrupt(kind, waits=step in CRITICAL)

    def _interrupt(self, kind: str, *, waits: bool) -> None:
        attempt = self.attempt
        assert attempt is not None
        begun = threading.Event()

        def act() -> None:
            begun.set()
            self._act(kind, attempt)

        thread = threading.Thread(target=act)
        self.threads.append(thread)
        thread.start()
        begun.wait()
        if not waits:
            thread.join()

    def _act(self, kind: str, attempt: RunningAttempt) -> None:
        """What a worker does; see `Worker`."""
        if kind == "write limit":
            if self.session is not None:
                self.session.abort(WriteLockHeldTooLong("held too long"))
        elif kind == "lease lost":
            attempt.revoke(Cause.LEASE_LOST, keeps_thread=True)
        elif attempt.revoke(Cause.TIME_UP if kind == "time-out" else Cause.STOPPED):
            fenced = fence(self.made.store, attempt)
            if fenced is not None:
                self.made.store.deliveries.finish([self.made.dispatcher.outcomes.revoked(attempt, fenced)])

    def run(self, plan: Plan) -> tuple[DeliveryState, int]:
        """The delivery's state and its effects, when all is over."""
        self.plan, self.threads, self.session = plan, [], None
        (id,) = self.made.put(1, "h", lane=f"lane of {len(plan.at)}" if plan.lane else None)
        handler = self.made.registry.get("h")
        assert handler is not None
        claimed = [one for one in [self.made.claim("h")] if one.delivery.id == id]
        self.attempt = RunningAttempt(claimed[0], handler)
        finished = self.made.dispatcher.run(self.attempt)
        if self.attempt.end() and finished is not None and not self.attempt.committed:
            self.made.store.deliveries.finish([finished])
        for thread in self.threads:
            thread.join()
        row = self.made.row(id)
        with self.made.database.write() as connection:
            found = connection.execute(select(effects.c.id).where(effects.c.what == str(id))).all()
            # out of the way of the next attempt, whatever became of it
            connection.execute(text(f"update webhooks_deliveries set state = 4, ready = {self._ready} where id = {id}"))
        return DeliveryState(row.state), len(found)

    @property
    def _ready(self) -> str:
        return "0" if self.made.database.is_sqlite else "false"


class Effect:
    def __init__(self, what: str) -> None:
        self.what = what


@pytest.fixture
def stage(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    from sqlalchemy.orm import registry

    mappings = registry()
    mappings.map_imperatively(Effect, effects)
    with rig(database_url) as made:
        stage = Stage(made)
        monkeypatch.setattr(failpoints, "hit", stage.pass_by)
        monkeypatch.setattr(made.sessions, "open", functools.partial(stage.open, made.sessions.open))
        yield stage
    mappings.dispose()


def holds(stage: Stage, plan: Plan) -> None:
    """The invariant."""
    state, found = stage.run(plan)
    succeeded = state is DeliveryState.SUCCEEDED
    assert found == (succeeded and plan.writes != "nothing"), plan
    if not plan.at and not plan.raises:
        assert succeeded


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_an_attempt_succeeded_if_and_only_if_its_effect_is_there(stage: Stage, kind: str, step: str) -> None:
    for writes in ("core", "orm", "savepoint", "nothing"):
        for lane in (False, True):
            for swallows in (False, True):
                holds(stage, Plan(writes=writes, lane=lane, swallows=swallows, at=((step, kind),)))


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans)
def test_an_attempt_succeeded_if_and_only_if_its_effect_is_there_whatever_comes_together(
    stage: Stage, plan: Plan
) -> None:
    holds(stage, plan)


@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_what_interrupts_before_the_critical_section_prevents_the_commit(stage: Stage, kind: str) -> None:
    assert stage.run(Plan(at=(("run.after_handler", kind),)))[0] is not DeliveryState.SUCCEEDED


@pytest.mark.parametrize("step", CRITICAL)
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_nothing_gets_into_the_critical_section(stage: Stage, kind: str, step: str) -> None:
    assert stage.run(Plan(at=((step, kind),))) == (DeliveryState.SUCCEEDED, 1)


# -- the done-mark asks for proof ----------------------------------------------------------------------------


def test_the_store_refuses_to_mark_outside_an_open_transaction(database_url: str) -> None:
    """However it came about: a transaction that ended below is no place for a done-mark."""
    with rig(database_url) as made:

        @made.on("h")
        def h(session: Any) -> None:
            session.execute(effects.insert().values(what="one"))

        (id,) = made.put(1, "h", lane="l")  # with a lane the mark takes several statements, on both databases
        real = made.store.deliveries.record

        def ends_it_first(cursor: Any, batch: Any, **options: Any) -> Any:
            cursor.execute("rollback /* by a fault of ours */")
            return real(cursor, batch, **options)

        made.store.deliveries.record = ends_it_first  # type: ignore[method-assign]
        attempt = made.attempt("h")
        finished = made.dispatcher.run(attempt)
        assert finished is not None
        assert finished.verdict.outcome is AttemptOutcome.FAILED
        assert not attempt.committed
        assert made.row(id).state == DeliveryState.RUNNING
        assert made.count_effects() == 0


@pytest.mark.parametrize("lane", [None, "l"])
def test_a_row_that_another_client_has_locked_is_no_failure_of_the_handler(
    postgresql_url: str, lane: str | None
) -> None:
    with rig(postgresql_url) as made, made.database.write() as other:

        @made.on("h")
        def h(session: Any) -> None:
            session.execute(effects.insert().values(what="one"))

        (id,) = made.put(1, "h", lane=lane)
        attempt = made.attempt("h")
        other.execute(text("select 1 from webhooks_deliveries where id = :id for update"), {"id": id})
        finished = made.dispatcher.run(attempt)
        assert finished is not None
        assert (finished.verdict.outcome, finished.verdict.counts) == (AttemptOutcome.LOST, False)
        other.rollback()
        assert made.store.deliveries.finish([finished])
        assert made.count_effects() == 0
        with made.running():
            made.wait_for(DeliveryState.SUCCEEDED)
        assert (made.row(id).failures, made.count_effects()) == (0, 1)


def test_a_commit_that_is_not_answered_does_not_hold_up_who_ends_the_attempt(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut, and the row under its token says what came of it before anything is recorded."""
    monkeypatch.setattr("webhooks.session.postgresql.COMMIT_PATIENCE_SECONDS", 0.05)
    with rig(postgresql_url) as made, made.database.write() as other:

        @made.on("h")
        def h(session: Any) -> None:
            session.execute(effects.insert().values(what="one"))

        (id,) = made.put(1, "h")
        attempt = made.attempt("h")
        # the done-mark waits for this row, and COMMIT behind it in the same message
        other.execute(text("select 1 from webhooks_deliveries where id = :id for update"), {"id": id})
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(made.dispatcher.run(attempt)))
        thread.start()
        with made.database.read() as watcher:
            waiting = text(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%done_mark%'"
            )
            wait_until(lambda: watcher.execute(waiting).scalar_one() == 1, timedelta(seconds=10))
        assert attempt.revoke(Cause.TIME_UP)
        thread.join(timeout=10)
        assert not thread.is_alive()
        other.rollback()
        fenced = fence(made.store, attempt)
        assert fenced is not None
        made.store.deliveries.finish([made.dispatcher.outcomes.revoked(attempt, fenced)])
        assert made.row(id).state == DeliveryState.PENDING
        assert made.count_effects() == 0
