"""Say of which handlers only the newest delivery of a key runs, and how long a burst is waited out.

A process of an older version takes the lanes of such a handler for ordered ones, the oldest first, until one of this version
has settled them.

Revision 0023 of this history; follows 0022.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhooks_handlers",
        sa.Column(
            "latest",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="of a lane only the newest runs",
        ),
    )
    op.add_column(
        "webhooks_handlers",
        sa.Column(
            "quiet",
            sa.BigInteger(),
            comment="microseconds without another one of its lane before the newest is due; null: none",
        ),
    )
    op.add_column(
        "webhooks_handlers",
        sa.Column("at_most", sa.BigInteger(), comment="microseconds after the first of them it is due all the same"),
    )


def downgrade() -> None:
    op.drop_column("webhooks_handlers", "at_most")
    op.drop_column("webhooks_handlers", "quiet")
    op.drop_column("webhooks_handlers", "latest")
