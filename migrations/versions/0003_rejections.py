"""Keep a sample of refused requests, for `webhooks explain`.

Revision 0003 of this history; follows 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks_rejections",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("source", Key, nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("diagnosis", sa.Text(), comment="what probably went wrong, for people"),
        sa.Column("header_names", sa.Text(), nullable=False, comment="JSON list; values are never kept"),
        sa.Column("header_bytes", sa.Integer(), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), comment="only with capture_rejected, at most 64 kB"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_rejections")),
    )
    op.create_index("ix_webhooks_rejections_source_id", "webhooks_rejections", ["source", "id"])
    op.create_index("ix_webhooks_rejections_request_id", "webhooks_rejections", ["request_id"])


def downgrade() -> None:
    op.drop_table("webhooks_rejections")
