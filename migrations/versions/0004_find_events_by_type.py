"""Find and count events by type without touching their bodies.

Revision 0004 of this history; follows 0003.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_webhooks_events_type"), "webhooks_events", ["type", "source", "received_at", "id", "receipt"]
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_webhooks_events_type"), table_name="webhooks_events")
