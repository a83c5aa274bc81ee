"""Bring the database's tables to where the code wants them: the core's, and those of each plugin.

Promises: a history is upgraded in one transaction, under a lock that makes other processes wait; when a migration
fails, nothing of that history's upgrade stays, on SQLite as on PostgreSQL (there we say BEGIN ourselves, before the
first DDL). Histories before it stay upgraded.

Not here: what a history is (`histories`), how far a database is (`compare`; their names are here as well, for
callers that do all of it), what the tables are (`database.tables`, the plugins), the command line (`cli.db`).
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from webhooks.database.base import Database
from webhooks.database.errors import translate_errors
from webhooks.database.migrations import postgresql, sqlite
from webhooks.database.migrations.compare import (
    State,
    Unmigrated,
    alembic_options,
    applied,
    check,
    current,
    forget_words,
    history,
    is_current,
    unmigrated,
)  # fmt: skip
from webhooks.database.migrations.histories import (
    CORE,
    History,
    MigrationError,
    Revision,
    core,
    core_directory,
    find_plugins,
    forget_revisions,
    histories_of,
    is_core_table,
    known_plugins,
    one_at_a_time,
    plugin,
)  # fmt: skip
from webhooks.database.migrations.postgresql import ADVISORY_LOCK, LOCK_NOT_AVAILABLE
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.formats import one_line

#: How long an upgrade waits for another one to end, and on SQLite for any writer.
WAIT_FOR_OTHERS = timedelta(seconds=60)
#: How long one statement waits for a lock on a table: what comes later queues behind it, ingest too.
WAIT_FOR_TABLE = timedelta(seconds=5)

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class MigrationChange:
    """What one command did to one history. before, after: None for an empty one."""

    history: str
    before: str | None
    after: str | None


def upgrade(database: Database, *, plugins: Sequence[History] = (), revision: str = "head") -> list[MigrationChange]:
    """Bring every history to its head, or the core's alone to `revision`; what is there already is left alone.

    Returns what changed. Raises `MigrationError` when a migration fails (its history is then as it was before), and
    `StorageUnavailable` when the database is unavailable or another program holds a lock on a table.
    """
    if revision == "head" and is_current(database, plugins):
        return []
    histories = (core(), *plugins) if revision == "head" else (core(),)
    with database.creating():
        changes = [_move(database, each, revision, "_upgrade_revs") for each in histories]
    return [change for change in changes if change.before != change.after]


def upgrade_plugin(database: Database, plugin: History, revision: str = "head") -> MigrationChange:
    """Bring one plugin's history to `revision`. Raises as `upgrade`."""
    with database.creating():
        return _move(database, plugin, revision, "_upgrade_revs")


def downgrade(database: Database, revision: str, *, plugin: History | None = None) -> MigrationChange:
    """Take back what came after `revision` ("base": everything) in the core's history, or a plugin's.

    Raises as `upgrade`.
    """
    return _move(database, plugin or core(), revision, "_downgrade_revs")


def stamp(database: Database, revision: str = "head", *, plugin: History | None = None) -> MigrationChange:
    """Write down that the database is at `revision` without running anything. Raises as `upgrade`."""
    return _move(database, plugin or core(), revision, "_stamp_revs")


def revision(plugin: History, message: str, *, database: Database | None = None) -> Path:
    """Write a plugin's next migration and return its file.

    database: at the plugin's head; the file is then filled with what its module's `metadata` has and the database
    has not, and takes away only what the plugin's own migrations have made. Without it, or without a `metadata`, the file is empty and waits for its author.

    Raises `ConfigurationError` without a message, `MigrationError` when the database is not at the plugin's head.
    """
    from alembic.autogenerate import RevisionContext
    from alembic.util import CommandError

    if not message.strip():
        raise ConfigurationError("a migration is named for its effect; say it with -m 'add reactions'")
    numbers = [int(each.id) for each in plugin.revisions if _NUMBER.fullmatch(each.id)]
    plugin.directory.mkdir(parents=True, exist_ok=True)
    script = _script_directory(plugin)
    compares = database is not None and plugin.metadata is not None
    asked = {
        "message": message.strip().rstrip("."),
        "rev_id": f"{max(numbers, default=0) + 1:04d}",
        "version_path": str(plugin.directory),
        "autogenerate": compares,
        "head": "head",
        "splice": False,
        "branch_label": None,
        "depends_on": None,
        "sql": False,
    }
    context = RevisionContext(_config({}), script, asked)
    if database is not None and compares:

        def compare(at: Any, migration: Any) -> list[Any]:
            context.run_autogenerate(at, migration)
            return []

        try:
            _run(database, plugin, script, compare)
        except CommandError as error:
            raise MigrationError(
                f"the database is not at the head of {plugin.name}, so there is nothing to compare its tables with; "
                "run `webhooks db upgrade` first"
            ) from error
    (written,) = context.generate_scripts()
    forget_revisions()
    forget_words()
    path = Path(str(written.path))  # type: ignore[union-attr]
    # what the file is, its own first lines say
    path.write_text(re.sub(r"    # ### .* ###\n", "", path.read_text("utf-8")), "utf-8")
    return path


