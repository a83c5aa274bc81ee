"""Migration histories: which there are by the settings, and bringing all of them to head.

The core has one history and each handler module with tables of its own another. Finding them imports no handler, so a
module that does not import does not keep the others from being upgraded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.operations.actor import Actor

if TYPE_CHECKING:
    from webhooks.database import Database, History, MigrationChange
    from webhooks.settings import Settings

#: How the core's history is named where a plugin's name can stand.
CORE = "core"


def plugins_of(settings: Settings) -> Sequence[History]:
    """The histories of the handler modules that have one."""
    from webhooks.database.migrations import run as migrate
    from webhooks.routing import find_modules

    return migrate.find_plugins(find_modules(settings.handlers_dir, settings.handlers))


def find_plugin(plugins: Sequence[History], name: str | None) -> History | None:
    """The history of that name; None for the core's. Raises `NotFound`."""
    if name is None or name == CORE:
        return None
    for plugin in plugins:
        if plugin.name == name:
            return plugin
    names = [plugin.name for plugin in plugins]
    raise NotFound(
        f"no plugin {name!r} has migrations{did_you_mean(name, names)}; there are: {', '.join([CORE, *names])}"
    )


def upgrade_all(database: Database, settings: Settings, *, actor: Actor) -> Sequence[MigrationChange]:
    """Bring the core's and all plugins' tables to head; the histories that moved. Raises `StorageUnavailable`."""
    from webhooks.database.migrations import run as migrate

    changes = migrate.upgrade(database, plugins=plugins_of(settings))
    if changes:
        actor.tell("db_upgrade", f"upgraded {', '.join(change.history for change in changes)}")
    return changes


__all__ = ["CORE", "find_plugin", "plugins_of", "upgrade_all"]
