"""Know what is believable of an instant: for how long a lease was taken, and how long a delivery was to wait.

A lease or a duty that ends later than now and the time for which it was taken was written by a clock that was ahead, and
so was a due time that was set in the future. All columns may be null: rows of older processes are believed as before.
The index holds what waits for a retry or a paced replay, so neither a fresh delivery nor a finished one pays for it.

Revision 0009 of this history; follows 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "webhooks_deliveries",
        sa.Column(
            "scheduled_at",
            Instant,
            comment="when due_at was set: due_at - scheduled_at is the wait; null: due when made",
        ),
    )
    op.create_index(
        op.f("ix_webhooks_deliveries_scheduled"),
        "webhooks_deliveries",
        ["scheduled_at"],
        postgresql_where=sa.text("state = 0 and scheduled_at is not null"),
        sqlite_where=sa.text("state = 0 and scheduled_at is not null"),
    )
    op.add_column(
        "webhooks_processes",
        sa.Column(
            "lease",
            sa.BigInteger(),
            comment="microseconds for which it claims: no lease of it that ends later is believed",
        ),
    )
    op.add_column(
        "webhooks_processes",
        sa.Column(
            "monotonic",
            sa.BigInteger(),
            comment="SQLite: its monotonic clock at heartbeat_at, microseconds; tells clocks apart",
        ),
    )
    op.add_column(
        "webhooks_leases",
        sa.Column(
            "lease", sa.BigInteger(), comment="microseconds for which it was taken: no hold that ends later is believed"
        ),
    )
    op.add_column(
        "webhooks_leases",
        sa.Column(
            "steady_since",
            Instant,
            comment="last break of the rounds, or of the clock, that the holders saw; null: none",
        ),
    )


def downgrade() -> None:
    op.drop_column("webhooks_leases", "steady_since")
    op.drop_column("webhooks_leases", "lease")
    op.drop_column("webhooks_processes", "monotonic")
    op.drop_column("webhooks_processes", "lease")
    op.drop_index(op.f("ix_webhooks_deliveries_scheduled"), table_name="webhooks_deliveries")
    op.drop_column("webhooks_deliveries", "scheduled_at")
