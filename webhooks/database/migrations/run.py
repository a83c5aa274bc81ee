"""Bring the database's tables to where the code wants them: the core's, and those of each plugin.

Every line of migrations is a `History`: a directory of revisions that follow one another to one head, and a version
table of its own (`webhooks_version`, `webhooks_version_<plugin>`), so that adding or removing a plugin never touches
another. A plugin is a handler module with revisions beside it: `whatsapp.py` has them in `migrations/whatsapp/`, a
package `whatsapp/` in `whatsapp/migrations/`.

Promises: a history is upgraded in one transaction, under a lock that makes other processes wait; when a migration
fails, nothing of that history's upgrade stays, on SQLite as on PostgreSQL (there we say BEGIN ourselves, before the
first DDL). Histories before it stay upgraded. `is_current` costs one SELECT and never imports Alembic, which takes
0.6 s.

What surprises: a revision that the code does not know, numbered above its head, counts as current. It was applied by a
newer release, and during a rolling deploy the older processes must go on serving.

Not here: what the tables are (`database.tables`, the plugins), the command line (`cli.db`).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, exc, inspect, types
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.database.connect import Database, is_missing_schema, translate_errors
from webhooks.database.migrations import ownership
from webhooks.errors import ConfigurationError, StorageUnavailable, WebhooksError
from webhooks.forks import PerProcess
from webhooks.formats import one_line

#: How long an upgrade waits for another one to end, and on SQLite for any writer.
WAIT_FOR_OTHERS = timedelta(seconds=60)
#: How long one statement waits for a lock on a table: whoever comes later queues behind it, ingest too.
WAIT_FOR_TABLE = timedelta(seconds=5)
#: Key of the advisory lock on PostgreSQL: "webhooks" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"webhooks", "big")

CORE = "core"
_LOCK_NOT_AVAILABLE = "55P03"
_NUMBER = re.compile(r"\d+")
#: PostgreSQL cuts longer names off without a word.
_LONGEST_NAME = 63


class MigrationError(WebhooksError):
    """A history that cannot be read, or a migration that failed; its text says what state the database is in."""


@dataclass(frozen=True)
class Revision:
    """One step of a history, read from its file. down: the revisions that it follows, () for the first."""

    id: str
    down: tuple[str, ...]
    message: str
    path: Path


@dataclass(frozen=True)
class History:
    """One line of migrations. name: `core`, or the plugin's. directory: of its revisions; it may not exist yet.

    version_table: where the database remembers how far it is. prefix: what its tables' names begin with by custom;
    nothing is decided by it. module: the handler module, for plugins.
    """

    name: str
    directory: Path
    version_table: str
    prefix: str
    module: str | None = None

    @property
    def metadata(self) -> MetaData | None:
        """The tables that the code wants: a plugin's are its module's `metadata`, once that module is loaded.

        Or those of a base class of models that the module defines.
        """
        if self.name == CORE:
            return schema.metadata
        module = sys.modules.get(self.module or "")
        found = getattr(module, "metadata", None)
        if not isinstance(found, MetaData):
            own = [value for value in vars(module).values() if isinstance(value, type)] if module is not None else []
            bases = [each for each in own if each.__module__ == self.module and "registry" in vars(each)]
            found = next((vars(each).get("metadata") for each in bases), None)
        return found if isinstance(found, MetaData) else None

    @property
    def made(self) -> Mapping[str, frozenset[str]]:
        """What its migrations make: {table: names of its columns, indexes and constraints}. Loads Alembic."""
        paths = tuple(revision.path for revision in self.revisions)
        declared = frozenset(self.metadata.tables) if self.metadata is not None else frozenset()
        return _made(paths, declared) if paths else {}

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Its steps, first to last. Raises `MigrationError` when they do not follow one another to one head."""
        return _read_revisions(self)

    @property
    def head(self) -> str | None:
        """The last revision; None when there is none yet."""
        revisions = self.revisions
        return revisions[-1].id if revisions else None

    def owns_table(self, name: str) -> bool:
        """Whether its migrations make that table; how it is named says nothing."""
        return name in self.made


