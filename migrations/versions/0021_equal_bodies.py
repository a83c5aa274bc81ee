"""Count equal bodies that came under different keys, from senders whose keys are not signed.

Nothing that is there changes. A process of an older version counts none, and decides by the key alone.

Revision 0021 of this history; follows 0020.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhooks_equal_bodies",
        sa.Column("source", Key, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="of the body"),
        sa.Column("since", Instant, nullable=False, comment="when the hour began"),
        sa.Column("n", sa.Integer(), nullable=False, comment="how many came in that hour under different keys"),
        sa.Column("event_id", sa.BigInteger(), nullable=False, comment="the last one that was accepted"),
        sa.PrimaryKeyConstraint("source", "digest", name=op.f("pk_webhooks_equal_bodies")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("webhooks_equal_bodies")
