"""The session of a handler: together with the done-mark or not at all, whatever the handler does to it."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import registry

from tests.integration.rig import NO_MARK, Rig, effects, rig
from tests.support import examples, patience, wait_until
from webhooks.database import LockFile, SQLiteDatabase
from webhooks.delivery.attempt import Cause
from webhooks.errors import AttemptTimeout, StorageUnavailable, WriteLockHeldTooLong
from webhooks.model import DeliveryState

ONE = effects.insert().values(what="one")


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def run(made: Rig, act: Callable[[Any], None]) -> Any:
    """Run a handler that does `act(session)`; its delivery's row afterwards."""

    name = f"h{len(list(made.registry.handlers()))}"

    @made.on(name)
    def h(session: Any) -> None:
        act(session)

    (id,) = made.put(1, name)
    made.run_one(name)
    return made.row(id)


@pytest.mark.parametrize("finishes", [True, False], ids=["committed", "rolled back"])
def test_what_an_attempt_was_is_freed_at_its_end(made: Rig, finishes: bool) -> None:
    """Objects that hold each other wait for the garbage collector: a tenth of a delivery's time on PostgreSQL."""
    gc.collect()
    gc.disable()
    try:
        with made.sessions.open() as holder:
            holder.session.execute(ONE)
            if finishes:
                holder.flush()
                assert holder.finish(NO_MARK)
            parts = [
                weakref.ref(part) for part in (holder, holder.connection, holder._outer, holder.connection.connection)
            ]
        del holder
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


# -- what a handler does to its session --------------------------------------------------------------------


def test_writes_and_done_mark_commit_together(made: Rig) -> None:
    assert run(made, lambda session: session.execute(ONE)).state == DeliveryState.SUCCEEDED
    assert made.count_effects() == 1


def test_a_handler_that_raises_leaves_nothing(made: Rig) -> None:
    def act(session: Any) -> None:
        session.execute(ONE)
        session.commit()
        raise LookupError

    assert run(made, act).reason == "LookupError"
    assert made.count_effects() == 0


def commits(session: Any) -> None:
    session.execute(ONE)
    session.commit()


def commits_and_goes_on(session: Any) -> None:
    session.commit()
    session.execute(ONE)
    session.commit()


def rolls_back_and_goes_on(session: Any) -> None:
    session.execute(ONE)
    session.rollback()
    session.execute(ONE)


def closes_and_goes_on(session: Any) -> None:
    session.execute(ONE)
    session.commit()
    session.close()


def closes_without_commit_and_writes_again(session: Any) -> None:
    session.execute(ONE)
    session.close()
    session.execute(ONE)


def nests(session: Any) -> None:
    with session.begin_nested():
        session.execute(ONE)
    nested = session.begin_nested()
    session.execute(ONE)
    nested.rollback()


def survives_a_constraint(session: Any) -> None:
    session.execute(effects.insert().values(id=1, what="one"))
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(effects.insert().values(id=1, what="again"))


class Effect:
    what: str


registry().map_imperatively(Effect, effects)


def adds_an_orm_object(session: Any) -> None:
    """Autoflush is off on SQLite; what is left is flushed at the end."""
    one = Effect()
    one.what = "one"
    session.add(one)


def closes_its_connection(session: Any) -> None:
    session.execute(ONE)
    session.commit()
    session.connection().close()


@pytest.mark.parametrize(
    "act",
    [
        commits, commits_and_goes_on, rolls_back_and_goes_on, closes_and_goes_on, closes_without_commit_and_writes_again,
        nests, survives_a_constraint, adds_an_orm_object, closes_its_connection,
    ],
)  # fmt: skip
def test_a_session_survives(made: Rig, act: Callable[[Any], None]) -> None:
    assert run(made, act).state == DeliveryState.SUCCEEDED
    assert made.count_effects() == 1


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["insert", "commit", "roll back", "keep", "undo", "fail", "look"]), max_size=9))
def test_commit_and_rollback_act_as_in_a_session_of_ones_own(made: Rig, steps: list[str]) -> None:
    """Whatever the order: what was committed or left at the end stays, what was rolled back is gone."""
    if not made.count_effects():
        run(made, lambda session: session.execute(effects.insert().values(id=-1, what="taken")))
    kept, open_ = 0, 0
    before = made.count_effects()

    def act(session: Any) -> None:
        nonlocal kept, open_
        kept, open_ = 0, 0
        for step in steps:
            if step == "insert":
                session.execute(ONE)
                open_ += 1
            elif step == "commit":
                session.commit()
                kept, open_ = kept + open_, 0
            elif step == "roll back":
                session.rollback()
                open_ = 0
            elif step == "keep":
                with session.begin_nested():
                    session.execute(ONE)
                open_ += 1
            elif step == "undo":
                nested = session.begin_nested()
                session.execute(ONE)
                nested.rollback()
            elif step == "fail":
                with pytest.raises(IntegrityError), session.begin_nested():
                    session.execute(effects.insert().values(id=-1, what="taken"))
            else:
                assert session.scalar(select(func.count()).select_from(effects)) == before + kept + open_

    assert run(made, act).state == DeliveryState.SUCCEEDED
    assert made.count_effects() == before + kept + open_


