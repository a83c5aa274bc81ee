"""Messages and their attachments.

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
        "whatsapp_messages",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("lead_id", sa.Text()),
        sa.Column("contact_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("direction", sa.Text()),
        sa.Column("message_markdown", sa.Text()),
        sa.Column("text", sa.Text()),
        sa.Column("activity_at", sa.DateTime(timezone=True)),
        sa.Column("response_to_id", sa.Text()),
        sa.Column("external_whatsapp_message_id", sa.Text()),
        sa.Column("integration_link", sa.Text()),
    )
    op.create_index("ix_whatsapp_messages_contact_id", "whatsapp_messages", ["contact_id", "activity_at"])
    op.create_index("ix_whatsapp_messages_response_to_id", "whatsapp_messages", ["response_to_id"])
    op.create_table(
        "whatsapp_attachments",
        sa.Column("message_id", sa.Text(), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("url", sa.Text()),
        sa.Column("filename", sa.Text()),
        sa.Column("content_type", sa.Text()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("thumbnail_url", sa.Text()),
    )


def downgrade() -> None:
    op.drop_table("whatsapp_attachments")
    op.drop_table("whatsapp_messages")
