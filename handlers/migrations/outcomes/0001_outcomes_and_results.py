"""Outcomes, and the calls and meetings that have them.

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
        "outcomes_outcomes",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("name", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("type", sa.Text()),
        sa.Column("seen_on_calls", sa.Boolean()),
        sa.Column("seen_on_meetings", sa.Boolean()),
    )
    op.create_table(
        "outcomes_activities",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("shown_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("object_type", sa.Text()),
        sa.Column("user_id", sa.Text()),
        sa.Column("lead_id", sa.Text()),
        sa.Column("outcome_id", sa.Text()),
    )
    op.create_index("ix_outcomes_activities_outcome_id", "outcomes_activities", ["outcome_id"])


def downgrade() -> None:
    op.drop_table("outcomes_activities")
    op.drop_table("outcomes_outcomes")
