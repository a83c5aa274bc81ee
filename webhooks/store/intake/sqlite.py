"""Recording a batch on SQLite: an upsert for each item, then the events and the deliveries at once, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from webhooks.database import Database, to_microseconds
from webhooks.model import DeliveryCause, Disposition
from webhooks.store.intake.bounds import HOUR, has_bounds, settle
from webhooks.store.intake.decide import (
    OLDER_LIMIT,
    ORIGIN_CODES,
    Decision,
    Decisions,
    Item,
    Routed,
    decision_of,
    lanes_of,
)
from webhooks.store.lanes import SqliteLanes


def _token(revision: str, digest: str) -> str:
    """A copy's name in `older`: its revision, or where the source has none, the digest of its body."""
    return (
        f"case when {revision} = 0 and {digest} is not null then 'd' || hex({digest}) else cast({revision} as text) end"
    )


_TOKEN_THERE = _token("l.revision", "l.digest")
_TOKEN_CAME = _token("excluded.revision", "excluded.digest")
#: What came is there already: as the newest, or as one that is kept.
_KNOWN = f"""((excluded.revision = l.revision
               and (excluded.digest is null or l.digest is null or excluded.digest = l.digest))
              or (l.older is not null and json_extract(l.older, '$."' || ({_TOKEN_CAME}) || '"') is not null))"""
_NEWER = "excluded.revision > l.revision"
#: No further copy of this key is kept.
_FULL = f"(l.older is not null and (select count(*) from json_each(l.older)) >= {OLDER_LIMIT})"

#: The decision: `l` is the row that is there, `excluded` the copy that came; a key without a row is stored.
_DECISION = f"""
    case when {_KNOWN} then {Disposition.DUPLICATE.code}
         when {_NEWER} then {Disposition.REVISION.code}
         when excluded.revision = l.revision  -- another body, from a source without revisions
              then case when {_FULL} then {Disposition.CONFLICT_UNKEPT.code} else {Disposition.CONFLICT.code} end
         else case when {_FULL} then {Disposition.STALE_UNKEPT.code} else {Disposition.STALE.code} end end"""

_UPSERT = f"""
    insert into webhooks_dedup_log as l
           (source, dedup_key, revision, event_id, digest, offered, first_seen_at, last_seen_at)
    values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (source, dedup_key) do update set
        copies = l.copies + 1,
        last_seen_at = case when excluded.last_seen_at > l.last_seen_at
                            then excluded.last_seen_at else l.last_seen_at end,
        offered = excluded.event_id,
        outcome = {_DECISION},
        previous_id = case when {_KNOWN} then l.previous_id when {_NEWER} then l.event_id else l.previous_id end,
        older = case when {_KNOWN} or {_FULL} then l.older
                     when {_NEWER} then json_patch(coalesce(l.older, '{{}}'), json_object({_TOKEN_THERE}, l.event_id))
                     else json_patch(coalesce(l.older, '{{}}'), json_object({_TOKEN_CAME}, excluded.event_id)) end,
        digest = case when not {_KNOWN} and {_NEWER} then excluded.digest else l.digest end,
        event_id = case when not {_KNOWN} and {_NEWER} then excluded.event_id else l.event_id end,
        revision = case when not {_KNOWN} and {_NEWER} then excluded.revision else l.revision end
    returning outcome, event_id, previous_id, older
"""
_EVENT = """
    insert into webhooks_events (id, source, type, dedup_key, revision, receipt, previous_id, object_id, group_id,
        occurred_at, received_at, origin, key_label, request_id, headers, body)
    values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""
_DELIVERY = """
    insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at,
        created_at, reason, cause, finished_at) values (?,?,?,?,?,?,?,?,?,?,?,?,?)
