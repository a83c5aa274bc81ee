"""Partitioning on a real PostgreSQL: nothing is lost or scanned on the way, and only what nobody needs is dropped.

On SQLite there are no partitions: the command refuses, and retention goes on row by row.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import event, text

from tests import postgresql
from tests.integration.test_cli import Cli
from webhooks.app import Webhooks
from webhooks.cli import group
from webhooks.database import Database
from webhooks.database.connect import connect
from webhooks.database.migrations import run as migrate
from webhooks.delivery import Dispatcher, Maintenance, Retention
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.model import DeliveryState, id_at, new_id
from webhooks.operations.alarms import AlarmBounds
from webhooks.operations.alarms.collect import collect
from webhooks.operations.alarms.conditions import standing
from webhooks.routing import Registry
from webhooks.store import Store
from webhooks.store.intake import Intake, Item, Routed
from webhooks.store.retention.partitions import (
    AHEAD,
    DEFAULT,
    FIRST,
    PROOF,
    Partition,
    PartitionError,
    Partitions,
    Period,
    Problem,
    Trouble,
    boundary_after,
)

_numbers = itertools.count()


@pytest.fixture
def url(request: pytest.FixtureRequest, postgresql_server: postgresql.Server) -> Iterator[str]:
    """A migrated database that may be changed: partitioning swaps tables, which the shared one must not see."""
    request.node.user_properties.append(("database", postgresql_server.label))
    name = f"partitions_{os.environ.get('PYTEST_XDIST_WORKER', 'master')}"
    with postgresql_server.database(name, postgresql_server.template) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = connect(url)
    yield database
    database.dispose()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {})


def an_item(at: datetime | None = None, *handlers: str) -> Item:
    number = next(_numbers)
    return Item(
        event_id=new_id() if at is None else id_at(at) + number,
        source="close",
        dedup_key=f"ev_{number}",
        revision=1,
        type="lead.updated",
        occurred_at=at or datetime.now(UTC),
        received_at=at or datetime.now(UTC),
        body=b'{"a": 1}',
        routes=tuple(Routed(new_id(), handler) for handler in handlers),
    )


def put(store: Store, at: datetime | None = None, *handlers: str) -> Item:
    item = an_item(at, *handlers)
    store.intake.record([item])
    return item


def where(database: Database) -> dict[int, str]:
    """{event id: its partition}"""
    with database.read() as connection:
        rows = connection.execute(text("select id, tableoid::regclass::text from webhooks_events")).all()
    return {row.id: row.tableoid for row in rows}


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.execute(text(f"select count(*) from {table}")).scalar_one())


def change(database: Database, statement: str) -> None:
    with database.write() as connection:
        connection.execute(text(statement))


def the_first(store: Store) -> tuple[Partition, datetime]:
    """Partition the table; its first partition, and an instant by which all of that is old."""
    first = store.partitions.partition().first
    assert first is not None
    assert first.until is not None
    return first, first.until + timedelta(seconds=1)


# -- being told ------------------------------------------------------------------------------------------------


def test_figures_say_when_partitions_end_and_an_alarm_that_an_old_one_is_held(store: Store) -> None:
    assert (store.gauges.read().oldest_partition_at, store.gauges.read().partitions_end_at) == (None, None)
    first, _ = the_first(store)
    found = store.gauges.read()
    assert found.oldest_partition_at is not None
    assert found.partitions_end_at is not None
    assert abs(found.oldest_partition_at - (first.until or found.deliveries.at)) < timedelta(seconds=1)
    assert found.partitions_end_at > found.oldest_partition_at
    facts = replace(collect(store), at=found.oldest_partition_at + timedelta(days=30, hours=1))
    names = {each.name for each in standing(facts, AlarmBounds())}
    assert "partition-held" in names
    assert "partition-held" not in {each.name for each in standing(facts, AlarmBounds(retention=timedelta(days=31)))}


# -- becoming partitioned --------------------------------------------------------------------------------------


def test_the_table_becomes_the_first_partition_with_all_that_is_in_it(store: Store, database: Database) -> None:
    old = put(store, None, "h")
    long_ago = put(store, datetime(2021, 5, 1, tzinfo=UTC))

    changes = store.partitions.partition()

    names = [each.name for each in changes.made]
    assert [each.name for each in store.partitions.all() or []] == [FIRST, *names, DEFAULT]
    last = changes.made[-1].until
    assert last is not None
    assert last - datetime.now(UTC) >= AHEAD * timedelta(weeks=1)
    new, ahead = put(store), put(store, changes.made[1].since)
    stray = put(store, datetime.now(UTC) + timedelta(days=400))
    assert where(database) == {
        old.event_id: FIRST,
        long_ago.event_id: FIRST,
        new.event_id: FIRST,
        ahead.event_id: names[1],
        stray.event_id: DEFAULT,
    }
    event = store.events.get(old.event_id)
    assert event is not None
    assert event.raw == old.body


def test_what_is_partitioned_is_still_what_the_code_wants(store: Store, database: Database) -> None:
    def indexes() -> dict[str, str]:
        with database.read() as connection:
            rows = connection.execute(
                text("select indexname, indexdef from pg_indexes where tablename = 'webhooks_events'")
            )
            return {name: definition.replace(" ON ONLY ", " ON ") for name, definition in rows}

    before = indexes()

    store.partitions.partition()

    assert indexes() == before
    assert migrate.check(database) == []
    with database.read() as connection:
        invalid = connection.execute(text("select count(*) from pg_index where not indisvalid")).scalar_one()
        proofs = connection.execute(text(f"select count(*) from pg_constraint where conname = '{PROOF}'")).scalar_one()
    assert (invalid, proofs) == (0, 0)


def test_a_second_run_only_adds_what_is_missing(store: Store, database: Database) -> None:
    made = store.partitions.partition(Period.MONTH).made
    assert store.partitions.partition().made == ()

    change(database, f"drop table {made[-1].name}")

    assert store.partitions.partition().made == made[-1:]


def test_a_dry_run_changes_nothing(store: Store) -> None:
    changes = store.partitions.partition(dry_run=True)

    assert store.partitions.all() is None
    assert store.partitions.partition() == changes


def test_attaching_the_table_reads_none_of_it(store: Store, database: Database) -> None:
    put(store)
    notices: list[str] = []

    @event.listens_for(database.engine, "connect")
    def listen(connection: Any, record: Any) -> None:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("set client_min_messages = debug1")
        connection.commit()

    database.dispose()

    store.partitions.partition()

    implied = f'partition constraint for table "{FIRST}" is implied by existing constraints'
    assert implied in notices
    # the one look at its rows is that of the proof, which locks nobody out
    assert f'verifying table "{FIRST}"' not in notices
    assert notices.count('verifying table "webhooks_events"') == 1


def test_ingest_goes_on_while_the_table_is_partitioned(store: Store, database: Database, url: str) -> None:
    for _ in range(20):
        store.intake.record([an_item(None, "h") for _ in range(100)])
    ended = threading.Event()
    lock = threading.Lock()
    taken: list[int] = []
    refused: list[Exception] = []

    def ingest() -> None:
        mine = connect(url, patience=timedelta(seconds=2))
        intake = Intake(mine)
        while not ended.is_set():
            item = an_item(None, "h")
            try:
                intake.record([item])
            except Exception as error:
                refused.append(error)
            else:
                with lock:
                    taken.append(item.event_id)
        mine.dispose()

    threads = [threading.Thread(target=ingest) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(taken) < 50:  # statements are prepared by now
        ended.wait(0.001)
    store.partitions.partition()
    before = len(taken)
    while len(taken) < before + 50 and not refused:
        ended.wait(0.001)
    ended.set()
    for thread in threads:
        thread.join()

    assert refused == []
    found = where(database)
    assert set(taken) <= set(found)
    assert count(database, "webhooks_deliveries") == len(found) == len(taken) + 2000


def has_proof(database: Database) -> bool:
    with database.read() as connection:
        query = f"select 1 from pg_constraint where conname = '{PROOF}'"
        return connection.execute(text(query)).first() is not None


def test_a_table_in_use_is_left_alone_and_the_message_says_try_again(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.store.retention.partitions.making.WAIT_FOR_TABLE", timedelta(milliseconds=50))
    with database.engine.begin() as other:
        other.exec_driver_sql("select * from webhooks_events")
        with pytest.raises(
            StorageUnavailable, match=r"in use by another.*as it was; run `webhooks db partition` again"
        ):
            store.partitions.partition()

    assert store.partitions.all() is None
    assert not has_proof(database)


def test_a_run_that_fails_on_the_way_takes_its_proof_back(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove = store.partitions.prove

    def make_a_view_meanwhile(bound: int) -> None:
        prove(bound)
        assert has_proof(database)
        change(database, "create view leads as select * from webhooks_events")

    monkeypatch.setattr(store.partitions, "prove", make_a_view_meanwhile)

    with pytest.raises(PartitionError, match="view leads"):
        store.partitions.partition()

    assert not has_proof(database)


def test_a_run_that_cannot_take_its_proof_back_says_what_will(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WAIT_FOR_TABLE", "WAIT_TO_DROP"):
        monkeypatch.setattr(f"webhooks.store.retention.partitions.making.{name}", timedelta(milliseconds=50))
    prove = store.partitions.prove
    other = database.engine.connect()

    def read_meanwhile(bound: int) -> None:
        prove(bound)
        other.exec_driver_sql("select * from webhooks_events")

    monkeypatch.setattr(store.partitions, "prove", read_meanwhile)

    with pytest.raises(
        StorageUnavailable, match=f"the constraint {PROOF}, which would refuse events from 20.* on: a run"
    ):
        store.partitions.partition()

    other.close()
    assert has_proof(database)
    store.partitions.keep(datetime.now(UTC))
    assert not has_proof(database)


def test_a_run_that_was_killed_leaves_nothing_that_could_refuse_events(store: Store, database: Database) -> None:
    store.partitions.prove(id_at(datetime.now(UTC) + timedelta(days=9)))

    store.partitions.keep(datetime.now(UTC))

    put(store, datetime.now(UTC) + timedelta(days=10))
    assert not store.partitions.drop_proof()


def test_a_run_at_the_same_time_does_it_once(store: Store, url: str) -> None:
    others = [connect(url) for _ in range(3)]
    errors: list[Exception] = []

    def run(database: Database) -> None:
        try:
            Partitions(database).partition()
        except (PartitionError, StorageUnavailable) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in others:
        each.dispose()

    assert all("again" in str(error) for error in errors)
    assert store.partitions.partition().made == () or len(errors) == len(others)
    put(store, datetime.now(UTC) + timedelta(days=400))  # no proof is left that would refuse it


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("create view leads as select * from webhooks_events", "view leads"),
        ("create table mine (id bigint references webhooks_events)", "foreign key mine_id_fkey of mine"),
        ("create policy mine on webhooks_events using (true)", "policy mine"),
        (
            "create trigger mine before insert on webhooks_events "
            "for each row execute function suppress_redundant_updates_trigger()",
            "trigger mine",
        ),
        ("create publication all_events for table webhooks_events", "publication all_events"),
    ],
)
def test_what_would_go_on_seeing_the_first_partition_alone_is_named(
    store: Store, database: Database, statement: str, name: str
) -> None:
    change(database, statement)

    with pytest.raises(
        PartitionError, match=f"alone: {name}; drop it, run `webhooks db partition`, and create it again"
    ):
        store.partitions.partition()

    assert store.partitions.all() is None


def test_who_could_read_the_table_still_can(store: Store, database: Database) -> None:
    change(database, "drop role if exists webhooks_reader; create role webhooks_reader")
    try:
        change(database, "grant select on webhooks_events to webhooks_reader")
        put(store)

        store.partitions.partition()

        with database.write() as connection:
            connection.execute(text("set local role webhooks_reader"))
            assert connection.execute(text("select count(*) from webhooks_events")).scalar_one() == 1
    finally:
        change(database, "drop owned by webhooks_reader; drop role webhooks_reader")


def test_who_does_not_own_the_table_is_told_to_ask_its_owner(store: Store, database: Database, url: str) -> None:
    store.partitions.partition()
    made = (store.partitions.all() or [])[-2]
    change(database, f"drop table {made.name}")
    change(database, "drop role if exists webhooks_writer; create role webhooks_writer")
    try:
        change(database, "grant select on all tables in schema public to webhooks_writer")

        @event.listens_for(database.engine, "begin")
        def become(connection: Any) -> None:
            connection.exec_driver_sql("set local role webhooks_writer")

        kept = store.partitions.keep(datetime.now(UTC))

        assert kept.made == []
        assert "does not own webhooks_events" in str(kept.problem)
        event.remove(database.engine, "begin", become)
    finally:
        change(database, "drop owned by webhooks_writer; drop role webhooks_writer")


def test_a_time_of_which_the_default_partition_has_events_gets_none(store: Store, database: Database) -> None:
    """No worker ran for long, say: what came without a partition stays where it is, and later times get theirs."""
    made = store.partitions.partition().made
    for each in made[-2:]:
        change(database, f"drop table {each.name}")
    put(store, made[-2].since)

    changes = store.partitions.partition()

    assert (changes.skipped, changes.made) == (made[-2:-1], made[-1:])
    assert store.partitions.partition().made == ()
    (strays,) = store.partitions.problems(datetime.now(UTC))
    assert strays.trouble is Trouble.STRAYS
    assert strays.text.startswith("the default partition has events (1)")


# -- retention -------------------------------------------------------------------------------------------------


def test_a_partition_is_dropped_when_its_time_is_over_and_nothing_needs_it(store: Store, database: Database) -> None:
    done = put(store, None, "h", "g")
    change(database, f"update webhooks_deliveries set state = {int(DeliveryState.SUCCEEDED)}")
    change(
        database,
        """insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at)
           select id, 1, 0, now(), now() from webhooks_deliveries""",
    )
    first, later = the_first(store)
    young = put(store, later, "h")

    early = store.partitions.keep(later - timedelta(seconds=2))
    assert (early.dropped, early.held) == ([], {})

    kept = store.partitions.keep(later)

    assert [each.name for each in kept.dropped] == [first.name]
    assert where(database).keys() == {young.event_id}
    assert store.events.get(done.event_id) is None
    assert [store.partitions.forget_deliveries(later, limit=1) for _ in range(3)] == [1, 1, 0]
    assert count(database, "webhooks_attempts") == 0
    assert count(database, "webhooks_deliveries") == 1  # of the event that is there
    again = store.intake.record([done])
    assert again[0].status.value == "duplicate"  # its key outlives it


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (DeliveryState.PENDING, "1 pending"),
        (DeliveryState.RUNNING, "1 running"),
        (DeliveryState.DEAD, "1 dead"),
    ],
)
def test_a_needed_delivery_holds_its_partition_which_says_so(
    store: Store, database: Database, state: DeliveryState, says: str
) -> None:
    needed = put(store, None, "h")
    change(database, f"update webhooks_deliveries set state = {int(state)}")
    other = put(store)
    first, later = the_first(store)

    kept = store.partitions.keep(later)

    assert kept.dropped == []
    assert kept.held == {first.name: f"deliveries ({says}; event {needed.event_id} is the first)"}
    assert store.partitions.problems(later) == [
        Problem(
            Trouble.HELD,
            f"partition {first.name} is old enough to be dropped, and held by {kept.held[first.name]}",
            f"webhooks deliveries list --state {state.label} --until {first.until:%Y-%m-%dT%H:%M:%SZ}",
        )
    ]
    # what nobody needs goes row by row
    store.pruning.events(kept.rows_before)
    assert where(database).keys() == {needed.event_id}
    assert other.event_id != needed.event_id


def test_an_open_replay_holds_the_partition_that_it_names_events_of(store: Store, database: Database) -> None:
    put(store, None, "h")
    change(database, f"update webhooks_deliveries set state = {int(DeliveryState.SUCCEEDED)}")
    first, later = the_first(store)

    def replay(pattern: str) -> int:
        asked = {"type": pattern}
        return store.replays.start(
            by="me", why=None, selection=asked, options={"fresh_keys": False}, upper_id=new_id()
        ).id

    replay("contact.*")
    open_one = replay("lead.*")

    assert store.partitions.keep(later).held == {first.name: f"replay {open_one}, which is open and names events of it"}

    assert store.replays.close(open_one)
    assert store.partitions.keep(later).held == {}


def test_a_partition_that_only_a_replay_holds_is_a_problem_that_names_the_replays(
    store: Store, database: Database
) -> None:
    put(store, None, "h")
    change(database, f"update webhooks_deliveries set state = {int(DeliveryState.SUCCEEDED)}")
    first, later = the_first(store)
    asked = {"type": "lead.*"}
    id = store.replays.start(by="me", why=None, selection=asked, options={"fresh_keys": False}, upper_id=new_id()).id

    (problem,) = store.partitions.problems(later)

    assert (problem.trouble, problem.command) == (Trouble.HELD, "webhooks replay list")
    assert problem.text == (
        f"partition {first.name} is old enough to be dropped, and held by replay {id}, which is open and "
        "names events of it"
    )


def test_partitions_that_end_soon_are_a_problem(store: Store, database: Database) -> None:
    made = store.partitions.partition().made
    assert store.partitions.problems(datetime(2021, 1, 1, tzinfo=UTC)) == []
    for each in made[-2:]:
        change(database, f"drop table {each.name}")

    (problem,) = store.partitions.problems(datetime(2021, 1, 1, tzinfo=UTC))

    assert (problem.trouble, problem.command) == (Trouble.ENDING, "webhooks db partition")
    assert problem.text.startswith(f"partitions reach until {made[-3].until:%Y-%m-%d} only")


def test_a_default_partition_that_is_gone_is_no_fault_of_those_who_look(store: Store, database: Database) -> None:
    store.partitions.partition()
    change(database, f"drop table {DEFAULT}")
    assert store.partitions.problems(datetime(2021, 1, 1, tzinfo=UTC)) == []


def test_doctor_finds_a_held_partition_and_the_command_that_it_names_shows_what_holds_it(url: str) -> None:
    retention = timedelta(days=30)
    secret = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
    instance = Webhooks(
        registry=Registry(),
        overrides={"database_url": url, "payload_retention": retention, "sources": {"close": {"secret": secret}}},
        environ={},
    ).assemble(role="cli")
    try:
        cli, store = Cli(instance), instance.store
        store.partitions.partition()
        old = datetime.now(UTC) - retention - timedelta(days=60)
        change(instance.database, f"drop table {FIRST}")
        since, until = boundary_after(old, Period.WEEK), boundary_after(old + timedelta(days=7), Period.WEEK)
        change(
            instance.database,
            f"""create table webhooks_events_old partition of webhooks_events
                for values from ({id_at(since)}) to ({id_at(until)})""",
        )
        held = put(store, since + timedelta(days=1), "h")

        def found() -> dict[str, dict[str, str]]:
            findings = json.loads(cli("doctor", "--json").stdout)["findings"]
            return {finding["code"]: finding for finding in findings}

        finding = found()["partition-held"]

        assert "held by deliveries (1 pending" in finding["text"]
        shown = cli.json(*finding["command"].split()[1:])
        assert [each["event_id"] for each in shown["deliveries"]] == [str(held.event_id)]
        change(instance.database, f"update webhooks_deliveries set state = {int(DeliveryState.SUCCEEDED)}")
        assert "partition-held" not in found()
    finally:
        instance.close()


def test_a_younger_partition_goes_though_an_elder_is_held(store: Store, database: Database) -> None:
    put(store, None, "h")
    made = store.partitions.partition().made
    put(store, made[0].since)
    assert made[0].until is not None

    kept = store.partitions.keep(made[0].until)

    assert ([each.name for each in kept.dropped], list(kept.held)) == ([made[0].name], [FIRST])


def test_events_wait_for_their_partition_rather_than_go_row_by_row(store: Store) -> None:
    made = store.partitions.partition().made
    assert made[0].since is not None

    kept = store.partitions.keep(made[0].since + timedelta(days=3))

    assert kept.rows_before == made[0].since


def test_a_partition_in_use_is_dropped_another_time_and_not_row_by_row(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.store.retention.partitions.making.WAIT_TO_DROP", timedelta(milliseconds=50))
    item = put(store)
    first, later = the_first(store)
    with database.engine.begin() as other:
        other.exec_driver_sql("select * from webhooks_events")

        kept = store.partitions.keep(later)

        assert "another transaction" in kept.held[first.name]
        assert kept.rows_before < item.received_at
    assert store.partitions.keep(later).held == {}


def test_nothing_can_come_to_need_a_partition_while_it_is_dropped(
    store: Store, database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled delivery that is requeued between the look and the drop keeps its event."""
    put(store, None, "h")
    change(database, f"update webhooks_deliveries set state = {int(DeliveryState.CANCELLED)}")
    first, later = the_first(store)
    look = store.partitions.what_holds

    def requeue_after_looking(partition: Partition) -> str | None:
        held = look(partition)
        change(database, f"update webhooks_deliveries set state = {int(DeliveryState.PENDING)}")
        return held

    monkeypatch.setattr(store.partitions, "what_holds", requeue_after_looking)

    assert "1 pending" in store.partitions.keep(later).held[first.name]
    assert len(where(database)) == 1


