"""Take a batch of events in: dedup log, events and deliveries, committed together.

`Intake.record` is given what ingest has verified, parsed and routed, and answers for each item what became of it.
One upsert on `webhooks_dedup_log` decides, inside the row that it locks, and its own RETURNING tells: a
SELECT beside it would see an older snapshot and be wrong under concurrency (DESIGN section 5).

What is decided, with `older` remembering every revision (or, without revisions, body digest) that is kept but
not the newest, so that a second copy of one of those is a duplicate too:

    unknown key                          -> stored      event, deliveries
    newest revision again, or an older kept one -> duplicate   counted
    later revision                       -> revision    event linked to the one before, deliveries
    earlier revision, unknown            -> stale       event, no deliveries
    no revisions, another body           -> conflict    event (flagged), no deliveries; the receipt says duplicate

`older` is the sender's to grow, so it holds `OLDER_LIMIT` entries; beyond, stale and conflicting copies are counted
and not kept. A revision of -1 (a stripped copy) is stored without deliveries and loses to any other.

Keys are sorted and copies of one key go in waves (n-th copy, n-th statement), so two batches cannot deadlock.

Whose fault a refusal is: what cannot be about a row is `DatabaseRefused` at once. What can be (SQLSTATE 22 and 23, SQLite's
constraints) is `RowRefused`, and `judge` asks, once the row was refused alone, whether the database refuses a harmless event of the
same source, type and handlers as well: then a constraint that is not ours stands on our tables, and no event is at fault.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from webhooks.database import SQLITE_BUSY, Database, describe, to_microseconds
from webhooks.database import postgresql as arrays
from webhooks.errors import DatabaseRefused, RowRefused
from webhooks.formats import sqlstates
from webhooks.model import Origin, Receipt, ReceiptStatus, new_id
from webhooks.store import lanes as lane_rows

OLDER_LIMIT = 32

STORED, DUPLICATE, REVISION, STALE, CONFLICT, STALE_UNKEPT, CONFLICT_UNKEPT = range(7)
#: webhooks_events.receipt of a copy without content
STRIPPED = 5

_STATUS = {
    STORED: ReceiptStatus.STORED,
    DUPLICATE: ReceiptStatus.DUPLICATE,
    REVISION: ReceiptStatus.REVISION,
    STALE: ReceiptStatus.STALE,
    CONFLICT: ReceiptStatus.DUPLICATE,
    STALE_UNKEPT: ReceiptStatus.STALE,
    CONFLICT_UNKEPT: ReceiptStatus.DUPLICATE,
}
ORIGINS = (Origin.WEBHOOK, Origin.CATCH_UP, Origin.QUARANTINE)
#: {origin: webhooks_events.origin}
_ORIGIN_CODES = {origin: code for code, origin in enumerate(ORIGINS)}
#: How long a trial write may take.
TRIAL_PATIENCE = timedelta(seconds=2)
#: Kinds of events of one refused request that `judge` tries.
_MOST_KINDS = 5


class Routed(NamedTuple):
    """One delivery to make: for which handler, in which lane. error: why its lane key could not be computed."""

    delivery_id: int
    handler: str
    lane: str | None = None
    error: str | None = None


class Item(NamedTuple):
    """One event to take in. digest: of the body, for events without revisions; b"" otherwise."""

    event_id: int
    source: str
    dedup_key: str
    revision: int
    type: str
    occurred_at: datetime
    received_at: datetime
    body: bytes
    digest: bytes = b""
    object_id: str = ""
    lead_id: str = ""
    origin: Origin = Origin.WEBHOOK
    key_label: str = ""
    request_id: str = ""
    headers: str = ""
    routes: tuple[Routed, ...] = ()


def _token(row: str, hex: str) -> str:
    return f"case when {row}.revision = 0 and {row}.digest is not null then 'd' || {hex.format(row + '.digest')} else cast({row}.revision as text) end"


def _upsert(values: str, *, hex: str, has: str, put: str, full: str, conflict_target: str) -> str:
    """The upsert for one dialect; `l` is the row that is there, `excluded` the copy that came."""
    known = (
        "((excluded.revision = l.revision and (excluded.digest is null or l.digest is null"
        " or excluded.digest = l.digest)) or (l.older is not null and "
        + has.format(token=_token("excluded", hex))
        + "))"
    )
    newer = "excluded.revision > l.revision"
    is_full = f"(l.older is not null and {full})"
    return f"""
    insert into webhooks_dedup_log {conflict_target}
           (source, dedup_key, revision, event_id, digest, offered, first_seen_at, last_seen_at)
    {values}
    on conflict (source, dedup_key) do update set
        copies = l.copies + 1,
        last_seen_at = case when excluded.last_seen_at > l.last_seen_at
                            then excluded.last_seen_at else l.last_seen_at end,
        offered = excluded.event_id,
        outcome = case when {known} then {DUPLICATE}
                       when {newer} then {REVISION}
                       when excluded.revision = l.revision then
                            case when {is_full} then {CONFLICT_UNKEPT} else {CONFLICT} end
                       when {is_full} then {STALE_UNKEPT} else {STALE} end,
        previous_id = case when {known} then l.previous_id when {newer} then l.event_id else l.previous_id end,
        older = case when {known} or {is_full} then l.older
                     when {newer} then {put.format(token=_token("l", hex), id="l.event_id")}
                     else {put.format(token=_token("excluded", hex), id="excluded.event_id")} end,
        digest = case when not {known} and {newer} then excluded.digest else l.digest end,
        event_id = case when not {known} and {newer} then excluded.event_id else l.event_id end,
        revision = case when not {known} and {newer} then excluded.revision else l.revision end
    """


# -- PostgreSQL: one statement ------------------------------------------------------------------------------

_PG_COLUMNS = (
    ("id", "bigint"), ("source", "text"), ("key", "text"), ("revision", "bigint"), ("type", "text"),
    ("occurred_at", "timestamptz"), ("received_at", "timestamptz"), ("body", "bytea"), ("digest", "bytea"),
    ("object_id", "text"), ("lead_id", "text"), ("origin", "smallint"), ("key_label", "text"),
    ("request_id", "text"), ("headers", "text"),
)  # fmt: skip
_PG_ROUTE_COLUMNS = (("id", "bigint"), ("event_id", "bigint"), ("handler", "text"), ("lane", "text"), ("error", "text"))


def _pg_statement(items: str, routes: str) -> str:
    upsert = _upsert(
        """select source, key, revision, id, nullif(digest, ''), id, received_at, received_at
             from i order by source collate "C", key collate "C\"""",
        hex="encode({}, 'hex')",
        has="l.older ? ({token})",
        put="coalesce(l.older, '{{}}') || jsonb_build_object({token}, {id})",
        full=f"(select count(*) from jsonb_object_keys(l.older)) >= {OLDER_LIMIT}",
        conflict_target="as l",
    )
    token = (
        _token("d", "encode({}, 'hex')").replace("d.revision", "i.revision").replace("d.digest", "nullif(i.digest, '')")
    )
    return f"""
    with i as materialized ({items}),
    d as ({upsert} returning offered, outcome, event_id, previous_id, older),
    e as (insert into webhooks_events (id, source, type, dedup_key, revision, receipt, previous_id, object_id, lead_id,
                 occurred_at, received_at, origin, key_label, request_id, headers, body)
          select i.id, i.source, i.type, i.key, i.revision,
                 case when d.outcome = {STORED} and i.revision < 0 then {STRIPPED} else d.outcome end,
                 case when d.outcome = {REVISION} then d.previous_id end,
                 nullif(i.object_id, ''), nullif(i.lead_id, ''), i.occurred_at, i.received_at, i.origin,
                 nullif(i.key_label, ''), nullif(i.request_id, ''), nullif(i.headers, ''), i.body
            from i join d on d.offered = i.id
           where d.outcome in ({STORED}, {REVISION}, {STALE}, {CONFLICT})),
    r as materialized ({routes}),
    v as (insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at,
                 created_at, reason, finished_at)
          select r.id, r.event_id, r.handler, case when r.error = '' then 0 else 3 end, r.lane = '',
                 nullif(r.lane, ''), case when r.lane <> '' then (extract(epoch from i.occurred_at) * 1000000)::bigint end,
                 case when r.lane <> '' then i.revision end, statement_timestamp(), statement_timestamp(),
                 nullif(r.error, ''), case when r.error <> '' then statement_timestamp() end
            from r join i on i.id = r.event_id join d on d.offered = i.id
           where d.outcome in ({STORED}, {REVISION}) and i.revision >= 0
          returning 1),
    n as (select pg_notify('webhooks_wake', '') from (select 1 from v limit 1) x)
    select i.id, d.outcome,
           case when d.outcome in ({STORED}, {REVISION}, {STALE}) then i.id
                when d.outcome = {DUPLICATE} then coalesce((d.older ->> ({token}))::bigint, d.event_id)
                else d.event_id end,
           (select count(*) from n)
      from i join d on d.offered = i.id
    """


