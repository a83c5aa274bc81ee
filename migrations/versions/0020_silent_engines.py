"""Say of a feeder since when nothing comes of what it offers.

Revision 0020 of this history; follows 0019.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "webhooks_processes",
        sa.Column(
            "silent_since",
            Instant,
            comment="a feeder's: since when nothing comes of what it offers; null: all is well",
        ),
    )


def downgrade() -> None:
    op.drop_column("webhooks_processes", "silent_since")
