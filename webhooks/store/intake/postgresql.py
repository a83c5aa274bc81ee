"""Recording a batch on PostgreSQL: one statement for a wave of items, whatever becomes of each.

`i` are the items and `r` their deliveries, as parameters; `d` is the upsert that decides, `e` the events that are kept,
`v` the deliveries that are made, `n` the word to the workers. Parameters are never null: "" stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from webhooks.database import Database
from webhooks.database import postgresql as arrays
from webhooks.model import DeliveryCause, Disposition
from webhooks.store.intake.bounds import HOUR, has_bounds, settle
from webhooks.store.intake.decide import (
    COLUMNS_OF_ITEM,
    OLDER_LIMIT,
    ORIGIN_CODES,
    Decision,
    Decisions,
    Item,
    decision_of,
    lanes_of,
)
from webhooks.store.lanes import PostgresqlLanes

_STORED, _DUPLICATE, _REVISION, _STALE = (
    Disposition.STORED.code, Disposition.DUPLICATE.code, Disposition.REVISION.code, Disposition.STALE.code,
)  # fmt: skip


def _token(revision: str, digest: str) -> str:
    """A copy's name in `older`: its revision, or where the source has none, the digest of its body."""
    return f"case when {revision} = 0 and {digest} is not null then 'd' || encode({digest}, 'hex') else cast({revision} as text) end"


_TOKEN_THERE = _token("l.revision", "l.digest")
_TOKEN_CAME = _token("excluded.revision", "excluded.digest")
#: What came is there already: as the newest, or as one that is kept.
_KNOWN = f"""((excluded.revision = l.revision
               and (excluded.digest is null or l.digest is null or excluded.digest = l.digest))
              or (l.older is not null and l.older ? ({_TOKEN_CAME})))"""
_NEWER = "excluded.revision > l.revision"
#: No further copy of this key is kept.
_FULL = f"(l.older is not null and (select count(*) from jsonb_object_keys(l.older)) >= {OLDER_LIMIT})"

#: The decision: `l` is the row that is there, `excluded` the copy that came; a key without a row is stored.
_DECISION = f"""
    case when {_KNOWN} then {_DUPLICATE}
         when {_NEWER} then {_REVISION}
         when excluded.revision = l.revision  -- another body, from a source without revisions
              then case when {_FULL} then {Disposition.CONFLICT_UNKEPT.code} else {Disposition.CONFLICT.code} end
         else case when {_FULL} then {Disposition.STALE_UNKEPT.code} else {_STALE} end end"""

_UPSERT = f"""
    insert into webhooks_dedup_log as l
           (source, dedup_key, revision, event_id, digest, offered, first_seen_at, last_seen_at)
    select source, dedup_key, revision, event_id, nullif(digest, ''), event_id, received_at, received_at
      from i order by source collate "C", dedup_key collate "C"
    on conflict (source, dedup_key) do update set
        copies = l.copies + 1,
        last_seen_at = case when excluded.last_seen_at > l.last_seen_at
                            then excluded.last_seen_at else l.last_seen_at end,
        offered = excluded.event_id,
        outcome = {_DECISION},
        previous_id = case when {_KNOWN} then l.previous_id when {_NEWER} then l.event_id else l.previous_id end,
        older = case when {_KNOWN} or {_FULL} then l.older
                     when {_NEWER} then coalesce(l.older, '{{}}') || jsonb_build_object({_TOKEN_THERE}, l.event_id)
                     else coalesce(l.older, '{{}}') || jsonb_build_object({_TOKEN_CAME}, excluded.event_id) end,
        digest = case when not {_KNOWN} and {_NEWER} then excluded.digest else l.digest end,
        event_id = case when not {_KNOWN} and {_NEWER} then excluded.event_id else l.event_id end,
        revision = case when not {_KNOWN} and {_NEWER} then excluded.revision else l.revision end
    returning offered, outcome, event_id, previous_id, older"""

