"""How far a database is along each history, and whether its tables are what the code wants. Changes nothing.

`is_current` costs one SELECT and never imports Alembic, which takes 0.6 s.

What surprises: a revision that the code does not know, numbered above its head, counts as current. It was applied by a
newer release, and during a rolling deploy the older processes must continue to serve.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import exc, inspect, types
from sqlalchemy.engine import Connection

from webhooks.database.base import Database
from webhooks.database.errors import is_missing_schema
from webhooks.database.migrations.histories import History, MigrationError, Revision, core, one_at_a_time
from webhooks.errors import StorageUnavailable

_NUMBER = re.compile(r"\d+")


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
        """Whether it is at the head, or beyond; see the module."""
        return self.revision == self.head or self.is_ahead


@dataclass(frozen=True)
class Unmigrated:
    """Tables of a plugin's code that are not in the database, and that no migration makes."""

    history: History
    tables: tuple[str, ...]

    @property
    def text(self) -> str:
        """What it is, for people."""
        tables = f"table{'s' if len(self.tables) > 1 else ''} {', '.join(self.tables)}"
        return f"{self.history.name}: {tables} of {self.history.module} without a migration"

    @property
    def command(self) -> str:
        """What writes the migration."""
        return f"webhooks db revision {self.history.name} -m 'add {self.tables[0]}'"


def is_current(database: Database, plugins: Sequence[History] = ()) -> bool:
    """Whether every history is at its head (or beyond, see above): one SELECT, no Alembic.

    Raises `StorageUnavailable` when the database is unavailable.
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
            State(history, applied(connection, history) if history.version_table in tables else None, history.head)
            for history in (core(), *plugins)
        ]


def applied(connection: Connection, history: History) -> str | None:
    """The revision of a history that the database is at. Raises `MigrationError` when its table holds several."""
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
            options = alembic_options(database, state.history, connection)
            with one_at_a_time.get():
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
    """Plugins with tables in their code that are not in the database, and that no migrations make.

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


def alembic_options(
    database: Database, history: History, connection: Connection, *, keeps: bool = False
) -> Mapping[str, Any]:
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
        "render_as_batch": database.copies_tables,  # SQLite cannot alter a column: the table is copied
        "transactional_ddl": True,  # Alembic believes that SQLite's is not; it is, since we say BEGIN ourselves
        "compare_type": True,
        "compare_server_default": not database.copies_tables,  # on SQLite it compares texts: "true" and 1 differ
        "include_name": is_ours,
        "include_object": is_compared,
        "render_item": _render,
    }


def _render(kind: str, subject: Any, context: Any) -> str | bool:
    """Write a type of the code's own as what the database gets: a migration must not change when the code does."""
    if kind == "type" and isinstance(subject, types.TypeDecorator):
        return f"sa.{subject.impl_instance!r}"
    return False  # as Alembic does


def _quoted(database: Database, name: str) -> str:
    return database.engine.dialect.identifier_preparer.quote(name)


def forget_words() -> None:
    """Read revisions anew when next asked: a migration was written."""
    _words.cache_clear()
