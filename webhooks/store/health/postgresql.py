"""The gauges on PostgreSQL: the time is the server's, and the latest retries are one lateral join.

What waits in lanes is one too, with `offset 0`, so that the planner asks the index for each lane: when many have just died,
what it knows of the table is older, and it took every lane of a handler for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from webhooks.database import Database
from webhooks.store.health.gauges import gauges_statement


def _latest(query: str, columns: Mapping[str, str]) -> tuple[str, str]:
    sums = ", ".join(f"{expression} as {name}" for name, expression in columns.items())
    return ", ".join(f"y.{name}" for name in columns), f"cross join lateral (select {sums} from ({query}) x) y"


def _each_lane(waiting: str) -> str:
    return f"cross join lateral (select 1 from {waiting} offset 0) w"


class PostgresqlGauges:
    """See `health.GaugeStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def rows(self, limit: int, in_all: int | None) -> tuple[datetime, Sequence[Row[Any]]]:
        """With the time in each row."""
        statement = gauges_statement(
            is_true="", now="statement_timestamp()", latest=_latest, each_lane=_each_lane, limit=limit, in_all=in_all
        )
        with self.database.read() as connection:
            rows = connection.exec_driver_sql(statement).fetchall()
            return (rows[0].now_at.astimezone(UTC) if rows else self.database.now(connection)), rows


__all__ = ["PostgresqlGauges"]
