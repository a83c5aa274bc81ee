"""Remember how far each sender's event log was read.

Revision 0002 of this history; follows 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_marks",
        sa.Column("source", Key, nullable=False),
        sa.Column("mark_at", Instant, comment="the sender's log was read without a gap up to here"),
        sa.Column("window_since", Instant, comment="of a catch-up that was begun and not ended"),
        sa.Column("window_until", Instant),
        sa.Column("window_at", Instant, comment="how far that one came"),
        sa.Column("requested_at", Instant, comment="somebody wants the next one soon"),
        sa.Column("ran_at", Instant, comment="end of the last one, however it ended"),
        sa.Column("error", sa.Text(), comment="why the last one failed; null when it did not"),
        sa.Column("repaired", sa.BigInteger(), comment="events that the last one added"),
        sa.Column("stripped_at", Instant, comment="the eldest entry that it could only see without content"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_webhooks_marks")),
    )


def downgrade() -> None:
    op.drop_table("webhooks_marks")