def _pg_source(columns: Sequence[tuple[str, str]], first: int, single: bool) -> str:
    """The rows of a batch as parameters from `$first` on. A single row is cheaper by VALUES."""
    names = ", ".join(name for name, _ in columns)
    numbered = enumerate(columns, first)
    if single:
        return f"select * from (values ({', '.join(f'${n}::{kind}' for n, (_, kind) in numbered)})) t({names})"
    return f"select * from unnest({', '.join(f'${n}::{kind}[]' for n, (_, kind) in numbered)}) t({names})"


_PG_ROUTE_FIRST = len(_PG_COLUMNS) + 1
_PG_ROUTE_SOURCES = (
    "select 0::bigint id, 0::bigint event_id, ''::text handler, ''::text lane, ''::text error where false",
    _pg_source(_PG_ROUTE_COLUMNS, _PG_ROUTE_FIRST, single=True),
    _pg_source(_PG_ROUTE_COLUMNS, _PG_ROUTE_FIRST, single=False),
)
#: {(one event or several, deliveries: none, one, several): statement}
_PG_STATEMENTS = {
    (single, routes): _pg_statement(_pg_source(_PG_COLUMNS, 1, single), source)
    for single in (True, False)
    for routes, source in enumerate(_PG_ROUTE_SOURCES)
}

