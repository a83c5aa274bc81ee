"""Keep the run that succeeded on its delivery's own row: it writes no row of `webhooks_attempts` any more.

Rows that are there stay, and are read as before. A process of an older version continues to write them; it does not show
the successes that newer ones record meanwhile, and asks for none of them.

Revision 0015 of this history; follows 0014.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhooks_deliveries",
        sa.Column(
            "took",
            sa.BigInteger,
            comment="microseconds of the run that succeeded; null: none did, or webhooks_attempts has it",
        ),
    )


def downgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    started_at = "finished_at - took" if is_sqlite else "finished_at - took * interval '1 microsecond'"
    op.execute(
        f"""insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker)
            select id, attempts, 0, {started_at}, finished_at, worker from webhooks_deliveries
             where took is not null on conflict do nothing"""
    )
    op.drop_column("webhooks_deliveries", "took")
