"""Make a kit: the settings of a project for tests, its handlers, a database, and a sandbox where one is asked for."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.routing import Registry, default_registry, find_modules, load_modules
from webhooks.settings import Settings, load_settings
from webhooks.testing.clock import START, KitClock
from webhooks.testing.databases import KitDatabase, ServerDatabase, SqliteFile
from webhooks.testing.kit import Kit
from webhooks.testing.project import find_project, read_table, table_for_tests, with_source
from webhooks.testing.sandbox import SOURCE, Sandbox

#: How long a handler may hold SQLite's write lock: a debugger may stand in it.
WRITE_LIMIT = timedelta(hours=1)


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
    database_url: str | None = None,
    sandbox: bool = False,
    keep: bool = False,
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
    database_url: a server of PostgreSQL, on which the kit has a database of its own; the user must be allowed to create some.
        None: a SQLite file in the directory.
    sandbox: a sandbox stands beside it (`Kit.sandbox`), as the sender of the source "close".
    keep: leave the database on the server.

    Raises `ConfigurationError`, `RegistrationError`, and `NotFound` for a handler that there is not.
    """
    from webhooks.app import Webhooks

    root = find_project(Path.cwd()) if project is None else Path(project)
    table, said = read_table(root), dict(overrides or {})
    with contextlib.chdir(root), contextlib.ExitStack() as begun:
        database: KitDatabase = SqliteFile(Path(directory)) if database_url is None else ServerDatabase(database_url)
        clock = database.clock(at)
        close = _begin_sandbox(begun, clock, Path(directory)) if sandbox else None
        if close is not None:
            said = with_source(said, SOURCE, close.settings())
        if registry is None:
            registry = _load(_settings(table, said, secrets), modules)
        chosen = registry.only(_names(registry, handlers))
        named = (*(each.source for each in registry.handlers()), *(each.source for each in registry.replies.all()))
        wanted = [source for source in named if source is not None]
        settings = replace(
            _settings(table, said, secrets, wanted),
            database_url=database.url,
            has_default_database=False,
            sqlite_write_limit=WRITE_LIMIT,
        )
        made = Webhooks(registry=chosen, settings=settings, clock=clock)
        webhooks = made.assemble(role="web" if settings.metrics else "cli")  # a command never counts
        if not keep:
            begun.callback(database.drop)
        database.fill(webhooks.plugins)
        clock.serve(webhooks.database)
        kit = Kit(webhooks, clock, close)
        kit.ending = begun.pop_all()
    return kit


def _begin_sandbox(begun: contextlib.ExitStack, clock: KitClock, directory: Path) -> Sandbox:
    sandbox = Sandbox(clock, directory)
    begun.callback(sandbox.stop)
    return sandbox


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


__all__ = ["make_kit"]