@dataclass(frozen=True)
class State:
    """How far the database is along one history. revision: None when nothing was applied."""

    history: History
    revision: str | None
    head: str | None = field(default=None)

    @property
    def is_ahead(self) -> bool:
        """Whether a newer release has upgraded further than this code knows."""
        return (
            self.revision is not None
            and self.head is not None
            and self.revision not in {each.id for each in self.history.revisions}
            and bool(_NUMBER.fullmatch(self.revision) and _NUMBER.fullmatch(self.head))
            and int(self.revision) > int(self.head)
        )

    @property
    def is_current(self) -> bool:
        return self.revision == self.head or self.is_ahead


@dataclass(frozen=True)
class Unmigrated:
    """Tables of a plugin's code that are not in the database, and that no migration makes."""

    history: History
    tables: tuple[str, ...]

    @property
    def text(self) -> str:
        tables = f"table{'s' if len(self.tables) > 1 else ''} {', '.join(self.tables)}"
        return f"{self.history.name}: {tables} of {self.history.module} without a migration"

    @property
    def command(self) -> str:
        return f"webhooks db revision {self.history.name} -m 'add {self.tables[0]}'"


@dataclass(frozen=True)
class Change:
    """What one command did to one history. before, after: None for an empty one."""

    history: str
    before: str | None
    after: str | None


# -- histories -------------------------------------------------------------------------------------------------


def core_directory() -> Path:
    """Where env.py, the template and the core's revisions are: inside the installed package, or beside it."""
    inside = Path(__file__).parents[2] / "migrations"
    return inside if (inside / "env.py").exists() else Path(__file__).parents[3] / "migrations"


def core() -> History:
    return History(CORE, core_directory() / "versions", "webhooks_version", "webhooks_")


def plugin(module: str) -> History:
    """The history of a handler module, whether it has revisions yet or not; the module is not imported.

    Raises `ConfigurationError` when there is no such module, or its name makes no name for a table.
    """
    name = module.rpartition(".")[2]
    version_table = f"webhooks_version_{name}"
    if len(version_table.encode()) > _LONGEST_NAME:
        raise ConfigurationError(
            f"the handler module {module!r} has too long a name for its version table; "
            f"shorten it to {_LONGEST_NAME - len('webhooks_version_')} letters"
        )
    if name == CORE:
        raise ConfigurationError(f"the handler module {module!r} has the name of the core's own history; rename it")
    return History(name, _directory_of(module, name), version_table, f"{name}_", module)


def _directory_of(module: str, name: str) -> Path:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as for loading handlers: a console script does not put it there
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise ConfigurationError(f"there is no handler module {module!r}; `webhooks handlers` lists those there are")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))) / "migrations"
    return Path(str(spec.origin)).parent / "migrations" / name


def histories_of(modules: Iterable[str]) -> tuple[History, ...]:
    """The histories of handler modules, with those that have no revision yet."""
    return tuple(plugin(module) for module in modules)


def find_plugins(modules: Iterable[str]) -> tuple[History, ...]:
    """The histories of those handler modules that have revisions, by name.

    Raises `ConfigurationError` when two modules would share a version table.
    """
    found: dict[str, History] = {}
    for module in modules:
        history = plugin(module)
        if not history.directory.is_dir():
            continue
        other = found.setdefault(history.name, history)
        if other.module != history.module:
            raise ConfigurationError(
                f"the handler modules {other.module!r} and {history.module!r} both keep their migrations in "
                f"{history.version_table}; rename one of them"
            )
    known_plugins.update(dict.fromkeys(found.values()))
    return tuple(found[name] for name in sorted(found))


#: Every plugin with revisions that this process has found; a dictionary, to keep their order.
known_plugins: dict[History, None] = {}


