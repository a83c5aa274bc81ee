"""When each handler last succeeded and last failed, looked for in a bounded number of rows.

No index has the time at which a delivery ended, so what is looked at are the newest deliveries of all for successes, and
for failures of each handler its newest dead ones and those of its retries that are due last. A handler whose latest
success is an older delivery than those has none here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.model import DeliveryClass, DeliveryState
from webhooks.store.health.gauges import RECENT, SAMPLED
from webhooks.store.health.records import LatestRuns

_SUCCEEDED = """
    select x.handler, max(x.finished_at) as at from (
      select handler, state, finished_at from webhooks_deliveries order by id desc limit {recent}) x
     where x.state = 2 group by x.handler
"""
_DEAD = """
    (select x.id from (select d.id, d.finished_at from webhooks_deliveries d where d.handler = h.name and d.state = 3
        order by d.id desc limit {sampled}) x order by x.finished_at desc limit 1) as dead"""
_RETRIED = """
    (select x.id from (select d.id, d.failures, d.scheduled_at from webhooks_deliveries d where d.handler = h.name
        and d.class = {n} and d.state = 0 and d.ready{true} order by d.due_at desc, d.id desc limit {sampled}) x
      where x.failures > 0 and x.scheduled_at is not null order by x.scheduled_at desc limit 1) as retried{n}"""


def latest_runs(connection: Connection, is_true: str) -> dict[str, LatestRuns]:
    """{handler: its latest runs}; is_true: what follows a truth's name (see `dialect.Dialect`)."""
    succeeded = text(_SUCCEEDED.format(recent=RECENT)).columns(at=schema.Instant())
    successes = {row.handler: row.at for row in connection.execute(succeeded)}
    failures = latest_failures(connection, is_true)
    return {
        name: LatestRuns(successes.get(name), *failures.get(name, (None, None))) for name in {*successes, *failures}
    }


def latest_failures(connection: Connection, is_true: str) -> dict[str, tuple[datetime, str | None]]:
    """{handler: when it last failed, and why}; is_true: as of `latest_runs`. Two statements."""
    retried = (_RETRIED.format(n=int(kind), true=is_true, sampled=SAMPLED) for kind in DeliveryClass)
    columns = ", ".join([_DEAD.format(sampled=SAMPLED), *retried])
    found = connection.execute(text(f"select {columns} from webhooks_handlers h"))
    return _failures(connection, [id for row in found for id in row if id is not None])


def _failures(connection: Connection, ids: Iterable[int]) -> dict[str, tuple[datetime, str | None]]:
    """{handler: when the latest of these failed, and why}."""
    table = schema.deliveries
    query = select(table.c.handler, table.c.state, table.c.reason, table.c.finished_at, table.c.scheduled_at).where(
        table.c.id.in_(bindparam("ids", expanding=True))
    )
    rows = sorted(connection.execute(query, {"ids": list(ids)}), key=_failed_at)
    return {row.handler: (_failed_at(row), row.reason) for row in rows}


def _failed_at(row: Any) -> datetime:
    at: datetime = row.finished_at if row.state == DeliveryState.DEAD else row.scheduled_at
    return at


__all__ = ["latest_failures", "latest_runs"]
