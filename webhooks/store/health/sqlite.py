"""The gauges on SQLite: the time is this process's, and the latest retries are a subquery for each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from webhooks.database import Database, to_microseconds
from webhooks.store.health.gauges import gauges_statement


def _latest(query: str, columns: Mapping[str, str]) -> tuple[str, str]:
    # there are no lateral joins
    return ", ".join(f"(select {expression} from ({query}) x) as {name}" for name, expression in columns.items()), ""


def _each_lane(waiting: str) -> str:
    table, _, conditions = waiting.partition(" where ")
    return f"join {table} on {conditions}"


class SqliteGauges:
    """See `health.GaugeStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def rows(self, limit: int, in_all: int | None) -> tuple[datetime, Sequence[Row[Any]]]:
        """With instants as microseconds."""
        statement = gauges_statement(
            is_true=" = 1", now=":now", latest=_latest, each_lane=_each_lane, limit=limit, in_all=in_all
        )
        with self.database.read() as connection:
            at = self.database.clock()
            return at, connection.exec_driver_sql(statement, {"now": to_microseconds(at)}).fetchall()


__all__ = ["SqliteGauges"]