class RunsNothing(Dispatcher):
    """A dispatcher for maintenance that finds nothing to rescue."""

    def __init__(self) -> None:
        pass


def test_the_elected_worker_drops_what_is_old_and_says_once_what_is_held(
    store: Store, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, datetime.now(UTC) - timedelta(days=40), "h")
    first, _ = the_first(store)
    # as if that partition had ended a while ago
    change(database, f"alter table webhooks_events detach partition {FIRST}")
    bound = id_at(datetime.now(UTC) - timedelta(days=31))
    change(database, f"alter table webhooks_events attach partition {FIRST} for values from (minvalue) to ({bound})")
    maintenance = Maintenance(store, RunsNothing(), Retention(), prune_every=timedelta(0), monotonic=lambda: 0.0)
    caplog.set_level(logging.INFO, "webhooks.delivery.pruning")

    maintenance.tick("me")
    maintenance.tick("me")
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert said[0].startswith(f"partition {first.name} is old enough to be dropped, and held by deliveries (1 pending")

    change(database, f"update webhooks_deliveries set state = {int(DeliveryState.SUCCEEDED)}")
    maintenance.tick("me")

    assert [each.name for each in store.partitions.all() or [] if each.name == FIRST] == []
    assert any(text.startswith(f"dropped partition {FIRST}") for text in caplog.messages)
    assert count(database, "webhooks_deliveries") == 0


