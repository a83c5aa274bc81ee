"""Keep what senders said last of subscriptions to us that they have paused.

Revision 0014 of this history; follows 0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_paused_subscriptions",
        sa.Column("source", Key, nullable=False),
        sa.Column("paused", sa.Integer(), nullable=False, comment="subscriptions to us that its sender has paused"),
        sa.Column("asked_at", Instant, nullable=False, comment="when the sender said so"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_webhooks_paused_subscriptions")),
    )


def downgrade() -> None:
    op.drop_table("webhooks_paused_subscriptions")
