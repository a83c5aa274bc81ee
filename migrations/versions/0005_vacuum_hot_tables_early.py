"""Vacuum the tables that change all the time early, and leave room on the pages of those updated in place.

Revision 0005 of this history; follows 0004. Settings of PostgreSQL alone; `database.tables` says the reason beside each.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: {table: {storage parameter: value}}
SETTINGS = {
    "webhooks_dedup_log": {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.02"},
    "webhooks_deliveries": {
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_cost_limit": "1000",
        "autovacuum_analyze_scale_factor": "0.02",
    },
    "webhooks_lanes": {"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    "webhooks_handlers": {
        "fillfactor": "50",
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "500",
    },
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, settings in SETTINGS.items():
            # waits for no reader or writer: the lock is SHARE UPDATE EXCLUSIVE
            op.execute(
                f"alter table {table} set ({', '.join(f'{name} = {value}' for name, value in settings.items())})"
            )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, settings in SETTINGS.items():
            op.execute(f"alter table {table} reset ({', '.join(settings)})")
