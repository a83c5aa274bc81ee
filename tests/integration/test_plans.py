"""With 100,000 events stored, PostgreSQL reads what a statement needs by the index that is there for it.

Each index of `schema` that is no primary key stands in `USES`, with a statement of ours that reads by it: one that
nothing uses is paid for by every event for nothing. The plans are those of the statements that the store really sends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests import postgresql
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.model import DeliveryClass, DeliveryState, id_at, new_id
from webhooks.routing import SUCCEEDED
from webhooks.selection import Selection
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import HandlerRow
from webhooks.store.intake import Item, Routed
from webhooks.store.lanes import Place, PostgresqlLanes
from webhooks.store.rejections import Rejection
from webhooks.store.tallies import WINDOWS

pytestmark = pytest.mark.together

EVENTS = 100_000
NOW = datetime.now(UTC)

#: A hundred thousand events of a month, one delivery each; a fifth of them in lanes. Nearly all are done, and a paused
#: handler has a backlog of 5,000.
FILL = f"""
    insert into webhooks_events (id, source, type, dedup_key, revision, receipt, occurred_at, received_at, body)
    select ((extract(epoch from at) - extract(epoch from timestamptz '2020-01-01 00:00Z')) * 1000000)::bigint << 12, 'close',
           (array['lead.updated', 'contact.created', 'task.deleted'])[1 + n % 3], 'ev_' || n, 1, 0, at, at,
           convert_to(repeat('x', 500), 'UTF8')
      from (select n, now() - interval '30 days' + n * interval '25 seconds' as at from generate_series(1, {EVENTS}) n) g;
    insert into webhooks_dedup_log (source, dedup_key, revision, event_id, offered, first_seen_at, last_seen_at)
    select source, dedup_key, 1, id, id, received_at, received_at from webhooks_events;
    insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at, created_at,
        lease_until, scheduled_at, finished_at)
    select id, id, handler, state, lane is null or state >= 1, lane, case when lane is not null then id end,
           case when lane is not null then 1 end, received_at, received_at,
           case when state = 1 then received_at end, case when state = 0 and n % 20 = 5 then received_at end,
           case when state >= 2 then received_at end
      from (select e.*, case when n % 5 = 0 then 'lead_' || n end lane,
                   case when n % 20 = 1 then 'paused' else (array['a', 'b', 'c'])[1 + n % 3] end handler,
                   case when n % 20 = 1 then 0 when n % 1000 = 2 then 3 when n % 1000 = 4 then 1 when n % 100 = 5 then 0
                        else 2 end state
              from (select *, substr(dedup_key, 4)::int n from webhooks_events) e) d;
    insert into webhooks_lanes (handler, lane, mark_at, mark_revision, touched_at)
    select handler, lane, 0, 0, now() from webhooks_deliveries where lane is not null on conflict do nothing;
    update webhooks_deliveries d set ready = true where lane is not null and state = 0;
    insert into webhooks_rejections (id, source, received_at, request_id, status, reason, header_names, header_bytes,
        body_bytes, kind)
    select n, 's' || n % 100, now(), to_hex(n), 401, 'r', '[]', 0, 0, 'k' || n / 100 % 10 from generate_series(1, 10000) n;
    insert into webhooks_quarantine (id, source, digest, reason, kind, received_at, last_seen_at, body, request_id)
    select n, 's', decode(lpad(to_hex(n), 64, '0'), 'hex'), 'r', 'k', now(), now(), '', to_hex(n)
      from generate_series(1, 10000) n;
    insert into webhooks_actions (id, at, by, via, verb, subject, state, preview_id, undoes)
    select n, now(), 'ada', 'cli', 'requeue', '', case when n % 1000 = 0 then 0 else 2 end, n, case when n % 100 = 0 then n end
      from generate_series(1, 10000) n;
    update webhooks_deliveries set action_id = 7 where state = 3;
    insert into webhooks_tallies (span, at, kind, name, what, bucket, n)
    select span, (extract(epoch from now()) / 60)::int / 720 * 720 - i * span, 1, 'h' || h, 0, b, 1
      from (values (1), (5), (30), (180), (720)) s(span), generate_series(0, 59) i, generate_series(1, 20) h,
           generate_series(1, 10) b;
