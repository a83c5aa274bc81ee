"""What a history of migrations has made: asked of the migrations themselves, never told by how a table is named.

`made(files)` runs their `upgrade()` with operations that are only written down, on no database, once for each dialect,
and answers {table: names of its columns, indexes and constraints}. What was dropped again is not in it: a table of that
name is another program's.

What surprises: a migration may ask the database. It is told that there is nothing. One that cannot go on from there is
read instead: what of `declared` stands in it as a word counts as made.

Not here: comparing tables (`run`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import CreateIndex, CreateTable

_NAME = r"""(?:["'`\[]?\w+["'`\]]?\.)?["'`\[]?(\w+)["'`\]]?"""
_SQL = [
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("create", rf"\bcreate\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?{_NAME}"),
        ("drop", rf"\bdrop\s+table\s+(?:if\s+exists\s+)?{_NAME}"),
        ("rename", rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{_NAME}\s+rename\s+to\s+{_NAME}"),
        (
            "add",
            rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{_NAME}\s+add\s+"
            rf"(?:(?:column|constraint)\s+)?(?:if\s+not\s+exists\s+)?{_NAME}",
        ),
        (
            "index",
            r"\bcreate\s+(?:unique\s+)?index\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?"
            rf"{_NAME}\s+on\s+(?:only\s+)?{_NAME}",
        ),
    )
]
_WORD = re.compile(r"\w+")


class Made:
    """What is there after the operations so far. tables: {table: names of what it holds}."""

    def __init__(self) -> None:
        self.tables: dict[str, set[str]] = {}

    def create(self, table: str, parts: Collection[str] = ()) -> None:
        """Note a table and what it holds."""
        self.tables.setdefault(table, set()).update(parts)

    def add(self, table: str, part: str | None) -> None:
        """Note what was added to a table, if the table is this history's."""
        if part and table in self.tables:
            self.tables[table].add(str(part))

    def rename(self, old: str, new: str) -> None:
        """Note another name of a table, if the table is this history's."""
        if old in self.tables:
            self.tables[new] = self.tables.pop(old)

    def drop(self, table: str) -> None:
        """Note that a table is gone."""
        self.tables.pop(table, None)

    def note(self, operation: Any) -> Any:
        """Take note of one of Alembic's operations, or of a statement."""
        kind = type(operation).__name__
        if kind == "CreateTableOp":
            table = operation.to_table()
            self.create(table.name, _parts(table))
            return table
        if kind == "DropTableOp":
            self.drop(operation.table_name)
        elif kind == "RenameTableOp":
            self.rename(operation.table_name, operation.new_table_name)
        elif kind == "AddColumnOp":
            self.add(operation.table_name, operation.column.name)
        elif kind == "AlterColumnOp":
            self.add(operation.table_name, operation.modify_name)
        elif kind == "CreateIndexOp":
            self.add(operation.table_name, operation.index_name)
        elif kind == "ExecuteSQLOp":
            self.execute(operation.sqltext)
        elif kind.startswith("Create") and hasattr(operation, "constraint_name"):
            table = getattr(operation, "table_name", None) or operation.source_table
            self.add(table, operation.constraint_name)
        return None

    def execute(self, statement: Any, *arguments: Any, **more: Any) -> _Nothing:
        """Take note of what a statement makes, be it text or one of SQLAlchemy's."""
        if isinstance(statement, CreateTable):
            self.create(statement.element.name, _parts(statement.element))
        elif isinstance(statement, CreateIndex):
            index: Any = statement.element
            self.add(index.table.name, index.name)
        elif isinstance(statement, str) or type(statement).__name__ == "TextClause":
            self._read(str(statement))
        return _Nothing()

    def _read(self, text: str) -> None:
        found = [(match.start(), kind, match.groups()) for kind, regex in _SQL for match in regex.finditer(text)]
        for _, kind, names in sorted(found):
            match kind, names:
                case "create", (table,):
                    self.create(table)
                case "drop", (table,):
                    self.drop(table)
                case "rename", (old, new):
                    self.rename(old, new)
                case "add", (table, part):
                    self.add(table, part)
                case "index", (index, table):
                    self.add(table, index)


def _parts(table: Table) -> set[str]:
    named = [*table.columns, *table.indexes, *table.constraints]
    return {str(each.name) for each in named if each.name}


class _Nothing:
    """What a statement answers on no database: no rows."""

    rowcount = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def all(self) -> list[Any]:
        return []

    fetchall = all

    def first(self) -> None:
        return None

    scalar = fetchone = one_or_none = scalar_one_or_none = first

    def scalars(self) -> _Nothing:
        return self

    mappings = scalars


class _Bind(MockConnection):
    """The connection that a migration gets by `op.get_bind()`."""

    def __init__(self, dialect: Dialect, made: Made) -> None:
        super().__init__(dialect, made.execute)
        self.exec_driver_sql = made.execute

    def begin_nested(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    begin = begin_nested


def made(files: Sequence[Path], declared: Collection[str] = ()) -> Mapping[str, frozenset[str]]:
    """{table: names of its columns, indexes and constraints} after the migrations `files`, first to last.

    declared: names of tables that the code has, for migrations that cannot be run without a database.
    """
    found: dict[str, set[str]] = {}
    dialects: list[Any] = [sqlite.dialect, postgresql.dialect]
    for dialect in [make() for make in dialects]:
        at = Made()
        for path in files:
            try:
                _run(path, dialect, at)
            except Exception:
                for word in set(_WORD.findall(path.read_text("utf-8"))).intersection(declared):
                    at.create(word)
        for table, parts in at.tables.items():
            found.setdefault(table, set()).update(parts)
    return {table: frozenset(parts) for table, parts in found.items()}


def _run(path: Path, dialect: Dialect, made: Made) -> None:
    """Run the `upgrade()` of one file on `made`."""
    from alembic import op
    from alembic.operations import BatchOperations, Operations
    from alembic.runtime.migration import MigrationContext

    @contextlib.contextmanager
    def batch(table_name: str, schema: str | None = None, **rest: Any) -> Iterator[Any]:
        below: Any = BatchOperations(context, _Batch(table_name, schema))  # type: ignore[arg-type]
        below.invoke, below.get_bind = made.note, lambda: bind
        yield below

    bind = _Bind(dialect, made)
    context = MigrationContext.configure(dialect=dialect, opts={"as_sql": True})
    operations: Any = Operations(context)
    operations.invoke, operations.get_bind, operations.batch_alter_table = made.note, lambda: bind, batch
    spec = importlib.util.spec_from_file_location(f"_webhooks_migration_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = getattr(op, "_proxy", None)  # we may be asked from within another migration
    operations._install_proxy()
    try:
        spec.loader.exec_module(module)
        module.upgrade()
    finally:
        operations._remove_proxy()
        if before is not None:
            before._install_proxy()


class _Batch:
    """What Alembic's batch operations ask of the thing that would run them."""

    def __init__(self, table_name: str, schema: str | None) -> None:
        self.table_name = table_name
        self.schema = schema


__all__ = ["made"]
