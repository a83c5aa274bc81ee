"""Say which queue a handler is in, which queues a worker runs, and how long a handler's run takes.

A process of an older version writes none of it: its handlers are in the queue that is on record, or in the default one,
and it is a worker that runs all it knows.

Revision 0016 of this history; follows 0015.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks_handlers", sa.Column("queue", sa.Text(), comment="null: the default one"))
    op.add_column(
        "webhooks_handlers",
        sa.Column("run_microseconds", sa.BigInteger(), comment="of a run, the mean as a worker last saw it"),
    )
    op.add_column(
        "webhooks_processes",
        sa.Column("queues", sa.Text(), comment="JSON list of those that a worker runs; null: all"),
    )


def downgrade() -> None:
    op.drop_column("webhooks_processes", "queues")
    op.drop_column("webhooks_handlers", "run_microseconds")
    op.drop_column("webhooks_handlers", "queue")
