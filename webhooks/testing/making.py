"""Make a kit: the settings of a project for tests, its handlers, and a copy of a database that was migrated once."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.routing import Registry, default_registry, find_modules, load_modules
from webhooks.settings import Settings, load_settings
from webhooks.testing.clock import START, StandingClock
from webhooks.testing.kit import Kit
from webhooks.testing.project import find_project, read_table, table_for_tests

if TYPE_CHECKING:
    from webhooks.database import History

#: How long a handler may hold SQLite's write lock: a debugger may stand in it.
WRITE_LIMIT = timedelta(hours=1)
DATABASE_FILE = "webhooks.db"

#: {what it holds, by digest: a migrated file}
_templates: dict[str, Path] = {}


def make_kit(
    *,
    directory: Path | str,
    overrides: Mapping[str, Any] | None = None,
    handlers: Collection[str] | None = None,
    modules: Sequence[str] | None = None,
    registry: Registry | None = None,
    project: Path | str | None = None,
    secrets: Mapping[str, str] | None = None,
    at: datetime = START,
) -> Kit:
    """Make a kit for one test; `close` it, or use it in a `with`.

    directory: of the test's own, where its database is written.
    overrides: settings by name, over those of `webhooks.toml`; nothing comes from the environment.
    handlers: names; only these get events. None: all.
    modules: only the handlers of these modules, which are imported. None: those of the project.
    registry: handlers of your own, in place of the project's.
    project: where `webhooks.toml` and `handlers/` are; None: the working directory, or what is above it.
    secrets: {source: key}, where a made one is no use.
    at: where the clock starts, aware.

    Raises `ConfigurationError`, `RegistrationError`, and `NotFound` for a handler that there is not.
    """
    from webhooks.app import Webhooks

    root = find_project(Path.cwd()) if project is None else Path(project)
    table, said = read_table(root), dict(overrides or {})
    with contextlib.chdir(root):
        if registry is None:
            registry = _load(_settings(table, said, secrets), modules)
        chosen = registry.only(_names(registry, handlers))
        wanted = [each.source for each in registry.handlers() if each.source is not None]
        wanted += [each.source for each in registry.replies.all() if each.source is not None]
        file = Path(directory).absolute() / DATABASE_FILE
        settings = replace(
            _settings(table, said, secrets, wanted),
            database_url=f"sqlite:///{file}",
            has_default_database=False,
            sqlite_write_limit=WRITE_LIMIT,
        )
        clock = StandingClock(at)
        webhooks = Webhooks(registry=chosen, settings=settings, clock=clock).assemble(role="cli")
        shutil.copyfile(_template(webhooks.plugins), file)
    return Kit(webhooks, clock)


def _settings(
    table: Mapping[str, Any],
    overrides: Mapping[str, Any],
    secrets: Mapping[str, str] | None,
    wanted: Sequence[str] = (),
) -> Settings:
    return load_settings({}, file=None, overrides=table_for_tests(table, overrides, wanted, secrets))


def _load(settings: Settings, modules: Sequence[str] | None) -> Registry:
    """The handlers of these modules, or of the project. They are imported once a process."""
    if modules is None:
        load_modules(find_modules(settings.handlers_dir, settings.handlers))
        return default_registry
    load_modules(modules)
    homes = {importlib.import_module(name).__name__ for name in modules}
    return default_registry.only(
        [each.name for each in default_registry.handlers() if each.function.__module__ in homes], homes
    )


def _names(registry: Registry, handlers: Collection[str] | None) -> list[str]:
    known = [handler.name for handler in registry.handlers()]
    for name in handlers or ():
        if name not in known:
            raise NotFound(
                f"no handler named {name!r}{did_you_mean(name, known)}; there are: {', '.join(known) or 'none'}"
            )
    return known if handlers is None else list(handlers)


def _template(plugins: Sequence[History]) -> Path:
    """A migrated SQLite file, made once in a process for each state of the migrations."""
    from webhooks.database.connect import connect
    from webhooks.database.migrations import run as migrate

    said = ";".join(f"{history.name}={history.head}" for history in (migrate.core(), *plugins))
    key = hashlib.sha256(said.encode()).hexdigest()
    if key not in _templates:
        folder = Path(tempfile.mkdtemp(prefix="webhooks-testing-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        database = connect(f"sqlite:///{folder / DATABASE_FILE}")
        try:
            migrate.upgrade(database, plugins=plugins)
        finally:
            database.dispose()
        _templates[key] = folder / DATABASE_FILE
    return _templates[key]


__all__ = ["DATABASE_FILE", "make_kit"]