# -- SQLite: an upsert and two inserts -----------------------------------------------------------------------

_LITE_UPSERT = (
    _upsert(
        "values (?, ?, ?, ?, ?, ?, ?, ?)",
        hex="hex({})",
        has="json_extract(l.older, '$.\"' || ({token}) || '\"') is not null",
        put="json_patch(coalesce(l.older, '{{}}'), json_object({token}, {id}))",
        full=f"(select count(*) from json_each(l.older)) >= {OLDER_LIMIT}",
        conflict_target="as l",
    )
    + " returning outcome, event_id, previous_id, older"
)
_LITE_EVENT = """
    insert into webhooks_events (id, source, type, dedup_key, revision, receipt, previous_id, object_id, lead_id,
        occurred_at, received_at, origin, key_label, request_id, headers, body)
    values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""
_LITE_DELIVERY = """
    insert into webhooks_deliveries (id, event_id, handler, state, ready, lane, lane_at, lane_revision, due_at,
        created_at, reason, finished_at) values (?,?,?,?,?,?,?,?,?,?,?,?)
"""


class Intake:
    """The writing half of ingest."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def record(self, items: Sequence[Item], patience: timedelta | None = None) -> list[Receipt]:
        """Record a batch in one transaction; one receipt per item, in order. patience: how long it may take.

        Raises `StorageUnavailable` when nothing is known to have been committed (the commit's outcome may be unknown:
        a second try is then answered as duplicate), its child `DatabaseRefused` when the database refuses whatever is
        written, and `RowRefused` when an item may be refused for what it says; `judge` then tells.
        """
        return self.record_gathered(lambda: items, patience)

    def record_gathered(self, gather: Callable[[], Sequence[Item]], patience: timedelta | None = None) -> list[Receipt]:
        """`record` what `gather` gives; on SQLite it is asked when the write lock is held, so a wait makes batches larger."""
        until = time.monotonic() + (patience or SQLITE_BUSY).total_seconds()
        with self.database.write_lock(patience):
            items = gather()
            if not items:
                return []
            with _refusals():
                if self.database.is_sqlite:
                    outcomes = self._record_sqlite(_waves(items), until)
                else:
                    outcomes = self._record_postgresql(_waves(items), patience)
        return [_receipt(item, *outcomes[item.event_id]) for item in items]

    # -- whose fault ---------------------------------------------------------------------------------------

    def judge(self, items: Sequence[Item], patience: timedelta | None = None) -> None:
        """Raise `DatabaseRefused` when harmless events in place of these refused `items` are refused as well."""
        kinds = {(item.source, item.type, tuple(route.handler for route in item.routes)): item for item in items}
        for item in list(kinds.values())[:_MOST_KINDS]:
            self.try_write(item, patience)
        if self.database.is_sqlite and (name := self._foreign_trigger()):
            # SQLite does not say in whose statement a constraint failed
            raise DatabaseRefused(f"the trigger {name!r}, which is not ours, may have refused it; drop it")

    def try_write(self, like: Item | None = None, patience: timedelta | None = None) -> None:
        """Write an event, its dedup entry and its deliveries as `record` does, and roll them back: no row stays.

        like: whose source, type and handlers it has. Raises `StorageUnavailable`, and `DatabaseRefused` whatever the database
        says against it, since it holds nothing that could be at fault.
        """
        item = _trial(like, self.database.clock())
        patience = patience or TRIAL_PATIENCE
        until = time.monotonic() + patience.total_seconds()
        try:
            with self.database.write_lock(patience), _refusals():
                if self.database.is_sqlite:
                    self._record_sqlite([[item]], until, end="rollback")
                else:
                    self._try_postgresql(item, patience)
        except RowRefused as error:
            raise DatabaseRefused(f"a constraint that is not ours refuses every event: {error}") from error

    def _try_postgresql(self, item: Item, patience: timedelta) -> None:
        from psycopg import RawCursor

        with self.database.raw(patience, harmless=True) as connection, connection.transaction(force_rollback=True):
            self._wave_postgresql(RawCursor(connection), [item], {})
            connection.execute("set constraints all immediate")  # what would be said at COMMIT

    def _foreign_trigger(self) -> str | None:
        with self.database.read() as connection:
            name: str | None = connection.exec_driver_sql(
                "select name from sqlite_master where type = 'trigger'"
                " and tbl_name in ('webhooks_dedup_log', 'webhooks_events', 'webhooks_deliveries') limit 1"
            ).scalar()
        return name

    # -- PostgreSQL ----------------------------------------------------------------------------------------

    def _record_postgresql(self, waves: list[list[Item]], patience: timedelta | None) -> dict[int, tuple[int, int]]:
        from psycopg import RawCursor

        has_lanes = any(route.lane for wave in waves for item in wave for route in item.routes)
        outcomes: dict[int, tuple[int, int]] = {}
        with self.database.raw(patience) as connection:
            # a raw cursor: an ordinary one would look for placeholders in all of the statement, each time anew
            cursor = RawCursor(connection)
            if len(waves) == 1 and not has_lanes:
                self._wave_postgresql(cursor, waves[0], outcomes)
                return outcomes
            with connection.transaction():
                for wave in waves:
                    self._wave_postgresql(cursor, wave, outcomes)
                lanes = _lanes(waves, outcomes)
                if lanes:
                    lane_cursor = connection.cursor()
                    lane_rows.lock(lane_cursor, lanes, sqlite=False, now=None)
                    lane_rows.settle(lane_cursor, lanes, sqlite=False)
        return outcomes

    def _wave_postgresql(self, cursor: Any, wave: list[Item], outcomes: dict[int, tuple[int, int]]) -> None:
        routes = [
            (route.delivery_id, item.event_id, route.handler, route.lane or "", route.error or "")
            for item in wave
            for route in item.routes
        ]
        rows = [
            (
                item.event_id, item.source, item.dedup_key, item.revision, item.type, item.occurred_at, item.received_at,
                item.body, item.digest, item.object_id, item.lead_id, _ORIGIN_CODES[item.origin], item.key_label, item.request_id,
                item.headers,
            )
            for item in wave
        ]  # fmt: skip
        single = len(wave) == 1
        parameters: list[Any] = list(rows[0]) if single else arrays.pack_rows(_PG_COLUMNS, rows)
        if routes:
            parameters += list(routes[0]) if len(routes) == 1 else arrays.pack_rows(_PG_ROUTE_COLUMNS, routes)
        statement = _PG_STATEMENTS[single, min(len(routes), 2)]
        for event_id, outcome, answer, _ in cursor.execute(statement, parameters).fetchall():
            outcomes[event_id] = (outcome, answer)

    # -- SQLite --------------------------------------------------------------------------------------------

    def _record_sqlite(self, waves: list[list[Item]], until: float, end: str = "commit") -> dict[int, tuple[int, int]]:
        outcomes: dict[int, tuple[int, int]] = {}
        events: list[tuple[Any, ...]] = []
        deliveries: list[tuple[Any, ...]] = []
        # an open cursor would keep a closed connection alive for as long as a traceback refers to it
        use = self.database.raw(harmless=end != "commit")
        with use as connection, contextlib.closing(connection.cursor()) as cursor:
            with self.database.busy_until(connection, until):
                cursor.execute("begin immediate")
            for wave in waves:
                for item in wave:
                    self._row_sqlite(cursor, item, outcomes, events, deliveries)
            cursor.executemany(_LITE_EVENT, events)
            if deliveries:
                cursor.executemany(_LITE_DELIVERY, deliveries)
            lanes = _lanes(waves, outcomes)
            if lanes:
                lane_rows.lock(cursor, lanes, sqlite=True, now=deliveries[0][8])
                lane_rows.settle(cursor, lanes, sqlite=True)
            cursor.execute(end)
        return outcomes

    def _row_sqlite(
        self,
        cursor: Any,
        item: Item,
        outcomes: dict[int, tuple[int, int]],
        events: list[tuple[Any, ...]],
        deliveries: list[tuple[Any, ...]],
    ) -> None:
        received = to_microseconds(item.received_at)
        occurred = to_microseconds(item.occurred_at)
        digest = item.digest or None
        outcome, event_id, previous_id, older = cursor.execute(
            _LITE_UPSERT,
            (item.source, item.dedup_key, item.revision, item.event_id, digest, item.event_id, received, received),
        ).fetchone()
        answer = event_id
        if outcome in (STORED, REVISION, STALE, CONFLICT):
            if outcome != CONFLICT:
                answer = item.event_id
            events.append(
                (
                    item.event_id, item.source, item.type, item.dedup_key, item.revision,
                    STRIPPED if outcome == STORED and item.revision < 0 else outcome,
                    previous_id if outcome == REVISION else None,
                    item.object_id or None, item.lead_id or None, occurred, received, _ORIGIN_CODES[item.origin],
                    item.key_label or None, item.request_id or None, item.headers or None, item.body,
                )
            )  # fmt: skip
        elif outcome == DUPLICATE and older is not None:
            import json  # two levels and integers: nothing of the sender's but digests

            token = f"d{item.digest.hex().upper()}" if item.revision == 0 and item.digest else str(item.revision)
            answer = json.loads(older).get(token, event_id)
        if outcome in (STORED, REVISION) and item.revision >= 0:
            now = to_microseconds(self.database.clock())
            for route in item.routes:
                dead = route.error is not None
                deliveries.append(
                    (
                        route.delivery_id, item.event_id, route.handler, 3 if dead else 0, not route.lane,
                        route.lane or None, occurred if route.lane else None, item.revision if route.lane else None,
                        now, now, route.error, now if dead else None,
                    )
                )  # fmt: skip
        outcomes[item.event_id] = (outcome, answer)


