"""Leads, what is on them, and those to follow up.

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
        "leads_leads",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("name", sa.Text()),
        sa.Column("status_id", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("request_path", sa.Text()),
        sa.Column("merged_into", sa.Text()),
    )
    op.create_index("ix_leads_leads_merged_into", "leads_leads", ["merged_into"])
    op.create_index("ix_leads_leads_request_id", "leads_leads", ["request_id"])
    op.create_table(
        "leads_members",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("kind", sa.Text()),
        sa.Column("lead_id", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("first_lead_id", sa.Text()),
    )
    op.create_index("ix_leads_members_lead_id", "leads_members", ["lead_id"])
    op.create_index("ix_leads_members_request_id", "leads_members", ["request_id"])
    op.create_table(
        "leads_follow_ups",
        sa.Column("lead_id", sa.Text(), primary_key=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("leads_follow_ups")
    op.drop_table("leads_members")
    op.drop_table("leads_leads")
