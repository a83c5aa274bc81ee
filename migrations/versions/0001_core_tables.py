"""All tables of the core.

Revision 0001 of this history; follows nothing.

The types stand here again, and nothing is imported from `webhooks.database.tables`: a migration says what was done then,
whatever the code says later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Document = sa.Text().with_variant(postgresql.JSONB(), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_dedup_log",
        sa.Column("source", Key, nullable=False),
        sa.Column("dedup_key", Key, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False, comment="event that holds the newest revision"),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            comment="of the first body, for sources without revisions: tells a conflict",
        ),
        sa.Column(
            "outcome",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="of the last copy, see store.intake",
        ),
        sa.Column("offered", sa.BigInteger(), nullable=False, comment="event id that the last copy came with"),
        sa.Column("previous_id", sa.BigInteger(), comment="event that the newest revision superseded"),
        sa.Column(
            "older",
            Document,
            comment="{revision or digest: event id} of copies that are kept but not the newest",
        ),
        sa.Column("copies", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("first_seen_at", Instant, nullable=False),
        sa.Column("last_seen_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("source", "dedup_key", name=op.f("pk_webhooks_dedup_log")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_webhooks_dedup_log_last_seen_at"), "webhooks_dedup_log", ["last_seen_at"])
    op.create_table(
        "webhooks_events",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("source", Key, nullable=False),
        sa.Column("type", Key, nullable=False),
        sa.Column("dedup_key", Key, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column(
            "receipt",
            sa.SmallInteger(),
            nullable=False,
            comment="0 stored, 2 revision, 3 stale, 4 conflict, 5 stripped copy",
        ),
        sa.Column("previous_id", sa.BigInteger(), comment="the revision before this one"),
        sa.Column("object_id", Key),
        sa.Column("lead_id", Key),
        sa.Column("occurred_at", Instant, nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column(
            "origin",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="0 webhook, 1 catch-up, 2 quarantine",
        ),
        sa.Column("key_label", sa.Text(), comment="label of the secret that matched"),
        sa.Column("request_id", sa.Text()),
        sa.Column("headers", sa.Text(), comment="JSON, without credentials and signatures"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_events")),
    )
    op.create_index(op.f("ix_webhooks_events_received_at"), "webhooks_events", ["received_at"])
    op.create_table(
        "webhooks_deliveries",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("handler", Key, nullable=False),
        sa.Column(
            "replay_id",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="0: made at ingest; NULLs would be distinct",
        ),
        sa.Column(
            "state",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="model.DeliveryState",
        ),
        sa.Column(
            "class",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="model.DeliveryClass",
        ),
        sa.Column(
            "ready",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("true"),
            comment="no lane, or the head of its lane",
        ),
        sa.Column(
            "blocks",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="dead, and holds its lane",
        ),
        sa.Column("lane", Key, comment="ordering key; one delivery of a handler and lane runs at a time"),
        sa.Column("lane_at", sa.BigInteger(), comment="microseconds of occurred_at: place in the lane"),
        sa.Column("lane_revision", sa.BigInteger(), comment="place in the lane among equals"),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column(
            "attempts",
            sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
            comment="claims, running one included",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
            comment="those that count towards max_attempts",
        ),
        sa.Column(
            "token",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="fencing token: grows with each claim",
        ),
        sa.Column("lease_until", Instant),
        sa.Column("claimed_at", Instant),
        sa.Column("worker", sa.Text()),
        sa.Column(
            "alone",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="its process died: run alone, isolated",
        ),
        sa.Column(
            "stale",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="a younger one of its lane ran before",
        ),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("finished_at", Instant),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_deliveries")),
    )
    op.create_index(
        op.f("ix_webhooks_deliveries_dead"),
        "webhooks_deliveries",
        ["handler", "id"],
        postgresql_where=sa.text("state = 3"),
        sqlite_where=sa.text("state = 3"),
    )
    op.create_index(
        op.f("ix_webhooks_deliveries_lane"),
        "webhooks_deliveries",
        ["handler", "lane", "replay_id", "lane_at", "lane_revision", "id"],
        postgresql_where=sa.text("lane is not null and (state < 2 or blocks)"),
        sqlite_where=sa.text("lane is not null and (state < 2 or blocks = 1)"),
    )
    op.create_index(
        op.f("ix_webhooks_deliveries_ready"),
        "webhooks_deliveries",
        ["handler", "class", "due_at", "id"],
        postgresql_where=sa.text("state = 0 and ready"),
        sqlite_where=sa.text("state = 0 and ready = 1"),
    )
    op.create_index(
        op.f("ix_webhooks_deliveries_running"),
        "webhooks_deliveries",
        ["handler", "lease_until"],
        postgresql_where=sa.text("state = 1"),
        sqlite_where=sa.text("state = 1"),
    )
    op.create_index(
        op.f("uq_webhooks_deliveries_event_id_handler_replay_id"),
        "webhooks_deliveries",
        ["event_id", "handler", "replay_id"],
        unique=True,
    )
    op.create_index(
        op.f("uq_webhooks_deliveries_head"),
        "webhooks_deliveries",
        ["handler", "lane"],
        unique=True,
        postgresql_where=sa.text("lane is not null and ready"),
        sqlite_where=sa.text("lane is not null and ready = 1"),
    )
    op.create_table(
        "webhooks_attempts",
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False, comment="store.deliveries.OUTCOMES"),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("finished_at", Instant, nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_webhooks_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "webhooks_lanes",
        sa.Column("handler", Key, nullable=False),
        sa.Column("lane", Key, nullable=False),
        sa.Column(
            "mark_at",
            sa.BigInteger(),
            nullable=False,
            comment="place of the youngest that ran: what comes below it is stale",
        ),
        sa.Column("mark_revision", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("handler", "lane", name=op.f("pk_webhooks_lanes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "webhooks_handlers",
        sa.Column("name", Key, nullable=False),
        sa.Column("patterns", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("source", sa.Text()),
        sa.Column("concurrency", sa.Integer()),
        sa.Column("rate_count", sa.Integer()),
        sa.Column("rate_period", sa.BigInteger(), comment="microseconds"),
        sa.Column("rate_window_at", sa.BigInteger(), comment="start of the window that is being counted, microseconds"),
        sa.Column("rate_used", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("paused_by", sa.Text()),
        sa.Column(
            "breaker",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="0 closed, 1 open, 2 half-open",
        ),
        sa.Column(
            "breaker_failures",
            sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
            comment="failures in a row",
        ),
        sa.Column("breaker_until", Instant),
        sa.Column("seen_at", Instant, nullable=False, comment="last start of a process that knows it"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks_handlers")),
    )
    op.create_table(
        "webhooks_processes",
        sa.Column("id", sa.Text(), nullable=False, comment="host:pid:random"),
        sa.Column("kind", sa.Text(), nullable=False, comment="web or worker"),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("heartbeat_at", Instant, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("handlers", sa.Text(), nullable=False, comment="JSON list of names"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_processes")),
    )
    op.create_table(
        "webhooks_leases",
        sa.Column("name", sa.Text(), nullable=False, comment="a duty that one process has at a time"),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks_leases")),
    )
    op.create_table(
        "webhooks_replays",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text()),
        sa.Column("selection", sa.Text(), nullable=False, comment="JSON, as it was written"),
        sa.Column(
            "options",
            sa.Text(),
            nullable=False,
            comment="JSON: handler, original, order, rate, limit, fresh keys",
        ),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="0 open, 1 done, 2 cancelled"),
        sa.Column("upper_id", sa.BigInteger(), nullable=False, comment="events up to here; it never feeds itself"),
        sa.Column("cursor", sa.Text(), comment="place of the last event that was planned"),
        sa.Column("events", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("deliveries", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("finished_at", Instant),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_replays")),
    )
    op.create_table(
        "webhooks_quarantine",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("source", Key, nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="sha256 of the body: a resend counts, no second row",
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="unparseable or unrecognised"),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("last_seen_at", Instant, nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("key_label", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("headers", sa.Text(), comment="JSON with every header of the request: retry verifies again"),
        sa.Column("query", sa.LargeBinary()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "state",
            sa.SmallInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="0 held, 1 admitted, 2 dropped",
        ),
        sa.Column("receipts", sa.Text(), comment="JSON: what became of it once admitted"),
        sa.Column("decided_by", sa.Text()),
        sa.Column("decided_at", Instant),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_quarantine")),
    )
    op.create_index(
        op.f("uq_webhooks_quarantine_source_digest"),
        "webhooks_quarantine",
        ["source", "digest"],
        unique=True,
    )
    op.create_table(
        "webhooks_key_uses",
        sa.Column("source", Key, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("last_used_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("source", "label", name=op.f("pk_webhooks_key_uses")),
    )


def downgrade() -> None:
    op.drop_table("webhooks_key_uses")
    op.drop_table("webhooks_quarantine")
    op.drop_table("webhooks_replays")
    op.drop_table("webhooks_leases")
    op.drop_table("webhooks_processes")
    op.drop_table("webhooks_handlers")
    op.drop_table("webhooks_lanes")
    op.drop_table("webhooks_attempts")
    op.drop_table("webhooks_deliveries")
    op.drop_table("webhooks_events")
    op.drop_table("webhooks_dedup_log")