"""


class SqliteIntake:
    """See `record.IntakeStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lanes = SqliteLanes(database)

    def record(self, waves: Sequence[Sequence[Item]], patience: timedelta | None, until: float) -> Decisions:
        """All waves in one transaction; one row at a time, so copies of one key meet as they would one after the other."""
        return self._record(waves, until)

    def try_write(self, item: Item, patience: timedelta, until: float) -> None:
        """`record`, with a rollback for the commit."""
        self._record([[item]], until, end="rollback")

    def foreign_trigger(self) -> str | None:
        """SQLite does not say in whose statement a constraint failed."""
        with self.database.read() as connection:
            name: str | None = connection.exec_driver_sql(
                "select name from sqlite_master where type = 'trigger'"
                " and tbl_name in ('webhooks_dedup_log', 'webhooks_events', 'webhooks_deliveries') limit 1"
            ).scalar()
        return name

    def _record(self, waves: Sequence[Sequence[Item]], until: float, end: str = "commit") -> Decisions:
        decisions: dict[int, Decision] = {}
        events: list[tuple[Any, ...]] = []
        deliveries: list[tuple[Any, ...]] = []
        # an open cursor would keep a closed connection alive for as long as a traceback refers to it
        use = self.database.raw(harmless=end != "commit")
        with use as connection, contextlib.closing(connection.cursor()) as cursor:
            with self.database.busy_until(connection, until):
                cursor.execute("begin immediate")
            now = to_microseconds(self.database.clock())
            if has_bounds(waves):
                waves = settle(waves, decisions, _Bounds(cursor))
            for wave in waves:
                for item in wave:
                    decision, previous_id = _decide(cursor, item)
                    decisions[item.event_id] = decision
                    if decision.disposition.is_kept:
                        events.append(_event_row(item, decision.disposition, previous_id))
                    if decision.disposition.is_delivered:
                        deliveries += [_delivery_row(item, route, now) for route in item.routes]
            cursor.executemany(_EVENT, events)
            if deliveries:
                cursor.executemany(_DELIVERY, deliveries)
            if lanes := lanes_of(waves, decisions):
                self.lanes.lock(cursor, lanes)
                self.lanes.settle(cursor, lanes)
                self.lanes.postpone(cursor, lanes)
            cursor.execute(end)
        return decisions


class _Bounds:
    """See `bounds.BoundStatements`."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def is_known(self, item: Item) -> bool:
        row = self._cursor.execute(
            "select 1 from webhooks_dedup_log where source = ? and dedup_key = ? and first_seen_at >= ?",
            (item.source, item.dedup_key, _expiry(item)),
        ).fetchone()
        return row is not None

    def count(self, item: Item) -> tuple[int, int]:
        limit = item.bound.limit if item.bound is not None else 0
        row = self._cursor.execute(
            """insert into webhooks_equal_bodies as e (source, digest, since, n, event_id)
                    values (:source, :digest, :received, 1, :event_id)
               on conflict (source, digest) do update set
                   n = case when e.since <= :hour_ago then 1 else e.n + 1 end,
                   since = case when e.since <= :hour_ago then excluded.since else e.since end,
                   event_id = case when e.since <= :hour_ago or e.n < :limit then excluded.event_id else e.event_id end
               returning n, event_id""",
            {
                "source": item.source,
                "digest": item.digest,
                "received": to_microseconds(item.received_at),
                "event_id": item.event_id,
                "hour_ago": to_microseconds(item.received_at - HOUR),
                "limit": limit,
            },
        ).fetchone()
        return int(row[0]), int(row[1])

    def forget(self, item: Item) -> None:
        self._cursor.execute(
            "delete from webhooks_dedup_log where source = ? and dedup_key = ? and first_seen_at < ?",
            (item.source, item.dedup_key, _expiry(item)),
        )


def _expiry(item: Item) -> int:
    """In microseconds; 0 where nothing expires."""
    before = item.bound.expires_before if item.bound is not None else None
    return 0 if before is None else to_microseconds(before)


def _decide(cursor: Any, item: Item) -> tuple[Decision, int | None]:
    """What becomes of an item, and the event that its key's newest revision superseded."""
    received = to_microseconds(item.received_at)
    came = (item.source, item.dedup_key, item.revision, item.event_id, item.digest or None)
    code, event_id, previous_id, older = cursor.execute(_UPSERT, (*came, item.event_id, received, received)).fetchone()
    decision = decision_of(item, code, event_id)
    if decision.disposition is Disposition.DUPLICATE and older is not None:
        return decision._replace(event_id=_kept_as(item, older, event_id)), previous_id
    if decision.disposition.is_kept and not decision.disposition.is_conflict:
        return decision._replace(event_id=item.event_id), previous_id
    return decision, previous_id


def _kept_as(item: Item, older: str, newest: int) -> int:
    """The event that a duplicate repeats: one of `older`, or the newest."""
    import json  # two levels and integers: nothing of the sender's but digests

    token = f"d{item.digest.hex().upper()}" if item.revision == 0 and item.digest else str(item.revision)
    kept: int = json.loads(older).get(token, newest)
    return kept


def _event_row(item: Item, disposition: Disposition, previous_id: int | None) -> tuple[Any, ...]:
    """The parameters of `_EVENT`."""
    return (
        item.event_id, item.source, item.type, item.dedup_key, item.revision, disposition.code,
        previous_id if disposition is Disposition.REVISION else None,
        item.object_id or None, item.group_id or None, to_microseconds(item.occurred_at), to_microseconds(item.received_at),
        ORIGIN_CODES[item.origin], item.key_label or None, item.request_id or None, item.headers or None, item.body,
    )  # fmt: skip


def _delivery_row(item: Item, route: Routed, now: int) -> tuple[Any, ...]:
    """The parameters of `_DELIVERY`. now: in microseconds."""
    dead = route.error is not None
    return (
        route.delivery_id, item.event_id, route.handler, 3 if dead else 0, not route.lane,
        route.lane or None, to_microseconds(item.occurred_at) if route.lane else None,
        item.revision if route.lane else None, now, now, route.error,
        DeliveryCause.ORDERING_FAILED if dead else None, now if dead else None,
    )  # fmt: skip


__all__ = ["SqliteIntake"]
