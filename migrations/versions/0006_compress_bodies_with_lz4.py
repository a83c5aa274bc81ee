"""Compress bodies with LZ4 on servers that have it, from the next event on.

Revision 0006 of this history; follows 0005. A setting of PostgreSQL alone; `database.tables` says the reason.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LZ4 = """
do $$ begin
    if (select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression') then
        alter table webhooks_events alter column body set compression lz4;
    end if;
end $$
"""
BACK = """
do $$ begin
    if exists (select from pg_settings where name = 'default_toast_compression') then
        alter table webhooks_events alter column body set compression default;
    end if;
end $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(LZ4)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(BACK)
