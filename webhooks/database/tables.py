"""The tables of the core, and the two column types in which they differ from SQLAlchemy's.

Migrations say the same again (`migrations/`); a test holds the two equal. Tables are prefixed `webhooks_`,
because they share a database with the user's own. Statements live in `store`, not here. There are no foreign keys: rows
are written together in one statement and pruned in batches, and `webhooks_events` can be partitioned.

Instants are `timestamptz` on PostgreSQL and integer microseconds since 1970 (UTC) on SQLite, where text dates
cost more and compare worse. To read one by hand there: `datetime(received_at / 1e6, 'unixepoch')`.

Every index on `webhooks_events`, `webhooks_dedup_log` and `webhooks_deliveries` is paid for by each event;
the reason for it stands beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    event,
    text,
    types,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

#: Names that are the same on both databases and in every migration.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def to_microseconds(instant: datetime) -> int:
    """Integer microseconds since 1970 of an aware instant."""
    return (instant - EPOCH) // MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The aware UTC instant of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


class Instant(types.TypeDecorator[datetime]):
    """An aware UTC datetime: timestamptz on PostgreSQL, integer microseconds on SQLite."""

    impl = types.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Microseconds as a number on SQLite, a timestamp with its zone on PostgreSQL."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(types.DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """An instant as the driver wants it."""
        return to_microseconds(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """An aware UTC instant, of what the driver gave."""
        if value is None:
            return None
        return from_microseconds(value) if dialect.name == "sqlite" else value.astimezone(UTC)


#: Senders' words compared byte for byte: SQLite does so by itself, PostgreSQL under the collation "C".
Key = Text().with_variant(Text(collation="C"), "postgresql")
#: JSON that only statements of ours look into (which revisions were superseded, and by which event).
Document = Text().with_variant(postgresql.JSONB(), "postgresql")
Id = BigInteger().with_variant(Integer(), "sqlite")


def _storage(table: Table, **parameters: str) -> None:
    """Storage parameters of PostgreSQL, set after the table is made: a `Table` can name them since SQLAlchemy 2.1 only."""
    settings = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    _after_create(table, f"alter table {table.name} set ({settings})")


def _after_create(table: Table, statement: str) -> None:
    """What PostgreSQL is told once the table is there."""
    ddl = DDL(statement)  # type: ignore[no-untyped-call]
    event.listen(table, "after_create", ddl.execute_if(dialect="postgresql"))


# fmt: off

dedup_log = Table(
    "webhooks_dedup_log",
    metadata,
    Column("source", Key, nullable=False),
    Column("dedup_key", Key, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("event_id", BigInteger, nullable=False, comment="event that holds the newest revision"),
    Column("digest", LargeBinary, comment="of the first body, for sources without revisions: tells a conflict"),
    Column("outcome", SmallInteger, nullable=False, server_default=text("0"), comment="of the last copy, see store.intake"),
    Column("offered", BigInteger, nullable=False, comment="event id that the last copy came with"),
    Column("previous_id", BigInteger, comment="event that the newest revision superseded"),
    Column("older", Document, comment="{revision or digest: event id} of copies that are kept but not the newest"),
    Column("copies", Integer, nullable=False, server_default=text("1")),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    PrimaryKeyConstraint("source", "dedup_key"),
    # prune walks the log by last sight; not unique and narrow
    Index("ix_webhooks_dedup_log_last_seen_at", "last_seen_at"),
    sqlite_with_rowid=False,
)
# a duplicate updates its row, and the index on last sight with it; retention deletes at the same pace as ingest
# inserts: with the server's 20 % ten million keys would leave two million dead ones before the first vacuum
_storage(dedup_log, autovacuum_vacuum_scale_factor="0.02", autovacuum_analyze_scale_factor="0.02")

events = Table(
    "webhooks_events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("source", Key, nullable=False),
    Column("type", Key, nullable=False),
    Column("dedup_key", Key, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("receipt", SmallInteger, nullable=False, comment="0 stored, 2 revision, 3 stale, 4 conflict, 5 stripped copy"),
    Column("previous_id", BigInteger, comment="the revision before this one"),
    Column("object_id", Key),
    Column("group_id", Key),
    Column("occurred_at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("origin", SmallInteger, nullable=False, server_default=text("0"), comment="0 webhook, 1 catch-up, 2 quarantine"),
    Column("key_label", Text, comment="label of the secret that matched"),
    Column("request_id", Text),
    Column("headers", Text, comment="JSON, without credentials and signatures"),
    Column("body", LargeBinary, nullable=False),
    # listing and selecting by time, and retention; ids grow with time, so most pages come from the primary key
    Index("ix_webhooks_events_received_at", "received_at"),
    # counting by type (the plan of a replay, stats) and pages of one type, without touching the bodies: with a million
    # events 0.1 s rather than 5 s
    Index("ix_webhooks_events_type", "type", "source", "received_at", "id", "receipt"),
)
# bodies from 2 kB on are compressed; pglz, PostgreSQL's default, took a sixth of the server's work for an event. Not
# every server is built with LZ4, and older ones do not know the word
_after_create(
    events,
    """do $$ begin
    if (select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression') then
        alter table webhooks_events alter column body set compression lz4;
    end if; end $$""",
)

deliveries = Table(
    "webhooks_deliveries",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("event_id", BigInteger, nullable=False),
    Column("handler", Key, nullable=False),
    Column("replay_id", BigInteger, nullable=False, server_default=text("0"), comment="0: made at ingest; NULLs would be distinct"),
    Column("state", SmallInteger, nullable=False, server_default=text("0"), comment="model.DeliveryState"),
    Column("class", SmallInteger, nullable=False, server_default=text("0"), key="class_", comment="model.DeliveryClass"),
    Column("ready", Boolean, nullable=False, server_default=text("true"), comment="no lane, or the head of its lane"),
    Column("blocks", Boolean, nullable=False, server_default=text("false"), comment="dead, and holds its lane"),
    Column("lane", Key, comment="ordering key; one delivery of a handler and lane runs at a time"),
    Column("lane_at", BigInteger, comment="microseconds of occurred_at: place in the lane"),
    Column("lane_revision", BigInteger, comment="place in the lane among equals"),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="claims, running one included"),
    Column("failures", Integer, nullable=False, server_default=text("0"), comment="those that count towards max_attempts"),
    Column("token", BigInteger, nullable=False, server_default=text("0"), comment="fencing token: grows with each claim"),
    Column("lease_until", Instant),
    Column("claimed_at", Instant),
    Column("worker", Text),
    Column("alone", Boolean, nullable=False, server_default=text("false"), comment="its process died: run alone, isolated"),
    Column("stale", Boolean, nullable=False, server_default=text("false"), comment="a younger one of its lane ran before"),
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("scheduled_at", Instant, comment="when due_at was set: due_at - scheduled_at is the wait; null: due when made"),
    Column("cause", SmallInteger, comment="model.DeliveryCause of the reason; null: none that code asks for"),
    Column("took", BigInteger, comment="microseconds of the run that succeeded; null: none did, or webhooks_attempts has it"),
    Column("action_id", BigInteger, comment="action that changed it last"),
    # one delivery per event, handler and replay, whatever runs twice; also finds the deliveries of an event
    Index("uq_webhooks_deliveries_event_id_handler_replay_id", "event_id", "handler", "replay_id", unique=True),
    # the claim: one range per handler and class, in due order
    Index(
        "ix_webhooks_deliveries_ready",
        "handler", "class_", "due_at", "id",
        postgresql_where=text("state = 0 and ready"),
        sqlite_where=text("state = 0 and ready = 1"),
    ),
    # what waits for a reason: rows that were scheduled in the future are the work of a wrong clock (`store.clocks`).
    # Fresh deliveries and finished ones are not in it
    Index(
        "ix_webhooks_deliveries_scheduled",
        "scheduled_at",
        postgresql_where=text("state = 0 and scheduled_at is not null"),
        sqlite_where=text("state = 0 and scheduled_at is not null"),
    ),
    # which process runs what: leases, limits, rescue
    Index(
        "ix_webhooks_deliveries_running",
        "handler", "lease_until",
        postgresql_where=text("state = 1"),
        sqlite_where=text("state = 1"),
    ),
    # the order of a lane: unfinished rows and dead ones that hold it
    Index(
        "ix_webhooks_deliveries_lane",
        "handler", "lane", "replay_id", "lane_at", "lane_revision", "id",
        postgresql_where=text("lane is not null and (state < 2 or blocks)"),
        sqlite_where=text("lane is not null and (state < 2 or blocks = 1)"),
    ),
    # the guard of a lane: one head, so never two running
    Index(
        "uq_webhooks_deliveries_head",
        "handler", "lane",
        unique=True,
        postgresql_where=text("lane is not null and ready"),
        sqlite_where=text("lane is not null and ready = 1"),
    ),
    # what a dead delivery holds: lanes that stand still; nearly always empty
    Index(
        "ix_webhooks_deliveries_blocking",
        "handler", "lane",
        postgresql_where=text("blocks"),
        sqlite_where=text("blocks = 1"),
    ),
    # the newest dead of all handlers: without it each listing sorts every one there is. `id > 0` says nothing, and keeps
    # this index from statements that do not say it: for the dead of one handler the planner took it for the better one
    Index(
        "ix_webhooks_deliveries_newest_dead",
        "id",
        postgresql_where=text("state = 3 and id > 0"),
        sqlite_where=text("state = 3 and id > 0"),
    ),
    # what an action did, for `--action` and undo; ingest writes none of these entries
    Index(
        "ix_webhooks_deliveries_action_id_id",
        "action_id", "id",
        postgresql_where=text("action_id is not null"),
        sqlite_where=text("action_id is not null"),
    ),
    # dead letters are few and looked for often
    Index(
        "ix_webhooks_deliveries_dead",
        "handler", "id",
        postgresql_where=text("state = 3"),
        sqlite_where=text("state = 3"),
    ),
)
# a delivery leaves two or three dead versions behind, and an entry each in the index of the claim, which passes over
# them until they are vacuumed: 1 % and five times the server's pace keep it short. No fillfactor: `state` stands in
# the conditions of indexes, so no update of a run can stay on its page (HOT), with whatever room there is
_storage(
    deliveries,
    autovacuum_vacuum_scale_factor="0.01",
    autovacuum_vacuum_threshold="1000",
    autovacuum_vacuum_cost_limit="1000",
    autovacuum_analyze_scale_factor="0.02",
)

attempts = Table(
    "webhooks_attempts",
    metadata,
    Column("delivery_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("outcome", SmallInteger, nullable=False, comment="store.deliveries.OUTCOMES"),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("worker", Text),
    Column("error", Text),
    Column("cause", SmallInteger, comment="model.DeliveryCause of the error; null: none that code asks for"),
    PrimaryKeyConstraint("delivery_id", "number"),
    sqlite_with_rowid=False,
)

lanes = Table(
    "webhooks_lanes",
    metadata,
    Column("handler", Key, nullable=False),
    Column("lane", Key, nullable=False),
    Column("mark_at", BigInteger, nullable=False, comment="place of the youngest that ran: what comes below it is stale"),
    Column("mark_revision", BigInteger, nullable=False),
    Column("touched_at", Instant, nullable=False),
    PrimaryKeyConstraint("handler", "lane"),
    sqlite_with_rowid=False,
)
# each run of an ordered handler updates a row twice, in columns without an index: with room on the page that costs
# no entry in the index, and the next to read the page clears up
_storage(lanes, fillfactor="70", autovacuum_vacuum_scale_factor="0.02")

handlers = Table(
    "webhooks_handlers",
    metadata,
    Column("name", Key, primary_key=True),
    Column("patterns", Text, nullable=False, comment="JSON list"),
    Column("source", Text),
    Column("concurrency", Integer),
    Column("rate_count", Integer),
    Column("rate_period", BigInteger, comment="microseconds"),
    Column("rate_window_at", BigInteger, comment="start of the window that is being counted, microseconds"),
    Column("rate_used", Integer, nullable=False, server_default=text("0")),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("paused_by", Text),
    Column("breaker", SmallInteger, nullable=False, server_default=text("0"), comment="0 closed, 1 open, 2 half-open"),
    Column("breaker_failures", Integer, nullable=False, server_default=text("0"), comment="failures in a row"),
    Column("breaker_until", Instant),
    Column("seen_at", Instant, nullable=False, comment="last start of a process that knows it"),
    Column("queue", Text, comment="null: the default one"),
    Column("run_microseconds", BigInteger, comment="of a run, the mean as a worker last saw it"),
    Column("latest", Boolean, nullable=False, server_default=text("false"), comment="of a lane only the newest runs"),
    Column("quiet", BigInteger, comment="microseconds without another one of its lane before the newest is due; null: none"),
    Column("at_most", BigInteger, comment="microseconds after the first of them it is due all the same"),
    Column("breaker_opened_at", Instant, comment="when it opened last, after it was closed"),
    Column("renamed_to", Key, comment="the name that it has now; what is stored of it is moved there"),
    Column("renamed_at", Instant),
)
# a few rows, updated with each start under a rate: the same, and vacuumed by number, since a share of few is nothing
_storage(handlers, fillfactor="50", autovacuum_vacuum_scale_factor="0", autovacuum_vacuum_threshold="500")

processes = Table(
    "webhooks_processes",
    metadata,
    Column("id", Text, primary_key=True, comment="host:pid:random"),
    Column("kind", Text, nullable=False, comment="web or worker"),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("handlers", Text, nullable=False, comment="JSON list of names"),
    Column("lease", BigInteger, comment="microseconds for which it claims: no lease of it that ends later is believed"),
    Column("monotonic", BigInteger, comment="SQLite: its monotonic clock at heartbeat_at, microseconds; tells clocks apart"),
    Column("queues", Text, comment="JSON list of those that a worker runs; null: all"),
    Column("silent_since", Instant, comment="a feeder's: since when nothing comes of what it offers; null: all is well"),
)

leases = Table(
    "webhooks_leases",
    metadata,
    Column("name", Text, primary_key=True, comment="a duty that one process has at a time"),
    Column("holder", Text, nullable=False),
    Column("until", Instant, nullable=False),
    Column("lease", BigInteger, comment="microseconds for which it was taken: no hold that ends later is believed"),
    Column("steady_since", Instant, comment="last break of the rounds, or of the clock, that the holders saw; null: none"),
)

replays = Table(
    "webhooks_replays",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("why", Text),
    Column("selection", Text, nullable=False, comment="JSON, as it was written"),
    Column("options", Text, nullable=False, comment="JSON: handler, original, order, rate, limit, fresh keys"),
    Column("state", SmallInteger, nullable=False, comment="0 open, 1 done, 2 cancelled"),
    Column("upper_id", BigInteger, nullable=False, comment="events up to here; it never feeds itself"),
    Column("cursor", Text, comment="place of the last event that was planned"),
    Column("events", BigInteger, nullable=False, server_default=text("0")),
    Column("deliveries", BigInteger, nullable=False, server_default=text("0")),
    Column("finished_at", Instant),
    Column("pruned", BigInteger, comment="events of that time that were gone when it began, at least"),
)

equal_bodies = Table(
    "webhooks_equal_bodies",
    metadata,
    Column("source", Key, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="of the body"),
    Column("since", Instant, nullable=False, comment="when the hour began"),
    Column("n", Integer, nullable=False, comment="how many came in that hour under different keys"),
    Column("event_id", BigInteger, nullable=False, comment="the last one that was accepted"),
    PrimaryKeyConstraint("source", "digest"),
    sqlite_with_rowid=False,
)

registrations = Table(
    "webhooks_registrations",
    metadata,
    Column("source", Key, nullable=False),
    Column("until", Instant, nullable=False, comment="when the window closes"),
    Column("opened_by", Text, nullable=False),
    Column("secret", Text, comment="what came, until the operator has decided; the row goes then"),
    Column("sender", Text, comment="what the request said of its sender"),
    PrimaryKeyConstraint("source"),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "webhooks_quarantine",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("source", Key, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="sha256 of the body: a resend counts, no second row"),
    Column("reason", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="unparseable or unrecognised"),
    Column("received_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("copies", Integer, nullable=False, server_default=text("1")),
    Column("key_label", Text),
    Column("request_id", Text),
    Column("headers", Text, comment="JSON with every header of the request: retry verifies again"),
    Column("query", LargeBinary),
    Column("body", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False, server_default=text("0"), comment="0 held, 1 admitted, 2 dropped"),
    Column("receipts", Text, comment="JSON: what became of it once admitted"),
    Column("decided_by", Text),
    Column("decided_at", Instant),
    Index("uq_webhooks_quarantine_source_digest", "source", "digest", unique=True),
    Index("ix_webhooks_quarantine_request_id", "request_id"),
)

rejections = Table(
    "webhooks_rejections",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("source", Key, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("diagnosis", Text, comment="what probably went wrong, for people"),
    Column("header_names", Text, nullable=False, comment="JSON list; values are never kept"),
    Column("header_bytes", Integer, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("body", LargeBinary, comment="only with capture_rejected, at most 64 kB"),
    Column("kind", Key, nullable=False, server_default=text("''"), comment="errors.Refusal, or quarantined"),
    Index("ix_webhooks_rejections_source_id", "source", "id"),
    Index("ix_webhooks_rejections_source_kind_id", "source", "kind", "id"),
    Index("ix_webhooks_rejections_request_id", "request_id"),
)

key_uses = Table(
    "webhooks_key_uses",
    metadata,
    Column("source", Key, nullable=False),
    Column("label", Text, nullable=False),
    Column("last_used_at", Instant, nullable=False),
    PrimaryKeyConstraint("source", "label"),
)

marks = Table(
    "webhooks_marks",
    metadata,
    Column("source", Key, primary_key=True),
    Column("mark_at", Instant, comment="the sender's log was read without a gap up to here"),
    Column("window_since", Instant, comment="of a catch-up that was begun and not ended"),
    Column("window_until", Instant),
    Column("window_at", Instant, comment="how far that one came"),
    Column("requested_at", Instant, comment="somebody wants the next one soon"),
    Column("ran_at", Instant, comment="end of the last one, however it ended"),
    Column("error", Text, comment="why the last one failed; null when it did not"),
    Column("repaired", BigInteger, comment="events that the last one added"),
    Column("stripped_at", Instant, comment="the eldest entry that it could only see without content"),
)

paused_subscriptions = Table(
    "webhooks_paused_subscriptions",
    metadata,
    Column("source", Key, primary_key=True),
    Column("paused", Integer, nullable=False, comment="subscriptions to us that its sender has paused"),
    Column("asked_at", Instant, nullable=False, comment="when the sender said so"),
)

tallies = Table(
    "webhooks_tallies",
    metadata,
    Column("span", SmallInteger, nullable=False, comment="minutes of a point"),
    Column("at", Integer, nullable=False, comment="when the point begins: minutes since 1970"),
    Column("kind", SmallInteger, nullable=False, comment="store.tallies.Kind"),
    Column("name", Key, nullable=False, comment="the source or handler"),
    Column("what", SmallInteger, nullable=False, comment="receipt or status, outcome, level"),
    Column("bucket", SmallInteger, nullable=False, comment="of a time; -1: not timed"),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint("span", "at", "kind", "name", "what", "bucket"),
    sqlite_with_rowid=False,
)
# a number of the minute is updated every few seconds, in no column of an index: with room it stays on its page
_storage(tallies, fillfactor="80", autovacuum_vacuum_scale_factor="0.05")

snapshots = Table(
    "webhooks_snapshots",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("body", Text, nullable=False, comment="JSON"),
)

alarms = Table(
    "webhooks_alarms",
    metadata,
    Column("name", Text, nullable=False, comment="operations.alarms.ALARMS"),
    Column("subject", Key, nullable=False, comment="the handler or source; empty: the installation; *: muted for all"),
    Column("since", Instant, comment="when its condition began; null: the row only mutes"),
    Column("severity", SmallInteger, nullable=False, server_default=text("0")),
    Column("text", Text, nullable=False, server_default=text("''"), comment="as last seen"),
    Column("count", BigInteger, nullable=False, server_default=text("0")),
    Column("example", BigInteger, comment="an id to look at"),
    Column("ended_at", Instant, comment="it stands no more, and some target was not told"),
    Column("muted_until", Instant),
    Column("told", Text, nullable=False, server_default=text("'{}'"), comment="JSON: {target: [told at, severity, since]}"),
    PrimaryKeyConstraint("name", "subject"),
)

alarm_targets = Table(
    "webhooks_alarm_targets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tried_at", Instant),
    Column("failures", Integer, nullable=False, server_default=text("0"), comment="in a row"),
    Column("failing_since", Instant),
    Column("error", Text, comment="why the last one failed; without address or key"),
    Column("sent", Text, nullable=False, server_default=text("'[]'"), comment="JSON: messages of the last hour"),
)

actions = Table(
    "webhooks_actions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("by", Text, nullable=False, comment="user name"),
    Column("via", Text, nullable=False, comment="operations.Via"),
    Column("address", Text, comment="of the client, where there is one"),
    Column("verb", Key, nullable=False, comment="operations.Verb"),
    Column("subject", Key, nullable=False, comment="the handler, source, replay, alarm or id; empty: many"),
    Column("selection", Text, comment="JSON: what was selected, with absolute times"),
    Column("options", Text, nullable=False, server_default=text("'{}'"), comment="JSON"),
    Column("why", Text, comment="the reason given"),
    Column("preview_id", BigInteger, comment="of the preview that was confirmed: once"),
    Column("state", SmallInteger, nullable=False, comment="store.actions.ActionState"),
    Column("cursor", BigInteger, comment="id of the last delivery that was looked at"),
    Column("matched", BigInteger, comment="how many the preview counted; null: not counted"),
    Column("changed", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    Column("error", Text, comment="why it failed"),
    Column("result", Text, nullable=False, server_default=text("'{}'"), comment="JSON"),
    Column("undoes", BigInteger, comment="id of the action that this one takes back"),
    Column("finished_at", Instant),
    Column("holder", Text, comment="process that carries it out"),
    Column("lease_until", Instant, comment="until when no other process does"),
    # one preview is confirmed once, however many press
    Index("uq_webhooks_actions_preview_id", "preview_id", unique=True),
    # what is to be carried out still
    Index("ix_webhooks_actions_unfinished", "id", postgresql_where=text("state < 2"), sqlite_where=text("state < 2")),
    # whether one was taken back
    Index(
        "ix_webhooks_actions_undoes",
        "undoes",
        postgresql_where=text("undoes is not null"),
        sqlite_where=text("undoes is not null"),
    ),
)

__all__ = [
    "EPOCH", "Instant", "actions", "alarm_targets", "alarms", "attempts", "dedup_log", "deliveries", "events", "from_microseconds",
    "handlers", "key_uses", "lanes", "leases", "marks", "metadata", "paused_subscriptions", "processes", "quarantine",
    "rejections", "replays", "snapshots", "tallies", "to_microseconds",
]
