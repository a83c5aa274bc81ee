"""Which tables are ours, for the Alembic of an application that shares its database with us.

Its autogenerate compares all tables that are there with its own models, and proposes to drop ours. So tell its env.py:

    from webhooks.contrib.alembic import not_ours

    context.configure(..., include_name=not_ours)

With Flask-Migrate: `Migrate(app, db, include_name=not_ours)`. Where there is an `include_name` already, let it begin with
`if ours(name, type_, parent_names): return False`.

Ours are the core's tables with their partitions, what the migrations of plugins have made, and every version table.
What a plugin's tables are is asked of its migrations, so a table of yours may be named as it likes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from webhooks.database.migrations import histories


def ours(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
    """Whether what Alembic found in the database is ours, or is on a table of ours.

    The arguments are those of Alembic's `include_name`: name, one of "schema", "table", "column", "index",
    "unique_constraint", "foreign_key_constraint", and {"table_name": …} for the last four.
    Source: https://alembic.sqlalchemy.org/en/latest/api/runtime.html#alembic.runtime.environment.EnvironmentContext.configure.params.include_name
    """
    table = name if type_ == "table" else parent_names.get("table_name")
    if table is None:
        return False
    return histories.is_core_table(table) or any(table in plugin.made for plugin in _plugins())


def not_ours(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
    """The opposite of `ours`: Alembic's `include_name`, for who has none."""
    return not ours(name, type_, parent_names)


def _plugins() -> tuple[histories.History, ...]:
    """The plugins of the applications of this process; without one, those of the working directory."""
    if histories.known_plugins:
        return tuple(histories.known_plugins)
    from webhooks.routing import find_modules
    from webhooks.settings import load_settings

    settings = load_settings(os.environ)
    return histories.find_plugins(find_modules(settings.handlers_dir, settings.handlers))


__all__ = ["not_ours", "ours"]
