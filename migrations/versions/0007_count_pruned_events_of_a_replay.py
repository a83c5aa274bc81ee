"""Remember how many events of its time were gone when a replay began.

Revision 0007 of this history; follows 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhooks_replays",
        sa.Column("pruned", sa.BigInteger(), comment="events of that time that were gone when it began, at least"),
    )


def downgrade() -> None:
    op.drop_column("webhooks_replays", "pruned")