def is_core_table(name: str) -> bool:
    """Whether a table is the core's, one of its partitions, or the version table of any history."""
    # what is called after the table of events is a partition of it: `store.retention.partitions`, or made by hand
    return (
        name in schema.metadata.tables
        or name == core().version_table
        or name.startswith(("webhooks_version_", "webhooks_events_"))
    )


def _read_revisions(history: History) -> tuple[Revision, ...]:
    return _read_directory(history.name, history.directory)


@functools.cache
def _read_directory(name: str, directory: Path) -> tuple[Revision, ...]:
    """The revisions of a directory in order. Read once a process: the code does not change under it either."""
    found = {revision.id: revision for revision in map(_read_revision, sorted(directory.glob("[!_.]*.py")))}
    followed: dict[str, list[str]] = {}
    for revision in found.values():
        for down in revision.down:
            if down not in found:
                raise MigrationError(
                    f"{revision.path.name} of {name} follows revision {down!r}, which is not in {directory}"
                )
            followed.setdefault(down, []).append(revision.id)
    heads = [id for id in found if id not in followed]
    if len(heads) > 1:
        raise MigrationError(
            f"the migrations of {name} end in {len(heads)} heads ({', '.join(sorted(heads))}); "
            "let one follow the other: change its down_revision"
        )
    ordered: list[Revision] = []
    at = heads[0] if heads else None
    while at is not None and len(ordered) < len(found):
        ordered.append(found[at])
        at = found[at].down[0] if found[at].down else None
    if len(ordered) != len(found):
        raise MigrationError(f"the migrations of {name} in {directory} are no single line from first to last")
    return tuple(reversed(ordered))


@functools.cache
def _made(paths: tuple[Path, ...], declared: frozenset[str]) -> Mapping[str, frozenset[str]]:
    with _one_at_a_time.get():
        return ownership.made(paths, declared)


def _read_revision(path: Path) -> Revision:
    """What a revision's file says about itself, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise MigrationError(f"{path}:{error.lineno}: {error.msg}") from error
    said: dict[str, Any] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision") and value is not None:
                with contextlib.suppress(ValueError):
                    said[target.id] = ast.literal_eval(value)
    if not isinstance(said.get("revision"), str) or "down_revision" not in said:
        raise MigrationError(f"{path} is no migration: it must say revision = '…' and down_revision = '…' or None")
    down = said["down_revision"]
    message = (ast.get_docstring(tree) or path.stem).partition("\n")[0].rstrip(".")
    return Revision(said["revision"], (down,) if isinstance(down, str) else tuple(down or ()), message, path)


# -- looking ---------------------------------------------------------------------------------------------------


def is_current(database: Database, plugins: Sequence[History] = ()) -> bool:
    """Whether every history is at its head (or beyond, see above): one SELECT, no Alembic.

    Raises `StorageUnavailable` when the database is away.
    """
    if database.is_missing:
        return False
    histories = [history for history in (core(), *plugins) if history.head is not None]
    statement = " union all ".join(
        f"select {number}, version_num from {_quoted(database, history.version_table)}"
        for number, history in enumerate(histories)
    )
    try:
        with database.read() as connection:
            rows = connection.exec_driver_sql(statement).fetchall()
    except (StorageUnavailable, exc.DBAPIError) as error:
        if is_missing_schema(error):
            return False
        raise
    found = {int(number): str(revision) for number, revision in rows}
    return all(State(history, found.get(number), history.head).is_current for number, history in enumerate(histories))


def current(database: Database, plugins: Sequence[History] = ()) -> list[State]:
    """How far the database is along each history, the core's first. Raises `StorageUnavailable`."""
    with database.read() as connection:
        tables = set(inspect(connection).get_table_names())
        return [
            State(history, _applied(connection, history) if history.version_table in tables else None, history.head)
            for history in (core(), *plugins)
        ]


