"""Keep which handlers have another name now, so that what is stored of them is moved there once.

A process of an older version knows the former name alone: it may put deliveries there, which a newer one moves.

Revision 0025 of this history; follows 0024.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column(
        "webhooks_handlers",
        sa.Column("renamed_to", Key, comment="the name that it has now; what is stored of it is moved there"),
    )
    op.add_column("webhooks_handlers", sa.Column("renamed_at", Instant))


def downgrade() -> None:
    op.drop_column("webhooks_handlers", "renamed_at")
    op.drop_column("webhooks_handlers", "renamed_to")
