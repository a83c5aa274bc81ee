"""Whose fault a refusal of the database is: only a row that is refused alone, where a harmless one is not, is quarantined."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, func, select

from tests.integration.conftest import Consumer
from tests.support import Clock
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.errors import DatabaseRefused, StorageUnavailable
from webhooks.intake import quarantine as admission
from webhooks.intake.overload import DatabaseTrouble
from webhooks.model import ParsedEvent
from webhooks.routing import Registry

pytestmark = pytest.mark.one_database

GOOD = "whatsapp_message_created_incoming"

#: {what somebody did to our tables: ((PostgreSQL: what, and how it is undone), (SQLite: the same))}; "" where it has none.
FAULTS = {
    "a trigger raises": (
        (
            "create function f() returns trigger as 'begin raise exception ''refused %'', new.type; end' language plpgsql;"
            "create trigger t before insert on webhooks_events for each row execute function f()",
            "drop function f cascade",
        ),
        (
            "create trigger t before insert on webhooks_events begin select raise(abort, 'audit table is full'); end",
            "drop trigger t",
        ),
    ),
    "a trigger raises as a constraint would": (
        (
            "create function f() returns trigger as 'begin raise check_violation; end' language plpgsql;"
            "create trigger t before insert on webhooks_deliveries for each row execute function f()",
            "drop function f cascade",
        ),
        ("", ""),
    ),
    "a trigger divides by zero": (
        (
            "create function f() returns trigger as 'begin perform 1 / 0; return new; end' language plpgsql;"
            "create trigger t before insert on webhooks_dedup_log for each row execute function f()",
            "drop function f cascade",
        ),
        ("", ""),
    ),
    "a trigger fills an audit table twice": (
        (
            "create table audit (id int primary key); insert into audit values (1);"
            "create function f() returns trigger as 'begin insert into audit values (1); return new; end' language plpgsql;"
            "create trigger t after insert on webhooks_events for each row execute function f()",
            "drop function f cascade; drop table audit",
        ),
        (
            "create table audit (id int primary key); insert into audit values (1);"
            "create trigger t after insert on webhooks_events begin insert into audit values (1); end",
            "drop trigger t; drop table audit",
        ),
    ),
    "a table is gone": (
        ("alter table webhooks_dedup_log rename to gone", "alter table gone rename to webhooks_dedup_log"),
        ("alter table webhooks_dedup_log rename to gone", "alter table gone rename to webhooks_dedup_log"),
    ),
    "a column is gone": (
        (
            "alter table webhooks_deliveries rename lane_revision to gone",
            "alter table webhooks_deliveries rename gone to lane_revision",
        ),
        (
            "alter table webhooks_deliveries rename column lane_revision to gone",
            "alter table webhooks_deliveries rename column gone to lane_revision",
        ),
    ),
    "a check of somebody's": (
        (
            "alter table webhooks_events add constraint theirs check (source <> 'close') not valid",
            "alter table webhooks_events drop constraint theirs",
        ),
        ("", ""),
    ),
    "a column must not be empty": (
        (
            "alter table webhooks_events add column tenant int not null default 1;"
            "alter table webhooks_events alter column tenant drop default",
            "alter table webhooks_events drop column tenant",
        ),
        ("", ""),
    ),
    "a foreign key of somebody's": (
        (
            "create table tenants (name text primary key); alter table webhooks_events add constraint theirs"
            " foreign key (source) references tenants (name)",
            "alter table webhooks_events drop constraint theirs; drop table tenants",
        ),
        ("", ""),
    ),
    "one event of a source is all that is allowed": (
        (
            "alter table webhooks_dedup_log add constraint theirs exclude using btree (source with =)",
            "alter table webhooks_dedup_log drop constraint theirs",
        ),
        ("create unique index theirs on webhooks_dedup_log (source)", "drop index theirs"),
    ),
}
BEFORE = ("one event of a source is all that is allowed",)


@contextlib.contextmanager
def done_to(database: Database, fault: str) -> Iterator[None]:
    """What somebody did to our tables, undone afterwards: the database is shared with other tests."""
    do, undo = FAULTS[fault][database.is_sqlite]
    if not do:
        pytest.skip("SQLite has nothing like it")
    run(database, do)
    try:
        yield
    finally:
        run(database, undo)


def run(database: Database, statements: str) -> None:
    with database.raw() as connection:
        (connection.executescript if database.is_sqlite else connection.execute)(statements)


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def handling() -> Registry:
    registry = Registry()
    registry.add(lambda event: None, "**", name="h")
    return registry


def ready(consumer: Consumer) -> int:
    """The status of a readiness that is asked anew."""
    problems, _ = consumer.webhooks.check()
    return 503 if problems else 200


@pytest.fixture
def consumer(make_consumer: Callable[..., Consumer]) -> Consumer:
    return make_consumer(handling())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_database_is_503_and_no_event_is_quarantined(
    consumer: Consumer, payload: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = consumer.webhooks.database
    if fault in BEFORE:
        assert consumer.post(payload("lead_merged")).status_code == 200
    with done_to(database, fault):
        answers = [consumer.post(payload(GOOD)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert all(answer.json["error"] == "storage_unavailable" for answer in answers)
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert ready(consumer) == 503
        assert count(database, schema.quarantine) == 0
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    # a line each, of which `refusals` lets a few a minute through
    assert (
        len([line for line in lines if "refused a request to source 'close' (storage, 503)" in line.getMessage()]) == 3
    )
    assert not any(line.exc_info for line in lines)
    assert not any(GOOD in line.getMessage() or "Bonjour" in line.getMessage() for line in lines)
    assert consumer.post(payload(GOOD)).json["status"] == "stored"  # and nothing half is left
    assert ready(consumer) == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_write_finds_the_fault_and_leaves_no_row(database: Database, fault: str) -> None:
    from webhooks.store import Store

    intake = Store(database, {}).intake
    intake.try_write()
    if fault not in BEFORE and fault != "a check of somebody's":
        with done_to(database, fault), pytest.raises(DatabaseRefused):
            intake.try_write()
    intake.try_write()
    assert [count(database, table) for table in (schema.events, schema.dedup_log, schema.deliveries)] == [0, 0, 0]


def test_a_missing_grant_is_503_and_names_what_to_grant(
    consumer: Consumer, payload: Any, caplog: pytest.LogCaptureFixture
) -> None:
    database = consumer.webhooks.database
    if database.is_sqlite:
        pytest.skip("SQLite has no roles")
    consumer.webhooks.background.write_soon = lambda write: None

    def become(connection: Any, record: Any) -> None:
        connection.execute("set role pg_read_all_data")
        connection.commit()

    event.listen(database.engine, "connect", become)
    assert consumer.post(payload(GOOD)).status_code == 503
    assert ready(consumer) == 503
    assert "SQLSTATE 42501" in caplog.text
    assert "grant the role of DATABASE_URL" in caplog.text
    event.remove(database.engine, "connect", become)
    database.dispose()
    assert consumer.post(payload(GOOD)).json["status"] == "stored"


def test_a_mixed_up_prepared_statement_is_503_once(consumer: Consumer, payload: Any) -> None:
    """As behind a pooler that hands out one server connection to several clients."""
    database = consumer.webhooks.database
    if database.is_sqlite:
        pytest.skip("SQLite has no server to mix them up")
    consumer.webhooks.background.write_soon = lambda write: None  # one connection is all that is used
    bodies = [json.dumps(changed(payload(GOOD), f"ev_{n}")).encode() for n in range(9)]
    for body in bodies[:7]:
        assert consumer.post(body).status_code == 200
    with database.raw() as connection:
        connection.pgconn.exec_(b"deallocate all")
    assert consumer.post(bodies[7]).status_code == 503
    assert consumer.post(bodies[7]).json["status"] == "stored"
    assert count(database, schema.quarantine) == 0


def changed(body: bytes, key: str) -> Any:
    value = json.loads(body)
    value["event"]["id"] = key
    return value


def test_a_row_that_is_refused_alone_while_others_of_its_kind_are_not_is_quarantined(
    consumer: Consumer, payload: Any
) -> None:
    database = consumer.webhooks.database
    assert consumer.post(payload("whatsapp_message_updated")).json["status"] == "stored"
    run(database, "create unique index theirs on webhooks_events (object_id)")
    try:
        answer = consumer.post(payload("whatsapp_message_updated_revision"))
        assert answer.json["status"] == "quarantined"
        assert ready(consumer) == 200
        kept = consumer.webhooks.store.quarantine.get(int(answer.json["quarantine_id"]))
        assert kept is not None
        assert "the database refused it" in kept.reason
        assert "acti_" not in kept.reason  # names, no values
        again = admission.retry(kept.id, store=consumer.webhooks.store, ingest=consumer.webhooks.ingest, by="ines")
        assert "the database refused it" in (again.reason or "")
    finally:
        run(database, "drop index theirs")
    (receipt,) = admission.retry(
        kept.id, store=consumer.webhooks.store, ingest=consumer.webhooks.ingest, by="ines"
    ).receipts
    assert receipt.status == "revision"


def test_retrying_what_is_quarantined_while_the_database_refuses_everything_keeps_its_reason(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webhooks.errors import Malformed

    webhooks = consumer.webhooks
    with pytest.MonkeyPatch.context() as fault:

        def parse(request: Any) -> Any:
            raise Malformed("a fault of ours")

        fault.setattr(webhooks.sources["close"], "parse", parse)
        id = int(consumer.post(payload(GOOD)).json["quarantine_id"])
    with done_to(webhooks.database, "a trigger raises"), pytest.raises(StorageUnavailable):
        admission.retry(id, store=webhooks.store, ingest=webhooks.ingest, by="ines")
    kept = webhooks.store.quarantine.get(id)
    assert kept is not None
    assert (kept.state, kept.reason) == ("held", "a fault of ours")


def test_what_catch_up_records_is_judged_the_same(consumer: Consumer, clock: Clock) -> None:
    webhooks = consumer.webhooks
    events = [ParsedEvent(dedup_key=f"ev_{n}", type="lead.created", body=b"{}", revision=1) for n in range(3)]
    with done_to(webhooks.database, "a trigger raises"), pytest.raises(DatabaseRefused):
        webhooks.ingest.record(webhooks.sources["close"], events, received_at=clock())
    assert len(webhooks.ingest.record(webhooks.sources["close"], events, received_at=clock())) == 3


# -- what /readyz remembers ---------------------------------------------------------------------------------


def test_a_refusal_is_remembered_until_something_is_stored_or_it_is_old() -> None:
    now = [0.0]
    trouble = DatabaseTrouble(lambda: now[0])
    trouble.note(StorageUnavailable("locked for a moment"))
    assert trouble.refused is None
    trouble.note(DatabaseRefused("a trigger"))
    assert trouble.refused == "a trigger"
    trouble.clear()
    assert trouble.refused is None
    trouble.note(DatabaseRefused("a trigger"))
    now[0] += DatabaseTrouble.LASTS
    assert trouble.refused is None
