"""Keep what people did, and which of it changed a delivery last.

`webhooks_actions` is the audit log, and where a worker that carries a long action out keeps how far it is. The column
`action_id` of the deliveries has an index of those that have one: an event pays nothing for it, and undo finds what an
action did without reading the table.

Revision 0019 of this history; follows 0018.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")
NONE = sa.text("0")


def upgrade() -> None:
    op.create_table(
        "webhooks_actions",
        sa.Column("id", Id, nullable=False, autoincrement=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("by", sa.Text(), nullable=False, comment="user name"),
        sa.Column("via", sa.Text(), nullable=False, comment="operations.Via"),
        sa.Column("address", sa.Text(), comment="of the client, where there is one"),
        sa.Column("verb", Key, nullable=False, comment="operations.Verb"),
        sa.Column("subject", Key, nullable=False, comment="the handler, source, replay, alarm or id; empty: many"),
        sa.Column("selection", sa.Text(), comment="JSON: what was selected, with absolute times"),
        sa.Column("options", sa.Text(), nullable=False, server_default=sa.text("'{}'"), comment="JSON"),
        sa.Column("why", sa.Text(), comment="the reason given"),
        sa.Column("preview_id", sa.BigInteger(), comment="of the preview that was confirmed: once"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="store.actions.ActionState"),
        sa.Column("cursor", sa.BigInteger(), comment="id of the last delivery that was looked at"),
        sa.Column("matched", sa.BigInteger(), comment="how many the preview counted; null: not counted"),
        sa.Column("changed", sa.BigInteger(), nullable=False, server_default=NONE),
        sa.Column("skipped", sa.BigInteger(), nullable=False, server_default=NONE),
        sa.Column("error", sa.Text(), comment="why it failed"),
        sa.Column("result", sa.Text(), nullable=False, server_default=sa.text("'{}'"), comment="JSON"),
        sa.Column("undoes", sa.BigInteger(), comment="id of the action that this one takes back"),
        sa.Column("finished_at", Instant),
        sa.Column("holder", sa.Text(), comment="process that carries it out"),
        sa.Column("lease_until", Instant, comment="until when no other process does"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks_actions")),
    )
    op.create_index(op.f("uq_webhooks_actions_preview_id"), "webhooks_actions", ["preview_id"], unique=True)
    for column, rows in (("id", "state < 2"), ("undoes", "undoes is not null")):
        name = "unfinished" if column == "id" else column
        op.create_index(
            op.f(f"ix_webhooks_actions_{name}"),
            "webhooks_actions",
            [column],
            postgresql_where=sa.text(rows),
            sqlite_where=sa.text(rows),
        )
    op.add_column("webhooks_deliveries", sa.Column("action_id", sa.BigInteger, comment="action that changed it last"))
    op.create_index(
        op.f("ix_webhooks_deliveries_action_id_id"),
        "webhooks_deliveries",
        ["action_id", "id"],
        postgresql_where=sa.text("action_id is not null"),
        sqlite_where=sa.text("action_id is not null"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_webhooks_deliveries_action_id_id"), table_name="webhooks_deliveries")
    op.drop_column("webhooks_deliveries", "action_id")
    op.drop_table("webhooks_actions")
