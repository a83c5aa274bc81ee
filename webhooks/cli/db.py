"""`webhooks db`: migrations of the core and of every plugin. Works without a configured source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, output, typed
from webhooks.cli.context import json_option, read_settings
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean, printable
from webhooks.operations.histories import find_plugin, plugins_of

if TYPE_CHECKING:
    from webhooks.database import History, MigrationChange
    from webhooks.store import Store
    from webhooks.store.retention.partitions import Changes, Partition, Partitions


@contextmanager
def opened() -> Iterator[tuple[Store, Sequence[History]]]:
    """What is stored, by the settings, and the plugins' histories; a deploy's migration job has no secrets of sources."""
    from webhooks.app import Role, open_store

    settings = read_settings()
    store = open_store(settings, Role.CLI)
    try:
        yield store, plugins_of(settings)
    finally:
        store.database.dispose()


def describe(change: MigrationChange) -> str:
    """One history that moved, in a line."""
    return f"database: {change.history} {change.before or 'nothing'} -> {change.after or 'nothing'}"


plugin_option = click.option("--plugin", metavar="NAME", help="Of this plugin's history; default: the core's.")


@click.group(cls=LazyGroup)
def db() -> None:
    """Apply and inspect database migrations."""


@db.command("upgrade", epilog="Example: webhooks db upgrade")
@click.argument("revision", default="head")
@plugin_option
@json_option
def upgrade(revision: str, plugin: str | None, as_json: bool) -> None:
    """Bring the core's and all plugins' tables to head, or one history to REVISION."""
    from webhooks.database.migrations import run as migrate

    with opened() as (store, plugins):
        one = find_plugin(plugins, plugin)
        if one is not None:
            changes = [migrate.upgrade_plugin(store.database, one, revision)]
        else:
            changes = migrate.upgrade(store.database, plugins=plugins, revision=revision)
    _say([change for change in changes if change.before != change.after], as_json)


@db.command("downgrade", epilog="Example: webhooks db downgrade 0003 --plugin whatsapp")
@click.argument("revision")
@plugin_option
@click.option("--yes", is_flag=True, help="Downgrading may drop tables with what is in them.")
@json_option
def downgrade(revision: str, plugin: str | None, yes: bool, as_json: bool) -> None:
    """Take a history back to REVISION (base: everything)."""
    from webhooks.database.migrations import run as migrate

    if not yes:
        raise Failure(
            "a downgrade may drop tables with what is in them; nothing was changed; add --yes if you mean it", 2
        )
    with opened() as (store, plugins):
        change = migrate.downgrade(store.database, revision, plugin=find_plugin(plugins, plugin))
    _say([change] if change.before != change.after else [], as_json)


@db.command("current", epilog="Example: webhooks db current --json")
@json_option
def current(as_json: bool) -> None:
    """Show how far the database is. Exit code 1 when it is not at head."""
    from webhooks.database.migrations import run as migrate

    with opened() as (store, plugins):
        states = migrate.current(store.database, plugins)
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
        output.print_note("run: webhooks db upgrade")
        raise SystemExit(1)


@db.command("history", epilog="Example: webhooks db history")
@json_option
def history(as_json: bool) -> None:
    """List every migration, first to last."""
    from webhooks.database.migrations import run as migrate

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
    from webhooks.database.migrations import run as migrate
    from webhooks.routing import find_modules, load_modules

    settings = read_settings()
    modules = find_modules(settings.handlers_dir, settings.handlers)
    # a plugin's tables are compared once its module is loaded
    load_modules(modules)
    with opened() as (store, _):
        problems = [typed(problem) for problem in migrate.check(store.database, migrate.histories_of(modules))]
    if as_json:
        output.emit_json({"problems": problems})
    else:
        for problem in problems:
            click.echo(printable(problem))
        if not problems:
            output.print_note("the database is what the code wants")
    if problems:
        raise SystemExit(1)


@db.command("stamp", epilog="Example: webhooks db stamp head")
@click.argument("revision", default="head")
@plugin_option
@json_option
def stamp(revision: str, plugin: str | None, as_json: bool) -> None:
    """Write down that the database is at REVISION without running anything."""
    from webhooks.database.migrations import run as migrate

    with opened() as (store, plugins):
        change = migrate.stamp(store.database, revision, plugin=find_plugin(plugins, plugin))
    _say([change] if change.before != change.after else [], as_json)


@db.command("revision", epilog="Example: webhooks db revision whatsapp -m 'add reactions'")
@click.argument("plugin")
@click.option("-m", "--message", required=True, help="What the migration does.")
def revision(plugin: str, message: str) -> None:
    """Write the next migration of a handler module, PLUGIN, filled with how its tables differ from the database."""
    from webhooks.database.migrations import run as migrate
    from webhooks.routing import find_modules, load_modules

    settings = read_settings()
    modules = find_modules(settings.handlers_dir, settings.handlers)
    named = {module.rpartition(".")[2]: module for module in modules}
    if plugin not in named:
        raise NotFound(
            f"no handler module {plugin!r}{did_you_mean(plugin, named)}; there are: "
            f"{', '.join(sorted(named)) or 'none'}"
        )
    load_modules(modules)
    with opened() as (store, _):
        path: Any = migrate.revision(migrate.plugin(named[plugin]), message, database=store.database)
    click.echo(str(path))
    output.print_note(f"read it, then: {typed('webhooks db upgrade')}")


@db.command("partition", epilog="Example: webhooks db partition --by week --dry-run")
@click.option(
    "--by",
    type=click.Choice(["week", "month"]),
    help="How long the events of a new partition are; default: as before, at first a week.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--status", is_flag=True, help="List the partitions, and what keeps an old one from being dropped.")
@json_option
def partition(by: str | None, dry_run: bool, status: bool, as_json: bool) -> None:
    """Partition the events by time (PostgreSQL), or make what is missing of the partitions ahead.

    The table that is there becomes the first partition; nothing is copied, and ingest goes on. Repeat it as you like.
    """
    from webhooks.store.retention.partitions import PartitionError, Period

    retention = read_settings().payload_retention
    with opened() as (store, _):
        partitions = store.partitions
        if status:
            _show_partitions(partitions, store.database.now() - retention, as_json)
            return
        try:
            changes = partitions.partition(None if by is None else Period(by), dry_run=dry_run)
        except PartitionError as error:
            raise Failure(str(error)) from error
    if as_json:
        first = None if changes.first is None else _as_json(changes.first)
        output.emit_json({"first": first, "made": [_as_json(each) for each in changes.made], "dry_run": dry_run})
    _say_partitions(changes, dry_run)


@db.command("quiesce", epilog="Example: webhooks db quiesce --database webhooks_staging")
@click.option("--database", "named", metavar="NAME", required=True, help="Its name, so that no other is meant.")
@json_option
def quiesce(named: str, as_json: bool) -> None:
    """Make a copy of production harmless: cancel all that waits in it, and close its replays.

    To be run on a restored backup or a copy for staging, before any worker starts there. Events that arrive later run as ever.
    """
    from webhooks.cli.context import actor
    from webhooks.operations.quiesce import live_processes
    from webhooks.operations.quiesce import quiesce as make_harmless

    with opened() as (store, _):
        database = store.database
        name = database.path.name if database.path is not None else database.url.database
        if named != name:
            raise Failure(f"the settings name the database {name!r}, not {named!r}; nothing was changed", 2)
        if live := live_processes(store):
            raise Failure(
                f"{live[0]} reported to this database within two minutes, so it is no copy, or not yet a quiet one; nothing was "
                "changed; stop every process of it, and try again"
            )
        done = make_harmless(store, actor=actor())
    if as_json:
        output.emit_json({"cancelled": done.cancelled, "replays": done.replays})
        return
    output.print_note(
        f"{output.counted(done.cancelled, 'delivery')} cancelled, {output.counted(done.replays, 'replay')} closed"
    )


def _say_partitions(changes: Changes, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    if changes.first is not None:
        verb = "would become" if dry_run else "became"
        output.print_note(
            f"webhooks_events, about {changes.first.rows} events, {verb} the partition {changes.first.name}, "
            f"for what comes before {_day(changes.first.until)}"
        )
    for each in changes.made:
        output.print_note(f"partition {each.name} {would}made: {_day(each.since)} to {_day(each.until)}")
    for each in changes.skipped:
        output.print_note(
            f"none was made from {_day(each.since)} to {_day(each.until)}: the default partition has events of that time, "
            "and keeps them"
        )
    if not (changes.made or changes.skipped or changes.first):
        output.print_note("nothing to do; `webhooks db partition --status` lists the partitions")


def _show_partitions(partitions: Partitions, before: datetime, as_json: bool) -> None:
    found = partitions.all()
    problems = partitions.problems(before)
    if as_json:
        output.emit_json(
            {
                "is_partitioned": found is not None,
                "partitions": [_as_json(each) for each in found or []],
                "problems": [problem.text for problem in problems],
            }
        )
    elif found is None:
        output.print_note("webhooks_events is not partitioned")
    else:
        rows = [
            (each.name, _day(each.since), _day(each.until), str(each.rows), f"{each.size_bytes / 2**20:.1f} MB")
            for each in found
        ]
        output.emit_table(("PARTITION", "SINCE", "UNTIL", "EVENTS~", "SIZE"), rows, empty="no partitions")
    for problem in problems:
        output.print_note(problem.text)
        output.print_note(f"  -> {problem.command}")


def _as_json(partition: Partition) -> dict[str, Any]:
    return {
        "name": partition.name,
        "since": None if partition.since is None else partition.since.isoformat(),
        "until": None if partition.until is None else partition.until.isoformat(),
        "is_default": partition.is_default,
        "rows_estimated": partition.rows,
        "size_bytes": partition.size_bytes,
    }


def _day(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d}"


def _say(changes: Sequence[MigrationChange], as_json: bool) -> None:
    if as_json:
        output.emit_json({"changes": [{"history": c.history, "before": c.before, "after": c.after} for c in changes]})
        return
    for change in changes:
        output.print_note(describe(change))
    if not changes:
        output.print_note("nothing to do")
