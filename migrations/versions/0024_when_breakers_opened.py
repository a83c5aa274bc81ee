"""When the circuit breaker of each handler opened, for charts and for how long a handler has been held back.

Nothing that is there changes. A process of an older version opens breakers without saying when.

Revision 0024 of this history; follows 0023.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    comment = "when it opened last, after it was closed"
    op.add_column("webhooks_handlers", sa.Column("breaker_opened_at", Instant, comment=comment))


def downgrade() -> None:
    with op.batch_alter_table("webhooks_handlers") as batch:
        batch.drop_column("breaker_opened_at")
