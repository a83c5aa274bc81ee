"""Commands sent together: what the server made of each, and that nothing is committed that should not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from webhooks.pipeline import Guarded, Pipeline


class Line:
    """One connection with a table of one row, and what others see of it."""

    def __init__(self, url: str) -> None:
        self._conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.connection = psycopg.connect(self._conninfo)
        self.pipeline = Pipeline(self.connection)
        self.other = psycopg.connect(self._conninfo, autocommit=True)
        self.other.execute("create table marks (id int primary key, what text)")
        self.other.execute("insert into marks values (1, 'waits')")

    def close(self) -> None:
        self.connection.close()
        self.other.execute("drop table marks")
        self.other.close()

    def mark(self, id: int, what: str = "done") -> Guarded:
        text = b"""with u as (update marks set what = $2::text where id = $1::int and what = 'waits' returning id)
                   select 1 / count(*) from u"""
        return Guarded(b"mark", text, [str(id).encode(), what.encode()])

    @property
    def seen(self) -> dict[int, str]:
        return dict(self.other.execute("select id, what from marks").fetchall())


@pytest.fixture
def line(postgresql_url: str) -> Iterator[Line]:
    line = Line(postgresql_url)
    try:
        yield line
    finally:
        line.close()


def test_a_statement_and_the_commit_go_together(line: Line) -> None:
    line.pipeline.begin()
    line.pipeline.begun()
    line.connection.execute("insert into marks values (2, 'mine')")
    assert line.seen == {1: "waits"}
    assert line.pipeline.finish(line.mark(1))
    assert line.seen == {1: "done", 2: "mine"}
    assert not line.pipeline.in_transaction


def test_a_statement_that_touches_nothing_commits_nothing(line: Line) -> None:
    line.connection.execute("insert into marks values (2, 'mine')")
    assert not line.pipeline.finish(line.mark(3))
    line.connection.rollback()
    assert line.seen == {1: "waits"}


def test_it_begins_by_itself_when_nothing_ran(line: Line) -> None:
    assert line.pipeline.finish(line.mark(1))
    assert line.seen == {1: "done"}


def test_a_constraint_that_waited_for_the_commit_is_raised_and_nothing_is_committed(line: Line) -> None:
    line.other.execute("create table children (id int references marks deferrable initially deferred)")
    line.connection.execute("insert into children values (7)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="children_id_fkey"):
        line.pipeline.finish(line.mark(1))
    line.connection.rollback()
    assert line.seen == {1: "waits"}
    line.other.execute("drop table children")


def test_an_error_that_the_handler_swallowed_is_raised_again_and_nothing_is_committed(line: Line) -> None:
    line.connection.execute("insert into marks values (2, 'mine')")
    with pytest.raises(psycopg.errors.UndefinedTable):
        line.connection.execute("select * from no_such_table")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        line.pipeline.finish(line.mark(1))
    line.connection.rollback()
    assert line.seen == {1: "waits"}


@pytest.mark.parametrize("drop", ["deallocate all", "discard all"])
def test_what_the_server_dropped_is_prepared_again_once_it_is_forgotten(line: Line, drop: str) -> None:
    assert line.pipeline.finish(line.mark(1))
    line.connection.autocommit = True
    line.connection.execute(drop)
    line.connection.autocommit = False
    line.other.execute("update marks set what = 'waits'")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        line.pipeline.finish(line.mark(1))
    line.connection.rollback()
    line.pipeline.forget()
    assert line.pipeline.finish(line.mark(1))
    assert line.seen == {1: "done"}


def test_a_statement_that_failed_the_first_time_is_not_prepared_twice(line: Line) -> None:
    assert not line.pipeline.finish(line.mark(9))
    line.connection.rollback()
    assert line.pipeline.finish(line.mark(1))


def test_more_than_the_kernel_takes_at_once(line: Line) -> None:
    much = "x" * 20_000_000
    assert line.pipeline.finish(line.mark(1, much))
    assert line.seen == {1: much}


def test_a_server_that_goes_away_meanwhile_is_an_outage(line: Line) -> None:
    line.connection.execute("insert into marks values (2, 'mine')")
    line.other.execute("select pg_terminate_backend(%s, 5000)", (line.connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        line.pipeline.finish(line.mark(1))
    assert line.connection.broken
    assert line.seen == {1: "waits"}


def test_a_begin_that_cannot_be_sent_is_an_outage(line: Line) -> None:
    line.other.execute("select pg_terminate_backend(%s, 5000)", (line.connection.info.backend_pid,))

    def begin() -> None:
        line.pipeline.begin()
        line.pipeline.begun()

    with pytest.raises(psycopg.OperationalError):
        begin()


@pytest.mark.parametrize("state", ["autocommit", "pipeline"])
def test_it_says_when_somebody_left_the_connection_in_another_state(line: Line, state: str) -> None:
    assert line.pipeline.is_free
    pgconn: Any = line.connection.pgconn
    if state == "autocommit":
        line.connection.autocommit = True
    else:
        pgconn.enter_pipeline_mode()
    assert not line.pipeline.is_free