def _applied(connection: Connection, history: History) -> str | None:
    table = connection.dialect.identifier_preparer.quote(history.version_table)
    rows = connection.exec_driver_sql(f"select version_num from {table}").fetchall()
    if len(rows) > 1:
        raise MigrationError(
            f"{history.version_table} holds {len(rows)} revisions, and one history has one; "
            f"`webhooks db stamp REVISION --plugin {history.name}` writes the right one"
        )
    return str(rows[0][0]) if rows else None


def history(plugins: Sequence[History] = ()) -> list[tuple[History, Revision]]:
    """Every revision of every history, first to last."""
    return [(each, revision) for each in (core(), *plugins) for revision in each.revisions]


def check(database: Database, plugins: Sequence[History] = ()) -> list[str]:
    """What keeps the database from being what the code wants, a sentence each; [] when all is well.

    Tables, columns and indexes are compared for the core, and for every plugin whose module is loaded and has a
    `metadata`. plugins: those without a revision may be among them. Raises `StorageUnavailable`.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    problems: list[str] = []
    for state in current(database, plugins):
        if state.is_ahead:
            problems.append(
                f"{state.history.name} is at revision {state.revision}, and this code knows them up to {state.head}: "
                "a newer release has upgraded the database; install it here too"
            )
            continue
        if not state.is_current:
            at = f"at revision {state.revision}" if state.revision else "not there yet"
            problems.append(f"{state.history.name} is {at}, its head is {state.head}; run `webhooks db upgrade`")
            continue
        if state.history.metadata is None:
            continue
        with database.read() as connection:
            options = _options(database, state.history, connection)
            with _one_at_a_time.get():
                context = MigrationContext.configure(connection, opts=options)
                differences = compare_metadata(context, state.history.metadata)
        owned = [each for each in differences if not _is_unmigrated(each, state.history)]
        problems.extend(f"{state.history.name}: {text}" for each in owned for text in _sentences(each))
    problems.extend(f"{each.text}; run `{each.command}`" for each in unmigrated(database, plugins))
    return problems


def _is_unmigrated(difference: Any, history: History) -> bool:
    """Whether it is a table that no migration makes, or something on one: `unmigrated` has it."""
    if isinstance(difference, list):
        return False
    verb, subject = difference[0], difference[-1]
    if verb not in ("add_table", "add_index"):
        return False
    table = subject if verb == "add_table" else subject.table
    return table.name not in history.made


def unmigrated(database: Database, plugins: Sequence[History]) -> list[Unmigrated]:
    """Plugins with tables in their code that are not in the database, and that nobody's migrations make.

    Handlers that use them fail. Loads Alembic only where a table's name stands in no migration.
    Raises `StorageUnavailable`.
    """
    written = {word for each in plugins for revision in each.revisions for word in _words(revision.path)}
    found = []
    for history in plugins:
        tables = history.metadata.tables.values() if history.metadata is not None else ()
        suspects = [table for table in tables if table.name not in written]
        if not suspects or not (
            suspects := [t for t in suspects if not any(each.owns_table(t.name) for each in plugins)]
        ):
            continue
        if not database.is_missing:
            with database.read() as connection:
                look = inspect(connection)
                suspects = [table for table in suspects if not look.has_table(table.name, schema=table.schema)]
        if suspects:
            found.append(Unmigrated(history, tuple(sorted(table.name for table in suspects))))
    return found


@functools.cache
def _words(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", path.read_text("utf-8")))


def _sentences(difference: Any) -> Iterator[str]:
    """One entry of Alembic's comparison, which goes from the database to the code, in words."""
    if isinstance(difference, list):
        for each in difference:
            yield from _sentences(each)
        return
    verb, subject = difference[0], difference[-1]
    if verb.startswith("modify_"):
        _, _, table, column, _, there, wanted = difference
        what = verb.removeprefix("modify_").replace("_", " ")
        yield f"column {table}.{column} has the {what} {there!r}, and the code wants {wanted!r}"
    elif verb.endswith("_column"):
        name = f"column {difference[2]}.{subject.name}"
        yield f"{name} is missing" if verb == "add_column" else f"{name} is there, and not in the code"
    else:
        kind = verb.partition("_")[2].replace("_", " ")
        name = f"{kind} {getattr(subject, 'name', subject)}"
        yield f"{name} is missing" if verb.startswith("add_") else f"{name} is there, and not in the code"