_KINDS = {
    "event_id": "bigint", "revision": "bigint", "occurred_at": "timestamptz", "received_at": "timestamptz",
    "body": "bytea", "digest": "bytea", "origin": "smallint",
}  # fmt: skip
#: (name, type) of each field of an `Item` but its routes and bound
_COLUMNS = tuple((name, _KINDS.get(name, "text")) for name in Item._fields[:COLUMNS_OF_ITEM])
_ORIGIN = Item._fields.index("origin")
_ROUTE_COLUMNS = (
    ("delivery_id", "bigint"), ("event_id", "bigint"), ("handler", "text"), ("lane", "text"), ("error", "text"),
)  # fmt: skip
_KEPT = ", ".join(str(member.code) for member in Disposition if member.is_kept and member is not Disposition.STRIPPED)


def _statement(items: str, routes: str) -> str:
    """The statement for one wave. items, routes: queries of their parameters."""
    return f"""
    with i as materialized ({items}),
    d as ({_UPSERT}),
    e as (insert into webhooks_events (id, source, type, dedup_key, revision, receipt, previous_id, object_id, group_id,
                 occurred_at, received_at, origin, key_label, request_id, headers, body)
          select i.event_id, i.source, i.type, i.dedup_key, i.revision,
                 case when d.outcome = {_STORED} and i.revision < 0 then {Disposition.STRIPPED.code} else d.outcome end,
                 case when d.outcome = {_REVISION} then d.previous_id end,
                 nullif(i.object_id, ''), nullif(i.group_id, ''), i.occurred_at, i.received_at, i.origin,
                 nullif(i.key_label, ''), nullif(i.request_id, ''), nullif(i.headers, ''), i.body
            from i join d on d.offered = i.event_id
           where d.outcome in ({_KEPT})),
    r as materialized ({routes}),
    v as (insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at,
                 created_at, reason, cause, finished_at)
          select r.delivery_id, r.event_id, r.handler, case when r.error = '' then 0 else 3 end, r.lane = '',
                 nullif(r.lane, ''), case when r.lane <> '' then (extract(epoch from i.occurred_at) * 1000000)::bigint end,
                 case when r.lane <> '' then i.revision end, statement_timestamp(), statement_timestamp(),
                 nullif(r.error, ''), case when r.error <> '' then {int(DeliveryCause.ORDERING_FAILED)} end,
                 case when r.error <> '' then statement_timestamp() end
            from r join i on i.event_id = r.event_id join d on d.offered = i.event_id
           where d.outcome in ({_STORED}, {_REVISION}) and i.revision >= 0
          returning 1),
    n as (select pg_notify('webhooks_wake', '') from (select 1 from v limit 1) x)
    select i.event_id, d.outcome,
           case when d.outcome in ({_STORED}, {_REVISION}, {_STALE}) then i.event_id
                when d.outcome = {_DUPLICATE}
                     then coalesce((d.older ->> ({_token("i.revision", "nullif(i.digest, '')")}))::bigint, d.event_id)
                else d.event_id end,
           (select count(*) from n)
      from i join d on d.offered = i.event_id
    """


def _source(columns: Sequence[tuple[str, str]], first: int, single: bool) -> str:
    """The rows of a batch as parameters from `$first` on. A single row is cheaper by VALUES."""
    names = ", ".join(name for name, _ in columns)
    numbered = enumerate(columns, first)
    if single:
        return f"select * from (values ({', '.join(f'${n}::{kind}' for n, (_, kind) in numbered)})) t({names})"
    return f"select * from unnest({', '.join(f'${n}::{kind}[]' for n, (_, kind) in numbered)}) t({names})"


_FIRST_OF_ROUTES = len(_COLUMNS) + 1
_ROUTE_SOURCES = (
    "select 0::bigint delivery_id, 0::bigint event_id, ''::text handler, ''::text lane, ''::text error where false",
    _source(_ROUTE_COLUMNS, _FIRST_OF_ROUTES, single=True),
    _source(_ROUTE_COLUMNS, _FIRST_OF_ROUTES, single=False),
)
#: {(one event or several, deliveries: none, one, several): statement}
_STATEMENTS = {
    (single, routes): _statement(_source(_COLUMNS, 1, single), source)
    for single in (True, False)
    for routes, source in enumerate(_ROUTE_SOURCES)
}


