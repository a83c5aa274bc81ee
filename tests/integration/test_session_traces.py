"""Nothing of one attempt reaches the next: a catalogue of what handlers do to a session, each followed by an innocent one.

The guilty one's own promise holds too: succeeded if and only if its effect is there.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from tests.integration.rig import NO_MARK, Rig, effects, rig
from tests.support import each
from webhooks.errors import AttemptOver
from webhooks.model import DeliveryState

ONE = effects.insert().values(what="one")

Act = Callable[[Any], Any]


def driver(session: Any) -> Any:
    return session.connection().connection.driver_connection


def says(*statements: str) -> Act:
    """A handler that executes these, through its session."""

    def act(session: Any) -> None:
        for statement in statements:
            session.execute(text(statement))

    return act


def tells_the_driver(*statements: str) -> Act:
    def act(session: Any) -> None:
        for statement in statements:
            driver(session).execute(statement)

    return act


def swallowing(act: Act) -> Act:
    """The same by a handler that catches every error, and goes on."""

    def swallows(session: Any) -> None:
        with contextlib.suppress(Exception):
            act(session)

    return swallows


def sets(name: str, value: Any) -> Act:
    return lambda session: setattr(driver(session), name, value)


def calls(name: str, *arguments: Any) -> Act:
    return lambda session: getattr(driver(session), name)(*arguments)


def keeps_half_a_result(session: Any) -> None:
    for what in "abc":
        session.execute(effects.insert().values(what=what))
    kept.append(session.execute(select(effects)))
    kept[-1].fetchone()


def keeps_half_a_result_by_its_error(session: Any) -> None:
    for what in "abc":
        session.execute(effects.insert().values(what=what))
    result = session.execute(select(effects))
    result.fetchone()
    try:
        raise LookupError(result)
    except LookupError as error:
        kept.append(error)


def listens_on_its_connection(session: Any) -> None:
    event.listen(session.connection(), "before_cursor_execute", lambda *arguments: kept.append("heard"))


def notes_on_its_connection(session: Any) -> None:
    session.connection().info["tenant"] = 7
    session.connection().connection.info["tenant"] = 7


def raises(act: Act) -> Act:
    def then_raises(session: Any) -> None:
        act(session)
        raise LookupError

    return then_raises


def returns_the_first(session: Any) -> None:
    session.execute(effects.insert().returning(effects.c.id), [{"what": "a"}, {"what": "b"}]).fetchone()


def half_reads_what_it_inserted(session: Any) -> None:
    kept.append(driver(session).execute("insert into effects (what) values ('a'), ('b') returning id"))
    kept[-1].fetchone()


#: What handlers kept; emptied for each test.
kept: list[Any] = []

BOTH: dict[str, Act] = {
    "options": lambda session: session.connection(execution_options={"schema_translate_map": {None: "nowhere"}}),
    "stream results": lambda session: session.execute(
        select(effects), execution_options={"stream_results": True}
    ).fetchone(),
    "half a result": keeps_half_a_result,
    "half a result kept by an error": keeps_half_a_result_by_its_error,
    "half of what it inserted": half_reads_what_it_inserted,
    "returning, half read": returns_the_first,
    "a listener": listens_on_its_connection,
    "connection.info": notes_on_its_connection,
    "a row factory": sets("row_factory", sqlite3.Row),
    "closes the session": lambda session: session.close(),
    "closes the connection": lambda session: session.connection().close(),
    "closes the driver": calls("close"),
    "detaches": lambda session: session.connection().detach(),
    "invalidates": lambda session: session.connection().invalidate(),
    "commit in text": says("commit"),
    "commit behind a semicolon": says(" ; commit"),
    "commit behind comments": says("/* a */ -- b\n commit"),
    "commit, swallowed": swallowing(says("commit")),
    "end": says("end"),
    "rollback, swallowed": swallowing(says("rollback")),
    "begin, swallowed": swallowing(says("begin")),
    "driver commits": swallowing(calls("commit")),
    "driver rolls back": swallowing(calls("rollback")),
    "driver commits in text": swallowing(tells_the_driver("commit")),
    "with driver": lambda session: driver(session).__enter__().__exit__(None, None, None),
    "a savepoint of its own": says("savepoint mine", "insert into effects (what) values ('a')"),
    "a savepoint, released": says(
        "savepoint mine", "insert into effects (what) values ('a')", "release savepoint mine"
    ),
    "a savepoint through the driver": tells_the_driver("savepoint mine", "release savepoint mine"),
    "a syntax error, swallowed": swallowing(says("selec 1")),
    "a table of its own": says("create table made_here (n int)", "drop table made_here"),
    "a table, and raises": raises(says("create table left_here (n int)")),
    "several at once": swallowing(says("insert into effects (what) values ('a'); commit; begin")),
    "several at once through the driver": swallowing(
        tells_the_driver("insert into effects (what) values ('a'); commit; begin")
    ),
    "writes, and raises": raises(says("insert into effects (what) values ('a')")),
}

POSTGRESQL: dict[str, Act] = {
    "temp table": says("create temp table scratch (n int)"),
    "local temporary table": says("create local temporary table scratch (n int)"),
    "temp view": says("create or replace temp view scratch as select 1 as n"),
    "temp sequence": says("create temp sequence scratch"),
    "select into temp": says("select 1 as n into temp scratch"),
    "temp table of ours": says("create temp table webhooks_deliveries as select * from public.webhooks_deliveries"),
    "temp table of the effects": says("create temp table effects (id serial, what text)"),
    "set": says("set search_path to nowhere"),
    "set local search_path": says("set local search_path to nowhere, public"),
    "set local, nowhere": raises(says("set local search_path to nowhere")),
    "set lock_timeout": says("set lock_timeout = 1"),
    "set statement_timeout": says("set statement_timeout = 60000"),
    "set datestyle": says("set datestyle to german"),
    "set time zone": says("set time zone 'Asia/Tokyo'"),
    "set a name of its own": says("set app.tenant = '7'"),
    "set_config": says("select set_config('app.tenant', '7', false)"),
    "set in a function": says("select sets_tenant()"),
    "set role": says("set role nobody_at_all"),
    "set local role": says("set local role nobody_at_all"),
    "set session authorization": says("set session authorization nobody_at_all"),
    "set transaction": says("set transaction read write"),
    "serializable": says("set transaction isolation level serializable"),
    "session characteristics": says("set session characteristics as transaction isolation level serializable"),
    "default_transaction_read_only": says("set default_transaction_read_only = on"),
    "client_encoding": says("set client_encoding to 'LATIN1'"),
    "reset all": says("reset all"),
    "advisory lock": says("select pg_advisory_lock(7)"),
    "advisory lock, and raises": raises(says("select pg_advisory_lock(7)")),
    "advisory lock in a function": says("select locks_seven()"),
    "listen": says("listen somewhere"),
    "prepare": says("prepare mine as select 1"),
    "declare with hold": says("declare mine cursor with hold for select 1"),
    "declare": says("declare mine cursor for select generate_series(1, 3)", "fetch mine"),
    "named cursor": lambda session: kept.append(driver(session).cursor("mine").execute("select 1")),
    "nextval": says("select nextval('effects_id_seq')"),
    "setseed": says("select setseed(0.5)"),
    "do": says("do $$ begin perform set_config('app.tenant', '7', false); end $$"),
    "discard temp": says("discard temp"),
    "deallocate": says("deallocate all"),
    "load": swallowing(says("load 'plpgsql'")),
    "constraints deferred": says("set constraints all deferred"),
    "nested comments": swallowing(says("/* /* */ */ commit")),
    "prepare transaction": swallowing(says("prepare transaction 'x'")),
    "commit and chain": swallowing(says("commit and chain")),
    "start transaction": swallowing(says("start transaction")),
    "abort": swallowing(says("abort")),
    "driver autocommit": swallowing(sets("autocommit", True)),
    "driver adapters": lambda session: driver(session).adapters.register_loader("int4", _Doubling),
    "driver prepare_threshold": sets("prepare_threshold", 0),
    "stream": lambda session: list(driver(session).cursor().stream("select 1")),
    "stream, half read": lambda session: next(driver(session).cursor().stream("select generate_series(1, 9)")),
    "prepare by stream": swallowing(lambda session: list(driver(session).cursor().stream("prepare mine as select 1"))),
    "driver notices": lambda session: driver(session).add_notice_handler(kept.append),
    "driver pgconn": swallowing(
        lambda session: driver(session).pgconn.exec_(b"select set_config('app.tenant', '7', false)")
    ),
    "driver transaction": lambda session: driver(session).transaction().__enter__(),
    "driver pipeline": lambda session: driver(session).pipeline().__enter__(),
    "copy": lambda session: driver(session).cursor().copy("copy effects to stdout").__enter__().read(),
    "copy with commit": swallowing(
        lambda session: driver(session).cursor().copy("copy effects to stdout; commit").__enter__().read()
    ),
    "lock table": says("lock table effects in share mode"),
    "terminated": says("select pg_terminate_backend(pg_backend_pid())"),
}

SQLITE: dict[str, Act] = {
    "temp table": says("create temp table scratch (n int)"),
    "temp view": says("create temp view scratch as select 1 as n"),
    "temp trigger": says("create temp trigger scratch after insert on effects begin select 1; end"),
    "temp index": says("create temp table scratch (n int)", "create index temp.mine on scratch (n)"),
    "temp table in its schema": says("create table temp.scratch (n int)"),
    "temp table of ours": says("create temp table webhooks_deliveries as select * from main.webhooks_deliveries"),
    "temp trigger on ours": says(
        "create temp trigger scratch before update on webhooks_deliveries begin select raise(ignore); end"
    ),
    "temp table of the effects": says("create temp table effects (id integer primary key, what text)"),
    "pragma synchronous": says("pragma synchronous = off"),
    "pragma foreign_keys": says("pragma foreign_keys = off"),
    "pragma query_only": says("pragma query_only = on"),
    "pragma busy_timeout": says("pragma busy_timeout = 0"),
    "pragma cache_size": says("pragma cache_size(10)"),
    "pragma through the driver": tells_the_driver("pragma recursive_triggers = on"),
    "pragma with comments": says("/* a */ pragma\n case_sensitive_like = 1"),
    "pragma user_version": says("pragma user_version = 5"),
    "pragma user_version, and raises": raises(says("pragma user_version = 6")),
    "pragma journal_mode": swallowing(says("pragma journal_mode = delete")),
    "pragma locking_mode": swallowing(says("pragma locking_mode = exclusive")),
    "pragma writable_schema": says("pragma writable_schema = on"),
    "pragma temp_store": says("pragma temp_store = memory"),
    "attach": says("attach ':memory:' as other"),
    "attach and write": says("attach ':memory:' as other", "create table other.t (n int)"),
    "create_function": calls("create_function", "upper", 1, lambda value: "7"),
    "create_collation": calls("create_collation", "mine", lambda a, b: 0),
    "text_factory": sets("text_factory", bytes),
    "isolation_level": sets("isolation_level", "DEFERRED"),
    "set_authorizer": calls("set_authorizer", None),
    "progress handler": calls("set_progress_handler", lambda: 0, 1000),
    "interrupt": calls("interrupt"),
    "trace": calls("set_trace_callback", kept.append),
    "executescript": swallowing(calls("executescript", "insert into effects (what) values ('a'); commit")),
    "or rollback, swallowed": swallowing(
        says(
            "insert into effects (id, what) values (1, 'a')",
            "insert or rollback into effects (id, what) values (1, 'b')",
        )
    ),
    "cursor class": lambda session: driver(session).cursor(sqlite3.Cursor).execute("select 1"),
    "analyze": says("analyze"),
    "reindex": says("reindex"),
    "vacuum": swallowing(says("vacuum")),
    "with … insert": says("with x as (select 'a' as what) insert into effects (what) select what from x"),
    "replace": says("replace into effects (id, what) values (99, 'a')"),
}

#: {database: {what a handler does to its session: it}}
CATALOGUE = {"sqlite": {**BOTH, **SQLITE}, "postgresql": {**BOTH, **POSTGRESQL}}

#: Of the catalogue, what ends the guilty attempt without success: refused, or broken by itself.
NOT_EXPECTED_TO_SUCCEED = {
    "options", "closes the driver", "invalidates", "commit in text", "commit behind a semicolon", "commit behind comments",
    "end", "a table, and raises", "writes, and raises",
}  # fmt: skip


class _Doubling:
    """A loader that nobody else wants."""

    format = 0

    def __init__(self, oid: int, context: Any = None) -> None: ...

    def load(self, data: bytes) -> int:
        return 2 * int(data)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    kept.clear()
    yield
    kept.clear()


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        if not made.database.is_sqlite:
            with made.database.write() as connection:
                for statement in FUNCTIONS:
                    connection.exec_driver_sql(statement)
        yield made


FUNCTIONS = (
    # roles are of the server: other processes of these tests make it at the same moment
    """do $$ begin create role nobody_at_all; exception when duplicate_object or unique_violation then null; end $$""",
    "grant all on all tables in schema public to nobody_at_all",
    "grant all on all sequences in schema public to nobody_at_all",
    "create or replace function sets_tenant() returns text language sql as $$ select set_config('app.tenant', '7', false) $$",
    "create or replace function locks_seven() returns void language sql as $$ select pg_advisory_lock(7) $$",
)


def look(session: Any) -> dict[str, Any]:
    """Everything of a connection that another attempt may have changed."""
    if session.connection().dialect.name == "sqlite":
        names = ("synchronous", "foreign_keys", "query_only", "busy_timeout", "cache_size", "recursive_triggers",
                 "writable_schema", "temp_store", "journal_mode", "locking_mode", "defer_foreign_keys")  # fmt: skip
        return {
            **{name: session.execute(text(f"pragma {name}")).scalar() for name in names},
            "temp": session.execute(text("select name from temp.sqlite_master")).all(),
            "databases": [row[1] for row in session.execute(text("pragma database_list"))],
            "upper": session.execute(text("select upper('a'), typeof(upper('a'))")).one(),
            "like": session.execute(text("select 'a' like 'A'")).scalar(),
            "raw": type(driver(session).execute("select 'a'").fetchone()),
            "text": type(driver(session).execute("select 'a'").fetchone()[0]),
            "isolation": driver(session).isolation_level,
        }
    one = """
        select current_user, session_user, pg_my_temp_schema() <> 0 and exists
                 (select from pg_class where relnamespace = pg_my_temp_schema()) as temp,
               array(select format('%s=%s', name, setting) from pg_settings where source = 'session' and setting <> reset_val and name !~ '^transaction_' order by 1) as set,
               current_setting('app.tenant', true) as tenant, current_setting('transaction_isolation') as isolation,
               array(select pg_listening_channels()) as listens, array(select name from pg_cursors) as cursors,
               array(select name from pg_prepared_statements where from_sql and not starts_with(name, 'webhooks_')) as prepared,
               (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks
    """
    found = dict(session.execute(text(one)).mappings().one())
    found["tenant"] = found["tenant"] or None
    raw = driver(session).execute("select 7")
    found["raw"] = raw.fetchone()
    found["last"] = _error_of(lambda: session.execute(text("select lastval()")).scalar(), session)
    return found


def _error_of(act: Callable[[], object], session: Any) -> str:
    try:
        with session.begin_nested():
            return str(act())
    except Exception as error:
        return type(getattr(error, "orig", error)).__name__


def goes_on_after(break_it: Act) -> Act:
    """A handler that does what SQLAlchemy recommends after a lost connection, and writes again."""

    def act(session: Any) -> None:
        break_it(session)
        for rollback in (session.rollback, session.get_bind().rollback):
            with contextlib.suppress(Exception):
                rollback()
        session.execute(ONE)
        session.commit()

    return act


def by_hand(make: str) -> Act:
    """A cursor that the driver's connection did not make."""

    def act(session: Any) -> None:
        import psycopg

        cursor = getattr(psycopg, make)(driver(session))
        cursor.execute("insert into effects (what) values ('a')")
        cursor.execute("commit")

    return act


def overwrites_a_blob(session: Any) -> None:
    with driver(session).blobopen("effects", "what", 1000) as blob:
        blob.write(b"changed")


#: (database, what a handler tries in order to write past its transaction)
WAYS_PAST: dict[str, tuple[str, Act]] = {
    "invalidated": ("both", goes_on_after(lambda session: session.connection().invalidate())),
    "session invalidated": ("both", goes_on_after(lambda session: session.invalidate())),
    "closed": ("both", goes_on_after(calls("close"))),
    "detached": ("both", goes_on_after(lambda session: session.connection().detach())),
    "terminated": (
        "postgresql",
        goes_on_after(swallowing(says("select pg_terminate_backend(pg_backend_pid())"))),
    ),
    "Cursor": ("postgresql", by_hand("Cursor")),
    "ClientCursor": ("postgresql", by_hand("ClientCursor")),
    "RawCursor": ("postgresql", by_hand("RawCursor")),
    "pgconn": (
        "postgresql",
        lambda session: driver(session).pgconn.exec_(b"insert into effects (what) values ('a'); commit; begin"),
    ),
    "set_authorizer": ("sqlite", lambda session: (driver(session).set_authorizer(None), session.execute(ONE))),
    "blobopen": ("sqlite", overwrites_a_blob),
}


@pytest.mark.parametrize(
    ("database_url", "name"),
    [(one, name) for name, (of, _) in WAYS_PAST.items() for one in ("sqlite", "postgresql") if of in ("both", one)],
    indirect=["database_url"],
)
def test_nothing_leads_past_the_transaction(made: Rig, name: str) -> None:
    _, act = WAYS_PAST[name]
    with made.database.write() as connection:
        connection.execute(effects.insert().values(id=1000, what="as it was"))

    @made.on("guilty")
    def guilty(session: Any) -> None:
        act(session)
        raise LookupError

    @made.on("innocent")
    def innocent(session: Any) -> None:
        session.execute(effects.insert().values(what="innocent"))

    made.put(1, "guilty")
    made.run_one("guilty")
    with made.database.read() as connection:
        assert connection.execute(select(effects.c.what)).scalars().all() == ["as it was"]
    made.put(1, "innocent")
    made.run_one("innocent")
    assert made.count_effects() == 2


def test_a_connection_of_its_own_has_savepoints(made: Rig) -> None:
    with made.sessions.open() as holder, holder.session.get_bind().engine.connect() as own, own.begin_nested():
        assert own.execute(select(func.count()).select_from(effects)).scalar_one() == 0


def test_a_stream_that_is_kept_half_read_holds_up_nobody(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the driver's lock as long as it lives."""
    monkeypatch.setattr("webhooks.session.postgresql.COMMIT_PATIENCE_SECONDS", 0.05)
    with rig(postgresql_url) as made:

        @made.on("h")
        def h(session: Any) -> None:
            session.execute(ONE)
            kept.append(driver(session).cursor().stream("select generate_series(1, 100000)"))
            next(kept[-1])

        (id,) = made.put(1, "h")
        thread = threading.Thread(target=lambda: made.run_one("h"), daemon=True)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()
        assert made.row(id).state == DeliveryState.PENDING
        assert made.count_effects() == 0
        kept.clear()


def test_an_interruption_that_comes_late_hits_nobody(sqlite_url: str) -> None:
    """A timer of a handler's that ends its slow query goes off after the handler returned."""
    with rig(sqlite_url) as made:
        with made.sessions.open() as holder:
            late = driver(holder.session).interrupt
        with made.sessions.open() as holder:
            raw = driver(holder.session)
            raw.create_function("late", 0, lambda: late() or 1)
            with pytest.raises(sqlite3.OperationalError, match="exception"):
                raw.execute("select late() from (values (1), (2), (3))").fetchall()  # its function raises: closed


@pytest.mark.parametrize(
    ("database_url", "name"), [(one, name) for one in CATALOGUE for name in CATALOGUE[one]], indirect=["database_url"]
)
def test_nothing_of_it_reaches_the_next(made: Rig, name: str) -> None:
    act = CATALOGUE[made.database.engine.dialect.name][name]
    looks: list[dict[str, Any]] = []

    @made.on("innocent")
    def innocent(session: Any) -> None:
        looks.append(look(session))
        session.execute(effects.insert().values(what="innocent"))

    @made.on("guilty")
    def guilty(session: Any) -> None:
        act(session)
        session.execute(effects.insert().values(what="guilty"))

    def run(handler: str) -> Any:
        (id,) = made.put(1, handler)
        attempt = made.attempt(handler)
        finished = made.dispatcher.run(attempt)
        if finished is not None and not attempt.committed:
            made.store.deliveries.finish([finished])
        return made.row(id)

    def there(what: str) -> int:
        with made.database.read() as connection:
            count = select(func.count()).select_from(effects).where(effects.c.what == what)
            return int(connection.execute(count).scalar_one())

    assert run("innocent").state == DeliveryState.SUCCEEDED
    for n in (1, 2):
        guilty_one = run("guilty")
        if name != "temp table of the effects":  # by its own wish it wrote elsewhere
            assert (guilty_one.state == DeliveryState.SUCCEEDED) == (there("guilty") == n), guilty_one.reason
        if name in BOTH:
            assert (guilty_one.state == DeliveryState.SUCCEEDED) == (name not in NOT_EXPECTED_TO_SUCCEED) or (
                "swallowed" in name or name.startswith(("driver", "several", "a row"))
            ), guilty_one.reason
        if guilty_one.state != DeliveryState.SUCCEEDED:
            break  # it is tried again, which says nothing more
    kept_before = len(kept)
    assert run("innocent").state == DeliveryState.SUCCEEDED
    assert looks[-1] == looks[0]
    assert there("innocent") == 2
    assert there("a") == 0 or guilty_one.state == DeliveryState.SUCCEEDED
    assert len(kept) == kept_before, "something of the guilty one's still listens"


# -- what is kept says why it does not work ------------------------------------------------------------------

LATE: dict[str, tuple[Act, Callable[[Any], object]]] = {
    "session": (lambda session: session, lambda session: session.execute(ONE)),
    "session.add": (lambda session: session, lambda session: session.add(object())),
    "session.commit": (lambda session: session, lambda session: session.commit()),
    "session.scalars": (lambda session: session, lambda session: session.scalars(select(effects.c.id))),
    "connection": (lambda session: session.connection(), lambda connection: connection.execute(ONE)),
    "connection, text": (
        lambda session: session.connection(),
        lambda connection: connection.exec_driver_sql("select 1"),
    ),
    "connection, savepoint": (lambda session: session.connection(), lambda connection: connection.begin_nested()),
    "pooled connection": (
        lambda session: session.connection().connection,
        lambda pooled: pooled.cursor().execute("select 1"),
    ),
    "connection, committed": (lambda session: session.connection(), lambda connection: connection.commit()),
    "transaction": (
        lambda session: session.connection().get_transaction(),
        lambda transaction: transaction.commit(),
    ),
    "driver": (driver, lambda raw: raw.execute("select 1")),
    "driver's attribute": (driver, lambda raw: raw.anything_at_all),
    "driver's commit": (driver, lambda raw: raw.commit()),
    "cursor": (lambda session: driver(session).cursor(), lambda cursor: cursor.execute("select 1")),
    "cursor's result": (lambda session: driver(session).execute("select 1"), lambda cursor: cursor.fetchone()),
    "bound method": (lambda session: session.execute, lambda execute: execute(ONE)),
    "result": (lambda session: session.execute(select(effects)), lambda result: result.all()),
}


#: The same of PostgreSQL's.
LATE_OF_PSYCOPG: dict[str, tuple[Act, Callable[[Any], object]]] = {
    "cursor's connection": (lambda session: driver(session).cursor(), lambda cursor: cursor.connection.close()),
    "cursor's connection, cancel": (
        lambda session: driver(session).execute("select 1"),
        lambda cursor: cursor.connection.cancel(),
    ),
    "named cursor, iterated": (
        lambda session: iter(driver(session).cursor("mine").execute("select 1")),
        lambda cursor: next(cursor),
    ),
    "stream": (lambda session: driver(session).cursor(), lambda cursor: list(cursor.stream("select 1"))),
    "copy": (
        lambda session: driver(session).cursor(),
        lambda cursor: cursor.copy("copy effects to stdout").__enter__(),
    ),
}


@pytest.mark.parametrize("name", LATE_OF_PSYCOPG)
def test_what_is_kept_of_the_driver_harms_no_other_attempt(postgresql_url: str, name: str) -> None:
    keep, use = LATE_OF_PSYCOPG[name]
    with rig(postgresql_url) as made:
        with made.sessions.open() as holder:
            late = keep(holder.session)
            holder.flush()
            holder.finish(NO_MARK)
        with made.sessions.open() as holder:
            holder.session.execute(ONE)
            with pytest.raises(AttemptOver):
                use(late)
            holder.flush()
            assert holder.finish(NO_MARK)
        assert made.count_effects() == 1
        assert len(made.sessions._kept) == 1


@pytest.mark.parametrize("meanwhile", ["alone", "while another attempt has the connection"])
@each("name", LATE)
def test_what_is_kept_says_that_it_came_too_late(made: Rig, name: str, meanwhile: str) -> None:
    keep, use = LATE[name]
    with made.sessions.open() as holder:
        late = keep(holder.session)
    with contextlib.ExitStack() as stack:
        if meanwhile != "alone":
            stack.enter_context(made.sessions.open()).session.execute(ONE)
        with pytest.raises(AttemptOver, match="belonged to a delivery whose handler has returned"):
            use(late)
    assert made.count_effects() == 0


def test_an_ended_session_may_be_closed_and_rolled_back(made: Rig) -> None:
    with made.sessions.open() as holder:
        session = holder.session
    session.rollback()
    session.close()
    with session:
        pass


# -- SQLite: what is told when a statement is prepared -------------------------------------------------------


@pytest.mark.parametrize("through", ["session", "driver"])
def test_the_same_write_is_first_in_two_attempts_on_one_connection(sqlite_url: str, through: str) -> None:
    """Python keeps prepared statements: the second time nobody asks the authorizer."""
    with rig(sqlite_url) as made:
        for n in range(3):
            with made.sessions.open() as holder:
                (says if through == "session" else tells_the_driver)("insert into effects (what) values ('a')")(
                    holder.session
                )
                assert made.count_effects() == 0, f"attempt {n} wrote outside a transaction"
        assert len(made.sessions._kept) == 1


def test_a_write_is_known_again_after_the_schema_changed(sqlite_url: str) -> None:
    with rig(sqlite_url) as made:
        for n in range(3):
            with made.sessions.open() as holder:
                tells_the_driver("insert into effects (what) values ('a')")(holder.session)
            with made.database.write() as connection:
                connection.exec_driver_sql(f"create table other{n} (n int)")
        assert made.count_effects() == 0


def test_a_kept_pragma_leaves_traces_again(sqlite_url: str) -> None:
    with rig(sqlite_url) as made:
        for _ in range(2):
            with made.sessions.open() as holder:
                tells_the_driver("pragma synchronous = off", "pragma synchronous = off")(holder.session)
            with made.sessions.open() as holder:
                assert driver(holder.session).execute("pragma synchronous").fetchone() == (2,)


def test_our_own_commands_are_not_to_be_had_by_their_text(sqlite_url: str) -> None:
    """They are prepared on this connection, and were allowed then."""
    with rig(sqlite_url) as made:
        for _ in range(2):
            with made.sessions.open() as holder:
                holder.session.execute(ONE)
                for word in ("commit", "rollback", "begin immediate"):
                    with pytest.raises(Exception, match="the transaction belongs to the delivery"):
                        driver(holder.session).execute(word)
        assert made.count_effects() == 0