# -- changing --------------------------------------------------------------------------------------------------


def upgrade(database: Database, *, plugins: Sequence[History] = (), revision: str = "head") -> list[Change]:
    """Bring every history to its head, or the core's alone to `revision`; what is there already is left alone.

    Returns what changed. Raises `MigrationError` when a migration fails (its history is then as it was before), and
    `StorageUnavailable` when the database is away or somebody holds a lock on a table.
    """
    if revision == "head" and is_current(database, plugins):
        return []
    histories = (core(), *plugins) if revision == "head" else (core(),)
    with database.creating():
        changes = [_move(database, each, revision, "_upgrade_revs") for each in histories]
    return [change for change in changes if change.before != change.after]


def upgrade_plugin(database: Database, plugin: History, revision: str = "head") -> Change:
    """Bring one plugin's history to `revision`. Raises as `upgrade`."""
    with database.creating():
        return _move(database, plugin, revision, "_upgrade_revs")


def downgrade(database: Database, revision: str, *, plugin: History | None = None) -> Change:
    """Take back what came after `revision` ("base": everything) in the core's history, or a plugin's.

    Raises as `upgrade`.
    """
    return _move(database, plugin or core(), revision, "_downgrade_revs")


def stamp(database: Database, revision: str = "head", *, plugin: History | None = None) -> Change:
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
    _read_directory.cache_clear()
    _words.cache_clear()
    path = Path(str(written.path))  # type: ignore[union-attr]
    # what the file is, its own first lines say
    path.write_text(re.sub(r"    # ### .* ###\n", "", path.read_text("utf-8")), "utf-8")
    return path


# -- running Alembic -------------------------------------------------------------------------------------------

#: `alembic.op` and `alembic.context` are module globals: two threads would run each other's migrations.
_one_at_a_time = PerProcess(threading.RLock)


def _move(database: Database, history: History, revision: str, verb: str) -> Change:
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
    return Change(history.name, before[0], after)


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
    # connection, resources, operator, system; a lock not to be had, a deadlock
    return state is None or state[:2] in ("08", "53", "57", "58") or state in (_LOCK_NOT_AVAILABLE, "40P01", "40001")


def _words_of(error: Exception) -> str:
    """What the database says of a migration, with its words: they are its author's."""
    original = getattr(error, "orig", None) or error
    return one_line(f"{type(original).__name__}: {original}")


def _after(database: Database, history: History) -> str | None:
    with database.read() as connection:
        return _applied(connection, history)


def _run(
    database: Database,
    history: History,
    script: Any,
    plan: Callable[[Any, Any], list[Any]],
    on_step: Callable[[Any], None] = lambda step: None,
) -> None:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.util import CommandError

    with _one_at_a_time.get(), _transaction(database) as connection:
        options = {
            **_options(database, history, connection, keeps=True),
            "on_version_apply": lambda *, step, **rest: on_step(step),
        }
        config = _config({"connection": connection, "metadata": history.metadata, "options": options})
        try:
            with EnvironmentContext(config, script, fn=plan, as_sql=False):
                script.run_env()
            if database.is_sqlite:
                _require_references(connection)
        except CommandError:
            raise
        except Exception as error:
            if _is_outage(error):
                raise
            raise _Failed(_words_of(error)) from error


