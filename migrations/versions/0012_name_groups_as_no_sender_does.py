"""Call the second ordering key of an event what it is to every sender: the group that the event belongs to.

The name was Close's own. As text, because a column is renamed in the catalogue alone, also on partitioned tables;
Alembic's own way would copy the whole table on SQLite.

Revision 0012 of this history; follows 0011.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE webhooks_events RENAME COLUMN lead_id TO group_id")


def downgrade() -> None:
    op.execute("ALTER TABLE webhooks_events RENAME COLUMN group_id TO lead_id")
