"""Through a real PgBouncer, which gives each transaction, or each client, a connection to PostgreSQL of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from tests.acceptance.support import free_port
from tests.integration.rig import Rig, effects
from tests.support import patience, wait_until
from webhooks.database.connect import connect
from webhooks.model import DeliveryState, new_id
from webhooks.store import Store
from webhooks.store.intake import Item, Routed

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
#: What runs in this database; others run beside it.
ACTIVITY = "(select * from pg_stat_activity where datname = current_database())"
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian: pgbouncer)")


@contextmanager
def pgbouncer(url: str, mode: str) -> Iterator[str]:
    """The URL of the same database through a pooler with four connections to the server."""
    # not below pytest's directory, which only the user who runs the tests may enter
    with (
        tempfile.TemporaryDirectory(prefix="webhooks-pgbouncer-") as directory,
        _pgbouncer(url, Path(directory), mode) as through,
    ):
        yield through


@contextmanager
def _pgbouncer(url: str, directory: Path, mode: str) -> Iterator[str]:
    info = psycopg.conninfo.conninfo_to_dict(url)
    host = str(info["host"])
    port = free_port()
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host={host} port={info.get("port", 5432)} user={info.get("user", "postgres")} password={info.get("password", "x")}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {4 if mode == "transaction" else 40}
"""
    )
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root, and the socket may be its owner's alone
        status = os.stat(host) if host.startswith("/") else None
        owner = {"user": status.st_uid if status else "nobody", "group": status.st_gid if status else "nogroup"}
        directory.chmod(0o755)
    assert PROGRAM is not None
    log = directory / "pgbouncer.log"
    with log.open("wb") as output:
        started = subprocess.Popen([PROGRAM, settings], stdout=output, stderr=output, extra_groups=[] if owner else None, **owner)  # fmt: skip
    through = f"postgresql://postgres@127.0.0.1:{port}/{info['dbname']}"

    def answers() -> bool:
        assert started.poll() is None, log.read_text()
        try:
            psycopg.connect(through, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(answers, timedelta(seconds=20), "PgBouncer")
        yield through
    finally:
        started.terminate()
        started.wait(10)


@pytest.fixture
def pooled_url(postgresql_url: str) -> Iterator[str]:
    with pgbouncer(postgresql_url, "transaction") as url:
        yield url


@pytest.fixture
def made(pooled_url: str, postgresql_url: str) -> Iterator[Rig]:
    rig = Rig(connect(pooled_url, pool_size=8, pooler="transaction", listen_url=postgresql_url))
    rig.make_effects()
    yield rig
    rig.close()


def effect(session: Any, delivery: Any) -> None:
    session.execute(effects.insert().values(what=delivery.idempotency_key))


def test_events_are_stored_by_many_at_once(pooled_url: str) -> None:
    """Of 720 good events some were refused, and would have been quarantined, before it was known that there is a pooler."""
    database = connect(pooled_url, patience=timedelta(seconds=10), pooler="transaction")
    store = Store(database, {})
    refused: list[Exception] = []

    def post(thread: int) -> None:
        for n in range(30):
            at = datetime.now(UTC)
            items = [
                Item(new_id(), "close", f"ev_{thread}_{n}_{k}", 1, "x", at, at, b"{}", routes=(Routed(new_id(), "h", None),))
                for k in range(1 + n % 4)
            ]  # fmt: skip
            try:
                assert len(store.intake.record(items)) == len(items)
            except Exception as error:
                refused.append(error)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        stored = connection.execute(text("select count(*) from webhooks_events")).scalar_one()
    database.dispose()
    assert refused == []
    assert stored == 8 * sum(1 + n % 4 for n in range(30))


def test_handlers_run_once_each_whoever_shares_their_connections(made: Rig) -> None:
    for name, options in (("one", {}), ("two", {"ordered_by": "object_id"}), ("three", {"concurrency": 2})):

        def handler(session: Any, delivery: Any, name: str = name) -> None:
            session.execute(text("set application_name = 'mine'"))
            session.execute(text("select pg_advisory_lock(42)")) if name == "three" else None
            effect(session, delivery)
            if delivery.id % 7 == 0 and delivery.number == 1:
                raise LookupError("the first time")

        made.on(name, **options)(lambda event, session, delivery, run=handler: run(session, delivery))
    ids = made.put(40, "one", "three") + made.put(20, "two", lane="k")
    with made.running(maintenance=True, slots=6), made.running(slots=6):
        made.wait_for(DeliveryState.SUCCEEDED, len(ids), seconds=60)
    assert made.count_effects() == len(ids)
    assert set(made.states()) == {DeliveryState.SUCCEEDED}
    with made.database.read() as connection:
        held = connection.execute(
            text(
                "select count(*) from pg_locks l join pg_database d on d.oid = l.database where locktype = 'advisory' and datname = current_database()"
            )
        ).scalar_one()
    assert held == 0, "nothing of it is left for the pooler's next client"


def test_a_commit_is_heard_of_by_listen_url(made: Rig) -> None:
    ran = threading.Event()
    made.on("h")(lambda event: ran.set())
    with made.running(poll_interval=timedelta(minutes=5)):
        wait_until(lambda: _listens(made), what="the listener")
        made.put(1)
        assert ran.wait(20)


def _listens(made: Rig) -> bool:
    query = f"select count(*) from {ACTIVITY} a where application_name = 'webhooks listen' and query like 'listen%'"
    with made.database.read() as connection:
        return bool(connection.execute(text(query)).scalar_one())


def test_without_listen_url_new_deliveries_are_looked_for(pooled_url: str) -> None:
    made = Rig(connect(pooled_url, pooler="transaction"))
    made.on("h")(lambda event: None)
    try:
        with made.running(poll_interval=timedelta(seconds=0.1)):
            made.put(3)
            made.wait_for(DeliveryState.SUCCEEDED, 3)
            assert not _listens(made)
    finally:
        made.close()


@pytest.mark.parametrize("statement", ["prepare mine as select 1", "create temp table mine (a int)"])
def test_what_the_next_client_would_find_makes_an_attempt_fail_and_is_gone(made: Rig, statement: str) -> None:
    def leaves(event: Any, session: Any, delivery: Any) -> None:
        effect(session, delivery)
        session.execute(text(statement))

    made.on("h")(leaves)
    made.put(1)
    finished = made.run_one()
    assert finished is not None
    assert "the next client of the pooler would find" in str(finished.verdict.reason)
    assert made.count_effects() == 0
    for _ in range(8):  # more than there are connections to the server
        with made.database.read() as connection:
            assert connection.execute(text("select count(*) from pg_prepared_statements")).scalar_one() == 0
            assert connection.execute(text("select to_regclass('mine')")).scalar_one() is None


def test_an_attempt_whose_time_is_up_is_ended_on_the_server(made: Rig) -> None:
    def hangs(event: Any, session: Any, delivery: Any) -> None:
        effect(session, delivery)
        if delivery.number == 1:
            session.execute(text("select pg_sleep(60)"))

    made.on("h", timeout=timedelta(seconds=patience(0.5)))(hangs)
    (id,) = made.put(1)
    with made.running():
        made.wait_for(DeliveryState.SUCCEEDED, 1, seconds=30)
    assert made.outcomes(id)[0] == "timed-out"
    assert made.count_effects() == 1
    with made.database.read() as connection:
        busy = connection.execute(text(f"select count(*) from {ACTIVITY} a where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()")).scalar_one()  # fmt: skip
    assert busy == 0


def test_through_a_pooler_of_sessions_settings_are_set_afterwards(postgresql_url: str) -> None:
    with pgbouncer(postgresql_url, "session") as url:
        made = Rig(connect(url, patience=timedelta(seconds=2), pooler="session"))
        made.make_effects()
        made.on("h")(lambda event, session, delivery: effect(session, delivery))
        try:
            with made.database.read() as connection:
                shown = connection.execute(
                    text("select current_setting('jit') || current_setting('statement_timeout')")
                )
                assert shown.scalar_one() == "off2s"
            made.put(10)
            with made.running():
                made.wait_for(DeliveryState.SUCCEEDED, 10)
                wait_until(lambda: _listens(made), what="the listener, through the pooler")
            assert made.count_effects() == 10
        finally:
            made.close()
