"""Count requests and runs by the minute, for charts.

Revision 0017 of this history; follows 0016.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhooks_tallies",
        sa.Column("span", sa.SmallInteger(), nullable=False, comment="minutes of a point"),
        sa.Column("at", sa.Integer(), nullable=False, comment="when the point begins: minutes since 1970"),
        sa.Column("kind", sa.SmallInteger(), nullable=False, comment="store.tallies.Kind"),
        sa.Column("name", Key, nullable=False, comment="the source or handler"),
        sa.Column("what", sa.SmallInteger(), nullable=False, comment="receipt or status, outcome, level"),
        sa.Column("bucket", sa.SmallInteger(), nullable=False, comment="of a time; -1: not timed"),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("span", "at", "kind", "name", "what", "bucket", name=op.f("pk_webhooks_tallies")),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("alter table webhooks_tallies set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)")


def downgrade() -> None:
    op.drop_table("webhooks_tallies")
