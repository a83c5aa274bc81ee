"""`webhooks db`: migrations of the core and of every plugin. Works without a configured source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, output
from webhooks.cli.context import json_option
from webhooks.errors import NotFound
from webhooks.selection import did_you_mean

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.config import Settings
    from webhooks.database import Database
    from webhooks.migrate import Change, History

CORE = "core"


@contextmanager
def opened() -> Iterator[tuple[Database, Sequence[History]]]:
    """The database of the settings and the plugins' histories; a deploy's migration job has no secrets of sources."""
    from webhooks.config import load_settings
    from webhooks.database import connect

    settings = load_settings(os.environ)
    database = connect(settings.database_url, application="webhooks db")
    try:
        yield database, plugins_of(settings)
    finally:
        database.dispose()


def plugins_of(settings: Settings) -> Sequence[History]:
    """The histories of the handler modules that have one."""
    from webhooks import migrate
    from webhooks.discovery import find_modules

    return migrate.find_plugins(find_modules(settings.handlers_dir, settings.handlers))


def upgrade_all(instance: Webhooks) -> list[str]:
    """Bring everything to head; a line for each history that moved."""
    from webhooks import migrate

    changes = migrate.upgrade(instance.database, plugins=plugins_of(instance.settings))
    return [describe(change) for change in changes]


def describe(change: Change) -> str:
    return f"database: {change.history} {change.before or 'nothing'} -> {change.after or 'nothing'}"


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


plugin_option = click.option("--plugin", metavar="NAME", help="Of this plugin's history; default: the core's.")


@click.group(cls=LazyGroup)
def db() -> None:
    """Apply and inspect database migrations."""


@db.command("upgrade", epilog="Example: webhooks db upgrade")
@click.argument("revision", default="head")
@plugin_option
def upgrade(revision: str, plugin: str | None) -> None:
    """Bring the core's and all plugins' tables to head, or one history to REVISION."""
    from webhooks import migrate

    with opened() as (database, plugins):
        one = find_plugin(plugins, plugin)
        if one is not None:
            changes = [migrate.upgrade_plugin(database, one, revision)]
        else:
            changes = migrate.upgrade(database, plugins=plugins, revision=revision)
    _say([change for change in changes if change.before != change.after])


@db.command("downgrade", epilog="Example: webhooks db downgrade 0003 --plugin whatsapp")
@click.argument("revision")
@plugin_option
@click.option("--yes", is_flag=True, help="Downgrading may drop tables with what is in them.")
def downgrade(revision: str, plugin: str | None, yes: bool) -> None:
    """Take a history back to REVISION (base: everything)."""
    from webhooks import migrate

    if not yes:
        raise Failure(
            "a downgrade may drop tables with what is in them; nothing was changed; add --yes if you mean it", 2
        )
    with opened() as (database, plugins):
        change = migrate.downgrade(database, revision, plugin=find_plugin(plugins, plugin))
    _say([change] if change.before != change.after else [])


@db.command("current", epilog="Example: webhooks db current --json")
@json_option
def current(as_json: bool) -> None:
    """Show how far the database is. Exit code 1 when it is not at head."""
    from webhooks import migrate

    with opened() as (database, plugins):
        states = migrate.current(database, plugins)
    if as_json:
        output.emit_json(
            {
                "histories": [
                    {"name": s.history.name, "revision": s.revision, "head": s.head, "is_current": s.is_current}
                    for s in states
                ]
            }
        )
    else:
        rows = [
            (s.history.name, s.revision or "nothing", s.head or "nothing", "current" if s.is_current else "behind")
            for s in states
        ]
        output.emit_table(("HISTORY", "REVISION", "HEAD", "STATE"), rows, empty="no histories")
    if not all(state.is_current for state in states):
        output.say("run: webhooks db upgrade")
        raise SystemExit(1)


@db.command("history", epilog="Example: webhooks db history")
@json_option
def history(as_json: bool) -> None:
    """List every migration, first to last."""
    from webhooks import migrate

    with opened() as (_, plugins):
        steps = migrate.history(plugins)
    if as_json:
        output.emit_json(
            {"revisions": [{"history": h.name, "revision": step.id, "message": step.message} for h, step in steps]}
        )
        return
    rows = [(h.name, step.id, step.message) for h, step in steps]
    output.emit_table(("HISTORY", "REVISION", "MESSAGE"), rows, empty="no migrations")


@db.command("check", epilog="Example: webhooks db check")
@json_option
def check(as_json: bool) -> None:
    """Compare the database with what the code wants. Exit code 1 when they differ."""
    from webhooks import migrate
    from webhooks.config import load_settings
    from webhooks.discovery import find_modules, load_modules

    settings = load_settings(os.environ)
    # a plugin's tables are compared once its module is loaded
    load_modules(find_modules(settings.handlers_dir, settings.handlers))
    with opened() as (database, plugins):
        problems = migrate.check(database, plugins)
    if as_json:
        output.emit_json({"problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        if not problems:
            output.say("the database is what the code wants")
    if problems:
        raise SystemExit(1)


@db.command("stamp", epilog="Example: webhooks db stamp head")
@click.argument("revision", default="head")
@plugin_option
def stamp(revision: str, plugin: str | None) -> None:
    """Write down that the database is at REVISION without running anything."""
    from webhooks import migrate

    with opened() as (database, plugins):
        change = migrate.stamp(database, revision, plugin=find_plugin(plugins, plugin))
    _say([change] if change.before != change.after else [])


@db.command("revision", epilog="Example: webhooks db revision whatsapp -m 'add reactions'")
@click.argument("plugin")
@click.option("-m", "--message", required=True, help="What the migration does.")
def revision(plugin: str, message: str) -> None:
    """Write the next migration of a handler module, PLUGIN, filled with how its tables differ from the database."""
    from webhooks import migrate
    from webhooks.config import load_settings
    from webhooks.discovery import find_modules, load_modules

    settings = load_settings(os.environ)
    modules = find_modules(settings.handlers_dir, settings.handlers)
    named = {module.rpartition(".")[2]: module for module in modules}
    if plugin not in named:
        raise NotFound(
            f"no handler module {plugin!r}{did_you_mean(plugin, named)}; there are: "
            f"{', '.join(sorted(named)) or 'none'}"
        )
    load_modules(modules)
    with opened() as (database, _):
        path: Any = migrate.revision(migrate.plugin(named[plugin]), message, database=database)
    click.echo(str(path))
    output.say("read it, then: webhooks db upgrade")


def _say(changes: Sequence[Change]) -> None:
    for change in changes:
        output.say(describe(change))
    if not changes:
        output.say("nothing to do")