# -- the command, and SQLite ------------------------------------------------------------------------------------


def test_the_command_partitions_says_what_it_did_and_lists_what_there_is(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(group, ["db", "partition", *arguments], catch_exceptions=False)

    assert run("--status").stderr == "webhooks_events is not partitioned\n"
    planned = run("--by", "month", "--dry-run")
    assert planned.exit_code == 0
    assert f"would become the partition {FIRST}" in planned.stderr

    done = run("--by", "month")

    assert done.stderr == planned.stderr.replace("would become", "became").replace("would be made", "made")
    assert run().stderr.startswith("nothing to do")
    shown = json.loads(run("--status", "--json").stdout)
    assert (shown["is_partitioned"], shown["problems"]) == (True, [])
    assert shown["partitions"][0]["name"] == FIRST
    assert DEFAULT in run("--status").stdout


def test_the_command_names_what_stands_in_the_way(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    change(database, "create view leads as select * from webhooks_events")

    result = CliRunner().invoke(group, ["db", "partition"])

    assert result.exit_code == 1
    assert result.stderr.startswith("webhooks: webhooks_events cannot be partitioned")
    assert "view leads" in result.stderr


def test_sqlite_is_refused_and_its_retention_left_alone(sqlite_url: str) -> None:
    database = connect(sqlite_url)
    partitions = Partitions(database)
    before = datetime.now(UTC)

    with pytest.raises(ConfigurationError, match=r"SQLite has no partitions.*name a PostgreSQL in DATABASE_URL"):
        partitions.partition()

    assert partitions.all() is None
    assert partitions.keep(before).rows_before == before
    assert (partitions.forget_deliveries(before), partitions.problems(before)) == (0, [])
    database.dispose()
