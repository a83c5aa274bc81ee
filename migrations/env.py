"""Run by Alembic for every history: the core's and each plugin's. `webhooks.database.migrations.run` hands in all it needs.

There is no alembic.ini and no URL here: the connection is ours, with its transaction and its lock already taken, so
that a migration is applied whole or not at all, on SQLite as on PostgreSQL.
"""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError

given = context.config.attributes
if "connection" not in given or context.is_offline_mode():
    raise CommandError("migrations run on a connection of ours; use `webhooks db upgrade`, not the alembic command")

context.configure(connection=given["connection"], target_metadata=given["metadata"], **given["options"])
context.run_migrations()