def _options(database: Database, history: History, connection: Connection, *, keeps: bool = False) -> Mapping[str, Any]:
    """How Alembic runs and compares. keeps: propose to drop only what the history's own migrations have made."""
    made: Mapping[str, frozenset[str]] | None = None
    there: set[str] = set()

    def look() -> Mapping[str, frozenset[str]]:
        nonlocal made
        if made is None:  # only where tables are compared
            made = history.made
            there.update(inspect(connection).get_table_names())
        return made

    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in look()

    def is_compared(subject: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if kind == "table":
            # a table of the code's that others have made, and that is read here, is theirs to change
            return name in look() or not (reflected or name in there)
        if not (keeps and reflected and compare_to is None) or name is None:
            return True
        table = subject.table.name
        by_default = kind.endswith("constraint") and name.startswith(f"{table}_") and name.endswith(("_key", "_fkey"))
        return by_default or name in look().get(table, ())

    return {
        "version_table": history.version_table,
        "render_as_batch": database.is_sqlite,  # SQLite cannot alter a column: the table is copied
        "transactional_ddl": True,  # Alembic believes that SQLite's is not; it is, since we say BEGIN ourselves
        "compare_type": True,
        "compare_server_default": not database.is_sqlite,  # there it compares texts: "true" and 1 differ
        "include_name": is_ours,
        "include_object": is_compared,
        "render_item": _render,
    }


def _render(kind: str, subject: Any, context: Any) -> str | bool:
    """Write a type of the code's own as what the database gets: a migration must not change when the code does."""
    if kind == "type" and isinstance(subject, types.TypeDecorator):
        return f"sa.{subject.impl_instance!r}"
    return False  # as Alembic does


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
        prepare = _prepare_sqlite if database.is_sqlite else _prepare_postgresql
        connection = connection.execution_options(webhooks_shows_values=True)
        with _name_the_lock(), prepare(connection):
            yield connection


@contextlib.contextmanager
def _prepare_postgresql(connection: Connection) -> Iterator[None]:
    with connection.begin():
        # a web process's connections end statements after 2 s; an index may take longer
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql(f"set local lock_timeout = '{WAIT_FOR_OTHERS.total_seconds():g}s'")
        try:
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
        except exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise StorageUnavailable(
                f"another upgrade of this database has been running for {WAIT_FOR_OTHERS.total_seconds():g} s; "
                "wait for its end, or look for it in pg_stat_activity"
            ) from error
        connection.exec_driver_sql(f"set local lock_timeout = '{WAIT_FOR_TABLE.total_seconds():g}s'")
        yield


@contextlib.contextmanager
def _prepare_sqlite(connection: Connection) -> Iterator[None]:
    """Foreign keys are off while tables are copied: dropping the old one would delete what refers to it.

    Source: https://www.sqlite.org/lang_altertable.html#otheralter (the steps 1, 10 and 12)
    """
    connection.exec_driver_sql("pragma foreign_keys=off")  # without effect inside a transaction
    connection.rollback()
    try:
        connection.execution_options(webhooks_write=True)
        with connection.begin():
            yield
    finally:
        connection.execution_options(webhooks_write=False)  # no transaction of ours around the pragma
        connection.exec_driver_sql("pragma foreign_keys=on")
        connection.rollback()


def _require_references(connection: Connection) -> None:
    """What foreign keys would have refused, had they been in force."""
    broken = connection.exec_driver_sql("pragma foreign_key_check").fetchall()
    if broken:
        raise ValueError(f"rows of {broken[0][0]} refer to rows of {broken[0][2]} that are not there")


@contextlib.contextmanager
def _name_the_lock() -> Iterator[None]:
    """Say what to do when a lock was not to be had in time."""
    try:
        yield
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise StorageUnavailable(
            f"a table is in use by another transaction, and was for {WAIT_FOR_TABLE.total_seconds():g} s; nothing "
            "was changed; run `webhooks db upgrade` again, when long queries and backups are over"
        ) from error


def _quoted(database: Database, name: str) -> str:
    return database.engine.dialect.identifier_preparer.quote(name)


__all__ = [
    "CORE", "Change", "History", "MigrationError", "Revision", "State", "Unmigrated", "check", "core", "current",
    "downgrade", "find_plugins", "histories_of", "history", "is_current", "plugin", "revision", "stamp", "unmigrated",
    "upgrade", "upgrade_plugin",
]  # fmt: skip