# -- running Alembic -------------------------------------------------------------------------------------------


def _move(database: Database, history: History, revision: str, verb: str) -> MigrationChange:
    """Run one of Alembic's planners (`_upgrade_revs`, …) and its steps in one transaction."""
    from alembic.util import CommandError

    script = _script_directory(history)
    before: list[str | None] = []
    steps: list[Any] = []
    done: list[Any] = []

    def plan(at: Any, migration: Any) -> list[Any]:
        before.append(at[0] if at else None)
        if verb == "_upgrade_revs" and revision == "head" and State(history, before[0], history.head).is_ahead:
            return []
        steps.extend(getattr(script, verb)(revision, at))
        return steps

    try:
        _run(database, history, script, plan, done.append)
    except CommandError as error:
        raise MigrationError(f"{history.name}: {error}; `webhooks db history` lists what there is") from error
    except _Failed as failed:
        step = steps[min(len(done), len(steps) - 1)].revision if steps else None
        at = f"at revision {before[0]}" if before and before[0] else "without revisions"
        raise MigrationError(
            f"migration {getattr(step, 'revision', revision)} of {history.name} failed: {failed}; "
            f"nothing of it was kept, {history.name} is {at} as before"
        ) from failed.__cause__
    after = before[0] if not steps else _after(database, history)
    return MigrationChange(history.name, before[0], after)


class _Failed(Exception):
    """A migration's own fault: not "try again later", which is `StorageUnavailable`."""


def _is_outage(error: Exception) -> bool:
    """Whether the database was away or busy, rather than the migration wrong."""
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, StorageUnavailable)
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        # everything but a wrong statement or what does not fit the tables: locked, full, unreadable …
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
    state = getattr(error.orig, "sqlstate", None)
    # connection, resources, operator, system; a lock that stayed held, a deadlock
    return state is None or state[:2] in ("08", "53", "57", "58") or state in (LOCK_NOT_AVAILABLE, "40P01", "40001")


def _words_of(error: Exception) -> str:
    """What the database says of a migration, with its words: they are its author's."""
    original = getattr(error, "orig", None) or error
    return one_line(f"{type(original).__name__}: {original}")


def _after(database: Database, history: History) -> str | None:
    with database.read() as connection:
        return applied(connection, history)


def _run(
    database: Database,
    history: History,
    script: Any,
    plan: Callable[[Any, Any], list[Any]],
    on_step: Callable[[Any], None] = lambda step: None,
) -> None:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.util import CommandError

    with one_at_a_time.get(), _transaction(database) as connection:
        options = {
            **alembic_options(database, history, connection, keeps=True),
            "on_version_apply": lambda *, step, **rest: on_step(step),
        }
        config = _config({"connection": connection, "metadata": history.metadata, "options": options})
        try:
            with EnvironmentContext(config, script, fn=plan, as_sql=False):
                script.run_env()
            _dialect(database).require_sound(connection)
        except CommandError:
            raise
        except Exception as error:
            if _is_outage(error):
                raise
            raise _Failed(_words_of(error)) from error


def _script_directory(history: History) -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(
        str(core_directory()),
        file_template="%(rev)s_%(slug)s",
        version_locations=[str(history.directory)],
        messaging_opts={"quiet": True},  # it would print what it does to standard output
    )


def _config(attributes: Mapping[str, Any]) -> Any:
    """A configuration without a file; no path goes through it, so a % in one needs no doubling."""
    from alembic.config import Config

    config = Config()
    config.attributes.update(attributes)
    return config


@contextlib.contextmanager
def _transaction(database: Database) -> Iterator[Connection]:
    """One transaction for DDL, alone among upgrades. Raises `StorageUnavailable`."""
    with translate_errors(), database.write_lock(WAIT_FOR_OTHERS), database.engine.connect() as connection:
        connection = connection.execution_options(webhooks_shows_values=True)
        prepare = _dialect(database).prepare
        with _name_the_lock(), prepare(connection, for_others=WAIT_FOR_OTHERS, for_table=WAIT_FOR_TABLE):
            yield connection


def _dialect(database: Database) -> Any:
    """The module that knows how this database is changed."""
    return sqlite if database.is_sqlite else postgresql


@contextlib.contextmanager
def _name_the_lock() -> Iterator[None]:
    """Say what to do when a lock was not free in time."""
    try:
        yield
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise StorageUnavailable(
            f"a table is in use by another transaction, and was for {WAIT_FOR_TABLE.total_seconds():g} s; nothing "
            "was changed; run `webhooks db upgrade` again, when long queries and backups are over"
        ) from error


__all__ = [
    "ADVISORY_LOCK", "CORE", "History", "MigrationChange", "MigrationError", "Revision", "State", "Unmigrated", "check",
    "core", "current", "downgrade", "find_plugins", "histories_of", "history", "is_core_table", "is_current",
    "known_plugins", "plugin", "revision", "stamp", "unmigrated", "upgrade", "upgrade_plugin",
]  # fmt: skip
