"""Note the cause of a reason, so that code asks a number and not a sentence.

What code read from texts until now is on few rows: deliveries that are dead because their ordering key could not be
computed, running ones that may not commit any more, and runs, of deliveries that wait or run, whose process died. These
get their cause from the text, once. Nothing else is looked at.

A process of an older version writes no cause. What it takes from its own worker while both versions run is treated as
a lease that ran out.

Revision 0011 of this history; follows 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OF_DELIVERIES = (
    (4, "state = 3 and reason like 'ordered_by failed%'"),
    (5, "state = 1 and reason like 'its time was up;%'"),
    (6, "state = 1 and reason like 'its worker stopped before it was done;%'"),
)
_OF_ATTEMPTS = (
    (7, "its worker died or lost its lease%"),
    (8, "its process died while it ran alone%"),
)


def upgrade() -> None:
    comment = "model.DeliveryCause of the {}; null: none that code asks for"
    op.add_column("webhooks_deliveries", sa.Column("cause", sa.SmallInteger, comment=comment.format("reason")))
    op.add_column("webhooks_attempts", sa.Column("cause", sa.SmallInteger, comment=comment.format("error")))
    for cause, rows in _OF_DELIVERIES:
        op.execute(f"update webhooks_deliveries set cause = {cause} where {rows}")
    is_true = " = 1" if op.get_bind().dialect.name == "sqlite" else ""
    for unfinished in ("state = 1", f"state = 0 and ready{is_true}"):
        some = f"select id from webhooks_deliveries where {unfinished} and alone{is_true}"
        for cause, text in _OF_ATTEMPTS:
            op.execute(
                f"update webhooks_attempts set cause = {cause} where delivery_id in ({some}) and outcome = 5 and error like '{text}'"
            )


def downgrade() -> None:
    op.drop_column("webhooks_attempts", "cause")
    op.drop_column("webhooks_deliveries", "cause")