def _waves(items: Sequence[Item]) -> list[list[Item]]:
    """`items` sorted by key, the n-th copy of a key in the n-th list."""
    ordered = sorted(items, key=lambda item: (item.source.encode(), item.dedup_key.encode()))
    waves: list[list[Item]] = []
    last: tuple[str, str] | None = None
    depth = 0
    for item in ordered:
        key = (item.source, item.dedup_key)
        depth = depth + 1 if key == last else 0
        last = key
        if depth == len(waves):
            waves.append([])
        waves[depth].append(item)
    return waves


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the database's connections let through of a driver may be about the rows themselves."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as error:  # what SQLite cannot bind
        raise RowRefused(describe(error)) from error
    except Exception as error:
        if sqlstates.is_of_database(error):
            raise RowRefused(describe(error)) from error
        raise


def _trial(like: Item | None, now: datetime) -> Item:
    """A harmless event, of the kind of `like`."""
    source, kind = (like.source, like.type) if like is not None else ("webhooks", "webhooks.trial")
    handlers = [route.handler for route in like.routes] if like is not None else ["webhooks.trial"]
    id = new_id()
    return Item(
        event_id=id,
        source=source,
        dedup_key=f"webhooks.trial.{id}",
        revision=1,
        type=kind,
        occurred_at=now,
        received_at=now,
        body=b"{}",
        routes=tuple(Routed(new_id(), handler) for handler in handlers),
    )


def _lanes(waves: list[list[Item]], outcomes: dict[int, tuple[int, int]]) -> set[lane_rows.Lane]:
    return {
        (route.handler, route.lane)
        for wave in waves
        for item in wave
        if outcomes[item.event_id][0] in (STORED, REVISION) and item.revision >= 0
        for route in item.routes
        if route.lane
    }


def _receipt(item: Item, outcome: int, answer: int) -> Receipt:
    delivered = outcome in (STORED, REVISION) and item.revision >= 0
    return Receipt(
        status=_STATUS[outcome],
        event_id=answer,
        delivery_ids=tuple(route.delivery_id for route in item.routes if route.error is None) if delivered else (),
        conflict=outcome in (CONFLICT, CONFLICT_UNKEPT),
    )


def with_new_ids(item: Item) -> Item:
    """The same item under ids that nobody has drawn yet; for a second try after a refused row."""
    return item._replace(
        event_id=new_id(),
        routes=tuple(route._replace(delivery_id=new_id()) for route in item.routes),
    )


__all__ = ["Intake", "Item", "Routed", "with_new_ids"]