class PostgresqlIntake:
    """See `record.IntakeStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lanes = PostgresqlLanes(database)

    def record(self, waves: Sequence[Sequence[Item]], patience: timedelta | None, until: float) -> Decisions:
        """One statement in autocommit, or where there are lanes or several waves, one transaction."""
        from psycopg import RawCursor

        has_lanes = any(route.lane for wave in waves for item in wave for route in item.routes)
        decisions: dict[int, Decision] = {}
        with self.database.raw(patience) as connection:
            # a raw cursor: an ordinary one would look for placeholders in all of the statement, each time anew
            cursor = RawCursor(connection)
            is_bounded = has_bounds(waves)
            if len(waves) == 1 and not has_lanes and not is_bounded:
                _record_wave(cursor, waves[0], decisions)
                return decisions
            with connection.transaction():
                if is_bounded:
                    waves = settle(waves, decisions, _Bounds(cursor))
                for wave in waves:
                    _record_wave(cursor, wave, decisions)
                if lanes := lanes_of(waves, decisions):
                    lane_cursor = connection.cursor()
                    self.lanes.lock(lane_cursor, lanes)
                    self.lanes.settle(lane_cursor, lanes)
                    self.lanes.postpone(lane_cursor, lanes)
        return decisions

    def try_write(self, item: Item, patience: timedelta, until: float) -> None:
        """Checks constraints that wait for COMMIT as well."""
        from psycopg import RawCursor

        with self.database.raw(patience, harmless=True) as connection, connection.transaction(force_rollback=True):
            _record_wave(RawCursor(connection), [item], {})
            connection.execute("set constraints all immediate")  # what would be said at COMMIT

    def foreign_trigger(self) -> str | None:
        """None: the server names the constraint and the table."""
        return None


class _Bounds:
    """See `bounds.BoundStatements`."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def is_known(self, item: Item) -> bool:
        expires = item.bound.expires_before if item.bound is not None else None
        row = self._cursor.execute(
            """select 1 from webhooks_dedup_log where source = $1 and dedup_key = $2
                  and ($3::timestamptz is null or first_seen_at >= $3)""",
            (item.source, item.dedup_key, expires),
        ).fetchone()
        return row is not None

    def count(self, item: Item) -> tuple[int, int]:
        limit = item.bound.limit if item.bound is not None else 0
        row = self._cursor.execute(
            """insert into webhooks_equal_bodies as e (source, digest, since, n, event_id) values ($1, $2, $3, 1, $4)
               on conflict (source, digest) do update set
                   n = case when e.since <= $5 then 1 else e.n + 1 end,
                   since = case when e.since <= $5 then excluded.since else e.since end,
                   event_id = case when e.since <= $5 or e.n < $6 then excluded.event_id else e.event_id end
               returning n, event_id""",
            (item.source, item.digest, item.received_at, item.event_id, item.received_at - HOUR, limit),
        ).fetchone()
        return int(row[0]), int(row[1])

    def forget(self, item: Item) -> None:
        expires = item.bound.expires_before if item.bound is not None else None
        self._cursor.execute(
            "delete from webhooks_dedup_log where source = $1 and dedup_key = $2 and first_seen_at < $3",
            (item.source, item.dedup_key, expires),
        )


def _record_wave(cursor: Any, wave: Sequence[Item], decisions: dict[int, Decision]) -> None:
    """Execute the statement for one wave and note what it says of each item in `decisions`."""
    rows = [(*item[:_ORIGIN], ORIGIN_CODES[item.origin], *item[_ORIGIN + 1 : COLUMNS_OF_ITEM]) for item in wave]
    routes = [
        (route.delivery_id, item.event_id, route.handler, route.lane or "", route.error or "")
        for item in wave
        for route in item.routes
    ]
    single = len(wave) == 1
    parameters: list[Any] = list(rows[0]) if single else arrays.pack_rows(_COLUMNS, rows)
    if routes:
        parameters += list(routes[0]) if len(routes) == 1 else arrays.pack_rows(_ROUTE_COLUMNS, routes)
    statement = _STATEMENTS[single, min(len(routes), 2)]
    items = {item.event_id: item for item in wave}
    for id, code, event_id, _ in cursor.execute(statement, parameters).fetchall():
        decisions[id] = decision_of(items[id], code, event_id)


__all__ = ["PostgresqlIntake"]