def test_a_handler_that_only_writes_costs_no_savepoint(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from webhooks.session.postgresql_connection import KeptServerConnection

    sent: list[str] = []
    tell = KeptServerConnection.tell

    def noted(self: Any, commands: bytes) -> Any:
        sent.append(commands.decode())
        return tell(self, commands)

    def goes_on_after_a_commit(session: Any) -> None:
        commits(session)
        session.execute(ONE)

    monkeypatch.setattr(KeptServerConnection, "tell", noted)
    with rig(postgresql_url) as made:
        assert run(made, commits).state == DeliveryState.SUCCEEDED
        assert not [statement for statement in sent if "savepoint" in statement]
        assert run(made, goes_on_after_a_commit).state == DeliveryState.SUCCEEDED
        assert [statement.partition("savepoint")[0] for statement in sent if "savepoint" in statement] == [
            "",
            "release ",
        ]


@pytest.mark.parametrize("statement", ["commit", " COMMIT work", "-- done\ncommit", "/* x */ rollback", "end", "begin"])
def test_ending_the_transaction_by_hand_is_refused_and_says_what_to_do(made: Rig, statement: str) -> None:
    def act(session: Any) -> None:
        session.execute(ONE)
        session.execute(text(statement))

    assert "the transaction belongs to the delivery" in run(made, act).reason
    assert made.count_effects() == 0


@pytest.mark.parametrize("name", ["commit", "rollback"])
def test_ending_the_transaction_on_the_connection_is_refused(made: Rig, name: str) -> None:
    def act(session: Any) -> None:
        session.execute(ONE)
        getattr(session.connection(), name)()

    assert "InvalidRequestError: the transaction belongs" in run(made, act).reason
    assert made.count_effects() == 0


@pytest.mark.parametrize("name", ["commit", "rollback"])
def test_ending_the_transaction_through_the_driver_is_refused(made: Rig, name: str) -> None:
    def act(session: Any) -> None:
        session.execute(ONE)
        getattr(session.connection().connection.driver_connection, name)()

    row = run(made, act)
    assert (row.state, row.failures) == (DeliveryState.PENDING, 1)
    assert "InvalidRequestError: the transaction belongs" in row.reason
    assert made.count_effects() == 0


def test_a_swallowed_refusal_still_commits_nothing_early(made: Rig) -> None:
    def act(session: Any) -> None:
        session.execute(ONE)
        with pytest.raises(InvalidRequestError):
            session.connection().commit()
        raise LookupError

    run(made, act)
    assert made.count_effects() == 0


def breaks_its_connection(session: Any) -> None:
    session.execute(ONE)
    session.connection().connection.driver_connection.close()


def gives_its_connection_back(session: Any) -> None:
    session.execute(ONE)
    session.connection().connection.close()


def invalidates_its_connection(session: Any) -> None:
    session.execute(ONE)
    session.connection().invalidate()


def swallows_an_error_that_spoils_the_transaction(session: Any) -> None:
    session.execute(effects.insert().values(id=1, what="one"))
    session.add_all([])
    session.connection().exec_driver_sql("savepoint mine")
    session.connection().exec_driver_sql("select * from no_such_table")


@pytest.mark.parametrize(
    "act",
    [
        breaks_its_connection, gives_its_connection_back, invalidates_its_connection,
        swallows_an_error_that_spoils_the_transaction,
    ],
)  # fmt: skip
def test_a_broken_session_is_a_failure_of_its_own_and_of_nobody_else(made: Rig, act: Callable[[Any], None]) -> None:
    assert run(made, act).failures == 1
    assert made.count_effects() == 0

    @made.on("innocent")
    def innocent(session: Any) -> None:
        session.execute(ONE)

    made.put(3, "innocent")
    for _ in range(3):
        made.run_one("innocent")
    assert made.count_effects() == 3


def test_settings_of_a_connection_do_not_reach_the_next_delivery(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        run(made, lambda session: session.execute(text("set search_path to nowhere")))
        seen: list[str] = []

        @made.on("next")
        def after(session: Any) -> None:
            seen.append(session.execute(text("show search_path")).scalar_one())

        made.put(1, "next")
        made.run_one("next")
        assert seen == ['"$user", public']


def test_options_of_a_connection_do_not_reach_the_next_delivery(made: Rig) -> None:
    run(made, lambda session: session.connection(execution_options={"schema_translate_map": {None: "nowhere"}}))
    assert run(made, lambda session: session.execute(ONE)).state == DeliveryState.SUCCEEDED


def drops_a_table(session: Any) -> None:
    session.execute(text("drop table if exists no_such_table"))


def drops_what_is_prepared(session: Any) -> None:
    session.execute(text("deallocate all"))


def drops_it_where_nobody_sees(session: Any) -> None:
    session.connection().connection.driver_connection.execute("deallocate all")


@pytest.mark.parametrize("act", [rolls_back_and_goes_on, drops_a_table, drops_what_is_prepared])
def test_whoever_has_prepared_statements_dropped_disturbs_nobody(
    postgresql_url: str, act: Callable[[Any], None]
) -> None:
    with rig(postgresql_url) as made:
        run(made, commits)
        for _ in range(2):
            assert run(made, act).state == DeliveryState.SUCCEEDED
            assert run(made, commits).state == DeliveryState.SUCCEEDED


def test_prepared_statements_dropped_in_a_function_cost_a_run_that_does_not_count(postgresql_url: str) -> None:
    def drops_them(session: Any) -> None:
        session.execute(text("select drops_them()"))

    with rig(postgresql_url) as made:
        with made.database.write() as connection:
            connection.exec_driver_sql(
                "create or replace function drops_them() returns void language plpgsql as "
                "$$ begin execute 'deallocate all'; end $$"
            )
        run(made, commits)
        row = run(made, drops_them)
        assert (row.state, row.failures) == (DeliveryState.PENDING, 0)
        assert "InvalidSqlStatementName" in row.reason
        assert run(made, commits).state == DeliveryState.SUCCEEDED


def connections(made: Rig) -> list[Any]:
    """The driver's connections that wait for the next attempt."""
    return [kept.driver for kept in made.sessions._kept]


def test_attempts_share_one_connection_until_it_is_worn(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.session.sessions.RUNS_OF_A_CONNECTION", 3)
    seen: list[list[Any]] = []
    for _ in range(4):
        run(made, commits)
        seen.append(connections(made))
    assert seen[0] == seen[1]
    assert seen[2] == []
    assert len(seen[3]) == 1


def test_a_lane_keeps_the_connection_as_well(made: Rig) -> None:
    seen: list[Any] = []

    @made.on("laned", ordered_by="object_id")
    def laned(session: Any) -> None:
        session.execute(ONE)

    for at in range(3):
        made.put(1, "laned", lane="l", at=at)
        made.run_one("laned")
        seen += connections(made)
    assert made.count_effects() == 3
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


# -- ended from outside ------------------------------------------------------------------------------------


def test_a_late_attempt_is_rolled_back_with_what_it_wrote(made: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The lease ran out while it ran and another worker took over: the fencing token refuses the done-mark."""

    @made.on()
    def h(session: Any, delivery: Any) -> None:
        session.execute(ONE)
        if made.database.is_sqlite:
            # on SQLite nobody can take over between a first write and the commit, so the token goes before
            return
        assert made.store.deliveries.fence(delivery)

    (id,) = made.put()
    attempt = made.attempt()
    if made.database.is_sqlite:
        assert made.store.deliveries.fence(attempt.delivery)
    assert made.dispatcher.run(attempt) is None
    assert made.count_effects() == 0
    assert made.row(id).state == DeliveryState.RUNNING
    assert [record.message for record in caplog.records if "was lost while it ran" in record.message]


def test_an_aborted_session_refuses_every_further_statement(made: Rig) -> None:
    with made.sessions.open() as holder:
        holder.session.execute(ONE)
        holder.abort(AttemptTimeout("up"))
        with pytest.raises(Exception, match=r"up|terminat|closed|SSL|shut"):
            holder.session.execute(ONE)
        with pytest.raises(AttemptTimeout, match="up"):
            holder.finish(NO_MARK)
    assert made.count_effects() == 0


def test_an_abort_interrupts_a_statement_that_runs(made: Rig) -> None:
    endless = (
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
        if made.database.is_sqlite
        else "select pg_sleep(60)"
    )
    failures: list[BaseException] = []
    holders: list[Any] = []

    def work() -> None:
        with made.sessions.open() as holder:
            holder.session.execute(ONE)
            holders.append(holder)
            try:
                holder.session.execute(text(endless))
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: holders)
    holders[0].abort(AttemptTimeout("up"))
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert failures
    assert made.count_effects() == 0


def test_an_abort_after_the_commit_does_not_touch_the_next_user_of_the_connection(made: Rig) -> None:
    with made.sessions.open() as first:
        first.session.execute(ONE)
        first.flush()
        assert first.finish(NO_MARK)
    with made.sessions.open() as second:
        second.session.execute(ONE)
        first.abort(AttemptTimeout("too late"))
        second.flush()
        assert second.finish(NO_MARK)
    assert made.count_effects() == 2


def test_a_statement_cannot_slip_past_an_abort_into_autocommit(sqlite_url: str) -> None:
    """Hundreds of aborts at random moments of a handler that writes: never does a row of an aborted one stay."""
    with rig(sqlite_url) as made:
        for n in range(60):
            ready = threading.Event()
            holders: list[Any] = []

            def work(ready: threading.Event = ready, holders: list[Any] = holders) -> None:
                with made.sessions.open() as holder:
                    holders.append(holder)
                    ready.set()
                    try:
                        for _ in range(1000):
                            holder.session.execute(ONE)
                    except AttemptTimeout:
                        pass

            thread = threading.Thread(target=work)
            thread.start()
            ready.wait()
            for _ in range(n * 50):
                pass
            holders[0].abort(AttemptTimeout("up"))
            thread.join()
        assert made.count_effects() == 0


# -- SQLite: the write lock --------------------------------------------------------------------------------


def is_free(made: Rig) -> bool:
    assert isinstance(made.database, SQLiteDatabase)
    try:
        with LockFile(made.database.lock_path).hold(timedelta(0)):
            return True
    except StorageUnavailable:
        return False


def test_reads_before_the_first_write_hold_no_lock(sqlite_url: str) -> None:
    with rig(sqlite_url) as made:
        free: list[bool] = []

        def act(session: Any) -> None:
            session.execute(select(effects)).fetchall()
            with session.begin_nested():
                session.execute(select(effects)).fetchall()
            free.append(is_free(made))
            session.execute(ONE)
            free.append(is_free(made))

        assert run(made, act).state == DeliveryState.SUCCEEDED
        assert free == [True, False]
        assert is_free(made)


def test_a_handler_that_holds_the_write_lock_too_long_is_rolled_back_and_told(sqlite_url: str) -> None:
    with rig(sqlite_url, write_limit=timedelta(seconds=0.05)) as made:

        def hold(session: Any) -> None:
            session.execute(ONE)
            wait_until(lambda: is_free(made), what="the lock to be let go")

        row = run(made, hold)
        assert row.reason.startswith("WriteLockHeldTooLong: the handler held SQLite's write lock longer than 0.05 s")
        assert row.reason.endswith("do slow work before the first write, or use PostgreSQL")
        assert row.failures == 1
        assert made.count_effects() == 0


#: Reads until it is interrupted.
ENDLESS = "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c"


def test_the_write_limit_lets_the_lock_go_from_under_an_open_result(sqlite_url: str) -> None:
    """An interruption lasts as long as a result is open, and would end the rollback with everything else."""
    with rig(sqlite_url, write_limit=timedelta(seconds=patience(0.2))) as made:
        free: list[bool] = []

        def hold(session: Any) -> None:
            session.execute(ONE)
            session.execute(ONE)
            raw = session.connection().connection.driver_connection
            half = raw.execute("select * from effects")
            half.fetchone()
            with pytest.raises(WriteLockHeldTooLong):
                raw.execute(ENDLESS).fetchall()
            wait_until(lambda: is_free(made), what="the lock to be let go")
            other = sqlite3.connect(str(made.database.path), isolation_level=None, timeout=0)
            try:
                other.execute("begin immediate")
                free.append(True)
            finally:
                other.close()

        assert run(made, hold).reason.startswith("WriteLockHeldTooLong")
        assert free == [True]
        assert made.count_effects() == 0


def test_the_write_limit_gets_between_rows_that_are_slow_to_come(sqlite_url: str) -> None:
    with rig(sqlite_url, write_limit=timedelta(seconds=0.05)) as made:

        def rows() -> Iterator[tuple[str]]:
            wait_until(lambda: is_free(made), what="the lock to be let go")
            yield ("slow",)

        def hold(session: Any) -> None:
            session.execute(ONE)
            raw = session.connection().connection.driver_connection
            raw.executemany("insert into effects (what) values (?)", rows())

        assert run(made, hold).reason.startswith("WriteLockHeldTooLong")
        assert made.count_effects() == 0


def test_a_write_that_takes_too_long_is_told_why_it_ended(sqlite_url: str) -> None:
    """SQLite rolls the transaction back by itself when it interrupts a write."""
    with rig(sqlite_url, write_limit=timedelta(seconds=0.05)) as made:
        row = run(made, lambda session: session.execute(text(f"insert into effects (what) {ENDLESS}")))
        assert row.reason.startswith("WriteLockHeldTooLong")


@pytest.mark.parametrize("writes", [False, True])
def test_a_function_that_hangs_in_a_statement_does_not_hold_up_who_ends_the_attempt(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    monkeypatch.setattr("webhooks.session.sqlite.COMMIT_PATIENCE_SECONDS", 0.05)
    with rig(sqlite_url) as made:
        hangs, goes_on = threading.Event(), threading.Event()

        def hang() -> int:
            hangs.set()
            goes_on.wait()
            return 1

        @made.on("h")
        def h(session: Any) -> None:
            if writes:
                session.execute(ONE)
            raw = session.connection().connection.driver_connection
            raw.create_function("hang", 0, hang)
            with contextlib.suppress(Exception):
                raw.execute("select hang()").fetchall()

        (id,) = made.put(1, "h")
        attempt = made.attempt("h")
        thread = threading.Thread(target=lambda: made.dispatcher.run(attempt))
        thread.start()
        hangs.wait()
        aborting = threading.Thread(target=lambda: attempt.revoke(Cause.TIME_UP), daemon=True)
        aborting.start()
        aborting.join(timeout=10)
        held_up = aborting.is_alive()
        goes_on.set()
        thread.join(timeout=10)
        aborting.join(timeout=10)
        assert not held_up
        assert attempt.cause is Cause.TIME_UP
        assert not thread.is_alive()
        assert made.row(id).state == DeliveryState.RUNNING  # who revoked it records what came of it
        assert made.count_effects() == 0
        assert is_free(made)


def test_a_lock_that_is_not_to_be_had_is_not_the_handlers_failure(sqlite_url: str) -> None:
    with rig(sqlite_url) as made:
        locked = sqlite3.connect(str(made.database.path), isolation_level=None, check_same_thread=False)
        locked.execute("begin immediate")
        finished: list[Any] = []

        @made.on()
        def h(session: Any) -> None:
            session.execute(ONE)

        locked.execute("rollback")
        made.put()
        attempt = made.attempt()
        locked.execute("begin immediate")
        finished.append(made.dispatcher.run(attempt))
        locked.execute("rollback")
        locked.close()
        assert (finished[0].verdict.outcome, finished[0].verdict.counts) == ("lost", False)


# -- PostgreSQL: the connection goes away ------------------------------------------------------------------


def test_a_backend_that_is_killed_is_not_the_handlers_failure(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        runs: list[int] = []

        @made.on()
        def h(session: Any) -> None:
            runs.append(1)
            session.execute(ONE)
            if len(runs) == 1:
                backend = session.connection().connection.driver_connection.info.backend_pid
                with made.database.read() as other:
                    other.exec_driver_sql("select pg_terminate_backend(%s)", (backend,))

        (id,) = made.put()
        finished = made.run_one()
        assert finished is not None
        assert (finished.verdict.outcome, finished.verdict.counts) == ("lost", False)
        with made.running():
            made.wait_for(DeliveryState.SUCCEEDED)
        assert (made.row(id).failures, made.outcomes(id)) == (0, ["lost", "succeeded"])
        assert made.count_effects() == 1


def test_a_handler_that_loses_its_connection_for_ever_ends_dead(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:

        @made.on()
        def h(session: Any) -> None:
            session.execute(text("select pg_terminate_backend(pg_backend_pid())"))

        (id,) = made.put()
        attempt = made.attempt()
        attempt.delivery = replace(attempt.delivery, number=40)
        finished = made.dispatcher.run(attempt)
        assert finished is not None
        assert (finished.verdict.outcome, finished.verdict.counts) == ("failed", True)
        assert made.row(id).state == DeliveryState.RUNNING
