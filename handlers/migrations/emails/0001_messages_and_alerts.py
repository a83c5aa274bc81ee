"""Emails and their alerts.

Revision 0001 of this history; follows nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "emails_messages",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("lead_id", sa.Text()),
        sa.Column("contact_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("direction", sa.Text()),
        sa.Column("sender", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("date_scheduled", sa.DateTime(timezone=True)),
        sa.Column("date_sent", sa.DateTime(timezone=True)),
        sa.Column("left_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_emails_messages_status", "emails_messages", ["status"])
    op.create_table(
        "emails_alerts",
        sa.Column("email_id", sa.Text(), primary_key=True),
        sa.Column("status", sa.Text(), primary_key=True),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("emails_alerts")
    op.drop_table("emails_messages")
