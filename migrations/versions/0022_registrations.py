"""Windows in which a sender's first request may bring its secret.

Nothing that is there changes. A process of an older version does not look for them, and refuses such a request as before.

Revision 0022 of this history; follows 0021.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhooks_registrations",
        sa.Column("source", Key, nullable=False),
        sa.Column("until", Instant, nullable=False, comment="when the window closes"),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), comment="what came, until the operator has decided; the row goes then"),
        sa.Column("sender", sa.Text(), comment="what the request said of its sender"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_webhooks_registrations")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("webhooks_registrations")
