"""Keep which alarms stand, and what each target was told of them.

Revision 0013 of this history; follows 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_alarms",
        sa.Column("name", sa.Text(), nullable=False, comment="operations.alarms.ALARMS"),
        sa.Column(
            "subject",
            Key,
            nullable=False,
            comment="the handler or source; empty: the installation; *: muted for all",
        ),
        sa.Column("since", Instant, comment="when its condition began; null: the row only mutes"),
        sa.Column("severity", sa.SmallInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("text", sa.Text(), nullable=False, server_default=sa.text("''"), comment="as last seen"),
        sa.Column("count", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("example", sa.BigInteger(), comment="an id to look at"),
        sa.Column("ended_at", Instant, comment="it stands no more, and some target was not told"),
        sa.Column("muted_until", Instant),
        sa.Column(
            "told",
            sa.Text(),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="JSON: {target: [told at, severity, since]}",
        ),
        sa.PrimaryKeyConstraint("name", "subject", name=op.f("pk_webhooks_alarms")),
    )
    op.create_table(
        "webhooks_alarm_targets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tried_at", Instant),
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0"), comment="in a row"),
        sa.Column("failing_since", Instant),
        sa.Column("error", sa.Text(), comment="why the last one failed; without address or key"),
        sa.Column(
            "sent",
            sa.Text(),
            nullable=False,
            server_default=sa.text("'[]'"),
            comment="JSON: messages of the last hour",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks_alarm_targets")),
    )


def downgrade() -> None:
    op.drop_table("webhooks_alarm_targets")
    op.drop_table("webhooks_alarms")
