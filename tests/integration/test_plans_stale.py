"""Right after many have died, when PostgreSQL's statistics know of none of them, what pages ask stays bounded.

The planner then takes the index of the dead for one of a single row, and what it joins with that for free. So the statements
of pages are written such that no plan of it can be dear: what they touch is counted here, in pages of the buffer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from tests import postgresql
from webhooks.database import Database
from webhooks.database.connect import connect
from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.store import Store

DEAD = Selection(states=(DeliveryState.DEAD,))
#: Twenty thousand events with a delivery each, which all succeeded, and 2,000 that wait in 100 lanes; known to the planner.
BEFORE = """
    alter table webhooks_deliveries set (autovacuum_enabled = false);
    insert into webhooks_events (id, source, type, dedup_key, revision, receipt, occurred_at, received_at, body)
    select n * 4096, 'close', 'lead.updated', 'ev_' || n, 1, 0, at, at, ''
      from (select n, now() - interval '1 day' + n * interval '4 seconds' as at from generate_series(1, 20000) n) g;
    insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at, created_at, finished_at)
    select id, id, 'h' || id / 4096 % 5, case when id < 2001 * 4096 then 0 else 2 end, id >= 2001 * 4096,
           case when id < 2001 * 4096 then 'l' || id / 4096 % 100 end, case when id < 2001 * 4096 then id end, 1, received_at,
           received_at, received_at
      from webhooks_events;
    analyze;
"""
AFTER = """
    update webhooks_deliveries set state = 3, reason = 'ValueError: 7' where id > 5000 * 4096;
    update webhooks_deliveries set state = 3, reason = 'ValueError: 7', blocks = true where id < 101 * 4096;
"""


@pytest.fixture(scope="module")
def database(postgresql_server: postgresql.Server) -> Iterator[Database]:
    name = f"stale_{os.environ.get('PYTEST_XDIST_WORKER', 'master')}"
    with postgresql_server.database(name, postgresql_server.template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(BEFORE)
            connection.execute(AFTER)
        database = connect(url)
        yield database
        database.dispose()


@pytest.fixture(autouse=True)
def _on(request: pytest.FixtureRequest, postgresql_server: postgresql.Server) -> None:
    request.node.user_properties.append(("database", postgresql_server.label))


def buffers_of(database: Database, call: Callable[[Store], Any]) -> int:
    """How many pages of the buffer the statements of a call touch."""
    said: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        call(Store(database, {}))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    touched = 0
    with database.raw() as connection:
        for statement, parameters in said:
            explained = connection.execute(f"explain (analyze, buffers, timing off) {statement}", parameters)
            first = next(row[0] for row in explained if "Buffers:" in row[0])  # of the top: all below is in it
            touched += sum(map(int, re.findall(r"(?:hit|read)=(\d+)", first)))
    return touched


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda store: store.health.gauges(in_all=20_000), 20_000),
        (lambda store: store.listings.look(DEAD, deadline=timedelta(0)), 20_000),
        (lambda store: store.listings.blocked_lanes(Selection()), 4_000),
        (lambda store: store.listings.count_blocked_lanes(1_000), 100),
    ],
    ids=["gauges", "events of the dead", "blocked lanes", "their number"],
)
def test_what_just_died_makes_no_page_dear(database: Database, call: Callable[[Store], Any], most: int) -> None:
    touched = buffers_of(database, call)
    assert touched <= most
