"""Tell refused requests of several kinds apart, and find the quarantined one that a request led to.

Revision 0008 of this history; follows 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column(
        "webhooks_rejections",
        sa.Column(
            "kind",
            Key,
            nullable=False,
            server_default=sa.text("''"),
            comment="errors.Refusal, or quarantined",
        ),
    )
    op.create_index("ix_webhooks_rejections_source_kind_id", "webhooks_rejections", ["source", "kind", "id"])
    op.create_index("ix_webhooks_quarantine_request_id", "webhooks_quarantine", ["request_id"])


def downgrade() -> None:
    op.drop_index("ix_webhooks_quarantine_request_id", "webhooks_quarantine")
    op.drop_index("ix_webhooks_rejections_source_kind_id", "webhooks_rejections")
    op.drop_column("webhooks_rejections", "kind")
