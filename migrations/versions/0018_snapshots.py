"""Keep what doctor found, so that a page need not ask senders.

Revision 0018 of this history; follows 0017.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_snapshots",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks_snapshots")),
    )


def downgrade() -> None:
    op.drop_table("webhooks_snapshots")