"""


@pytest.fixture(scope="module")
def database(postgresql_server: postgresql.Server) -> Iterator[Database]:
    """A full database for all tests of this module: they look at plans, which their few changes do not move."""
    name = f"plans_{os.environ.get('PYTEST_XDIST_WORKER', 'master')}"
    with postgresql_server.database(name, postgresql_server.template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("vacuum analyze")
        database = connect(url)
        yield database
        database.dispose()


@pytest.fixture(scope="module")
def store(database: Database) -> Store:
    return Store(database, {})


@pytest.fixture(autouse=True)
def _on(request: pytest.FixtureRequest, postgresql_server: postgresql.Server) -> None:
    request.node.user_properties.append(("database", postgresql_server.label))


@pytest.fixture
def plans_of(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], str]:
    """Run something, and explain every statement that it sent."""

    def explain(call: Callable[[], Any]) -> str:
        sent: list[tuple[type[Any], Any, Any]] = []
        execute = psycopg.Cursor.execute

        def record(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
            sent.append((type(cursor), query, params))
            return execute(cursor, query, params, **options)

        with monkeypatch.context() as patch:
            patch.setattr(psycopg.Cursor, "execute", record)
            call()
        lines: list[str] = []
        with database.raw() as connection:
            for kind, query, params in sent:
                words = str(query).split(None, 1)
                if words[0].lower() in ("select", "with", "insert", "update", "delete"):
                    with kind(connection) as cursor:
                        lines += [row[0] for row in cursor.execute("explain " + " ".join(words), params)]
        return "\n".join(lines)

    return explain


def claim(store: Store) -> None:
    quotas = {(handler, kind): 20 for handler in "abc" for kind in DeliveryClass}
    store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")


def finish(store: Store) -> None:
    quotas = {("a", DeliveryClass.FRESH): 20}
    claimed = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
    assert len({each.delivery.lane for each in claimed}) > 1
    assert store.deliveries.finish([Finished(each.delivery, SUCCEEDED, timedelta(seconds=1)) for each in claimed])


def claim_ids(store: Store, n: int = 20) -> None:
    """By ids, as an engine that is told of them does."""
    wanted = store.deliveries.first({("a", DeliveryClass.FRESH): n})
    assert wanted
    ids = [each.id for each in wanted]
    assert store.deliveries.claimable(ids, ["a", "b"])
    assert store.deliveries.claim_ids(ids, ["a", "b"], lease=timedelta(seconds=30), worker="w")


def ingest(store: Store) -> None:
    routes = (Routed(new_id(), "a", "lead_5"),)
    store.intake.record([Item(new_id(), "close", f"ev_{new_id()}", 1, "t", NOW, NOW, b"{}", routes=routes)])


def settle(store: Store) -> None:
    with store.database.raw() as connection, connection.transaction():
        keys = [("a", f"lead_{n}") for n in range(5, 1_000, 100)]
        lanes = PostgresqlLanes(store.database)
        lanes.lock(connection.cursor(), keys)
        lanes.settle(connection.cursor(), keys)


def settle_latest(store: Store) -> None:
    """Of a handler that wants the newest only: the head, what it superseded, and when its burst is over."""
    store.handlers.register(
        [HandlerRow("b", ["**"], latest=True, debounce=(timedelta(seconds=5), timedelta(minutes=1)))]
    )
    with store.database.raw() as connection, connection.transaction():
        keys = [("b", f"lead_{n}") for n in range(25, 1_000, 100)]
        lanes, cursor = PostgresqlLanes(store.database), connection.cursor()
        lanes.lock(cursor, keys)
        lanes.supersede(cursor, [Place(new_id(), *key, new_id(), 2, is_latest=True) for key in keys])
        lanes.settle(cursor, keys)
        lanes.postpone(cursor, keys)


def quarantine(store: Store) -> None:
    store.quarantine.put("s", b"x", reason="r", kind="unparseable", received_at=NOW, headers="{}")


LONG_AGO = NOW - timedelta(days=29, hours=23)

#: {index: what reads by it}
USES: dict[str, Callable[[Store], Any]] = {
    "ix_webhooks_deliveries_ready": claim,
    "ix_webhooks_deliveries_lane": settle,
    "ix_webhooks_deliveries_running": lambda store: store.deliveries.expired(100),
    "ix_webhooks_deliveries_newest_dead": lambda store: store.listings.deliveries(
        Selection(states=(DeliveryState.DEAD,))
    ),
    "ix_webhooks_deliveries_blocking": lambda store: store.health.gauges(),
    "ix_webhooks_deliveries_scheduled": lambda store: store.clocks.pull_back(timedelta(seconds=30)),
    "ix_webhooks_deliveries_dead": lambda store: store.listings.events(Selection(states=(DeliveryState.DEAD,))),
    "uq_webhooks_deliveries_event_id_handler_replay_id": lambda store: store.listings.of_event(id_at(NOW)),
    "ix_webhooks_events_received_at": lambda store: store.listings.events(Selection(), limit=50),
    "ix_webhooks_events_type": lambda store: store.replays.count_events(Selection(type="lead.updated"), new_id()),
    "ix_webhooks_dedup_log_last_seen_at": lambda store: store.pruning.dedup_keys(LONG_AGO),
    "ix_webhooks_rejections_source_id": lambda store: store.rejections.latest(20, "s7"),
    "ix_webhooks_rejections_request_id": lambda store: store.rejections.find("1f"),
    "ix_webhooks_rejections_source_kind_id": lambda store: store.rejections.put(
        Rejection("s7", NOW, "request", 401, "r", None, (), 0, 0, kind="k3")
    ),
    "ix_webhooks_quarantine_request_id": lambda store: store.quarantine.of_request("1f"),
    "uq_webhooks_quarantine_source_digest": quarantine,
    "ix_webhooks_deliveries_action_id_id": lambda store: store.listings.deliveries(Selection(action=7)),
    "uq_webhooks_actions_preview_id": lambda store: store.actions.of_preview(7),
    "ix_webhooks_actions_unfinished": lambda store: store.actions.unfinished(),
    "ix_webhooks_actions_undoes": lambda store: store.actions.undone_by(7),
}
#: Read by nobody: they refuse what must not be.
GUARDS = {"uq_webhooks_deliveries_head"}


def test_every_index_guards_something_or_has_a_statement_that_reads_by_it() -> None:
    indexes = {str(index.name) for table in schema.metadata.tables.values() for index in table.indexes}

    assert indexes == GUARDS | set(USES)


@pytest.mark.parametrize("index", USES)
def test_an_index_serves_the_statement_that_it_is_there_for(
    index: str, store: Store, plans_of: Callable[[Callable[[], Any]], str]
) -> None:
    assert index in plans_of(lambda: USES[index](store))


def test_the_guard_of_a_lane_refuses_a_second_head(database: Database) -> None:
    heads = """insert into webhooks_deliveries (id, event_id, handler, lane, due_at, created_at)
               select n, n, 'g', 'l', now(), now() from generate_series(1, :n) n"""
    with pytest.raises(IntegrityError, match="uq_webhooks_deliveries_head"), database.write() as connection:
        connection.execute(text(heads), {"n": 2})


def test_what_a_fresh_event_waits_for_is_planned_once(store: Store) -> None:
    """PostgreSQL plans a prepared statement anew for each execution when its plan for any parameters looks dearer.

    `finish` is left out: nobody waits for it, and its large batches want a plan for large batches.
    """
    quotas = {("a", DeliveryClass.FRESH): 2}
    with store.database.engine.connect():  # the pool's first connection; what follows shares the second
        for _ in range(20):
            ingest(store)
            store.deliveries.waiting(["a"], 50)
            claimed = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
            assert len(claimed) == 2
            assert store.deliveries.finish([Finished(each.delivery, SUCCEEDED) for each in claimed])
            claim_ids(store, 1)
        with store.database.raw() as connection:
            prepared = connection.execute(
                "select custom_plans, generic_plans, statement from pg_prepared_statements"
                " where statement ~ 'webhooks_' and statement !~ 'webhooks_attempts'"
            ).fetchall()
    assert len(prepared) >= 9
    assert [row for row in prepared if row[0] > 5] == []


#: Tables that grow with every event.
LARGE = ("webhooks_events", "webhooks_deliveries", "webhooks_dedup_log", "webhooks_lanes")


@pytest.mark.parametrize(
    "statement",
    [
        claim,
        claim_ids,
        settle,
        settle_latest,
        lambda store: store.deliveries.waiting(["a", "b", "c"], 50),
        lambda store: store.deliveries.expired(100),
        lambda store: store.clocks.pull_back(timedelta(seconds=30)),
        lambda store: store.listings.events(Selection(), limit=50),
        lambda store: store.listings.events(Selection(since=LONG_AGO), newest_first=False, limit=50),
        lambda store: store.pruning.events(LONG_AGO, dry_run=True),
        lambda store: store.listings.blocked_lanes(Selection()),
        lambda store: (store.listings.lane_neighbours(1), store.listings.lane_waits([1, 2])),
        lambda store: store.replays.count_pruned(Selection()),
        lambda store: store.health.gauges(),
        lambda store: store.gauges.read(),
        lambda store: store.alarms.figures(),
        lambda store: store.health.latest_runs(),
        lambda store: store.listings.deliveries(Selection(states=(DeliveryState.DEAD,))),
        lambda store: store.listings.failures(Selection(), look_at=20_000, until=NOW),
        lambda store: store.listings.last_received(timedelta(days=1)),
        lambda store: (store.tallies.read(WINDOWS["24h"]), store.tallies.totals(0, 60, 1), store.tallies.fold()),
        lambda store: store.listings.look(Selection(unrouted=True), deadline=timedelta(0)),
        lambda store: store.listings.look(Selection(error="nowhere"), deadline=timedelta(0)),
        lambda store: store.listings.look(Selection(source="x"), deadline=timedelta(0)),
        lambda store: store.listings.look_at_deliveries(Selection(error="nowhere"), deadline=timedelta(0)),
        finish,
        ingest,
    ],
    ids=[
        "claim",
        "claim by id",
        "settle",
        "settle the latest",
        "look",
        "expired",
        "clocks",
        "latest",
        "since",
        "prune",
        "blocked",
        "in a lane",
        "gone",
        "gauges",
        "installation",
        "figures of alarms",
        "latest runs",
        "dead",
        "failures",
        "last of each source",
        "figures",
        "unrouted",
        "error",
        "source",
        "failed",
        "finish",
        "ingest",
    ],
)
def test_what_runs_all_the_time_reads_no_table_from_end_to_end(
    statement: Callable[[Store], Any], store: Store, plans_of: Callable[[Callable[[], Any]], str]
) -> None:
    plan = plans_of(lambda: statement(store))

    for table in (*LARGE, "webhooks_quarantine", "webhooks_tallies"):
        assert f"Seq Scan on {table}" not in plan, plan
